"""A block of text lines -> canonical columns and an account of every line: in C where it is built, else in numpy.

INVARIANT: `lines = rows + nodata + skipdata + skipped + malformed` of every block.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import numpy as np

from ringfence.core.flow import tally
from ringfence.flows import settle as rows
from ringfence.flows.plan import Plan
from ringfence.flows.settle import COLUMN_TYPES, Bools, Columns
from ringfence.flows.tokens import MAX_LINE, Bytes, Positions, Tokens, count_separators, read_columns

ABI = 2
"""What this code expects of `_flowcore`; a stale build is not used."""
_HEADER_WORDS = (b"#fields", b"#separator", b"#unset_field")
_HEADER = {True: re.compile(rb"^#(?:fields|separator|unset_field)", re.MULTILINE), False: re.compile(b"srcaddr")}
"""Where a line may be another header, by `is_zeek`."""


class Reject(NamedTuple):
    """One malformed line of a block: which, where its text is, why, and the column at fault (-1: none)."""

    line: int
    offset: int
    length: int
    reason: int
    column: int


@dataclass(frozen=True)
class Parsed:
    """What became of the whole lines of a block."""

    consumed: int
    """Bytes dealt with; the rest is an unfinished line, or a header when `is_stopped`."""
    lines: int
    columns: Columns
    nodata: int
    skipdata: int
    skipped: int
    malformed: int
    untyped: int
    is_stopped: bool
    """The line at `consumed` names columns: read it, and come back with the plan it makes."""
    rejects: tuple[Reject, ...]


def flowcore() -> ModuleType | None:
    """The C extension, unless it is missing, of another version, or RINGFENCE_PURE says not to use it."""
    if os.environ.get("RINGFENCE_PURE") == "1":
        return None
    try:
        from ringfence.flows import _flowcore  # type: ignore[attr-defined, unused-ignore]
    except ImportError:
        return None
    core: ModuleType = _flowcore
    return core if getattr(core, "ABI", 0) == ABI else None


def parse(data: bytes | memoryview, plan: Plan, *, is_final: bool, pure: bool = False) -> Parsed:
    """The whole lines of `data`, with `is_final` an unfinished last one too; it may stop at a header or for room."""
    core = None if pure else flowcore()
    return (
        _parse_numpy(data, plan, is_final=is_final) if core is None else _parse_c(core, data, plan, is_final=is_final)
    )


def _parse_c(core: ModuleType, data: bytes | memoryview, plan: Plan, *, is_final: bool) -> Parsed:
    room = len(data) // (2 * len(plan.ops)) + 16
    columns = {name: np.empty(room, kind) for name, kind in COLUMN_TYPES.items()}
    consumed, lines, kept, nodata, skipdata, skipped, malformed, untyped, is_stopped, rejects = core.parse(
        data,
        is_final,
        plan.separator,
        plan.ops,
        plan.null,
        plan.header,
        plan.is_zeek,
        tuple(columns.values()),
        tally.SHOWN,
    )
    held: Columns = {name: column[:kept] for name, column in columns.items()}
    shown = tuple(Reject(*reject) for reject in rejects)
    return Parsed(consumed, lines, held, nodata, skipdata, skipped, malformed, untyped, bool(is_stopped), shown)


def _parse_numpy(data: bytes | memoryview, plan: Plan, *, is_final: bool) -> Parsed:
    data, is_final = _to_first_header(data, plan, is_final=is_final)
    lines, consumed = _lines(np.frombuffer(data, np.uint8), is_final=is_final)
    reason, fault = np.zeros(len(lines), np.uint8), np.full(len(lines), -1, np.int64)
    skipped = (lines.length == 0) | (lines.equal(plan.header) if plan.header else False)
    if plan.is_zeek:
        skipped |= lines.part(np.ones(len(lines), dtype=bool)).characters(1)[:, 0] == ord("#")
    reason[~skipped & (lines.length > MAX_LINE)] = tally.TOO_LONG
    reason[~skipped & (reason == 0) & (count_separators(lines, plan.separator) != len(plan.ops) - 1)] = tally.COLUMNS
    sound = np.flatnonzero(~skipped & (reason == 0))
    fields, why, column = read_columns(Tokens(lines.buffer, lines.start[sound], lines.end[sound]), plan)
    readable = why == 0
    settled = rows.settle(
        {m: f._replace(value=f.value[readable], has=f.has[readable], high=None if f.high is None else f.high[readable])
         for m, f in fields.items()},
        int(readable.sum()), is_zeek=plan.is_zeek,
    )  # fmt: skip
    why[readable] = settled.reason
    reason[sound], fault[sound] = why, column
    return _account(lines, consumed, plan, skipped, reason, fault, settled)


def _to_first_header(data: bytes | memoryview, plan: Plan, *, is_final: bool) -> tuple[bytes | memoryview, bool]:
    """The lines up to the first that may be a header: what follows it is read by another plan, and not twice."""
    for found in _HEADER[plan.is_zeek].finditer(data):
        end = bytes(data[found.start() : found.start() + MAX_LINE + 2]).find(b"\n")
        if end >= 0:
            return data[: found.start() + end + 1], False
    return data, is_final


def _lines(buffer: Bytes, *, is_final: bool) -> tuple[Tokens, int]:
    end = np.flatnonzero(buffer == 10)
    if is_final and len(buffer) and buffer[-1] != 10:
        end = np.r_[end, len(buffer)]
    start = np.r_[0, end[:-1] + 1] if len(end) else end
    consumed = min(int(end[-1]) + 1, len(buffer)) if len(end) else 0
    return Tokens(
        buffer, start, end - ((end > start) & (buffer[np.maximum(end - 1, 0)] == 13) if len(end) else 0)
    ), consumed


def _account(
    lines: Tokens, consumed: int, plan: Plan, skipped: Bools, reason: Bytes, fault: Positions, settled: rows.Settled
) -> Parsed:
    """Counts, and the cut at the first line that is another header."""
    is_bad = (reason != 0) & (reason < tally.NODATA)
    stop = _first_header(lines, plan, np.flatnonzero(skipped if plan.is_zeek else is_bad))
    seen = np.arange(len(lines)) < (len(lines) if stop is None else stop)
    kept = int(np.count_nonzero(~skipped & (reason == 0) & seen))
    columns: Columns = {name: column[:kept] for name, column in settled.columns.items()}
    is_icmp = np.isin(columns["protocol"], (1, 58))
    rejects = tuple(
        Reject(i, int(lines.start[i]), int(lines.length[i]), int(reason[i]), int(fault[i]))
        for i in np.flatnonzero(is_bad & seen)[: tally.SHOWN].tolist()
    )
    return Parsed(
        consumed if stop is None else int(lines.start[stop]),
        int(seen.sum()),
        columns,
        int((seen & (reason == tally.NODATA)).sum()),
        int((seen & (reason == tally.SKIPDATA)).sum()),
        int((seen & skipped).sum()),
        int((seen & is_bad).sum()),
        0 if plan.is_zeek else int(is_icmp.sum()),
        stop is not None,
        rejects,
    )


def _first_header(lines: Tokens, plan: Plan, candidates: Positions) -> int | None:
    for index in candidates.tolist():
        text = lines.text(index) if lines.length[index] <= MAX_LINE else b""
        if text.startswith(_HEADER_WORDS) if plan.is_zeek else b"srcaddr" in text:
            return int(index)
    return None
