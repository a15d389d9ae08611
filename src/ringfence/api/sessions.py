"""Signing in and out with a browser: the cookie of a session, for a token or through a provider of identities."""

from __future__ import annotations

import logging
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response, Router, delete, get, post
from litestar.datastructures import Cookie
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.status_codes import HTTP_201_CREATED, HTTP_303_SEE_OTHER

from ringfence.api.access import me_of
from ringfence.api.common import After, Desk, Limit, Who, needs
from ringfence.api.guards import ANYBODY, COOKIE, EVERYBODY, demand_own_page
from ringfence.api.paging import at, listed
from ringfence.api.problems import refuse
from ringfence.controller.access.access import MAY, AccessError, Principal
from ringfence.controller.access.oidc import LASTS_S, Provider
from ringfence.controller.access.sessions import Opened, proof_of
from ringfence.controller.controller import Controller
from ringfence.core.errors import InputError, RingfenceError
from ringfence.ports.state import Session
from ringfence.wire.api import OpenSession, SessionView, SignIn, WayIn

_log = logging.getLogger(__name__)
Asked = Request[Any, Any, Any]
ATTEMPT = "__Host-ringfence-sign-in"
_Then = Annotated[
    str,
    QueryParameter(pattern=r"^/([!-.0-\[\]-~][!-\[\]-~]*)?(?![\s\S])", max_length=500, description="A path of ours."),
]


@get("/login", opt=needs(EVERYBODY), summary="How people sign in here.")
async def ways(desk: Desk) -> WayIn:
    if desk.provider is None:
        return WayIn(token=True)
    about = desk.provider.settings
    return WayIn(token=True, provider=about.issuer, name=about.label or about.issuer)


def _to_login(request: Asked, error: RingfenceError) -> Response[Any]:
    """A browser that was sent here is shown a page that says what happened; whoever else asks is told the problem."""
    if "text/html" not in request.headers.get("accept", ""):
        return refuse(request, error)
    _log.warning("signing in through the provider failed: %s: %s", error.code, error.message)
    page = f"/login?{urlencode({'problem': error.code})}"
    return Response(b"", status_code=HTTP_303_SEE_OTHER, headers={"Location": page}, media_type="text/plain")


@get(
    "/login/oidc", opt=needs(EVERYBODY), status_code=HTTP_303_SEE_OTHER, summary="To the provider of identities.",
    exception_handlers={RingfenceError: _to_login},
)  # fmt: skip
async def to_provider(desk: Desk, then: _Then = "/") -> Response[None]:
    """For a browser to open. `then`: the path of ours it comes back to."""
    begun = await _provider(desk).begin(_redirect(desk), then=then)
    return Response(None, headers={"Location": begun.url}, cookies=[_attempt(begun.kept, LASTS_S)])


@get(
    "/login/oidc/callback", opt=needs(EVERYBODY), status_code=HTTP_303_SEE_OTHER, summary="Back from the provider.",
    exception_handlers={RingfenceError: _to_login},
)  # fmt: skip
async def from_provider(desk: Desk, request: Asked) -> Response[None]:
    """Where the provider sends the browser, with `code` and `state`. A browser that is refused goes to
    `/login?problem=CODE`."""
    query = {key: values[-1] for key, values in request.query_params.dict().items()}
    known = await _provider(desk).finish(query, request.cookies.get(ATTEMPT, ""), _redirect(desk))
    opened = await desk.sessions.open_for(known.name, known.subject, known.claimed)
    return Response(None, headers={"Location": known.next}, cookies=[cookie_of(desk, opened), _attempt("", 0)])


@post("/session", opt=needs(EVERYBODY), status_code=HTTP_201_CREATED, summary="Sign in with a token: a cookie.")
async def sign_in(desk: Desk, request: Asked, data: JSONBody[SignIn]) -> Response[SessionView]:
    """A page of another site cannot sign anybody in."""
    if "origin" in request.headers:
        demand_own_page(request)
    opened = await desk.sessions.open(data.token)
    return Response(_view(desk, opened.who, opened.record, opened.cookie), cookies=[cookie_of(desk, opened)])


