"""Every screen in light and dark, wide and narrow, small and large: nobody is kept out, nothing runs over the edge."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import Theme, log_in, picture, tab, violations
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
    "session": ("/session", "Session"),
}
THEMES: tuple[Theme, ...] = ("light", "dark")
WIDTHS = (1440, 800)
AXE = {("light", 1440), ("dark", 800)}
"""Both themes and both widths; what it finds in the other two is in these."""
MANY = 5000


def settled(page: Page, heading: str) -> None:
    expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()
    expect(page.get_by_label("Loading")).to_have_count(0)


def runs_over(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))


def test_every_screen_is_for_everybody(browser: Browser, estate: Shop, shots: Path | None) -> None:
    """axe finds nothing serious on the login and on each screen, details open, in light and in dark, wide and narrow;
    nothing is wider than the page."""
    estate.attempt()
    with tab(browser, estate.served.controller.settings.url) as page:
        page.goto("/")
        expect(page.get_by_label("Access token")).to_be_visible()
        found = _looked_at(page, "login", shots)
        log_in(page, estate.served.token)
        alert = next(iter(estate.client.alerts())).id
        details = {
            "workload": (f"/workloads?open={estate.hosts[0].uuid}", "Workloads"),
            "alert": (f"/alerts?alert={alert}", "Alerts"),
        }
        for name, (path, heading) in {**SCREENS, **details}.items():
            page.goto(path)
            settled(page, heading)
            found |= _looked_at(page, name, shots)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def _looked_at(page: Page, name: str, shots: Path | None) -> dict[str, list[str]]:
    """What is wrong with a page, by theme and width: one load, four looks."""
    found = {}
    for theme, width in itertools.product(THEMES, WIDTHS):
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": width, "height": 900})
        look = f"{name}-{theme}-{width}"
        picture(page, shots, look)
        found[look] = violations(page) if (theme, width) in AXE else []
        found[look] += ["it runs over the edge"] if runs_over(page) else []
    return found


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with large(tmp_path_factory.mktemp("many"), MANY) as served:
        yield served


def test_thousands_of_workloads_are_a_table(browser: Browser, many: Serving, shots: Path | None) -> None:
    """All are there, few are in the document, the end is reached by key, and typing narrows them at once."""
    with tab(browser, many.controller.settings.url) as page:
        log_in(page, many.token, "/workloads")
        table = page.get_by_role("table", name="Workloads")
        expect(table).to_have_attribute("aria-rowcount", str(MANY + 1))
        assert table.get_by_role("row").count() < 100
        picture(page, shots, "many-workloads")
        table.get_by_role("row").nth(1).focus()
        page.keyboard.press("End")
        expect(table.get_by_role("row").last).to_have_attribute("aria-rowindex", str(MANY + 1))
        page.get_by_label("Name or address").fill("wiki-db-prod-")
        expect(page.get_by_role("heading", name="Workloads").locator("..")).to_contain_text(f"of {MANY:,}")
        assert violations(page) == []
        page.goto("/")
        settled(page, "How protected are we")
        expect(page.get_by_role("cell", name="shop", exact=True)).to_be_visible()
        picture(page, shots, "many-home")


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
