"""Kernel objects -> nftables netlink messages (nf_tables.h), elements in vectorised bulk.

INVARIANT: a message's elements stay below the 64 KiB of a netlink attribute; a bulk of any size is split.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from ringfence.targets.nftables.expressions import GOTO, Counter, Verdict, encode, encode_verdict, named
from ringfence.targets.nftables.layout import (
    CLASS,
    TABLE,
    VERDICT_LENGTH,
    VERDICT_TYPE,
    Bytes2D,
    Chain,
    Field,
    Hash,
    Interval,
    Rule,
    SetSpec,
    Stranger,
    Timers,
)
from ringfence.targets.nftables.netlink import APPEND, CREATE, Message
from ringfence.targets.nftables.wire import attribute, be32, be64, nested, string, tlv

(NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN, DELCHAIN, NEWRULE, GETRULE, DELRULE, NEWSET, GETSET, DELSET) = range(
    12
)
NEWSETELEM, GETSETELEM, DELSETELEM = 12, 13, 14
NEWOBJ, GETOBJ, DELOBJ = 18, 19, 20
GETFLOWTABLE, DELFLOWTABLE = 23, 24
SET_INTERVAL, SET_MAP, SET_TIMEOUT = 0x4, 0x8, 0x10
ELEMENT_INTERVAL_END, ELEMENT_CATCHALL = 1, 2
CHAIN_BASE = 1
_POLICIES = {"drop": 0, "accept": 1}
_ELEMENTS_BYTES = 60_000
_UDATA_KEY_ORDER, _UDATA_DATA_ORDER, _UDATA_SET_COMMENT = 0, 1, 7
_BIG_ENDIAN, _HOST_ENDIAN = 2, 1


def new_table(flags: int = 0) -> Message:
    """Create the table, or give one that is there these flags, as far as the kernel lets them change."""
    return Message(NEWTABLE, CREATE, string(1, TABLE) + be32(2, flags), f"table `{TABLE}`")


def delete_table() -> Message:
    return Message(DELTABLE, 0, string(1, TABLE), f"table `{TABLE}`")


def new_counter(name: str) -> Message:
    body = string(1, TABLE) + string(2, name) + be32(3, 1) + nested(4, named(Counter())[1][4:])
    return Message(NEWOBJ, CREATE, body, f"counter `{name}`")


def delete_counter(name: str) -> Message:
    return Message(DELOBJ, 0, string(1, TABLE) + string(2, name) + be32(3, 1), f"counter `{name}`")


def new_chain(chain: Chain) -> Message:
    """Create a chain, or bring the policy of an existing base chain up to date; its place cannot be changed."""
    body = string(1, TABLE) + string(3, chain.name)
    if chain.hook is not None:
        body += nested(4, be32(1, chain.hook.number), be32(2, chain.hook.priority))
        body += be32(5, _POLICIES[chain.hook.policy]) + string(7, chain.hook.kind)
    return Message(NEWCHAIN, CREATE, body, f"chain `{chain.name}`")


def delete_chain(name: str) -> Message:
    return Message(DELCHAIN, 0, string(1, TABLE) + string(3, name), f"chain `{name}`")


def flush_chain(name: str) -> Message:
    return Message(DELRULE, 0, string(1, TABLE) + string(2, name), f"the rules of chain `{name}`")


def new_rule(chain: str, rule: Rule) -> Message:
    program = nested(4, *map(encode, rule.expressions))
    comment = attribute(7, tlv(0, rule.comment.encode() + b"\0")) if rule.comment else b""
    body = string(1, TABLE) + string(2, chain) + program + comment
    return Message(NEWRULE, CREATE | APPEND, body, f"rule `{rule.text}` of chain `{chain}`")


def new_set(spec: SetSpec, number: int) -> Message:
    """Create a set. `number` is unique within the transaction."""
    flags = (SET_INTERVAL if spec.is_interval else 0) | (SET_MAP if spec.data != "none" else 0)
    flags |= SET_TIMEOUT if spec.has_timeout else 0
    body = string(1, TABLE) + string(2, spec.name) + be32(3, flags)
    body += be32(4, key_type(spec.key)) + be32(5, spec.key_length) + be32(10, number)
    if spec.data == "class":
        body += be32(6, CLASS.number) + be32(7, CLASS.length)
    elif spec.data == "verdict":
        body += be32(6, VERDICT_TYPE) + be32(7, VERDICT_LENGTH)
    if spec.is_counted:
        body += nested(17, *named(Counter()))
    return Message(NEWSET, CREATE, body + attribute(13, set_user_data(spec)), f"set `{spec.name}`")


def key_type(key: tuple[Field, ...]) -> int:
    """nft's number for a type or a concatenation of types: six bits each."""
    number = 0
    for field in key:
        number = number << 6 | field.number
    return number


def set_user_data(spec: SetSpec) -> bytes:
    """What lets `nft list` print the elements in words (libnftnl udata): byte orders and the comment."""
    is_big = len(spec.key) == 1 and spec.key[0].is_big_endian
    data = tlv(_UDATA_KEY_ORDER, struct.pack("=I", _order(is_big, is_concatenation=len(spec.key) > 1)))
    if spec.data != "none":
        data += tlv(_UDATA_DATA_ORDER, struct.pack("=I", _HOST_ENDIAN if spec.data == "class" else 0))
    return data + (tlv(_UDATA_SET_COMMENT, spec.comment.encode() + b"\0") if spec.comment else b"")


