"""Versions of the policies: planned, applied, rolled out, rolled back; proposals of one, approved by another."""

from __future__ import annotations

from litestar import Response, Router, get, post
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK

from ringfence.api.common import After, Before, Desk, Limit, Number, Who, needs
from ringfence.api.paging import Asked, at, falling, listed
from ringfence.controller.publishing.applying import diff_view, draft_of, proposal_view, version_view
from ringfence.wire.api import (
    Applied,
    Apply,
    Approve,
    DiffView,
    Draft,
    Plan,
    Planned,
    ProposalText,
    ProposalView,
    Reason,
    Rollback,
    RolloutView,
    VersionText,
    VersionView,
)


@get("/versions", opt=needs("read"), summary="Versions, the newest first.")
async def versions(desk: Desk, request: Asked, before: Before = 0, limit: Limit = 50) -> Response[list[VersionView]]:
    found = [version_view(one) for one in await desk.versions.page(before=before, limit=limit + 1)]
    return falling(request, found, lambda one: one.number, limit=limit)


@get("/versions/{number:int}", opt=needs("read"), summary="One version, whole.")
async def version(desk: Desk, number: Number) -> VersionText:
    found = await desk.versions.get(number)
    return VersionText(found.number, found.files, found.settings)


@get("/versions/{old:int}/diff/{new:int}", opt=needs("read"), summary="What one opens and closes against another.")
async def diff(desk: Desk, old: Number, new: Number) -> DiffView:
    return diff_view(await desk.versions.diff(old, new))


@post("/plan", opt=needs("read"), status_code=HTTP_200_OK, summary="What a draft would do. Nothing is changed.")
async def plan(desk: Desk, who: Who, data: JSONBody[Plan]) -> Planned:
    return await desk.applying.plan(data, by=who)


@post("/apply", opt=needs("publish"), summary="Put a draft in force, and roll it out.")
async def apply(desk: Desk, who: Who, data: JSONBody[Apply]) -> Applied:
    return await desk.applying.apply(data, by=who)


@post("/rollback", opt=needs("publish"), summary="Back to what an old version says.")
async def rollback(desk: Desk, who: Who, data: JSONBody[Rollback]) -> Applied:
    return await desk.applying.rollback(data, by=who)


@get("/rollout", opt=needs("read"), summary="The rollout under way, or the last one.")
async def rollout(desk: Desk) -> RolloutView:
    return await desk.applying.progress()


@post(
    "/rollout/go-on", opt=needs("rollout"), status_code=HTTP_200_OK, summary="Everybody now, whatever the canary says."
)
async def go_on(desk: Desk, who: Who) -> RolloutView:
    await desk.rollouts.go_on(by=who)
    return await desk.applying.progress()


@post("/rollout/stop", opt=needs("rollout"), status_code=HTTP_200_OK, summary="Every host back to the version before.")
async def stop(desk: Desk, who: Who, data: JSONBody[Reason]) -> RolloutView:
    await desk.rollouts.stop(data.why, by=who)
    return await desk.applying.progress()


@get("/proposals", opt=needs("read"), summary="Policies that wait for a second person.")
async def proposals(desk: Desk, request: Asked, after: After = "", limit: Limit = 1000) -> Response[list[ProposalView]]:
    found = map(proposal_view, await desk.versions.proposals())
    return listed(request, found, lambda one: at(one.at, one.id), after=after, limit=limit)


@get("/proposals/{id:str}", opt=needs("read"), summary="One proposal, whole.")
async def proposal(desk: Desk, id: FromPath[str]) -> ProposalText:
    found = await desk.versions.proposal(id)
    return ProposalText(found.id, found.files, found.settings, found.base)


@post("/proposals", opt=needs("propose"), summary="Put a draft before a second person.")
async def propose(desk: Desk, who: Who, data: JSONBody[Draft]) -> ProposalView:
    return proposal_view(await desk.versions.propose(draft_of(data), by=who))


@post("/proposals/{id:str}/approve", opt=needs("approve"), summary="Publish what somebody else proposed.")
async def approve(desk: Desk, who: Who, id: FromPath[str], data: JSONBody[Approve]) -> Applied:
    """By who has seen what it does: the digest of its plan goes with it."""
    return await desk.applying.approve(id, data, by=who)


@post("/proposals/{id:str}/reject", opt=needs("read"), status_code=HTTP_200_OK, summary="Decide against it.")
async def reject(desk: Desk, who: Who, id: FromPath[str], data: JSONBody[Reason]) -> None:
    """Whoever proposed it may take it back; others need the right to approve."""
    await desk.versions.reject(id, by=who, at=desk.clock(), why=data.why)


ROUTES = Router(
    "/",
    route_handlers=[
        versions, version, diff, plan, apply, rollback, rollout, go_on, stop, proposals, proposal, propose,
        approve, reject,
    ],
    tags=["policies"],
)  # fmt: skip
