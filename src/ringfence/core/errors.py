"""Findings and the error tree. Everything Ringfence refuses, it refuses with a stable code from here.

    RingfenceError                 anything a user can act on: code, message, help, location
    ├── FindingsError              many findings at once (a policy set, an inventory)
    ├── InputError                 input that cannot be read at all (file, format, argument)
    │   └── TimeError              a time that is none
    └── TargetError                an enforcement point said no (refused, unreachable, read-back differs)

INVARIANT: a message is lower case, without a full stop, quotes user input in backticks and never
names a Python type; what to do next is the separate `help`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

Severity = Literal["error", "warning", "info"]
_RANK = {"error": 0, "warning": 1, "info": 2}


class Location(msgspec.Struct, frozen=True, order=True):
    """Where something was written. Lines and columns count from 1; 0 means the whole file."""

    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part)


class Finding(msgspec.Struct, frozen=True):
    """One thing a person should know about their input. Tests and CI match the `code`, never the message."""

    code: str
    message: str
    severity: Severity = "error"
    where: Location = Location()
    text: str = ""
    """The offending text as written."""
    help: str = ""
    """The next step, often a did-you-mean."""
    subject: str = ""
    """What the finding is about: `policy/rule`, a workload, a segment."""

    @property
    def sort_key(self) -> tuple[str, int, int, int, str]:
        return (self.where.file, self.where.line, self.where.column, _RANK[self.severity], self.code)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where.file else ""
        help_ = f" ({self.help})" if self.help else ""
        return f"{place}{self.severity}[{self.code}] {self.message}{help_}"


class RingfenceError(Exception):
    """An error a person can act on."""

    def __init__(self, code: str, message: str, *, help: str = "", where: Location | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.help = help
        self.where = where or Location()

    def __str__(self) -> str:
        return str(self.as_finding())

    def as_finding(self) -> Finding:
        return Finding(code=self.code, message=self.message, where=self.where, help=self.help)


class FindingsError(RingfenceError):
    """Input that cannot be used, with every finding about it. It is called by its first error, where there is one."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(sorted(findings, key=lambda f: f.sort_key))
        if not self.findings:
            raise ValueError("a FindingsError needs a finding")
        errors = errors_among(self.findings)
        first = (errors or self.findings)[0]
        count = f"{len(errors)} error(s)" if errors else f"{len(self.findings)} finding(s)"
        super().__init__(first.code, count, help=first.help, where=first.where)

    def __str__(self) -> str:
        return "\n".join(str(finding) for finding in self.findings)


class InputError(RingfenceError):
    """Input that cannot be read: a missing file, an unknown format, a malformed argument."""


class TimeError(InputError, ValueError):
    """A time that is none, or that no calendar here can hold: code `bad-time`."""

    def __init__(self, message: str) -> None:
        super().__init__("bad-time", message, help="write it like 2026-03-03T02:10:00Z")


class TargetError(RingfenceError):
    """An enforcement point refused, could not be reached, or realised something else than intended."""


def errors_among(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings that must stop a publish."""
    return tuple(f for f in findings if f.severity == "error")