@get("/session", opt=needs(ANYBODY), summary="Who is signed in, and the proof that writes need.")
async def session(desk: Desk, who: Who, request: Asked) -> SessionView:
    view = _view(desk, who, await desk.sessions.get(who), request.cookies.get(COOKIE, ""))
    if not view.provider or desk.provider is None:
        return view
    return msgspec.structs.replace(view, sign_out=await desk.provider.sign_out(f"{_origin(desk)}/"))


@delete("/session", opt=needs(ANYBODY), summary="Sign out.")
async def sign_out(desk: Desk, who: Who, keep: FromQuery[bool] = False) -> Response[None]:
    """What the browser kept of the estate is dropped, too; `keep`: not what somebody wrote there, who was away too long
    and comes back."""
    await desk.sessions.end(who)
    headers = {"Clear-Site-Data": '"cache"' if keep else '"cache", "storage"'}
    return Response(None, status_code=204, headers=headers, cookies=[_cookie("", 0)])


@get("/me/sessions", opt=needs(ANYBODY), summary="Where whoever asks is signed in.")
async def my_sessions(
    desk: Desk, who: Who, request: Asked, after: After = "", limit: Limit = 1000
) -> Response[list[OpenSession]]:
    found = [_told(one, who) for one in await desk.sessions.mine(who)]
    return listed(request, found, lambda one: at(one.opened, one.id), after=after, limit=limit)


@delete("/me/sessions/{id:str}", opt=needs(ANYBODY), summary="Sign out elsewhere.")
async def end_mine(desk: Desk, who: Who, id: FromPath[str]) -> None:
    await desk.sessions.end_mine(id, who)


@get("/sessions", opt=needs("tokens"), summary="Everybody who is signed in.")
async def sessions(
    desk: Desk, who: Who, request: Asked, after: After = "", limit: Limit = 1000
) -> Response[list[OpenSession]]:
    found = [_told(one, who) for one in await desk.sessions.all(by=who)]
    return listed(request, found, lambda one: at(one.opened, one.id), after=after, limit=limit)


@delete("/sessions/{id:str}", opt=needs("tokens"), summary="Sign somebody out.")
async def end(desk: Desk, who: Who, id: FromPath[str]) -> None:
    await desk.sessions.end_of(id, by=who)


def cookie_of(desk: Controller, opened: Opened) -> Cookie:
    """What the browser keeps, for no longer than the session can last."""
    return _cookie(opened.cookie, max(0, int((opened.record.ends - desk.clock()).total_seconds())))


def _attempt(kept: str, lasts_s: int) -> Cookie:
    """It must come back with the browser from the provider's site: `Lax`."""
    return Cookie(ATTEMPT, value=kept, max_age=lasts_s, secure=True, httponly=True, samesite="lax")


def _provider(desk: Controller) -> Provider:
    if desk.provider is None:
        help_ = "sign in with a token, or set `[oidc]` in controller.toml"
        raise InputError("no-provider", "no provider of identities is set here", help=help_)
    return desk.provider


def _origin(desk: Controller) -> str:
    return desk.settings.public_url or desk.settings.url


def _redirect(desk: Controller) -> str:
    return f"{_origin(desk)}/v1/login/oidc/callback"


def _cookie(value: str, lasts_s: int) -> Cookie:
    return Cookie(COOKIE, value=value, max_age=lasts_s, secure=True, httponly=True, samesite="strict")


def _told(one: Session, who: Principal) -> OpenSession:
    is_this = one.id == who.session
    return OpenSession(one.id, one.name, one.opened, one.seen, one.ends, one.token, one.subject, is_this)


def _view(desk: Controller, who: Principal, record: Session, cookie: str) -> SessionView:
    if not cookie:
        raise AccessError("session-refused", "a token is no session", help="sign in")
    idle_s = int(desk.sessions.idle.total_seconds())
    return SessionView(
        me_of(who), record.opened, record.ends, idle_s, proof_of(cookie), record.subject.partition(" ")[0],
        roles={role: tuple(sorted(rights)) for role, rights in MAY.items()},
    )  # fmt: skip


ROUTES = Router(
    "/",
    route_handlers=[
        ways, to_provider, from_provider, sign_in, session, sign_out, my_sessions, end_mine, sessions, end,
    ],
    tags=["access"],
)  # fmt: skip
