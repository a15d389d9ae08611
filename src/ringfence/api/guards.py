"""Who asks, and whether their roles let them: before anything of the request is read.

A token (`Authorization: Bearer`) is sent by whoever means to; a session's cookie is sent by the browser whoever's page
asked it to, so what changes something also needs proof that a page of ours asked.

INVARIANT: every route says which right it takes, or that it is for everybody; one that says nothing is refused.
Services ask again, with the scope.
INVARIANT: where there is a token, the cookie is not looked at.
"""

from __future__ import annotations

import asyncio
import hmac
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from ringfence.api.limits import Limits
from ringfence.controller.access.access import AccessError, Principal
from ringfence.controller.access.sessions import proof_of
from ringfence.controller.controller import Controller
from ringfence.ports.state import StateError

EVERYBODY = "everybody"
"""In place of a right: no token is asked for."""
ANYBODY = "anybody"
"""In place of a right: any token that is good."""
_PATIENCE_S = 3.0
COOKIE = "__Host-ringfence"
"""Browsers take a cookie of such a name from this host only, and over TLS only (RFC 6265bis, 4.1.3.2)."""
CSRF = "x-csrf-token"
_GUARDED = "ringfence-guarded"
"""In the scope of a request that was looked at already: whatever reads it before the application does asks first."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
Connection = ASGIConnection[Any, Any, Any, Any]


async def guard(connection: Connection, handler: BaseRouteHandler) -> None:
    """Raises AccessError `token-refused`, `session-refused`, `cross-site`, `not-allowed`, TooMany."""
    if _GUARDED in connection.scope:
        return
    connection.scope[_GUARDED] = True  # type: ignore[literal-required]
    right = handler.opt.get("right")
    limits, address = limits_of(connection), address_of(connection)
    if right == EVERYBODY:
        (limits.host if handler.opt.get("is_for_hosts") else limits.stranger)(address)
        return
    credential = credential_of(connection)
    limits.before(credential, address)
    try:
        who = (
            await _recognise_or_recall(connection) if handler.opt.get("without_state") else await recognise(connection)
        )
    except AccessError:
        limits.stranger(address)
        raise
    limits.good(credential)
    connection.scope["user"] = who
    if right is None:
        raise AccessError("not-allowed", "this route takes a right that nobody has", help="report it")
    if right != ANYBODY:
        who.demand(right)


async def recognise(connection: Connection) -> Principal:
    """Whoever a request comes from. Raises AccessError `token-refused`, `session-refused`, `cross-site`."""
    desk: Controller = connection.app.state.controller
    if "authorization" in connection.headers or COOKIE not in connection.cookies:
        return await desk.granting.recognise(token_of(connection))
    cookie = connection.cookies[COOKIE]
    who = await desk.sessions.recognise(cookie)
    if connection.scope.get("method") not in _SAFE:
        demand_own_page(connection)
        if not hmac.compare_digest(connection.headers.get(CSRF, "").encode(), proof_of(cookie).encode()):
            help_ = "send what `GET /v1/session` says under `csrf` as `X-CSRF-Token`"
            raise AccessError("cross-site", "the request does not prove that it comes from a page of ours", help=help_)
    return who


async def _recognise_or_recall(connection: Connection) -> Principal:
    """While the state does not answer, whoever bore the token when it last did. Raises as `recognise`."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await recognise(connection)
    except (StateError, TimeoutError):
        desk: Controller = connection.app.state.controller
        return desk.granting.recall(token_of(connection))


def token_of(connection: Connection) -> str:
    """Raises AccessError `token-refused`: there is none."""
    kind, _, token = connection.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        help_ = "send `Authorization: Bearer rf_...`, or sign in"
        raise AccessError("token-refused", "the request carries no token", help=help_)
    return token


def credential_of(connection: Connection) -> str:
    """What a request is recognised by; empty: nothing."""
    return connection.headers.get("authorization", "") or connection.cookies.get(COOKIE, "")


def limits_of(connection: Connection) -> Limits:
    limits: Limits = connection.app.state.limits
    return limits


def address_of(connection: Connection) -> str:
    """Where a request comes from, as this machine sees it; empty: it cannot be told."""
    return connection.client.host if connection.client is not None else ""


def demand_own_page(connection: Connection) -> None:
    """Raises AccessError `cross-site`: a page of another site asks. A browser says so in `Origin` (RFC 6454, 7)."""
    settings = connection.app.state.controller.settings
    origin = connection.headers.get("origin", "")
    if not origin or origin not in (f"https://{connection.headers.get('host', '')}", settings.public_url):
        what = f"the page of `{origin}`" if origin else "a page that does not say where it is from"
        help_ = "open the controller's own address; behind a proxy, set `public_url`"
        raise AccessError("cross-site", f"{what} may not ask that", help=help_)


async def principal(request: Request[Principal, Any, Any]) -> Principal:
    """Who asks, for handlers."""
    return request.user
