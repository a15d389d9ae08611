"""The map, its table and its matrix, in a real browser, on a real controller with traffic."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from explored import DRAFTED, FILES, Explored, explored
from pages import Theme, log_in, picture, tab, violations
from playwright.sync_api import Browser, Page, expect


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explored]:
    with explored(tmp_path_factory.mktemp("talking")) as made:
        yield made


def open_map(page: Page, talking: Explored, more: str = "") -> None:
    log_in(page, talking.served.token, f"/map?since=30d{more}")
    expect(page.get_by_role("heading", name="Map")).to_be_visible()


def url_of(talking: Explored) -> str:
    return talking.served.controller.settings.url


def canvas(page: Page) -> None:
    expect(page.locator("[role=application][data-frames]")).to_be_visible()


def test_the_map_counts_what_the_api_says(browser: Browser, talking: Explored) -> None:
    """Groups, edges and edges by verdict are those of `POST /v1/map`, and the map is painted by WebGL."""
    told = talking.post("/map")
    with tab(browser, url_of(talking)) as page:
        open_map(page, talking)
        expect(page.locator("[role=application]")).to_have_attribute("data-painter", "webgl")
        canvas(page)
        about = page.get_by_role("heading", name="Map").locator("..")
        expect(about).to_contain_text(f"{len(told['nodes'])} groups, {len(told['edges'])} edges")
        legend = page.get_by_role("group", name="Edges by verdict")
        words = {"unheld": "blocked on paper", "would-block": "would block", "blocked": "blocked"}
        for status, word in words.items():
            button = legend.get_by_role("button", name=re.compile(f"^{word} [0-9]"))
            expect(button).to_contain_text(str(told["statuses"][status]))


def test_an_edge_is_found_by_its_group_and_told_in_full(browser: Browser, talking: Explored) -> None:
    """Find flies to a group, its lines are listed unprotected first, a line opens with services and a rule to write;
    the address carries all of it."""
    with tab(browser, url_of(talking)) as page:
        open_map(page, talking)
        canvas(page)
        page.get_by_label("Find a group or workload").fill("crm-dev-db-1")
        page.keyboard.press("Enter")
        group = page.get_by_role("region", name=re.compile("dev › crm › db"))
        expect(group).to_contain_text("crm-dev-db-1, crm-dev-db-2")
        group.get_by_role("button", name=re.compile("from prod › shop › web")).click()
        edge = page.get_by_role("region", name=re.compile("prod.shop.web"))
        expect(edge).to_contain_text("tcp/5432")
        expect(edge).to_contain_text("First seen")
        expect(page).to_have_url(re.compile("from=.*to="))
        page.reload()
        expect(page.get_by_role("region", name=re.compile("prod.shop.web"))).to_contain_text("tcp/5432")


def test_what_a_rule_decides_names_the_rule(browser: Browser, talking: Explored) -> None:
    """An edge that a rule allows names the rule, its file and line, and leads to it."""
    edge = "&from=env%3Dprod%2Capp%3Dshop%2Crole%3Dweb&to=env%3Dprod%2Capp%3Dshop%2Crole%3Dapi&level=2"
    with tab(browser, url_of(talking)) as page:
        open_map(page, talking, edge)
        told = page.get_by_role("region", name=re.compile("prod.shop.web"))
        rule = told.get_by_role("link", name="shop/calls")
        expect(rule).to_have_attribute("href", re.compile("file=shop.yaml&line="))
        expect(told).to_contain_text("pages are made of answers")


def test_keys_do_what_a_pointer_does(browser: Browser, talking: Explored) -> None:
    """Arrows go from group to group and say which, Enter opens it, Escape lets go."""
    with tab(browser, url_of(talking)) as page:
        open_map(page, talking)
        drawn = page.locator("[role=application][data-frames]")
        drawn.focus()
        page.keyboard.press("ArrowRight")
        expect(drawn.get_by_role("status")).to_have_text(re.compile("Internet"))
        page.keyboard.press("ArrowDown")
        expect(drawn.get_by_role("status")).not_to_have_text(re.compile("Internet"))
        page.keyboard.press("Enter")
        expect(page.get_by_role("region", name=re.compile("172[.]16[.]5[.]0"))).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="Close details")).to_have_count(0)


def test_one_question_for_map_table_and_matrix(browser: Browser, talking: Explored) -> None:
    """The verdict chosen in the legend narrows all three, the table begins with what is unprotected, and a cell opens
    the same drawer."""
    told = talking.post("/flows", verdict="blocked")
    with tab(browser, url_of(talking)) as page:
        open_map(page, talking)
        page.get_by_role("group", name="Edges by verdict").get_by_role(
            "button", name=re.compile("^blocked [0-9]")
        ).click()
        expect(page).to_have_url(re.compile("verdict=blocked"))
        page.get_by_role("tab", name="Table").click()
        table = page.get_by_role("table", name="Flows")
        expect(table).to_have_attribute("aria-rowcount", str(told["total"] + 1))
        expect(table.get_by_text("would block")).to_have_count(0)
        page.get_by_label("Verdict").select_option("")
        expect(table.get_by_role("row").nth(1)).to_contain_text("blocked on paper")
        page.get_by_role("tab", name="Matrix").click()
        cell = page.get_by_role("gridcell", name=re.compile("^prod.shop.web to prod.shop.api"))
        cell.click()
        expect(page.get_by_role("region", name=re.compile("prod.shop.web"))).to_contain_text("shop/calls")
        page.get_by_role("button", name="Segments").click()
        expect(page.get_by_role("gridcell", name=re.compile("^shop.web to shop.api"))).to_be_visible()


def test_what_no_agent_holds_is_blocked_on_paper(browser: Browser, talking: Explored) -> None:
    """An edge that policy blocks towards hosts without an agent says so, the group says that it has none, and the
    explanation that nothing stops it.
    """
    edge = "&from=env%3Ddev%2Capp%3Dcrm%2Crole%3Dweb&to=env%3Ddev%2Capp%3Dcrm%2Crole%3Ddb&level=2&verdict=unheld"
    with tab(browser, url_of(talking)) as page:
        open_map(page, talking, edge)
        told = page.get_by_role("region", name=re.compile("dev.crm.web"))
        expect(told).to_contain_text("blocked on paper")
        expect(told).to_contain_text("no agent is there to stop it")
        page.goto("/map?since=30d&group=env%3Ddev%2Capp%3Dcrm%2Crole%3Ddb&level=2")
        expect(page.get_by_role("region", name=re.compile("dev › crm › db"))).to_contain_text("With an agent0 of 2")


def test_from_near_there_are_workloads(browser: Browser, talking: Explored) -> None:
    """Found and flown to, a group opens to its workloads; keys go to one, it opens, and so does an edge of its own."""
    with tab(browser, url_of(talking)) as page:
        open_map(page, talking)
        canvas(page)
        page.get_by_label("Find a group or workload").fill("shop-prod-db-1")
        page.keyboard.press("Enter")
        drawn = page.locator("[role=application]")
        expect(drawn).to_have_attribute("data-level", "3")
        page.get_by_role("button", name="Close details").click()
        drawn.focus()
        for _ in range(40):
            page.keyboard.press("ArrowRight")
            page.keyboard.press("ArrowDown")
            if "shop-prod-" in drawn.get_by_role("status").inner_text():
                break
        name = drawn.get_by_role("status").inner_text().split(":")[0].split(", ")[-1]
        page.keyboard.press("Enter")
        own = page.get_by_role("region", name=re.compile(name))
        expect(own.get_by_role("link", name="The workload")).to_have_attribute("href", re.compile("/workloads[?]open="))
        expect(page).to_have_url(re.compile(f"group={name}&level=workload"))
        own.get_by_role("button", name=re.compile("^(to|from) ")).first.click()
        expect(page).to_have_url(re.compile("(source|destination)=shop-prod-"))
        edge = page.get_by_role("region", name=re.compile(f"{name}|→"))
        expect(edge).to_contain_text("Services and programs")
        expect(edge).to_contain_text(name)


def test_from_nearest_there_are_programs(browser: Browser, talking: Explored) -> None:
    """Nearer still a workload opens to its units; one opens, and so does a line of its own, which names both."""
    with tab(browser, url_of(talking)) as page:
        open_map(page, talking, "&group=shop-prod-db-1&level=workload")
        canvas(page)
        page.get_by_label("Find a group or workload").fill("shop-prod-db-1")
        page.keyboard.press("Enter")
        drawn = page.locator("[role=application]")
        expect(drawn).to_have_attribute("data-level", "3")
        page.get_by_label("Find a group or workload").fill("shop-prod-db-1")
        page.keyboard.press("Enter")
        workload = page.get_by_role("region", name=re.compile("shop-prod-db-1"))
        workload.get_by_role("button", name="Fly there").click()
        expect(drawn).to_have_attribute("data-level", "4")
        workload.get_by_role("button", name=re.compile("[.]service$")).first.click()
        expect(page).to_have_url(re.compile("group=shop-prod-db-1(%20|[+])[a-z]+.service&level=program"))
        program = page.get_by_role("region", name=re.compile("shop-prod-db-1 › [a-z]+.service"))
        expect(program).to_contain_text("Unit, as its host says")
        program.get_by_role("button", name=re.compile("^(to|from) ")).first.click()
        edge = page.get_by_role("region", name=re.compile("→"))
        expect(edge).to_contain_text(re.compile(r"[a-z]+[.]service.* → |→ .*[.]service"))


def test_a_proposal_is_looked_at_before_it_is_decided(browser: Browser, talking: Explored) -> None:
    """Draft shows what waits for a second person: what it changes is counted, marked, and first in the table."""
    files = FILES | {"shop.yaml": DRAFTED}
    made = talking.post("/proposals", files=files, base=1, note="let the API query")
    try:
        with tab(browser, url_of(talking)) as page:
            open_map(page, talking)
            page.get_by_role("button", name="Draft", exact=True).click()
            expect(page).to_have_url(re.compile(f"draft={made['id']}"))
            expect(page.get_by_text("Proposal of administrator: let the API query")).to_be_visible()
            about = page.get_by_role("heading", name="Map").locator("..")
            expect(about).to_contain_text("1 changed by the draft")
            page.get_by_label("Find a group or workload").fill("shop-prod-db-1")
            page.keyboard.press("Enter")
            group = page.get_by_role("region", name=re.compile("prod › shop › db"))
            expect(group.get_by_role("button", name=re.compile("from prod › shop › api"))).to_contain_text("changed")
            page.get_by_role("tab", name="Table").click()
            first = page.get_by_role("table", name="Flows").get_by_role("row").nth(1)
            expect(first).to_contain_text("prod/shop/api")
            expect(first).to_contain_text("→")
    finally:
        talking.post(f"/proposals/{made['id']}/reject", why="only looked at")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_map_is_for_everybody(browser: Browser, talking: Explored, shots: Path | None, theme: Theme) -> None:
    """axe finds nothing serious on map, table and matrix, a drawer open, wide and narrow."""
    found: dict[str, list[str]] = {}
    for width in (1440, 900):
        with tab(browser, url_of(talking), theme=theme, width=width) as page:
            open_map(page, talking)
            canvas(page)
            for name in ("Map", "Table", "Matrix"):
                page.get_by_role("tab", name=name).click()
                expect(page.get_by_label("Loading")).to_have_count(0)
                picture(page, shots, f"map-{name}-{theme}-{width}")
                found[f"{name} {width}"] = violations(page)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
