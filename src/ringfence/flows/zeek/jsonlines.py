"""Zeek conn.log as JSON lines (`LogAscii::use_json`): one typed decode a line, the rest vectorised."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.core.flow import tally as reasons
from ringfence.core.flow.tally import SHOWN
from ringfence.flows import plan as op
from ringfence.flows.parse import Parsed, Reject
from ringfence.flows.plan import Plan
from ringfence.flows.settle import Bools, Field, settle
from ringfence.flows.tokens import MAX_LINE, address_columns

_PORT = Annotated[int, msgspec.Meta(ge=0, le=65535)]
_COUNT = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_SECONDS = Annotated[float, msgspec.Meta(ge=0, lt=4294967296)]
_RENAMED = {"orig_h": "id.orig_h", "orig_p": "id.orig_p", "resp_h": "id.resp_h", "resp_p": "id.resp_p"}


class Conn(msgspec.Struct, rename=_RENAMED, gc=False):
    """The fields of a conn record that count here; Zeek leaves unset ones out."""

    ts: _SECONDS | str
    """Seconds, or ISO 8601 as `LogAscii::json_timestamps` may ask for."""
    orig_h: str
    orig_p: _PORT
    resp_h: str
    resp_p: _PORT
    proto: str
    ip_proto: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None
    duration: _SECONDS | None = None
    orig_bytes: _COUNT | None = None
    resp_bytes: _COUNT | None = None
    orig_pkts: _COUNT | None = None
    orig_ip_bytes: _COUNT | None = None
    resp_pkts: _COUNT | None = None
    resp_ip_bytes: _COUNT | None = None
    conn_state: str | None = None
    history: str | None = None


class JsonHeader:
    """JSON lines have no header."""

    is_data: Final = True

    def offer(self, line: bytes) -> Plan:
        return _PLAN


_PLAN = Plan(b"\0", ("",), is_zeek=True)
_decoder = msgspec.json.Decoder(Conn)


def parse_json(data: memoryview, plan: Plan, *, is_final: bool) -> Parsed:
    """The whole lines of a block; see `parse.parse`."""
    text = bytes(data)
    consumed = len(text) if is_final else text.rfind(b"\n") + 1
    lines = text[:consumed].split(b"\n")
    if not lines[-1]:
        lines.pop()
    reason = np.zeros(len(lines), np.uint8)
    is_blank = np.array([not line.strip() for line in lines], dtype=bool)
    records: list[Conn] = []
    for number, line in enumerate(lines):
        if not is_blank[number]:
            _decode(line, number, records, reason)
    is_read = ~is_blank & (reason == 0)
    fields, unread = _fields(records)
    settled = settle(fields, len(records), is_zeek=True)
    reason[is_read] = np.where(unread != 0, unread, settled.reason)
    kept = (unread == 0)[settled.reason == 0]
    columns = {name: column[kept] for name, column in settled.columns.items()}
    return Parsed(
        consumed,
        len(lines),
        columns,
        0,
        0,
        int(is_blank.sum()),
        int((reason != 0).sum()),
        0,
        False,
        _rejects(lines, reason),
    )


def _decode(line: bytes, number: int, records: list[Conn], reason: NDArray[np.uint8]) -> None:
    """One line appended to `records`, or its reason noted."""
    if len(line) > MAX_LINE:
        reason[number] = reasons.TOO_LONG
        return
    try:
        records.append(_decoder.decode(line))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        reason[number] = reasons.JSON


def _rejects(lines: list[bytes], reason: NDArray[np.uint8]) -> tuple[Reject, ...]:
    bad = np.flatnonzero(reason)[:SHOWN].tolist()
    offsets = np.r_[0, np.cumsum([len(line) + 1 for line in lines])]
    return tuple(Reject(i, int(offsets[i]), len(lines[i]), int(reason[i]), -1) for i in bad)


def _fields(records: list[Conn]) -> tuple[dict[int, Field], NDArray[np.uint8]]:
    """Columns by meaning, and why a record has none."""
    everywhere = np.ones(len(records), dtype=bool)
    unread = np.zeros(len(records), np.uint8)

    def optional(values: list[int | None]) -> Field:
        return Field(
            np.array([v or 0 for v in values], np.uint64), np.array([v is not None for v in values], dtype=bool)
        )

    def address(texts: list[str]) -> Field:
        distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        value, high, is_sound = address_columns(text.encode() for text in distinct)
        index = np.array([distinct[text] for text in texts], np.intp)
        unread[(unread == 0) & ~_take(is_sound, index)] = reasons.ADDRESS
        return Field(value[index], everywhere, high[index])

    source, destination = address([r.orig_h for r in records]), address([r.resp_h for r in records])
    times = [_ms(r.ts) for r in records]
    unread[(unread == 0) & np.array([t is None for t in times], dtype=bool)] = reasons.NUMBER
    protocol = op.WORDS[op.PROTO_NAME]
    numbers = [protocol.get(r.proto.encode("utf-8", "replace")) for r in records]
    unread[(unread == 0) & np.array([n is None for n in numbers], dtype=bool)] = reasons.WORD
    fields = {
        op.SRC: source,
        op.DST: destination,
        op.TS: Field(np.array([t or 0 for t in times], np.uint64), everywhere),
        op.PROTO_NAME: Field(np.array([n or 0 for n in numbers], np.uint64), everywhere),
        op.SPORT: optional([r.orig_p for r in records]),
        op.DPORT: optional([r.resp_p for r in records]),
        op.IP_PROTO: optional([r.ip_proto for r in records]),
        op.DURATION: optional([None if r.duration is None else _ms(r.duration) for r in records]),
        op.PACKETS: optional([r.orig_pkts for r in records]),
        op.BYTES: optional([r.orig_bytes if r.orig_ip_bytes is None else r.orig_ip_bytes for r in records]),
        op.REV_PACKETS: optional([r.resp_pkts for r in records]),
        op.REV_BYTES: optional([r.resp_bytes if r.resp_ip_bytes is None else r.resp_ip_bytes for r in records]),
        op.STATE: optional([None if r.conn_state is None else _state(r.conn_state) for r in records]),
        op.HISTORY: optional([None if r.history is None else int("^" in r.history) for r in records]),
    }
    return fields, unread


def _take(values: Bools, index: NDArray[np.intp]) -> Bools:
    return values[index] if len(values) else np.zeros(0, dtype=bool)


def _state(text: str) -> int:
    state = text.encode("utf-8", "replace")
    return 1 if state in op.SPOKE else 2 if state in op.GUESS else 0


def _ms(seconds: float | str) -> int | None:
    """Whole milliseconds, cut off after the microseconds Zeek writes; None for what is no time."""
    if isinstance(seconds, str):
        try:
            at = datetime.fromisoformat(seconds)
        except ValueError:
            return None
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        if not 0 <= seconds < 4294967296:
            return None
    return round(seconds * 1_000_000) // 1000
