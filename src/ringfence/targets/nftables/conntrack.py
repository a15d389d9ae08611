"""What we write into conntrack: old judgements forgotten, and connections older than our rules made known.

A generation number can be used again when no connection bears it (see `marks`). A connection that began before
conntrack looked is entered with the side that began it, so that it is judged on its original direction like any other.

INVARIANT: only our own bits of a mark are changed, and only on connections that bear a number about to be reused, or
none when the first rules are about to come.
INVARIANT: a connection made known bears no judgement, and one that conntrack knows is left as it is, unless our rules
picked it up in mid-stream: then its side that began it is a guess, and the host's sockets know. It keeps its judgement.
Deletes a connection only to enter it again at once: deleting one revives it in mid-stream (`nf_conntrack_tcp_loose`),
cutting is what rules do.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection, Iterable

from ringfence.core.errors import TargetError
from ringfence.core.net.address import V4_BASE, is_v4
from ringfence.core.net.service import TCP
from ringfence.targets.nftables.marks import GENERATIONS, MASK, PICKED_UP, generation_of, mark_of
from ringfence.targets.nftables.netlink import ACK, CREATE, DUMP, EXCLUSIVE, SUBSYS_CTNETLINK, Netlink, Refused
from ringfence.targets.nftables.sockets import Connected
from ringfence.targets.nftables.wire import NESTED, as_int, attribute, attribute_map, be16, be32, nested

_CT_NEW, _CT_GET, _CT_DELETE = 0, 1, 2
_TUPLE_ORIG, _MARK, _ZONE, _MARK_MASK = 1, 8, 18, 21
_TUPLE_REPLY, _STATUS, _PROTOINFO, _TIMEOUT = 2, 3, 4, 7
_SEEN_REPLY_ASSURED_CONFIRMED = 0x2 | 0x4 | 0x8
_ESTABLISHED = 3
_BE_LIBERAL = 0x08
"""`IP_CT_TCP_FLAG_BE_LIBERAL`: the windows were agreed on before anybody looked."""
_LASTING_S, _ENDING_S = 432_000, 120
"""The kernel's own for established and for closing TCP (nf_conntrack_proto_tcp.c); the next packet sets it anew."""
_AF_INET, _AF_INET6 = 2, 10
_MOST_QUESTIONS = 2000


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
    return _set_generation(netlink, family, parts, 0)


def _set_generation(netlink: Netlink, family: int, parts: dict[int, bytes], generation: int) -> int:
    mark = be32(_MARK, mark_of(generation)) + be32(_MARK_MASK, MASK ^ PICKED_UP)
    body = attribute(_TUPLE_ORIG | NESTED, parts[_TUPLE_ORIG]) + mark
    if _ZONE in parts:
        body += attribute(_ZONE, parts[_ZONE])
    try:
        netlink.request(SUBSYS_CTNETLINK << 8 | _CT_NEW, ACK, body, family=family)
    except Refused as refusal:
        if refusal.errno != errno.ENOENT:
            raise
        return 0
    return 1


def seed(netlink: Netlink, generation: int) -> int:
    """Give every connection that was never judged this generation; returns how many there were.

    Raises TargetError `conntrack-unreadable`: what is to go on could not be told from what is new.
    """
    try:
        return sum(_seed_family(netlink, family, generation) for family in (_AF_INET, _AF_INET6))
    except Refused as refusal:
        raise TargetError(
            "conntrack-unreadable",
            f"connections that are older than the rules could not be marked: {refusal.strerror}",
            help="load the kernel module nf_conntrack_netlink",
        ) from refusal


def _seed_family(netlink: Netlink, family: int, generation: int) -> int:
    found = map(attribute_map, netlink.request(SUBSYS_CTNETLINK << 8 | _CT_GET, DUMP, b"", family=family))
    unjudged = (parts for parts in found if not generation_of(as_int(parts.get(_MARK, b""))))
    return sum(_set_generation(netlink, family, parts, generation) for parts in unjudged)


Tuple = tuple[tuple[int, int], tuple[int, int]]
"""(source, destination), each an address and a port."""


def tcp_marks(netlink: Netlink, connections: Collection[Tuple] | None = None) -> dict[Tuple, int]:
    """The marks of TCP connections asked for either way round, by their original direction; of many, or None, all.

    The kernel's table is one for all namespaces and a dump walks the whole of it, a question costs a lookup. Raises
    TargetError `conntrack-unreadable`.
    """
    try:
        if connections is None or len(connections) > _MOST_QUESTIONS:
            bodies = [body for family in (_AF_INET, _AF_INET6) for body in _ask(netlink, family, DUMP, b"")]
        else:
            bodies = [body for ends in connections for body in _one(netlink, *ends)]
        found = [(_read_tuple(parts), as_int(parts.get(_MARK, b""))) for parts in map(attribute_map, bodies)]
    except Refused as refusal:
        raise TargetError(
            "conntrack-unreadable",
            f"connections could not be listed: {refusal.strerror}",
            help="load the kernel module nf_conntrack_netlink",
        ) from refusal
    return {ends: mark for ends, mark in found if ends is not None}


