"""The home page: how protected the estate is."""

from __future__ import annotations

from litestar import Router, get

from ringfence.api.common import Desk, needs
from ringfence.controller.study.posture import posture_of
from ringfence.wire.study import Posture


@get("/posture", opt=needs("read"), summary="How protected the estate is, and what to do next.")
async def posture(desk: Desk) -> Posture:
    return await posture_of(desk)


ROUTES = Router("/", route_handlers=[posture], tags=["status"])
