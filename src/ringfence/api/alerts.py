"""Alerts: listed, followed as they come, acknowledged, resolved."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage
from litestar.status_codes import HTTP_200_OK

from ringfence.api.common import After, Desk, Limit, Who, needs
from ringfence.api.guards import recognise
from ringfence.api.paging import paged
from ringfence.controller.access.access import AccessError
from ringfence.controller.alerts.attending import Attending
from ringfence.ports.state import Alert
from ringfence.wire.api import Handle, Page

_ASK_AGAIN_S = 1.0
"""Who follows is asked about again no more often than this."""


@get("/alerts", opt=needs("read"), summary="Alerts, the most severe first.")
async def alerts(
    desk: Desk,
    request: Request[Any, Any, Any],
    all: FromQuery[bool] = False,
    after: After = "",
    limit: Limit = 200,
) -> Response[Page[Alert]]:
    """`all`: closed ones, too, as far as they are remembered."""
    return paged(request, desk.attending.page(is_all=all, after=after, limit=limit))


@get("/alerts/{id:str}", opt=needs("read"), summary="One alert.")
async def alert(desk: Desk, id: FromPath[str]) -> Alert:
    return desk.attending.get(id)


@post("/alerts/{id:str}/acknowledge", opt=needs("alerts"), status_code=HTTP_200_OK, summary="Somebody looks after it.")
async def acknowledge(desk: Desk, who: Who, id: FromPath[str], data: JSONBody[Handle]) -> Alert:
    return await desk.attending.acknowledge(id, why=data.why, by=who)


@post("/alerts/{id:str}/resolve", opt=needs("alerts"), status_code=HTTP_200_OK, summary="Somebody says it is over.")
async def resolve(desk: Desk, who: Who, id: FromPath[str], data: JSONBody[Handle]) -> Alert:
    return await desk.attending.resolve(id, why=data.why, by=who)


@get("/events", opt=needs("read"), summary="Violations and alerts as they come (server-sent events).")
async def events(desk: Desk, request: Request[Any, Any, Any]) -> ServerSentEvent:
    """It ends with the token or session it was asked with, and when the controller stops."""
    return ServerSentEvent(_told(desk.attending, request))


async def _told(attending: Attending, request: Request[Any, Any, Any]) -> AsyncIterator[ServerSentEventMessage]:
    asked = time.monotonic()
    async for event in attending.follow():
        if time.monotonic() - asked >= _ASK_AGAIN_S:
            try:
                await recognise(request)
            except AccessError:
                return
            asked = time.monotonic()
        yield ServerSentEventMessage(event=event.kind, data=msgspec.json.encode(event).decode())


ROUTES = Router("/", route_handlers=[alerts, alert, acknowledge, resolve, events], tags=["alerts"])
