"""Sets of integers as sorted, disjoint, inclusive intervals: the one algebra for addresses and services.

INVARIANT: `ranges` is sorted, non-overlapping and non-adjacent, so two sets are equal iff their ranges are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

import msgspec

_BEYOND = 1 << 128
"""Above every end of an interval of addresses or services."""


class IntervalSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An immutable set of non-negative integers. Build it with `IntervalSet.of`."""

    ranges: tuple[tuple[int, int], ...] = ()

    @staticmethod
    def of(ranges: Iterable[tuple[int, int]]) -> IntervalSet:
        """The set of all integers in any of the inclusive `ranges`; overlaps and adjacency are merged."""
        merged: list[tuple[int, int]] = []
        for lo, hi in sorted(ranges):
            if lo > hi:
                raise ValueError(f"interval {lo}..{hi} is backwards")
            if merged and lo <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], hi))
            else:
                merged.append((lo, hi))
        return IntervalSet(tuple(merged))

    @staticmethod
    def single(value: int) -> IntervalSet:
        return IntervalSet(((value, value),))

    @staticmethod
    def of_values(values: Iterable[int]) -> IntervalSet:
        """The set of just these integers."""
        return IntervalSet.of((value, value) for value in values)

    def __contains__(self, value: int) -> bool:
        index = bisect_right(self.ranges, (value, _BEYOND)) - 1
        return index >= 0 and value <= self.ranges[index][1]

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.ranges)

    def __or__(self, other: IntervalSet) -> IntervalSet:
        return IntervalSet.of(self.ranges + other.ranges)

    def __and__(self, other: IntervalSet) -> IntervalSet:
        out: list[tuple[int, int]] = []
        i = j = 0
        while i < len(self.ranges) and j < len(other.ranges):
            lo = max(self.ranges[i][0], other.ranges[j][0])
            hi = min(self.ranges[i][1], other.ranges[j][1])
            if lo <= hi:
                out.append((lo, hi))
            if self.ranges[i][1] < other.ranges[j][1]:
                i += 1
            else:
                j += 1
        return IntervalSet(tuple(out))

    def __sub__(self, other: IntervalSet) -> IntervalSet:
        out: list[tuple[int, int]] = []
        holes = other.ranges
        j = 0
        for lo, hi in self.ranges:
            start = lo
            while j < len(holes) and holes[j][1] < start:
                j += 1
            k = j
            while k < len(holes) and holes[k][0] <= hi:
                if holes[k][0] > start:
                    out.append((start, holes[k][0] - 1))
                start = max(start, holes[k][1] + 1)
                k += 1
            if start <= hi:
                out.append((start, hi))
        return IntervalSet(tuple(out))

    def covers(self, other: IntervalSet) -> bool:
        return not other - self

    def overlaps(self, other: IntervalSet) -> bool:
        return bool(self & other)

    @property
    def size(self) -> int:
        """How many integers are in the set."""
        return sum(hi - lo + 1 for lo, hi in self.ranges)


EMPTY = IntervalSet()


def union(sets: Iterable[IntervalSet]) -> IntervalSet:
    return IntervalSet.of(r for s in sets for r in s.ranges)
