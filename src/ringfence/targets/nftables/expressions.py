"""The nftables expressions this target uses, as values that encode to and decode from the kernel's own program.

A rule in the kernel is a list of expressions over registers (nf_tables.h, `nft_expr`). Reading them back is what makes
"realised" a fact: what the kernel runs is compared, never what a tool printed.

INVARIANT: `decode(encode(x)) == x`; anything this module does not know decodes to `Foreign`, which equals nothing
we write. Register numbers are the kernel's canonical ones: 1..4 for the 16-byte registers, 9 and up for the later
words of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import msgspec

from ringfence.targets.nftables.wire import (
    as_int,
    as_text,
    attribute,
    attribute_map,
    attributes,
    be16,
    be32,
    be64,
    nested,
    string,
)

VERDICT_REGISTER = 0
ACCEPT, DROP, JUMP, GOTO, RETURN = 1, 0, -3, -4, -5
META_LENGTH, META_PRIORITY, META_IIF, META_OIF, META_NFPROTO, META_L4PROTO = 0, 2, 4, 5, 15, 16
CT_STATE, CT_DIRECTION, CT_STATUS, CT_MARK = 0, 1, 2, 3
NETWORK, TRANSPORT = 1, 2
EQ, NEQ, LT, LTE, GT, GTE = range(6)
SOCKET_CGROUPV2 = 3
REJECT_TCP_RESET, REJECT_ICMPX = 1, 2
ICMPX_ADMIN_PROHIBITED = 3
OBJECT_COUNTER = 1
_KNOWN = 4096
"""A table has a few hundred different expressions, written and read again and again."""


class Meta(msgspec.Struct, frozen=True):
    """Load packet metadata into `to`, or store register `source` into it."""

    key: int
    to: int | None = None
    source: int | None = None


class Payload(msgspec.Struct, frozen=True):
    """Load `length` bytes at `offset` of a header."""

    base: int
    offset: int
    length: int
    to: int = 1


class Ct(msgspec.Struct, frozen=True):
    """Load conntrack data into `to`, or store register `source` into it."""

    key: int
    to: int | None = None
    source: int | None = None


class Cmp(msgspec.Struct, frozen=True):
    """Go on only if the register compares so with `value`."""

    op: int
    value: bytes
    register: int = 1


class Bitwise(msgspec.Struct, frozen=True):
    """`to = (source & mask) ^ xor`."""

    mask: bytes
    xor: bytes
    source: int = 1
    to: int = 1


class Lookup(msgspec.Struct, frozen=True):
    """Go on only if the register is in the set; with `to`, load the element's value (0: take its verdict)."""

    set_name: str
    source: int = 1
    to: int | None = None
    inverted: bool = False


class Immediate(msgspec.Struct, frozen=True):
    value: bytes
    to: int = 1


class Verdict(msgspec.Struct, frozen=True):
    """Accept, drop, return, or go to a chain."""

    code: int
    chain: str | None = None


class CounterRef(msgspec.Struct, frozen=True):
    """Count the packet on a named counter."""

    name: str


class Counter(msgspec.Struct, frozen=True):
    """An anonymous counter: of an element."""


class Limit(msgspec.Struct, frozen=True):
    """Go on at most `rate` times a second, `burst` at once."""

    rate: int
    burst: int


class Log(msgspec.Struct, frozen=True):
    """Send a copy of the packet's head to the NFLOG group."""

    group: int
    prefix: str
    snaplen: int
    threshold: int


class Reject(msgspec.Struct, frozen=True):
    kind: int
    code: int


class SocketGroup(msgspec.Struct, frozen=True):
    """Load the cgroup v2 id of the local socket's ancestor at this level."""

    level: int
    to: int = 1


class Foreign(msgspec.Struct, frozen=True):
    """An expression that is not ours."""

    name: str
    content: bytes


Expression = (
    Meta
    | Payload
    | Ct
    | Cmp
    | Bitwise
    | Lookup
    | Immediate
    | Verdict
    | CounterRef
    | Counter
    | Limit
    | Log
    | Reject
    | SocketGroup
    | Foreign
)


@lru_cache(_KNOWN)
def encode(expression: Expression) -> bytes:
    """The `NFTA_LIST_ELEM` attribute of one expression."""
    return nested(1, *named(expression))


def named(expression: Expression) -> tuple[bytes, bytes]:
    """`NFTA_EXPR_NAME` and `NFTA_EXPR_DATA`."""
    name, content = _encoded(expression)
    return string(1, name), nested(2, content)


def encode_verdict(verdict: Verdict) -> bytes:
    """The `NFTA_DATA_VERDICT` attribute: what an element of a verdict map holds."""
    chain = string(2, verdict.chain) if verdict.chain else b""
    return nested(2, be32(1, verdict.code), chain)


