"""Signing in through a provider of identities: a certified one (npm `oidc-provider`) on loopback, and one that lies."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from serving import Serving, serving

from ringfence.api.guards import COOKIE
from ringfence.api.sessions import ATTEMPT
from ringfence.client.client import _context
from ringfence.controller.access.group_roles import Oidc, Worth
from ringfence.controller.access.oidc import SKEW_S, Metadata, Provider
from ringfence.controller.access.sessions import MOST
from ringfence.core.errors import InputError, RingfenceError

FOLDER = Path(__file__).parents[1] / "oidc"
HERE = "https://ringfence.test"
CALLBACK = f"{HERE}/v1/login/oidc/callback"
SECRET = "a secret: of/the+client"
ACCOUNTS = {
    "u-ann": {"preferred_username": "ann@example.com", "groups": ["ringfence-admins", "staff"]},
    "u-bob": {"preferred_username": "bob@example.com", "groups": ["team-shop", "team-pay", "ringfence-viewers"]},
    "u-eve": {"preferred_username": "eve@example.com", "groups": ["staff"]},
    "u-mal": {"preferred_username": "mal@example.com", "groups": ["team-a,env=prod", "team-", "team-*"]},
    "u-ctl": {"preferred_username": "controller", "groups": ["ringfence-admins"]},
    "u-nil": {"groups": ["ringfence-admins"]},
}
ROLES: dict[str, Any] = {
    "ringfence-admins": "administrator",
    "ringfence-viewers": "viewer",
    "team-*": Worth(("author",), "team=*"),
}
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(
    NODE is None or not (FOLDER / "node_modules").is_dir(), reason="node or tests/oidc/node_modules is missing"
)


def started(*words: str) -> tuple[subprocess.Popen[str], str]:
    assert NODE is not None
    process = subprocess.Popen(
        [NODE, str(FOLDER / "provider.mjs"), CALLBACK, json.dumps(ACCOUNTS), *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())["issuer"]


def stopped(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait(10)


def oidc(address: str, folder: Path, **changed: Any) -> Oidc:
    secret = folder / "oidc-secret"
    secret.write_text(f"{SECRET}\n")
    secret.chmod(0o600)
    return msgspec.structs.replace(Oidc(address, "ringfence", ROLES, str(secret)), **changed)


@pytest.fixture(scope="module", params=["", "in-token"], ids=["userinfo", "id-token"])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, str]]:
    """A controller, and the provider it believes, which tells the claims where the name of the test says."""
    process, issuer = started(request.param)
    folder = tmp_path_factory.mktemp("oidc")
    with serving(folder / "c", public_url=HERE, oidc=oidc(issuer, folder)) as made:
        yield made, issuer
    stopped(process)


class Browser:
    """What a browser does: it follows, and keeps cookies, here and at the provider."""

    def __init__(self, served: Serving) -> None:
        self.url = served.controller.settings.url
        self.here = httpx.Client(base_url=self.url, verify=_context(served.ca), timeout=30)
        self.there = httpx.Client(timeout=30)

    def leave(self, path: str = "/v1/login/oidc") -> str:
        """Where it is sent to."""
        answer = self.here.get(path)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def through(self, url: str, account: str) -> str:
        """Through the provider as somebody; the address that it comes back with."""
        for _ in range(6):
            answer = self.there.get(url)
            assert answer.status_code in (302, 303), (url, answer.text)
            url = str(httpx.URL(url).join(answer.headers["location"]))
            if url.startswith(CALLBACK):
                return url.removeprefix(HERE)
            if "/interaction/" in url:
                url += f"?as={account}"
        raise AssertionError("it does not come back")

    def sign_in(self, account: str, path: str = "/v1/login/oidc") -> httpx.Response:
        return self.here.get(self.through(self.leave(path), account))


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# ---- the real one ----------------------------------------------------------------------------------------------------


@needs_node
def test_a_member_of_the_right_group_is_let_in(real: tuple[Serving, str]) -> None:
    """With the name, roles and right that the provider's word is worth, back at the page that was asked for; signing
    out leads to the provider, too."""
    served, issuer = real
    browser = Browser(served)
    answer = browser.sign_in("u-ann", "/v1/login/oidc?then=/workloads")

    assert (answer.status_code, answer.headers["location"]) == (303, "/workloads")
    session = browser.here.get("/v1/session").json()
    assert (session["me"]["name"], session["me"]["roles"]) == ("ann@example.com", ["administrator"])
    assert session["provider"] == issuer
    assert session["sign_out"].startswith(f"{issuer}/session/end?")
    assert ATTEMPT not in browser.here.cookies
    headers = {"Origin": HERE, "X-CSRF-Token": session["csrf"]}
    profile = {"name": f"web-{time.monotonic_ns()}", "labels": {}}
    assert browser.here.post("/v1/profiles", json=profile, headers=headers).status_code == 201
    assert served.client().profiles()[-1].created_by == "ann@example.com"
    assert browser.there.get(session["sign_out"]).status_code == 200
    assert browser.here.delete("/v1/session", headers=headers).status_code == 204
    assert code_of(browser.here.get("/v1/me")) == (401, "token-refused")


@needs_node
def test_roles_of_two_teams_stay_apart(real: tuple[Serving, str]) -> None:
    """Each group's role is over its own scope: an author of two teams is one of both and of nothing else."""
    served, _ = real
    browser = Browser(served)
    browser.sign_in("u-bob")
    powers = browser.here.get("/v1/me").json()["powers"]
    assert sorted((p["roles"][0], p.get("scope")) for p in powers) == [
        ("author", "team=pay"), ("author", "team=shop"), ("viewer", None)]  # fmt: skip


