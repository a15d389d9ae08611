"""Policies written, proven, applied, followed to the hosts and taken back, in a real browser on a real controller."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import log_in, picture, tab, violations
from playwright.sync_api import Browser, Locator, Page, expect
from populated import AT_ONCE, POLICY, Shop, put_on_file, shop
from serving import Serving, eventually, serving

from ringfence.wire import api

SSH = "  - name: upkeep\n    allow: {from: role=web, to: role=db, service: ssh}\n"
MISSPELT = """\
policy: pay
scope: app=shop
segments:
  web: role=web
rules:
  - allow: {from: wbe, to: web, service: https}
"""
WITH_SSH = POLICY.replace("tests:\n", f"{SSH}tests:\n")


def url_of(served: Serving) -> str:
    return served.controller.settings.url


def text_of(page: Page, file: str) -> Locator:
    return page.get_by_role("textbox", name=f"Text of {file}")


def write(page: Page, file: str, text: str) -> None:
    """In place of what is there, as pasted."""
    text_of(page, file).focus()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(text)


def tab_of(page: Page, name: str) -> Locator:
    return page.get_by_role("tab", name=re.compile(f"^{name}"))


@pytest.fixture
def base(estate: Shop) -> Iterator[int]:
    """The newest version; what it says is put back."""
    yield estate.client.versions()[0].number
    newest = estate.client.versions()[0].number
    if estate.client.version(newest).files != {"shop.yaml": POLICY}:
        estate.client.apply(api.Apply(api.Draft({"shop.yaml": POLICY}, newest, note="as it was"), AT_ONCE))
    eventually(lambda: estate.client.rollout().stage == "done")


def test_the_list_tells_whose_over_whom_and_how_it_is(browser: Browser, estate: Shop) -> None:
    """Owner, scope, rules, tests; each number leads to what it counts."""
    with tab(browser, url_of(estate.served)) as page:
        log_in(page, estate.served.token, "/policies")
        row = page.get_by_role("row", name="shop", exact=True)
        for told in ("team-shop", "app=shop", "1 proven"):
            expect(row).to_contain_text(told)
        row.get_by_role("link", name="1 proven").click()
        expect(page).to_have_url(re.compile("file=shop.yaml.*beside=tests|beside=tests.*file=shop.yaml"))
        expect(page.get_by_role("tabpanel", name="Tests")).to_contain_text("must pass")


def test_faults_are_told_at_their_line_and_mended(browser: Browser, estate: Shop) -> None:
    """From a template; code, message and help; the suggestion is one click; the draft outlives a reload."""
    with tab(browser, url_of(estate.served)) as page:
        log_in(page, estate.served.token, "/policies")
        page.get_by_role("button", name="New policy").click()
        page.get_by_role("textbox", name="Name").fill("shop")
        expect(page.get_by_text("there is one of this name")).to_be_visible()
        page.get_by_role("textbox", name="Name").fill("pay")
        page.get_by_role("textbox", name="Scope").fill("app=shop")
        page.get_by_role("button", name="Begin").click()
        expect(text_of(page, "pay.yaml")).to_contain_text("policy: pay")

        write(
            page,
            "pay.yaml",
            MISSPELT,
        )
        finding = page.get_by_role("tabpanel", name="Findings")
        expect(finding).to_contain_text("unknown-segment")
        expect(finding).to_contain_text("did you mean")
        expect(page.get_by_text("Tests wait for the errors")).to_be_visible()
        finding.get_by_role("button", name="Use web").click()
        expect(text_of(page, "pay.yaml")).to_contain_text("{from: web, to: web")
        expect(page.get_by_text("No errors")).to_be_visible()

        page.reload()
        expect(text_of(page, "pay.yaml")).to_contain_text("{from: web, to: web")
        expect(page.get_by_text("1 draft", exact=True)).to_be_visible()
        page.get_by_role("button", name="Discard all").click()
        page.get_by_role("dialog").get_by_role("button", name="Discard").click()
        expect(page.get_by_text("1 draft", exact=True)).to_have_count(0)
    assert {file for one in estate.client.versions() for file in one.files} == {"shop.yaml"}


def test_words_of_the_estate_are_offered(browser: Browser, estate: Shop) -> None:
    """Segments, labels and their values where an end is written; keys of the frame stay letters in the text."""
    with tab(browser, url_of(estate.served)) as page:
        log_in(page, estate.served.token, "/policies?file=shop.yaml")
        write(page, "shop.yaml", "policy: shop\nrules:\n  - allow: {from: ")
        page.keyboard.type("ro")
        page.get_by_role("option", name=re.compile("^role")).click()
        page.get_by_role("option", name=re.compile("^db")).click()
        page.keyboard.type(", to: anyone, service: g?/")
        expect(text_of(page, "shop.yaml")).to_contain_text("{from: role=db, to: anyone, service: g?/")
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.get_by_role("button", name="Discard all").click()
        page.get_by_role("dialog").get_by_role("button", name="Discard").click()
        expect(text_of(page, "shop.yaml")).to_contain_text("tcp/5432")


def test_a_failing_test_says_who_would_pass_and_holds_the_change(browser: Browser, estate: Shop) -> None:
    """The counterexample in words while one types; nothing that breaks a test is applied."""
    with tab(browser, url_of(estate.served)) as page:
        log_in(page, estate.served.token, "/policies?file=shop.yaml&beside=tests")
        write(page, "shop.yaml", f"{POLICY}  - {{from: role=web, to: role=db, expect: blocked}}\n")
        expect(page.get_by_text("1 of 2 tests fails")).to_be_visible()
        story = page.get_by_role("tabpanel", name="Tests")
        expect(story).to_contain_text(re.compile("on tcp/5432 passes by shop/queries, and should not"))
        page.get_by_role("button", name="Apply…").click()
        page.get_by_label("Note").fill("never")
        expect(page.get_by_text("1 test would fail: mend the policy or the test")).to_be_visible()
        expect(page.get_by_role("button", name=re.compile("Apply to"))).to_be_disabled()


def test_a_change_goes_to_a_canary_then_to_all_and_back(
    browser: Browser, estate: Shop, base: int, shots: Path | None
) -> None:
    """What it opens is told before; a note is required; trial and probes go with it; who goes first is named; it is
    stopped from there, on a phone, too; gone on with, compared, taken back."""
    for host in estate.hosts:
        host.run(host.beat())  # who is not heard is no part of a canary
    with tab(browser, url_of(estate.served)) as page:
        log_in(page, estate.served.token, "/policies?file=shop.yaml&beside=plan")
        write(page, "shop.yaml", WITH_SSH)
        opens = page.get_by_role("list", name="What opens and closes")
        expect(opens).to_contain_text("role=web")
        expect(opens).to_contain_text("tcp/22")
        page.get_by_role("button", name="Apply…").click()
        apply = page.get_by_role("button", name="Apply to 2 hosts")
        expect(page.get_by_text("Say why first")).to_be_visible()
        expect(apply).to_be_disabled()
        page.get_by_label("Note").fill("upkeep of the databases")
        page.get_by_label("Percent of the hosts").fill("50")
        page.get_by_role("radio", name=re.compile("^Keep")).check()
        page.get_by_label("Trial, seconds").fill("5")
        expect(page.get_by_text("10 to 3600 whole seconds").first).to_be_visible()
        expect(apply).to_be_disabled()
        page.get_by_label("Trial, seconds").fill("45")
        page.get_by_label("Probes").fill("10.0.0.5")
        expect(page.get_by_text("each probe is a host and a port").first).to_be_visible()
        expect(apply).to_be_disabled()
        page.get_by_label("Probes").fill("10.0.0.5:22 [2001:db8::1]:443")
        picture(page, shots, "apply-probes")
        apply.click()

        expect(page.get_by_role("list", name="Stages").get_by_role("listitem").nth(0)).to_have_attribute(
            "aria-current", "step"
        )
        expect(page.get_by_text(f"Version {base + 1} is on its way")).to_be_visible()
        expect(page.get_by_role("table", name="Laggards")).to_contain_text("its turn has not come")
        (first,) = estate.client.rollout().first
        expect(page.get_by_role("list", name="Canary")).to_contain_text(first.name)
        told = estate.client.audit(action="rollout.begin", limit=1)[0]
        assert json.loads(told.details)["manner"]["trial"] == {
            "seconds": 45, "probes": [{"host": "10.0.0.5", "port": 22}, {"host": "2001:db8::1", "port": 443}],
        }  # fmt: skip
        for width in (320, 390, 1440):
            page.set_viewport_size({"width": width, "height": 900})
            for name in ("Stop…", "Roll back…", "Go on to everybody"):
                expect(page.get_by_role("button", name=name, exact=True)).to_be_in_viewport(ratio=1)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            picture(page, shots, f"rollout-canary-{width}")
        page.get_by_role("button", name="Stop…").click()
        page.get_by_label("Why").fill("too early")
        picture(page, shots, "rollout-stop")
        page.get_by_role("dialog").get_by_role("button", name="Stop", exact=True).click()
        expect(page.get_by_text("stopped by administrator: too early")).to_be_visible()
        picture(page, shots, "rollout-stopped")
        assert estate.client.rollout().stage == "stopped"
        page.get_by_role("button", name="Go on to everybody").click()
        page.get_by_role("dialog").get_by_role("button", name="Go on").click()
        eventually(lambda: estate.client.rollout().stage == "done")
        expect(page.get_by_role("heading", name="Every host has it")).to_be_visible()

        tab_of(page, "Versions").click()
        page.get_by_role("row", name=f"version {base + 1}").click()
        expect(page.get_by_role("list", name="What opens and closes")).to_contain_text("tcp/22")
        expect(page.get_by_role("group", name="Changes")).to_contain_text(
            "added: - name: upkeep".replace("- name", "  - name")
        )
        page.get_by_role("row", name=f"version {base}", exact=True).click()
        page.get_by_role("button", name=re.compile(f"Roll back to version {base}")).click()
        expect(page.get_by_role("dialog").get_by_role("list", name="What opens and closes")).to_contain_text("closes")
        page.get_by_role("button", name="Roll back 2 hosts").click()
        expect(page.get_by_text(f"Version {base + 2} says what version {base} said")).to_be_visible()
    newest = estate.client.versions()[0]
    assert (newest.number, estate.client.version(newest.number).files) == (base + 2, {"shop.yaml": POLICY})


def test_what_breaks_anyway_is_folded(browser: Browser, tmp_path: Path, shots: Path | None) -> None:
    """What a draft breaks counts; what no rule allowed before stands folded, though the draft is about it."""
    now = int(time.time()) - 600
    head = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action"
    lines = "".join(
        f"2 1 e 10.0.0.1 10.0.0.2 {40_000 + n} {port} 6 5 500 {now} {now + 60} ACCEPT OK\n"
        for n, port in enumerate((5432, 22, 443, 3306) * 30)
    )
    with shop(tmp_path) as estate:
        client = estate.client
        client.set_mode(api.SetMode((estate.db,), inbound="observe", why="what it gets is not stopped yet"))
        job = client.explore.import_flows("four.log", f"{head} log-status\n{lines}".encode())
        eventually(lambda: client.explore.job(job.id).state == "done")
        with tab(browser, url_of(estate.served)) as page:
            log_in(page, estate.served.token, "/policies?file=shop.yaml&beside=plan")
            write(page, "shop.yaml", POLICY.replace("tcp/5432", "tcp/5433"))
            stops = page.get_by_role("list", name="Traffic that would stop", exact=True).get_by_role("listitem")
            expect(stops).to_have_count(1)
            expect(stops).to_contain_text("postgres")
            folded = page.get_by_text("3 kinds of traffic anyway")
            anyway = page.get_by_role("list", name="Traffic that would stop anyway")
            expect(folded).to_be_visible()
            expect(anyway).to_be_hidden()
            picture(page, shots, "plan-folded")
            folded.click()
            expect(anyway.get_by_role("listitem")).to_have_count(3)


def test_what_another_changed_meanwhile_is_not_lost(browser: Browser, estate: Shop, base: int) -> None:
    """The draft waits, says whose version is in force now, and both changes come together."""
    with tab(browser, url_of(estate.served)) as page:
        log_in(page, estate.served.token, "/policies?file=shop.yaml")
        write(page, "shop.yaml", POLICY.replace("owner: team-shop", "owner: team-mine"))
        expect(page.get_by_text("1 draft", exact=True)).to_be_visible()
        estate.client.apply(api.Apply(api.Draft({"shop.yaml": WITH_SSH}, base, note="theirs"), AT_ONCE))
        page.reload()
        expect(page.get_by_text("changed this file after your draft began")).to_be_visible()
        expect(page.get_by_role("button", name="Apply…")).to_be_disabled()
        page.get_by_role("button", name="Bring both together").click()
        expect(text_of(page, "shop.yaml")).to_contain_text("team-mine")
        expect(text_of(page, "shop.yaml")).to_contain_text("upkeep")
        expect(page.get_by_role("button", name="Apply…")).to_be_enabled()


def test_a_rule_leads_from_its_use_to_its_line(browser: Browser, estate: Shop) -> None:
    """Unused allows are the queue; a rule opens where it is written."""
    with tab(browser, url_of(estate.served)) as page:
        log_in(page, estate.served.token, "/policies?tab=rules&slack=only")
        page.get_by_role("row", name="shop/queries").click()
        drawer = page.get_by_role("region", name="shop/queries")
        expect(drawer).to_contain_text("Not used in 30 days")
        drawer.get_by_role("button", name="Tighten it").click()
        expect(text_of(page, "shop.yaml")).to_contain_text("name: queries")
        assert (
            page.evaluate("document.querySelector('[data-editor]').shadowRoot.getSelection().toString()")
            == "  - name: queries"
        )


def test_a_reader_reads(browser: Browser, estate: Shop) -> None:
    """Who may not propose gets the text and what the checker says; what would change it does nothing, and says why."""
    token = estate.client.grant(api.Grant("reader", ("viewer",)))
    with tab(browser, url_of(estate.served)) as page:
        log_in(page, token, "/policies?file=shop.yaml")
        expect(text_of(page, "shop.yaml")).to_contain_text("policy: shop")
        expect(text_of(page, "shop.yaml")).to_have_attribute("contenteditable", "false")
        for name in ("New policy", "Remove"):
            button = page.get_by_role("button", name=name)
            expect(button).to_have_attribute("aria-disabled", "true")
            expect(button).to_have_accessible_description(re.compile("To propose policies takes the role"))


def test_one_proposes_and_another_sees_all_of_it_and_decides(browser: Browser, tmp_path: Path) -> None:
    """Where two are needed there is no way but to propose; nobody approves their own; who approves has the text and
    what it does before them, and where no host is, nothing is said to be in force."""
    with serving(tmp_path / "c", needs_approval=True) as first:
        put_on_file(first, 12)
        token = first.token
    with serving(tmp_path / "c", needs_approval=True) as served:
        served.token = token
        admin = served.client()
        ann, bob = (
            admin.grant(api.Grant(name, roles)) for name, roles in (("ann", ("author",)), ("bob", ("approver",)))
        )
        for note in ("no", "yes"):
            with tab(browser, url_of(served)) as page:
                log_in(page, ann, "/policies")
                page.get_by_role("button", name="New policy").nth(0).click()
                page.get_by_role("textbox", name="Name").fill("shop")
                page.get_by_role("button", name="Begin").click()
                write(page, "shop.yaml", POLICY)
                page.get_by_role("button", name="Propose…").click()
                page.get_by_label("Note").fill(note)
                expect(page.get_by_text("Two people are needed here")).to_be_visible()
                expect(page.get_by_role("button", name=re.compile("^Apply"))).to_have_count(0)
                page.get_by_role("dialog").get_by_role("button", name="Propose").click()
                page.get_by_role("row", name=f"{note} by ann").click()
                expect(page.get_by_text("It is your own")).to_be_visible()
                expect(page.get_by_role("button", name="Approve…")).to_have_count(0)
            with tab(browser, url_of(served)) as page:
                log_in(page, bob, "/policies?tab=proposals")
                page.get_by_role("row", name=f"{note} by ann").click()
                drawer = page.get_by_role("region", name=note)
                expect(drawer.get_by_role("group", name="Changes")).to_contain_text("allow: {from: role=web")
                assert violations(page) == []
                if note == "no":
                    drawer.get_by_role("button", name="Reject").click()
                    page.get_by_label("Why").fill("not so")
                    page.get_by_role("dialog").get_by_role("button", name="Reject").click()
                    expect(page.get_by_role("heading", name="Nothing waits for a second person")).to_be_visible()
                else:
                    drawer.get_by_role("button", name="Approve…").click()
                    page.get_by_role("radio", name=re.compile("^Everybody")).check()
                    said = page.get_by_role("dialog").locator("code").first.inner_text()
                    assert said == admin.plan(api.Plan(api.Draft({"shop.yaml": POLICY}, 0))).digest
                    assert violations(page) == []
                    page.get_by_role("button", name="Approve and roll out to 0 hosts").click()
                    expect(page.get_by_text("Version 1 is published; no host runs an agent yet")).to_be_visible()
                    expect(page.get_by_role("heading", name="No host holds it yet")).to_be_visible()
                    expect(page.get_by_text("on no host")).to_be_visible()
                    expect(page.get_by_role("list", name="Stages")).to_have_count(0)
        assert [(one.actor, one.note) for one in admin.versions()] == [("ann", "yes")]

        admin.propose(api.Draft({"other.yaml": POLICY.replace("policy: shop", "policy: other")}, 1, note="instead"))
        with tab(browser, url_of(served)) as page:
            log_in(page, bob, "/policies?tab=proposals")
            page.get_by_role("row", name="instead by").click()
            expect(page.get_by_text("Removes shop.yaml of ann, version 1.")).to_be_visible()
