"""Which sources reach for many destinations or services at once: scans, and what moves sideways through an estate.

INVARIANT: bounded: at most `sources` are watched, the least recently heard is forgotten first; of each only what is
needed to see that it is broad.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta

import msgspec

from ringfence.controller.alerts.occurrences import Occurrence


class _Reach(msgspec.Struct):
    since: datetime
    destinations: set[str]
    services: set[str]
    broad_until: datetime | None = None


class Breadth:
    """Counts, for each source, distinct destinations and distinct services in a window that starts with the first."""

    def __init__(
        self, *, destinations: int = 20, services: int = 20, window_s: float = 600.0, sources: int = 10_000
    ) -> None:
        self._destinations, self._services = destinations, services
        self._window, self._most = timedelta(seconds=window_s), sources
        self._reaches: OrderedDict[str, _Reach] = OrderedDict()

    def note(self, occurrence: Occurrence, now: datetime) -> bool:
        """Whether the source is broad now; it stays so until it was quiet for a window."""
        source, destination = occurrence.source, occurrence.destination
        if source is None or destination is None:
            return False
        reach = self._reaches.get(source.name)
        if reach is None or (reach.broad_until is None and now - reach.since > self._window):
            reach = self._reaches[source.name] = _Reach(now, set(), set())
        self._reaches.move_to_end(source.name)
        if len(self._reaches) > self._most:
            self._reaches.popitem(last=False)
        return self._is_broad(reach, destination.address or destination.name, occurrence.service, now)

    def _is_broad(self, reach: _Reach, destination: str, service: str, now: datetime) -> bool:
        if reach.broad_until is not None and now >= reach.broad_until:
            reach.since, reach.destinations, reach.services, reach.broad_until = now, set(), set(), None
        if reach.broad_until is None:
            reach.destinations.add(destination)
            reach.services.add(service)
            if len(reach.destinations) < self._destinations and len(reach.services) < self._services:
                return False
        reach.broad_until = now + self._window
        return True

    def forget(self, now: datetime) -> None:
        """Drop sources that have been quiet for a window."""
        for name, reach in list(self._reaches.items()):
            end = reach.broad_until or reach.since + self._window
            if now >= end:
                del self._reaches[name]
