"""What a host's connections carried, added up by who talked to whom: events and dumps in, flow rows out.

    note(events)           connections that began and ended, in the order the kernel told
    note_dump(rows) ...    what the living ones carried so far; ends with `end_dump`
    take()                 everything since it was last asked, one row a key

Each living connection is remembered with how much of it was reported, so that nothing counts twice and a long
connection shows while it lives. A connection that the kernel never announced (it is older than the ledger, or its event
was lost) counts when it is first seen, in a dump or at its end.

INVARIANT: a connection counts once: when announced, else when first seen. Packets and bytes are what the kernel
counted, less what was reported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringfence.core.net.service import ICMP, ICMPV6, PORTED
from ringfence.flows.conntrack.batch import NEW

IN, OUT, THROUGH = range(3)
"""Whether the host is the server, the client, or neither."""
CARRIED: Final = np.dtype(
    [("source_hi", "u8"), ("source_lo", "u8"), ("destination_hi", "u8"), ("destination_lo", "u8"), ("point", "i4"),
     ("direction", "u1"), ("unit", "i4"), ("connections", "i8"), ("packets", "i8"), ("bytes", "i8"),
     ("reply_packets", "i8"), ("reply_bytes", "i8"), ("first", "i8"), ("last", "i8")]
)  # fmt: skip
"""Times are milliseconds since the epoch; `unit` is whatever number the attribution gave."""
_KEY = ("source_hi", "source_lo", "destination_hi", "destination_lo", "point", "direction", "unit")
_SUMS = ("connections", "packets", "bytes", "reply_packets", "reply_bytes")
_COUNTERS = _SUMS[1:]
_LIVE = np.dtype(
    [("key", "u8"), *((name, "i8") for name in _COUNTERS), ("since", "i8"), ("unit", "i4"), ("round", "u2"),
     ("is_unannounced", "?")]
)  # fmt: skip
"""A living connection: what of it was reported, until when, and the last dump that had it."""
_WAYS = (
    ("source_hi", "destination_hi"), ("source_lo", "destination_lo"), ("source_port", "destination_port"),
    ("packets", "reply_packets"), ("bytes", "reply_bytes"),
)  # fmt: skip
"""What is told of each direction of a connection."""
_REGROUP = 1 << 16
_FACTOR, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)

Rows = NDArray[Any]
Attribute = Callable[[Rows, NDArray[np.uint8]], NDArray[np.int32]]
"""(TRACKED rows, their directions) -> the number of each one's own process."""
Answers = Callable[[Rows, NDArray[np.uint8]], NDArray[np.bool_]]
"""(TRACKED rows, their directions) -> which are told the wrong way round: conntrack first saw an answer."""


class Own(NamedTuple):
    """The host's addresses, as halves of the 128-bit ints, sorted."""

    table: NDArray[Any]

    @staticmethod
    def of(addresses: set[int] | frozenset[int]) -> Own:
        pairs = [(address >> 64, address & 0xFFFFFFFFFFFFFFFF) for address in sorted(addresses)]
        return Own(np.array(pairs, np.uint64).reshape(-1, 2))

    def holds(self, hi: NDArray[np.uint64], lo: NDArray[np.uint64]) -> NDArray[np.bool_]:
        found = np.zeros(len(hi), bool)
        for own_hi, own_lo in self.table:
            found |= (lo == own_lo) & (hi == own_hi)
        return found