@needs_node
@pytest.mark.parametrize("account", ["u-eve", "u-mal"])
def test_who_is_in_no_group_that_counts_is_refused(real: tuple[Serving, str], account: str) -> None:
    """Nobody has a role by default, and no name of a group widens a scope."""
    browser = Browser(real[0])
    assert code_of(browser.sign_in(account)) == (403, "no-role")
    assert COOKIE not in browser.here.cookies


@needs_node
@pytest.mark.parametrize("account", ["u-ctl", "u-nil"])
def test_who_has_no_name_of_their_own_is_refused(real: tuple[Serving, str], account: str) -> None:
    """None at all, or that of the controller itself."""
    assert code_of(Browser(real[0]).sign_in(account)) == (403, "sign-in-refused")


@needs_node
def test_who_does_not_sign_in_there_is_refused_here(real: tuple[Serving, str]) -> None:
    """With the provider's own word for it."""
    answer = Browser(real[0]).sign_in("nobody")
    assert code_of(answer) == (403, "sign-in-refused")
    assert "access_denied" in answer.json()["message"]


@needs_node
def test_a_browser_that_is_refused_is_shown_a_page(real: tuple[Serving, str]) -> None:
    """With the code alone in its address, and nobody signed in; whoever asks for no page is told the problem."""
    for account, code in (("u-eve", "no-role"), ("nobody", "sign-in-refused")):
        browser = Browser(real[0])
        back = browser.through(browser.leave(), account)
        answer = browser.here.get(back, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        assert (answer.status_code, answer.headers["location"]) == (303, f"/login?problem={code}")
        assert COOKIE not in browser.here.cookies
        assert answer.content == b""


@needs_node
def test_sessions_of_one_account_are_told_to_it(real: tuple[Serving, str]) -> None:
    """Wherever it signed in, and nobody else's."""
    one, two, bob = (Browser(real[0]) for _ in range(3))
    for browser, account in ((one, "u-ann"), (two, "u-ann"), (bob, "u-bob")):
        browser.sign_in(account)
    mine = one.here.get("/v1/me/sessions").json()
    assert {told["name"] for told in mine} == {"ann@example.com"}
    assert [told["is_this"] for told in mine[-2:]] == [True, False]
    assert {told["name"] for told in bob.here.get("/v1/me/sessions").json()} == {"bob@example.com"}


@needs_node
def test_a_code_is_good_once(real: tuple[Serving, str]) -> None:
    """The same answer again, from the same browser or with its cookie kept, opens nothing."""
    browser = Browser(real[0])
    back = browser.through(browser.leave(), "u-ann")
    kept = browser.here.cookies[ATTEMPT]
    assert browser.here.get(back).status_code == 303
    assert code_of(browser.here.get(back)) == (403, "sign-in-refused")
    copy = Browser(real[0])
    copy.here.cookies.set(ATTEMPT, kept)
    assert code_of(copy.here.get(back)) == (403, "sign-in-refused")


@needs_node
def test_an_answer_is_good_in_the_browser_that_asked(real: tuple[Serving, str]) -> None:
    """Not in another one, not for another attempt, not with its state or issuer changed, not without a code."""
    browser, victim = Browser(real[0]), Browser(real[0])
    back = browser.through(browser.leave(), "u-ann")
    assert code_of(victim.here.get(back)) == (403, "sign-in-refused")
    victim.leave()
    assert code_of(victim.here.get(back)) == (403, "sign-in-refused")
    query = parse_qs(urlsplit(back).query)
    for changed in (
        {"state": ["x" * 43]}, {"state": [""]}, {"iss": ["https://evil.example"]}, {"iss": []}, {"code": []},
        {"code": ["x" * 43]},
    ):  # fmt: skip
        said = {key: values[0] for key, values in {**query, **changed}.items() if values}
        assert code_of(browser.here.get("/v1/login/oidc/callback", params=said)) == (403, "sign-in-refused"), changed


@needs_node
def test_a_key_that_was_changed_is_followed(real: tuple[Serving, str]) -> None:
    """The provider signs with a new key: the next to sign in is let in."""
    served, issuer = real
    assert Browser(served).sign_in("u-ann").status_code == 303
    assert httpx.post(f"{issuer}/test/rotate").text == "rotated"
    provider = served.controller.provider
    assert provider is not None
    assert provider._keys is not None
    provider._keys = (provider._keys[0] - 60, provider._keys[1])
    assert Browser(served).sign_in("u-ann").status_code == 303


# ---- one that lies ---------------------------------------------------------------------------------------------------


class Liar:
    """A provider whose every word a test can change."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "one", "alg": "RS256", "use": "sig"})
        self.published = [self.key.as_dict(private=False)]
        self.metadata: dict[str, Any] = {}
        self.token: Callable[[dict[str, Any]], str] = self.sign
        self.claims: dict[str, Any] = {}
        self.userinfo: dict[str, Any] | None = None
        self.nonce = ""
        self.fetched = 0
        liar = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._tell(liar.get(self.path))

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self._tell({"id_token": liar.token(liar.told()), "access_token": "a", "token_type": "Bearer"})

            def _tell(self, said: Any) -> None:
                content = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def get(self, path: str) -> Any:
        if path == "/keys":
            self.fetched += 1
            return {"keys": self.published}
        if path == "/me":
            return self.userinfo
        names = {"authorization_endpoint": "/auth", "token_endpoint": "/token", "jwks_uri": "/keys"}
        said: dict[str, Any] = {"issuer": self.issuer} | {key: self.issuer + path for key, path in names.items()}
        return said | ({"userinfo_endpoint": f"{self.issuer}/me"} if self.userinfo else {}) | self.metadata

    def told(self) -> dict[str, Any]:
        now = int(time.time())
        good = {
            "iss": self.issuer, "aud": "ringfence", "sub": "u-ann", "exp": now + 300, "iat": now, "nonce": self.nonce,
            "preferred_username": "ann", "groups": ["ringfence-admins"],
        }  # fmt: skip
        return {key: value for key, value in {**good, **self.claims}.items() if value is not None}

    def sign(self, claims: dict[str, Any]) -> str:
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key)


@pytest.fixture(scope="module")
def lied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, Liar]]:
    liar = Liar()
    folder = tmp_path_factory.mktemp("liar")
    with serving(folder / "c", public_url=HERE, oidc=oidc(liar.issuer, folder)) as made:
        yield made, liar
    liar.server.shutdown()


@pytest.fixture
def liar(lied: tuple[Serving, Liar]) -> Liar:
    """Honest again."""
    made = lied[1]
    made.claims, made.metadata, made.userinfo, made.token = {}, {}, None, made.sign
    made.published = [made.key.as_dict(private=False)]
    provider = lied[0].controller.provider
    assert provider is not None
    provider._metadata = provider._keys = provider._failure = None
    return made


def come_back(served: Serving, liar: Liar, *, nonce: str = "") -> httpx.Response:
    browser = Browser(served)
    asked = parse_qs(urlsplit(browser.leave()).query)
    assert asked["code_challenge_method"] == ["S256"]
    liar.nonce = nonce or asked["nonce"][0]
    return browser.here.get("/v1/login/oidc/callback", params={"code": "c", "state": asked["state"][0]})


def test_a_good_token_is_believed(lied: tuple[Serving, Liar], liar: Liar) -> None:
    """Everything below is refused for what it says there, and nothing else."""
    assert come_back(lied[0], liar).status_code == 303


def signed_in(served: Serving, liar: Liar) -> Browser:
    browser = Browser(served)
    asked = parse_qs(urlsplit(browser.leave()).query)
    liar.nonce = asked["nonce"][0]
    back = browser.here.get("/v1/login/oidc/callback", params={"code": "c", "state": asked["state"][0]})
    assert back.status_code == 303
    return browser


@pytest.fixture
def provider(lied: tuple[Serving, Liar]) -> Iterator[Provider]:
    """Whose settings are put back."""
    made = lied[0].controller.provider
    assert made is not None
    settings = made.settings
    yield made
    made.settings = settings


def test_a_session_is_worth_what_the_lines_of_now_say(
    lied: tuple[Serving, Liar], liar: Liar, provider: Provider
) -> None:
    """A line that changes changes what somebody who is signed in may do, with the very next request; one that goes
    shows them out, of the list of sessions, too."""
    served = lied[0]
    browser = signed_in(served, liar)
    assert browser.here.get("/v1/me").json()["roles"] == ["administrator"]
    as_admin = {"Authorization": f"Bearer {served.token}"}
    assert "u-ann" in browser.here.get("/v1/sessions", headers=as_admin).text

    confined = {"ringfence-admins": Worth(("author",), "team=shop")}
    provider.settings = msgspec.structs.replace(provider.settings, roles=confined)
    me = browser.here.get("/v1/me").json()
    assert (me["roles"], me["scope"]) == (["author"], "team=shop")
    assert code_of(browser.here.get("/v1/tokens")) == (403, "not-allowed")

    provider.settings = msgspec.structs.replace(provider.settings, roles={"staff": "viewer"})
    assert code_of(browser.here.get("/v1/me")) == (401, "session-refused")
    assert "u-ann" not in browser.here.get("/v1/sessions", headers=as_admin).text


@pytest.mark.parametrize("changed", [{"claim": "roles"}, {"issuer": "https://other.example"}])
def test_the_word_of_another_provider_or_claim_is_worth_nothing(
    lied: tuple[Serving, Liar], liar: Liar, provider: Provider, changed: dict[str, str]
) -> None:
    """Who was signed in by what is not believed any more is signed in no more."""
    browser = signed_in(lied[0], liar)
    provider.settings = msgspec.structs.replace(provider.settings, **changed)
    assert code_of(browser.here.get("/v1/me")) == (401, "session-refused")


def test_nobody_has_sessions_without_end(lied: tuple[Serving, Liar], liar: Liar) -> None:
    """The oldest ends when one more than so many begins; another person's stay."""
    liar.claims = {"sub": "u-other"}
    other = signed_in(lied[0], liar)
    liar.claims = {"sub": "u-many"}
    browsers = [signed_in(lied[0], liar) for _ in range(MOST + 2)]
    states = [browser.here.get("/v1/me").status_code for browser in (other, *browsers)]
    assert states == [200, 401, 401, *[200] * MOST]


NOW = int(time.time())
FAR = 10 * SKEW_S + 3600


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"}, {"iss": None}, {"aud": "another"}, {"aud": None}, {"aud": []}, {"sub": None},
        {"aud": ["ringfence", "another"]}, {"aud": ["ringfence", "another"], "azp": "another"}, {"azp": "another"},
        {"exp": NOW - FAR}, {"exp": None}, {"exp": "never"}, {"iat": NOW + FAR, "exp": NOW + 2 * FAR},
        {"iat": NOW - FAR}, {"iat": None}, {"nbf": NOW + FAR}, {"nonce": None}, {"nonce": "replayed"}, {"nonce": 1},
        {"preferred_username": None}, {"preferred_username": "a\nb"}, {"preferred_username": ["x"] * 0},
    ],
)  # fmt: skip
def test_a_token_that_says_something_else_is_refused(
    lied: tuple[Serving, Liar], liar: Liar, claims: dict[str, Any]
) -> None:
    """Of another issuer, for another client, expired, of tomorrow, of another attempt, of nobody: though signed."""
    liar.claims = claims
    answer = come_back(lied[0], liar)
    assert code_of(answer) == (403, "sign-in-refused")
    assert "set-cookie" not in answer.headers


