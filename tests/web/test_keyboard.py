"""The whole journey by keyboard alone, the focus seen along the way: it is where it was left, and never nowhere."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pages import tab
from playwright.sync_api import Browser, Locator, Page, expect
from populated import Shop, shop

from ringfence.core.flow.conversations import Conversations
from ringfence.core.net.service import TCP, point
from ringfence.core.world import Endpoint

HOUR = 3600
MOST_STOPS = 80
"""Further than this no control is from another, by Tab."""


def talk(estate: Shop, port: int) -> None:
    """The web host reached the database on a port that no rule speaks of."""
    known = estate.served.controller.world().inventory.by_name
    ends = tuple(Endpoint(known[name], known[name].addresses[0].address) for name in (estate.web, estate.db))
    hour = (int(time.time()) // HOUR - 2) * HOUR
    one = {kind: np.ones(1, kind) for kind in (np.int32, np.uint8, np.int64)}
    estate.served.controller.flows.append(
        Conversations(
            ends, 0 * one[np.int32], one[np.int32], np.array([point(TCP, port)], np.int32), one[np.uint8],
            hour * one[np.int64], 7 * one[np.int64], 70 * one[np.int64], 7000 * one[np.int64],
            (hour + 60) * one[np.int64], (hour + 600) * one[np.int64], 3 * one[np.uint8],
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Two hosts that talk where no rule speaks of it, and an attempt that was stopped."""
    with shop(tmp_path_factory.mktemp("busy")) as made:
        talk(made, 8080)
        made.attempt()
        yield made


@pytest.fixture
def page(browser: Browser, busy: Shop) -> Iterator[Page]:
    """Signed in, by keys."""
    with tab(browser, busy.served.controller.settings.url) as page:
        page.goto("/")
        expect(page.get_by_label("Access token")).to_be_focused()
        page.keyboard.insert_text(busy.served.token)
        page.keyboard.press("Enter")
        expect(page.get_by_role("navigation", name="Screens")).to_be_visible()
        settled(page)
        yield page


def settled(page: Page) -> None:
    expect(page.get_by_label("Loading")).to_have_count(0)


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def has_focus(locator: Locator) -> bool:
    return bool(locator.evaluate("one => one.getRootNode().activeElement === one"))


def reach(page: Page, wanted: Locator, key: str = "Tab") -> None:
    """By one key, pressed as often as it takes."""
    expect(wanted).to_be_visible()
    for _ in range(MOST_STOPS):
        page.keyboard.press(key)
        if has_focus(wanted):
            return
    pytest.fail(f"{key} does not reach {wanted}")


def go(page: Page, key: str, heading: str) -> None:
    """To another screen: the focus is at its beginning."""
    press(page, "g", key)
    expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()
    settled(page)
    expect(page.get_by_role("main", name=heading)).to_be_focused()


def is_somewhere(page: Page) -> bool:
    return bool(page.evaluate("document.activeElement !== null && document.activeElement !== document.body"))


def drawer(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name)


