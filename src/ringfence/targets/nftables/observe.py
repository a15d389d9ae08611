"""The kernel's own dumps -> Layout: what is really there, expression by expression and element by element.

Written apart from `messages`: it reads what the kernel answers, and shares only the vocabulary of `expressions`.

INVARIANT: whatever cannot be read as something this target makes is reported in `strangers` or as a Foreign
expression; nothing in our table is overlooked.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from ringfence.targets.nftables import messages as m
from ringfence.targets.nftables.expressions import GOTO, decode_all, decode_verdict
from ringfence.targets.nftables.layout import (
    CLASS,
    ICMP_TYPE,
    ICMPV6_TYPE,
    IPV4,
    IPV6,
    MARK,
    NFPROTO,
    PORT,
    PROTOCOL,
    TABLE,
    VERDICT_TYPE,
    Chain,
    Data,
    Elements,
    Field,
    Hash,
    Hook,
    Interval,
    Layout,
    Rule,
    SetSpec,
    Stranger,
    Timers,
    hash_of,
    sorted_hash,
)
from ringfence.targets.nftables.netlink import DUMP, SUBSYS_NFTABLES, Netlink, Refused
from ringfence.targets.nftables.wire import (
    as_int,
    as_text,
    attribute,
    attribute_map,
    attributes,
    nested,
    string,
    tlv_map,
)

_FIELDS = {f.number: f for f in (NFPROTO, IPV4, IPV6, PROTOCOL, PORT, ICMP_TYPE, MARK, CLASS, ICMPV6_TYPE)}
_KNOWN_SET_FLAGS = m.SET_INTERVAL | m.SET_MAP | m.SET_TIMEOUT


class Element(NamedTuple):
    """One dumped element."""

    key: bytes
    """Empty: the catch-all, found for every key that has no element."""
    value: bytes | str | None
    """Bytes, the chain of a goto, or nothing."""
    is_end: bool
    comment: str
    packets: int
    bytes_: int
    statements: tuple[str, ...] = ()
    """Their names; a counter's numbers are above."""
    left_s: float | None = None
    """Until it goes by itself; None: never."""


def read_table(netlink: Netlink, known: Mapping[str, Elements] | None = None) -> Layout | None:
    """Everything in our table; None when there is no such table. Dumps are retried until they are consistent.

    `known`: elements of sets that are not read, because they are known.
    """
    try:
        table = attribute_map(_ask(netlink, m.GETTABLE, string(1, TABLE), flags=0)[0])
    except Refused as refusal:
        if refusal.errno == errno.ENOENT:
            return None
        raise
    chains = _chains(netlink)
    specs, strange = _sets(netlink)
    counters, objects = _objects(netlink)
    elements: dict[str, Elements] = {}
    for name, spec in specs.items():
        found = known.get(name) if known else None
        specs[name], elements[name] = (spec, found) if found is not None else read_elements(netlink, spec)
    strangers = tuple(sorted([*strange, *objects, *_flow_tables(netlink)]))
    timers = read_timers(netlink, specs)
    return Layout(counters, specs, elements, chains, strangers, flags=as_int(table.get(2, b"")), timers=timers)


def read_timers(netlink: Netlink, specs: Mapping[str, SetSpec]) -> dict[str, Timers]:
    """What is in the sets whose elements come and go by the clock."""
    timed = (name for name, spec in specs.items() if spec.has_timeout)
    return {name: {e.key: e.left_s for e in dump_elements(netlink, name)} for name in timed}


def _ask(netlink: Netlink, kind: int, body: bytes, *, flags: int = DUMP) -> list[bytes]:
    return netlink.request(SUBSYS_NFTABLES << 8 | kind, flags, body)


def _of_table(bodies: Iterable[bytes]) -> Iterator[dict[int, bytes]]:
    """Answers about our table only; old kernels ignore the filter of some dumps."""
    for body in bodies:
        parts = attribute_map(body)
        if as_text(parts[1]) == TABLE:
            yield parts


def _chains(netlink: Netlink) -> dict[str, Chain]:
    found: dict[str, tuple[Hook | None, int]] = {}
    for parts in _of_table(_ask(netlink, m.GETCHAIN, string(1, TABLE))):
        flags = as_int(parts.get(10, b"")) & ~m.CHAIN_BASE
        found[as_text(parts[3])] = (_hook(parts) if 4 in parts else None, flags)
    rules: dict[str, list[Rule]] = {name: [] for name in found}
    for parts in _of_table(_ask(netlink, m.GETRULE, string(1, TABLE))):
        rules[as_text(parts[2])].append(_rule(parts))
    return {name: Chain(name, tuple(rules[name]), hook, flags) for name, (hook, flags) in found.items()}


def _rule(parts: dict[int, bytes]) -> Rule:
    comment = tlv_map(parts[7]).get(0, b"\0") if 7 in parts else b"\0"
    return Rule(decode_all(parts.get(4, b"")), as_text(comment))