def _order(is_big: bool, *, is_concatenation: bool) -> int:
    if is_concatenation:
        return 0
    return _BIG_ENDIAN if is_big else _HOST_ENDIAN


def delete_set(name: str) -> Message:
    return Message(DELSET, 0, string(1, TABLE) + string(2, name), f"set `{name}`")


def delete_stranger(stranger: Stranger) -> Message:
    """Whatever somebody else put into our table."""
    kind = {"set": DELSET, "object": DELOBJ, "flowtable": DELFLOWTABLE}[stranger.kind]
    number = be32(3, stranger.number) if stranger.kind == "object" else b""
    return Message(kind, 0, string(1, TABLE) + string(2, stranger.name) + number, f"{stranger.kind} `{stranger.name}`")


# -- elements --------------------------------------------------------------------------------------------------------


def add_hash(spec: SetSpec, elements: Hash) -> Iterator[Message]:
    if elements.comments:
        yield from _messages(spec.name, NEWSETELEM, _commented(elements))
    else:
        yield from _bulk(spec.name, NEWSETELEM, elements.keys, elements.values)


def remove_hash(spec: SetSpec, keys: Bytes2D) -> Iterator[Message]:
    yield from remove_keys(spec.name, keys)


def remove_keys(name: str, keys: Bytes2D) -> Iterator[Message]:
    """Elements that must be there: the transaction is refused when one is not."""
    yield from _bulk(name, DELSETELEM, keys, keys[:, :0])


def add_intervals(spec: SetSpec, intervals: tuple[Interval, ...]) -> Iterator[Message]:
    """Start and end elements, as nft writes them: an end one past the last key, and one at 0 when that is free."""
    width = spec.key_length
    last = (1 << (8 * width)) - 1
    elements = [] if not intervals or intervals[0].lo == 0 else [_end(bytes(width))]
    for lo, hi, value in intervals:
        elements.append(nested(1, nested(1, attribute(1, lo.to_bytes(width, "big"))), _value(value)))
        if hi < last:
            elements.append(_end((hi + 1).to_bytes(width, "big")))
    yield from _messages(spec.name, NEWSETELEM, elements)


def add_timed(name: str, timers: Timers) -> Iterator[Message]:
    """Elements that leave by themselves; a time of None is for good."""
    elements = [
        nested(1, nested(1, attribute(1, key)), b"" if left is None else be64(4, max(1, round(left * 1000))))
        for key, left in sorted(timers.items())
    ]
    yield from _messages(name, NEWSETELEM, elements)


def flush_set(name: str) -> Message:
    return Message(DELSETELEM, 0, string(1, TABLE) + string(2, name), f"the elements of `{name}`")


def _end(key: bytes) -> bytes:
    return nested(1, be32(3, ELEMENT_INTERVAL_END), nested(1, attribute(1, key)))


def _value(value: int | str | None) -> bytes:
    if value is None:
        return b""
    if isinstance(value, str):
        return nested(2, encode_verdict(Verdict(GOTO, value)))
    return nested(2, attribute(1, struct.pack("=I", value)))


def _commented(elements: Hash) -> list[bytes]:
    out = []
    for key, value, comment in zip(elements.keys, elements.values, elements.comments, strict=True):
        data = nested(2, attribute(1, value.tobytes())) if len(value) else b""
        note = attribute(6, tlv(0, comment.encode() + b"\0")) if comment else b""
        out.append(nested(1, nested(1, attribute(1, key.tobytes())), data, note))
    return out


def _bulk(name: str, kind: int, keys: Bytes2D, values: Bytes2D) -> Iterator[Message]:
    """Elements of one size: the bytes of the first, with every key and value written over it."""
    n, width = keys.shape
    if not n:
        return
    template = np.frombuffer(element_template(width, values.shape[1]), np.uint8)
    rows = np.tile(template, (n, 1))
    rows[:, 12 : 12 + width] = keys
    if values.shape[1]:
        rows[:, -values.shape[1] :] = values
    step = _ELEMENTS_BYTES // len(template)
    for first in range(0, n, step):
        yield _elements(name, kind, rows[first : first + step].tobytes())


def element_template(key_length: int, value_length: int) -> bytes:
    """A whole element of zeros: the key begins at byte 12, the value is the last bytes."""
    value = nested(2, attribute(1, bytes(value_length))) if value_length else b""
    return nested(1, nested(1, attribute(1, bytes(key_length))), value)


def _messages(name: str, kind: int, elements: list[bytes]) -> Iterator[Message]:
    batch: list[bytes] = []
    size = 0
    for element in elements:
        if size + len(element) > _ELEMENTS_BYTES:
            yield _elements(name, kind, b"".join(batch))
            batch, size = [], 0
        batch.append(element)
        size += len(element)
    if batch:
        yield _elements(name, kind, b"".join(batch))


def _elements(name: str, kind: int, content: bytes) -> Message:
    flags = CREATE if kind == NEWSETELEM else 0
    body = string(1, TABLE) + string(2, name) + nested(3, content)
    return Message(kind, flags, body, f"elements of `{name}`")
