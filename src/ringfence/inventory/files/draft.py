"""What an inventory file says before it is judged: the texts of each workload, each with its place.

INVARIANT: a draft has the right *shape* and nothing more; no text in it has been checked.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ringfence.core.errors import Finding, Location, Severity
from ringfence.core.policy.suggest import nearest
from ringfence.inventory.files.codes import CODES


class Text(msgspec.Struct, frozen=True, gc=False):
    """A text as written, with its place; lines and columns count from 1."""

    value: str
    line: int
    column: int


class AddressDraft(msgspec.Struct, frozen=True):
    """One address as written, with its lease and network if it states them."""

    address: Text
    start: Text | None = None
    end: Text | None = None
    network: Text | None = None


class Draft(msgspec.Struct, frozen=True):
    """One workload as written. `at` is where its entry begins; `texts` holds the keys that are one text."""

    file: str
    at: Text
    texts: dict[str, Text]
    labels: tuple[tuple[Text, Text], ...] = ()
    addresses: tuple[AddressDraft, ...] = ()
    services: tuple[Text, ...] = ()
    is_readable: bool = True
    """False for what stands in a workload's place and is none: it is reported once, as that."""

    def place(self, text: Text) -> Location:
        return Location(self.file, text.line, text.column)


TEXT_KEYS = ("name", "uuid", "kind", "host", "unit", "network", "spiffe")
"""Keys of a workload whose value is one text."""
MODE_KEYS = ("mode", "mode:in", "mode:out")
"""How a draft's `texts` holds the mode: of both directions, or of one."""


class Findings:
    """The findings of one reading, collected so that all of them are reported at once."""

    def __init__(self) -> None:
        self.found: list[Finding] = []

    def add(
        self,
        code: str,
        message: str,
        where: Location,
        *,
        text: str = "",
        help: str = "",
        subject: str = "",
        severity: Severity = "error",
    ) -> None:
        """Adds one finding; its help is the code's own unless a better one is given."""
        self.found.append(Finding(code, message, severity, where, text, help or CODES[code][1], subject))


def unknown_word(written: str, known: Iterable[str]) -> str:
    """The help for an unknown word: the nearest known one, or all of them where they are few."""
    words = sorted(known)
    near = nearest(written, words)
    if near is not None:
        return f"did you mean `{near}`?"
    return f"known: {', '.join(words)}" if len(words) <= 20 else ""
