"""Quarantine in an estate of a hundred thousand hosts: resolved anew, and kept up as workloads change.

    python -m bench.bench_isolate [--workloads 100000] [--json]

The peer is the least that must be done without an index: one look at every workload's role.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

import msgspec

from bench.measure import Figure, cpu_s, each_cpu_s, show
from ringfence.controller.containment.containing import LEVELS
from ringfence.controller.desired.estate import exception_of
from ringfence.controller.desired.isolating import Isolating
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload, derived_uuid
from ringfence.core.net.address import V4_BASE
from ringfence.core.world import Quarantine

NOW = datetime(2026, 3, 3, tzinfo=UTC)
ROLES = ("web", "api", "db", "cache")
FEW = {7: "dns", 77: "mirror", 777: "forensics"}
EVERYWHERE = (frozenset({"main"}),)


def workload(number: int) -> Workload:
    labels = {"app": f"app{number % 500}", "role": FEW.get(number, ROLES[number % 4])}
    address = Lease(V4_BASE + (10 << 24) + number)
    return Workload(f"w{number}", derived_uuid(f"w{number}"), labels, (address,))


def quarantines(inventory: Inventory, number: int, level: str) -> tuple[Quarantine, ...]:
    allow = tuple(map(exception_of, LEVELS[level]))
    return tuple(Quarantine(one.uuid, allow) for one in inventory.workloads[1000 : 1000 + number])


def resolved(inventory: Inventory) -> list[Figure]:
    """What the isolator's thread does."""
    isolating = Isolating()
    isolating.follow((), inventory, NOW, EVERYWHERE)
    one, first, many = (quarantines(inventory, *what) for what in ((1, "isolate"), (1, "patch"), (50, "patch")))
    before = inventory.workloads[5]
    moved = inventory.replacing(before, msgspec.structs.replace(before, addresses=(Lease(1 << 40),)))
    peer, _ = cpu_s(lambda: [one for one in inventory.workloads if one.labels.get("role") == "dns"])
    bare, patch, fifty, after = each_cpu_s(
        [
            lambda: isolating.follow(one, inventory, NOW, EVERYWHERE),
            lambda: isolating.follow(first, inventory, NOW, EVERYWHERE),
            lambda: isolating.follow(many, inventory, NOW, EVERYWHERE),
            lambda: isolating.follow(many, moved, NOW, EVERYWHERE),
        ]
    )
    return [
        Figure("a bare quarantine", bare, target=0.01),
        Figure("the first of level `patch`", patch, target=30 * peer, note="3 exceptions; 10 looks at every workload"),
        Figure("50 of level `patch`", fifty, target=0.01),
        Figure("a workload moves, 50 of level `patch`", after, target=0.01),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    inventory = Inventory(map(workload, range(asked.workloads)))
    show(f"quarantine among {asked.workloads:,} workloads", resolved(inventory), as_json=asked.json)


if __name__ == "__main__":
    main()
