"""Statements of a rule: each is at once kernel expressions and the same thing in nft's own words.

A rule is written by joining statements, so its text can be loaded by `nft -f` and its expressions sent over
netlink, and both are the same program (proven in tests/kernel).

INVARIANT: identities and verdict codes travel from rule to rule in `meta priority` only. It is free while a packet is
judged, no policy routing reads it, and `remember` puts it back to none before the packet goes on.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Literal, NamedTuple

from ringfence.core.net.service import ICMP, ICMPV6, PORTED, PROTOCOLS, TCP, UDP
from ringfence.targets.nftables.expressions import (
    ACCEPT,
    CT_DIRECTION,
    CT_MARK,
    CT_STATE,
    CT_STATUS,
    DROP,
    EQ,
    GOTO,
    GTE,
    ICMPX_ADMIN_PROHIBITED,
    JUMP,
    LTE,
    META_IIF,
    META_L4PROTO,
    META_NFPROTO,
    META_OIF,
    META_PRIORITY,
    NEQ,
    NETWORK,
    REJECT_ICMPX,
    REJECT_TCP_RESET,
    RETURN,
    TRANSPORT,
    VERDICT_REGISTER,
    Bitwise,
    Cmp,
    CounterRef,
    Ct,
    Expression,
    Immediate,
    Limit,
    Log,
    Lookup,
    Meta,
    Payload,
    Reject,
    SocketGroup,
    Verdict,
)
from ringfence.targets.nftables.layout import Rule
from ringfence.targets.nftables.prefixes import mask_of

Family = Literal["ip", "ip6"]
AddressField = Literal["saddr", "daddr"]
PortField = Literal["sport", "dport"]
FAMILIES: tuple[Family, ...] = ("ip", "ip6")
_NFPROTO = {"ip": 2, "ip6": 10}
_ADDRESS = {("ip", "saddr"): (12, 4), ("ip", "daddr"): (16, 4), ("ip6", "saddr"): (8, 16), ("ip6", "daddr"): (24, 16)}
_PORT = {"sport": 0, "dport": 2}
_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8}
_TRANSLATED = {"snat": 0x10, "dnat": 0x20}
"""IPS_SRC_NAT and IPS_DST_NAT (linux/netfilter/nf_conntrack_common.h)."""
_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()} | {ICMP: "icmp", ICMPV6: "ipv6-icmp"}
_LOOPBACK_INDEX = 1
LOG_GROUP = 21062
"""The NFLOG group agents listen on ("RF")."""
LOG_RATE, LOG_BURST, LOG_SNAPLEN, LOG_THRESHOLD = 50, 200, 128, 20


class Statement(NamedTuple):
    text: str
    expressions: tuple[Expression, ...]


def rule(*statements: Statement, comment: str = "") -> Rule:
    """One rule; a comment goes into the kernel with it."""
    text = " ".join(statement.text for statement in statements)
    return Rule(
        tuple(x for statement in statements for x in statement.expressions),
        comment,
        f'{text} comment "{comment}"' if comment else text,
    )


def _host32(value: int) -> bytes:
    return struct.pack("=I", value)


def class_text(value: int) -> str:
    return f"{value >> 16:x}:{value & 0xFFFF:x}"


# -- matches ---------------------------------------------------------------------------------------------------------


def state(*names: str) -> Statement:
    """The packet's connection is in one of these states."""
    mask = _host32(sum(_STATES[name] for name in names))
    return Statement(f"ct state {','.join(names)}", (Ct(CT_STATE, 1), Bitwise(mask, bytes(4)), Cmp(NEQ, bytes(4))))


def is_reply() -> Statement:
    return Statement("ct direction reply", (Ct(CT_DIRECTION, 1), Cmp(EQ, b"\1")))


def is_original() -> Statement:
    return Statement("ct direction original", (Ct(CT_DIRECTION, 1), Cmp(EQ, b"\0")))


