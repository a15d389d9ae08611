"""Services as sets of points of one 24-bit line: `point = protocol << 16 | x`.

`x` is the destination port where the protocol has ports, the ICMP type for ICMP and ICMPv6, else 0.
A protocol named as a whole covers its 65,536 points, so set algebra needs no special cases.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from ringfence.core.net.intervals import IntervalSet

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
PROTOCOLS = MappingProxyType({"tcp": TCP, "udp": UDP, "sctp": 132, "dccp": 33, "udplite": 136})
"""Protocols that have ports, by name (IANA protocol numbers)."""
PORTED = frozenset(PROTOCOLS.values())
_NAMES = {number: name for name, number in PROTOCOLS.items()} | {ICMP: "icmp4", ICMPV6: "icmp6"}

ANY = IntervalSet(((0, (256 << 16) - 1),))
"""Every IP protocol and port."""

ICMP_TYPES = MappingProxyType(
    {"echo": (8, 128), "redirect": (5, 137), "timestamp": (13, None), "node-information": (None, 139)}
)
"""Named ICMP requests as (ICMPv4 type, ICMPv6 type); replies are tracked state, not policy.

Source: IANA ICMP and ICMPv6 parameters."""

WELL_KNOWN = MappingProxyType(
    {
        "dhcp": "udp/67-68",
        "dns": "tcp/53 udp/53",
        "ftp": "tcp/21",
        "http": "tcp/80",
        "http3": "udp/443",
        "https": "tcp/443",
        "imap": "tcp/143",
        "imaps": "tcp/993",
        "kafka": "tcp/9092",
        "kerberos": "tcp/88 udp/88",
        "ldap": "tcp/389 udp/389",
        "ldaps": "tcp/636",
        "memcached": "tcp/11211",
        "mongodb": "tcp/27017",
        "mssql": "tcp/1433",
        "mysql": "tcp/3306",
        "netbios": "udp/137-138 tcp/139",
        "nfs": "tcp/2049 udp/2049",
        "node-exporter": "tcp/9100",
        "ntp": "udp/123",
        "oracle": "tcp/1521",
        "ping": "icmp/echo",
        "postgres": "tcp/5432",
        "prometheus": "tcp/9090",
        "rabbitmq": "tcp/5672",
        "rdp": "tcp/3389 udp/3389",
        "redis": "tcp/6379",
        "rpc": "tcp/111 udp/111 tcp/135",
        "smb": "tcp/445",
        "smtp": "tcp/25",
        "snmp": "udp/161-162",
        "ssh": "tcp/22",
        "syslog": "udp/514 tcp/514 tcp/6514",
        "telnet": "tcp/23",
        "vnc": "tcp/5900-5903",
        "winrm": "tcp/5985-5986",
        "zookeeper": "tcp/2181",
    }
)
"""The built-in service dictionary. A policy's own `services` shadow it."""


def point(protocol: int, x: int = 0) -> int:
    """The service point of protocol 0..255 and port (or ICMP type) 0..65535."""
    return protocol << 16 | x


def protocol_of(service_point: int) -> int:
    return service_point >> 16


def _span(protocol: int, lo: int = 0, hi: int = 0xFFFF) -> tuple[int, int]:
    return point(protocol, lo), point(protocol, hi)


_ITEM = re.compile(r"(?P<protocol>[a-z0-9]+)(?:/(?P<detail>[a-z0-9-]+))?")
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


def parse_service(text: str) -> IntervalSet:
    """`tcp/5432`, `tcp/8000-8100`, `udp`, `icmp`, `icmp/echo`, `proto/47`, `any` -> points. Raises ValueError.

    Names of the built-in dictionary are not looked up here: a policy's own services come first.
    """
    match = _ITEM.fullmatch(text)
    if match is None:
        raise ValueError(f"`{text}` is not a service")
    protocol, detail = match["protocol"], match["detail"]
    if protocol == "any" and detail is None:
        return ANY
    if protocol == "icmp":
        return _icmp(detail)
    if protocol in ("icmp4", "icmp6") and detail is not None and detail.isdigit() and int(detail) < 256:
        return IntervalSet.single(point(ICMP if protocol == "icmp4" else ICMPV6, int(detail)))
    if protocol == "proto":
        if detail is None or not detail.isdigit() or int(detail) > 255:
            raise ValueError(f"`{text}` needs a protocol number from 0 to 255")
        return IntervalSet((_span(int(detail)),))
    if protocol not in PROTOCOLS:
        raise ValueError(f"`{protocol}` is not a protocol")
    return IntervalSet((_span(PROTOCOLS[protocol], *_ports(text, detail)),))


