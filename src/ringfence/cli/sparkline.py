"""A row of numbers as one line of blocks."""

from __future__ import annotations

from collections.abc import Sequence

_BLOCKS = " ▁▂▃▄▅▆▇█"
_WIDTH = 60


def sparkline(values: Sequence[int]) -> str:
    """At most 60 blocks; a longer row is summed into that many, and zero is a space."""
    size = max(1, -(-len(values) // _WIDTH))
    sums = [sum(values[start : start + size]) for start in range(0, len(values), size)]
    top = max(sums, default=0) or 1
    return "".join(_BLOCKS[-(-value * (len(_BLOCKS) - 1) // top)] for value in sums)
