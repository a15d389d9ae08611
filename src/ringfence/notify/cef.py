"""Common Event Format, version 0 (ArcSight, "Implementing ArcSight Common Event Format", revision 26).

INVARIANT: what is escaped is what the format says and nothing else: `\\` and `|` in the header, `\\`, `=` and line ends
in extension values. A header field cannot hold a line end, so there it becomes a blank.
"""

from __future__ import annotations

from datetime import datetime

from ringfence import __version__
from ringfence.core.net.address import is_v4, parse_address
from ringfence.ports.notifier import Notice
from ringfence.ports.state import AlertSeverity

SEVERITY: dict[AlertSeverity, int] = {"info": 2, "warning": 5, "error": 8, "critical": 10}
"""0-3 low, 4-6 medium, 7-8 high, 9-10 very high."""
_LONGEST = {"msg": 1023, "shost": 1023, "dhost": 1023, "dvchost": 100, "externalId": 40, "act": 63}
"""Lengths of the dictionary, in characters; custom strings hold 4000."""


def cef(notice: Notice) -> str:
    """The notice as one line."""
    header = ("Ringfence", "Ringfence", __version__, f"{notice.kind}.{notice.news}", f"{notice.kind} {notice.news}")
    prefix = "|".join(["CEF:0", *map(header_text, header), str(SEVERITY[notice.severity])])
    pairs = (f"{key}={value_text(value[: _LONGEST.get(key, 4000)])}" for key, value in _extension(notice) if value)
    return f"{prefix}|{' '.join(pairs)}"


def header_text(text: str) -> str:
    """A header field, escaped."""
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").splitlines())


def value_text(text: str) -> str:
    """An extension value, escaped."""
    escaped = text.replace("\\", "\\\\").replace("=", "\\=")
    return escaped.replace("\r\n", "\\n").replace("\n", "\\n").replace("\r", "\\r")


def _extension(notice: Notice) -> list[tuple[str, str]]:
    protocol, _, port = notice.service.partition("/")
    return [
        ("externalId", notice.alert or notice.id),
        ("rt", _milliseconds(notice.at)),
        ("start", _milliseconds(notice.first)),
        ("end", _milliseconds(notice.last)),
        ("cnt", str(notice.count)),
        ("cat", notice.kind),
        ("act", notice.verdict),
        ("dvchost", notice.where),
        ("shost", notice.source),
        *_address("src", "c6a2", "Source IPv6 Address", notice.source_address),
        ("dhost", notice.destination),
        *_address("dst", "c6a3", "Destination IPv6 Address", notice.destination_address),
        ("proto", protocol.upper()),
        ("dpt", port if port.isdigit() and protocol in ("tcp", "udp", "sctp", "dccp", "udplite") else ""),
        *_custom(1, "rule", notice.rule),
        *_custom(2, "sourceIdentity", notice.source_identity),
        *_custom(3, "destinationIdentity", notice.destination_identity),
        *_custom(4, "next", "; ".join(notice.commands)),
        *_custom(5, "subject", notice.subject),
        *_custom(6, "state", notice.state),
        ("msg", notice.message),
    ]


def _custom(number: int, label: str, value: str) -> list[tuple[str, str]]:
    return [(f"cs{number}", value), (f"cs{number}Label", label)] if value else []


def _address(v4_key: str, v6_key: str, label: str, text: str) -> list[tuple[str, str]]:
    if not text:
        return []
    return [(v4_key, text)] if is_v4(parse_address(text)) else [(v6_key, text), (f"{v6_key}Label", label)]


def _milliseconds(at: datetime | None) -> str:
    return str(int(at.timestamp() * 1000)) if at else ""
