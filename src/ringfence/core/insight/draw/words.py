"""Numbers, times and untrusted names as words for people, the same in every drawing."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

from ringfence.core.insight.map import Edge, Status

STATUS_WORDS: dict[Status, str] = {
    "allowed": "allowed", "no-policy": "no policy", "would-block": "would block", "blocked": "blocked",
}  # fmt: skip
STATUS_MARKS: dict[Status, str] = {"allowed": "✓", "no-policy": "?", "would-block": "!", "blocked": "✕"}
"""So that no meaning hangs on colour alone (WCAG 2.2 success criterion 1.4.1)."""
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str) -> str:
    """The text without what moves a cursor, ends a line or turns the writing direction; each is shown as U+FFFD."""
    if text.isascii() and text.isprintable():
        return text
    return "".join("\ufffd" if unicodedata.category(char) in _HIDDEN else char for char in text)


def format_bytes(size_bytes: int) -> str:
    """`1.4 MB`: powers of 1000, three digits at most before the unit changes."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if amount < 999.5 or unit == "PB":
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 9.95 else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError("unreachable: the last unit returns")


def format_count(count: int) -> str:
    """`1,234,567`."""
    return f"{count:,}"


def format_time(epoch_s: int) -> str:
    """`2026-03-01 12:00`, UTC."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M")


def rfc3339(epoch_s: int) -> str:
    """`2026-03-01T12:00:00Z`."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def services_text(edge: Edge, most: int) -> str:
    """The services by connections, the first `most` by name and the rest as a number: `https, ssh +3`."""
    ranked = sorted(edge.uses, key=lambda use: (-use.volume.connections, use.service))
    names = list(dict.fromkeys(printable(use.service) for use in ranked))
    more = f" +{len(names) - most}" if len(names) > most else ""
    return ", ".join(names[:most]) + more
