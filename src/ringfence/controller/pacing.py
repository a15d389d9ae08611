"""How often something may happen: buckets of tokens, one for each agent that speaks, one for rounds of work.

INVARIANT: one agent's haste costs that agent's messages, and nobody else's. Whose message it is, the bus made sure of;
the bucket is looked at before anything it says is read.
INVARIANT: there are as many buckets as agents that spoke lately, and twice that at most: one that is full again is
forgotten, which changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

PER_S: Final = 5.0
BURST: Final = 20.0
_FEW: Final = 1024
"""Buckets that are not worth looking through."""


class Bucket(NamedTuple):
    """What was left, and when (s of a steady clock)."""

    left: float
    at: float


class Refill(NamedTuple):
    """How a bucket fills: tokens a second, up to a burst."""

    per_s: float
    burst: float

    def left(self, bucket: Bucket | None, now: float) -> float:
        """The tokens in it; one that was never used is full."""
        return self.burst if bucket is None else min(self.burst, bucket.left + (now - bucket.at) * self.per_s)


class Pace:
    """The buckets of one kind of message."""

    def __init__(
        self, per_s: float = PER_S, burst: float = BURST, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._refill, self._clock = Refill(per_s, burst), clock
        self._buckets: dict[str, Bucket] = {}
        self._most = _FEW
        self.refused = 0

    def admits(self, uuid: str) -> bool:
        """Take a token of an agent's; whether there was one."""
        now = self._clock()
        left = self._refill.left(self._buckets.get(uuid), now)
        is_admitted = left >= 1
        self._buckets[uuid] = Bucket(left - is_admitted, now)
        self.refused += not is_admitted
        if len(self._buckets) > self._most:
            self._forget(now)
        return is_admitted

    def _forget(self, now: float) -> None:
        """Those that are full."""
        full_s = self._refill.burst / self._refill.per_s
        self._buckets = {uuid: one for uuid, one in self._buckets.items() if now - one.at < full_s}
        self._most = max(_FEW, 2 * len(self._buckets))


class Rounds:
    """When the next round of some work may begin; one that begins too early is owed for."""

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._refill, self._clock = Refill(per_s, burst), clock
        self._bucket: Bucket | None = None

    def begin(self) -> None:
        """Count one."""
        now = self._clock()
        self._bucket = Bucket(self._refill.left(self._bucket, now) - 1, now)

    @property
    def wait_s(self) -> float:
        """Before the next one."""
        return max(0.0, (1 - self._refill.left(self._bucket, self._clock())) / self._refill.per_s)
