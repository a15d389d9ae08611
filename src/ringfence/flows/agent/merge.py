"""What agents report -> conversations: labelled by who held each address then, both ends' reports as one.

Both ends of a connection count it. Of what passed the larger count is taken; where the destination's host refused some,
its own count is, and what the source sent beyond it was refused. What the source's host refused never left it and adds.
Whoever forwards (`through`) is heard where neither end reports.

INVARIANT: no connection is added up from two reporters, and the order of reports never matters. Reports to be merged
must be given together: those of one stretch of time, when all that are to be expected are in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringfence.core.flow.conversations import DIRECTION_CONFIDENCE, REPORTED, Conversations
from ringfence.core.flow.leases import CONTESTED, LeaseTable
from ringfence.core.flow.programs import DESTINATION, SOURCE, Programs
from ringfence.core.flow.series import HOUR_S
from ringfence.core.world import Endpoint
from ringfence.wire.columns import DIRECTIONS, VERDICTS, FlowRows

_TOLD = DIRECTION_CONFIDENCE.index("originator")
_IN, _OUT, _THROUGH = map(DIRECTIONS.index, ("in", "out", "through"))
_ALLOWED, _BLOCKED, _WOULD = map(VERDICTS.index, ("allowed", "blocked", "would-block"))
_COUNTS = ("connections", "packets", "bytes")
_TIME_BITS = 43
"""Of milliseconds since the epoch, until the year 2248."""
_NOBODY = -2
_KEY = (
    "source_hi",
    "source_lo",
    "destination_hi",
    "destination_lo",
    "network",
    "source",
    "destination",
    "point",
    "hour",
)
_FOREVER = (1 << 63) - 1
_MOST_LETTERS = 255
"""Of a name; the path of a control group may have more, and is cut."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Report:
    """One batch of one agent. `network` is where its addresses live."""

    rows: FlowRows
    network: str = "main"


def merge(reports: Iterable[Report], leases: LeaseTable) -> tuple[Conversations, Programs]:
    """The conversations of all reports together, and the programs at their ends, each as its own host says; the
    workload of an end is who held its address at the row's begin."""
    held = _Held(reports, leases)
    return _conversations(_merged(held.columns), held), _programs(held)


class _Held:
    """The rows of all reports as columns, and who held their addresses."""

    def __init__(self, reports: Iterable[Report], leases: LeaseTable) -> None:
        reports = [report for report in reports if len(report.rows)]
        self._leases, self._networks = leases, sorted({report.network for report in reports})
        self.columns = columns = _columns(reports, self._networks)
        self.units, columns["unit"] = _units(reports)
        holders = _Holders(leases, self._networks)
        for end in ("source", "destination"):
            columns[end] = holders.of(columns[f"{end}_hi"], columns[f"{end}_lo"], columns["network"], columns["first"])

    def ends_of(
        self, rows: dict[str, NDArray[Any]]
    ) -> tuple[tuple[Endpoint, ...], NDArray[np.int32], NDArray[np.int32]]:
        """The endpoints of rows, and the source and the destination of each among them."""
        ends = np.concatenate([_ends(rows, "source"), _ends(rows, "destination")])
        unique, index = np.unique(ends, return_inverse=True)
        endpoints = tuple(
            Endpoint(
                self._leases.workloads[owner + _NOBODY] if owner > CONTESTED - _NOBODY else None,
                hi << 64 | lo,
                self._networks[network],
            )
            for network, owner, hi, lo in unique.view(">u8").reshape(-1, 4).tolist()
        )
        source, destination = np.split(index.astype(np.int32), 2)
        return endpoints, source, destination


def _units(reports: Sequence[Report]) -> tuple[tuple[str, ...], Numbers]:
    """The names of programs that reports have, and each row's; the first is empty."""
    numbers: dict[str, int] = {"": 0}
    columns = [np.zeros(0, np.int64)]
    for report in reports:
        used, inverse = np.unique(report.rows.unit, return_inverse=True)
        names = (report.rows.texts[text][:_MOST_LETTERS] for text in used.tolist())
        columns.append(np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)[inverse])
    return tuple(numbers), np.concatenate(columns)


