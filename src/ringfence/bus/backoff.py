"""How long to wait before trying again: longer each time, and never together with everybody else.

Full jitter: a uniform part of a doubling limit spreads the clients of a server that died over the whole limit
(Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
"""

from __future__ import annotations

import random

import msgspec


class Backoff(msgspec.Struct, frozen=True):
    """From `first_s` to `most_s`, doubling."""

    first_s: float = 2.0
    most_s: float = 15.0

    def pause_s(self, failures: int) -> float:
        """A random pause before the next try, after so many in a row that failed."""
        limit = min(self.most_s, self.first_s * 2.0 ** min(failures, 32))
        return random.uniform(0.0, limit)
