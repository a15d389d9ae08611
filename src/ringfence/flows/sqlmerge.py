"""The merger without C: labels with numpy, merges in DuckDB, which spills to disk on its own.

It says in SQL what `_flowcore.c` says in loops; the tests hold them equal. INVARIANT: see `merge.py`.
"""

from __future__ import annotations

import tempfile
from types import TracebackType
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ringfence.core.flow.leases import LeaseTable
from ringfence.core.flow.record import FlowBatch
from ringfence.flows.merge import EDGE, OWNED, Merged, Networks, conversations_of

_MOST = 2**63 - 1
_NEVER = 2**32 - 1
_LOW = (1 << 64) - 1
_BLOCKED = 2
_TCP, _SYN, _SYN_ACK = 6, 2, 18

_CREATE = """
CREATE TABLE record (
  a UINTEGER, pa USMALLINT, b UINTEGER, pb USMALLINT, protocol UTINYINT, hour UINTEGER, reporter UBIGINT,
  ab_bytes BIGINT, ba_bytes BIGINT, ab_packets BIGINT, ba_packets BIGINT, ab_opens UINTEGER, ba_opens UINTEGER,
  ab_first UINTEGER, ba_first UINTEGER, last UINTEGER, votes UTINYINT, bits UTINYINT)
"""

_MERGE = f"""
WITH report AS (
  SELECT a, pa, b, pb, protocol, hour, reporter, least(sum(ab_bytes), {_MOST}) ab_bytes, least(sum(ba_bytes), {_MOST})
  ba_bytes,
    least(sum(ab_packets), {_MOST}) ab_packets, least(sum(ba_packets), {_MOST}) ba_packets, sum(ab_opens) ab_opens,
    sum(ba_opens) ba_opens, min(ab_first) ab_first, min(ba_first) ba_first, max(last) last, bit_or(votes) votes,
    bit_or(bits) bits
  FROM record GROUP BY ALL),
connection AS (
  SELECT a, pa, b, pb, protocol, hour, least(max(ab_bytes) + max(ba_bytes), {_MOST}) bytes,
    least(max(ab_packets) + max(ba_packets), {_MOST}) packets, max(ab_opens) ab_opens, max(ba_opens) ba_opens,
    min(ab_first) ab_first, min(ba_first) ba_first, max(last) last, bit_or(votes) votes,
    max(CASE WHEN (bits & 4) > 0 AND ((bits & 10) = 0 OR (bits & 16) > 0) THEN 3
             WHEN (bits & 8) > 0 THEN 2 WHEN (bits & 2) > 0 THEN 1 ELSE 0 END) worst
  FROM report GROUP BY ALL),
voted AS (
  SELECT *, CASE (votes & 12) WHEN 4 THEN 2 WHEN 8 THEN -2 ELSE CASE (votes & 3) WHEN 1 THEN 1 WHEN 2 THEN -1 ELSE 0 END
  END AS vote FROM connection),
socket AS (
  SELECT e, protocol, p, least(count(*), 127) fan, bool_or(listens) listens
  FROM (SELECT a e, protocol, pa p, vote < 0 listens FROM voted UNION ALL SELECT b, protocol, pb, vote > 0 FROM voted)
  GROUP BY ALL),
known AS (
  SELECT v.*, x.fan fan_a, y.fan fan_b, x.listens listens_a, y.listens listens_b,
    greatest(x.fan, y.fan) >= 3 AND x.fan <> y.fan AS differs
  FROM voted v JOIN socket x ON x.e = a AND x.protocol = v.protocol AND x.p = pa
               JOIN socket y ON y.e = b AND y.protocol = v.protocol AND y.p = pb),
oriented AS (
  SELECT *, CASE WHEN vote <> 0 THEN vote > 0 WHEN listens_a <> listens_b THEN listens_b WHEN differs THEN fan_b > fan_a
                 WHEN pa <> pb THEN pb < pa ELSE ab_first <= ba_first END AS forward,
    CASE WHEN abs(vote) = 2 THEN 3 WHEN vote <> 0 THEN 2 WHEN listens_a <> listens_b OR differs THEN 1 ELSE 0 END AS
    confidence
  FROM known)
SELECT CASE WHEN forward THEN a ELSE b END AS source, CASE WHEN forward THEN b ELSE a END AS destination,
  (([0, 1, 3, 2])[worst + 1] * 16777216 + protocol * 65536 + CASE WHEN forward THEN pb ELSE pa END)::UINTEGER AS point,
  hour, sum(greatest(1, CASE WHEN forward THEN ab_opens ELSE ba_opens END))::BIGINT connections,
  least(sum(packets), {_MOST})::BIGINT packets, least(sum(bytes), {_MOST})::BIGINT bytes,
  min(least(ab_first, ba_first)) AS first, max(last) AS last, max(confidence)::UTINYINT confidence,
  max(CASE WHEN forward THEN fan_b ELSE fan_a END)::UTINYINT fan
FROM oriented GROUP BY 1, 2, 3, 4
"""


