"""Who may talk to whom, as it is in force, or would be under a draft.

INVARIANT: drafts are read in threads: heartbeats are answered meanwhile, whatever is in them.
"""

from __future__ import annotations

from litestar import Router, post
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from ringfence.api.common import Desk, needs
from ringfence.controller.study.asking import decide, decide_at_once, decide_now, explain, in_fleet, reach, supposing
from ringfence.controller.thinking import think
from ringfence.core.engine.reach import Reach
from ringfence.wire.questions import AskReach, Decide, Decided, Explain, Explained


@post("/explain", opt=needs("read"), status_code=HTTP_200_OK, summary="The verdict of a connection, and why.")
async def explained(desk: Desk, data: JSONBody[Explain]) -> Explained:

    def work() -> Explained:
        world = supposing(desk.world_under(data.draft), data.draft, as_mode=data.as_mode)
        return in_fleet(explain(world, data), world, desk.workloads.state_of)

    return await think(work)


@post("/decide", opt=needs("read"), status_code=HTTP_200_OK, summary="Many verdicts, all of one moment.")
async def decided(desk: Desk, data: JSONBody[Decide]) -> list[Decided]:
    """One for each question, in order: an answer, or why there is none."""
    answers = await _decided(desk, data)
    world = desk.world()
    return [in_fleet(answer, world, desk.workloads.state_of) for answer in answers]


async def _decided(desk: Desk, data: Decide) -> list[Decided]:
    asked = data.questions
    if data.draft is None and data.at is None:
        grounds = desk.studies.grounds
        ground = grounds.ready()
        if ground is not None and (answers := decide_at_once(ground, asked, data.as_mode)) is not None:
            return answers
        return await think(lambda: decide_now(grounds.now(), asked, data.as_mode))
    return await think(
        lambda: decide(supposing(desk.world_under(data.draft), data.draft, at=data.at, as_mode=data.as_mode), asked)
    )


@post("/reach", opt=needs("read"), status_code=HTTP_200_OK, summary="Who can reach somebody, or whom they can reach.")
async def reached(desk: Desk, data: JSONBody[AskReach]) -> Reach:
    """As if everything were enforced, and every condition of an allow held: exposure is never understated."""
    return await think(lambda: reach(supposing(desk.world_under(data.draft), data.draft), data))


ROUTES = Router("/", route_handlers=[explained, decided, reached], tags=["questions"])
