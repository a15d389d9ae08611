"""People at work, in a real browser, on a real controller with hosts that answer."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pages import Theme, log_in, picture, tab
from playwright.sync_api import Browser, Page, expect
from populated import Shop
from serving import eventually

from ringfence.controller.alerts import occurrences
from ringfence.core.net.address import parse_address
from ringfence.wire import api
from ringfence.wire.messages import Violation


def url_of(estate: Shop) -> str:
    return estate.served.controller.settings.url


def test_only_a_good_token_gets_in(browser: Browser, estate: Shop) -> None:
    """A wrong one is refused with its code; a good one leads to the page that was asked for; logging out ends it, and a
    token that is revoked is noticed."""
    with tab(browser, url_of(estate)) as page:
        page.goto("/workloads")
        page.get_by_label("Access token").fill("rf_wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("token-refused")
        page.get_by_label("Access token").fill(estate.served.token)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="Workloads")).to_be_visible()
        page.reload()
        expect(page.get_by_role("heading", name="Workloads")).to_be_visible()
        page.get_by_role("button", name="administrator").click()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Access token")).to_be_visible()
        assert page.evaluate("sessionStorage.length + localStorage.length") == 0

    guest = estate.client.grant(api.Grant("guest", ("viewer",)))
    with tab(browser, url_of(estate)) as page:
        log_in(page, guest, "/workloads")
        (known,) = (one for one in estate.client.tokens() if one.name == "guest")
        estate.client.revoke_token(known.id)
        page.reload()
        expect(page.get_by_label("Access token")).to_be_visible()


def test_home_counts_what_the_controller_knows(browser: Browser, estate: Shop) -> None:
    """Workloads by mode, hosts as told, crown jewels; each number leads to what it counts."""
    for host in estate.hosts:
        host.run(host.beat())
    with tab(browser, url_of(estate)) as page:
        log_in(page, estate.served.token)
        expect(page.get_by_role("link", name=re.compile("Enforcing"))).to_contain_text("2 of 7 workloads")
        expect(page.get_by_role("link", name=re.compile("Hosts as told"))).to_contain_text("2 / 2")
        expect(page.get_by_role("link", name="shop.ledger", exact=True)).to_be_visible()
        page.get_by_role("link", name=re.compile("no agent")).click()
        expect(page).to_have_url(re.compile("state=unmanaged"))
        expect(page.get_by_role("heading", name="Workloads")).to_be_visible()
        expect(page.get_by_text("5 of 7")).to_be_visible()


def test_the_keyboard_asks_and_goes(browser: Browser, estate: Shop) -> None:
    """`g w` goes, `/` asks, the answer is in the address, a wrong selector is told by its code, `?` shows keys."""
    with tab(browser, url_of(estate)) as page:
        log_in(page, estate.served.token)
        page.keyboard.press("g")
        page.keyboard.press("w")
        expect(page.get_by_role("row", name=estate.web, exact=True)).to_be_visible()
        page.keyboard.press("/")
        page.keyboard.type("role=db")
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile("where=role%3Ddb"))
        expect(page.get_by_role("row", name=estate.web, exact=True)).to_have_count(0)
        expect(page.get_by_role("row", name=estate.db, exact=True)).to_be_visible()
        page.get_by_label("Label selector").fill("role in (")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("bad-selector")
        page.get_by_role("button", name="Ask about everything").click()
        expect(page.get_by_role("row", name=estate.web, exact=True)).to_be_visible()
        page.get_by_role("heading", name="Workloads").click()
        page.keyboard.press("?")
        expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)


def open_labels(page: Page, names: list[str]) -> None:
    for name in names:
        page.get_by_label(f"Tick {name}", exact=True).check()
    page.get_by_role("button", name="Edit labels").click()


def test_labels_are_changed_after_a_look_at_what_they_open(browser: Browser, estate: Shop) -> None:
    """What opens is shown and nothing is changed until it is applied; then the controller has it, and its log says who
    and why."""
    name = "shop-cache-prod-3"
    with tab(browser, url_of(estate)) as page:
        log_in(page, estate.served.token, "/workloads")
        open_labels(page, [name])
        page.get_by_label("Key").fill("role")
        page.get_by_label("Value").fill("db")
        page.get_by_role("button", name="Show what it does").click()
        opens = page.get_by_role("list", name="What opens and closes")
        expect(opens).to_contain_text("tcp/5432")
        assert estate.client.workload(name).labels["role"] == "cache"
        page.get_by_label("Why").fill("it became a database")
        page.get_by_role("button", name="Apply to 1").click()
        expect(page.get_by_text("Labels of 1 workload changed")).to_be_visible()
        assert estate.client.workload(name).labels["role"] == "db"
        page.get_by_role("row", name=name, exact=True).click()
        expect(page.get_by_role("region", name=name)).to_contain_text("role: cache → db")
    estate.client.relabel(api.Relabel((name,), {"role": "cache"}, why="x"))


def test_labels_that_break_a_test_need_a_word_more(browser: Browser, estate: Shop) -> None:
    """The tests that would fail are named, and applying waits for the box that says to go on; another plan is needed
    when what is asked for changes."""
    with tab(browser, url_of(estate)) as page:
        log_in(page, estate.served.token, "/workloads")
        open_labels(page, [estate.db, "shop-db-prod-2"])
        page.get_by_label("Key").fill("role")
        page.get_by_label("Value").fill("gone")
        page.get_by_role("button", name="Show what it does").click()
        expect(page.get_by_role("list", name="Tests that would fail")).to_contain_text("role=db")
        page.get_by_label("Why").fill("they are gone")
        expect(page.get_by_role("button", name="Apply to 2")).to_be_disabled()
        page.get_by_label("Go on although tests would fail").check()
        expect(page.get_by_role("button", name="Apply to 2")).to_be_enabled()
        page.get_by_label("Value").fill("away")
        expect(page.get_by_role("button", name="Show what it does")).to_be_enabled()
        page.keyboard.press("Escape")
    assert estate.client.workload(estate.db).labels["role"] == "db"


def test_a_mode_is_changed_in_one_direction(browser: Browser, estate: Shop) -> None:
    """The other stays as it is."""
    with tab(browser, url_of(estate)) as page:
        log_in(page, estate.served.token, "/workloads")
        page.get_by_label(f"Tick {estate.web}", exact=True).check()
        page.get_by_role("button", name="Change mode").click()
        page.get_by_role("group", name="Outbound").get_by_label("Selective").check()
        page.get_by_label("Why").fill("two quiet weeks")
        page.get_by_role("dialog").get_by_role("button", name="Change mode").click()
        expect(page.get_by_text("Mode of 1 workload changed")).to_be_visible()
    mode = estate.client.workload(estate.web).mode
    assert (mode.inbound, mode.outbound) == ("enforce", "selective")
    estate.client.set_mode(api.SetMode((estate.web,), outbound="observe", why="x"))


def test_an_attempt_is_seen_explained_contained_and_released(browser: Browser, estate: Shop) -> None:
    """The alert comes by itself while the page is open; it says why; two clicks isolate who began it; the page says
    when every host that is heard read it back; release ends it; the alert is closed with a reason."""
    with tab(browser, url_of(estate)) as page:
        log_in(page, estate.served.token, "/alerts")
        expect(page.get_by_role("img", name="Live: every part of the controller is well")).to_be_visible()
        estate.attempt(port=2222)
        page.get_by_role("button", name=re.compile("2222")).click()
        drawer = page.get_by_role("region", name=re.compile("2222"))
        expect(drawer).to_contain_text("no rule allows it")
        expect(drawer).to_contain_text("shop/queries")

        drawer.get_by_role("button", name=f"Quarantine {estate.web}", exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name="Quarantine", exact=True).click()
        expect(page.get_by_text("1 workload in quarantine")).to_be_visible()
        (contained,) = estate.client.quarantines()
        assert (contained.name, contained.level) == (estate.web, "isolate")
        assert contained.until is not None
        assert "tcp/2222" in contained.why

        page.get_by_role("tab", name="Quarantines").click()
        eventually(lambda: estate.client.quarantines()[0].state == "verified")  # by all that run an agent
        expect(page.get_by_role("row", name=re.compile(estate.web))).to_contain_text("verified")
        page.get_by_role("button", name=f"Release {estate.web}").click()
        page.get_by_label("Why").fill("rebuilt")
        page.get_by_role("dialog").get_by_role("button", name="Release").click()
        expect(page.get_by_role("heading", name="Nobody is in quarantine")).to_be_visible()
        assert estate.client.quarantines() == []

        page.get_by_role("tab", name="Alerts").click()
        drawer.get_by_role("button", name="Resolve").click()
        page.get_by_label("Why").fill("a wrong script")
        page.get_by_role("dialog").get_by_role("button", name="Resolve").click()
        expect(page.get_by_text("Resolved", exact=True)).to_be_visible()
    closed = [one for one in estate.client.alerts(all=True) if one.kind == "violation" and "tcp/2222" in one.message]
    assert [one.state for one in closed] == ["closed"]


def test_who_attacked_is_contained_not_who_was_attacked(browser: Browser, estate: Shop, shots: Path | None) -> None:
    """An attacker of an address that no workload has: the page says that it cannot be isolated and offers no isolation
    as the way to go; the database's own is a second choice that says what it means."""
    now, db = datetime.now(UTC), estate.hosts[1].address
    told = Violation(
        now.timestamp(), "in", 6, parse_address("10.77.0.50"), db, 40_000, 5999, "blocked", "default", count=6
    )
    watching = estate.served.controller.watching
    estate.served.run(watching.note(occurrences.violation(told, estate.db, watching.ground)))
    themes: tuple[Theme, ...] = ("light", "dark")
    for theme in themes:
        with tab(browser, url_of(estate), theme=theme) as page:
            log_in(page, estate.served.token, "/alerts")
            page.get_by_role("button", name=re.compile("5999")).click()
            drawer = page.get_by_role("region", name=re.compile("5999"))
            expect(drawer.get_by_text("10.77.0.50 began it and cannot be isolated")).to_be_visible()
            foot = drawer.locator("footer")
            expect(foot.get_by_role("button", name="Acknowledge")).to_be_visible()
            expect(foot.get_by_role("button", name=re.compile("Quarantine"))).to_have_count(0)
            picture(page, shots, f"alert-outsider-{theme}")
            drawer.get_by_role("button", name=f"Quarantine {estate.db}, the destination").click()
            expect(page.get_by_role("dialog", name=f"Quarantine {estate.db}")).to_be_visible()


