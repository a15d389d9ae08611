"""Signing in with a browser: what the cookie opens, for how long, and that no other site can use it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from serving import Serving, serving

from ringfence.api.guards import COOKIE
from ringfence.client.client import _context
from ringfence.controller.access.sessions import MOST
from ringfence.ports.state import AuditEntry, Session, Where
from ringfence.wire.api import Grant

PROFILE = {"name": "web", "labels": {"role": "web"}}


class Browser:
    """A client that keeps cookies, as a page of ours or of another site."""

    def __init__(self, served: Serving, **options: Any) -> None:
        self.url = served.controller.settings.url
        self.http = httpx.Client(base_url=self.url, verify=_context(served.ca), timeout=30, **options)
        self.csrf = ""

    def sign_in(self, token: str, **headers: str) -> httpx.Response:
        answer = self.http.post("/v1/session", json={"token": token}, headers={"Origin": self.url} | headers)
        if answer.status_code == 201:
            self.csrf = answer.json()["csrf"]
        return answer

    def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        said = {"Origin": self.url, "X-CSRF-Token": self.csrf} | headers
        return self.http.post(path, json=body, headers={key: value.encode() for key, value in said.items() if value})

    def code(self, path: str = "/v1/me") -> str:
        answer = self.http.get(path)
        return "" if answer.status_code == 200 else str(answer.json()["code"])


@pytest.fixture
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A controller of one's own, whose clock can be moved."""
    with serving(tmp_path_factory.mktemp("sessions") / "c") as made:
        yield made


def later(served: Serving, by: timedelta) -> None:
    for service in (served.controller.sessions, served.controller.granting):
        service._clock = lambda: datetime.now(UTC) + by


def test_the_cookie_is_for_our_pages_only(served: Serving) -> None:
    """`__Host-`, HttpOnly, Secure, SameSite=Strict, for the whole site, no longer than the session; what is answered
    says who and until when, and neither it nor the state holds the secret."""
    browser = Browser(served)
    answer = browser.sign_in(served.token)

    name, *words = answer.headers["set-cookie"].split("; ")
    secret = name.partition("=")[2].partition("_")[2]
    assert name.startswith("__Host-ringfence=")
    assert {word.lower() for word in words} >= {"httponly", "secure", "samesite=strict", "path=/"}
    assert not any(word.lower().startswith("domain") for word in words)
    lasts = next(int(word.partition("=")[2]) for word in words if word.lower().startswith("max-age"))
    assert 12 * 3600 - 60 < lasts <= 12 * 3600
    assert answer.json()["me"]["name"] == "administrator"
    assert secret not in answer.text
    kept = served.run(served.controller.state.read(lambda view: view.find(Session)))
    assert secret
    assert all(secret not in str(one) for one in kept)
    assert browser.http.get("/v1/session").json() == answer.json()


def test_a_session_opens_what_its_token_opens(served: Serving) -> None:
    """Reads at once, writes with the proof; roles and scope are the token's."""
    token = served.client().grant(Grant("ann", ("author",), scope="app=shop"))
    browser = Browser(served)
    browser.sign_in(token)

    me = browser.http.get("/v1/me").json()
    assert (me["name"], me["roles"], me["scope"]) == ("ann", ["author"], "app=shop")
    assert browser.http.get("/v1/tokens").json()["code"] == "not-allowed"
    assert browser.post("/v1/profiles", PROFILE).json()["code"] == "not-allowed"
    admin = Browser(served)
    admin.sign_in(served.token)
    assert admin.post("/v1/profiles", PROFILE | {"name": "by-session"}).status_code == 201


@pytest.mark.parametrize(
    "said",
    [
        {"X-CSRF-Token": ""}, {"X-CSRF-Token": "0" * 64}, {"X-CSRF-Token": "é"},
        {"Origin": ""}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost"},
    ],
)  # fmt: skip
def test_another_site_changes_nothing(served: Serving, said: dict[str, str]) -> None:
    """A write without the proof, or from a page of another origin, is refused although the cookie is good."""
    browser = Browser(served)
    browser.sign_in(served.token)

    answer = browser.post("/v1/profiles", PROFILE | {"name": "forged"}, **said)
    assert (answer.status_code, answer.json()["code"]) == (403, "cross-site")
    assert "forged" not in [profile.name for profile in served.client().profiles()]


def test_the_proof_of_one_session_is_worth_nothing_in_another(served: Serving) -> None:
    """Even of the same person."""
    mine, other = Browser(served), Browser(served)
    mine.sign_in(served.token)
    other.sign_in(served.token)

    assert mine.csrf != other.csrf
    assert mine.post("/v1/profiles", PROFILE, **{"X-CSRF-Token": other.csrf}).json()["code"] == "cross-site"


def test_another_site_signs_nobody_in(served: Serving) -> None:
    """A page elsewhere cannot make the browser somebody else's here."""
    answer = Browser(served).sign_in(served.token, Origin="https://evil.example")
    assert (answer.status_code, answer.json()["code"]) == (403, "cross-site")
    assert "set-cookie" not in answer.headers