def _columns(reports: Sequence[Report], networks: Sequence[str]) -> dict[str, NDArray[Any]]:
    def joined(name: str, kind: type[np.generic]) -> NDArray[Any]:
        return np.concatenate([np.zeros(0, kind), *(getattr(report.rows, name) for report in reports)]).astype(kind)

    addresses = ("source_hi", "source_lo", "destination_hi", "destination_lo")
    numbers = ("point", "direction", "verdict", "connections", "first", "last")
    out = {name: joined(name, np.uint64) for name in addresses} | {name: joined(name, np.int64) for name in numbers}
    for name in ("packets", "bytes"):
        out[name] = joined(name, np.int64) + joined(f"reply_{name}", np.int64)
    sizes = [len(report.rows) for report in reports]
    out["network"] = np.repeat([networks.index(report.network) for report in reports], sizes).astype(np.int64)
    out["hour"] = out["first"] // 1000 // HOUR_S
    return out


class _Holders:
    """Who held an address of a network at a time."""

    def __init__(self, leases: LeaseTable, networks: Sequence[str]) -> None:
        self._leases = leases
        numbers = {name: number for number, name in enumerate(leases.networks)}
        self._network = np.array([numbers.get(name, len(numbers)) for name in networks], np.uint64)
        held = _addresses(leases.network.astype(np.uint64), leases.hi, leases.lo)
        self._held, group = np.unique(held, return_inverse=True)
        self._begins = group.astype(np.int64) << _TIME_BITS | _clipped(leases.start)
        self._order = np.argsort(self._begins, kind="stable")
        self._begins = self._begins[self._order]

    def of(self, hi: NDArray[Any], lo: NDArray[Any], network: NDArray[Any], at_ms: Numbers) -> Numbers:
        """Index of the workload; CONTESTED where several claim it, _NOBODY where none held it then."""
        out = np.full(len(hi), _NOBODY, np.int64)
        if not len(self._held):
            return out
        wanted = _addresses(self._network[network], hi, lo)
        group = np.minimum(np.searchsorted(self._held, wanted), len(self._held) - 1)
        place = np.searchsorted(self._begins, group.astype(np.int64) << _TIME_BITS | _clipped(at_ms), "right") - 1
        lease = self._order[np.maximum(place, 0)]
        fits = (self._held[group] == wanted) & (place >= 0) & (self._begins[place] >> _TIME_BITS == group)
        fits &= (self._leases.start[lease] <= at_ms) & (at_ms < self._leases.end[lease])
        out[fits] = self._leases.owner[lease[fits]]
        return out


def _addresses(network: NDArray[Any], hi: NDArray[Any], lo: NDArray[Any]) -> NDArray[Any]:
    """Each as 24 big-endian bytes, which sort as the numbers do."""
    table = np.empty((len(hi), 3), ">u8")
    table[:, 0], table[:, 1], table[:, 2] = network, hi, lo
    return table.view("V24").ravel()


def _clipped(at_ms: Numbers) -> Numbers:
    return np.clip(at_ms, 0, (1 << _TIME_BITS) - 1)


