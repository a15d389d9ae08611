"""How the controller and its fleet are; metrics."""

from __future__ import annotations

from litestar import Response, Router, get

from ringfence.api.common import Desk, needs
from ringfence.api.guards import EVERYBODY
from ringfence.controller.health import status_of
from ringfence.controller.metrics import CONTENT_TYPE
from ringfence.wire.api import Status


@get("/status", opt=needs("read", without_state=True), summary="The controller and its fleet, in numbers.")
async def status(desk: Desk) -> Status:
    return await status_of(desk)


@get("/metrics", opt=needs("read"), summary="For Prometheus.", media_type="text/plain")
async def metrics(desk: Desk) -> Response[bytes]:
    return Response(desk.metrics.exposition(), media_type=CONTENT_TYPE)


@get(
    "/alive",
    opt=needs(EVERYBODY),
    summary="Whether requests are answered.",
    media_type="text/plain",
)
async def alive() -> str:
    return "ok\n"


ROUTES = Router("/", route_handlers=[status, metrics, alive], tags=["status"])