def test_a_token_needs_no_proof(served: Serving) -> None:
    """It is sent by whoever means to; beside it the cookie is not looked at, good or bad."""
    viewer = served.client().grant(Grant("eve", ("viewer",)))
    browser = Browser(served)
    browser.sign_in(served.token)
    as_eve = {"Authorization": f"Bearer {viewer}"}

    assert browser.http.get("/v1/me", headers=as_eve).json()["name"] == "eve"
    assert browser.http.get("/v1/session", headers=as_eve).json()["code"] == "session-refused"
    assert browser.http.get("/v1/me", headers={"Authorization": "Bearer rf_x_y"}).json()["code"] == "token-refused"
    plain = {"Authorization": f"Bearer {served.token}", "Origin": "https://elsewhere.example"}
    assert browser.http.post("/v1/plan", json={}, headers=plain).json()["code"] == "bad-request"


@pytest.mark.parametrize("cookie", ["", "x", "_", "a_b", "0" * 12 + "_" + "A" * 43, "é", "x" * 3000])
def test_a_cookie_that_is_not_good_is_refused(served: Serving, cookie: str) -> None:
    """401, whatever it says."""
    raw = f"{COOKIE}={cookie}".encode()
    http = httpx.Client(base_url=served.controller.settings.url, verify=_context(served.ca))
    answer = http.get("/v1/me", headers=[(b"cookie", raw)])
    assert (answer.status_code, answer.json()["code"]) == (401, "session-refused")


def test_a_cookie_that_was_changed_is_refused(served: Serving) -> None:
    """The id of one session with the secret of another opens neither."""
    cookies = []
    for _ in range(2):
        browser = Browser(served)
        browser.sign_in(served.token)
        cookies.append(browser.http.cookies[COOKIE].split("_", 1))
    mixed = f"{cookies[0][0]}_{cookies[1][1]}"
    http = httpx.Client(base_url=served.controller.settings.url, verify=_context(served.ca), cookies={COOKIE: mixed})
    assert http.get("/v1/me").json()["code"] == "session-refused"


def test_signing_out_ends_it(served: Serving) -> None:
    """At once, for every copy of the cookie; the browser drops what it kept."""
    browser, copy = Browser(served), Browser(served)
    browser.sign_in(served.token)
    copy.http.cookies.update(browser.http.cookies)
    assert copy.code() == ""
    headers = {"Origin": browser.url, "X-CSRF-Token": browser.csrf}

    assert browser.http.delete("/v1/session").json()["code"] == "cross-site"
    answer = browser.http.delete("/v1/session", headers=headers)
    assert answer.status_code == 204
    assert "max-age=0" in answer.headers["set-cookie"].lower()
    assert answer.headers["clear-site-data"] == '"cache", "storage"'
    assert copy.code() == "session-refused"


def test_it_ends_with_its_token(served: Serving) -> None:
    """With the revocation, not some time after it."""
    admin = served.client()
    token = admin.grant(Grant("bob", ("viewer",)))
    browser = Browser(served)
    browser.sign_in(token)
    assert browser.code() == ""
    admin.revoke_token(token.split("_")[1])
    assert browser.code() == "session-refused"
    assert browser.sign_in(token).json()["code"] == "token-refused"


def test_it_ends_when_nobody_uses_it(apart: Serving) -> None:
    """After half an hour without a request; with one now and then it goes on, until twelve hours are over."""
    browser, idle = Browser(apart), Browser(apart)
    browser.sign_in(apart.token)
    idle.sign_in(apart.token)
    for minutes in range(20, 12 * 60, 20):
        later(apart, timedelta(minutes=minutes))
        assert browser.code() == "", minutes
    assert idle.code() == "session-refused"
    later(apart, timedelta(hours=12))
    assert browser.code() == "session-refused"
    apart.run(apart.controller.sessions.forget())
    assert apart.run(apart.controller.state.read(lambda view: view.count(Session))) == 0


def test_it_does_not_outlive_a_token_that_expires(apart: Serving) -> None:
    """It ends when the token does."""
    token = apart.client().grant(Grant("ann", ("viewer",), expires=datetime.now(UTC) + timedelta(minutes=10)))
    browser = Browser(apart)
    browser.sign_in(token)
    assert browser.code() == ""
    later(apart, timedelta(minutes=10))
    assert browser.code() == "session-refused"


def test_a_token_has_sessions_without_end_for_nobody(served: Serving) -> None:
    """The oldest ends, which the audit log tells; those of another token stay."""
    admin = served.client()
    token, other = (admin.grant(Grant(name, ("viewer",))) for name in ("many", "few"))
    alone = Browser(served)
    alone.sign_in(other)
    browsers = [Browser(served) for _ in range(MOST + 1)]
    for browser in browsers:
        assert browser.sign_in(token).status_code == 201
    assert [browser.code() for browser in (alone, *browsers)] == ["", "session-refused", *[""] * MOST]
    ended = served.run(
        served.controller.state.read(lambda view: view.find(AuditEntry, Where("action", "session.end"), order="-seq"))
    )
    assert (ended[0].actor, f"more than {MOST}" in ended[0].details) == ("controller", True)


