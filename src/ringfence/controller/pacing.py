"""How often an agent may speak: a bucket of tokens for each, looked at before anything it says is read.

INVARIANT: one agent's haste costs that agent's messages, and nobody else's. There are as many buckets as certificates:
whose message it is, the bus made sure of.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

PER_S: Final = 5.0
BURST: Final = 20.0


class Pace:
    """The buckets of one kind of message."""

    def __init__(
        self, per_s: float = PER_S, burst: float = BURST, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self.refused = 0

    def admits(self, uuid: str) -> bool:
        """Take a token of an agent's; whether there was one."""
        now = self._clock()
        tokens, at = self._buckets.get(uuid, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._per_s)
        is_admitted = tokens >= 1
        self._buckets[uuid] = (tokens - 1 if is_admitted else tokens, now)
        self.refused += not is_admitted
        return is_admitted