def test_clocks_may_differ_a_little(lied: tuple[Serving, Liar], liar: Liar) -> None:
    """By less than a minute, either way; several audiences are good with `azp`."""
    now = int(time.time())
    for claims in ({"exp": now - 20}, {"iat": now + 20}, {"aud": ["ringfence", "other"], "azp": "ringfence"}):
        liar.claims = claims
        assert come_back(lied[0], liar).status_code == 303, claims


def _unsigned(claims: dict[str, Any], alg: str = "none") -> str:
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": alg, "kid": "one"}, claims)
    )
    return f"{head}.{body}."


OTHER = RSAKey.generate_key(2048, {"kid": "one"})


@pytest.mark.parametrize("forge", ["none", "unsigned", "other-key", "hmac", "no-key", "cut", "nonsense", "encrypted"])
def test_a_token_nobody_signed_is_refused(lied: tuple[Serving, Liar], liar: Liar, forge: str) -> None:
    """No algorithm, no signature, another key, the public key as a password, cut off, no token at all."""
    password = OctKey.import_key(base64.urlsafe_b64encode(liar.key.as_pem(private=False)))
    liar.token = {
        "none": _unsigned,
        "unsigned": lambda claims: _unsigned(claims, "RS256"),
        "other-key": lambda claims: jwt.encode({"alg": "RS256", "kid": "one"}, claims, OTHER),
        "hmac": lambda claims: jwt.encode({"alg": "HS256", "kid": "one"}, claims, password),
        "no-key": lambda claims: jwt.encode({"alg": "RS256", "kid": "other"}, claims, OTHER),
        "cut": lambda claims: liar.sign(claims)[:-20],
        "nonsense": lambda _: "a.b.c" * 100,
        "encrypted": lambda _: "a.b.c.d.e",
    }[forge]
    assert code_of(come_back(lied[0], liar)) == (403, "sign-in-refused")


