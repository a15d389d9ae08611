"""Records -> conversations: label both ends, merge the reports of one connection, tell client from server, add up.

A connection is a 5-tuple between two labelled endpoints in one hour; where TCP flags or an originator are reported,
each opening of it counts. Several reporters of one connection are not added up: of each direction's bytes and packets
the largest report counts. Blocked by one reporter is blocked; a reporter that let some of it through counts as blocking
only by a rejected SYN (it rejects stragglers after the close).

The client is told, strongest first, by who the source says opened it, by SYN and SYN-ACK, by which socket others were
seen to open connections to or has more of them (FAN_IN and more), by the lower port, by who spoke first.

INVARIANT: the order of records and of files never matters, and the C and the SQL merger give equal conversations.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ringfence.core.flow.conversations import Conversations
from ringfence.core.flow.fold import Ports, folded
from ringfence.core.flow.leases import LeaseTable
from ringfence.core.flow.record import FlowBatch
from ringfence.core.flow.series import HOUR_S
from ringfence.core.world import Endpoint
from ringfence.flows.parse import flowcore

MOST_CONNECTIONS = 6_000_000
"""Connections held in memory (about 150 bytes each) before they are spilled to a temporary directory."""
_PARTS = 32
_MOST_COUNT, _SAFE_SUM = 2**63 - 1, 2.0**62

EDGE = np.dtype(
    [("destination", "<u4"), ("source", "<u4"), ("point", "<u4"), ("hour", "<u4"), ("connections", "<i8"),
     ("packets", "<i8"), ("bytes", "<i8"), ("first", "<u4"), ("last", "<u4"), ("confidence", "u1"), ("fan", "u1"),
     ("pad", "V6")]
)  # fmt: skip
"""`edge` of `_flowcore.c`; the highest byte of `point` is the reported verdict."""
OWNED = np.dtype([("hi", "<u8"), ("lo", "<u8"), ("network", "<u4"), ("owner", "<i4")])
"""`endpoint` of `_flowcore.c`."""


class Merged(NamedTuple):
    conversations: Conversations
    early_ends: int
    late_ends: int
    folded_rows: int


class Merger(Protocol):
    """Takes records in any order; gives conversations once. A context manager: it may hold temporary files."""

    def add(self, batch: FlowBatch) -> None: ...

    def finish(self) -> Merged: ...

    def __enter__(self) -> Merger: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def merger(leases: LeaseTable, *, pure: bool = False, most_connections: int = MOST_CONNECTIONS) -> Merger:
    """The fastest merger there is; `pure` asks for the one without C."""
    core = None if pure else flowcore()
    if core is not None:
        return CMerger(core, leases, most_connections)
    from ringfence.flows.sqlmerge import SqlMerger

    return SqlMerger(leases)


class Networks:
    """Networks by number; the lease table's come first."""

    def __init__(self, names: Iterable[str]) -> None:
        self._numbers = {name: number for number, name in enumerate(names)}

    def numbers(self, batch: FlowBatch) -> NDArray[np.uint32]:
        known = [self._numbers.setdefault(name, len(self._numbers)) for name in batch.networks]
        if known == list(range(len(known))):
            return batch.network
        return np.array(known, np.uint32)[batch.network]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._numbers)


class CMerger:
    """The merger over `_flowcore.Merger`."""

    def __init__(self, core: ModuleType, leases: LeaseTable, most_connections: int) -> None:
        self._leases, self._networks, self._most = leases, Networks(leases.networks), most_connections
        self._core = core.Merger((leases.hi, leases.lo, leases.network, leases.start, leases.end, leases.owner))
        self._spill: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> CMerger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._spill is not None:
            self._spill.cleanup()

    def add(self, batch: FlowBatch) -> None:
        columns = (
            batch.start, batch.end, batch.packets, batch.bytes, batch.src_hi, batch.src_lo, batch.dst_hi, batch.dst_lo,
            batch.reporter, batch.src_port, batch.dst_port, batch.protocol, batch.flags, batch.reported, batch.hint,
            self._networks.numbers(batch),
        )  # fmt: skip
        reverse = () if batch.rev_packets is None else (batch.rev_packets, batch.rev_bytes)
        if self._core.feed(columns + reverse) > self._most:
            self._spill_all()

    def finish(self) -> Merged:
        if self._spill is None:
            self._core.count()
            self._core.emit()
        else:
            self._spill_all()
            self._finish_parts(Path(self._spill.name))
        edges, endpoints, early, late = self._core.edges()
        found, owned = np.frombuffer(edges, EDGE), np.frombuffer(endpoints, OWNED)
        return conversations_of(found, owned, self._leases, self._networks.names, early, late)

    def _spill_all(self) -> None:
        """Connections to temporary files, split by key so that each part can be merged on its own."""
        if self._spill is None:
            self._spill = tempfile.TemporaryDirectory(prefix="ringfence-flows-")
        for number, part in enumerate(self._core.drain(_PARTS)):
            with (Path(self._spill.name) / str(number)).open("ab") as file:
                file.write(part)

    def _finish_parts(self, folder: Path) -> None:
        """Twice over the parts: a client is told from a server once every connection of both sockets is counted."""
        for step in (self._core.count, self._core.emit):
            for part in sorted(folder.iterdir()):
                self._core.absorb(part.read_bytes())
                step()
                self._core.forget()


