"""Every route and every role: who is let through, and that nobody is by accident."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

import httpx
import pytest
from litestar import Litestar
from serving import Serving, body, eventually, serving

from ringfence.api import guards
from ringfence.client.client import _context
from ringfence.controller.access.access import MAY, RIGHTS, ROLES, Role
from ringfence.wire.api import Grant

RIGHT_OF = {
    "GET /v1/ca": guards.EVERYBODY,
    "POST /v1/agents/enrol": guards.EVERYBODY,
    "POST /v1/agents/renew": guards.EVERYBODY,
    "GET /v1/alive": guards.EVERYBODY,
    "GET /v1/openapi.json": guards.EVERYBODY,
    "GET /v1/me": guards.ANYBODY,
    "GET /v1/login": guards.EVERYBODY,
    "GET /v1/login/oidc": guards.EVERYBODY,
    "GET /v1/login/oidc/callback": guards.EVERYBODY,
    "POST /v1/session": guards.EVERYBODY,
    "GET /v1/session": guards.ANYBODY,
    "DELETE /v1/session": guards.ANYBODY,
    "GET /v1/me/sessions": guards.ANYBODY,
    "DELETE /v1/me/sessions/{id}": guards.ANYBODY,
    "GET /v1/sessions": "tokens",
    "DELETE /v1/sessions/{id}": "tokens",
    "GET /v1/tokens": "tokens",
    "POST /v1/tokens": "tokens",
    "DELETE /v1/tokens/{id}": "tokens",
    "GET /v1/profiles": "read",
    "GET /v1/profiles/{name}": "read",
    "POST /v1/profiles": "enrol",
    "POST /v1/profiles/{name}/ranges": "enrol",
    "GET /v1/invitations": "enrol",
    "POST /v1/invitations": "enrol",
    "DELETE /v1/invitations/{id}": "enrol",
    "GET /v1/workloads": "read",
    "GET /v1/workloads/{name}": "read",
    "POST /v1/labels/plan": "read",
    "POST /v1/labels": "label",
    "POST /v1/modes/plan": "read",
    "POST /v1/modes": "mode",
    "POST /v1/workloads/{name}/retire": "enrol",
    "POST /v1/workloads/{name}/revoke": "certificates",
    "GET /v1/versions": "read",
    "GET /v1/versions/{number}": "read",
    "GET /v1/versions/{old}/diff/{new}": "read",
    "POST /v1/plan": "read",
    "POST /v1/apply": "publish",
    "POST /v1/rollback": "publish",
    "GET /v1/rollout": "read",
    "POST /v1/rollout/go-on": "rollout",
    "POST /v1/rollout/stop": "rollout",
    "GET /v1/proposals": "read",
    "GET /v1/proposals/{id}": "read",
    "POST /v1/proposals": "propose",
    "POST /v1/proposals/{id}/approve": "approve",
    "POST /v1/proposals/{id}/reject": "read",
    "GET /v1/quarantines": "read",
    "POST /v1/quarantines": "quarantine",
    "POST /v1/quarantines/plan": "read",
    "POST /v1/quarantines/release": "release",
    "GET /v1/alerts": "read",
    "GET /v1/alerts/{id}": "read",
    "POST /v1/alerts/{id}/acknowledge": "alerts",
    "POST /v1/alerts/{id}/resolve": "alerts",
    "GET /v1/events": "read",
    "GET /v1/audit": "audit",
    "GET /v1/audit/csv": "audit",
    "GET /v1/audit/verify": "audit",
    "GET /v1/evidence": "evidence",
    "POST /v1/evidence": "evidence",
    "GET /v1/evidence/{id}": "evidence",
    "POST /v1/evidence/{id}/delete": "erase",
    "POST /v1/backup": "backup",
    "POST /v1/confirm-restore": "backup",
    "GET /v1/conversations": "read",
    "POST /v1/explain": "read",
    "POST /v1/decide": "read",
    "POST /v1/reach": "read",
    "POST /v1/map": "read",
    "POST /v1/map/edge": "read",
    "POST /v1/map/near": "read",
    "POST /v1/flows": "read",
    "POST /v1/matrix": "read",
    "POST /v1/check": "read",
    "GET /v1/vocabulary": "read",
    "POST /v1/recommend": "read",
    "POST /v1/simulate": "read",
    "POST /v1/blast-radius": "read",
    "GET /v1/rules": "read",
    "GET /v1/posture": "read",
    "POST /v1/inventory": "label",
    "POST /v1/flows/import": "enrol",
    "GET /v1/jobs": "read",
    "GET /v1/jobs/{id}": "read",
    "POST /v1/demo": "enrol",
    "GET /v1/status": "read",
    "GET /v1/metrics": "read",
}
"""What each route takes, written a second time: whoever opens a route by mistake changes two places."""
STREAMS = {"GET /v1/events"}
"""Answers that do not end."""
GUARDED = sorted(name for name, right in RIGHT_OF.items() if right in RIGHTS)


def routes_of(app: Litestar) -> dict[str, object]:
    found = {}
    for route in app.routes:
        for handler in getattr(route, "route_handlers", []):
            for method in handler.http_methods - {"OPTIONS", "HEAD"}:
                path = "".join("{" + p.name + "}" if hasattr(p, "name") else f"/{p}" for p in route.path_components)
                path = path.replace("{", "/{").replace("//", "/")
                found[f"{method} {path}"] = handler.opt.get("right")
    return found


def test_every_route_says_which_right_it_takes(served: Serving) -> None:
    """The routes there are, and the right of each, are exactly those of the table above."""
    assert routes_of(served.api._requests._answers._api) == RIGHT_OF


class Asker:
    """A connection for each role, and one without a token."""

    def __init__(self, served: Serving) -> None:
        admin = served.client()
        self._served = served
        self._tokens = {role: admin.grant(Grant(f"some-{role}", (role,))) for role in ROLES}
        self._http = httpx.Client(base_url=served.controller.settings.url, verify=_context(served.ca), timeout=30)

    def ask(self, name: str, role: str | None, token: str = "") -> httpx.Response:
        """The request with a body that means nothing: who may not ask is told so before it is read."""
        method, path = name.split(" ")
        for part in ("{id}", "{name}"):
            path = path.replace(part, "nobody")
        for part in ("{number}", "{old}", "{new}"):
            path = path.replace(part, "999")
        token = token or (self._tokens[role] if role else "")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        content = b'{"nothing": "meant"}' if method == "POST" else None
        return self._http.request(method, path, headers=headers, content=content)


@pytest.fixture(scope="module")
def asker(served: Serving) -> Asker:
    return Asker(served)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", [name for name in GUARDED if name not in STREAMS])
def test_a_role_opens_its_routes_and_no_others(asker: Asker, name: str, role: Role) -> None:
    """403 with `not-allowed` exactly where the role lacks the right; what has it gets as far as the request itself."""
    answer = asker.ask(name, role)
    may = RIGHT_OF[name] in MAY[role]

    assert (answer.status_code != 403) == may, answer.text
    if not may:
        assert answer.json()["code"] == "not-allowed"
        assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code not in (401, 500), answer.text


@pytest.mark.parametrize("name", [*GUARDED, "GET /v1/me"])
def test_nobody_enters_without_a_token(asker: Asker, name: str) -> None:
    """401 with `token-refused`, whatever is asked."""
    answer = asker.ask(name, None)

    assert (answer.status_code, answer.json()["code"]) == (401, "token-refused")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_tokens_that_are_not_good_are_refused_alike(served: Serving, asker: Asker) -> None:
    """Forged, cut off, of another kind, revoked: 401, and nothing tells a guesser which id exists."""
    admin = served.client()
    good = admin.grant(Grant("eve", ("viewer",)))
    id_ = good.split("_")[1]
    forged = (f"rf_{id_}_{'x' * 43}", f"rf_000000000000_{'x' * 43}", good[:-1], good[3:], "rf_", "rf__", "x" * 10_000)
    answers = [asker.ask("GET /v1/status", None, token) for token in forged]

    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.json()["detail"] for answer in answers}) == 1
    assert asker.ask("GET /v1/status", None, good).status_code == 200
    admin.revoke_token(id_)
    assert asker.ask("GET /v1/status", None, good).json()["code"] == "token-refused"


def test_an_expired_token_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    """From the second it ends."""
    with serving(tmp_path_factory.mktemp("expiry")) as served:
        token = served.client().grant(Grant("ann", ("viewer",), expires=datetime.now(UTC) + timedelta(hours=1)))
        with served.client(token) as ann:
            assert ann.me().name == "ann"
            served.controller.granting._clock = lambda: datetime.now(UTC) + timedelta(hours=1)
            asker = httpx.Client(base_url=served.controller.settings.url, verify=_context(served.ca))
            answer = asker.get("/v1/status", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "token-refused")


@pytest.fixture(scope="module")
def worthless(served: Serving) -> dict[str, str]:
    """Tokens that open nothing, though each looks like one that does."""
    admin = served.client()
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    expired = admin.grant(Grant("late", ("administrator",), expires=soon))
    revoked, other = (admin.grant(Grant(name, ("administrator",))) for name in ("gone", "other"))
    admin.revoke_token(revoked.split("_")[1])
    eventually(lambda: datetime.now(UTC) > soon)
    forged = "_".join((*served.token.split("_", 2)[:2], other.split("_", 2)[2]))
    return {"expired": expired, "revoked": revoked, "forged": forged}


@pytest.mark.parametrize("kind", ["expired", "revoked", "forged"])
@pytest.mark.parametrize("name", [*GUARDED, "GET /v1/me", "GET /v1/session", "DELETE /v1/session"])
def test_a_token_that_was_good_opens_no_route(asker: Asker, worthless: dict[str, str], name: str, kind: str) -> None:
    """Expired, revoked, or another token's secret beside the id of a good one: 401 on every route, an
    administrator's though it was."""
    answer = asker.ask(name, None, worthless[kind])
    assert (answer.status_code, answer.json()["code"]) == (401, "token-refused")


