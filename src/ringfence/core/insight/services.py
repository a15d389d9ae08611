"""Observed service points by name: a policy's own services first, then the built-in dictionary, else the point.

INVARIANT: a point has one name. Of several that cover it the narrowest wins, then the least; own ones beat built-in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ringfence.core.insight.fold import ranked
from ringfence.core.net.intervals import IntervalSet, union
from ringfence.core.net.service import WELL_KNOWN, format_point, parse_service
from ringfence.core.policy.model import Policy


@dataclass(frozen=True)
class Named:
    """A column of points as services: `service` numbers them, `text` tells what a number is called."""

    service: NDArray[np.int64]
    names: tuple[str, ...]
    """Of the numbers below `len(names)`; the rest are unnamed points."""
    points: NDArray[np.int64]

    def text(self, service: int) -> str:
        if service < len(self.names):
            return self.names[service]
        return format_point(int(self.points[service - len(self.names)]))


class ServiceNames:
    """The dictionary of an estate: its own named services over the well-known ones."""

    def __init__(self, own: Mapping[str, IntervalSet]) -> None:
        self._own = dict(own)

    def of(self, point: NDArray[np.int32]) -> Named:
        """Every point's service. Vectorised over the distinct points, a pass a name."""
        distinct, inverse = ranked(point)
        names: list[str] = []
        service = np.full(len(distinct), -1, np.int64)
        for name, points in self._widest_first():
            if name not in names:
                names.append(name)
            for lo, hi in points:
                service[np.searchsorted(distinct, lo) : np.searchsorted(distinct, hi, "right")] = names.index(name)
        unnamed = np.flatnonzero(service < 0)
        service[unnamed] = len(names) + np.arange(len(unnamed))
        return Named(service[inverse], tuple(names), distinct[unnamed])

    def _widest_first(self) -> Iterator[tuple[str, IntervalSet]]:
        """Painted in this order, the last coat is the name that counts."""
        for book in (well_known(), self._own):
            yield from sorted(book.items(), key=lambda item: (item[1].size, item[0]), reverse=True)

    @staticmethod
    def point_text(point: int) -> str:
        return format_point(point)


@cache
def well_known() -> Mapping[str, IntervalSet]:
    """The built-in dictionary as points."""
    return {name: union(parse_service(word) for word in text.split()) for name, text in WELL_KNOWN.items()}


def named_services(policies: Sequence[Policy]) -> dict[str, IntervalSet]:
    """The services that policies define, by name; `policy.name` where two policies mean different things by it."""
    meanings: dict[str, set[IntervalSet]] = {}
    for policy in policies:
        for service in policy.services:
            meanings.setdefault(service.name, set()).add(service.services)
    return {
        service.name if len(meanings[service.name]) == 1 else f"{policy.name}.{service.name}": service.services
        for policy in policies
        for service in policy.services
    }