def _hook(parts: dict[int, bytes]) -> Hook:
    inner = attribute_map(parts[4])
    priority = int.from_bytes(inner[2], "big", signed=True)
    return Hook(as_int(inner[1]), priority, "accept" if as_int(parts[5]) else "drop", as_text(parts[7]))


def _sets(netlink: Netlink) -> tuple[dict[str, SetSpec], list[Stranger]]:
    specs: dict[str, SetSpec] = {}
    strange: list[Stranger] = []
    for parts in _of_table(_ask(netlink, m.GETSET, string(1, TABLE))):
        name = as_text(parts[2])
        spec = _spec(name, parts)
        if spec is None:
            strange.append(Stranger("set", name))
        else:
            specs[name] = spec
    return specs, strange


def _spec(name: str, parts: dict[int, bytes]) -> SetSpec | None:
    """None for a set of a kind this target never makes."""
    flags = as_int(parts.get(3, b""))
    number, key = as_int(parts.get(4, b"")), list[Field]()
    while number:
        field = _FIELDS.get(number & 0x3F)
        if field is None:
            return None
        key.insert(0, field)
        number >>= 6
    if not key or flags & ~_KNOWN_SET_FLAGS:
        return None
    data = _data_kind(flags, parts)
    if data is None:
        return None
    comment = tlv_map(parts[13]).get(7, b"\0") if 13 in parts else b"\0"
    statements = _statements(parts, 17, 18)
    is_interval, is_counted = bool(flags & m.SET_INTERVAL), "counter" in statements
    strange = tuple(statement for statement in statements if statement != "counter")
    has_timeout = bool(flags & m.SET_TIMEOUT)
    spec = SetSpec(name, tuple(key), data, is_interval, is_counted, has_timeout, as_text(comment), strange)
    return spec if spec.key_length == as_int(parts[5]) else None


def _statements(parts: dict[int, bytes], one: int, many: int) -> tuple[str, ...]:
    """The names of the statements a set or an element has: under one attribute a single one, under the other a list."""
    listed = [parts[one]] if one in parts else [content for _, content in attributes(parts.get(many, b""))]
    return tuple(as_text(attribute_map(content)[1]) for content in listed)


def _data_kind(flags: int, parts: dict[int, bytes]) -> Data | None:
    if not flags & m.SET_MAP:
        return "none"
    return {CLASS.number: "class", VERDICT_TYPE: "verdict"}.get(as_int(parts[6]))  # type: ignore[return-value]


def _objects(netlink: Netlink) -> tuple[tuple[str, ...], list[Stranger]]:
    counters: list[str] = []
    others: list[Stranger] = []
    for parts in _of_table(_ask(netlink, m.GETOBJ, string(1, TABLE))):
        if as_int(parts[3]) == 1:
            counters.append(as_text(parts[2]))
        else:
            others.append(Stranger("object", as_text(parts[2]), as_int(parts[3])))
    return tuple(counters), others


def _flow_tables(netlink: Netlink) -> list[Stranger]:
    return [
        Stranger("flowtable", as_text(parts[2])) for parts in _of_table(_ask(netlink, m.GETFLOWTABLE, string(1, TABLE)))
    ]


def read_counters(netlink: Netlink) -> dict[str, tuple[int, int]]:
    """Named counters -> (packets, bytes)."""
    out: dict[str, tuple[int, int]] = {}
    for parts in _of_table(_ask(netlink, m.GETOBJ, string(1, TABLE))):
        if as_int(parts[3]) == 1:
            out[as_text(parts[2])] = _counts(parts[4])
    return out


def _counts(content: bytes) -> tuple[int, int]:
    parts = attribute_map(content)
    return as_int(parts[2]), as_int(parts[1])


# -- elements --------------------------------------------------------------------------------------------------------


def read_elements(netlink: Netlink, spec: SetSpec) -> tuple[SetSpec, Elements]:
    """A set's elements, and the set as it is known when they have been seen."""
    lists = _element_lists(netlink, spec.name)
    bulk = None if spec.is_interval else _bulk(spec, lists)
    if bulk is not None:
        return spec, bulk
    elements = [e for content in lists for e in _elements(content)]
    own = {"counter"} if spec.is_counted else set()
    strange = {s for e in elements for s in e.statements if s not in own} | {"catch-all" for e in elements if not e.key}
    known = [e for e in elements if e.key]
    spec = msgspec.structs.replace(spec, strange=tuple(sorted({*spec.strange, *strange})))
    return spec, _as_intervals(spec, known) if spec.is_interval else _as_hash(spec, known)


def dump_elements(netlink: Netlink, name: str) -> list[Element]:
    """Every element of a set with its counter and comment."""
    return [element for content in _element_lists(netlink, name) for element in _elements(content)]


def read_element(netlink: Netlink, name: str, key: bytes) -> Element | None:
    """One element of a set; None when it is not there."""
    body = string(1, TABLE) + string(2, name) + nested(3, nested(1, nested(1, attribute(1, key))))
    try:
        answers = _ask(netlink, m.GETSETELEM, body, flags=0)
    except Refused as refusal:
        if refusal.errno == errno.ENOENT:
            return None
        raise
    return next(element for parts in map(attribute_map, answers) for element in _elements(parts[3]))


