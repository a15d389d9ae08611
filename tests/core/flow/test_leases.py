"""Leases as sorted, disjoint stretches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ringfence.core.flow.leases import CONTESTED, LeaseTable
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload, derived_uuid

T0 = datetime(2026, 1, 1, tzinfo=UTC)
T0_MS = int(T0.timestamp()) * 1000

moments = st.one_of(st.none(), st.integers(0, 8000).map(lambda us: T0 + timedelta(microseconds=us)))
leases = st.builds(Lease, st.sampled_from([1, 2, 1 << 100]), st.sampled_from(["main", "other"]), moments, moments)
workloads = st.lists(st.lists(leases, max_size=4), max_size=5).map(
    lambda all_: [Workload(f"w{n}", derived_uuid(f"w{n}"), addresses=tuple(held)) for n, held in enumerate(all_)]
)


@given(workloads)
def test_a_stretch_is_exactly_one_holder(inventory: list[Workload]) -> None:
    """At every millisecond the table names the one holder, CONTESTED for several, and nobody for none."""
    table = LeaseTable.of(Inventory(inventory))
    for network in ("main", "other"):
        for address in (1, 2, 1 << 100):
            for ms in range(-1, 10):
                at = T0 + timedelta(milliseconds=ms)
                held = {w.name for w in Inventory(inventory).holders(address, at, network)}
                rows = [
                    i
                    for i in range(len(table.start))
                    if table.networks[table.network[i]] == network
                    and int(table.hi[i]) << 64 | int(table.lo[i]) == address
                    and table.start[i] <= T0_MS + ms < table.end[i]
                ]
                assert len(rows) == min(len(held), 1)
                owner = int(table.owner[rows[0]]) if rows else CONTESTED
                assert (owner == CONTESTED) == (len(held) != 1)
                assert owner == CONTESTED or {table.workloads[owner].name} == held


@given(workloads)
def test_stretches_are_sorted_and_disjoint(inventory: list[Workload]) -> None:
    """Rows are sorted by (network, address, start) and no two of one address overlap."""
    table = LeaseTable.of(Inventory(inventory))
    keys = list(zip(table.network, table.hi, table.lo, table.start, strict=True))
    assert keys == sorted(keys)
    for i in range(len(keys) - 1):
        assert keys[i][:3] != keys[i + 1][:3] or table.end[i] <= table.start[i + 1]
    assert np.all(table.start < table.end)


def test_processes_hold_no_address() -> None:
    """A process workload's addresses are its host's."""
    process = Workload("p", derived_uuid("p"), addresses=(Lease(1),), kind="process", host="h")
    assert len(LeaseTable.of(Inventory([process])).start) == 0
