"""Connections as the kernel tracked them: ctnetlink messages -> entries with both directions' packets and bytes.

Source of the numbers: linux/netfilter/nfnetlink_conntrack.h and nf_conntrack_tcp.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import msgspec

from ringfence.flows.conntrack import netlink

NEW, DESTROY = 0x100, 0x102
GROUPS = (1, 3)
"""NFNLGRP_CONNTRACK_NEW and NFNLGRP_CONNTRACK_DESTROY."""
_GET = 0x101
_TUPLE_ORIG, _PROTOINFO, _COUNTERS_ORIG, _COUNTERS_REPLY, _ID, _TIMESTAMP = 1, 4, 9, 10, 12, 20
_IP, _PROTO = 1, 2
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_ICMP_TYPES = {1: 5, 58: 8}
"""Protocol -> the attribute that holds the ICMP type."""
TCP_TIME_WAIT, TCP_CLOSE = 7, 8
TCP_CLOSING = frozenset({4, 5, 6, TCP_TIME_WAIT})
"""States after a FIN."""
_U64 = struct.Struct("!Q")
_U32 = struct.Struct("!I")
_U16 = struct.Struct("!H")


class Entry(msgspec.Struct, frozen=True):
    """One tracked connection; the original direction is the client's."""

    id: int
    """The kernel's id: unique among the living connections of one namespace."""
    protocol: int
    source: str
    destination: str
    source_port: int
    destination_port: int
    """0 where the protocol has no ports."""
    icmp_type: int | None
    packets: int
    bytes: int
    reply_packets: int
    reply_bytes: int
    start_ns: int
    """Since the epoch; 0 in the event of a new connection, which carries no times and no counters."""
    stop_ns: int
    """0 while it lives."""
    tcp_state: int | None


def subscribe(sock: socket.socket) -> None:
    """Have the kernel send every new and every ended connection of the socket's namespace."""
    for group in GROUPS:
        sock.setsockopt(netlink.SOL_NETLINK, netlink.NETLINK_ADD_MEMBERSHIP, group)


def events(data: bytes) -> Iterator[tuple[int, Entry]]:
    """(NEW or DESTROY, entry) of each message in one datagram."""
    for kind, whole, start, end in netlink.messages(data):
        if kind in (NEW, DESTROY):
            yield kind, parse_entry(whole, start + 4, end)


def table(sock: socket.socket) -> Iterator[Entry]:
    """Every connection tracked now, on a socket that is not subscribed. Raises OSError."""
    request = netlink.request(_GET, netlink.NLM_F_DUMP, socket.AF_UNSPEC, 0)
    for data, start, end in netlink.dump(sock, request):
        yield parse_entry(data, start, end)


def parse_entry(data: bytes, start: int, end: int) -> Entry:
    """The attributes of one message. Raises KeyError or struct.error for what the kernel never sends."""
    top = netlink.attributes(data, start, end)
    tuple_ = netlink.attributes(data, *top[_TUPLE_ORIG])
    source, destination = _addresses(data, *tuple_[_IP])
    proto = netlink.attributes(data, *tuple_[_PROTO])
    protocol = data[proto[_NUMBER][0]]
    packets, size = _counters(data, top.get(_COUNTERS_ORIG))
    reply_packets, reply_size = _counters(data, top.get(_COUNTERS_REPLY))
    start_ns, stop_ns = _times(data, top.get(_TIMESTAMP))
    icmp_type = proto.get(_ICMP_TYPES.get(protocol, 0))
    return Entry(
        id=_U32.unpack_from(data, top[_ID][0])[0],
        protocol=protocol,
        source=source,
        destination=destination,
        source_port=_port(data, proto.get(_SOURCE_PORT)),
        destination_port=_port(data, proto.get(_DESTINATION_PORT)),
        icmp_type=data[icmp_type[0]] if icmp_type else None,
        packets=packets,
        bytes=size,
        reply_packets=reply_packets,
        reply_bytes=reply_size,
        start_ns=start_ns,
        stop_ns=stop_ns,
        tcp_state=_tcp_state(data, top.get(_PROTOINFO)),
    )


def _addresses(data: bytes, start: int, end: int) -> tuple[str, str]:
    family, size = (socket.AF_INET, 4) if end - start == 16 else (socket.AF_INET6, 16)
    (source, _), (destination, _) = (place for _, place in sorted(netlink.attributes(data, start, end).items()))
    source_text = socket.inet_ntop(family, data[source : source + size])
    return source_text, socket.inet_ntop(family, data[destination : destination + size])


def _port(data: bytes, place: tuple[int, int] | None) -> int:
    return int(_U16.unpack_from(data, place[0])[0]) if place else 0


def _counters(data: bytes, place: tuple[int, int] | None) -> tuple[int, int]:
    if place is None:
        return 0, 0
    inner = netlink.attributes(data, *place)
    return _U64.unpack_from(data, inner[1][0])[0], _U64.unpack_from(data, inner[2][0])[0]


def _times(data: bytes, place: tuple[int, int] | None) -> tuple[int, int]:
    inner = netlink.attributes(data, *place) if place else {}
    start, stop = (_U64.unpack_from(data, inner[kind][0])[0] if kind in inner else 0 for kind in (1, 2))
    return start, stop


def _tcp_state(data: bytes, place: tuple[int, int] | None) -> int | None:
    if place is None:
        return None
    protocols = netlink.attributes(data, *place)
    state = netlink.attributes(data, *protocols[1]).get(1) if 1 in protocols else None
    return data[state[0]] if state else None
