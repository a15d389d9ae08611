"""Programs at the ends of rows: what hosts said of their own units, laid onto the traffic that a query picked.

INVARIANT: it is shown and decides nothing. Rows without it stay: nobody said which program it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ringfence.controller.study.grounds import Grounds
from ringfence.controller.study.queries import View, span_of
from ringfence.core.engine.bits import spread
from ringfence.core.flow.conversations import Conversations
from ringfence.core.insight.fold import dense
from ringfence.core.insight.seating import last_seen, seat
from ringfence.core.world import Endpoint

_MOST: int = 200_000
"""Rows that are asked for, the busiest."""
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class ProgramsAtRows:
    """Columns of equal length, by row and side, the busiest first."""

    names: tuple[str, ...]
    """The first is empty."""
    row: Ids
    side: Ids
    name: Ids
    connections: Ids

    def where(self, mask: NDArray[np.bool_]) -> ProgramsAtRows:
        """Those that a mask picks."""
        columns = (column[mask] for column in (self.row, self.side, self.name, self.connections))
        return ProgramsAtRows(self.names, *columns)


def programs_at(grounds: Grounds, view: View, rows: Conversations) -> ProgramsAtRows:
    """Of some rows of a view."""
    since, until = span_of(view.query)
    used = np.unique(np.concatenate([rows.source, rows.destination])).tolist()
    uuids = {end.workload.uuid for end in map(rows.endpoints.__getitem__, used) if end.workload is not None}
    found = grounds.flows.programs(since, until, workloads=uuids, most=_MOST)
    at, inventory = last_seen(grounds.rows(view.ground, since, until)), view.ground.world.inventory
    numbers: dict[tuple[str, str, int | None], int] = {}
    same = np.arange(len(rows.endpoints))
    for end in used:
        same[end] = numbers.setdefault(_key(rows.endpoints[end]), end)
    place = np.array([numbers.get(_key(seat(end, inventory, at)), -1) for end in found.endpoints], np.int64)
    said = found.where((place[found.source] >= 0) & (place[found.destination] >= 0))
    source = np.concatenate([same[rows.source], place[said.source]])
    destination = np.concatenate([same[rows.destination], place[said.destination]])
    key = dense(source, destination, np.concatenate([rows.point, said.point]))
    row, which = _joined(key[: len(rows)], key[len(rows) :])
    side, counts = said.side[which].astype(np.int64), said.connections[which]
    order = np.lexsort((said.name[which], -counts, side, row))
    name = said.name[which].astype(np.int64) + 1
    return ProgramsAtRows(("", *said.names), row[order], side[order], name[order], counts[order])


def _key(end: Endpoint) -> tuple[str, str, int | None]:
    return end.workload.uuid if end.workload is not None else "", end.network, end.address


def _joined(left: Ids, right: Ids) -> tuple[Ids, Ids]:
    """The places of equal keys: each of `left` with each of `right`."""
    order = np.argsort(left, kind="stable")
    first = np.searchsorted(left[order], right, "left")
    times = np.searchsorted(left[order], right, "right") - first
    which, nth = spread(times)
    return order[first[which] + nth], which