def _encoded(x: Expression) -> tuple[str, bytes]:
    match x:
        case Meta(key, to, source):
            return "meta", _register(1, to) + be32(2, key) + _register(3, source)
        case Payload(base, offset, length, to):
            return "payload", be32(1, to) + be32(2, base) + be32(3, offset) + be32(4, length)
        case Ct(key, to, source):
            return "ct", _register(1, to) + be32(2, key) + _register(4, source)
        case Cmp(op, value, register):
            return "cmp", be32(1, register) + be32(2, op) + _value(3, value)
        case Bitwise(mask, xor, source, to):
            head = be32(1, source) + be32(2, to) + be32(3, len(mask)) + be32(6, 0)
            return "bitwise", head + _value(4, mask) + _value(5, xor)
        case Lookup(set_name, source, to, inverted):
            return "lookup", string(1, set_name) + be32(2, source) + _register(3, to) + be32(5, int(inverted))
        case Immediate(value, to):
            return "immediate", be32(1, to) + _value(2, value)
        case Verdict():
            return "immediate", be32(1, VERDICT_REGISTER) + nested(2, encode_verdict(x))
        case CounterRef(name):
            return "objref", be32(1, OBJECT_COUNTER) + string(2, name)
        case Counter():
            return "counter", be64(1, 0) + be64(2, 0)
        case Limit(rate, burst):
            return "limit", be64(1, rate) + be64(2, 1) + be32(3, burst) + be32(4, 0) + be32(5, 0)
        case Log(group, prefix, snaplen, threshold):
            return "log", be16(1, group) + string(2, prefix) + be32(3, snaplen) + be16(4, threshold)
        case Reject(kind, code):
            return "reject", be32(1, kind) + attribute(2, bytes((code,)))
        case SocketGroup(level, to):
            return "socket", be32(1, SOCKET_CGROUPV2) + be32(2, to) + be32(3, level)
        case Foreign(name, content):
            return name, content


def _register(kind: int, register: int | None) -> bytes:
    return b"" if register is None else be32(kind, register)


def _value(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(1, value))


def decode_all(content: bytes) -> tuple[Expression, ...]:
    """The expressions of a dumped rule (`NFTA_RULE_EXPRESSIONS`)."""
    return tuple(decode(element) for _, element in attributes(content))


@lru_cache(_KNOWN)
def decode(element: bytes) -> Expression:
    """One dumped expression. Whatever is not exactly something this target writes is Foreign."""
    parts = attribute_map(element)
    name, content = as_text(parts[1]), parts.get(2, b"")
    reader = _READERS.get(name)
    try:
        known = reader(attribute_map(content)) if reader else None
    except (KeyError, ValueError, IndexError):
        known = None
    return known if known is not None else Foreign(name, content)


def decode_verdict(content: bytes) -> Verdict:
    """The inside of a dumped `NFTA_DATA_VERDICT`."""
    parts = attribute_map(content)
    code = int.from_bytes(parts[1], "big", signed=True)
    return Verdict(code, as_text(parts[2]) if 2 in parts else None)


Parts = dict[int, bytes]


def _int(parts: Parts, kind: int) -> int | None:
    return as_int(parts[kind]) if kind in parts else None


def _data(payload: bytes) -> bytes:
    return attribute_map(payload)[1]


def _only(parts: Parts, kinds: Iterable[int]) -> bool:
    return set(parts) <= set(kinds)


def _read_meta(p: Parts) -> Expression:
    return Meta(as_int(p[2]), _int(p, 1), _int(p, 3))


def _read_payload(p: Parts) -> Expression | None:
    return Payload(as_int(p[2]), as_int(p[3]), as_int(p[4]), as_int(p[1])) if _only(p, (1, 2, 3, 4)) else None


def _read_ct(p: Parts) -> Expression | None:
    return Ct(as_int(p[2]), _int(p, 1), _int(p, 4)) if _only(p, (1, 2, 4)) else None


def _read_cmp(p: Parts) -> Expression:
    return Cmp(as_int(p[2]), _data(p[3]), as_int(p[1]))


def _read_bitwise(p: Parts) -> Expression | None:
    is_boolean = _int(p, 6) in (None, 0) and 7 not in p
    return Bitwise(_data(p[4]), _data(p[5]), as_int(p[1]), as_int(p[2])) if is_boolean else None


def _read_lookup(p: Parts) -> Expression:
    return Lookup(as_text(p[1]), as_int(p[2]), _int(p, 3), bool(_int(p, 5) or 0))


def _read_immediate(p: Parts) -> Expression:
    data = attribute_map(p[2])
    return decode_verdict(data[2]) if 2 in data else Immediate(data[1], as_int(p[1]))


def _read_objref(p: Parts) -> Expression | None:
    return CounterRef(as_text(p[2])) if _int(p, 1) == OBJECT_COUNTER else None


def _read_counter(_: Parts) -> Expression:
    return Counter()


def _read_limit(p: Parts) -> Expression | None:
    is_ours = (as_int(p[2]), _int(p, 4) or 0, _int(p, 5) or 0) == (1, 0, 0)
    return Limit(as_int(p[1]), as_int(p[3])) if is_ours else None


def _read_log(p: Parts) -> Expression | None:
    return Log(as_int(p[1]), as_text(p[2]), as_int(p[3]), as_int(p[4])) if _only(p, (1, 2, 3, 4)) else None


def _read_reject(p: Parts) -> Expression:
    return Reject(as_int(p[1]), _int(p, 2) or 0)


def _read_socket(p: Parts) -> Expression | None:
    return SocketGroup(as_int(p[3]), as_int(p[2])) if as_int(p[1]) == SOCKET_CGROUPV2 else None


_READERS: dict[str, Callable[[Parts], Expression | None]] = {
    "meta": _read_meta,
    "payload": _read_payload,
    "ct": _read_ct,
    "cmp": _read_cmp,
    "bitwise": _read_bitwise,
    "lookup": _read_lookup,
    "immediate": _read_immediate,
    "objref": _read_objref,
    "counter": _read_counter,
    "limit": _read_limit,
    "log": _read_log,
    "reject": _read_reject,
    "socket": _read_socket,
}
