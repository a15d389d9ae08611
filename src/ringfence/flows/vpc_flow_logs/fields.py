"""What the fields of a VPC flow log mean here, and which must be there.

`pkt-srcaddr` and `pkt-dstaddr` (version 3) are the addresses in the packet where they differ from the interface's,
behind a NAT gateway or a pod's secondary address: they win.
"""

from __future__ import annotations

from ringfence.core.errors import InputError
from ringfence.flows import plan as op
from ringfence.flows.plan import Plan

MEANINGS = {
    "srcaddr": op.SRC, "dstaddr": op.DST, "pkt-srcaddr": op.PKT_SRC, "pkt-dstaddr": op.PKT_DST, "srcport": op.SPORT,
    "dstport": op.DPORT, "protocol": op.PROTO, "packets": op.PACKETS, "bytes": op.BYTES, "start": op.START,
    "end": op.END, "action": op.ACTION, "log-status": op.STATUS, "tcp-flags": op.FLAGS, "vpc-id": op.SCOPE,
}  # fmt: skip

REPORTERS = ("interface-id", "tgw-attachment-id", "resource-id", "instance-id", "flow-direction")
"""What tells one report of a connection from another, best first; `flow-direction` at least tells the ends apart."""

DEFAULT = (
    "version", "account-id", "interface-id", "srcaddr", "dstaddr", "srcport", "dstport", "protocol", "packets", "bytes",
    "start", "end", "action", "log-status",
)  # fmt: skip
"""The default format (version 2)."""

STAMPED = ("@timestamp", *DEFAULT)
"""The default format as CloudWatch Logs exports it."""

_REQUIRED = (
    ("srcaddr", "pkt-srcaddr"),
    ("dstaddr", "pkt-dstaddr"),
    ("srcport",),
    ("dstport",),
    ("protocol",),
    ("start",),
)


def plan_of(names: tuple[str, ...], *, header: bytes = b"") -> Plan:
    """The plan of a text header. Raises InputError `flow-columns-missing`."""
    check(names)
    return Plan.of(names, meanings_of(names), header=header)


def meanings_of(names: tuple[str, ...]) -> dict[str, int]:
    reporter = reporter_of(names)
    return MEANINGS if reporter is None else {**MEANINGS, reporter: op.REPORTER}


def reporter_of(names: tuple[str, ...]) -> str | None:
    return next((name for name in REPORTERS if name in names), None)


def check(names: tuple[str, ...]) -> None:
    missing = [group[0] for group in _REQUIRED if not any(name in names for name in group)]
    if missing:
        listed = ", ".join(f"`{name}`" for name in missing)
        raise InputError(
            "flow-columns-missing", f"the flow log has no {listed}", help="add them to the flow log's format"
        )
