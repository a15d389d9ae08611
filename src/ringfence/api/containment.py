"""Quarantine and release."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from litestar import Response, Router, get, post
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from ringfence.api.common import After, Desk, Limit, Who, needs
from ringfence.api.paging import Asked, at, listed
from ringfence.controller.containment.containing import Contained, HostCheck
from ringfence.wire.api import Contain, ContainedView, ContainPlanned, Done, HostCheckView, Release

MOST_PENDING = 1000


@get("/quarantines", opt=needs("read"), summary="Every quarantine, and how far it is in force.")
async def quarantines(
    desk: Desk, request: Asked, after: After = "", limit: Limit = 1000
) -> Response[list[ContainedView]]:
    return listed(request, await _standing(desk), lambda one: at(one.since, one.id), after=after, limit=limit)


@post("/quarantines/plan", opt=needs("read"), status_code=HTTP_200_OK, summary="Whom an isolation would hit.")
async def plan_quarantine(desk: Desk, data: JSONBody[Contain]) -> ContainPlanned:
    uuids = desk.workloads.pick(data.workloads)
    return await desk.containing.plan(
        uuids, level=data.level, allow=data.allow, lasts=_lasts(data), forwards=desk.forwards
    )


@post("/quarantines", opt=needs("quarantine"), summary="Isolate workloads, now.")
async def quarantine(desk: Desk, who: Who, data: JSONBody[Contain]) -> list[ContainedView]:
    uuids = desk.workloads.pick(data.workloads)
    begun = await desk.containing.quarantine(
        uuids, why=data.why, by=who, level=data.level, allow=data.allow, lasts=_lasts(data), replace=data.replace
    )
    replaces = {one.record.id: one.replaces for one in begun}
    found = [one for one in await _standing(desk) if one.id in replaces]
    return [msgspec.structs.replace(one, replaces=replaces[one.id]) for one in found]


def _lasts(asked: Contain) -> timedelta | None:
    return timedelta(seconds=asked.for_s) if asked.for_s is not None else None


@post("/quarantines/release", opt=needs("release"), status_code=HTTP_200_OK, summary="End quarantines.")
async def release(desk: Desk, who: Who, data: JSONBody[Release]) -> Done:
    uuids = desk.workloads.pick(data.workloads)
    return Done(await desk.containing.release(uuids, why=data.why, by=who))


async def _standing(desk: Desk) -> list[ContainedView]:
    found = await desk.containing.standing(desk.realised, desk.is_online)
    return [contained_view(one, forwards=desk.forwards(one.record.workload)) for one in found]


def contained_view(one: Contained, *, forwards: bool) -> ContainedView:
    """`forwards`: the isolated host passes on traffic of others."""
    record = one.record
    return ContainedView(
        id=record.id,
        workload=record.workload,
        name=one.name,
        level=record.level,
        why=record.why,
        by=record.by,
        since=record.since,
        until=record.until,
        allow=record.exceptions,
        own=_check(one.own) if one.own is not None else None,
        verified_peers=one.verified_peers,
        peers=one.peers,
        is_verified=one.is_verified,
        state=one.state,
        unreachable=len(one.unreachable),
        pending=tuple(map(_check, one.pending[:MOST_PENDING])),
        forwards=forwards,
    )


def _check(check: HostCheck) -> HostCheckView:
    return HostCheckView(check.uuid, check.name, check.state)


ROUTES = Router("/", route_handlers=[quarantines, plan_quarantine, quarantine, release], tags=["containment"])