def test_a_token_of_another_attempt_is_refused(lied: tuple[Serving, Liar], liar: Liar) -> None:
    """A token that was good a moment ago is not good again."""
    told: list[str] = []

    def keep(claims: dict[str, Any]) -> str:
        told.append(liar.sign(claims))
        return told[0]

    liar.token = keep
    assert come_back(lied[0], liar).status_code == 303
    answer = come_back(lied[0], liar)
    assert code_of(answer) == (403, "sign-in-refused")
    assert "nonce" in answer.json()["message"]


def test_keys_are_not_fetched_for_every_forgery(lied: tuple[Serving, Liar], liar: Liar) -> None:
    """Whoever sends tokens nobody signed makes this controller ask for keys once in a while only."""
    liar.token = lambda claims: jwt.encode({"alg": "RS256", "kid": "one"}, claims, OTHER)
    come_back(lied[0], liar)
    before = liar.fetched
    for _ in range(5):
        come_back(lied[0], liar)
    assert liar.fetched - before <= 1


def test_userinfo_of_somebody_else_is_refused(lied: tuple[Serving, Liar], liar: Liar) -> None:
    """Claims count only where they speak of the one who signed in."""
    liar.claims = {"groups": None}
    liar.userinfo = {"sub": "u-bob", "groups": ["ringfence-admins"]}
    assert code_of(come_back(lied[0], liar)) == (403, "sign-in-refused")
    liar.userinfo = {"sub": "u-ann", "groups": ["ringfence-admins"], "iss": "x"}
    liar.metadata = {"userinfo_endpoint": f"{liar.issuer}/me"}
    assert come_back(lied[0], liar).status_code == 303


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"}, {"token_endpoint": "http://evil.example/token"}, {"jwks_uri": None},
        {"token_endpoint": "file:///etc/passwd"}, {"jwks_uri": "http://127.0.0.1:1/keys"},
    ],
)  # fmt: skip
def test_a_provider_that_cannot_be_asked_is_told(
    lied: tuple[Serving, Liar], liar: Liar, metadata: dict[str, Any]
) -> None:
    """503 with the reason; nobody is let in, and signing in with a token goes on."""
    liar.metadata = metadata
    browser = Browser(lied[0])
    answer = browser.here.get("/v1/login/oidc")
    if answer.status_code == 303:
        asked = parse_qs(urlsplit(answer.headers["location"]).query)
        answer = browser.here.get("/v1/login/oidc/callback", params={"code": "c", "state": asked["state"][0]})
    assert code_of(answer) == (503, "provider-unreachable")
    assert browser.here.post("/v1/session", json={"token": lied[0].token}).status_code == 201


