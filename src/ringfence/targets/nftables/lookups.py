"""The chains and maps that find the code of a packet: address -> class, local address and process -> part, service
-> code.

A subroutine: `jump look_<view>` comes back with the code in the register, or 0 when no cell speaks (the default).

INVARIANT: every path out of these chains sets the register to a code or to 0, so a class number never leaves them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from ringfence.core.intent.model import Intent, Part
from ringfence.core.net.service import ICMP, PORTED
from ringfence.targets.nftables import statements as s
from ringfence.targets.nftables.areas import Area, CgroupRef, areas_of
from ringfence.targets.nftables.elements import (
    address_map,
    class_rulings,
    comment_of,
    exact_rulings,
)
from ringfence.targets.nftables.layout import (
    CLASS,
    ICMP_TYPE,
    ICMPV6_TYPE,
    IPV4,
    IPV6,
    PORT,
    PROTOCOL,
    Elements,
    Field,
    Interval,
    Rule,
    SetSpec,
)
from ringfence.targets.nftables.services import REPLY_TYPES, Services, Span, arrange
from ringfence.targets.nftables.statements import FAMILIES, rule
from ringfence.targets.nftables.views import VIEWS, View

PutSet = Callable[[SetSpec, Elements], None]
PutChain = Callable[..., None]
_SUFFIX = {"ip": "4", "ip6": "6"}
_ADDRESS = {"ip": IPV4, "ip6": IPV6}


class Ranged(NamedTuple):
    """Which maps of address ranges one family has: by prefix length, and the interval map of all other ranges."""

    prefixes: tuple[int, ...]
    has_rest: bool


class Prepared(NamedTuple):
    """A part with its name in the kernel and its services arranged."""

    name: str
    services: Services
    spans: dict[int, list[tuple[Span, str]]]
    """By protocol: which span leads to which atom's chain."""


def part_name(part: Part) -> str:
    """`in`, `out`, or with a short digest of the addresses or process it is for; other parts do not change it."""
    if not part.local and part.unit is None:
        return part.direction
    key = msgspec.json.encode((part.local, part.unit))
    return f"{part.direction}_{hashlib.sha256(key).hexdigest()[:8]}"


def _prepared(part: Part) -> Prepared:
    name, services = part_name(part), arrange(part)
    spans: dict[int, list[tuple[Span, str]]] = {}
    for atom in services.atoms:
        target = f"atom_{name}_{atom.key}"
        for span in atom.spans:
            spans.setdefault(span.protocol, []).append((span, target))
    return Prepared(name, services, {protocol: sorted(found) for protocol, found in sorted(spans.items())})


def look_chains(
    put: PutSet, chain: PutChain, intent: Intent, ranged: Mapping[s.Family, Ranged], cgroups: Mapping[str, CgroupRef]
) -> None:
    """Add every `look_*` chain of the intent, what they go to and look up."""
    prepared = {id(part): _prepared(part) for part in intent.parts}
    for part in intent.parts:
        _part_maps(put, chain, prepared[id(part)])
    for view in VIEWS:
        for part in intent.parts:
            if part.direction == view.direction:
                _service_chains(put, chain, view, prepared[id(part)])
        areas = areas_of(intent, view.direction)
        rules = [*_class_rules(view, ranged), *_area_dispatch(put, chain, view, areas, prepared, cgroups)]
        chain(f"look_{view.name}", *rules)


def _class_rules(view: View, ranged: Mapping[s.Family, Ranged]) -> Iterator[Rule]:
    """Address -> class: exact addresses first, ranges only where none was found."""
    yield rule(s.set_register(0))
    for family in FAMILIES:
        yield rule(s.register_from_address(family, view.remote, f"peer{_SUFFIX[family]}"))
    for family in FAMILIES:
        suffix = _SUFFIX[family]
        for length in ranged[family].prefixes:
            found = s.register_from_prefix(family, view.remote, length, f"prefix{suffix}_{length}")
            yield rule(s.register_is(0), found)
        if ranged[family].has_rest:
            yield rule(s.register_is(0), s.register_from_address(family, view.remote, f"range{suffix}"))


def _area_dispatch(
    put: PutSet,
    chain: PutChain,
    view: View,
    areas: tuple[Area, ...],
    prepared: Mapping[int, Prepared],
    cgroups: Mapping[str, CgroupRef],
) -> Iterator[Rule]:
    """Go to the chain of the local address's area; the last area, of all other addresses, follows in place."""
    *named, rest = areas
    targets = [f"here_{view.name}_{index}" for index in range(len(named))]
    for family, intervals in address_map((a.local, t) for a, t in zip(named, targets, strict=True)).items():
        if intervals:
            name = f"here_{view.name}{_SUFFIX[family]}"
            put(SetSpec(name, (_ADDRESS[family],), "verdict", is_interval=True), intervals)
            yield rule(s.address_to_chain(family, view.local, name))
    for area, target in zip(named, targets, strict=True):
        chain(target, *_area_rules(chain, view, area, prepared, cgroups))
    yield from _area_rules(chain, view, rest, prepared, cgroups)