def _icmp(detail: str | None) -> IntervalSet:
    if detail is None:
        return IntervalSet((_span(ICMP), _span(ICMPV6)))
    if detail not in ICMP_TYPES:
        raise ValueError(f"`icmp/{detail}` is not a named ICMP request; known: {', '.join(sorted(ICMP_TYPES))}")
    types = zip((ICMP, ICMPV6), ICMP_TYPES[detail], strict=True)
    return IntervalSet.of(_span(protocol, t, t) for protocol, t in types if t is not None)


def _ports(text: str, detail: str | None) -> tuple[int, int]:
    if detail is None:
        return 0, 0xFFFF
    match = _PORTS.fullmatch(detail)
    if match is None:
        raise ValueError(f"`{text}` needs a port or a range of ports")
    lo, hi = int(match[1]), int(match[2] or match[1])
    if lo > hi or hi > 0xFFFF:
        raise ValueError(f"`{text}` needs ports from 0 to 65535, lowest first")
    return lo, hi


def format_services(services: IntervalSet) -> list[str]:
    """The set in the language's own words; `parse_service` of each, united, gives the set back."""
    if services == ANY:
        return ["any"]
    out: list[str] = []
    rest = services
    for word in ("icmp", "icmp/echo", "icmp/redirect"):
        both_families = parse_service(word)
        if rest.covers(both_families):
            out.append(word)
            rest = rest - both_families
    for lo, hi in rest:
        for protocol in range(lo >> 16, (hi >> 16) + 1):
            first = lo & 0xFFFF if protocol == lo >> 16 else 0
            last = hi & 0xFFFF if protocol == hi >> 16 else 0xFFFF
            out += _words(protocol, first, last)
    return sorted(out)


def _words(protocol: int, first: int, last: int) -> list[str]:
    whole = (first, last) == (0, 0xFFFF)
    if protocol in (ICMP, ICMPV6) and not whole:
        return [f"{_NAMES[protocol]}/{t}" for t in range(first, min(last, 255) + 1)]
    if protocol not in PORTED:
        return [f"proto/{protocol}"]
    name = _NAMES[protocol]
    return [name if whole else f"{name}/{first}" if first == last else f"{name}/{first}-{last}"]


def format_point(service_point: int) -> str:
    """`tcp/5432`, `icmp/echo`, `proto/47`: one observed service."""
    protocol, x = service_point >> 16, service_point & 0xFFFF
    if (protocol, x) in ((ICMP, 8), (ICMPV6, 128)):
        return "icmp/echo"
    if protocol in (ICMP, ICMPV6):
        return f"{_NAMES[protocol]}/{x}"
    return f"{_NAMES[protocol]}/{x}" if protocol in PORTED else f"proto/{protocol}"


ESSENTIAL_ICMP = IntervalSet.of(
    [(point(ICMP, t), point(ICMP, t)) for t in (3, 11, 12)]
    + [(point(ICMPV6, t), point(ICMPV6, t)) for t in (1, 2, 3, 4, 130, 131, 132, 133, 134, 135, 136, 143)]
)
"""ICMP that networking needs: errors (RFC 792, RFC 4443), MLD (RFC 2710, RFC 3810), neighbour and router
discovery (RFC 4861). Redirects and echo are policy."""

DHCP_PORTS = MappingProxyType({67: (67, 68), 68: (67,), 546: (547,), 547: (546, 547)})
"""UDP destination port -> source ports that make it DHCP (RFC 2131 section 4.1, RFC 8415 section 7.2)."""
