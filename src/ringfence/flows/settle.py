"""Fields as written -> canonical records, vectorised: the checks that concern more than one column.

Used for JSON, Parquet and, without the C extension, text. INVARIANT: the checks, their order and their reasons are
those of `settle` in `_flowlines.c`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringfence.core.flow import tally
from ringfence.core.flow.record import LAST_MS
from ringfence.core.net.service import ICMP, ICMPV6, PORTED
from ringfence.flows import plan as op

Bools = NDArray[np.bool_]
Words64 = NDArray[np.uint64]

COLUMN_TYPES: dict[str, type[np.generic]] = {
    "start": np.int64, "end": np.int64, "src_hi": np.uint64, "src_lo": np.uint64, "dst_hi": np.uint64,
    "dst_lo": np.uint64, "src_port": np.uint16, "dst_port": np.uint16, "protocol": np.uint8, "flags": np.uint8,
    "reported": np.uint8, "hint": np.int8, "packets": np.int64, "bytes": np.int64, "reporter": np.uint64,
    "scope": np.uint64, "rev_packets": np.int64, "rev_bytes": np.int64,
}  # fmt: skip
"""Columns of a parsed block in the order the C reader fills them; `scope` is the reported network's opaque id."""

Columns = dict[str, NDArray[np.generic]]
_REPLIES = {(ICMP, 0): 8, (ICMP, 14): 13, (ICMP, 16): 15, (ICMP, 18): 17, (ICMPV6, 129): 128}
"""Replies and the requests they answer (RFC 792, RFC 4443)."""


class Field(NamedTuple):
    """One column as written: its value where it has one. `high` is the upper half of an address."""

    value: Words64
    has: Bools
    high: Words64 | None = None


@dataclass(frozen=True)
class Settled:
    columns: Columns
    """The kept rows."""
    reason: NDArray[np.uint8]
    """0 for a kept row, else why not: a reason, NODATA or SKIPDATA."""
    untyped: int
    """ICMP records that carry no type."""


class _Fields:
    """Fields by meaning, 0 where they have no value; a column the format lacks has none anywhere."""

    def __init__(self, fields: dict[int, Field], rows: int) -> None:
        self.fields = {m: f._replace(value=np.where(f.has, f.value, np.uint64(0))) for m, f in fields.items()}
        zeros = np.zeros(rows, np.uint64)
        self._absent = Field(zeros, np.zeros(rows, dtype=bool), zeros)

    def __getitem__(self, meaning: int) -> Field:
        return self.fields.get(meaning, self._absent)

    def first_of(self, *meanings: int) -> Field:
        """Per row the first that has a value."""
        best, *others = (self[m] for m in meanings)
        for other in others:
            high = best.high if best.high is None or other.high is None else np.where(best.has, best.high, other.high)
            best = Field(np.where(best.has, best.value, other.value), best.has | other.has, high)
        return best


