"""Which sources reach for many destinations or services at once: scans, and what moves sideways through an estate.

INVARIANT: bounded: at most `sources` are watched, the least recently heard is forgotten first; of each only what is
needed to see that it is broad.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

import msgspec

from ringfence.controller.alerts.occurrences import Occurrence

_PAUSES = 10
"""A source that reached for nothing new for so small a part of the window has paused: the slowest scan there is, by
even steps, goes on at half of that."""


class Scan(NamedTuple):
    """One stretch of a source's being broad."""

    since: datetime
    """When it began to reach for one thing after another."""
    is_new: bool
    """It was seen to be one only now."""


class _Reach(msgspec.Struct):
    since: datetime
    destinations: dict[str, datetime]
    """When each was first reached for; as `services`."""
    services: dict[str, datetime]
    broad_since: datetime | None = None
    broad_until: datetime | None = None


class Breadth:
    """Counts, for each source, distinct destinations and distinct services in a window that starts with the first."""

    def __init__(
        self, *, destinations: int = 20, services: int = 20, window_s: float = 600.0, sources: int = 10_000
    ) -> None:
        self._destinations, self._services = destinations, services
        self._window, self._most = timedelta(seconds=window_s), sources
        self._pause = self._window / _PAUSES
        self._reaches: OrderedDict[str, _Reach] = OrderedDict()

    def note(self, occurrence: Occurrence, now: datetime) -> Scan | None:
        """The scan this is part of, if the source is broad now; it stays so until it was quiet for a window."""
        source, destination = occurrence.source, occurrence.destination
        if source is None or destination is None:
            return None
        reach = self._reaches.get(source.name)
        if reach is None or (reach.broad_until is None and now - reach.since > self._window):
            reach = self._reaches[source.name] = _Reach(now, {}, {})
        self._reaches.move_to_end(source.name)
        if len(self._reaches) > self._most:
            self._reaches.popitem(last=False)
        return self._scan(reach, destination.address or destination.name, occurrence.service, now)

    def _scan(self, reach: _Reach, destination: str, service: str, now: datetime) -> Scan | None:
        if reach.broad_until is not None and now >= reach.broad_until:
            reach.since, reach.destinations, reach.services = now, {}, {}
            reach.broad_since = reach.broad_until = None
        is_new = reach.broad_since is None
        if is_new:
            reach.destinations.setdefault(destination, now)
            reach.services.setdefault(service, now)
            reach.broad_since = self._began(reach)
        if reach.broad_since is None:
            return None
        reach.broad_until = now + self._window
        return Scan(reach.broad_since, is_new)

    def _began(self, reach: _Reach) -> datetime | None:
        """When it began, if it is broad: what came before the last pause is not part of it."""
        many = ((reach.destinations, self._destinations), (reach.services, self._services))
        times = [time for reached, most in many if len(reached) >= most for time in reached.values()]
        if not times:
            return None
        times.sort(reverse=True)
        pauses = (later for later, earlier in pairwise(times) if later - earlier > self._pause)
        return next(pauses, times[-1])

    def forget(self, now: datetime) -> None:
        """Drop sources that have been quiet for a window."""
        for name, reach in list(self._reaches.items()):
            end = reach.broad_until or reach.since + self._window
            if now >= end:
                del self._reaches[name]
