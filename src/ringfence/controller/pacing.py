"""How often an agent may speak: a bucket of tokens for each, looked at before anything it says is read.

INVARIANT: one agent's haste costs that agent's messages, and nobody else's. Whose message it is, the bus made sure of.
INVARIANT: there are as many buckets as agents that spoke lately, and twice that at most: one that is full again is
forgotten, which changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

PER_S: Final = 5.0
BURST: Final = 20.0
_FEW: Final = 1024
"""Buckets that are not worth looking through."""


class Pace:
    """The buckets of one kind of message."""

    def __init__(
        self, per_s: float = PER_S, burst: float = BURST, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._most = _FEW
        self.refused = 0

    def admits(self, uuid: str) -> bool:
        """Take a token of an agent's; whether there was one."""
        now = self._clock()
        tokens, at = self._buckets.get(uuid, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._per_s)
        is_admitted = tokens >= 1
        self._buckets[uuid] = (tokens - 1 if is_admitted else tokens, now)
        self.refused += not is_admitted
        if len(self._buckets) > self._most:
            self._forget(now)
        return is_admitted

    def _forget(self, now: float) -> None:
        """Those that are full."""
        full_s = self._burst / self._per_s
        self._buckets = {uuid: one for uuid, one in self._buckets.items() if now - one[1] < full_s}
        self._most = max(_FEW, 2 * len(self._buckets))
