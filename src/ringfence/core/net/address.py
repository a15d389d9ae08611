"""Addresses and CIDRs of both families as points and intervals of one 128-bit line.

An address is an `int`. IPv4 lives at `::ffff:0:0/96` (RFC 4291 section 2.5.5.2), so an IPv4-mapped IPv6
address *is* the IPv4 address and no code above this module asks for the family.

INVARIANT: an IPv6 CIDR never contains an IPv4 address unless it was written inside `::ffff:0:0/96`
(`::/0` is every IPv6 address and no IPv4 one).
"""

from __future__ import annotations

import ipaddress
from functools import cache
from typing import NewType

from ringfence.core.net.intervals import IntervalSet, union

Address = NewType("Address", int)

V4_BASE = 0xFFFF << 32
V4_LAST = V4_BASE | 0xFFFFFFFF
LAST = (1 << 128) - 1
_V4_SPACE = IntervalSet(((V4_BASE, V4_LAST),))


def parse_address(text: str) -> Address:
    """`10.0.0.1`, `fd00::1`, `::ffff:10.0.0.1` -> Address. Raises ValueError (zone indexes are refused)."""
    value = ipaddress.ip_address(text)
    if isinstance(value, ipaddress.IPv4Address):
        return Address(V4_BASE | int(value))
    if value.scope_id is not None:
        raise ValueError(f"`{text}` has a zone index; an address in a policy must be unambiguous")
    return Address(int(value))


def format_address(address: int) -> str:
    if is_v4(address):
        return str(ipaddress.IPv4Address(address & 0xFFFFFFFF))
    return str(ipaddress.IPv6Address(address))


def is_v4(address: int) -> bool:
    return V4_BASE <= address <= V4_LAST


@cache
def parse_cidr(text: str) -> IntervalSet:
    """`10.0.0.0/8`, `fd00::/8` or one address -> the addresses in it. Raises ValueError for host bits."""
    network = ipaddress.ip_network(text, strict=True)
    lo, hi = int(network.network_address), int(network.broadcast_address)
    if isinstance(network, ipaddress.IPv4Network):
        return IntervalSet(((V4_BASE | lo, V4_BASE | hi),))
    covered = IntervalSet(((lo, hi),))
    return covered if _V4_SPACE.covers(covered) else covered - _V4_SPACE


def format_ranges(addresses: IntervalSet) -> list[str]:
    """The shortest list of CIDRs that is exactly this set, IPv4 first."""
    v4 = addresses & _V4_SPACE
    out: list[str] = []
    for lo, hi in v4:
        first, last = ipaddress.IPv4Address(lo & 0xFFFFFFFF), ipaddress.IPv4Address(hi & 0xFFFFFFFF)
        out += map(str, ipaddress.summarize_address_range(first, last))
    for lo, hi in addresses - _V4_SPACE:
        out += map(str, ipaddress.summarize_address_range(ipaddress.IPv6Address(lo), ipaddress.IPv6Address(hi)))
    return out


def _cidrs(*texts: str) -> IntervalSet:
    return union(parse_cidr(text) for text in texts)


EVERYWHERE = IntervalSet(((0, LAST),))
"""Every address there is: what `anyone` means."""

PRIVATE = _cidrs(
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10"
)
"""RFC 1918, RFC 6598, RFC 3927, RFC 4193 and RFC 4291 link-local: what `private` means."""

GLOBAL_UNICAST = _cidrs("0.0.0.0/0", "2000::/3", "64:ff9b::/96") - _cidrs(
    "0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4"
)
"""Unicast less loopback, "this network", multicast, reserved and broadcast (IANA special-purpose registries).

Documentation and benchmarking ranges count as unicast: laboratories route them, and nothing else uses them."""

INTERNET_RANGE = GLOBAL_UNICAST - PRIVATE
"""What `internet` means, before every workload's address is taken out."""

HOLDABLE = GLOBAL_UNICAST | PRIVATE
"""What a host can have as its own: unicast, neither loopback nor unspecified (RFC 4291 section 2.5.2)."""

LOOPBACK = _cidrs("127.0.0.0/8", "::1/128")
_V4_LOOPBACK = parse_cidr("127.0.0.0/8").ranges[0]


def is_loopback(address: int) -> bool:
    """Whether the address is in `LOOPBACK`, without a search: every decision asks."""
    return _V4_LOOPBACK[0] <= address <= _V4_LOOPBACK[1] or address == 1