def translated(kind: Literal["snat", "dnat"]) -> Statement:
    """This host writes other source, or other destination addresses into the connection's packets."""
    mask = _host32(_TRANSLATED[kind])
    return Statement(f"ct status {kind}", (Ct(CT_STATUS, 1), Bitwise(mask, bytes(4)), Cmp(NEQ, bytes(4))))


def mark_is(mask: int, value: int) -> Statement:
    expressions = (Ct(CT_MARK, 1), Bitwise(_host32(mask), bytes(4)), Cmp(EQ, _host32(value)))
    return Statement(f"ct mark & 0x{mask:08x} == 0x{value:08x}", expressions)


def mark_in(mask: int, set_name: str) -> Statement:
    load = (Ct(CT_MARK, 1), Bitwise(_host32(mask), bytes(4)), Lookup(set_name))
    return Statement(f"ct mark & 0x{mask:08x} @{set_name}", load)


def family_in(set_name: str) -> Statement:
    """The packet's family is in the set: while an element stands there, for as long as it does."""
    return Statement(f"meta nfproto @{set_name}", (Meta(META_NFPROTO, 1), Lookup(set_name)))


def loopback(hook: str) -> Statement:
    word, key = ("iif", META_IIF) if hook == "input" else ("oif", META_OIF)
    return Statement(f"{word} lo", (Meta(key, 1), Cmp(EQ, _host32(_LOOPBACK_INDEX))))


def leaves_host() -> Statement:
    """The packet is at an output hook."""
    return Statement("meta oif != 0", (Meta(META_OIF, 1), Cmp(NEQ, bytes(4))))


def protocol_name(protocol: int) -> str:
    return _PROTOCOL_NAMES.get(protocol, str(protocol))


def protocol_is(protocol: int) -> Statement:
    text = f"meta l4proto {protocol_name(protocol)}"
    return Statement(text, (Meta(META_L4PROTO, 1), Cmp(EQ, bytes((protocol,)))))


def protocol_is_not(protocol: int) -> Statement:
    text = f"meta l4proto != {protocol_name(protocol)}"
    return Statement(text, (Meta(META_L4PROTO, 1), Cmp(NEQ, bytes((protocol,)))))


def protocol_between(lo: int, hi: int) -> Statement:
    text = f"meta l4proto {lo}-{hi}"
    return Statement(text, (Meta(META_L4PROTO, 1), *_between(bytes((lo,)), bytes((hi,)))))


def _between(lo: bytes, hi: bytes) -> tuple[Cmp, Cmp]:
    return Cmp(GTE, lo), Cmp(LTE, hi)


def port_between(field: PortField, lo: int, hi: int) -> Statement:
    """The transport port, of whichever protocol that has ports was matched before."""
    load = Payload(TRANSPORT, _PORT[field], 2)
    first, last = struct.pack("!H", lo), struct.pack("!H", hi)
    if lo == hi:
        return Statement(f"th {field} {lo}", (load, Cmp(EQ, first)))
    return Statement(f"th {field} {lo}-{hi}", (load, *_between(first, last)))


def _family(family: Family) -> tuple[Expression, ...]:
    return Meta(META_NFPROTO, 1), Cmp(EQ, bytes((_NFPROTO[family],)))


def _address(family: Family, field: AddressField) -> tuple[Expression, ...]:
    offset, length = _ADDRESS[family, field]
    return *_family(family), Payload(NETWORK, offset, length)


def address_in(family: Family, field: AddressField, set_name: str) -> Statement:
    return Statement(f"{family} {field} @{set_name}", (*_address(family, field), Lookup(set_name)))


def address_to_chain(family: Family, field: AddressField, map_name: str) -> Statement:
    """Go to the chain the map holds for the address."""
    expressions = (*_address(family, field), Lookup(map_name, to=VERDICT_REGISTER))
    return Statement(f"{family} {field} vmap @{map_name}", expressions)


def _icmp(protocol: int) -> tuple[Expression, ...]:
    family: Family = "ip" if protocol == ICMP else "ip6"
    return *_family(family), *protocol_is(protocol).expressions, Payload(TRANSPORT, 0, 1)


