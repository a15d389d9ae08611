"""Who talks to whom, by stored traffic: the map, one edge of it, the table, the matrix."""

from __future__ import annotations

from litestar import Response, Router, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from ringfence.api.common import Desk, needs
from ringfence.wire.explore import (
    EdgeQuery,
    EdgeView,
    FlowPage,
    MapView,
    MatrixQuery,
    MatrixView,
    NearQuery,
    NearView,
    Query,
    TableQuery,
)


def _answer(kind: type) -> dict[int, ResponseSpec]:
    """What bytes that are kept encoded say."""
    return {HTTP_200_OK: ResponseSpec(kind, generate_examples=False, description="As it was asked.")}


@post(
    "/map", opt=needs("read"), status_code=HTTP_200_OK, summary="Who talks to whom, and what policy says of it.",
    responses=_answer(MapView),
)  # fmt: skip
async def map_(desk: Desk, data: JSONBody[Query]) -> Response[bytes]:
    return Response(await desk.studies.exploring.map(data), media_type="application/json")


@post(
    "/map/edge", opt=needs("read"), status_code=HTTP_200_OK,
    summary="One edge: services, programs, rules, and a rule for what none speaks of.",
)  # fmt: skip
async def edge(desk: Desk, data: JSONBody[EdgeQuery]) -> EdgeView:
    return await desk.studies.exploring.edge(data)


@post(
    "/map/near",
    opt=needs("read"),
    status_code=HTTP_200_OK,
    summary="Workloads of some groups, with edges of their own.",
)
async def near(desk: Desk, data: JSONBody[NearQuery]) -> NearView:
    return await desk.studies.exploring.near(data)


@post("/flows", opt=needs("read"), status_code=HTTP_200_OK, summary="The same as a table, sorted, in pages.")
async def flows(desk: Desk, data: JSONBody[TableQuery]) -> FlowPage:
    return await desk.studies.exploring.table(data)


@post(
    "/matrix", opt=needs("read"), status_code=HTTP_200_OK, summary="The same as a square.",
    responses=_answer(MatrixView),
)  # fmt: skip
async def matrix(desk: Desk, data: JSONBody[MatrixQuery]) -> Response[bytes]:
    return Response(await desk.studies.exploring.matrix(data), media_type="application/json")


ROUTES = Router("/", route_handlers=[map_, edge, near, flows, matrix], tags=["explore"])
"""Added to the application by `api.app`."""
