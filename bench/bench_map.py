"""The map of a million rows between ten thousand workloads, beside DuckDB aggregating the same columns.

    python -m bench.bench_map [--rows 1000000] [--workloads 10000] [--json]

The peer sums the same rows by (source group, destination group, point, verdict, rule) with the groups already joined
as integers: the least that must be done before a service, a rule or a talker can be named. Traffic follows 2,000 pairs
of 200 groups, as estates do.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.measure import Figure, cpu_s, show
from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload, derived_uuid
from ringfence.core.insight.map import FlowMap, group
from ringfence.core.net.address import V4_BASE
from ringfence.core.net.service import TCP, point
from ringfence.core.world import REASONS, Endpoint

BY = ("env", "app", "role")
PORTS = (443, 5432, 8080, 6379, 22, 9100)
RULES = tuple(f"shop/rule-{n}" for n in range(40))
DAY = 1_772_323_200


@dataclass(frozen=True)
class Judged:
    """Columns as the engine gives them."""

    verdict: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    rule: NDArray[np.int32]


def inventory_of(count: int) -> Inventory:
    """Five environments of ten apps of four roles, workloads dealt round."""
    labels = [{"env": f"e{n % 5}", "app": f"a{n // 5 % 10}", "role": f"r{n // 50 % 4}"} for n in range(count)]
    leases = [(Lease(V4_BASE + (10 << 24) + n),) for n in range(count)]
    return Inventory(Workload(f"w{n}", derived_uuid(f"w{n}"), labels[n], leases[n]) for n in range(count))


def traffic(inventory: Inventory, rows: int, seed: int = 7) -> tuple[Conversations, Judged]:
    """Rows of 2,000 pairs of groups, each pair with its own few services."""
    draw = np.random.default_rng(seed)
    count = len(inventory.workloads)
    pairs = draw.integers(0, 200, (2000, 2))
    pair = draw.integers(0, len(pairs), rows)
    ends = [(pairs[pair, side] + 200 * draw.integers(0, count // 200, rows)).astype(np.int32) for side in (0, 1)]
    ports = np.array([point(TCP, port) for port in PORTS], np.int32)
    chosen = (pair + draw.integers(0, 3, rows)) % len(ports)
    verdict = (pair % 3).astype(np.uint8)
    is_allowed = verdict == 0
    columns = Conversations(
        endpoints=tuple(Endpoint(each, each.addresses[0].address) for each in inventory.workloads),
        source=ends[0],
        destination=ends[1],
        point=ports[chosen],
        reported=np.ones(rows, np.uint8),
        hour=np.full(rows, DAY),
        connections=draw.integers(1, 1000, rows),
        packets=draw.integers(1, 10**5, rows),
        bytes=draw.integers(64, 10**8, rows),
        first=DAY + draw.integers(0, 1800, rows),
        last=DAY + 1800 + draw.integers(0, 1800, rows),
        confidence=np.full(rows, 3, np.uint8),
    )
    reason = np.where(is_allowed, REASONS.index("allow"), REASONS.index("default")).astype(np.uint8)
    rule = np.where(is_allowed, pair % len(RULES), -1).astype(np.int32)
    return columns, Judged(verdict, reason, rule)


def peer_table(rows: Conversations, judged: Judged) -> pa.Table:
    """The columns DuckDB sums, ends already turned into groups."""
    return pa.table(
        {
            "s": rows.source % 200, "d": rows.destination % 200, "point": rows.point, "verdict": judged.verdict,
            "rule": judged.rule, "c": rows.connections, "p": rows.packets, "b": rows.bytes, "first": rows.first,
            "last": rows.last,
        }
    )  # fmt: skip


QUERY = """select s, d, point, verdict, rule, sum(c), sum(p), sum(b), min(first), max(last)
           from rows group by all order by all"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--workloads", type=int, default=10_000)
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    inventory = inventory_of(chosen.workloads)
    rows, judged = traffic(inventory, chosen.rows)
    ours_s, flow_map = cpu_s(lambda: group(rows, inventory, BY, judgement=judged, rules=RULES))
    database = duckdb.connect()
    database.register("rows", peer_table(rows, judged))
    theirs_s, found = cpu_s(lambda: database.execute(QUERY).fetchall())
    check(flow_map, found)
    note = f"{len(flow_map.groups)} groups, {len(flow_map.edges)} edges"
    figures = [
        Figure(f"map of {chosen.rows:,} rows", ours_s, target=1.0, note=note),
        Figure("DuckDB, the sums alone", theirs_s, note="no names, no talkers, no labels"),
    ]
    show("map", figures, as_json=chosen.json)


def check(flow_map: FlowMap, found: list[tuple[int, ...]]) -> None:
    """Both count the same, or neither figure means anything."""
    ours = sum(edge.volume.connections for edge in flow_map.edges), sum(len(edge.uses) for edge in flow_map.edges)
    theirs = sum(row[5] for row in found), len(found)
    if ours != theirs:
        raise SystemExit(f"ringfence counts {ours}, DuckDB {theirs}")


if __name__ == "__main__":
    main()
