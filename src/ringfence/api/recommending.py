"""A policy for what was seen, and stored traffic rehearsed under policies nobody enforces yet."""

from __future__ import annotations

from litestar import Router, post
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from ringfence.api.common import Desk, needs
from ringfence.wire.study import AskRecommend, AskSimulate, Recommended, Simulated


@post("/recommend", opt=needs("read"), status_code=HTTP_200_OK, summary="A policy for what was seen, with evidence.")
async def recommend(desk: Desk, data: JSONBody[AskRecommend]) -> Recommended:
    """Nothing is changed: put the files before a plan."""
    return await desk.studies.recommending.recommend(data)


@post("/simulate", opt=needs("read"), status_code=HTTP_200_OK, summary="Stored traffic under a draft or a version.")
async def simulate(desk: Desk, data: JSONBody[AskSimulate]) -> Simulated:
    return await desk.studies.recommending.simulate(data)


ROUTES = Router("/", route_handlers=[recommend, simulate], tags=["recommend"])
