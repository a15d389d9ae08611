"""Forgetting old judgements in conntrack marks, so that a generation number can be used again (see `marks`).

INVARIANT: only our own bits of a mark are changed, and only on connections that bear a number about to be reused.
Never deletes a connection: deleting one revives it in mid-stream (`nf_conntrack_tcp_loose`), cutting is what rules do.
"""

from __future__ import annotations

import errno

from ringfence.core.errors import TargetError
from ringfence.targets.nftables.marks import MASK, PICKED_UP, generation_of
from ringfence.targets.nftables.netlink import ACK, DUMP, SUBSYS_CTNETLINK, Netlink, Refused
from ringfence.targets.nftables.wire import NESTED, as_int, attribute, attribute_map, be32

_CT_NEW, _CT_GET = 0, 1
_TUPLE_ORIG, _MARK, _ZONE, _MARK_MASK = 1, 8, 18, 21
_AF_INET, _AF_INET6 = 2, 10


def forget(netlink: Netlink, generations: range) -> int:
    """Clear our generation from every connection that bears one of these; returns how many there were.

    Raises TargetError `conntrack-unreadable`: without this the number must not be used again.
    """
    try:
        return sum(_forget_family(netlink, family, generations) for family in (_AF_INET, _AF_INET6))
    except Refused as refusal:
        raise TargetError(
            "conntrack-unreadable",
            f"connections could not be prepared for a new policy generation: {refusal.strerror}",
            help="load the kernel module nf_conntrack_netlink",
        ) from refusal


def _forget_family(netlink: Netlink, family: int, generations: range) -> int:
    count = 0
    for body in netlink.request(SUBSYS_CTNETLINK << 8 | _CT_GET, DUMP, b"", family=family):
        parts = attribute_map(body)
        if _MARK in parts and generation_of(as_int(parts[_MARK])) in generations:
            count += _clear(netlink, family, parts)
    return count


def _clear(netlink: Netlink, family: int, parts: dict[int, bytes]) -> int:
    """One connection back to "never judged"; that it was picked up in mid-stream stays known."""
    body = attribute(_TUPLE_ORIG | NESTED, parts[_TUPLE_ORIG]) + be32(_MARK, 0) + be32(_MARK_MASK, MASK ^ PICKED_UP)
    if _ZONE in parts:
        body += attribute(_ZONE, parts[_ZONE])
    try:
        netlink.request(SUBSYS_CTNETLINK << 8 | _CT_NEW, ACK, body, family=family)
    except Refused as refusal:
        if refusal.errno != errno.ENOENT:
            raise
        return 0
    return 1
