"""Netlink attributes as bytes: the alphabet that every nftables and conntrack message is spelled in.

INVARIANT: an attribute is padded to four bytes and its length excludes the padding (`nla_*` in the kernel's netlink.h).
Knows nothing of tables, sets or sockets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

NESTED = 0x8000
_TYPE_MASK = 0x3FFF
_HEAD = struct.Struct("=HH")


def attribute(kind: int, payload: bytes) -> bytes:
    return _HEAD.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def nested(kind: int, *children: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(children))


def string(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def be16(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!H", value))


def be32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!I", value & 0xFFFFFFFF))


def be64(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!Q", value))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Every (type, payload) in order; a truncated tail is an error, never silently dropped."""
    position, end = 0, len(data)
    while position < end:
        if end - position < 4:
            raise ValueError("netlink attribute is truncated")
        length, kind = _HEAD.unpack_from(data, position)
        if length < 4 or position + length > end:
            raise ValueError("netlink attribute has a wrong length")
        yield kind & _TYPE_MASK, data[position + 4 : position + length]
        position += (length + 3) & ~3


def attribute_map(data: bytes) -> dict[int, bytes]:
    return dict(attributes(data))


def as_int(payload: bytes) -> int:
    """A big-endian integer of any width."""
    return int.from_bytes(payload, "big")


def as_text(payload: bytes) -> str:
    return payload.rstrip(b"\0").decode()


def tlv(kind: int, payload: bytes) -> bytes:
    """libnftnl's user-data record (`udata.c`): one byte each of type and length, then the value."""
    if len(payload) > 255:
        raise ValueError("user data record is longer than 255 bytes")
    return bytes((kind, len(payload))) + payload


def tlv_map(data: bytes) -> dict[int, bytes]:
    out: dict[int, bytes] = {}
    position = 0
    while position + 2 <= len(data):
        kind, length = data[position], data[position + 1]
        out[kind] = data[position + 2 : position + 2 + length]
        position += 2 + length
    return out
