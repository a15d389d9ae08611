"""Every screen in light and dark, wide and narrow, small and large: nobody is kept out, nothing runs over the edge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import Theme, log_in, tab, violations
from playwright.sync_api import Browser, Page, expect
from populated import Shop, large
from serving import Serving

SCREENS = {
    "home": ("/", "How protected are we"),
    "workloads": ("/workloads", "Workloads"),
    "policies": ("/policies", "Policies"),
    "policy": ("/policies?file=shop.yaml&beside=tests", "Policies"),
    "rules": ("/policies?tab=rules&rule=shop/queries", "Policies"),
    "versions": ("/policies?tab=versions&new=1", "Policies"),
    "rollout": ("/policies?tab=rollout", "Policies"),
    "proposals": ("/policies?tab=proposals", "Policies"),
    "alerts": ("/alerts", "Alerts"),
    "quarantines": ("/alerts?tab=quarantines", "Alerts"),
    "audit": ("/audit", "Audit"),
}
MANY = 5000


def settled(page: Page, heading: str) -> None:
    expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()
    expect(page.get_by_label("Loading")).to_have_count(0)


def runs_over(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))


@pytest.mark.parametrize("width", [1440, 800])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_screen_is_for_everybody(browser: Browser, estate: Shop, shots: Path, theme: Theme, width: int) -> None:
    """axe finds nothing serious on the login and on each screen, details open; nothing is wider than the page."""
    estate.attempt()
    with tab(browser, estate.served.controller.settings.url, theme=theme, width=width) as page:
        page.goto("/")
        expect(page.get_by_label("Access token")).to_be_visible()
        found = {"login": violations(page)}
        log_in(page, estate.served.token)
        alert = next(iter(estate.client.alerts())).id
        details = {
            "workload": (f"/workloads?open={estate.hosts[0].uuid}", "Workloads"),
            "alert": (f"/alerts?alert={alert}", "Alerts"),
        }
        for name, (path, heading) in {**SCREENS, **details}.items():
            page.goto(path)
            settled(page, heading)
            page.screenshot(path=shots / f"{name}-{theme}-{width}.png")
            assert not runs_over(page), name
            found[name] = violations(page)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with large(tmp_path_factory.mktemp("many"), MANY) as served:
        yield served


def test_thousands_of_workloads_are_a_table(browser: Browser, many: Serving, shots: Path) -> None:
    """All are there, few are in the document, the end is reached by key, and typing narrows them at once."""
    with tab(browser, many.controller.settings.url) as page:
        log_in(page, many.token, "/workloads")
        table = page.get_by_role("table", name="Workloads")
        expect(table).to_have_attribute("aria-rowcount", str(MANY + 1))
        assert table.get_by_role("row").count() < 100
        page.screenshot(path=shots / "many-workloads.png")
        table.get_by_role("row").nth(1).focus()
        page.keyboard.press("End")
        expect(table.get_by_role("row").last).to_have_attribute("aria-rowindex", str(MANY + 1))
        page.get_by_label("Name or address").fill("wiki-db-prod-")
        expect(page.get_by_role("heading", name="Workloads").locator("..")).to_contain_text(f"of {MANY:,}")
        assert violations(page) == []
        page.goto("/")
        settled(page, "How protected are we")
        expect(page.get_by_role("cell", name="shop", exact=True)).to_be_visible()
        page.screenshot(path=shots / "many-home.png")


def test_an_empty_estate_says_how_to_begin(browser: Browser, tmp_path: Path) -> None:
    """Each screen with nothing on it tells what belongs there and what to do."""
    with large(tmp_path, 0) as served, tab(browser, served.controller.settings.url) as page:
        log_in(page, served.token)
        expect(page.get_by_role("heading", name="Bring the first host in")).to_be_visible()
        for way in ("Pair a host", "Import an inventory", "Import flow logs", "Load the demo estate"):
            expect(page.get_by_role("heading", name=way)).to_be_visible()
        assert violations(page) == []
        page.goto("/workloads")
        expect(page.get_by_role("heading", name="Nobody is here yet")).to_be_visible()
        page.goto("/policies")
        expect(page.get_by_role("heading", name="No policy is in force")).to_be_visible()
        page.goto("/alerts?tab=quarantines")
        expect(page.get_by_role("heading", name="Nobody is in quarantine")).to_be_visible()
        page.goto("/no/such/page")
        expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