def _area_rules(
    chain: PutChain, view: View, area: Area, prepared: Mapping[int, Prepared], cgroups: Mapping[str, CgroupRef]
) -> Iterator[Rule]:
    for part in area.units:
        group = cgroups[part.unit or ""]
        own = prepared[id(part)]
        chain(f"unit_{own.name}{_reply(view)}", *_part_rules(view, own))
        yield rule(s.socket_in(group.path, group.level, group.id), s.goto(f"unit_{own.name}{_reply(view)}"))
    base = area.base
    yield from _part_rules(view, prepared[id(base)]) if base else (rule(s.set_register(0)),)


def _part_rules(view: View, part: Prepared) -> Iterator[Rule]:
    if part.services.exact:
        yield rule(s.register_from_service(view.port, f"exact_{part.name}"), s.back())
    if protocol_targets(part, view):
        yield rule(s.protocol_to_chain(f"services_{part.name}{_reply(view)}"))
    yield rule(s.set_register(0))


def _reply(view: View) -> str:
    return "_reply" if view.is_reply else ""


# -- maps of one part, shared by its two views -----------------------------------------------------------------------


def _part_maps(put: PutSet, chain: PutChain, part: Prepared) -> None:
    if part.services.exact:
        spec = SetSpec(f"exact_{part.name}", (CLASS, PROTOCOL, PORT), "class", is_counted=True)
        put(spec, exact_rulings(part.services.exact))
    for atom in part.services.atoms:
        name, words = f"atom_{part.name}_{atom.key}", comment_of(atom.text)
        put(SetSpec(name, (CLASS,), "class", is_counted=True, comment=words), class_rulings(atom.rulings))
        chain(
            name,
            rule(s.register_from_class(name), s.back(), comment=words),
            rule(s.set_register(0)),
        )
    for protocol, spans in _split_protocols(part).items():
        if protocol in PORTED:
            spec = SetSpec(f"ports_{part.name}_{s.protocol_name(protocol)}", (PORT,), "verdict", is_interval=True)
            put(spec, _intervals(spans))


def _split_protocols(part: Prepared) -> dict[int, list[tuple[Span, str]]]:
    """The protocols whose ports or types do not all lead to one atom."""
    return {protocol: spans for protocol, spans in part.spans.items() if not _is_whole(spans)}


def _is_whole(spans: list[tuple[Span, str]]) -> bool:
    return len(spans) == 1 and spans[0][0].is_whole


def _intervals(spans: list[tuple[Span, str]]) -> tuple[Interval, ...]:
    return tuple(Interval(span.lo, span.hi, target) for span, target in spans)


# -- chains of one part in one view ----------------------------------------------------------------------------------


def protocol_targets(part: Prepared, view: View) -> tuple[Interval, ...]:
    """Protocol -> chain: an atom's own, or one that looks at ports or ICMP types. Neighbours with one target are
    merged.
    """
    targets: list[Interval] = []
    for protocol, spans in part.spans.items():
        target = spans[0][1]
        if not _is_whole(spans):
            target = f"service_{part.name}{_reply(view)}_{s.protocol_name(protocol).replace('-', '')}"
        if targets and targets[-1].value == target and targets[-1].hi == protocol - 1:
            targets[-1] = Interval(targets[-1].lo, protocol, target)
        else:
            targets.append(Interval(protocol, protocol, target))
    return tuple(targets)


def _service_chains(put: PutSet, chain: PutChain, view: View, part: Prepared) -> None:
    targets = protocol_targets(part, view)
    if not targets:
        return
    put(SetSpec(f"services_{part.name}{_reply(view)}", (PROTOCOL,), "verdict", is_interval=True), targets)
    for protocol, spans in _split_protocols(part).items():
        words = s.protocol_name(protocol)
        name = f"service_{part.name}{_reply(view)}_{words.replace('-', '')}"
        if protocol in PORTED:
            match = s.port_to_chain(protocol, view.port, f"ports_{part.name}_{words}")
            chain(name, rule(match), rule(s.set_register(0)))
        else:
            _icmp_chain(put, chain, view, name, protocol, spans)


def _icmp_chain(
    put: PutSet, chain: PutChain, view: View, name: str, protocol: int, spans: list[tuple[Span, str]]
) -> None:
    """ICMP types -> atoms; an answer is found under the type it answers."""
    intervals = _intervals(spans)
    if view.is_reply:
        replies = REPLY_TYPES[protocol]
        found = ((replies[t], target) for span, target in spans for t in replies if span.lo <= t <= span.hi)
        intervals = tuple(Interval(t, t, target) for t, target in sorted(found))
    field: Field = ICMP_TYPE if protocol == ICMP else ICMPV6_TYPE
    if not intervals:
        chain(name, rule(s.set_register(0)))
        return
    put(SetSpec(name, (field,), "verdict", is_interval=True), intervals)
    chain(name, rule(s.icmp_to_chain(protocol, name)), rule(s.set_register(0)))