@pytest.mark.parametrize("name", [name for name in GUARDED if name not in STREAMS])
def test_a_scope_adds_no_right(asker: Asker, served: Serving, name: str) -> None:
    """An author of one application opens the routes of an author, none besides."""
    if "scoped" not in asker._tokens:
        asker._tokens["scoped"] = served.client().grant(Grant("scoped", ("author",), scope="app=shop"))
    answer = asker.ask(name, "scoped")
    assert (answer.status_code != 403) == (RIGHT_OF[name] in MAY["author"]), answer.text


@cache
def _nonsense() -> tuple[bytes, ...]:
    words = (b"", b"{", b"[1]", b"null", b'"x"', b"\xff\xfe", b'{"a":' * 5000, b"9" * 5000)
    return (*words, body(name=1), body(name="x", rolls=["viewer"]), body(base=1 << 70, to=1 << 70))


WITHOUT_SHAPE = {"POST /v1/rollout/go-on", "POST /v1/flows/import"}
"""What takes no body, and what takes any bytes as a file."""


@pytest.mark.parametrize("name", sorted(n for n in RIGHT_OF if n.startswith("POST") and n not in WITHOUT_SHAPE))
def test_a_body_that_cannot_be_read_is_the_askers_fault(served: Serving, name: str) -> None:
    """4xx with a code for whatever bytes: never 500, and nothing is done."""
    http = httpx.Client(
        base_url=served.controller.settings.url,
        verify=_context(served.ca),
        headers={"Authorization": f"Bearer {served.token}"},
        timeout=30,
    )
    path = name.split(" ")[1].replace("{id}", "nobody").replace("{name}", "nobody")
    for content in _nonsense():
        answer = http.post(path, content=content)
        assert 400 <= answer.status_code < 500, (content[:20], answer.text)
        assert answer.json()["code"]


