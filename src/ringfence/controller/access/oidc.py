"""Signing in through a provider of identities: OpenID Connect Core 1.0, the authorization code with PKCE (RFC 7636).

    begun = await provider.begin(redirect)              -> where the browser goes, and what it keeps meanwhile
    known = await provider.finish(query, kept, redirect) -> who came back

What belongs to one attempt (state, nonce, verifier) lies sealed in a cookie of the browser that made it: an answer is
good for that browser only, and nothing is remembered that somebody could make this controller remember.

INVARIANT: who somebody is, is believed only from an ID token that a key of the provider signed, for this client, now,
for this attempt. Keys are fetched again when one is not known or does not fit, once every `_KEYS_PAUSE_S` at most.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import httpx
import msgspec
from joserfc import jwt
from joserfc.errors import ClaimError, JoseError
from joserfc.jwk import KeySet
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox
from nacl.utils import random

from ringfence.controller.access.access import AccessError, Power
from ringfence.controller.access.group_roles import Claimed, Oidc, bad, check_address, values_of
from ringfence.core.errors import InputError, RingfenceError
from ringfence.durable import read_secret

LASTS_S = 600
"""An attempt to sign in."""
SKEW_S = 60
"""Clocks differ by no more."""
_OLDEST_S = 600
"""An ID token is used at once."""
_METADATA_S = 3600.0
_KEYS_PAUSE_S = 5.0
_AGAIN_S = 15.0
"""So long a provider that does not answer is not asked what it says of itself: nobody waits behind others who wait."""
_TIMEOUT = httpx.Timeout(10.0)
_MOST_BYTES = 1 << 20
_ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA",
)  # fmt: skip
"""Signatures with a key that only the provider has: never `none`, never a shared secret."""
_RESERVED = frozenset({"controller"})
_UNREADABLE = (JoseError, ValueError, TypeError, KeyError, AttributeError)


class Metadata(msgspec.Struct, frozen=True):
    """What a provider says of itself (OpenID Connect Discovery 1.0, section 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str = ""
    end_session_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Attempt(msgspec.Struct, frozen=True):
    """One attempt to sign in."""

    state: str
    nonce: str
    verifier: str
    at: float
    next: str = "/"
    """Where the browser goes afterwards."""


class Begun(NamedTuple):
    url: str
    kept: str
    """Sealed, for a cookie."""


class Known(NamedTuple):
    """Somebody, as the provider knows them."""

    name: str
    subject: str
    """`issuer subject`."""
    claimed: Claimed
    next: str


class Provider:
    """The provider of identities of one controller."""

    def __init__(self, settings: Oidc, clock: Callable[[], datetime]) -> None:
        """Raises InputError `bad-oidc`, `secret-exposed`."""
        settings.check()
        self.settings, self._clock = settings, clock
        self._box = SecretBox(random(SecretBox.KEY_SIZE))
        self._secret()
        self._context = _context(settings.ca_file)
        self._metadata: tuple[float, Metadata] | None = None
        self._failure: tuple[float, RingfenceError] | None = None
        self._keys: tuple[float, KeySet] | None = None
        self._fetching = asyncio.Lock()

    def worth(self, subject: str, said: Claimed) -> tuple[Power, ...]:
        """What somebody (`issuer subject`) may do now by what was said of them when they signed in; nothing, if another
        provider said it."""
        return self.settings.worth(said) if subject.startswith(f"{self.settings.issuer} ") else ()

    # ---- the attempt ------------------------------------------------------------------------------------------------

    async def begin(self, redirect: str, *, then: str = "/") -> Begun:
        """Raises RingfenceError `provider-unreachable`."""
        about = await self.metadata()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        attempt = Attempt(state, nonce, verifier, self._now, then)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(attempt.verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect,
            "scope": " ".join(self.settings.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        kept = base64.urlsafe_b64encode(self._box.encrypt(msgspec.json.encode(attempt))).decode()
        return Begun(_with(about.authorization_endpoint, asked), kept)

    async def finish(self, query: Mapping[str, str], kept: str, redirect: str) -> Known:
        """Raises AccessError `sign-in-refused`, `no-role`, RingfenceError `provider-unreachable`."""
        attempt = self._attempt(kept, query.get("state", ""))
        about = await self.metadata()
        issuer = query.get("iss", "")  # RFC 9207: whose answer it is
        if issuer != about.issuer and (issuer or about.authorization_response_iss_parameter_supported):
            raise _refused("the answer is another provider's")
        if "error" in query:
            raise _refused(f"the provider says `{_plain(query['error'])}`")
        if not query.get("code"):
            raise _refused("the answer has no code")
        told = await self._exchange(about, query["code"], attempt, redirect)
        claims = await self._verified(about, str(told.get("id_token") or ""), attempt.nonce)
        claims = await self._completed(about, claims, str(told.get("access_token") or ""))
        return self._known(claims, attempt)

    def _attempt(self, kept: str, state: str) -> Attempt:
        """What the browser kept. Raises AccessError `sign-in-refused`: it is not this browser's attempt."""
        try:
            opened = self._box.decrypt(base64.urlsafe_b64decode(kept.encode()))
            attempt = msgspec.json.decode(opened, type=Attempt)
        except (CryptoError, ValueError, TypeError) as error:
            raise _refused("this browser did not begin it, or too long ago") from error
        if not hmac.compare_digest(attempt.state.encode(), state.encode()):
            raise _refused("it is the answer to another attempt")
        if not 0 <= self._now - attempt.at <= LASTS_S:
            raise _refused("it took too long")
        return attempt

    async def _exchange(self, about: Metadata, code: str, attempt: Attempt, redirect: str) -> Mapping[str, Any]:
        """The code for tokens (RFC 6749, 4.1.3). Raises AccessError `sign-in-refused`."""
        said = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
            "code_verifier": attempt.verifier,
        }
        client, secret = self.settings.client_id, self._secret()
        headers = {}
        if not secret or "client_secret_basic" not in about.token_endpoint_auth_methods_supported:
            said |= {"client_id": client} | ({"client_secret": secret} if secret else {})
        else:  # RFC 6749, 2.3.1: form-encoded first
            pair = f"{quote(client, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        answer = await self._ask("POST", about.token_endpoint, data=said, headers=headers)
        if answer.status_code != 200:
            why = _object(answer).get("error", answer.status_code)
            raise _refused(f"the provider does not take the code: `{_plain(str(why))}`")
        return _object(answer)

    # ---- the ID token (OpenID Connect Core, 3.1.3.7) ----------------------------------------------------------------

    async def _verified(self, about: Metadata, token: str, nonce: str) -> Mapping[str, Any]:
        claims = await self._signed(about, token)
        client, now = self.settings.client_id, int(self._now)
        needed: dict[str, Any] = {
            "iss": {"essential": True, "value": about.issuer},
            "aud": {"essential": True, "value": client},
            "sub": {"essential": True},
            "exp": {"essential": True},
            "iat": {"essential": True},
        }
        try:
            jwt.JWTClaimsRegistry(now=now, leeway=SKEW_S, **needed).validate(dict(claims))
        except ClaimError as error:
            raise _refused(f"its token is not good: {_plain(str(error))}") from error
        if now - claims["iat"] > _OLDEST_S:
            raise _refused("its token is too old")
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        party = claims.get("azp")
        if party != client and (party is not None or len(audience) > 1):
            raise _refused("its token is for another client (`azp`)")
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise _refused("its token is for another attempt (`nonce`)")
        return claims

    async def _signed(self, about: Metadata, token: str) -> Mapping[str, Any]:
        """The claims, if a key of the provider signed them: the ones known here, else the ones it has now."""
        for is_last in (False, True):
            keys = await self._key_set(about, is_fresh=is_last)
            try:
                return jwt.decode(token, keys, algorithms=list(_ALGORITHMS)).claims
            except _UNREADABLE as error:
                if is_last:
                    raise _refused("no key of the provider signed its token") from error
        raise AssertionError("unreachable")

    async def _completed(self, about: Metadata, claims: Mapping[str, Any], access: str) -> Mapping[str, Any]:
        """With what only userinfo tells (section 5.3), if it speaks of the same person."""
        wanted = (self.settings.claim, self.settings.name_claim)
        if all(values_of(claims, path) for path in wanted) or not (access and about.userinfo_endpoint):
            return claims
        answer = await self._ask("GET", about.userinfo_endpoint, headers={"Authorization": f"Bearer {access}"})
        more = _object(answer) if answer.status_code == 200 else {}
        if more and more.get("sub") != claims["sub"]:
            raise _refused("userinfo speaks of somebody else")
        return {**more, **claims}

    def _known(self, claims: Mapping[str, Any], attempt: Attempt) -> Known:
        name = next(iter(values_of(claims, self.settings.name_claim)), "")
        if not name or len(name) > 253 or not name.isprintable() or name in _RESERVED:
            raise _refused(f"the provider does not say who it is (`{self.settings.name_claim}`)")
        claimed = self.settings.claimed(claims)
        if not claimed.values:
            help_ = (
                f"ask an administrator for a line under `[oidc.roles]`, or for a group (claim `{self.settings.claim}`)"
            )
            raise AccessError("no-role", f"`{_plain(name)}` is known, but has no role here", help=help_)
        return Known(name, f"{self.settings.issuer} {claims['sub']}", claimed, attempt.next)

    # ---- what the provider publishes --------------------------------------------------------------------------------

    async def metadata(self) -> Metadata:
        """Raises RingfenceError `provider-unreachable`."""
        async with self._fetching:
            if self._metadata is None or time.monotonic() - self._metadata[0] > _METADATA_S:
                self._metadata = (time.monotonic(), await self._asked_again())
            return self._metadata[1]

    async def _asked_again(self) -> Metadata:
        if self._failure is not None and time.monotonic() - self._failure[0] < _AGAIN_S:
            error = self._failure[1]
            raise RingfenceError(error.code, error.message, help=error.help)
        try:
            return await self._discovered()
        except RingfenceError as error:
            self._failure = (time.monotonic(), error)
            raise

    async def _discovered(self) -> Metadata:
        url = f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        answer = await self._ask("GET", url)
        try:
            about = msgspec.json.decode(answer.content, type=Metadata)
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                check_address(getattr(about, name), name)
        except (msgspec.DecodeError, InputError) as error:
            raise _unreachable(f"`{url}` is no discovery document: {error}") from error
        if about.issuer != self.settings.issuer:
            raise _unreachable(f"`{url}` is of `{_plain(about.issuer)}`")
        return about

    async def _key_set(self, about: Metadata, *, is_fresh: bool) -> KeySet:
        async with self._fetching:
            age = time.monotonic() - self._keys[0] if self._keys is not None else None
            if self._keys is None or age is None or (is_fresh and age > _KEYS_PAUSE_S):
                answer = await self._ask("GET", about.jwks_uri)
                try:
                    keys = KeySet.import_key_set(msgspec.json.decode(answer.content))
                except (*_UNREADABLE, msgspec.DecodeError) as error:
                    raise _unreachable(f"`{about.jwks_uri}` has no keys that can be read") from error
                self._keys = (time.monotonic(), keys)
            return self._keys[1]

    async def sign_out(self, then: str) -> str:
        """Where the browser goes to sign out there, too (RP-Initiated Logout 1.0), by what is known of it; empty:
        nowhere."""
        try:
            about = self._metadata[1] if self._metadata is not None else await self.metadata()
        except RingfenceError:
            return ""
        said = {"client_id": self.settings.client_id, "post_logout_redirect_uri": then}
        return _with(about.end_session_endpoint, said) if about.end_session_endpoint else ""

    async def _ask(self, method: str, url: str, **said: Any) -> httpx.Response:
        """Raises RingfenceError `provider-unreachable`."""
        try:
            async with httpx.AsyncClient(verify=self._context, timeout=_TIMEOUT, follow_redirects=False) as http:
                answer = await http.request(method, url, **said)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise _unreachable(f"`{url}` does not answer: {error or type(error).__name__}") from error
        if answer.status_code >= 500 or len(answer.content) > _MOST_BYTES:
            raise _unreachable(f"`{url}` answers {answer.status_code}")
        return answer

    @property
    def _now(self) -> float:
        return self._clock().timestamp()

    def _secret(self) -> str:
        """As it is now: it may be replaced meanwhile. Raises InputError `bad-oidc`, `secret-exposed`."""
        if not self.settings.secret_file:
            return ""
        content = read_secret(Path(self.settings.secret_file))
        if not content or not content.strip():
            raise bad(f"`{self.settings.secret_file}` holds no secret", "write the client's secret there")
        return content.decode().strip()


def _context(roots: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=roots or None)
    except (OSError, ssl.SSLError) as error:
        raise bad(f"`{roots}` holds no certificates: {error}", "name a PEM file") from error


def _object(answer: httpx.Response) -> Mapping[str, Any]:
    """The JSON object of an answer; an empty one, if it is none."""
    try:
        return msgspec.json.decode(answer.content, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {}


def _with(url: str, said: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(said)}"


def _plain(text: str) -> str:
    """What somebody else wrote, fit for a message."""
    return "".join(c if c.isprintable() else "?" for c in text[:200]).replace("`", "'")


def _refused(why: str) -> AccessError:
    return AccessError("sign-in-refused", f"signing in failed: {why}", help="begin again at the page to sign in")


def _unreachable(why: str) -> RingfenceError:
    help_ = "sign in with a token, or try again later"
    return RingfenceError("provider-unreachable", f"the provider of identities cannot be asked: {why}", help=help_)
