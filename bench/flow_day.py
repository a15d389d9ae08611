"""Synthetic VPC flow logs, a day of them for 24 million, with their inventory and the truth about who opened what.

10,000 concurrent workloads in 1,200 identities, 60 % of them containers that live 40 minutes and whose addresses are
used again; 9,000 zipf-weighted service edges; 86 % of records east-west, seen at both interfaces in both directions;
14 % north-south; 1 % rejected; TCP, UDP and ICMP; 1.5 % of the connections between two ephemeral ports.
"""

from __future__ import annotations

import gzip
import heapq
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Mode, Workload
from ringfence.core.net.address import V4_BASE

START = 1767225600
PER_HOUR = 1_000_000
IDENTITIES, SLOTS, EDGES = 1200, 10_000, 9_000
PORTS = np.array(
    [80, 443, 8080, 8443, 5432, 3306, 6379, 9092, 27017, 53, 9200, 8500, 2379, 50051, 389, 636, 3389, 22, 123]
)
HEADER = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status"
)

Ints = NDArray[np.int64]


class Intervals(NamedTuple):
    """One row per workload, by slot and time: address, from, to."""

    slot: Ints
    address: Ints
    start: Ints
    end: Ints


class Records(NamedTuple):
    """Columns of a day's records; `forward` is the truth: the source is the client."""

    src: Ints
    dst: Ints
    sport: Ints
    dport: Ints
    protocol: Ints
    packets: Ints
    bytes: Ints
    start: Ints
    end: Ints
    interface: Ints
    flags: Ints
    is_rejected: NDArray[np.bool_]
    forward: NDArray[np.bool_]


class Day(NamedTuple):
    inventory: Inventory
    records: Records


def generate(rows: int, *, seed: int = 7) -> Day:
    """About `rows` records over as many hours as it takes at a million an hour."""
    rng = np.random.default_rng(seed)
    end = START + max(1, round(rows / PER_HOUR)) * 3600
    weight = 1 / np.arange(1, IDENTITIES + 1) ** 0.8
    identity = np.sort(rng.choice(IDENTITIES, SLOTS, p=weight / weight.sum()))
    intervals = _intervals(rng, end)
    return Day(_inventory(intervals, identity), _records(_Network(rng, identity, intervals, end), rows))


def _intervals(rng: np.random.Generator, until: int) -> Intervals:
    """VMs keep an address all day; containers take turns on a pool of 9,000."""
    is_container = rng.random(SLOTS) < 0.6
    rows = [(slot, 0x0A000100 + slot, START, until) for slot in np.flatnonzero(~is_container).tolist()]
    pool = deque(range(0x0A640000, 0x0A640000 + 9000))
    births = [(START - 1, slot, -1) for slot in np.flatnonzero(is_container).tolist()]
    heapq.heapify(births)
    while births:
        at, slot, last = heapq.heappop(births)
        if last >= 0:
            pool.append(last)
        if at >= until - 2:
            continue
        address, begin = pool.popleft(), max(at, START)
        end = min(begin + int(rng.exponential(2400)) + 20, until)
        rows.append((slot, address, begin, end))
        heapq.heappush(births, (end + 1, slot, address))
    table = np.array(sorted(rows, key=lambda row: (row[0], row[2])), np.int64)
    return Intervals(*table.T)


def _inventory(intervals: Intervals, identity: NDArray[np.int64]) -> Inventory:
    labels = [
        {"app": f"app{i // 5:03d}", "env": ("prod", "dev")[i % 7 == 0], "role": f"role{i % 5}"}
        for i in range(IDENTITIES)
    ]
    mode = Mode.both("enforce")
    out = []
    for number, (slot, address, start, end) in enumerate(zip(*(c.tolist() for c in intervals), strict=True)):
        lease = Lease(V4_BASE | address, "main", datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC))
        name = f"w{number}"
        out.append(
            Workload(name, f"00000000-0000-4000-8000-{number:012d}", labels[identity[slot]], (lease,), mode=mode)
        )
    return Inventory(out)