@pytest.mark.parametrize(
    "then",
    ["//evil.example", "https://evil.example", "/\\evil.example", "/a b", "workloads", "/\n", "/\u4e2d", "/\x00"],
)
def test_it_leads_to_no_other_site(lied: tuple[Serving, Liar], liar: Liar, then: str) -> None:
    """After signing in the browser is sent to a path of ours or nowhere."""
    answer = Browser(lied[0]).here.get("/v1/login/oidc", params={"then": then})
    assert code_of(answer) == (400, "bad-request")


def test_nobody_waits_for_a_provider_behind_others(tmp_path: Path) -> None:
    """One that does not answer is asked once in a while, not once for everybody; where to sign out is known without
    asking."""

    async def story() -> None:
        asked = 0

        async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            asked += 1
            writer.close()

        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            provider = Provider(oidc(url, tmp_path), lambda: datetime.now(UTC))
            for _ in range(5):
                with pytest.raises(RingfenceError, match="cannot be asked"):
                    await provider.metadata()
            assert asked == 1
            about = Metadata(url, url, url, url, end_session_endpoint=f"{url}/out")
            provider._metadata = (time.monotonic() - 1e6, about)
            assert (await provider.sign_out("https://here/")).startswith(f"{url}/out")
            assert asked == 1

    asyncio.run(story())