def _one(netlink: Netlink, source: tuple[int, int], destination: tuple[int, int]) -> list[bytes]:
    family = _AF_INET if is_v4(source[0]) else _AF_INET6
    try:
        return _ask(netlink, family, 0, nested(_TUPLE_ORIG, *_tuple(source, destination)))
    except Refused as refusal:
        if refusal.errno != errno.ENOENT:
            raise
        return []


def _ask(netlink: Netlink, family: int, flags: int, body: bytes) -> list[bytes]:
    return netlink.request(SUBSYS_CTNETLINK << 8 | _CT_GET, flags, body, family=family)


def _read_tuple(parts: dict[int, bytes]) -> Tuple | None:
    """None for what is not TCP."""
    ip, proto = (attribute_map(content) for _, content in sorted(attribute_map(parts[_TUPLE_ORIG]).items())[:2])
    if proto.get(1) != bytes((TCP,)):
        return None
    source, destination = (_read_address(ip, n) for n in (1, 2))
    return (source, as_int(proto[2])), (destination, as_int(proto[3]))


def _read_address(ip: dict[int, bytes], which: int) -> int:
    return V4_BASE + as_int(ip[which]) if which in ip else as_int(ip[which + 2])


def adopt(netlink: Netlink, connections: Iterable[Connected], *, mark: int = 0) -> int:
    """Enter the TCP connections that conntrack does not know; returns how many there were.

    Raises TargetError `conntrack-unreadable`: rules in force would take these connections for strays.
    """
    try:
        return sum(_enter(netlink, connected, mark) for connected in connections)
    except Refused as refusal:
        raise TargetError(
            "conntrack-unreadable",
            f"connections that are older than the rules could not be entered: {refusal.strerror}",
            help="load the kernel module nf_conntrack_netlink, or raise net.netfilter.nf_conntrack_max",
        ) from refusal


def readopt(netlink: Netlink, connections: Collection[Connected]) -> int:
    """Enter anew those that our rules picked up in mid-stream; returns how many there were.

    What began while the first rules came was not there to be adopted, and what conntrack forgot is not known any more:
    either is picked up by whoever speaks next, the server as likely as the client. Raises TargetError
    `conntrack-unreadable`.
    """
    marks = tcp_marks(netlink, [(one.client, one.server) for one in connections])
    count = 0
    for one in connections:
        for way in ((one.client, one.server), (one.server, one.client)):
            if marks.get(way, 0) & PICKED_UP:
                _delete(netlink, way)
                adopt(netlink, (one,), mark=marks[way] & GENERATIONS)
                count += 1
    return count


def _delete(netlink: Netlink, way: Tuple) -> None:
    family = _AF_INET if is_v4(way[0][0]) else _AF_INET6
    try:
        netlink.request(SUBSYS_CTNETLINK << 8 | _CT_DELETE, ACK, nested(_TUPLE_ORIG, *_tuple(*way)), family=family)
    except Refused as refusal:
        if refusal.errno != errno.ENOENT:
            raise TargetError(
                "conntrack-unreadable",
                f"connections that are as old as the rules could not be entered anew: {refusal.strerror}",
                help="load the kernel module nf_conntrack_netlink",
            ) from refusal


def _enter(netlink: Netlink, connected: Connected, mark: int) -> int:
    client, server = connected.client, connected.server
    flags = bytes((_BE_LIBERAL, _BE_LIBERAL))
    progress = nested(1, attribute(1, bytes((_ESTABLISHED,))), attribute(4, flags), attribute(5, flags))
    body = nested(_TUPLE_ORIG, *_tuple(client, server)) + nested(_TUPLE_REPLY, *_tuple(server, client))
    body += be32(_STATUS, _SEEN_REPLY_ASSURED_CONFIRMED) + nested(_PROTOINFO, progress)
    body += be32(_TIMEOUT, _ENDING_S if connected.is_ending else _LASTING_S)
    body += be32(_MARK, mark) if mark else b""
    family = _AF_INET if is_v4(client[0]) else _AF_INET6
    try:
        netlink.request(SUBSYS_CTNETLINK << 8 | _CT_NEW, ACK | CREATE | EXCLUSIVE, body, family=family)
    except Refused as refusal:
        if refusal.errno != errno.EEXIST:
            raise
        return 0
    return 1


def _tuple(source: tuple[int, int], destination: tuple[int, int]) -> tuple[bytes, bytes]:
    """Addresses and ports of one direction (nfnetlink_conntrack.h)."""
    if is_v4(source[0]):
        ends = [attribute(n, struct.pack("!I", a - V4_BASE)) for n, (a, _) in ((1, source), (2, destination))]
    else:
        ends = [attribute(n, a.to_bytes(16, "big")) for n, (a, _) in ((3, source), (4, destination))]
    ports = attribute(1, bytes((TCP,))) + be16(2, source[1]) + be16(3, destination[1])
    return nested(1, *ends), nested(2, ports)
