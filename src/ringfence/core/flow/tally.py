"""What became of every line of an import: counted while reading, then frozen into a report.

INVARIANT: `lines = records + malformed + nodata + skipdata + skipped`: no line is lost silently.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from ringfence.core.errors import Finding, Location, Severity

SHOWN = 20
"""Malformed lines shown with file and line; the rest are counted."""
TEXT_SHOWN = 200

State = Literal["imported", "already-imported", "refused"]

LINE_REASONS: dict[int, tuple[str, str]] = {
    1: ("line-columns", "the line has another number of columns than its header names"),
    2: ("line-address", "not an address"),
    3: ("line-number", "not a number"),
    4: ("line-range", "the number is out of range"),
    5: ("line-word", "not a word this column may hold"),
    6: ("line-missing", "an address, port, protocol or time is missing"),
    7: ("line-time", "the record ends before it starts"),
    8: ("line-too-long", "the line is longer than 64 KiB"),
    9: ("line-protocol", "the protocol is not known"),
    10: ("line-family", "one address is IPv4 and the other IPv6"),
    11: ("line-json", "not a JSON object with the fields of a flow record"),
    12: ("line-cut", "the file ends in the middle of this line"),
}
COLUMNS, ADDRESS, NUMBER, RANGE, WORD, MISSING, TIME, TOO_LONG, PROTOCOL, FAMILY, JSON, CUT = LINE_REASONS
NODATA, SKIPDATA = 101, 102
"""Not malformed: a window without traffic, and one the reporter could not record."""


class FileReport(msgspec.Struct, frozen=True):
    """What was read from one file."""

    file: str
    format: str = ""
    state: State = "imported"
    digest: str = ""
    """SHA-256 of the decompressed content: a file already imported is recognised by it, compressed or not."""
    size_bytes: int = 0
    lines: int = 0
    records: int = 0
    malformed: int = 0
    nodata: int = 0
    """Windows without traffic."""
    skipdata: int = 0
    """Windows the reporter failed to record: a gap in what can be known."""
    skipped: int = 0
    """Headers, comments and blank lines."""
    untyped_icmp: int = 0
    """ICMP records without a type, taken as echo."""
    unmapped_networks: int = 0
    """Records of a VPC that no network was named for, taken as the default network."""
    findings: tuple[Finding, ...] = ()

    @property
    def is_balanced(self) -> bool:
        return self.lines == self.records + self.malformed + self.nodata + self.skipdata + self.skipped


class ImportReport(msgspec.Struct, frozen=True):
    """What an import did: every file, and what the records became."""

    files: tuple[FileReport, ...] = ()
    conversations: int = 0
    connections: int = 0
    endpoints: int = 0
    early_ends: int = 0
    """Ends of records whose address somebody held only later: labelled as nobody's."""
    late_ends: int = 0
    """Ends of records whose address somebody had held, but no longer: labelled as nobody's."""
    folded_rows: int = 0
    """Rows of a pair with too many ports in one hour, folded into one (`fold.py`)."""
    seconds: float = 0.0
    findings: tuple[Finding, ...] = ()

    def total(self, counter: str) -> int:
        """A counter of `FileReport` over all files."""
        return sum(getattr(file, counter) for file in self.files)

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        return tuple(finding for file in self.files for finding in file.findings) + self.findings


@dataclass
class Tally:
    """A FileReport in the making."""

    file: str
    format: str = ""
    lines: int = 0
    records: int = 0
    malformed: int = 0
    nodata: int = 0
    skipdata: int = 0
    skipped: int = 0
    untyped_icmp: int = 0
    unmapped_networks: int = 0
    findings: list[Finding] = field(default_factory=list)
    shown: int = 0

    def reject(self, reason: int, *, line: int, text: bytes = b"", column: str = "") -> None:
        """One malformed line, already counted in `malformed`; the first few are shown."""
        if self.shown >= SHOWN:
            return
        self.shown += 1
        code, message = LINE_REASONS[reason]
        about = f"{message} (column `{column}`)" if column else message
        excerpt = text[:TEXT_SHOWN].decode("utf-8", "backslashreplace")
        self.findings.append(Finding(code, about, "warning", Location(self.file, line), excerpt))

    def note(self, code: str, message: str, *, help: str = "", severity: Severity = "warning") -> None:
        """A finding about the whole file."""
        self.findings.append(Finding(code, message, severity, Location(self.file), help=help))

    def report(self, *, state: State = "imported", digest: str = "", size_bytes: int = 0) -> FileReport:
        counters = {name: getattr(self, name) for name in _COUNTERS}
        return FileReport(self.file, self.format, state, digest, size_bytes, **counters, findings=tuple(self.findings))


_COUNTERS = (
    "lines", "records", "malformed", "nodata", "skipdata", "skipped", "untyped_icmp", "unmapped_networks",
)  # fmt: skip
