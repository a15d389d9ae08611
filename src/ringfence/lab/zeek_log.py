"""Flow records as one Zeek connection log: who began, both directions in one line, and the type of an ICMP request.

Zeek logs a connection once however many sensors a site has, so of two ends that report the client's counts. What a long
connection carries after its first report is logged as traffic in midstream (`OTH`).

Source: https://docs.zeek.org/en/master/scripts/base/protocols/conn/main.zeek.html and Zeek's ASCII writer.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path

from ringfence.lab.telemetry import Ending, FlowRecord

_FIELDS = {
    "ts": "time",
    "uid": "string",
    "id.orig_h": "addr",
    "id.orig_p": "port",
    "id.resp_h": "addr",
    "id.resp_p": "port",
    "proto": "enum",
    "duration": "interval",
    "conn_state": "string",
    "orig_pkts": "count",
    "orig_ip_bytes": "count",
    "resp_pkts": "count",
    "resp_ip_bytes": "count",
}
HEADER = (
    "#separator \\x09",
    "#set_separator\t,",
    "#empty_field\t(empty)",
    "#unset_field\t-",
    "#path\tconn",
    "\t".join(("#fields", *_FIELDS)),
    "\t".join(("#types", *_FIELDS.values())),
)
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp"}
_STATES: dict[Ending, str] = {"open": "S1", "closed": "SF", "reset": "RSTO", "refused": "REJ", "unanswered": "S0"}


def append(path: Path, records: Iterable[FlowRecord], reporting: Container[str]) -> None:
    """Add lines; a new file gets the header. `reporting` are the addresses of the hosts that report flows."""
    head = () if path.exists() else HEADER
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="ascii") as file:
        file.writelines(f"{line}\n" for line in (*head, *lines(records, reporting)))


def lines(records: Iterable[FlowRecord], reporting: Container[str]) -> list[str]:
    """The lines without the header: the client's report of each connection, else the server's."""
    return [_line(record) for record in records if record.direction == "out" or record.source not in reporting]


def _line(record: FlowRecord) -> str:
    is_icmp = record.icmp_type is not None
    ports = (record.icmp_type, 0) if is_icmp else (record.source_port, record.destination_port)
    columns = (
        f"{record.start_s:.6f}",
        f"C{record.protocol}p{record.source_port}h{record.host}",
        *(record.source, ports[0], record.destination, ports[1]),
        _PROTOCOLS.get(record.protocol, "unknown_transport"),
        f"{record.end_s - record.start_s:.6f}",
        _state(record),
        *(record.packets, record.bytes, record.reply_packets, record.reply_bytes),
    )
    return "\t".join(map(str, columns))


def _state(record: FlowRecord) -> str:
    if not record.is_first:
        return "OTH"
    return "SF" if record.ending == "open" and record.protocol != 6 else _STATES[record.ending]
