"""Who one is in the browser: how one comes in, what one may do, and how it ends."""

from __future__ import annotations

import re

import pytest
from pages import log_in, tab, violations
from playwright.sync_api import Browser, expect
from populated import Shop

from ringfence.wire import api


@pytest.fixture(scope="module")
def guest(estate: Shop) -> str:
    return estate.client.grant(api.Grant("guest", ("viewer",)))


def test_no_script_can_read_what_opens_the_session(browser: Browser, estate: Shop) -> None:
    """Neither the token nor the session is anywhere a script could look; a reload goes on; another tab of the browser
    is signed in, and out with this one."""
    with tab(browser, estate.served.controller.settings.url) as page:
        log_in(page, estate.served.token)
        kept = page.evaluate("JSON.stringify({...sessionStorage, ...localStorage}) + document.cookie")
        assert "rf_" not in kept
        assert "ringfence=" not in kept
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
        beside = page.context.new_page()
        beside.goto("/workloads")
        expect(beside.get_by_role("heading", name="Workloads")).to_be_visible()
        page.get_by_role("button", name="administrator").click()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Access token")).to_be_visible()
        expect(beside.get_by_text("You signed out in another tab.")).to_be_visible()
        assert page.context.cookies() == []


def test_a_write_goes_on_when_the_same_person_signed_in_anew(browser: Browser, estate: Shop) -> None:
    """The proof of the session before is replaced, once, without a word."""
    with tab(browser, estate.served.controller.settings.url) as page:
        log_in(page, estate.served.token, "/workloads")
        page.evaluate(
            "token => fetch('/v1/session', {method: 'POST', body: JSON.stringify({token}),"
            " headers: {'content-type': 'application/json'}}).then(answer => answer.status)",
            estate.served.token,
        )
        page.get_by_label(f"Tick {estate.web}", exact=True).check()
        page.get_by_role("button", name="Edit labels").click()
        page.get_by_label("Key").fill("stage")
        page.get_by_label("Value").fill("one")
        page.get_by_role("button", name="Show what it does").click()
        expect(page.get_by_role("button", name="Apply to 1")).to_be_visible()


def test_a_refusal_of_the_provider_is_said_in_words(browser: Browser, estate: Shop) -> None:
    """By its code, and without anything that the address says beside it."""
    with tab(browser, estate.served.controller.settings.url) as page:
        page.goto("/login?problem=no-role")
        expect(page.get_by_role("alert")).to_contain_text("you have no role here")
        expect(page.get_by_role("alert")).to_contain_text("no-role")
        assert violations(page) == []
        page.goto("/login?problem=call%20me")
        expect(page.get_by_role("alert")).not_to_contain_text("call")
        page.get_by_label("Access token").fill(estate.served.token)
        page.get_by_role("button", name="Log in").click()
        expect(page).to_have_url(re.compile("/$"))


def test_a_provider_is_the_first_way_in(browser: Browser, estate: Shop) -> None:
    """Where there is one, it is offered by name, and leads back to the page that was asked for."""
    with tab(browser, estate.served.controller.settings.url) as page:
        way = {"token": True, "provider": "https://id.example", "name": "Example"}
        page.route("**/v1/login", lambda route: route.fulfill(json=way))
        page.goto("/workloads?where=app%3Dshop")
        link = page.get_by_role("link", name="Sign in with Example")
        expect(link).to_have_attribute("href", "/v1/login/oidc?then=%2Fworkloads%3Fwhere%3Dapp%253Dshop")
        expect(page.get_by_label("Access token")).to_be_visible()
        assert violations(page) == []


def test_what_one_may_not_do_is_there_and_says_why(browser: Browser, estate: Shop, guest: str) -> None:
    """A viewer sees the controls, is told which role they take, by mouse and by keyboard, and they do nothing."""
    with tab(browser, estate.served.controller.settings.url) as page:
        log_in(page, guest, f"/workloads?open={estate.hosts[0].uuid}")
        button = page.get_by_role("button", name="Quarantine", exact=True)
        expect(button).to_have_attribute("aria-disabled", "true")
        button.hover()
        told = page.get_by_role("tooltip").filter(has_text="To quarantine takes the role")
        expect(told).to_be_visible()
        expect(told).to_contain_text("responder or administrator; you are viewer.")
        button.click(force=True)
        expect(page.get_by_role("dialog")).to_have_count(0)
        audit = page.get_by_role("link", name="Audit")
        audit.focus()
        expect(page.get_by_role("tooltip").filter(has_text="To read the audit log")).to_be_visible()
        assert violations(page) == []


def test_sessions_are_seen_and_ended(browser: Browser, estate: Shop, guest: str) -> None:
    """One's own by everybody, anybody's by an administrator; whoever is ended has to sign in again."""
    url = estate.served.controller.settings.url
    with tab(browser, url) as theirs, tab(browser, url) as page:
        log_in(theirs, guest, "/session")
        expect(theirs.get_by_role("table", name="Your sessions")).to_contain_text("this one")
        expect(theirs.get_by_text("To manage tokens and sessions takes the role administrator")).to_be_visible()
        log_in(page, estate.served.token, "/session")
        expect(page.get_by_text("May read the audit log").or_(page.get_by_text("handle alerts"))).to_be_visible()
        everybody = page.get_by_role("table", name="Everybody's sessions")
        guests = everybody.get_by_role("button", name=re.compile("^End the session of guest"))
        expect(guests.first).to_be_visible()
        before = guests.count()
        for _ in range(before):
            guests.first.click()
            page.get_by_role("button", name="End it").click()
            expect(page.get_by_role("dialog")).to_have_count(0)
        expect(everybody).not_to_contain_text("guest")
        theirs.reload()
        expect(theirs.get_by_label("Access token")).to_be_visible()


def test_the_question_is_completed_and_remembered(browser: Browser, estate: Shop) -> None:
    """Keys and values of the estate, by arrows and Enter; the last questions are offered again."""
    with tab(browser, estate.served.controller.settings.url) as page:
        log_in(page, estate.served.token, "/workloads")
        page.keyboard.press("/")
        box = page.get_by_role("combobox", name="Label selector")
        page.keyboard.type("ro")
        expect(page.get_by_role("option", name=re.compile("^role"))).to_be_visible()
        assert violations(page) == []
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(box).to_have_value("role=")
        page.keyboard.type("d")
        page.get_by_role("option", name=re.compile("^db")).click()
        expect(box).to_have_value("role=db")
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile("where=role%3Ddb"))
        page.get_by_role("button", name="Ask about everything").click()
        box.click()
        expect(page.get_by_role("option", name=re.compile("role=db.*asked before"))).to_be_visible()