def test_the_audit_log_leaves_as_files(browser: Browser, estate: Shop, shots: Path | None) -> None:
    """Every entry that the filters pick, not only those shown, as JSON lines and as CSV; workloads by their names, and
    by their UUIDs; why a mode was changed is told."""
    estate.client.set_mode(api.SetMode((estate.web,), outbound="selective", why="two quiet weeks"))
    estate.client.set_mode(api.SetMode((estate.web,), outbound="observe", why="x"))
    uuid = estate.client.workload(estate.web).uuid
    with tab(browser, url_of(estate)) as page:
        log_in(page, estate.served.token, "/audit")
        page.get_by_label("Did, as policy.publish").fill("workload.mode")
        page.keyboard.press("Enter")
        row = page.get_by_role("row").filter(has_text="two quiet weeks").first
        expect(row).to_contain_text(estate.web)
        picture(page, shots, "audit-names")
        kept = estate.client.audit(action="workload.mode", limit=1000)
        for format_ in ("JSON lines", "CSV"):
            page.get_by_role("button", name="Export…").click()
            page.get_by_role("radio", name=format_).check()
            picture(page, shots, "audit-export")
            with page.expect_download() as download:
                page.get_by_role("dialog").get_by_role("button", name="Export").click()
            text = download.value.path().read_text()
            read: list[dict[str, Any]]
            if format_ == "CSV":
                read = [{**one, "details": json.loads(one["details"])} for one in csv.DictReader(io.StringIO(text))]
            else:
                read = [json.loads(line) for line in text.splitlines()]
            assert [one["hash"] for one in read] == [one.hash for one in kept]
            whys = {one["details"]["why"]: (one["subject"], one["name"]) for one in read}
            assert whys["two quiet weeks"] == (uuid, estate.web)


def test_the_audit_log_is_read_and_verified(browser: Browser, estate: Shop) -> None:
    """Entries are there with who and what, can be asked for by action, and the whole log is checked on demand."""
    with tab(browser, url_of(estate)) as page:
        log_in(page, estate.served.token, "/audit")
        page.get_by_label("Did, as policy.publish").fill("policy.publish")
        page.keyboard.press("Enter")
        rows = page.get_by_role("row", name=re.compile("by administrator"))
        expect(rows).to_have_count(1)
        rows.click()
        expect(page.get_by_role("region", name="policy.publish")).to_contain_text("Entry before")
        page.get_by_role("button", name="Verify the log").click()
        expect(page.get_by_text("as written; signed as far as")).to_be_visible()
