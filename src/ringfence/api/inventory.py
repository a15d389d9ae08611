"""What no agent tells of: inventory files, flow logs, the demo estate; and how far uploads are."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, Router, get, post
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED

from ringfence.api.common import After, Desk, Limit, Who, needs
from ringfence.api.paging import at, listed
from ringfence.wire.intake import MOST_UPLOAD_BYTES, DemoLoaded, ImportInventory, InventoryPlanned, Job, LoadDemo

_Name = Annotated[str, QueryParameter(min_length=1, max_length=200, description="Of the file.")]


@post("/inventory", opt=needs("label"), status_code=HTTP_200_OK, summary="Workloads from a CSV, JSON or YAML file.")
async def inventory(desk: Desk, who: Who, data: JSONBody[ImportInventory]) -> InventoryPlanned:
    """Planned, unless `apply` is the digest of a plan. Workloads that are new have no enforcement point yet."""
    return await desk.studies.importing.inventory(data, by=who)


@post(
    "/flows/import", opt=needs("enrol"), status_code=HTTP_202_ACCEPTED, request_max_body_size=MOST_UPLOAD_BYTES,
    summary="Flow logs as the body: VPC flow logs, Zeek; compressed or not, one, or several as a tar archive.",
)  # fmt: skip
async def import_flows(desk: Desk, who: Who, request: Request[Any, Any, Any], name: _Name = "upload.log") -> Job:
    """The format is detected. How far it is: `GET /v1/jobs/{id}`. A `name` that ends with `.tar` is an archive: its
    files are imported together, so that two reports of one connection count once."""
    return await desk.studies.jobs.import_flows(name, request.stream(), by=who)


@get("/jobs", opt=needs("read"), summary="Uploads, the latest first.")
async def jobs(
    desk: Desk, request: Request[Any, Any, Any], after: After = "", limit: Limit = 1000
) -> Response[list[Job]]:
    found = desk.studies.jobs.all()
    return listed(request, found, lambda one: at(one.started, one.id), after=after, limit=limit, is_down=True)


@get("/jobs/{id:str}", opt=needs("read"), summary="How far an upload is.")
async def job(desk: Desk, id: FromPath[str]) -> Job:
    return desk.studies.jobs.get(id)


@post("/demo", opt=needs("enrol"), status_code=HTTP_200_OK, summary="A recorded estate to look around in.")
async def demo(desk: Desk, who: Who, data: JSONBody[LoadDemo]) -> DemoLoaded:
    """Only while there is nothing: no workload, no policy."""
    return await desk.studies.importing.demo(data.estate, by=who)


ROUTES = Router("/", route_handlers=[inventory, import_flows, jobs, job, demo], tags=["inventory"])