def test_too_large_a_body_is_not_read(served: Serving) -> None:
    """413 with `body-too-large`, for people and for hosts that join, with and without an idempotency key."""
    http = httpx.Client(base_url=served.controller.settings.url, verify=_context(served.ca), timeout=60)
    token = {"Authorization": f"Bearer {served.token}"}
    large = b" " * (9 << 20)
    answers = [
        http.post("/v1/plan", content=large, headers=token),
        http.post("/v1/plan", content=large, headers={**token, "Idempotency-Key": "k"}),
        http.post("/v1/agents/enrol", content=b" " * (300 << 10)),
    ]

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(413, "body-too-large")] * 3


TRICKS = (
    "/v1/evidence/../../ca.json", "/v1/evidence/..%2f..%2fca.json", "/v1/evidence/%2e%2e%2f%2e%2e%2fca.json",
    "/v1/workloads/..%2fstatus", "/v1/../v1/status/..", "/v1/versions/-1", "/v1/versions/1e3",
    "/v1/versions/99999999999999999999", "/v1/evidence/%00", "/v1/STATUS", "/v1/tokens/a%0d%0aX-Y:%20z",
)  # fmt: skip


@pytest.mark.parametrize("path", TRICKS)
def test_a_path_leads_where_a_route_is_or_nowhere(served: Serving, path: str) -> None:
    """Dots, encoded slashes, numbers beyond any: 4xx, no file, no other route, no fault."""
    http = httpx.Client(
        base_url=served.controller.settings.url,
        verify=_context(served.ca),
        headers={"Authorization": f"Bearer {served.token}"},
    )
    answer = http.get(httpx.URL(served.controller.settings.url).copy_with(raw_path=path.encode()))

    assert answer.status_code in (400, 404, 405), answer.text
    assert "PRIVATE KEY" not in answer.text
    assert "x-y" not in answer.headers


def test_plain_http_and_old_tls_are_not_spoken(served: Serving) -> None:
    """TLS 1.3 or nothing."""
    import ssl

    context = _context(served.ca)
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    url = served.controller.settings.url
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/v1/alive", verify=context)
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{url.replace('https', 'http')}/v1/alive")
    assert httpx.get(f"{url}/v1/alive", verify=_context(served.ca)).text == "ok\n"
