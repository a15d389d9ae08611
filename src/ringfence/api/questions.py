"""Who may talk to whom, as it is in force."""

from __future__ import annotations

import asyncio

from litestar import Router, post
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from ringfence.api.common import Desk, needs
from ringfence.controller.asking import Explained, decide, explain
from ringfence.core.engine.questions import Answer, Question
from ringfence.core.errors import InputError

MOST = 10_000


@post("/explain", opt=needs("read"), status_code=HTTP_200_OK, summary="The verdict of a connection, and why.")
async def explained(desk: Desk, data: JSONBody[Question]) -> Explained:
    return await asyncio.to_thread(explain, desk.world(), data)


@post("/decide", opt=needs("read"), status_code=HTTP_200_OK, summary="Many verdicts, all of one moment.")
async def decided(desk: Desk, data: JSONBody[list[Question]]) -> list[Answer]:
    if len(data) > MOST:
        raise InputError("too-broad", f"{len(data)} questions at once", help=f"ask {MOST} at a time")
    return list(await asyncio.to_thread(decide, desk.world(), tuple(data)))


ROUTES = Router("/", route_handlers=[explained, decided], tags=["questions"])