class SqlMerger:
    """Records wait in a DuckDB table, already labelled; `finish` is one query."""

    def __init__(self, leases: LeaseTable) -> None:
        self._labels = _Labels(leases)
        self._folder = tempfile.TemporaryDirectory(prefix="ringfence-flows-")
        self._database = duckdb.connect(config={"temp_directory": self._folder.name, "preserve_insertion_order": False})
        self._database.execute(_CREATE)

    def __enter__(self) -> SqlMerger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
        self._folder.cleanup()

    def add(self, batch: FlowBatch) -> None:
        rows = pa.table(_columns(batch, *self._labels.label(batch)))
        self._database.register("incoming", rows)
        self._database.execute("INSERT INTO record SELECT * FROM incoming")
        self._database.unregister("incoming")

    def finish(self) -> Merged:
        columns = self._database.execute(_MERGE).fetchnumpy()
        edges = np.zeros(len(columns["point"]), EDGE)
        for name, values in columns.items():
            edges[name] = np.asarray(values)
        labels = self._labels
        return conversations_of(edges, labels.owned(), labels.leases, labels.networks.names, labels.early, labels.late)


def _columns(batch: FlowBatch, source: NDArray[np.uint32], destination: NDArray[np.uint32]) -> dict[str, NDArray[Any]]:
    """Records turned so that the lower (address, port) is A."""
    swapped = _is_greater(batch)

    def turned(forward: Any, backward: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        return np.where(swapped, backward, forward), np.where(swapped, forward, backward)

    none = np.zeros(len(batch), np.int64)
    rev_bytes = none if batch.rev_bytes is None else batch.rev_bytes
    rev_packets = none if batch.rev_packets is None else batch.rev_packets
    start = (batch.start // 1000).astype(np.uint32)
    said = _votes(batch)
    a, b = turned(source, destination)
    from_port, to_port = turned(batch.src_port, batch.dst_port)
    ab_bytes, ba_bytes = turned(batch.bytes, rev_bytes)
    ab_packets, ba_packets = turned(batch.packets, rev_packets)
    ab_first, ba_first = turned(start, np.full(len(batch), _NEVER, np.uint32))
    ab_opens, ba_opens = turned(said.opens & said.source_is_client, said.opens & said.destination_is_client)
    votes = np.where(swapped, said.if_source_is_b, said.if_source_is_a)
    syn_rejected = _is_syn(batch) & (batch.reported == _BLOCKED)
    bits = (np.uint8(1) << batch.reported) | (syn_rejected.astype(np.uint8) << np.uint8(4))
    return {
        "a": a, "pa": from_port, "b": b, "pb": to_port, "protocol": batch.protocol,
        "hour": (batch.start // 3_600_000).astype(np.uint32), "reporter": batch.reporter, "ab_bytes": ab_bytes,
        "ba_bytes": ba_bytes, "ab_packets": ab_packets, "ba_packets": ba_packets,
        "ab_opens": ab_opens.astype(np.uint32), "ba_opens": ba_opens.astype(np.uint32), "ab_first": ab_first,
        "ba_first": ba_first, "last": (batch.end // 1000).astype(np.uint32), "votes": votes.astype(np.uint8),
        "bits": bits,
    }  # fmt: skip


def _is_greater(batch: FlowBatch) -> NDArray[np.bool_]:
    s, d = (batch.src_hi, batch.src_lo, batch.src_port), (batch.dst_hi, batch.dst_lo, batch.dst_port)
    greater = s[2] > d[2]
    for x, y in zip(reversed(s[:2]), reversed(d[:2]), strict=True):
        greater = np.where(x != y, x > y, greater)
    return greater


def _is_syn(batch: FlowBatch) -> NDArray[np.bool_]:
    result: NDArray[np.bool_] = (batch.protocol == _TCP) & (batch.flags & _SYN_ACK == _SYN)
    return result


class _Votes(NamedTuple):
    """What a record says about who opened the connection."""

    if_source_is_a: NDArray[Any]
    if_source_is_b: NDArray[Any]
    source_is_client: NDArray[np.bool_]
    destination_is_client: NDArray[np.bool_]
    opens: NDArray[np.bool_]
    """Whether this record saw the opening."""


def _votes(batch: FlowBatch) -> _Votes:
    is_stated, is_syn = batch.hint != 0, _is_syn(batch)
    is_syn_ack = (batch.protocol == _TCP) & (batch.flags & _SYN_ACK == _SYN_ACK)
    by_source = np.where(is_stated, batch.hint > 0, is_syn)
    by_destination = np.where(is_stated, batch.hint < 0, is_syn_ack)
    first, second = np.where(is_stated, 4, 1), np.where(is_stated, 8, 2)
    forward = by_source * first + by_destination * second
    backward = by_source * second + by_destination * first
    return _Votes(forward, backward, by_source, by_destination, is_stated | is_syn)


class _Labels:
    """Who held an address when: numbers for (address, owner) as they turn up."""

    def __init__(self, leases: LeaseTable) -> None:
        self.leases, self.networks = leases, Networks(leases.networks)
        self.early = self.late = 0
        self._slices: dict[tuple[int, int, int], tuple[int, int]] = {}
        self._numbers: dict[tuple[int, int, int, int], int] = {}
        keys = zip(leases.network.tolist(), leases.hi.tolist(), leases.lo.tolist(), strict=True)
        for row, key in enumerate(keys):
            first, count = self._slices.get(key, (row, 0))
            self._slices[key] = first, count + 1

    def label(self, batch: FlowBatch) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        network = self.networks.numbers(batch)
        source = self._ends(network, batch.src_hi, batch.src_lo, batch.start)
        return source, self._ends(network, batch.dst_hi, batch.dst_lo, batch.start)

    def _ends(
        self, network: NDArray[np.uint32], hi: NDArray[np.uint64], lo: NDArray[np.uint64], at: NDArray[np.int64]
    ) -> NDArray[np.uint32]:
        keys, index = _distinct(network, hi, lo)
        slices = np.array([self._slices.get(key, (0, 0)) for key in keys], np.int64).reshape(-1, 2)
        owner = self._owner(slices[index, 0], slices[index, 1], at)
        owners = len(self.leases.workloads) + 1
        pairs, number = np.unique(index * owners + (owner + 1), return_inverse=True)
        numbers = [self._number((*keys[pair // owners], pair % owners - 1)) for pair in pairs.tolist()]
        result: NDArray[np.uint32] = np.array(numbers, np.uint32)[number]
        return result

    def _number(self, key: tuple[int, int, int, int]) -> int:
        return self._numbers.setdefault(key, len(self._numbers))

    def _owner(self, first: NDArray[np.int64], count: NDArray[np.int64], at: NDArray[np.int64]) -> NDArray[np.int64]:
        """A binary search in each row's own stretch of the lease table; -1 is nobody."""
        leases = self.leases
        if not len(leases.start):
            return np.full(len(at), -1, np.int64)
        low, left = first.copy(), count.copy()
        while (left > 1).any():
            half = left // 2
            low += np.where(leases.start[np.minimum(low + half, len(leases.start) - 1)] <= at, half, 0) * (left > 1)
            left -= half
        is_early = (count > 0) & (leases.start[low] > at)
        is_late = (count > 0) & ~is_early & (leases.end[low] <= at)
        self.early += int(is_early.sum())
        self.late += int(is_late.sum())
        return np.where((count > 0) & ~is_early & ~is_late, leases.owner[low], -1).astype(np.int64)

    def owned(self) -> NDArray[Any]:
        """Endpoints by number, as `merge.OWNED`."""
        out = np.zeros(len(self._numbers), OWNED)
        for name, values in zip(("network", "hi", "lo", "owner"), zip(*self._numbers, strict=True), strict=False):
            out[name] = values
        return out


def _distinct(
    network: NDArray[np.uint32], hi: NDArray[np.uint64], lo: NDArray[np.uint64]
) -> tuple[list[tuple[int, int, int]], NDArray[np.intp]]:
    """Distinct (network, high, low) and which of them each row is."""
    order = np.lexsort((lo, hi, network))
    columns = [column[order] for column in (network, hi, lo)]
    changed = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    start = np.r_[True, changed] if len(order) else np.zeros(0, dtype=bool)
    index = np.empty(len(order), np.intp)
    index[order] = np.cumsum(start) - 1
    return list(zip(*(column[start].tolist() for column in columns), strict=True)), index