class _Network:
    """Who is where at a time, and who talks to whom."""

    def __init__(self, rng: np.random.Generator, identity: Ints, intervals: Intervals, end: int) -> None:
        self.rng, self.intervals, self.end = rng, intervals, end
        self._key = (intervals.slot << 33) + intervals.start
        self._by_identity = np.argsort(identity, kind="stable")
        self._first = np.searchsorted(identity[self._by_identity], np.arange(IDENTITIES + 1))
        popularity = 1 / np.arange(1, IDENTITIES + 1) ** 1.05
        present = np.flatnonzero(np.diff(self._first) > 0)
        self.source = rng.choice(present, EDGES)
        popularity = popularity[: len(present)]
        self.destination = rng.permutation(present)[rng.choice(len(present), EDGES, p=popularity / popularity.sum())]
        weight = 1 / np.arange(1, EDGES + 1)
        self.weight = rng.permutation(weight / weight.sum())
        own = np.where(
            rng.random(IDENTITIES) < 0.75, rng.choice(PORTS, IDENTITIES), rng.integers(1024, 49151, IDENTITIES)
        )
        self.port = np.where(rng.random(EDGES) < 0.85, own[self.destination], rng.choice(PORTS, EDGES))
        self.protocol = np.where(np.isin(self.port, (53, 123)) | (rng.random(EDGES) < 0.06), 17, 6)
        self.protocol[rng.random(EDGES) < 0.01] = 1

    def slot_of(self, identity: Ints) -> Ints:
        """A slot of each identity."""
        room = np.diff(self._first)[identity]
        return self._by_identity[self._first[identity] + (self.rng.random(len(identity)) * room).astype(np.int64)]

    def there(self, slot: Ints, at: Ints) -> tuple[Ints, Ints]:
        """(address, workload) of a slot at a time."""
        row = np.searchsorted(self._key, (slot << 33) + at, side="right") - 1
        return self.intervals.address[row], row


def _records(network: _Network, rows: int) -> Records:
    parts = [*_east_west(network, int(rows * 0.86 / 3.98)), *_north_south(network, int(rows * 0.14 / 1.91))]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    arrival = columns[8] // 60 * 60 + network.rng.integers(0, 120, len(columns[0]))
    order = np.argsort(arrival, kind="stable")
    return Records(*(column[order] for column in columns))


def _sizes(rng: np.random.Generator, count: int) -> tuple[Ints, Ints]:
    packets = np.minimum(rng.zipf(1.6, count), 100_000) + 1
    return packets, packets * rng.integers(60, 1400, count)


def _east_west(network: _Network, count: int) -> list[Records]:
    rng = network.rng
    at = rng.integers(START, network.end - 1, count)
    edge = rng.choice(EDGES, count, p=network.weight)
    src, src_owner = network.there(network.slot_of(network.source[edge]), at)
    dst, dst_owner = network.there(network.slot_of(network.destination[edge]), at)
    protocol = network.protocol[edge]
    dport = np.where(protocol == 1, 0, network.port[edge])
    sport = np.where(protocol == 1, 0, rng.integers(32768, 61000, count))
    dport = np.where((rng.random(count) < 0.015) & (protocol == 6), rng.integers(32768, 61000, count), dport)
    is_rejected = rng.random(count) < 0.01
    there, back = _sizes(rng, count), _sizes(rng, count)
    end = at + np.minimum(rng.exponential(20, count).astype(np.int64), 600)
    forward = (src, dst, sport, dport, protocol, *there, at, end)
    reverse = (dst, src, dport, sport, protocol, *back, at, end)
    passed = ~is_rejected
    return [
        *(_seen(rng, forward, owner, is_rejected, True) for owner in (src_owner, dst_owner)),
        *(_seen(rng, reverse, owner, is_rejected, False, passed) for owner in (dst_owner, src_owner)),
    ]


