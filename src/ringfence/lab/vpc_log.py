"""Flow records as AWS VPC flow log text, version 5, so that the lab's recording is read like any other flow log.

The format has no ICMP type and does not say who began; `zeek_log` does.
A tracked connection makes one line for each direction that carried packets, as two records of one network interface;
a blocked packet makes one `REJECT` line. Source: Amazon VPC User Guide, "Flow log records".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ringfence.flows.conntrack.nflog import BlockedAttempt
from ringfence.lab.telemetry import FlowRecord

HEADER = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action "
    "log-status vpc-id subnet-id instance-id tcp-flags type pkt-srcaddr pkt-dstaddr region az-id sublocation-type "
    "sublocation-id pkt-src-aws-service pkt-dst-aws-service flow-direction traffic-path"
)
ACCOUNT = "123456789012"
FIN, SYN, RST, SYN_ACK = 1, 2, 4, 18


def lines(records: tuple[FlowRecord, ...], blocked: tuple[BlockedAttempt, ...]) -> dict[str, list[str]]:
    """Host -> its lines, without the header."""
    out: dict[str, list[str]] = {}
    for record in records:
        out.setdefault(record.host, []).extend(_flow(record))
    for attempt in blocked:
        out.setdefault(attempt.host, []).append(_rejected(attempt))
    return out


def append(
    folder: Path, records: tuple[FlowRecord, ...], blocked: tuple[BlockedAttempt, ...], hosts: Iterable[str]
) -> None:
    """Add lines to `HOST.log` of each host; a file that is new gets the header first, even when nothing follows."""
    folder.mkdir(parents=True, exist_ok=True)
    new = lines(records, blocked)
    for host in hosts:
        path = folder / f"{host}.log"
        head = () if path.exists() else (HEADER,)
        with path.open("a", encoding="ascii") as file:
            file.writelines(f"{line}\n" for line in (*head, *new.get(host, ())))


def _flow(record: FlowRecord) -> Iterator[str]:
    ours, theirs = _tcp_flags(record)
    start, end = int(record.start_s), int(record.end_s)
    there = "egress" if record.direction == "out" else "ingress"
    back = "ingress" if record.direction == "out" else "egress"
    client, server = (record.source, record.source_port), (record.destination, record.destination_port)
    if record.packets:
        yield _line(
            record.host, client, server, record.protocol, (record.packets, record.bytes), (start, end), ours, there
        )
    if record.reply_packets:
        replies = (record.reply_packets, record.reply_bytes)
        yield _line(record.host, server, client, record.protocol, replies, (start, end), theirs, back)


def _tcp_flags(record: FlowRecord) -> tuple[int, int]:
    """(client's, server's) flags seen in the record's window."""
    if record.protocol != 6:
        return 0, 0
    fin = FIN if record.ending == "closed" else 0
    if record.ending == "refused":
        return SYN, RST
    reset = RST if record.ending == "reset" else 0
    return (SYN if record.is_first else 0) | fin | reset, (SYN_ACK if record.is_first else 0) | fin


def _rejected(attempt: BlockedAttempt) -> str:
    at = int(attempt.at_s)
    client, server = (attempt.source, attempt.source_port), (attempt.destination, attempt.destination_port)
    flags = SYN if attempt.protocol == 6 else 0
    way = "egress" if attempt.direction == "out" else "ingress"
    return _line(attempt.host, client, server, attempt.protocol, (1, attempt.bytes), (at, at), flags, way, "REJECT")


def _line(
    host: str,
    source: tuple[str, int],
    destination: tuple[str, int],
    protocol: int,
    size: tuple[int, int],
    window: tuple[int, int],
    flags: int,
    way: str,
    action: str = "ACCEPT",
) -> str:
    family = "IPv6" if ":" in source[0] else "IPv4"
    path = "1" if way == "egress" else "-"
    ends = f"{source[0]} {destination[0]}"
    return (
        f"5 {ACCOUNT} eni-{host} {ends} {source[1]} {destination[1]} {protocol} {size[0]} {size[1]} "
        f"{window[0]} {window[1]} {action} OK - - - {flags} {family} {ends} - - - - - - {way} {path}"
    )