def _merged(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """One row a key and what became of it, in columns named as those of Conversations."""
    order = np.lexsort([columns[name] for name in _KEY])
    rows = {name: column[order] for name, column in columns.items()}
    start = _starts(rows, _KEY)
    key = {name: rows[name][start] for name in _KEY}
    counted = {name: _outcomes(*_by_reporter(rows, name, start)) for name in _COUNTS}
    times = [_times(rows, verdict, start) for verdict in range(len(VERDICTS))]
    parts = []
    for verdict in range(len(VERDICTS)):
        counts = {name: counted[name][verdict] for name in _COUNTS}
        has_any = (counts["connections"] > 0) | (counts["packets"] > 0)
        first, last = times[verdict]
        every = times[_ALLOWED] if verdict == _BLOCKED else (first, last)
        first = np.where(first == _FOREVER, every[0], first)
        last = np.where(last < 0, every[1], last)
        reported = np.full(len(start), REPORTED.index(VERDICTS[verdict]), np.int64)
        part = key | counts | {"first": first, "last": last, "reported": reported}
        parts.append({name: column[has_any] for name, column in part.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _starts(rows: dict[str, NDArray[Any]], key: Sequence[str]) -> NDArray[np.intp]:
    """Where each key begins, in rows that are sorted by it."""
    count = len(rows[key[0]])
    differs = np.zeros(max(count - 1, 0), bool)
    for name in key:
        differs |= rows[name][1:] != rows[name][:-1]
    return np.flatnonzero(np.r_[True, differs]) if count else np.zeros(0, np.intp)


def _by_reporter(rows: dict[str, NDArray[Any]], name: str, start: NDArray[np.intp]) -> list[list[Numbers]]:
    """[direction][verdict] -> sums of each key."""
    return [
        [_sum(np.where((rows["direction"] == d) & (rows["verdict"] == v), rows[name], 0), start)
         for v in range(len(VERDICTS))] for d in range(len(DIRECTIONS))
    ]  # fmt: skip


def _sum(values: Numbers, start: NDArray[np.intp]) -> Numbers:
    return np.add.reduceat(values, start) if len(start) else np.zeros(0, np.int64)


def _outcomes(
    inward: list[Numbers], outward: list[Numbers], through: list[Numbers]
) -> tuple[Numbers, Numbers, Numbers]:
    """(allowed, blocked, would-block) of one count."""
    arrived, sent = (end[_ALLOWED] + end[_WOULD] for end in (inward, outward))
    refused = inward[_BLOCKED] > 0
    passed = np.where(refused, arrived, np.maximum(arrived, sent))
    blocked = np.where(refused, np.maximum(inward[_BLOCKED], sent - arrived), 0) + outward[_BLOCKED]
    is_unheard = (passed == 0) & (blocked == 0)
    passed = np.where(is_unheard, through[_ALLOWED] + through[_WOULD], passed)
    would = np.minimum(np.maximum(inward[_WOULD], outward[_WOULD]), passed)
    return passed - would, blocked, would


def _times(rows: dict[str, NDArray[Any]], verdict: int, start: NDArray[np.intp]) -> tuple[Numbers, Numbers]:
    """First and last second of each key's rows of one verdict."""
    if not len(start):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    fits = rows["verdict"] == verdict
    first = np.minimum.reduceat(np.where(fits, rows["first"] // 1000, _FOREVER), start)
    return first, np.maximum.reduceat(np.where(fits, rows["last"] // 1000, -1), start)


def _conversations(rows: dict[str, NDArray[Any]], held: _Held) -> Conversations:
    order = np.argsort(rows["hour"], kind="stable")
    rows = {name: column[order] for name, column in rows.items()}
    endpoints, source, destination = held.ends_of(rows)
    return Conversations(
        endpoints,
        source,
        destination,
        rows["point"].astype(np.int32),
        rows["reported"].astype(np.uint8),
        rows["hour"] * HOUR_S,
        rows["connections"],
        rows["packets"],
        rows["bytes"],
        rows["first"],
        rows["last"],
        np.full(len(order), _TOLD, np.uint8),
    )


def _programs(held: _Held) -> Programs:
    columns = held.columns
    is_told = (columns["unit"] > 0) & (columns["direction"] != _THROUGH)
    columns = {name: column[is_told] for name, column in columns.items()}
    columns["side"] = np.where(columns["direction"] == _OUT, SOURCE, DESTINATION)
    key = (*_KEY, "side", "unit")
    order = np.lexsort([columns[name] for name in key])
    rows = {name: column[order] for name, column in columns.items()}
    start = _starts(rows, key)
    firsts = {name: column[start] for name, column in rows.items()}
    endpoints, source, destination = held.ends_of(firsts)
    return Programs(
        endpoints,
        held.units,
        source,
        destination,
        firsts["point"].astype(np.int32),
        firsts["hour"] * HOUR_S,
        firsts["side"].astype(np.uint8),
        firsts["unit"].astype(np.int32),
        _sum(rows["connections"], start),
    )


def _ends(rows: dict[str, NDArray[Any]], end: str) -> NDArray[Any]:
    """Each endpoint as bytes: network, owner (0 nobody, 1 contested, from 2 on the workload), address."""
    table = np.empty((len(rows["hour"]), 4), ">u8")
    table[:, 0], table[:, 1] = rows["network"], rows[end] - _NOBODY
    table[:, 2], table[:, 3] = rows[f"{end}_hi"], rows[f"{end}_lo"]
    return table.view("V32").ravel()
