"""Who held which address lately: the inventory in force, with the history of the addresses that changed hands.

INVARIANT: an address that had one holder only was its holder's all the time; a gap between two leases of one workload,
in which nobody else had the address, is that workload's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

import msgspec

from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease
from ringfence.ports.state import LeaseRecord, View, Where

HORIZON: Final = timedelta(days=7)
_AT_ONCE: Final = 5000


def history(view: View, since: datetime) -> list[LeaseRecord]:
    """The leases that ended since, and those in force of the same addresses."""
    ended = view.find(LeaseRecord, Where("end", since, ">"))
    open_ = Where("end", None)
    addresses = sorted({record.address for record in ended})
    for some in _batches(addresses):
        ended += view.find(LeaseRecord, open_, Where("address", some, "in"))
    return ended


def _batches(addresses: list[int]) -> Iterator[list[int]]:
    for at in range(0, len(addresses), _AT_ONCE):
        yield addresses[at : at + _AT_ONCE]


def with_history(inventory: Inventory, records: Iterable[LeaseRecord]) -> Inventory:
    """The inventory with each of these leases as of when it was."""
    leases: dict[str, list[Lease]] = {}
    for _, group in groupby(sorted(records, key=_by_address), key=lambda r: (r.network, r.address)):
        for uuid, lease in _joined(group):
            leases.setdefault(uuid, []).append(lease)
    if not leases:
        return inventory
    workloads = []
    for workload in inventory.workloads:
        found = leases.get(workload.uuid, ())
        changed = {(lease.network, lease.address) for lease in found}
        kept = (lease for lease in workload.addresses if (lease.network, lease.address) not in changed)
        workloads.append(msgspec.structs.replace(workload, addresses=(*kept, *found)) if found else workload)
    return Inventory(workloads, ignore=inventory.ignore)


def _joined(records: Iterable[LeaseRecord]) -> Iterator[tuple[str, Lease]]:
    """The stretches of one address; the first one from ever before."""
    runs = [list(run) for _, run in groupby(records, key=lambda r: r.workload)]
    for number, run in enumerate(runs):
        start = run[0].start if number else None
        yield run[0].workload, Lease(run[0].address, run[0].network, start, run[-1].end)


def _by_address(record: LeaseRecord) -> tuple[str, int, float]:
    return (record.network, record.address, record.start.timestamp() if record.start else float("-inf"))
