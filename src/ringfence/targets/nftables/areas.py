"""Which part of the policy is for which of the host's own addresses and processes.

INVARIANT: areas are disjoint and cover every address; in an area a process (unit) has at most one part, and the part
without a unit is for every process none of the area's parts names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from ringfence.core.identity.workload import Direction
from ringfence.core.intent.model import Intent, Part
from ringfence.core.net.address import EVERYWHERE
from ringfence.core.net.intervals import EMPTY, IntervalSet, union


class CgroupRef(NamedTuple):
    """A control group as nftables matches it: depth below the cgroup v2 root, kernel id, path below /sys/fs/cgroup."""

    path: str
    level: int
    id: int


class Area(NamedTuple):
    """Some of the host's own addresses, and the parts that speak there."""

    local: IntervalSet
    parts: tuple[Part, ...]

    @property
    def units(self) -> tuple[Part, ...]:
        return tuple(sorted((p for p in self.parts if p.unit is not None), key=lambda p: p.unit or ""))

    @property
    def base(self) -> Part | None:
        return next((p for p in self.parts if p.unit is None), None)

    def part_of(self, unit: str | None) -> Part | None:
        named = next((p for p in self.parts if unit is not None and p.unit == unit), None)
        return named or self.base


def areas_of(intent: Intent, direction: Direction) -> tuple[Area, ...]:
    """Disjoint areas, sorted; the last one is every address that no part names. Raises ValueError for two parts at
    once.
    """
    parts = [part for part in intent.parts if part.direction == direction]
    everywhere = tuple(part for part in parts if not part.local)
    edges = sorted({edge for part in parts for lo, hi in part.local for edge in (lo, hi + 1)})
    regions: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for lo, following in pairwise(edges):
        holders = tuple(i for i, part in enumerate(parts) if lo in part.local)
        if holders:
            regions.setdefault(holders, []).append((lo, following - 1))
    named = [
        Area(IntervalSet.of(ranges), (*everywhere, *(parts[i] for i in holders))) for holders, ranges in regions.items()
    ]
    rest = EVERYWHERE - union(area.local for area in named) if named else EVERYWHERE
    areas = (*sorted(named, key=lambda a: a.local.ranges), Area(rest, everywhere))
    for area in areas:
        _check(area)
    return areas


def _check(area: Area) -> None:
    units = [part.unit for part in area.parts]
    if len(set(units)) < len(units):
        raise ValueError("two parts of one direction are for the same process at the same address")


def units_of(intent: Intent) -> Iterator[str]:
    yield from sorted({part.unit for part in intent.parts if part.unit is not None})


def covering(areas: Iterable[Area], local: int) -> Area:
    return next((area for area in areas if local in area.local), Area(EMPTY, ()))
