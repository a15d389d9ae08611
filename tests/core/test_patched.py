"""Snapshots that share what did not change: equal to a copy, whatever happened before, and never altered after."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

import pytest

from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.patched import PatchedRow
from ringfence.core.identity.workload import Lease, Workload

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
STEPS = 1_500
"""More than the changes a snapshot carries before it is folded into a new base."""


@pytest.mark.parametrize("seed", range(3))
def test_a_row_is_the_list_it_stands_for(seed: int) -> None:
    """After any puts, appends and removals each snapshot still is what it was when it was made."""
    rng = Random(seed)
    copy = list(range(5))
    row = PatchedRow.of(tuple(copy))
    past: list[tuple[PatchedRow[int], list[int]]] = []
    for step in range(STEPS):
        if copy and rng.random() < 0.3:
            copy, row = copy[:-1], row.without_last()
        else:
            place = rng.randint(0, len(copy))
            copy = [*copy[:place], step, *copy[place + 1 :]]
            row = row.put(place, step)
        past += [(row, list(copy))] if step % 100 == 0 else []
        assert len(row) == len(copy)
    for snapshot, wanted in [*past, (row, copy)]:
        assert list(snapshot.flat()) == [snapshot[n] for n in range(len(snapshot))] == wanted


def workload(rng: Random, number: int) -> Workload:
    address = Lease(rng.randrange(40))
    return Workload(f"w{number}-{rng.randrange(3)}", f"u{number}", {"app": str(rng.randrange(9))}, (address,))


@pytest.mark.parametrize("seed", range(3))
def test_an_inventory_after_changes_is_the_inventory_of_the_result(seed: int) -> None:
    """Names, UUIDs, holders and the set of workloads answer as in an inventory built at once, at every step."""
    rng = Random(seed)
    now = {n: workload(rng, n) for n in range(20)}
    inventory = Inventory(now.values())
    assert inventory.holders(0, AT) is not None
    first, kept = inventory, tuple(now.values())
    for _ in range(STEPS):
        number = rng.randrange(40)
        before, after = now.get(number), workload(rng, number) if rng.random() < 0.7 else None
        if before is None and after is None:
            continue
        inventory = inventory.replacing(before, after)
        now = {n: w for n, w in now.items() if n != number} | ({number: after} if after else {})
    fresh = Inventory(now.values())
    assert set(map(id, inventory.workloads)) == set(map(id, fresh.workloads))
    assert dict(inventory.by_name.items()) == dict(fresh.by_name.items())
    assert dict(inventory.by_uuid.items()) == dict(fresh.by_uuid.items())
    for address in range(40):
        assert inventory.holders(address, AT) == fresh.holders(address, AT)
    assert first.workloads == kept
    assert sorted(inventory.conflicts(AT), key=str) == sorted(fresh.conflicts(AT), key=str)
