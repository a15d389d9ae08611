"""The whole journey by keyboard alone, the focus seen along the way: it is where it was left, and never nowhere."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import numpy as np
import pytest
from pages import log_in, tab, violations
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
    long = [np.array([value], np.int64) for value in (hour, 7, 70, 7000, hour + 60, hour + 600)]
    source, destination, service = (np.array([value], np.int32) for value in (0, 1, point(TCP, port)))
    blocked, sides = np.array([1], np.uint8), np.array([3], np.uint8)
    estate.served.controller.flows.append(Conversations(ends, source, destination, service, blocked, *long, sides))


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


OUTSIDE = "document.querySelectorAll(':focus').length - document.querySelectorAll('dialog :focus').length"
"""Of what has the focus, how much is in no dialog."""


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
    """From group to group by arrows; a group lists its edges; closing leaves the focus at the group it was at."""
    go(page, "m", "Map")
    drawn = page.locator("[role=application][data-frames]")
    reach(page, drawn)
    said = drawn.get_by_role("status")
    for key in ("ArrowRight", "ArrowDown") * MOST_STOPS:
        if re.search(r"\bweb\b", said.inner_text()):
            break
        press(page, key)
    at = said.inner_text()
    _open_edge(page)
    press(page, "Escape")
    expect(drawn).to_be_focused()
    assert said.inner_text() == at
    return _open_edge(page)


def _open_edge(page: Page) -> Locator:
    press(page, "Enter")
    group = drawer(page, "web")
    expect(group).to_be_focused()
    reach(page, group.get_by_role("button", name=re.compile("^to .*db")))
    press(page, "Enter")
    edge = drawer(page, "→")
    expect(edge).to_be_focused()
    expect(edge).to_contain_text("tcp/8080")
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
        assert page.evaluate(OUTSIDE) == 0
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


def test_the_focus_outlives_what_comes_in(page: Page, busy: Shop) -> None:
    """What is new comes in above and leaves it where it is; what goes away hands it to what is around."""
    go(page, "a", "Alerts")
    line = page.get_by_role("button", name=re.compile(f"{busy.web} to {busy.db} tcp.22 "))
    reach(page, line)
    busy.attempt(port=2222)
    expect(page.get_by_role("button", name="tcp/2222")).to_be_visible()
    expect(line).to_be_focused()
    (alert,) = (one for one in busy.client.alerts() if "tcp/22 " in one.message)
    busy.client.resolve(alert.id)
    busy.attempt(port=2223)
    expect(line).to_have_count(0)
    assert is_somewhere(page)
    press(page, "Tab")
    assert is_somewhere(page)
    busy.attempt()


def test_a_table_is_one_stop_and_shows_the_row_it_is_at(page: Page, busy: Shop) -> None:
    """However many rows there are; the row with the focus is under no edge, and keys are for it."""
    page.set_viewport_size({"width": 720, "height": 450})
    go(page, "w", "Workloads")
    expect(page.locator("tr[tabindex='0']")).to_have_count(1)
    reach(page, page.locator("tr[data-row='0']"))
    assert page.locator("tr[tabindex='-1'] :is(a, button, input):not([tabindex='-1'])").count() == 0
    for key, row in (("End", 6), ("Home", 0), ("PageDown", 6), ("ArrowUp", 5)):
        press(page, key)
        at = page.locator(f"tr[data-row='{row}']")
        expect(at).to_be_focused()
        expect(page.locator("tr[tabindex='0']")).to_have_attribute("data-row", str(row))
        box, around = at.bounding_box(), page.get_by_role("region", name="Workloads").bounding_box()
        assert box is not None
        assert around is not None
        assert around["y"] <= box["y"] < box["y"] + box["height"] <= around["y"] + around["height"] + 1
    press(page, "Tab")
    expect(page.locator("tr[data-row='5'] input")).to_be_focused()
    press(page, "Shift+Tab", "Home", "ArrowDown", "Space")
    expect(page.get_by_role("checkbox", checked=True)).to_have_count(1)
    expect(page.locator("tr[data-row='1'] input")).to_be_checked()


def test_the_editor_is_no_trap(page: Page) -> None:
    """Tab takes the word that is offered, and else leaves the text, either way; it says so to who cannot see it."""
    go(page, "p", "Policies")
    reach(page, page.get_by_role("row", name="shop", exact=True))
    press(page, "Enter")
    text = page.get_by_role("textbox", name="Text of shop.yaml")
    reach(page, text)
    expect(text).to_have_attribute("aria-description", re.compile("Tab leaves the text"))
    press(page, "Control+a")
    page.keyboard.type("policy: shop\nrules:\n- allow: {from: ro")
    expect(page.get_by_role("option", name=re.compile("^role"))).to_be_visible()
    for _ in range(MOST_STOPS):
        press(page, "Tab")  # in its first moment an offer is not taken, and the text not left
        if "{from: role=" in text.inner_text():
            break
        expect(text).to_be_focused()
    expect(page.get_by_role("option", name=re.compile("^db"))).to_be_visible()
    press(page, "Escape")
    expect(page.get_by_role("option", name=re.compile("^db"))).to_have_count(0)
    press(page, "Tab")
    expect(text).not_to_be_focused()
    assert is_somewhere(page)
    press(page, "Shift+Tab")
    expect(text).to_be_focused()
    dialog = opened(page, page.get_by_role("button", name="Discard all"), "Shift+Tab")
    reach(page, dialog.get_by_role("button", name="Discard"))
    press(page, "Enter")
    expect(page.get_by_role("button", name="Discard all")).to_have_count(0)
    assert is_somewhere(page)


def test_single_keys_can_be_turned_off(page: Page) -> None:
    """Who speaks to the computer types by accident; the menu leads back (WCAG 2.1.4). Menus give back the focus."""
    press(page, "?")
    dialog = page.get_by_role("dialog", name="Keys")
    switch = dialog.get_by_role("checkbox", name=re.compile("^Single keys"))
    reach(page, switch)
    press(page, "Space", "Escape")
    expect(dialog).to_have_count(0)
    press(page, "g", "w", "?")
    menu = page.get_by_role("button", name="administrator")
    reach(page, menu)
    expect(page.get_by_role("heading", name="Workloads")).to_have_count(0)
    expect(dialog).to_have_count(0)
    press(page, "Enter", "Tab", "Escape")
    expect(menu).to_be_focused()
    press(page, "Enter")
    reach(page, page.get_by_role("button", name=re.compile("^Keys")))
    press(page, "Enter")
    reach(page, switch)
    press(page, "Space", "Escape")
    expect(menu).to_be_focused()
    go(page, "w", "Workloads")


@pytest.mark.parametrize(("width", "height"), [(320, 640), (720, 450)])
def test_nothing_is_lost_where_there_is_little_room(page: Page, width: int, height: int) -> None:
    """320 px, and 1440 px at twice the size: tabs, fields and the time range stay in sight (WCAG 1.4.10)."""
    page.set_viewport_size({"width": width, "height": height})
    for key, heading in (("m", "Map"), ("w", "Workloads"), ("p", "Policies"), ("a", "Alerts"), ("e", "Reach")):
        go(page, key, heading)
        asked = [page.get_by_label("Label selector"), page.get_by_label("Time range"), *page.get_by_role("tab").all()]
        asked += page.get_by_role("main").locator("form input").all()
        for one in asked:
            box = one.bounding_box()
            assert box is not None, (heading, one)
            assert box["x"] >= 0, (heading, one)
            assert box["width"] > 40, (heading, one)
            assert box["x"] + box["width"] <= width, (heading, one)
        assert violations(page) == []


def test_the_focus_is_seen_in_forced_colours(page: Page) -> None:
    """Shadows and backgrounds are the system's there: each stop of Tab has an outline; the map keeps its colours."""
    page.emulate_media(forced_colors="active")
    go(page, "m", "Map")
    expect(page.locator("[role=application][data-frames]")).to_have_css("forced-color-adjust", "none")
    press(page, "Tab")
    for _ in range(MOST_STOPS):
        if not is_somewhere(page):
            break
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        press(page, "Tab")


def test_who_is_signed_out_for_being_away_is_told_before(browser: Browser, busy: Shop) -> None:
    """Long enough to stay by any key (WCAG 2.2.1)."""
    with tab(browser, busy.served.controller.settings.url) as page:
        page.clock.install()
        log_in(page, busy.served.token)
        idle_s = page.evaluate("fetch('/v1/session').then(answer => answer.json()).then(told => told.idle_s)")
        page.clock.run_for(1000 * (idle_s - 60))
        told = page.get_by_role("alert")
        expect(told).to_contain_text("Press any key to stay")
        press(page, "Shift")
        expect(told).to_have_count(0)
        page.clock.run_for(80_000)
        expect(page.get_by_role("navigation", name="Screens")).to_be_visible()