def read_value(netlink: Netlink, name: str, key: bytes) -> bytes | str | None:
    """What an element holds: nothing, as bytes, in a set; None where there is no such element."""
    element = read_element(netlink, name, key)
    return None if element is None else element.value or b""


def read_spec(netlink: Netlink, name: str) -> SetSpec | None:
    """What a set is; None where there is none, or one of a kind this target never makes."""
    try:
        answers = _ask(netlink, m.GETSET, string(1, TABLE) + string(2, name), flags=0)
    except Refused as refusal:
        if refusal.errno == errno.ENOENT:
            return None
        raise
    return _spec(name, attribute_map(answers[0]))


def read_rules(netlink: Netlink, chain: str) -> tuple[Rule, ...]:
    """The rules of one chain."""
    found = _of_table(_ask(netlink, m.GETRULE, string(1, TABLE) + string(2, chain)))
    return tuple(_rule(parts) for parts in found if as_text(parts[2]) == chain)


def _element_lists(netlink: Netlink, name: str) -> list[bytes]:
    bodies = _ask(netlink, m.GETSETELEM, string(1, TABLE) + string(2, name))
    return [content for parts in map(attribute_map, bodies) if (content := parts.get(3))]


def _bulk(spec: SetSpec, lists: list[bytes]) -> Hash | None:
    """Elements that are nothing but keys and values, all of one size, read as one matrix; None if any is not."""
    width, value = spec.key_length, 4 if spec.data == "class" else 0
    template = np.frombuffer(_plain_element(width, value), np.uint8)
    content = b"".join(lists)
    if spec.is_counted or len(content) % len(template):
        return None
    rows = np.frombuffer(content, np.uint8).reshape(-1, len(template))
    fixed = np.ones(len(template), bool)
    fixed[12 : 12 + width] = False
    fixed[len(template) - value :] = False
    if not (rows[:, fixed] == template[fixed]).all():
        return None
    values = rows[:, len(template) - value :]
    return sorted_hash(np.ascontiguousarray(rows[:, 12 : 12 + width]), np.ascontiguousarray(values))


def _plain_element(key_length: int, value_length: int) -> bytes:
    """An element of zeros as the kernel dumps it: nesting is not flagged (`nf_tables_fill_setelem`)."""
    value = attribute(2, attribute(1, bytes(value_length))) if value_length else b""
    return attribute(1, attribute(1, attribute(1, bytes(key_length))) + value)


def _elements(content: bytes) -> Iterator[Element]:
    for _, element in attributes(content):
        parts = attribute_map(element)
        key = attribute_map(parts[1])[1] if 1 in parts else b""
        is_end = bool(as_int(parts.get(3, b"\0")) & m.ELEMENT_INTERVAL_END)
        comment = as_text(tlv_map(parts[6]).get(0, b"\0")) if 6 in parts else ""
        statements = _statements(parts, 7, 11)
        packets, bytes_ = _counts(attribute_map(parts[7])[2]) if statements == ("counter",) else (0, 0)
        left_s = as_int(parts[5]) / 1000 if 5 in parts else None
        yield Element(key, _element_value(parts), is_end, comment, packets, bytes_, statements, left_s)


def _element_value(parts: dict[int, bytes]) -> bytes | str | None:
    if 2 not in parts:
        return None
    data = attribute_map(parts[2])
    if 1 in data:
        return data[1]
    verdict = decode_verdict(data[2])
    return verdict.chain if verdict.code == GOTO and verdict.chain else f"verdict {verdict.code}"


def _as_hash(spec: SetSpec, elements: list[Element]) -> Hash:
    comments = [e.comment for e in elements] if any(e.comment for e in elements) else None
    values = [e.value if isinstance(e.value, bytes) else (e.value or "").encode() for e in elements]
    return hash_of([e.key for e in elements], values, spec.key_length, comments)


def _as_intervals(spec: SetSpec, elements: list[Element]) -> tuple[Interval, ...]:
    """Start and end elements -> inclusive intervals. At one key an end comes before a start."""
    width = spec.key_length
    intervals: list[Interval] = []
    begun: tuple[int, int | str | None] | None = None
    for element in sorted(elements, key=lambda e: (e.key, not e.is_end)):
        at = int.from_bytes(element.key, "big")
        if begun is not None:
            intervals.append(Interval(begun[0], at - 1, begun[1]))
        begun = None if element.is_end else (at, _interval_value(element.value))
    if begun is not None:
        intervals.append(Interval(begun[0], (1 << (8 * width)) - 1, begun[1]))
    return tuple(i for i in intervals if i.lo <= i.hi)


def _interval_value(value: bytes | str | None) -> int | str | None:
    return struct.unpack("=I", value)[0] if isinstance(value, bytes) else value
