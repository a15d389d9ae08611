"""Who held an address when, as sorted columns: the inventory's leases cut into disjoint stretches.

INVARIANT: rows are sorted by (network, address, start) and stretches of one address never overlap. Where two workloads
held one address at once the stretch belongs to nobody (owner -1): whoever decides asks the inventory for every holder
and takes the worst.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Workload

FOREVER = (1 << 63) - 1
CONTESTED = -1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_LOW = (1 << 64) - 1


@dataclass(frozen=True)
class LeaseTable:
    """Columns of equal length; times are milliseconds since the epoch, half open."""

    networks: tuple[str, ...]
    workloads: tuple[Workload, ...]
    hi: NDArray[np.uint64]
    lo: NDArray[np.uint64]
    network: NDArray[np.uint32]
    """Index into `networks`."""
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    owner: NDArray[np.int32]
    """Index into `workloads`, or CONTESTED."""

    @staticmethod
    def of(inventory: Inventory) -> LeaseTable:
        """The stretches of every lease; processes hold no address of their own, their host does."""
        networks: dict[str, int] = {}
        rows = _rows(inventory, networks)
        order = np.lexsort((rows.end, rows.start, rows.lo, rows.hi, rows.network))
        rows = _disjoint(rows.where(order))
        return LeaseTable(
            tuple(networks),
            inventory.workloads,
            rows.hi,
            rows.lo,
            rows.network.astype(np.uint32),
            rows.start,
            rows.end,
            rows.owner.astype(np.int32),
        )


class _Rows(NamedTuple):
    network: NDArray[np.int64]
    hi: NDArray[np.uint64]
    lo: NDArray[np.uint64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    owner: NDArray[np.int64]

    def where(self, which: NDArray[Any]) -> _Rows:
        """The rows a boolean mask or index array picks."""
        network, hi, lo, start, end, owner = (column[which] for column in self)
        return _Rows(network, hi, lo, start, end, owner)


def _rows(inventory: Inventory, networks: dict[str, int]) -> _Rows:
    held = [
        (owner, lease)
        for owner, workload in enumerate(inventory.workloads)
        if workload.kind != "process"
        for lease in workload.addresses
    ]
    rows = _Rows(
        np.array([networks.setdefault(lease.network, len(networks)) for _, lease in held], np.int64),
        np.array([lease.address >> 64 for _, lease in held], np.uint64),
        np.array([lease.address & _LOW for _, lease in held], np.uint64),
        np.array([_ms(lease.start, -FOREVER) for _, lease in held], np.int64),
        np.array([_ms(lease.end, FOREVER) for _, lease in held], np.int64),
        np.array([owner for owner, _ in held], np.int64),
    )
    is_empty = rows.start >= rows.end
    return rows.where(~is_empty) if is_empty.any() else rows


def _ms(at: datetime | None, unbounded: int) -> int:
    """Rounded up: a time of whole milliseconds is at or after `at` iff it is at or after this."""
    return unbounded if at is None else -((_EPOCH - at) // _MS)


def _disjoint(rows: _Rows) -> _Rows:
    """Sorted rows with the addresses that have overlapping leases cut into stretches."""
    is_same = np.all([column[1:] == column[:-1] for column in rows[:3]], axis=0)
    overlaps = np.flatnonzero(is_same & (rows.start[1:] < rows.end[:-1]))
    if not len(overlaps):
        return rows
    group = np.r_[0, np.cumsum(~is_same)]
    is_cut = np.isin(group, group[overlaps])
    cut = [row for number in np.unique(group[overlaps]) for row in _cut(np.flatnonzero(group == number), rows)]
    network, hi, lo, start, end, owner = (
        np.r_[column[~is_cut], np.array([row[at] for row in cut], column.dtype)] for at, column in enumerate(rows)
    )
    order = np.lexsort((start, lo, hi, network))
    return _Rows(network, hi, lo, start, end, owner).where(order)


def _cut(which: NDArray[np.intp], rows: _Rows) -> Iterator[tuple[int, ...]]:
    """Overlapping leases of one address -> stretches, each with its one holder or contested."""
    network, hi, lo = (int(column[which[0]]) for column in rows[:3])
    leases = list(zip(*(column[which].tolist() for column in rows[3:]), strict=True))
    times = sorted({t for lease in leases for t in lease[:2]})
    for start, end in itertools.pairwise(times):
        owners = {owner for s, e, owner in leases if s <= start and end <= e}
        if owners:
            yield network, hi, lo, start, end, owners.pop() if len(owners) == 1 else CONTESTED
