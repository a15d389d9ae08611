"""A host that passes on traffic of others: what it says of that is known to whoever looks at it, or isolates it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from beats import A, B, Clock, Ground, beat_subject, ground, heartbeat
from test_contested import ESTATE, ROOT, begin

from ringfence.api.containment import contained_view


def told(*, forwards: bool | None) -> bytes:
    """A heartbeat; None: of an agent that does not know the word."""
    said = json.loads(heartbeat())
    return json.dumps(said if forwards is None else said | {"forwards": forwards}).encode()


async def beat(one: Ground, uuid: str, *, forwards: bool | None) -> None:
    one.clock.pass_(seconds=10)
    await one.controller.presence.beat(beat_subject(uuid), told(forwards=forwards))


def test_what_a_host_says_of_forwarding_is_told_and_outlives_a_restart(tmp_path: Path) -> None:
    """By the workload, by the plan of its quarantine and by the quarantine; it is news at once when that changes, and a
    heartbeat of an agent that does not know the word says no."""

    async def told_of(one: Ground, uuid: str) -> tuple[bool, bool, bool]:
        desk = one.controller
        (hit,) = (await desk.containing.plan([uuid], forwards=desk.forwards)).workloads
        (standing,) = (
            found
            for found in await desk.containing.standing(desk.realised, desk.is_online)
            if found.record.workload == uuid
        )
        view = contained_view(standing, forwards=desk.forwards(uuid))
        return (await desk.workloads.get(uuid)).forwards, hit.forwards, view.forwards

    async def story() -> None:
        clock = Clock()
        async with ground(tmp_path, clock, *ESTATE) as one:
            await begin(one)
            await one.controller.containing.quarantine([A, B], why="they beacon", by=ROOT)
            await beat(one, A, forwards=True)
            await beat(one, B, forwards=None)
            assert await told_of(one, A) == (True, True, True)
            assert await told_of(one, B) == (False, False, False)
        async with ground(tmp_path, clock) as one:
            assert await told_of(one, A) == (True, True, True)
            one.controller.presence.dirty.clear()
            await beat(one, A, forwards=False)
            assert one.controller.presence.dirty == {A}
            assert await told_of(one, A) == (False, False, False)

    asyncio.run(story())