def _north_south(network: _Network, count: int) -> list[Records]:
    rng = network.rng
    at = rng.integers(START, network.end - 1, count)
    is_inbound = rng.random(count) < 0.6
    inside, owner = network.there(rng.integers(0, SLOTS, count), at)
    outside = rng.zipf(1.3, count) % 60000 * 2654435761 % (1 << 24) + 0x2D000000
    protocol = np.where(rng.random(count) < 0.93, 6, 17)
    dport, sport = rng.choice(np.array([443, 443, 443, 80, 22, 53]), count), rng.integers(1024, 65535, count)
    is_rejected = (rng.random(count) < 0.15) & is_inbound
    sizes = _sizes(rng, count)
    end = at + np.minimum(rng.exponential(20, count).astype(np.int64), 600)
    client, server = np.where(is_inbound, outside, inside), np.where(is_inbound, inside, outside)
    forward = (client, server, sport, dport, protocol, *sizes, at, end)
    reverse = (server, client, dport, sport, protocol, *sizes, at, end)
    return [
        _seen(rng, forward, owner, is_rejected, True),
        _seen(rng, reverse, owner, is_rejected, False, ~is_rejected),
    ]


def _seen(
    rng: np.random.Generator,
    columns: tuple[Ints, ...],
    owner: Ints,
    is_rejected: NDArray[np.bool_],
    forward: bool,
    mask: NDArray[np.bool_] | None = None,
) -> Records:
    """What one interface reports of one direction; TCP flags on 70 % of the records."""
    count = len(owner)
    flags = np.where((columns[4] == 6) & (rng.random(count) < 0.7), 3 if forward else 19, 0)
    rows = Records(*columns, owner, flags, is_rejected, np.full(count, forward))
    return rows if mask is None else Records(*(column[mask] for column in rows))


# ---- as text
# ----------------------------------------------------------------------------------------------------------


def write(
    records: Records, folder: Path, *, files: int, with_flags: bool = False, compress: bool = False
) -> list[Path]:
    """The default format, or with `tcp-flags` after it; in time order, over `files` files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, rows in enumerate(np.array_split(np.arange(len(records.src)), files)):
        text = _text(Records(*(column[rows] for column in records)), with_flags=with_flags)
        path = folder / f"part-{number:03d}.log{'.gz' if compress else ''}"
        path.write_bytes(gzip.compress(text, 1) if compress else text)
        paths.append(path)
    return paths


def _text(records: Records, *, with_flags: bool) -> bytes:
    def number(values: Ints) -> pa.Array:
        return pa.array(values).cast(pa.string())

    def of(words: list[str], index: Ints) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(index), pa.array(words)).cast(pa.string())

    count = len(records.src)
    interfaces, owner = np.unique(records.interface, return_inverse=True)
    names = [f"eni-{n:017x}" for n in interfaces.tolist()]
    columns = [
        pa.repeat("2 123456789012", count), of(names, owner), _dotted(records.src), _dotted(records.dst),
        *(number(c) for c in records[2:9]), of(["ACCEPT OK", "REJECT OK"], records.is_rejected.astype(np.int64)),
    ]  # fmt: skip
    if with_flags:
        columns.append(number(records.flags))
    lines = pc.binary_join_element_wise(*columns, " ")
    header = HEADER + " tcp-flags" * with_flags
    text = pc.binary_join(pa.ListArray.from_arrays([0, count], lines.cast(pa.binary())), b"\n")[0].as_py()
    return b"\n".join((header.encode(), text, b""))


def _dotted(addresses: Ints) -> pa.Array:
    distinct, index = np.unique(addresses, return_inverse=True)
    words = [f"{a >> 24}.{a >> 16 & 255}.{a >> 8 & 255}.{a & 255}" for a in distinct.tolist()]
    return pa.DictionaryArray.from_arrays(pa.array(index), pa.array(words)).cast(pa.string())
