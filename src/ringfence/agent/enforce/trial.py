"""A policy that must prove itself: everything works through it, or it goes.

INVARIANT: the time is over here no later than in the kernel, so that what is confirmed is confirmed in time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from ringfence.wire.messages import Assignment, Probe

Works = Callable[[tuple[Probe, ...]], Awaitable[tuple[str, ...]]]
"""What does not work under the rules of now: the control channel, and these probes."""
TRY_AGAIN_S = 0.5
NOT_TRIED = ("it was not tried yet",)


class Trial:
    """Of one assignment's policy."""

    def __init__(self, assignment: Assignment, seconds: float) -> None:
        self.assignment = assignment
        self.problems: tuple[str, ...] = NOT_TRIED
        self.works = False
        self._until = time.monotonic() + seconds
        self._task: asyncio.Task[None] | None = None

    @property
    def revision(self) -> int:
        return self.assignment.revision

    @property
    def left_s(self) -> float:
        return max(0.0, self._until - time.monotonic())

    @property
    def is_decided(self) -> bool:
        """It works, or its time is over."""
        return self.works or not self.left_s

    def start(self, works: Works, probes: tuple[Probe, ...], decided: Callable[[], None]) -> None:
        """Try it, until it is decided. Once is enough."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(works, probes, decided))

    def end(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self, works: Works, probes: tuple[Probe, ...], decided: Callable[[], None]) -> None:
        while not self.is_decided:
            self.problems = await works(probes)
            self.works = not self.problems and self.left_s > 0
            if not self.works:
                await asyncio.sleep(min(TRY_AGAIN_S, self.left_s))
        decided()