def conversations_of(
    edges: NDArray[Any], owned: NDArray[Any], leases: LeaseTable, networks: tuple[str, ...], early: int, late: int
) -> Merged:
    """Packed edges -> conversations, port noise folded, rows by hour, only endpoints that occur."""
    edges, count = _fold(edges)
    edges = edges[_by_hour(edges["hour"])]
    is_used = np.zeros(len(owned), dtype=bool)
    is_used[edges["source"]] = is_used[edges["destination"]] = True
    number = (np.cumsum(is_used) - 1).astype(np.int32)
    conversations = Conversations(
        endpoints=_endpoints(owned[is_used], leases, networks),
        source=number[edges["source"]],
        destination=number[edges["destination"]],
        point=(edges["point"] & 0xFFFFFF).astype(np.int32),
        reported=(edges["point"] >> 24).astype(np.uint8),
        hour=edges["hour"].astype(np.int64) * HOUR_S,
        connections=edges["connections"].astype(np.int64),
        packets=edges["packets"].astype(np.int64),
        bytes=edges["bytes"].astype(np.int64),
        first=edges["first"].astype(np.int64),
        last=edges["last"].astype(np.int64),
        confidence=edges["confidence"].astype(np.uint8),
    )
    return Merged(conversations, early, late, count)


def _by_hour(hour: NDArray[np.uint32]) -> NDArray[np.intp]:
    """A stable order; numpy sorts 16-bit numbers by radix."""
    if not len(hour):
        return np.zeros(0, np.intp)
    since = hour - hour.min()
    return np.argsort(since.astype(np.uint16) if since.max() < 1 << 16 else since, kind="stable")


def _endpoints(owned: NDArray[Any], leases: LeaseTable, networks: tuple[str, ...]) -> tuple[Endpoint, ...]:
    workloads = leases.workloads
    return tuple(
        Endpoint(workloads[owner] if owner >= 0 else None, hi << 64 | lo, networks[network])
        for hi, lo, network, owner in owned.tolist()
    )


def _fold(edges: NDArray[Any]) -> tuple[NDArray[Any], int]:
    pair = edges["source"].astype(np.uint64) << np.uint64(32) | edges["destination"]
    rest = edges["hour"].astype(np.uint64) << np.uint64(32) | (edges["point"] & np.uint32(0xFFFF0000))
    port = (edges["point"] & 0xFFFF).astype(np.int64)
    is_folded = folded(Ports((pair, rest), port, edges["connections"], edges["fan"]))
    if not is_folded.any():
        return edges, 0
    return np.concatenate([edges[~is_folded], _joined(edges[is_folded])]), int(is_folded.sum())


def _joined(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows of one pair and hour as one, at the lowest port, the direction a guess."""
    rows = rows[np.lexsort((rows["point"], rows["hour"], rows["destination"], rows["source"]))]
    key = np.stack([rows["source"], rows["destination"], rows["hour"], rows["point"] >> 16])
    start = np.flatnonzero(np.r_[True, (key[:, 1:] != key[:, :-1]).any(axis=0)])
    out = rows[start].copy()
    for name in ("connections", "packets", "bytes"):
        is_huge = np.add.reduceat(rows[name].astype(np.float64), start) > _SAFE_SUM
        out[name] = np.where(is_huge, _MOST_COUNT, np.add.reduceat(rows[name], start))
    out["first"] = np.minimum.reduceat(rows["first"], start)
    out["last"] = np.maximum.reduceat(rows["last"], start)
    out["confidence"] = 0
    return out
