"""How much one question may take of this machine's memory.

INVARIANT: two questions at once, with all that is kept of earlier ones, fit into half of it; what does not fit is
refused with `too-much`, and never left out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ringfence.ports.flow_store import Most

_ROW_BYTES: Final = 320
"""Of a row of traffic: 70 of columns, what sorting and judging it takes beside them, and copies that are kept."""
_SHARE: Final = 8
_FEWEST_ROWS: Final = 500_000
_ROWS_AN_END: Final = 4
"""An end takes as much as so many rows, at most."""
_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")


def most_of(memory_bytes: int) -> Most:
    """What one answer may be on a machine with so much memory."""
    rows = max(_FEWEST_ROWS, memory_bytes // _SHARE // _ROW_BYTES)
    return Most(rows, rows // _ROWS_AN_END)


def memory_bytes(limit: Path = _LIMIT) -> int:
    """What this machine has, or what its container may take."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(whole, int(limit.read_text()))
    except (OSError, ValueError):  # no cgroup of version 2, or no limit: `max`
        return whole
