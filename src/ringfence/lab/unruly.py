"""A bus that treats what is told to single hosts badly: loses some, repeats some, lets some overtake others.

Real networks do so around every reconnect; a lab does it all the time. INVARIANT: the order of losses is a function of
the seed alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from random import Random
from typing import Any

from ringfence.ports.bus import BusError
from ringfence.wire import subjects

LOST, LATE, TWICE = 0.1, 0.2, 0.2
"""How large a share of the messages."""
_LATE_S = 0.4


class UnrulyBus:
    """Another bus, but for what is published to single hosts and to all of them about quarantines."""

    def __init__(self, bus: Any, seed: int) -> None:
        self._bus, self._random = bus, Random(seed)
        self._late: set[asyncio.Task[None]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def publish(self, subject: str, data: bytes) -> None:
        if not subject.startswith(subjects.down("")) and subject != subjects.ISOLATIONS:
            await self._bus.publish(subject, data)
            return
        fate = self._random.random()
        if fate < LOST:
            return
        if fate < LOST + LATE:
            self._later(subject, data)
            return
        await self._bus.publish(subject, data)
        if fate < LOST + LATE + TWICE:
            self._later(subject, data)

    def _later(self, subject: str, data: bytes) -> None:
        task = asyncio.create_task(self._send(subject, data, self._random.uniform(0, _LATE_S)))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _send(self, subject: str, data: bytes, after_s: float) -> None:
        await asyncio.sleep(after_s)
        with contextlib.suppress(BusError):
            await self._bus.publish(subject, data)
