"""Random worlds and records for the flow tests: small numbers, so that everything collides with everything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from ringfence.core.flow.conversations import COLUMNS, Conversations
from ringfence.core.flow.record import FlowBatch
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload, derived_uuid
from ringfence.core.net.address import parse_address

T0 = datetime(2026, 3, 1, 10, tzinfo=UTC)
T0_S = int(T0.timestamp())
ADDRESSES = [parse_address(a) for a in ("10.0.0.1", "10.0.0.2", "10.0.0.3", "203.0.113.9", "203.0.113.10")]
SIX = [parse_address(a) for a in ("fd00::1", "fd00::2", "2001:db8::1")]
NETWORKS = ("main", "other")


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def workload(name: str, *leases: Lease, **labels: str) -> Workload:
    return Workload(name, derived_uuid(name), labels or {"app": name}, leases)


def random_inventory(rng: np.random.Generator) -> Inventory:
    """Workloads whose leases start, end, touch and overlap."""
    out = []
    for number in range(int(rng.integers(0, 7))):
        leases = []
        for _ in range(int(rng.integers(0, 4))):
            start, end = (None if rng.random() < 0.2 else at(float(rng.integers(-4000, 8000)) / 2) for _ in range(2))
            if start and end and end < start:
                start, end = end, start
            leases.append(Lease(int(rng.choice(len(ADDRESSES) + len(SIX))), str(rng.choice(NETWORKS)), start, end))
        pool = ADDRESSES + SIX
        fixed = tuple(Lease(pool[lease.address], lease.network, lease.start, lease.end) for lease in leases)
        out.append(workload(f"w{number}", *fixed))
    return Inventory(out)


def random_batch(rng: np.random.Generator, rows: int, *, biflow: bool = False) -> FlowBatch:
    """Records between few addresses on few ports, so that reports of one connection meet."""
    is_six = rng.random(rows) < 0.2
    pools = [np.array([(a >> 64, a & (2**64 - 1)) for a in pool], np.uint64) for pool in (ADDRESSES, SIX)]
    ends = [
        np.where(
            is_six[:, None], pools[1][rng.integers(0, len(SIX), rows)], pools[0][rng.integers(0, len(ADDRESSES), rows)]
        )
        for _ in range(2)
    ]
    protocol = rng.choice(np.array([6, 6, 6, 17, 1, 47], np.uint8), rows)
    ports = rng.choice(np.array([22, 53, 443, 40000, 40001, 50000, 50001, 50002], np.uint16), (2, rows))
    ports[1] = np.where(protocol == 1, ports[0] % 20, ports[1])
    ports[0] = np.where(protocol == 1, ports[1], ports[0])
    ports[:, protocol == 47] = 0
    start = (T0_S + rng.integers(-1800, 5400, rows)) * 1000 + rng.choice(np.array([0, 0, 500, 999]), rows)
    counts = [rng.integers(0, 1000, rows) for _ in range(4)]
    if rng.random() < 0.2:
        counts[1][rng.integers(0, rows)] = 2**63 - 1
    flags = np.where(protocol == 6, rng.choice(np.array([0, 0, 2, 3, 18, 19, 1, 4], np.uint8), rows), 0)
    hint = rng.choice(np.array([0, 0, 1, -1], np.int8), rows) if biflow else np.zeros(rows, np.int8)
    names = NETWORKS if rng.random() < 0.5 else NETWORKS[:1]
    return FlowBatch(
        start=start.astype(np.int64), end=(start + rng.integers(0, 9, rows) * 1000).astype(np.int64),
        packets=counts[0].astype(np.int64), bytes=counts[1].astype(np.int64),
        src_hi=np.ascontiguousarray(ends[0][:, 0]), src_lo=np.ascontiguousarray(ends[0][:, 1]),
        dst_hi=np.ascontiguousarray(ends[1][:, 0]), dst_lo=np.ascontiguousarray(ends[1][:, 1]),
        reporter=rng.integers(0, 4, rows).astype(np.uint64), src_port=ports[0].copy(), dst_port=ports[1].copy(),
        protocol=protocol, flags=flags.astype(np.uint8), reported=rng.choice(np.array([0, 1, 1, 2, 3], np.uint8), rows),
        hint=hint, network=rng.integers(0, len(names), rows).astype(np.uint32), networks=names,
        rev_packets=counts[2].astype(np.int64) if biflow else None,
        rev_bytes=counts[3].astype(np.int64) if biflow else None,
    )  # fmt: skip


def rows_of(conversations: Conversations) -> list[tuple[Any, ...]]:
    """Rows with their ends spelled out, sorted: equal for equal conversations however they are numbered."""
    names = [
        (e.network, e.address or 0, e.workload.name if e.workload else "", e.name or "")
        for e in conversations.endpoints
    ]
    columns = [getattr(conversations, name).tolist() for name in COLUMNS]
    return sorted((names[row[0]], names[row[1]], *row[2:]) for row in zip(*columns, strict=True))


def records(*rows: dict[str, Any]) -> FlowBatch:
    """Records from what differs from a plain one: `src`, `dst` as texts or numbers, `start` in seconds after T0."""
    plain = {
        "src": "10.0.0.1", "dst": "10.0.0.2", "sport": 50000, "dport": 443, "protocol": 6, "packets": 1, "bytes": 100,
        "start": 0, "duration": 5, "flags": 0, "reported": 1, "reporter": 1, "hint": 0, "rev": None, "network": 0,
    }  # fmt: skip
    full = [plain | row for row in rows]

    def column(name: str, kind: type[np.generic]) -> Any:
        return np.array([row[name] for row in full], kind)

    ends = [[parse_address(r[end]) if isinstance(r[end], str) else r[end] for r in full] for end in ("src", "dst")]
    start = np.array([int((T0_S + row["start"]) * 1000) for row in full], np.int64)
    is_biflow = any(row["rev"] is not None for row in full)
    reverse = np.array([row["rev"] or (0, 0) for row in full], np.int64)
    return FlowBatch(
        start=start, end=start + column("duration", np.int64) * 1000, packets=column("packets", np.int64),
        bytes=column("bytes", np.int64), src_hi=np.array([a >> 64 for a in ends[0]], np.uint64),
        src_lo=np.array([a & (2**64 - 1) for a in ends[0]], np.uint64),
        dst_hi=np.array([a >> 64 for a in ends[1]], np.uint64),
        dst_lo=np.array([a & (2**64 - 1) for a in ends[1]], np.uint64), reporter=column("reporter", np.uint64),
        src_port=column("sport", np.uint16), dst_port=column("dport", np.uint16), protocol=column("protocol", np.uint8),
        flags=column("flags", np.uint8), reported=column("reported", np.uint8), hint=column("hint", np.int8),
        network=column("network", np.uint32), networks=NETWORKS,
        rev_packets=np.ascontiguousarray(reverse[:, 0]) if is_biflow else None,
        rev_bytes=np.ascontiguousarray(reverse[:, 1]) if is_biflow else None,
    )  # fmt: skip
