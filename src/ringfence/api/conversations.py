"""The flows of the fleet, to take along: for `map`, `recommend` and `simulate` where the policies are written."""

from __future__ import annotations

from datetime import datetime, timedelta

from litestar import Response, Router, get
from litestar.params import FromQuery

from ringfence.api.common import Desk, needs
from ringfence.controller.thinking import think
from ringfence.wire.conversations import TYPE, encode

_USUAL = timedelta(days=7)


@get(
    "/conversations",
    opt=needs("read"),
    media_type=TYPE,
    summary="Observed traffic as it is stored, one row a conversation and hour.",
)
async def conversations(
    desk: Desk, since: FromQuery[datetime | None] = None, until: FromQuery[datetime | None] = None
) -> Response[bytes]:
    """Of the last seven days, or of the span that is named."""
    begin = int((since or desk.clock() - _USUAL).timestamp())
    end = int(until.timestamp()) if until is not None else None
    return Response(await think(_read, desk, begin, end), media_type=TYPE)


def _read(desk: Desk, since: int, until: int | None) -> bytes:
    """Raises InputError `too-much`."""
    return encode(desk.flows.read(since, until))


ROUTES = Router("/", route_handlers=[conversations], tags=["flows"])
