"""Atoms of a line: the coarsest partition in which every given interval set is a union of parts.

The same cut serves services (24-bit points) and addresses (128-bit points): Delta-net's intervals, merged by
equal membership, which makes them atomic predicates (Yang and Lam, ICNP 2013).

INVARIANT: every point is in exactly one atom; no two atoms lie in the same sets; no atom is empty.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ringfence.core.engine.bits import members, of_ids
from ringfence.core.net.intervals import IntervalSet


class Partition:
    """The atoms of `0..last` cut by `sets`."""

    def __init__(self, sets: Sequence[IntervalSet], last: int) -> None:
        self.last = last
        self.starts, signatures = _sweep(sets, last)
        ids: dict[int, int] = {}
        self.segment_atom = [ids.setdefault(signature, len(ids)) for signature in signatures]
        self.signatures = list(ids)
        """Per atom, the bitset of `sets` that contain it."""
        self._small = np.array(self.starts, dtype=np.int64) if last < 1 << 62 else None
        self._atom_of_segment = np.array(self.segment_atom, dtype=np.int32)

    def __len__(self) -> int:
        return len(self.signatures)

    @property
    def full(self) -> int:
        """The bitset of all atoms."""
        return (1 << len(self)) - 1

    def atom(self, value: int) -> int:
        return self.segment_atom[bisect_right(self.starts, value) - 1]

    def atoms(self, values: NDArray[np.integer]) -> NDArray[np.int32]:
        """The atom of each point (lines below 62 bits)."""
        assert self._small is not None
        return self._atom_of_segment[np.searchsorted(self._small, values, side="right") - 1]

    def mask(self, wanted: IntervalSet) -> int | None:
        """The bitset of atoms that make up the set, or None when the set cuts an atom."""
        stretches: list[int] = []
        for lo, hi in wanted:
            first, last = bisect_right(self.starts, lo) - 1, bisect_right(self.starts, hi) - 1
            if self.starts[first] != lo or self._end(last) != hi:
                return None
            stretches += self.segment_atom[first : last + 1]
        is_whole = all(self._stretches[atom] == count for atom, count in Counter(stretches).items())
        return of_ids(stretches) if is_whole else None

    def _end(self, segment: int) -> int:
        return self.starts[segment + 1] - 1 if segment + 1 < len(self.starts) else self.last

    @cached_property
    def _stretches(self) -> Counter[int]:
        """How many segments each atom has."""
        return Counter(self.segment_atom)

    def masks(self, count: int) -> list[int]:
        """For each of the first `count` sets it was cut by, the bitset of its atoms."""
        out = [0] * count
        for atom, signature in enumerate(self.signatures):
            for member in members(signature & ((1 << count) - 1)):
                out[member] |= 1 << atom
        return out

    @cached_property
    def segments(self) -> list[tuple[int, int, int]]:
        """(first, last, atom) of each stretch, in order."""
        ends = [start - 1 for start in self.starts[1:]] + [self.last]
        return list(zip(self.starts, ends, self.segment_atom, strict=True))

    def points(self, mask: int) -> IntervalSet:
        """The points of a bitset of atoms."""
        return IntervalSet.of((start, end) for start, end, atom in self.segments if mask >> atom & 1)


def _sweep(sets: Sequence[IntervalSet], last: int) -> tuple[list[int], list[int]]:
    """Cut points, and the bitset of covering sets from each cut to the next."""
    flips: dict[int, int] = {0: 0}
    for index, intervals in enumerate(sets):
        for lo, hi in intervals:
            flips[lo] = flips.get(lo, 0) ^ 1 << index
            if hi < last:
                flips[hi + 1] = flips.get(hi + 1, 0) ^ 1 << index
    starts, signatures, current = sorted(flips), [], 0
    for start in starts:
        current ^= flips[start]
        signatures.append(current)
    return starts, signatures
