"""Signing in and out with a browser: the cookie of a session, for a token or through a provider of identities."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, Router, delete, get, post
from litestar.datastructures import Cookie
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_201_CREATED

from ringfence.api.access import me_of
from ringfence.api.common import Desk, Who, needs
from ringfence.api.guards import ANYBODY, COOKIE, EVERYBODY, demand_own_page
from ringfence.controller.access import AccessError, Principal
from ringfence.controller.controller import Controller
from ringfence.controller.sessions import Opened, proof_of
from ringfence.ports.state import Session
from ringfence.wire.api import OpenSession, SessionView, SignIn, WayIn

Asked = Request[Any, Any, Any]


@get("/login", opt=needs(EVERYBODY), summary="How people sign in here.")
async def ways(desk: Desk) -> WayIn:
    return WayIn(token=True)


@post("/session", opt=needs(EVERYBODY), status_code=HTTP_201_CREATED, summary="Sign in with a token: a cookie.")
async def sign_in(desk: Desk, request: Asked, data: JSONBody[SignIn]) -> Response[SessionView]:
    """A page of another site cannot sign anybody in."""
    if "origin" in request.headers:
        demand_own_page(request)
    opened = await desk.sessions.open(data.token)
    return Response(_view(desk, opened.who, opened.record, opened.cookie), cookies=[cookie_of(desk, opened)])


@get("/session", opt=needs(ANYBODY), summary="Who is signed in, and the proof that writes need.")
async def session(desk: Desk, who: Who, request: Asked) -> SessionView:
    return _view(desk, who, await desk.sessions.get(who), request.cookies.get(COOKIE, ""))


@delete("/session", opt=needs(ANYBODY), summary="Sign out.")
async def sign_out(desk: Desk, who: Who) -> Response[None]:
    """What the browser kept of the estate is dropped, too."""
    await desk.sessions.end(who)
    headers = {"Clear-Site-Data": '"cache", "storage"'}
    return Response(None, status_code=204, headers=headers, cookies=[_cookie("", 0)])


@get("/sessions", opt=needs("tokens"), summary="Everybody who is signed in.")
async def sessions(desk: Desk, who: Who) -> list[OpenSession]:
    return [
        OpenSession(one.id, one.name, one.opened, one.seen, one.ends, one.token, one.subject)
        for one in await desk.sessions.all(by=who)
    ]


@delete("/sessions/{id:str}", opt=needs("tokens"), summary="Sign somebody out.")
async def end(desk: Desk, who: Who, id: FromPath[str]) -> None:
    await desk.sessions.end_of(id, by=who)


def cookie_of(desk: Controller, opened: Opened) -> Cookie:
    """What the browser keeps, for no longer than the session can last."""
    return _cookie(opened.cookie, max(0, int((opened.record.ends - desk.clock()).total_seconds())))


def _cookie(value: str, lasts_s: int) -> Cookie:
    return Cookie(COOKIE, value=value, max_age=lasts_s, secure=True, httponly=True, samesite="strict")


def _view(desk: Controller, who: Principal, record: Session, cookie: str) -> SessionView:
    if not cookie:
        raise AccessError("session-refused", "a token is no session", help="sign in")
    idle_s = int(desk.sessions.idle.total_seconds())
    return SessionView(
        me_of(who), record.opened, record.ends, idle_s, proof_of(cookie), record.subject.partition(" ")[0]
    )


ROUTES = Router("/", route_handlers=[ways, sign_in, session, sign_out, sessions, end], tags=["access"])