def test_without_a_provider_there_is_no_such_way(served: Serving) -> None:
    """The page to sign in knows beforehand."""
    browser = Browser(served)
    assert code_of(browser.here.get("/v1/login/oidc")) == (404, "no-provider")
    assert code_of(browser.here.get("/v1/login/oidc/callback")) == (404, "no-provider")
    assert browser.here.get("/v1/login").json() == {"token": True, "provider": "", "name": ""}


# ---- what the settings may say ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": "http://sso.example.com"}, {"issuer": "sso.example.com"}, {"issuer": "https://x?y"},
        {"issuer": "https://[x"}, {"roles": {}}, {"roles": {"*": "viewer"}}, {"roles": {"": "viewer"}},
        {"roles": {"a*b*": "viewer"}}, {"roles": {"a": Worth(("administrator",), "app=shop")}},
        {"roles": {"a": Worth(("author",), "team=*")}}, {"roles": {"a": Worth(("author",), "team==,")}},
        {"roles": {"a": Worth(("author",), "team=a,team=b")}}, {"scopes": ("profile",)},
        {"secret_file": "/nowhere"}, {"ca_file": "/nowhere"},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant_are_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    """At the start, with what is wrong: never a role for everybody, never a word that others can read on its way."""
    from ringfence.controller.access.oidc import Provider

    with pytest.raises(InputError) as error:
        Provider(oidc("https://sso.example.com", tmp_path, **changed), lambda: None)  # type: ignore[arg-type, return-value]
    assert error.value.code == "bad-oidc"


@pytest.mark.parametrize(
    ("claims", "claim", "wanted"),
    [
        ({"groups": ["team-shop"]}, "groups", {"team=shop"}),
        ({"groups": "team-shop"}, "groups", {"team=shop"}),
        ({"groups": ["team-shop", "team-shop", "x", 7, None]}, "groups", {"team=shop"}),
        ({"realm_access": {"roles": ["team-a", "team-b"]}}, "realm_access.roles", {"team=a", "team=b"}),
        ({"https://x.example/groups": ["team-a"]}, "https://x.example/groups", {"team=a"}),
        ({"groups": {"team-a": 1}}, "groups", set()),
        ({"groups": ["team-", "team", "ateam-x", "team-a,env=prod", "team-a b", "TEAM-a", "team-é"]}, "groups", set()),
    ],
)
def test_what_a_claim_is_worth(claims: dict[str, Any], claim: str, wanted: set[str]) -> None:
    """The value itself, or what its `*` stands for where that is the value of a label."""
    said = Oidc("https://x", "c", {"team-*": Worth(("author",), "team=*")}, claim=claim)
    assert {power.scope for power in said.worth(said.claimed(claims))} == wanted
