"""Packets by hand: IPv4 and IPv6 with TCP, UDP, SCTP, ICMP or nothing known inside."""

from __future__ import annotations

import struct
from typing import NamedTuple

from conformance.hearings import is_mld

from ringfence.core.net.address import V4_BASE, is_v4
from ringfence.core.net.service import ICMP, ICMPV6, PORTED, PROTOCOLS, TCP, UDP

SCTP = PROTOCOLS["sctp"]
SYN, ACK = 0x02, 0x10
_INIT = struct.pack("!BBHIIHHI", 1, 0, 20, 1, 65535, 1, 1, 1)
"""An SCTP INIT chunk (RFC 9260 section 3.3.2): what begins an association."""


class Seen(NamedTuple):
    """A packet as it came over the wire; `ports` are (source, destination), for ICMP (0, type)."""

    source: int
    destination: int
    protocol: int
    ports: tuple[int, int]
    flags: int = 0


def content(source: int, destination: int, protocol: int, ports: tuple[int, int], number: int) -> bytes:
    """What follows the IP header: the first packet of something new. `number` tells one ICMP exchange from another."""
    if protocol == UDP:
        body = struct.pack("!HHHH", *ports, 12, 0) + b"ring"
        at = 6
    elif protocol in (ICMP, ICMPV6):
        body = struct.pack("!BBHHH", ports[1], 0, 0, number & 0xFFFF, 1) + bytes(64)
        at = 2
    elif protocol == SCTP:
        return struct.pack("!HHII", *ports, 0, 0) + _INIT
    else:
        return bytes(32)
    summed = checksum(body if protocol == ICMP else pseudo_header(source, destination, protocol, len(body)) + body)
    return body[:at] + struct.pack("!H", summed) + body[at + 2 :]


def pseudo_header(source: int, destination: int, protocol: int, length: int) -> bytes:
    """RFC 768, RFC 8200 section 8.1."""
    return packed(source) + packed(destination) + struct.pack("!II", length, protocol)


def checksum(octets: bytes) -> int:
    """The internet checksum (RFC 1071); never 0, which UDP takes for none."""
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF or 0xFFFF


def packed(address: int) -> bytes:
    return (address - V4_BASE).to_bytes(4, "big") if is_v4(address) else address.to_bytes(16, "big")


def datagram(source: int, destination: int, protocol: int, inner: bytes) -> bytes:
    """The IP packet around it."""
    if is_v4(source):
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(inner), 0, 0, 255, protocol, 0)
        tail = packed(source) + packed(destination)
        return head[:10] + struct.pack("!H", checksum(head + tail)) + tail + inner
    hop_limit = 1 if is_mld(protocol << 16 | inner[0]) else 255
    return struct.pack("!IHBB", 6 << 28, len(inner), protocol, hop_limit) + packed(source) + packed(destination) + inner


def parse(packet: bytes) -> Seen | None:
    """An IP packet as seen; None for what is neither IPv4 nor IPv6 without extension headers."""
    version = packet[0] >> 4 if packet else 0
    if version == 4:
        start, protocol = 4 * (packet[0] & 15), packet[9]
        source, destination = (V4_BASE + int.from_bytes(packet[at : at + 4], "big") for at in (12, 16))
    elif version == 6:
        start, protocol = 40, packet[6]
        source, destination = (int.from_bytes(packet[at : at + 16], "big") for at in (8, 24))
    else:
        return None
    inner = packet[start:]
    if protocol in (ICMP, ICMPV6):
        return Seen(source, destination, protocol, (0, inner[0]))
    ports = struct.unpack_from("!HH", inner) if protocol in PORTED else (0, 0)
    return Seen(source, destination, protocol, ports, inner[13] if protocol == TCP else 0)