def test_from_login_to_release_without_a_mouse(page: Page, busy: Shop) -> None:
    """Map, edge, a rule for it, plan, apply, alert, quarantine, release, log out."""
    press(page, "Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    press(page, "Enter")
    expect(page.get_by_role("main")).to_be_focused()

    edge = _to_the_edge(page)
    reach(page, edge.get_by_role("button", name="Write a rule for this"))
    press(page, "Enter")
    expect(page.get_by_role("heading", name="Policies")).to_be_visible()
    _plan_and_apply(page)
    newest = busy.client.versions()[0]
    assert newest.note == "pages ask"
    assert "tcp/8080" in busy.client.version(newest.number).files["shop.yaml"]

    _quarantine(page, busy)
    _release(page, busy)
    reach(page, page.get_by_role("button", name="administrator"), "Shift+Tab")
    press(page, "Enter")
    reach(page, page.get_by_role("button", name="Log out"))
    press(page, "Enter")
    expect(page.get_by_label("Access token")).to_be_focused()


def _to_the_edge(page: Page) -> Locator:
    """From group to group by arrows; a group lists its edges; what is closed leaves the focus at the group it was at."""
    go(page, "m", "Map")
    drawn = page.locator("[role=application][data-frames]")
    reach(page, drawn)
    said = drawn.get_by_role("status")
    for key in ("ArrowRight", "ArrowDown") * MOST_STOPS:
        if re.search(r"\bweb\b", said.inner_text()):
            break
        press(page, key)
    at = said.inner_text()
    for time_ in range(2):
        press(page, "Enter")
        group = drawer(page, "web")
        expect(group).to_be_focused()
        reach(page, group.get_by_role("button", name=re.compile("^to .*db")))
        press(page, "Enter")
        edge = drawer(page, "→")
        expect(edge).to_be_focused()
        expect(edge).to_contain_text("tcp/8080")
        if time_ == 0:
            press(page, "Escape")
            expect(drawn).to_be_focused()
            assert said.inner_text() == at
    return edge


def _plan_and_apply(page: Page) -> None:
    text = page.get_by_role("textbox", name="Text of shop.yaml")
    expect(text).to_contain_text("tcp/8080")
    reach(page, text)
    beside = page.get_by_role("tablist", name="Beside the text")
    reach(page, beside.get_by_role("tab", selected=True))
    for _ in range(3):
        press(page, "ArrowRight")
    expect(beside.get_by_role("tab", name="Plan")).to_be_focused()
    expect(page.get_by_role("tabpanel", name="Plan")).to_contain_text("Goes to 2 hosts")
    reach(page, page.get_by_role("button", name="Apply…"), "Shift+Tab")
    press(page, "Enter")
    expect(page.get_by_label("Note")).to_be_focused()
    page.keyboard.type("pages ask")
    first = page.get_by_role("radio", name="A share of the hosts")
    reach(page, first)
    press(page, "ArrowUp")
    expect(page.get_by_role("radio", name="Everybody at once")).to_be_checked()
    reach(page, page.get_by_role("button", name="Apply to 2 hosts"))
    press(page, "Enter")
    expect(page.get_by_role("heading", name="Every host has it")).to_be_visible()
    assert is_somewhere(page)


def _quarantine(page: Page, busy: Shop) -> None:
    go(page, "a", "Alerts")
    reach(page, page.get_by_role("button", name=f"{busy.web} to {busy.db} tcp/22"))
    press(page, "Enter")
    told = drawer(page, "tcp/22")
    expect(told).to_be_focused()
    expect(told).to_contain_text("no rule allows it")
    reach(page, told.get_by_role("button", name=f"Quarantine {busy.web}", exact=True))
    press(page, "Enter")
    expect(page.get_by_role("radio", name="Isolate")).to_be_focused()
    reach(page, page.get_by_role("dialog").get_by_role("button", name="Quarantine"))
    press(page, "Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(told.get_by_role("button", name=f"Quarantine {busy.web}", exact=True)).to_have_count(0)
    expect(told).to_be_focused()


def _release(page: Page, busy: Shop) -> None:
    reach(page, page.get_by_role("tab", name="Alerts"), "Shift+Tab")
    press(page, "ArrowRight")
    expect(page.get_by_role("tab", name="Quarantines")).to_be_focused()
    reach(page, page.get_by_role("button", name=f"Release {busy.web}"))
    press(page, "Enter")
    expect(page.get_by_label("Why")).to_be_focused()
    page.keyboard.type("looked at")
    reach(page, page.get_by_role("dialog").get_by_role("button", name="Release"))
    press(page, "Enter")
    expect(page.get_by_role("heading", name="Nobody is in quarantine")).to_be_visible()
    assert is_somewhere(page)


def opened(page: Page, opener: Locator, key: str = "Tab") -> Locator:
    """The dialog that a control opens: named, with the focus inside."""
    reach(page, opener, key)
    press(page, "Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_have_accessible_name(re.compile(r"\w"))
    expect(dialog.locator(":focus")).to_have_count(1)
    return dialog


def test_a_dialog_gives_back_the_focus_and_closes_nothing_else(page: Page, busy: Shop) -> None:
    """Over a list and over a drawer; Tab stays in it, Escape closes it alone; then Escape closes the drawer."""
    go(page, "w", "Workloads")
    _to_row(page, busy.db)
    row = page.get_by_role("row", name=busy.db, exact=True)
    press(page, "Space")
    reach(page, page.get_by_role("button", name="Edit labels"), "Shift+Tab")
    dialog = opened(page, page.get_by_role("button", name="Change mode"))
    for _ in range(MOST_STOPS // 2):
        press(page, "Tab")
        assert page.evaluate(
            "!document.hasFocus() || document.activeElement === document.body || !!document.activeElement.closest('dialog')"
        )
    press(page, "Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name="Change mode")).to_be_focused()

    reach(page, page.get_by_role("button", name="Untick"))
    press(page, "Enter")
    assert is_somewhere(page)
    reach(page, row)
    press(page, "Enter")
    side = drawer(page, busy.db)
    expect(side).to_be_focused()
    for name in ("Edit", "Change", "Quarantine"):
        button = side.get_by_role("button", name=name, exact=True)
        dialog = opened(page, button)
        press(page, "Escape")
        expect(dialog).to_have_count(0)
        expect(button).to_be_focused()
    press(page, "Escape")
    expect(side).to_have_count(0)
    expect(row).to_be_focused()


def _to_row(page: Page, name: str) -> None:
    """The first row is a stop of Tab, from there by arrows."""
    first = page.locator("tr[data-row='0']")
    reach(page, first)
    for index in range(page.locator("tr[data-row]").count()):
        expect(page.locator(f"tr[data-row='{index}']")).to_be_focused()
        if has_focus(page.get_by_role("row", name=name, exact=True)):
            return
        press(page, "ArrowDown")
    pytest.fail(f"no row {name}")
