"""The swift way: addresses that changed their class, and quarantines, at the cost of the change.

It starts where a whole converge ended, and goes on as long as nothing else changed. Whatever it cannot express goes the
whole way: another policy, a trial, a class that gets its first address or loses its last.

INVARIANT: the intent it ends at is the one the whole way ends at (proven in tests/agent).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec

from ringfence.agent.held.held import Held, News
from ringfence.agent.held.members import moves
from ringfence.agent.point import Point
from ringfence.core.errors import RingfenceError
from ringfence.core.intent.model import Intent, Passage
from ringfence.ports.target import Observed

_log = logging.getLogger(__name__)
Take = Callable[[Intent, Observed], None]
"""Hears what is in force by now, as read back."""


class Ground(msgspec.Struct, frozen=True):
    """What the last converge ended at."""

    name: str
    """Of the policy."""
    channel: tuple[Passage, ...]
    policy: Intent
    """To the controller's letter."""
    intent: Intent
    """With the way to the controller."""

    def stands(self, held: Held, now: datetime, channel: tuple[Passage, ...]) -> bool:
        """Whether only members and quarantines can have changed."""
        assignment = held.assignment
        return assignment is not None and channel == self.channel and held.policy(assignment, now) == self.name


class Swift:
    """One step over the ground."""

    def __init__(self, held: Held, point: Point, in_thread: Callable[..., Awaitable[Observed]], take: Take) -> None:
        self._held, self._point, self._in_thread, self._take = held, point, in_thread, take

    async def step(self, ground: Ground, news: News, now: datetime) -> Ground | None:
        """The ground afterwards; None where it has to go the whole way."""
        try:
            if news.is_isolated_anew:
                ground = await self._isolate(ground)
            return await self._move(ground, news.moved or set(), now)
        except RingfenceError as error:
            _log.info("a change goes the whole way: %s", error)
            return None

    async def _isolate(self, ground: Ground) -> Ground:
        intent = self._held.isolated(ground.intent)
        observed = await self._in_thread(self._point.isolate, intent)
        self._take(intent, observed)
        return msgspec.structs.replace(ground, intent=intent, policy=self._held.isolated(ground.policy))

    async def _move(self, ground: Ground, moved: set[int], now: datetime) -> Ground | None:
        found = moves(ground.policy, self._held.classes_of(moved, now))
        if found is None:
            return None
        if found.is_empty:
            return ground
        intent = msgspec.structs.replace(ground.intent, peers=found.intent.peers)
        observed = await self._in_thread(self._point.move, found.added, found.removed)
        self._take(intent, observed)
        return msgspec.structs.replace(ground, intent=intent, policy=found.intent)