def _icmp_word(protocol: int) -> str:
    return "icmp" if protocol == ICMP else "icmpv6"


def icmp_in(protocol: int, set_name: str) -> Statement:
    return Statement(f"{_icmp_word(protocol)} type @{set_name}", (*_icmp(protocol), Lookup(set_name)))


def icmp_to_chain(protocol: int, map_name: str) -> Statement:
    expressions = (*_icmp(protocol), Lookup(map_name, to=VERDICT_REGISTER))
    return Statement(f"{_icmp_word(protocol)} type vmap @{map_name}", expressions)


def icmp_is(protocol: int, lo: int, hi: int) -> Statement:
    word = _icmp_word(protocol)
    if lo == hi:
        return Statement(f"{word} type {lo}", (*_icmp(protocol), Cmp(EQ, bytes((lo,)))))
    return Statement(f"{word} type {lo}-{hi}", (*_icmp(protocol), *_between(bytes((lo,)), bytes((hi,)))))


def icmp_is_not(protocol: int, kind: int) -> Statement:
    return Statement(f"{_icmp_word(protocol)} type != {kind}", (*_icmp(protocol), Cmp(NEQ, bytes((kind,)))))


def hop_limit_is(value: int) -> Statement:
    """Of an IPv6 packet, after a match of ICMPv6."""
    return Statement(f"ip6 hoplimit {value}", (Payload(NETWORK, 7, 1), Cmp(EQ, bytes((value,)))))


def is_link_local_source() -> Statement:
    """From fe80::/10 (RFC 4291 section 2.4), after a match of ICMPv6."""
    mask, prefix = ipaddress.IPv6Address("ffc0::"), ipaddress.IPv6Address("fe80::")
    load = (Payload(NETWORK, 8, 16), Bitwise(mask.packed, bytes(16)), Cmp(EQ, prefix.packed))
    return Statement(f"ip6 saddr & {mask} == {prefix}", load)


def is_no_source() -> Statement:
    """From the unspecified address, after a match of ICMPv6."""
    return Statement("ip6 saddr ::", (Payload(NETWORK, 8, 16), Cmp(EQ, bytes(16))))


def udp_ports_in(set_name: str) -> Statement:
    """The (source, destination) port pair of a UDP packet is in the set."""
    load = (Payload(TRANSPORT, 0, 2, 1), Payload(TRANSPORT, 2, 2, 9))
    return Statement(f"udp sport . udp dport @{set_name}", (*protocol_is(UDP).expressions, *load, Lookup(set_name)))


def tcp_flags(mask: int, value: int, *, is_equal: bool) -> Statement:
    """`(flags & mask)` is, or is not, `value`."""
    load = (*protocol_is(TCP).expressions, Payload(TRANSPORT, 13, 1), Bitwise(bytes((mask,)), b"\0"))
    sign = "==" if is_equal else "!="
    compare = Cmp(EQ if is_equal else NEQ, bytes((value,)))
    return Statement(f"tcp flags & 0x{mask:02x} {sign} 0x{value:02x}", (*load, compare))


def socket_in(path: str, level: int, group_id: int) -> Statement:
    """The local socket belongs to this cgroup v2 or one below it."""
    expressions = (SocketGroup(level), Cmp(EQ, struct.pack("=Q", group_id)))
    return Statement(f'socket cgroupv2 level {level} "{path}"', expressions)


# -- the register: a class, then a code ------------------------------------------------------------------------------


def register_is(value: int) -> Statement:
    return Statement(f"meta priority {class_text(value)}", (Meta(META_PRIORITY, 1), Cmp(EQ, _host32(value))))


def set_register(value: int) -> Statement:
    text = f"meta priority set {class_text(value)}"
    return Statement(text, (Immediate(_host32(value)), Meta(META_PRIORITY, source=1)))


def register_from_address(family: Family, field: AddressField, map_name: str) -> Statement:
    expressions = (*_address(family, field), Lookup(map_name, to=1), Meta(META_PRIORITY, source=1))
    return Statement(f"meta priority set {family} {field} map @{map_name}", expressions)


