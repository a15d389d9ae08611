"""Who held an address when, as sorted columns: the inventory's leases cut into disjoint stretches.

INVARIANT: rows are sorted by (network, address, start) and stretches of one address never overlap. Where two workloads
held one address at once the stretch belongs to nobody (owner -1): whoever decides asks the inventory for every holder
and takes the worst.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

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
        rows = sorted(_stretches(inventory, networks))
        grouped = list(_disjoint(rows))
        addresses = [row[1] for row in grouped]
        return LeaseTable(
            tuple(networks),
            inventory.workloads,
            np.array([a >> 64 for a in addresses], np.uint64),
            np.array([a & _LOW for a in addresses], np.uint64),
            np.array([row[0] for row in grouped], np.uint32),
            np.array([row[2] for row in grouped], np.int64),
            np.array([row[3] for row in grouped], np.int64),
            np.array([row[4] for row in grouped], np.int32),
        )


_Row = tuple[int, int, int, int, int]
"""network, address, start, end, owner"""


def _stretches(inventory: Inventory, networks: dict[str, int]) -> Iterator[_Row]:
    for owner, workload in enumerate(inventory.workloads):
        for lease in workload.addresses if workload.kind != "process" else ():
            network = networks.setdefault(lease.network, len(networks))
            start, end = _ms(lease.start, -FOREVER), _ms(lease.end, FOREVER)
            if start < end:
                yield network, lease.address, start, end, owner


def _ms(at: datetime | None, unbounded: int) -> int:
    """Rounded up: a time of whole milliseconds is at or after `at` iff it is at or after this."""
    return unbounded if at is None else -((_EPOCH - at) // _MS)


def _disjoint(rows: list[_Row]) -> Iterator[_Row]:
    for _, group in itertools.groupby(rows, key=lambda row: row[:2]):
        leases = list(group)
        overlaps = any(later[2] < earlier[3] for earlier, later in itertools.pairwise(leases))
        yield from _cut(leases) if overlaps else leases


def _cut(leases: Iterable[_Row]) -> Iterator[_Row]:
    """Overlapping leases of one address -> stretches, each with its one holder or contested."""
    leases = list(leases)
    network, address = leases[0][:2]
    times = sorted({t for lease in leases for t in lease[2:4]})
    for start, end in itertools.pairwise(times):
        owners = {owner for _, _, s, e, owner in leases if s <= start and end <= e}
        if owners:
            yield network, address, start, end, owners.pop() if len(owners) == 1 else CONTESTED
