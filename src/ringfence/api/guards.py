"""Who asks, and whether their roles let them: before anything of the request is read.

INVARIANT: every route says which right it takes, or that it is for everybody; one that says nothing is refused.
Services ask again, with the scope.
"""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from ringfence.controller.access import AccessError, Principal
from ringfence.controller.controller import Controller

EVERYBODY = "everybody"
"""In place of a right: no token is asked for."""
ANYBODY = "anybody"
"""In place of a right: any token that is good."""


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Raises AccessError `token-refused`, `not-allowed`."""
    right = handler.opt.get("right")
    if right == EVERYBODY:
        return
    desk: Controller = connection.app.state.controller
    who = await desk.granting.recognise(token_of(connection))
    connection.scope["user"] = who
    if right is None:
        raise AccessError("not-allowed", "this route takes a right that nobody has", help="report it")
    if right != ANYBODY:
        who.demand(right)


def token_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Raises AccessError `token-refused`: there is none."""
    kind, _, token = connection.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise AccessError("token-refused", "the request carries no token", help="send `Authorization: Bearer rf_...`")
    return token


async def principal(request: Request[Principal, Any, Any]) -> Principal:
    """Who asks, for handlers."""
    return request.user