def test_an_administrator_sees_and_ends_sessions(served: Serving) -> None:
    """Of anybody; what was opened and ended is in the audit log, without a secret."""
    token = served.client().grant(Grant("carl", ("viewer",)))
    browser, admin = Browser(served), Browser(served)
    browser.sign_in(token)
    admin.sign_in(served.token)
    assert browser.http.get("/v1/sessions").json()["code"] == "not-allowed"
    his = [one["id"] for one in admin.http.get("/v1/sessions").json() if one["name"] == "carl"]
    headers = {"Origin": admin.url, "X-CSRF-Token": admin.csrf}

    assert admin.http.delete(f"/v1/sessions/{his[0]}", headers=headers).status_code == 204
    assert browser.code() == "session-refused"
    assert admin.http.delete(f"/v1/sessions/{his[0]}", headers=headers).json()["code"] == "record-missing"
    told = served.run(
        served.controller.state.read(lambda view: view.find(AuditEntry, Where("subject", his[0]), order="seq"))
    )
    assert [(one.actor, one.action) for one in told] == [("carl", "session.open"), ("administrator", "session.end")]
    assert browser.http.cookies[COOKIE].split("_", 1)[1] not in str(told)


def test_everybody_sees_and_ends_their_own(served: Serving) -> None:
    """By whichever session they ask; not those of another token, be it of the same name; a bearer's are its token's."""
    first, second, other = Browser(served), Browser(served), Browser(served)
    token = served.client().grant(Grant("hal", ("viewer",)))
    first.sign_in(token)
    second.sign_in(token)
    other.sign_in(served.client().grant(Grant("hal", ("viewer",))))
    mine = first.http.get("/v1/me/sessions").json()
    assert [(one["name"], one["is_this"]) for one in mine] == [("hal", True), ("hal", False)]
    by_token = first.http.get("/v1/me/sessions", headers={"Authorization": f"Bearer {token}"}).json()
    assert [one["id"] for one in by_token] == [one["id"] for one in mine]

    headers = {"Origin": first.url, "X-CSRF-Token": first.csrf}
    (foreign,) = other.http.get("/v1/me/sessions").json()
    for id_ in (foreign["id"], "none"):
        assert first.http.delete(f"/v1/me/sessions/{id_}", headers=headers).json()["code"] == "record-missing"
    assert first.http.delete(f"/v1/me/sessions/{mine[1]['id']}").json()["code"] == "cross-site"
    assert second.code() == ""
    assert first.http.delete(f"/v1/me/sessions/{mine[1]['id']}", headers=headers).status_code == 204
    assert (first.code(), second.code(), other.code()) == ("", "session-refused", "")


def test_who_was_away_keeps_what_they_wrote(served: Serving) -> None:
    """Signing out drops what the browser kept; ending because nobody was there leaves unsaved policies."""
    browser = Browser(served)
    browser.sign_in(served.token)
    headers = {"Origin": browser.url, "X-CSRF-Token": browser.csrf}
    answer = browser.http.delete("/v1/session?keep=true", headers=headers)
    assert (answer.status_code, answer.headers["clear-site-data"]) == (204, '"cache"')
    assert browser.code() == "token-refused"


def test_an_idempotency_key_works_in_a_session(served: Serving) -> None:
    """The same answer twice; not to whoever lacks the proof, nor in another session."""
    browser = Browser(served)
    browser.sign_in(served.token)
    key = {"Idempotency-Key": "once"}
    grant = {"name": "dora", "roles": ["viewer"]}
    first, again = (browser.post("/v1/tokens", grant, **key) for _ in range(2))

    assert first.json() == again.json()
    assert browser.post("/v1/tokens", grant, **key, **{"X-CSRF-Token": "0"}).json()["code"] == "cross-site"
    other = Browser(served)
    other.sign_in(served.token)
    assert other.post("/v1/tokens", grant, **key).json() != first.json()


def test_a_stream_ends_with_its_session(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows events hears none of what happens after they were signed out."""
    monkeypatch.setattr("ringfence.api.alerts._ASK_AGAIN_S", 0.0)
    monkeypatch.setattr("ringfence.controller.alerts.attending._BEAT_S", 0.05)
    browser = Browser(served)
    browser.sign_in(served.token)
    headers = {"Origin": browser.url, "X-CSRF-Token": browser.csrf}
    with browser.http.stream("GET", "/v1/events") as stream:
        lines = stream.iter_lines()
        assert next(line for line in lines if line.startswith("event:")) == "event: still-here"
        assert browser.http.delete("/v1/session", headers=headers).status_code == 204
        assert len(list(lines)) < 1000
