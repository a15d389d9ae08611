"""Packets that a rule logged (NFLOG) -> blocked attempts with their 5-tuple and the rule's prefix.

Source of the numbers: linux/netfilter/nfnetlink_log.h; header layouts RFC 791, RFC 8200, RFC 9293, RFC 768.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from typing import Literal

import msgspec

from ringfence.flows.conntrack import netlink

_PACKET, _CONFIG = 0x400, 0x401
_CFG_COMMAND, _CFG_MODE, _CFG_THRESHOLD = 1, 2, 5
_BIND, _COPY_PACKET = 1, 2
_HEADER, _TIMESTAMP, _PAYLOAD, _PREFIX = 1, 3, 9, 10
_HOOK_IN = 1
_SNAP_BYTES = 128
_V6_EXTENSIONS = frozenset({0, 43, 60})
"""Hop-by-hop, routing, destination options: skipped to reach the transport header."""
_FLAGS = 13
"""Where those of a TCP header stand."""
_PORTED = frozenset({6, 17, 33, 132, 136})


class BlockedAttempt(msgspec.Struct, frozen=True, array_like=True):
    """One logged packet, as the host that stopped (or would have stopped) it saw it."""

    host: str
    direction: Literal["in", "out"]
    prefix: str
    """What the logging rule says about itself."""
    protocol: int
    source: str
    destination: str
    source_port: int
    destination_port: int
    """0 where the protocol has no ports, or in a later fragment."""
    icmp_type: int | None
    bytes: int
    at_s: float
    """Since the epoch."""
    is_beginning: bool = True
    """Whether it could begin a connection: of TCP, SYN alone does."""


def bind(sock: socket.socket, group: int) -> None:
    """Receive the packets logged to a group in the socket's namespace. Raises OSError (EBUSY: someone else does)."""
    command = netlink.attribute(_CFG_COMMAND, bytes([_BIND]))
    mode = netlink.attribute(_CFG_MODE, struct.pack("!IBx", _SNAP_BYTES, _COPY_PACKET))
    at_once = netlink.attribute(_CFG_THRESHOLD, struct.pack("!I", 1))  # else the kernel holds packets back for a second
    for configuration in (command, mode, at_once):
        netlink.acknowledged(sock, netlink.request(_CONFIG, netlink.NLM_F_ACK, socket.AF_UNSPEC, group, configuration))


def attempts(data: bytes, host: str) -> Iterator[BlockedAttempt]:
    """The logged packets of one datagram; one whose header cannot be read is not IP and is passed over."""
    for kind, whole, start, end in netlink.messages(data):
        if kind != _PACKET:
            continue
        found = netlink.attributes(whole, start + 4, end)
        if _PAYLOAD not in found or _HEADER not in found:
            continue
        packet = whole[slice(*found[_PAYLOAD])]
        read = _headers(packet)
        if read is not None:
            direction: Literal["in", "out"] = "in" if whole[found[_HEADER][0] + 2] == _HOOK_IN else "out"
            when = _time(whole, found)
            yield BlockedAttempt(host, direction, _prefix(whole, found), *read[:7], when, is_beginning=read[7])


def _prefix(data: bytes, found: dict[int, tuple[int, int]]) -> str:
    return data[slice(*found[_PREFIX])].rstrip(b"\0").decode("utf-8", "replace").strip() if _PREFIX in found else ""


def _time(data: bytes, found: dict[int, tuple[int, int]]) -> float:
    if _TIMESTAMP not in found:
        return time.time()
    seconds, micros = struct.unpack_from("!QQ", data, found[_TIMESTAMP][0])
    return float(seconds + micros / 1e6)


_Headers = tuple[int, str, str, int, int, int | None, int, bool]


def _headers(packet: bytes) -> _Headers | None:
    """(protocol, source, destination, source port, destination port, ICMP type, bytes, is a beginning)."""
    try:
        return _v4(packet) if packet[0] >> 4 == 4 else _v6(packet) if packet[0] >> 4 == 6 else None
    except (IndexError, struct.error, ValueError):
        return None


def _v4(packet: bytes) -> _Headers:
    (size,) = struct.unpack_from("!H", packet, 2)
    is_first = struct.unpack_from("!H", packet, 6)[0] & 0x1FFF == 0
    source, destination = (socket.inet_ntop(socket.AF_INET, packet[at : at + 4]) for at in (12, 16))
    transport = packet[(packet[0] & 15) * 4 :] if is_first else b""
    return packet[9], source, destination, *_transport(packet[9], transport), size, _begins(packet[9], transport)


def _v6(packet: bytes) -> _Headers:
    (size,) = struct.unpack_from("!H", packet, 4)
    source, destination = (socket.inet_ntop(socket.AF_INET6, packet[at : at + 16]) for at in (8, 24))
    protocol, offset = packet[6], 40
    while protocol in _V6_EXTENSIONS:
        protocol, offset = packet[offset], offset + 8 + packet[offset + 1] * 8
    if protocol == socket.IPPROTO_FRAGMENT:
        is_first = struct.unpack_from("!H", packet, offset + 2)[0] >> 3 == 0
        protocol, offset = packet[offset], offset + 8 if is_first else len(packet)
    transport = packet[offset:]
    ends = _transport(protocol, transport)
    return protocol, source, destination, *ends, size + 40, _begins(protocol, transport)


def _begins(protocol: int, header: bytes) -> bool:
    """FIN, SYN, RST and ACK: a beginning has SYN alone (RFC 9293 section 3.5). What cannot be read is taken
    for one."""
    return protocol != socket.IPPROTO_TCP or len(header) <= _FLAGS or header[_FLAGS] & 0x17 == 0x02


def _transport(protocol: int, header: bytes) -> tuple[int, int, int | None]:
    if not header:
        return 0, 0, None
    if protocol in (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6):
        return 0, 0, header[0]
    if protocol not in _PORTED:
        return 0, 0, None
    source, destination = struct.unpack_from("!HH", header)
    return source, destination, None