def settle(fields: dict[int, Field], rows: int, *, is_zeek: bool) -> Settled:
    """Check and convert `rows` rows whose columns each could be read."""
    f = _Fields(fields, rows)
    src, dst = f.first_of(op.PKT_SRC, op.SRC), f.first_of(op.PKT_DST, op.DST)
    sport, dport = f[op.SPORT], f[op.DPORT]
    number = f.first_of(op.PROTO, op.PROTO_NAME)
    began = f[op.TS] if is_zeek else f[op.START]
    is_v4 = _is_v4(src)
    start, end = _times(f, is_zeek=is_zeek)
    protocol = _protocol(f, number, is_v4)
    is_icmp = np.isin(protocol, (ICMP, ICMPV6))
    status = f[op.STATUS]
    is_missing = ~(src.has & dst.has & sport.has & dport.has & number.has & began.has)
    reason = np.zeros(rows, np.uint8)
    checks = (
        (tally.NODATA, status.has & (status.value == 1)),
        (tally.SKIPDATA, status.has & (status.value == 2)),
        (tally.NODATA, ~src.has & ~dst.has & (not is_zeek and op.STATUS not in fields)),
        (tally.MISSING, is_missing),
        (tally.FAMILY, is_v4 != _is_v4(dst)),
        (tally.RANGE, end > LAST_MS),
        (tally.TIME, end < start),
        (tally.PROTOCOL, protocol > 255),
        (tally.RANGE, is_icmp & is_zeek & (sport.value > 255)),
    )
    for code, fails in checks:
        reason[(reason == 0) & fails] = code
    kept = reason == 0
    from_port, to_port, turned = _ports(protocol, is_icmp, sport.value, dport.value, is_zeek=is_zeek)
    reported, hint = _zeek_state(f) if is_zeek else (f[op.ACTION].value, np.zeros(rows, np.int8))
    values = {
        "start": start, "end": end, "src_hi": src.high, "src_lo": src.value, "dst_hi": dst.high, "dst_lo": dst.value,
        "src_port": from_port, "dst_port": to_port, "protocol": protocol, "flags": f[op.FLAGS].value,
        "reported": reported, "hint": np.where(turned, -hint, hint), "packets": f[op.PACKETS].value,
        "bytes": f[op.BYTES].value, "reporter": f[op.REPORTER].value, "scope": f[op.SCOPE].value,
        "rev_packets": f[op.REV_PACKETS].value, "rev_bytes": f[op.REV_BYTES].value,
    }  # fmt: skip
    columns: Columns = {n: np.asarray(v)[kept].astype(COLUMN_TYPES[n]) for n, v in values.items()}
    return Settled(columns, reason, 0 if is_zeek else int(np.count_nonzero(is_icmp & kept)))


def _is_v4(address: Field) -> Bools:
    assert address.high is not None
    result: Bools = (address.high == 0) & (address.value >> np.uint64(32) == 0xFFFF)
    return result


def _times(f: _Fields, *, is_zeek: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if is_zeek:
        start = f[op.TS].value.astype(np.int64)
        return start, start + f[op.DURATION].value.astype(np.int64)
    start = f[op.START].value.astype(np.int64) * 1000
    end = f[op.END]
    return start, np.where(end.has, end.value.astype(np.int64) * 1000, start)


def _protocol(f: _Fields, number: Field, is_v4: Bools) -> NDArray[np.int64]:
    """The protocol number; 256 where the reporter names none. Zeek calls both ICMPs `icmp`."""
    protocol = number.value.astype(np.int64)
    is_named = ~f[op.PROTO].has & f[op.PROTO_NAME].has
    is_unknown, stated = is_named & (protocol == 255), f[op.IP_PROTO]
    protocol = np.where(is_unknown, np.where(stated.has, stated.value.astype(np.int64), 256), protocol)
    return np.where(is_named & (protocol == ICMP) & ~is_v4, ICMPV6, protocol)


def _ports(
    protocol: NDArray[np.int64], is_icmp: Bools, sport: Words64, dport: Words64, *, is_zeek: bool
) -> tuple[Words64, Words64, Bools]:
    """The ports as canonical records have them, and whether an ICMP reply was turned into its request."""
    kind = sport if is_zeek else np.where(protocol == ICMP, np.uint64(8), np.uint64(128))
    turned = np.zeros(len(protocol), dtype=bool)
    for (number, reply), request in _REPLIES.items() if is_zeek else ():
        is_reply = (protocol == number) & (sport == reply)
        kind, turned = np.where(is_reply, np.uint64(request), kind), turned | is_reply
    is_ported, none = np.isin(protocol, tuple(PORTED)), np.uint64(0)
    from_port, to_port = (np.where(is_icmp, kind, np.where(is_ported, port, none)) for port in (sport, dport))
    return from_port, to_port, turned


def _zeek_state(f: _Fields) -> tuple[Words64, NDArray[np.int8]]:
    state, flipped = f[op.STATE], f[op.HISTORY]
    is_guess = (state.has & (state.value == 2)) | (flipped.has & (flipped.value != 0))
    return (state.has & (state.value == 1)).astype(np.uint64), (~is_guess).astype(np.int8)
