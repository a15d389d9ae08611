"""Workloads: listed, labelled, held in a mode, retired; their agents revoked."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, Router, get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK

from ringfence.api.common import After, Desk, Limit, Who, needs
from ringfence.api.paging import Asked, paged
from ringfence.controller.thinking import think
from ringfence.wire.api import Done, LabelsPlanned, ModesPlanned, Page, Reason, Relabel, SetMode, WorkloadView

_Chosen = Annotated[str, QueryParameter(name="selector", max_length=2000, description="A label selector.")]


@get("/workloads", opt=needs("read"), summary="Workloads by name.")
async def workloads(
    desk: Desk,
    request: Asked,
    selector: _Chosen = "",
    after: After = "",
    limit: Limit = 200,
    agents: FromQuery[bool] = False,
) -> Response[Page[WorkloadView]]:
    """`agents`: only those with an agent of ours."""
    return paged(request, await desk.workloads.page(selector, after=after, limit=limit, hosts_only=agents))


@get("/workloads/{name:str}", opt=needs("read"), summary="One, by name or UUID.")
async def workload(desk: Desk, name: FromPath[str]) -> WorkloadView:
    return await desk.workloads.get(name)


@post("/labels/plan", opt=needs("read"), status_code=HTTP_200_OK, summary="What new labels would open and close.")
async def plan_labels(desk: Desk, data: JSONBody[Relabel]) -> LabelsPlanned:
    return await think(desk.workloads.plan_labels, data)


@post("/labels", opt=needs("label"), status_code=HTTP_200_OK, summary="Put labels on workloads, or take them off.")
async def label(desk: Desk, who: Who, data: JSONBody[Relabel]) -> Done:
    return Done(await desk.workloads.relabel(data, by=who))


@post("/modes/plan", opt=needs("read"), status_code=HTTP_200_OK, summary="What other modes would stop.")
async def plan_mode(desk: Desk, data: JSONBody[SetMode]) -> ModesPlanned:
    return await think(desk.workloads.plan_mode, data)


@post("/modes", opt=needs("mode"), status_code=HTTP_200_OK, summary="How strictly workloads are held.")
async def mode(desk: Desk, who: Who, data: JSONBody[SetMode]) -> Done:
    return Done(await desk.workloads.set_mode(data, by=who))


@post("/workloads/{name:str}/retire", opt=needs("enrol"), status_code=HTTP_200_OK, summary="A workload is gone.")
async def retire(desk: Desk, who: Who, name: FromPath[str], data: JSONBody[Reason]) -> Done:
    await desk.retire(desk.workloads.find(name).uuid, why=data.why, by=who)
    return Done(1)


@post(
    "/workloads/{name:str}/revoke",
    opt=needs("certificates"),
    status_code=HTTP_200_OK,
    summary="A host may not speak to the controller any more.",
)
async def revoke(desk: Desk, who: Who, name: FromPath[str], data: JSONBody[Reason]) -> Done:
    """How many connections were ended. The host keeps its last policy; enrol it again to let it back."""
    return Done(await desk.revoke(desk.workloads.find(name).uuid, why=data.why, by=who))


ROUTES = Router(
    "/", route_handlers=[workloads, workload, plan_labels, label, plan_mode, mode, retire, revoke], tags=["workloads"]
)
