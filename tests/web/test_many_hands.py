"""More than one person at work: rights end at a scope, who was quicker is told; settings and ranges change by plan."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from pages import log_in, tab, violations
from playwright.sync_api import Browser, Page, expect
from populated import AT_ONCE, POLICY, Shop
from serving import eventually

from ringfence.wire import api

PAY = "policy: pay\nowner: team-pay\nscope: app=pay\nrules: []\n"


@pytest.fixture
def both(estate: Shop) -> Iterator[None]:
    """A second policy, over another application; taken back afterwards, with its settings."""
    client = estate.client
    client.apply(api.Apply(api.Draft({"shop.yaml": POLICY, "pay.yaml": PAY}, newest(estate), note="pay, too"), AT_ONCE))
    yield
    client.apply(api.Apply(api.Draft({"shop.yaml": POLICY}, newest(estate), note="as it was"), AT_ONCE))
    eventually(lambda: client.rollout().stage == "done")


def newest(estate: Shop) -> int:
    return estate.client.versions()[0].number


def url_of(estate: Shop) -> str:
    return estate.served.controller.settings.url


def settled(page: Page) -> None:
    expect(page.get_by_label("Loading")).to_have_count(0)


def test_a_right_ends_at_its_scope(browser: Browser, estate: Shop, both: None) -> None:
    """An author of one application: what would be refused over another does nothing and says so; their own goes."""
    token = estate.client.grant(api.Grant("ann", ("author",), scope="app=shop,role=web"))
    with tab(browser, url_of(estate)) as page:
        log_in(page, token, "/policies?file=pay.yaml")
        text = page.get_by_role("textbox", name="Text of pay.yaml")
        expect(text).to_have_attribute("contenteditable", "false")
        said = page.get_by_role("paragraph").filter(has_text="You may propose policies over app=shop,role=web")
        expect(said).to_have_text("You may propose policies over app=shop,role=web; this is about app=pay.")
        page.goto(f"/workloads?open={estate.hosts[0].uuid}")
        edit = page.get_by_role("region", name=estate.web).get_by_role("button", name="Edit")
        expect(edit).not_to_have_attribute("aria-disabled", "true")
        page.goto(f"/workloads?open={estate.hosts[1].uuid}")
        edit = page.get_by_role("region", name=estate.db).get_by_role("button", name="Edit")
        expect(edit).to_have_attribute("aria-disabled", "true")
        expect(edit).to_have_accessible_description(re.compile("this is about a workload with app=shop, role=db"))
        edit.click(force=True)
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert violations(page) == []


def test_who_was_quicker_is_told(browser: Browser, estate: Shop) -> None:
    """Labels that somebody else put meanwhile are not overwritten unseen: who did what, what it does now, and only then
    is it applied."""
    name = "shop-cache-prod-3"
    with tab(browser, url_of(estate)) as page:
        log_in(page, estate.served.token, "/workloads")
        page.get_by_label(f"Tick {name}", exact=True).check()
        page.get_by_role("button", name="Edit labels").click()
        page.get_by_label("Key").fill("role")
        page.get_by_label("Value").fill("db")
        page.get_by_label("Why").fill("it became a database")
        page.get_by_role("button", name="Show what it does").click()
        expect(page.get_by_role("list", name="What opens and closes")).to_be_visible()
        estate.client.relabel(api.Relabel((name,), {"role": "queue"}, why="it became a queue"))
        page.get_by_role("button", name="Apply to 1").click()
        told = page.get_by_role("alert")
        expect(told).to_contain_text("Somebody was quicker")
        expect(told.get_by_role("list", name="What others did meanwhile")).to_contain_text("role: cache → queue")
        expect(page.get_by_role("button", name="Apply to 1")).to_be_disabled()
        assert violations(page) == []
        assert estate.client.workload(name).labels["role"] == "queue"
        page.get_by_role("button", name="Show what it does now").click()
        page.get_by_role("button", name="Apply to 1").click()
        expect(page.get_by_text("Labels of 1 workload changed")).to_be_visible()
    assert estate.client.workload(name).labels["role"] == "db"
    estate.client.relabel(api.Relabel((name,), {"role": "cache"}, why="as it was"))


def test_settings_change_by_plan(browser: Browser, estate: Shop, both: None) -> None:
    """Faults are told at their line; what passes whatever policy says is in the plan; a note is needed; it becomes a
    version, and the page says that one person is enough here."""
    with tab(browser, url_of(estate)) as page:
        log_in(page, estate.served.token, "/setup?tab=settings")
        expect(page.get_by_text("One person is enough")).to_be_visible()
        box = page.get_by_role("textbox", name="Text of ringfence.toml")
        box.fill("[identity]\nignroe = []\n")
        wrong = page.get_by_role("list", name="What is wrong")
        expect(wrong).to_contain_text("Line 2")
        expect(wrong).to_contain_text("bad-settings")
        box.fill('[[failsafe]]\ndirection = "in"\ncidr = "10.9.0.0/24"\nservice = "ssh"\n')
        expect(page.get_by_text("10.9.0.0/24", exact=True)).to_be_visible()
        assert violations(page) == []
        page.get_by_role("button", name="Apply…").click()
        apply = page.get_by_role("button", name=re.compile("^Apply to"))
        expect(apply).to_be_disabled()
        page.get_by_label("Note").fill("a way in for upkeep")
        page.get_by_role("radio", name=re.compile("^Everybody")).check()
        assert violations(page) == []
        apply.click()
        expect(page.get_by_role("dialog")).to_have_count(0)
    said = estate.client.version(newest(estate))
    assert "10.9.0.0/24" in said.settings
    assert set(said.files) == {"shop.yaml", "pay.yaml"}


def test_ranges_that_another_changed_are_not_lost(browser: Browser, estate: Shop) -> None:
    """What is added and taken away is shown; the change of another is told by name; mine goes over it only when I say
    so."""
    with tab(browser, url_of(estate)) as page:
        log_in(page, estate.served.token, "/setup?tab=profiles")
        page.get_by_role("button", name="Ranges of web", exact=True).click()
        box = page.get_by_role("textbox", name=re.compile("^Ranges"))
        box.fill("10.0.0.0/8\nshop")
        expect(page.get_by_text("shop is no range")).to_be_visible()
        box.fill("10.0.0.0/8")
        expect(page.get_by_role("group", name="Changes")).to_contain_text("removed: 192.168.0.0/16")
        estate.client.set_ranges("web", api.Ranges(("10.0.0.0/8", "192.0.2.0/24")))
        page.get_by_role("button", name="Change the ranges").click()
        told = page.get_by_role("alert")
        expect(told).to_contain_text("administrator` did `profile.ranges`")
        assert violations(page) == []
        page.get_by_role("button", name="Overwrite with mine").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
    (known,) = (one for one in estate.client.profiles() if one.name == "web")
    assert known.ranges == ("10.0.0.0/8",)


def test_workloads_are_found_by_how_they_are(browser: Browser, estate: Shop) -> None:
    """State, mode of either direction, when last heard, name: together, and in the address."""
    with tab(browser, url_of(estate)) as page:
        log_in(page, estate.served.token, "/workloads")
        rows = page.get_by_role("table", name="Workloads").get_by_role("row")
        for host in estate.hosts:
            host.run(host.beat())
        page.get_by_label("Last heard").select_option("Heard within 5 min")
        expect(rows).to_have_count(3)
        page.get_by_role("combobox", name=re.compile("^Mode")).select_option("Observe out")
        expect(rows).to_have_count(3)
        name = page.get_by_label("Name or address")
        name.press_sequentially(estate.db[0] + estate.db[3:])
        for key in ("Home", "ArrowRight", *estate.db[1:3]):
            page.keyboard.press(key)
        expect(name).to_have_value(estate.db)
        expect(rows).to_have_count(2)
        expect(page).to_have_url(re.compile(f"name={estate.db}"))
        page.reload()
        expect(rows).to_have_count(2)
        page.get_by_role("combobox", name=re.compile("^State")).select_option("Drifted")
        expect(page.get_by_role("heading", name="Nobody is like that")).to_be_visible()
        page.get_by_role("button", name="Show everybody").click()
        expect(name).to_have_value("")
        expect(page.get_by_role("row", name=estate.web, exact=True)).to_be_visible()
