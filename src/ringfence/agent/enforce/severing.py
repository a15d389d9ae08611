"""Connections that the rules refuse by now: the rules have cut them already, and programs learn of it.

INVARIANT: nothing depends on this. What drains is looked at again when its grace is over.
"""

from __future__ import annotations

import time
from typing import Final

from ringfence.ports.target import Observed

SETTLE_S: Final = 0.1
"""Looking through all sockets waits a moment, so that the next change does not wait for it."""


class Severing:
    """When to look for them."""

    def __init__(self) -> None:
        self._number = 0
        self._at: set[float] = set()

    def note(self, observed: Observed, *, grace_s: float) -> None:
        """A new generation of connections means that something was taken away."""
        number = int(getattr(observed, "policy_generation", 0))
        if self._number and number != self._number:
            now = time.monotonic()
            self._at |= {now + SETTLE_S, now + grace_s + SETTLE_S}
        self._number = number

    @property
    def next_at(self) -> float | None:
        """On the monotonic clock."""
        return min(self._at, default=None)

    def take(self) -> bool:
        """Whether it is time."""
        later = {at for at in self._at if at > time.monotonic()}
        is_due, self._at = later != self._at, later
        return is_due
