"""Text flow logs: blocks of bytes -> batches, with a header that says which column is what.

INVARIANT: every line ends in exactly one counter of the tally; a line longer than MAX_LINE is passed over without being
held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from ringfence.core.errors import InputError
from ringfence.core.flow import tally as reasons
from ringfence.core.flow.record import FlowBatch
from ringfence.core.flow.tally import TEXT_SHOWN, Tally
from ringfence.flows.parse import Parsed, parse
from ringfence.flows.plan import Plan
from ringfence.flows.settle import Columns
from ringfence.flows.tokens import MAX_LINE
from ringfence.ports.flow_source import DamagedInput, FlowInput

_BOM = b"\xef\xbb\xbf"


class Header(Protocol):
    """What a format knows about its own header lines; one per file."""

    def offer(self, line: bytes) -> Plan | None:
        """The first line, or a later one that names columns. A plan when enough is known; None to be offered more.

        Raises InputError for a header that names too little.
        """

    @property
    def is_data(self) -> bool:
        """Whether the line that gave the plan is itself a record (the format has no header)."""


class ParseBlock(Protocol):
    def __call__(self, data: memoryview, plan: Plan, *, is_final: bool) -> Parsed: ...


class LineReader:
    """Reads one file. `finish` makes a batch of the columns of a block."""

    def __init__(
        self,
        content: FlowInput,
        tally: Tally,
        header: Header,
        finish: Callable[[Columns], FlowBatch],
        parse_block: ParseBlock = parse,
    ) -> None:
        self._content, self._tally, self._header, self._finish, self._parse = (
            content,
            tally,
            header,
            finish,
            parse_block,
        )
        self._plan: Plan | None = None
        self._last_plan: Plan | None = None
        self._rest = b""
        self._is_overlong = False

    def batches(self) -> Iterator[FlowBatch]:
        is_first = True
        damage: DamagedInput | None = None
        try:
            for block in self._content.blocks():
                yield from self._block(self._rest + (block.removeprefix(_BOM) if is_first else block), is_final=False)
                is_first = False
        except DamagedInput as error:
            damage = error
        if damage is None:
            yield from self._block(self._rest, is_final=True)
        else:
            self._cut_off(damage)

    def _block(self, data: bytes, *, is_final: bool) -> Iterator[FlowBatch]:
        """The whole lines of `data`; the rest waits for more."""
        at = self._end_overlong(data)
        while at < len(data):
            if self._plan is None:
                ahead = self._read_header(data, at, is_final=is_final)
                if ahead is None:
                    break
                at = ahead
                continue
            parsed = self._parse(memoryview(data)[at:], self._plan, is_final=is_final)
            self._count(parsed, data, at)
            at += parsed.consumed
            if parsed.lines > parsed.nodata + parsed.skipdata + parsed.skipped + parsed.malformed:
                yield self._finish(parsed.columns)
            if parsed.is_stopped:
                self._last_plan, self._plan = self._plan, None
            elif not parsed.consumed:
                break
        self._keep(data[at:])

    def _count(self, parsed: Parsed, data: bytes, at: int) -> None:
        tally, plan = self._tally, self._plan
        assert plan is not None
        for line, offset, length, reason, column in parsed.rejects:
            text = data[at + offset : at + offset + min(length, TEXT_SHOWN)]
            name = plan.names[column] if column >= 0 else ""
            tally.reject(reason, line=tally.lines + line + 1, text=text, column=name)
        tally.lines += parsed.lines
        tally.nodata += parsed.nodata
        tally.skipdata += parsed.skipdata
        tally.skipped += parsed.skipped
        tally.malformed += parsed.malformed
        tally.untyped_icmp += parsed.untyped
        tally.records += parsed.lines - parsed.nodata - parsed.skipdata - parsed.skipped - parsed.malformed

    def _read_header(self, data: bytes, at: int, *, is_final: bool) -> int | None:
        """Offer the line at `at`; where reading goes on, None when the line is not complete."""
        end = data.find(b"\n", at)
        if end < 0 and not is_final:
            return None
        after = end + 1 if end >= 0 else len(data)
        line = data[at:after].rstrip(b"\r\n")
        try:
            self._plan = self._header.offer(line) if line else None
        except InputError:
            if self._last_plan is None:
                raise
            self._plan = self._last_plan
            self._malformed(reasons.COLUMNS, line)
            return after
        if self._plan is not None and self._header.is_data:
            return at
        self._tally.lines += 1
        self._tally.skipped += 1
        return after

    def _keep(self, rest: bytes) -> None:
        """An unfinished line, unless it is too long already: then only that it is one."""
        self._rest = b"" if self._is_overlong or len(rest) > MAX_LINE else rest
        if len(rest) > MAX_LINE and not self._is_overlong:
            self._is_overlong = True
            self._malformed(reasons.TOO_LONG, rest)

    def _end_overlong(self, data: bytes) -> int:
        """Where the line after an overlong one starts."""
        if not self._is_overlong:
            return 0
        end = data.find(b"\n")
        self._is_overlong = end < 0
        return len(data) if end < 0 else end + 1

    def _malformed(self, reason: int, text: bytes) -> None:
        self._tally.lines += 1
        self._tally.malformed += 1
        self._tally.reject(reason, line=self._tally.lines, text=text[:TEXT_SHOWN])

    def _cut_off(self, damage: DamagedInput) -> None:
        """The content ended early: what is left is part of a line, and not to be believed."""
        self._tally.note(
            damage.code, damage.message, help="fetch the file again; what came before the damage is imported"
        )
        if self._rest:
            self._malformed(reasons.CUT, self._rest)
