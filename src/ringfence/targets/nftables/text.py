"""A layout in nft's own language: for people and golden files; loads with `nft -f` into the same program."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator

from ringfence.targets.nftables.layout import (
    CLASS,
    ICMP_TYPE,
    ICMPV6_TYPE,
    IPV4,
    IPV6,
    MARK,
    NFPROTO,
    PORT,
    PRIORITY,
    PROTOCOL,
    TABLE,
    Chain,
    Elements,
    Field,
    Hash,
    Interval,
    Layout,
    SetSpec,
)
from ringfence.targets.nftables.statements import class_text, protocol_name


def format_layout(layout: Layout) -> str:
    """The whole table, elements included."""
    return "\n".join([f"table inet {TABLE} {{", *_body(layout), "}", ""])


def _body(layout: Layout) -> Iterator[str]:
    yield from (f"  counter {name} {{ }}" for name in layout.counters)
    for name, spec in layout.sets.items():
        yield from _set(spec, layout.elements[name])
    for chain in layout.chains.values():
        yield from _chain(chain)


def _set(spec: SetSpec, elements: Elements) -> Iterator[str]:
    key = " . ".join(field.name for field in spec.key)
    data = {"none": "", "class": " : classid", "verdict": " : verdict"}[spec.data]
    yield f"  {'set' if spec.data == 'none' else 'map'} {spec.name} {{"
    yield f"    type {key}{data}"
    if spec.is_interval:
        yield "    flags interval"
    if spec.has_timeout:
        yield "    flags timeout"
    if spec.is_counted:
        yield "    counter"
    if spec.comment:
        yield f'    comment "{spec.comment}"'
    lines = list(_hash_lines(spec, elements) if isinstance(elements, Hash) else _interval_lines(spec, elements))
    if lines:
        yield "    elements = {"
        yield from (f"      {line}," for line in lines)
        yield "    }"
    yield "  }"


def _hash_lines(spec: SetSpec, elements: Hash) -> Iterator[str]:
    comments = elements.comments or ("",) * len(elements)
    for key, value, comment in zip(elements.keys, elements.values, comments, strict=True):
        note = f' comment "{comment}"' if comment else ""
        counter = " counter packets 0 bytes 0" if spec.is_counted else ""
        data = f" : {class_text(struct.unpack('=I', value.tobytes())[0])}" if len(value) else ""
        yield f"{_key(spec, key.tobytes())}{counter}{note}{data}"


def _key(spec: SetSpec, key: bytes) -> str:
    if len(spec.key) == 1:
        return _word(spec.key[0], key)
    words, at = [], 0
    for field in spec.key:
        words.append(_word(field, key[at : at + field.length]))
        at += field.padded
    return " . ".join(words)


def _interval_lines(spec: SetSpec, elements: tuple[Interval, ...]) -> Iterator[str]:
    field = spec.key[0]
    for lo, hi, value in elements:
        first, last = (_word(field, bound.to_bytes(field.length, "big")) for bound in (lo, hi))
        data = "" if value is None else f" : goto {value}" if isinstance(value, str) else f" : {class_text(value)}"
        yield (first if lo == hi else f"{first}-{last}") + data


def _word(field: Field, raw: bytes) -> str:
    if field == IPV4:
        return str(ipaddress.IPv4Address(raw))
    if field == IPV6:
        return str(ipaddress.IPv6Address(raw))
    if field == CLASS:
        return class_text(struct.unpack("=I", raw)[0])
    if field == MARK:
        return f"0x{struct.unpack('=I', raw)[0]:08x}"
    if field == NFPROTO:
        return {2: "ipv4", 10: "ipv6"}[raw[0]]
    if field == PROTOCOL:
        return protocol_name(raw[0])
    if field in (PORT, ICMP_TYPE, ICMPV6_TYPE):
        return str(int.from_bytes(raw, "big"))
    raise ValueError(f"`{field.name}` has no words")


def _chain(chain: Chain) -> Iterator[str]:
    yield f"  chain {chain.name} {{"
    if chain.hook is not None:
        yield f"    type {chain.hook.kind} hook {chain.name} priority {PRIORITY}; policy {chain.hook.policy};"
    yield from (f"    {rule.text}" for rule in chain.rules)
    yield "  }"