def register_from_prefix(family: Family, field: AddressField, length: int, map_name: str) -> Statement:
    """The address less its host part -> class."""
    width = 8 * _ADDRESS[family, field][1]
    mask = mask_of(length, width)
    words = str(ipaddress.IPv4Address(mask) if family == "ip" else ipaddress.IPv6Address(mask))
    load = (*_address(family, field), Bitwise(mask, bytes(len(mask))))
    text = f"meta priority set {family} {field} & {words} map @{map_name}"
    return Statement(text, (*load, Lookup(map_name, to=1), Meta(META_PRIORITY, source=1)))


def register_from_service(field: PortField, map_name: str) -> Statement:
    """(class, protocol, port) -> code."""
    load = (Meta(META_PRIORITY, 1), Meta(META_L4PROTO, 9), Payload(TRANSPORT, _PORT[field], 2, 10))
    text = f"meta priority set meta priority . meta l4proto . th {field} map @{map_name}"
    return Statement(text, (*load, Lookup(map_name, to=1), Meta(META_PRIORITY, source=1)))


def register_from_class(map_name: str) -> Statement:
    """class -> code."""
    load = (Meta(META_PRIORITY, 1), Lookup(map_name, to=1), Meta(META_PRIORITY, source=1))
    return Statement(f"meta priority set meta priority map @{map_name}", load)


def protocol_to_chain(map_name: str) -> Statement:
    expressions = (Meta(META_L4PROTO, 1), Lookup(map_name, to=VERDICT_REGISTER))
    return Statement(f"meta l4proto vmap @{map_name}", expressions)


def port_to_chain(protocol: int, field: PortField, map_name: str) -> Statement:
    if protocol not in PORTED:
        raise ValueError(f"protocol {protocol} has no ports")
    load = (*protocol_is(protocol).expressions, Payload(TRANSPORT, _PORT[field], 2))
    text = f"meta l4proto {protocol_name(protocol)} th {field} vmap @{map_name}"
    return Statement(text, (*load, Lookup(map_name, to=VERDICT_REGISTER)))


# -- verdicts and effects --------------------------------------------------------------------------------------------


def accept() -> Statement:
    return Statement("accept", (Verdict(ACCEPT),))


def drop() -> Statement:
    return Statement("drop", (Verdict(DROP),))


def back() -> Statement:
    return Statement("return", (Verdict(RETURN),))


def goto(chain: str) -> Statement:
    return Statement(f"goto {chain}", (Verdict(GOTO, chain),))


def jump(chain: str) -> Statement:
    return Statement(f"jump {chain}", (Verdict(JUMP, chain),))


def count(name: str) -> Statement:
    return Statement(f'counter name "{name}"', (CounterRef(name),))


def set_mark(keep: int, value: int) -> Statement:
    """Keep the bits of `keep`, set those of `value`."""
    load = (Ct(CT_MARK, 1), Bitwise(_host32(keep), _host32(value)), Ct(CT_MARK, source=1))
    return Statement(f"ct mark set ct mark & 0x{keep:08x} ^ 0x{value:08x}", load)


def log(prefix: str) -> Statement:
    text = (
        f"limit rate {LOG_RATE}/second burst {LOG_BURST} packets "
        f'log prefix "{prefix}" group {LOG_GROUP} snaplen {LOG_SNAPLEN} queue-threshold {LOG_THRESHOLD}'
    )
    return Statement(text, (Limit(LOG_RATE, LOG_BURST), Log(LOG_GROUP, prefix, LOG_SNAPLEN, LOG_THRESHOLD)))


def reject_tcp() -> Statement:
    text = "meta l4proto tcp reject with tcp reset"
    return Statement(text, (*protocol_is(TCP).expressions, Reject(REJECT_TCP_RESET, 0)))


def reject() -> Statement:
    return Statement("reject with icmpx admin-prohibited", (Reject(REJECT_ICMPX, ICMPX_ADMIN_PROHIBITED),))
