"""A plan: which column of a text line means what. The same plan drives the C reader and the numpy one.

INVARIANT: a meaning is given to at most one column; the numbers are those of `_flowlines.c` (checked by its ABI
number).
"""

from __future__ import annotations

from dataclasses import dataclass

(
    SKIP, SRC, DST, PKT_SRC, PKT_DST, SPORT, DPORT, PROTO, PACKETS, BYTES, START, END, ACTION, STATUS, FLAGS, REPORTER,
    SCOPE, TS, DURATION, PROTO_NAME, IP_PROTO, STATE, HISTORY, REV_PACKETS, REV_BYTES,
) = range(25)  # fmt: skip

ADDRESS_OPS = frozenset({SRC, DST, PKT_SRC, PKT_DST})
LIMITS = {
    SPORT: 65535, DPORT: 65535, PROTO: 255, IP_PROTO: 255, FLAGS: 255, START: 4294967295, END: 4294967295,
    PACKETS: 2**63 - 1, BYTES: 2**63 - 1, REV_PACKETS: 2**63 - 1, REV_BYTES: 2**63 - 1,
}  # fmt: skip
"""Largest value of the columns that hold a whole number."""

WORDS: dict[int, dict[bytes, int]] = {
    ACTION: {b"ACCEPT": 1, b"REJECT": 2},
    STATUS: {b"OK": 0, b"NODATA": 1, b"SKIPDATA": 2},
    PROTO_NAME: {b"tcp": 6, b"udp": 17, b"icmp": 1, b"unknown_transport": 255},
}
SPOKE = (b"SF", b"S1", b"S2", b"S3", b"RSTO", b"RSTR")
"""Zeek conn_state where both ends spoke: the connection was let through."""
GUESS = (b"OTH", b"SHR", b"RSTRH")
"""Zeek conn_state where the originator is a guess."""


@dataclass(frozen=True)
class Plan:
    """How to read one line."""

    ops: bytes
    """One meaning a column."""
    names: tuple[str, ...]
    """What the header calls them."""
    separator: int = 0x20
    null: bytes = b"-"
    is_zeek: bool = False
    header: bytes = b""
    """The header line itself, to know it when it comes again."""

    @staticmethod
    def of(names: tuple[str, ...], meanings: dict[str, int], *, separator: int = 0x20, null: bytes = b"-",
           is_zeek: bool = False, header: bytes = b"") -> Plan:  # fmt: skip
        """The plan of a header; of a name that comes twice the first counts."""
        ops = bytes(0 if name in names[:at] else meanings.get(name, SKIP) for at, name in enumerate(names))
        return Plan(ops, names, separator, null, is_zeek, header)