class Ledger:
    """One host's account."""

    def __init__(self, attribute: Attribute, answers: Answers | None = None, *, seed: int = 0) -> None:
        """`seed` makes the hash of connections unguessable to who chooses their ports."""
        self._attribute, self._answers, self._seed = attribute, answers or nobodys, np.uint64(seed)
        self._live = np.zeros(0, _LIVE)
        self._parts: list[Rows] = []
        self._round = 0
        self._ended: set[int] | None = None
        """Connections that ended since the dump began; it may still show them."""
        self.own = Own.of(set())
        self.unfinished = 0
        """Connections whose end was never heard."""

    @property
    def living(self) -> int:
        return len(self._live)

    def note(self, events: Rows, now_ms: int) -> int:
        """Take events in their order; returns how many connections began or were first seen."""
        events, direction = self._of_the_network(events)
        if not len(events):
            return 0
        is_new = events["kind"] == NEW
        keys = self._keys(events)
        known, inverse = np.unique(keys, return_inverse=True)
        began, ended = (np.bincount(inverse[mask], minlength=len(known)) for mask in (is_new, ~is_new))
        was, place = self._find(known)
        announced = was & self._at(place, was, "is_unannounced") & (began > 0)
        connections = is_new.astype(np.int64)
        self._discount(connections, inverse, is_new, announced)
        missing = np.maximum(ended - began - was, 0)
        self._credit(connections, inverse, ~is_new, missing)
        at_ms = np.where(events["event_ns"] > 0, events["event_ns"] // 1_000_000, now_ms)
        units = self._report(events, direction, connections, at_ms, self._reported(keys, ~is_new), is_new)
        if self._ended is not None:
            self._ended.update(known[ended > 0].tolist())
        left = was + began - announced - ended
        self.unfinished += int(np.maximum(left - 1, 0).sum())
        self._settle(known, left > 0, (began == 0) | announced, inverse, at_ms, units)
        return int(connections.sum())

    def begin_dump(self) -> None:
        self._round = (self._round + 1) & 0xFFFF
        self._ended = set()
        self._live["is_unannounced"] = False

    def note_dump(self, rows: Rows, now_ms: int) -> None:
        """Part of the kernel's table. INVARIANT: events told before it was read were noted before."""
        rows, direction = self._of_the_network(rows)
        keys = self._keys(rows)
        keys, first = np.unique(keys, return_index=True)
        fresh = ~np.isin(keys, np.fromiter(self._ended or (), np.uint64))
        keys, rows, direction = keys[fresh], rows[first][fresh], direction[first][fresh]
        was, place = self._find(keys)
        before = self._live[place[was]]
        base = np.zeros(len(rows), _LIVE)
        base[was] = before
        start = np.where(rows["start_ns"] > 0, rows["start_ns"] // 1_000_000, now_ms)
        base["since"] = np.where(was, base["since"], start)
        nothing_new = np.zeros(len(rows), bool)
        at_ms = np.full(len(rows), now_ms)
        base["unit"] = self._report(rows, direction, (~was).astype(np.int64), at_ms, base, nothing_new)
        moved = (rows["packets"] + rows["reply_packets"]) != (base["packets"] + base["reply_packets"])
        base["key"], base["round"], base["is_unannounced"] = keys, self._round, ~was
        for name in _COUNTERS:
            base[name] = rows[name]
        base["since"] = np.where(moved | ~was, now_ms, base["since"])
        self._live[place[was]] = base[was]
        self._insert(base[~was])

    def end_dump(self, *, was_lossy: bool) -> None:
        """`was_lossy`: events were lost since the dump before; what two dumps do not show has ended unheard."""
        self._ended = None
        if was_lossy:
            age = (self._round - self._live["round"].astype(np.int64)) & 0xFFFF
            is_gone = (age >= 2) & (age < 0x8000)
            self.unfinished += int(is_gone.sum())
            self._live = self._live[~is_gone]

    def take(self) -> Rows:
        """CARRIED rows of everything since the last time."""
        rows, self._parts = self._grouped(), []
        return rows

    def waiting(self) -> int:
        """How many rows `take` would give, at most."""
        if sum(map(len, self._parts)) > _REGROUP:
            self._parts = [self._grouped()]
        return sum(map(len, self._parts))

    # ---- one batch ---------------------------------------------------------------------------------------------------

    def _of_the_network(self, rows: Rows) -> tuple[Rows, NDArray[np.uint8]]:
        """Without what a host says to itself."""
        rows = rows[~(_is_loopback(rows, "source") | _is_loopback(rows, "destination"))]
        is_client = self.own.holds(rows["source_hi"], rows["source_lo"])
        is_server = self.own.holds(rows["destination_hi"], rows["destination_lo"])
        direction = np.where(is_client, OUT, np.where(is_server, IN, THROUGH)).astype(np.uint8)
        is_flow = ~(is_client & is_server)
        return rows[is_flow], direction[is_flow]

    def _keys(self, rows: Rows) -> NDArray[np.uint64]:
        ports = rows["source_port"].astype(np.uint64) << np.uint64(48) | rows["destination_port"].astype(
            np.uint64
        ) << np.uint64(32)
        rest = rows["protocol"].astype(np.uint64) << np.uint64(16) | rows["icmp_id"]
        words = (
            rows["source_hi"],
            rows["source_lo"],
            rows["destination_hi"],
            rows["destination_lo"],
            ports | rest,
            rows["id"],
        )
        return mixed(words, self._seed, len(rows))

    def _find(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
        place = np.searchsorted(self._live["key"], keys)
        inside = np.minimum(place, max(len(self._live) - 1, 0))
        return (self._live["key"][inside] == keys if len(self._live) else np.zeros(len(keys), bool)), inside

    def _at(self, place: NDArray[np.intp], was: NDArray[np.bool_], name: str) -> NDArray[Any]:
        values: NDArray[Any] = np.zeros(len(place), _LIVE[name])
        values[was] = self._live[name][place[was]]
        return values

    @staticmethod
    def _discount(
        connections: NDArray[np.int64],
        inverse: NDArray[np.intp],
        is_new: NDArray[np.bool_],
        announced: NDArray[np.bool_],
    ) -> None:
        """A beginning that tells of a connection which a dump showed before its event came counts no more."""
        rows = np.flatnonzero(is_new & announced[inverse])
        _, first = np.unique(inverse[rows], return_index=True)
        connections[rows[first]] = 0

    @staticmethod
    def _credit(
        connections: NDArray[np.int64], inverse: NDArray[np.intp], is_end: NDArray[np.bool_], missing: NDArray[np.int64]
    ) -> None:
        """Ends of connections nobody announced count as connections."""
        rows = np.flatnonzero(is_end & (missing > 0)[inverse])
        which, first = np.unique(inverse[rows], return_index=True)
        connections[rows[first]] += missing[which]

    def _reported(self, keys: NDArray[np.uint64], is_end: NDArray[np.bool_]) -> Rows:
        """What of each ending connection was reported already: only the first end of a key can have any."""
        base = np.zeros(len(keys), _LIVE)
        rows = np.flatnonzero(is_end)
        which, first = np.unique(keys[rows], return_index=True)
        was, place = self._find(which)
        base[rows[first[was]]] = self._live[place[was]]
        return base

    def _report(
        self, rows: Rows, direction: NDArray[np.uint8], connections: NDArray[np.int64], at_ms: NDArray[np.int64],
        base: Rows, is_new: NDArray[np.bool_],
    ) -> NDArray[np.int32]:  # fmt: skip
        """Carried since `base`, as a part of the account; returns each one's process."""
        answers = self._answers(rows, direction)
        if answers.any():
            rows, base, direction = turned(rows, answers), turned(base, answers), direction.copy()
            direction[answers] = np.where(direction[answers] == IN, OUT, IN)
        out = np.zeros(len(rows), CARRIED)
        for name in _KEY[:4]:
            out[name] = rows[name]
        out["point"], out["direction"], out["connections"] = _points(rows), direction, connections
        unknown = base["key"] == 0
        out["unit"] = base["unit"]
        out["unit"][unknown] = self._attribute(rows[unknown], direction[unknown])
        for name in _COUNTERS:
            out[name] = np.maximum(rows[name] - base[name], 0)
        start = np.where(rows["start_ns"] > 0, rows["start_ns"] // 1_000_000, at_ms)
        out["first"] = np.minimum(np.where(is_new, at_ms, np.where(base["since"] > 0, base["since"], start)), at_ms)
        out["last"] = at_ms
        has_any = (out["connections"] > 0) | (out["packets"] > 0) | (out["reply_packets"] > 0)
        self._parts.append(grouped(out[has_any], self._seed))
        units: NDArray[np.int32] = out["unit"]
        return units

    def _settle(
        self, known: NDArray[np.uint64], lives: NDArray[np.bool_], is_same: NDArray[np.bool_],
        inverse: NDArray[np.intp], at_ms: NDArray[np.int64], units: NDArray[np.int32],
    ) -> None:  # fmt: skip
        """Who lives after the batch: the ended go, those that began come, with nothing of them reported."""
        was, place = self._find(known)
        keep = was & lives & is_same
        self._live["is_unannounced"][place[keep]] = False
        gone = np.zeros(len(self._live), bool)
        gone[place[was & ~keep]] = True
        if gone.any():
            self._live = self._live[~gone]
        comes = np.flatnonzero(lives & ~keep)
        last = np.zeros(len(known), np.intp)
        last[inverse] = np.arange(len(inverse))
        fresh = np.zeros(len(comes), _LIVE)
        fresh["key"], fresh["round"] = known[comes], self._round
        fresh["since"], fresh["unit"] = at_ms[last[comes]], units[last[comes]]
        self._insert(fresh)

    def _insert(self, fresh: Rows) -> None:
        """Sorted rows into the sorted table."""
        if len(fresh):
            self._live = np.insert(self._live, np.searchsorted(self._live["key"], fresh["key"]), fresh)

    def _grouped(self) -> Rows:
        return grouped(np.concatenate(self._parts), self._seed) if self._parts else np.zeros(0, CARRIED)


def nobodys(rows: Rows, _: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Every connection is told as it began."""
    return np.zeros(len(rows), bool)


def turned(rows: Rows, which: NDArray[np.bool_]) -> Rows:
    """Those of them the other way round: the ends, and what went each way."""
    out = rows.copy()
    for here, there in _WAYS:
        if here in (rows.dtype.names or ()):
            out[here][which], out[there][which] = rows[there][which], rows[here][which]
    return out


def _is_loopback(rows: Rows, end: str) -> NDArray[np.bool_]:
    lo = rows[f"{end}_lo"]
    found: NDArray[np.bool_] = (rows[f"{end}_hi"] == 0) & ((lo >> np.uint64(24) == 0xFFFF7F) | (lo == 1))
    return found


def _points(rows: Rows) -> NDArray[np.int32]:
    """Service points: the destination port, the ICMP type, else 0."""
    protocol = rows["protocol"]
    detail = np.where(np.isin(protocol, list(PORTED)), rows["destination_port"], 0)
    detail = np.where(np.isin(protocol, (ICMP, ICMPV6)), rows["icmp_type"], detail)
    return (protocol.astype(np.int32) << 16) | detail.astype(np.int32)


def mixed(words: tuple[Any, ...], seed: np.uint64, size: int) -> NDArray[np.uint64]:
    """A hash of each row, never 0."""
    out = np.full(size, seed, np.uint64)
    for word in words:
        out = (out ^ word.astype(np.uint64)) * _FACTOR
        out ^= out >> _SHIFT
    return out | np.uint64(1)


def grouped(rows: Rows, seed: np.uint64) -> Rows:
    """One row a key. The hash only brings equal keys together: rows are joined by the keys themselves."""
    if len(rows) < 2:
        return rows
    rows = rows[np.argsort(mixed(tuple(rows[name] for name in _KEY), seed, len(rows)), kind="stable")]
    differs = np.zeros(len(rows) - 1, bool)
    for name in _KEY:
        differs |= rows[name][1:] != rows[name][:-1]
    start = np.flatnonzero(np.r_[True, differs])
    out = rows[start].copy()
    for name in _SUMS:
        out[name] = np.add.reduceat(rows[name], start)
    out["first"] = np.minimum.reduceat(rows["first"], start)
    out["last"] = np.maximum.reduceat(rows["last"], start)
    return out
