"""The agent's clocks: the wall's for dates, the boot's for how long, and how far the wall's is from the controller's.

INVARIANT: how long something lasts is measured by a clock that nobody can set (CLOCK_BOOTTIME counts sleep, too).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

SKEWED_S: Final = 60.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock:
    """What time it is here, and there."""

    def __init__(self) -> None:
        self.offset_s = 0.0
        """The controller's clock less this one, by the last answer."""
        self._boot = ""

    def wall_s(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.wall_s(), UTC)

    def since_boot_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot(self) -> str:
        """Which boot of the machine this is."""
        self._boot = self._boot or _BOOT_ID.read_text().strip()
        return self._boot

    def note(self, controller_s: float, sent_s: float, received_s: float) -> None:
        """The controller said its time between these two moments of ours (RFC 5905 section 8, one way assumed)."""
        self.offset_s = controller_s - (sent_s + received_s) / 2

    @property
    def is_skewed(self) -> bool:
        """Dates of policy turn visibly early or late here."""
        return abs(self.offset_s) > SKEWED_S
