"""The chains and maps that find the code of a packet: address -> class, local address and process -> part, service
-> code.

A subroutine: `jump look_<view>` comes back with the code in the register, or 0 when no cell speaks (the default).

INVARIANT: every path out of these chains sets the register to a code or to 0, so a class number never leaves them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from ringfence.core.intent.model import Intent, Part
from ringfence.core.net.service import ICMP, PORTED
from ringfence.targets.nftables import statements as s
from ringfence.targets.nftables.areas import Area, CgroupRef, areas_of
from ringfence.targets.nftables.draft import Draft
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
    Field,
    Interval,
    Rule,
    SetSpec,
)
from ringfence.targets.nftables.services import REPLY_TYPES, Services, Span, arrange
from ringfence.targets.nftables.statements import FAMILIES, rule
from ringfence.targets.nftables.views import VIEWS, View

_SUFFIX = {"ip": "4", "ip6": "6"}
_ADDRESS = {"ip": IPV4, "ip6": IPV6}


class Ranged(NamedTuple):
    """Which maps of address ranges one family has: by prefix length, and the interval map of all other ranges."""

    prefixes: tuple[int, ...]
    rest: str | None


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
    draft: Draft, intent: Intent, ranged: Mapping[s.Family, Ranged], cgroups: Mapping[str, CgroupRef]
) -> None:
    """Add every `look_*` chain of the intent, what they go to and look up."""
    prepared = {id(part): _prepared(part) for part in intent.parts}
    for part in intent.parts:
        _part_maps(draft, prepared[id(part)])
    for view in VIEWS:
        services = {
            id(part): _service_chains(draft, view, prepared[id(part)])
            for part in intent.parts
            if part.direction == view.direction
        }
        look = _Look(draft, view, prepared, services, cgroups)
        rules = [*_class_rules(view, ranged), *look.areas(areas_of(intent, view.direction))]
        draft.chain(f"look_{view.name}", *rules)


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
        if (rest := ranged[family].rest) is not None:
            yield rule(s.register_is(0), s.register_from_address(family, view.remote, rest))


class _Look(NamedTuple):
    """One view's way from the local address and process to a part."""

    draft: Draft
    view: View
    prepared: Mapping[int, Prepared]
    services: Mapping[int, str | None]
    """By part: the map from protocols to chains, if any."""
    cgroups: Mapping[str, CgroupRef]

    def areas(self, areas: tuple[Area, ...]) -> Iterator[Rule]:
        """Go to the chain of the local address's area; the last area, of all other addresses, follows in place."""
        *named, rest = areas
        targets = [f"here_{self.view.name}_{index}" for index in range(len(named))]
        for area, target in zip(named, targets, strict=True):
            self.draft.chain(target, *self._area(area))
        regions = zip((area.local for area in named), targets, strict=True)
        for family, intervals in address_map(regions).items():
            if intervals:
                name = f"here_{self.view.name}{_SUFFIX[family]}"
                name = self.draft.put_ranges(name, _ADDRESS[family], "verdict", intervals)
                yield rule(s.address_to_chain(family, self.view.local, name))
        yield from self._area(rest)

    def _area(self, area: Area) -> Iterator[Rule]:
        for part in area.units:
            group = self.cgroups[part.unit or ""]
            target = f"unit_{self.prepared[id(part)].name}{_reply(self.view)}"
            self.draft.chain(target, *self._part(part))
            yield rule(s.socket_in(group.path, group.level, group.id), s.goto(target))
        yield from self._part(area.base)

    def _part(self, part: Part | None) -> Iterator[Rule]:
        if part is not None:
            own, services = self.prepared[id(part)], self.services[id(part)]
            if own.services.exact:
                yield rule(s.register_from_service(self.view.port, f"exact_{own.name}"), s.back())
            if services is not None:
                yield rule(s.protocol_to_chain(services))
        yield rule(s.set_register(0))


def _reply(view: View) -> str:
    return "_reply" if view.is_reply else ""


# -- maps of one part, shared by its two views -----------------------------------------------------------------------


def _part_maps(draft: Draft, part: Prepared) -> None:
    if part.services.exact:
        spec = SetSpec(f"exact_{part.name}", (CLASS, PROTOCOL, PORT), "class", is_counted=True)
        draft.put(spec, exact_rulings(part.services.exact))
        draft.services[spec.name] = part.services
    for atom in part.services.atoms:
        name, words = f"atom_{part.name}_{atom.key}", comment_of(atom.text)
        spec = SetSpec(name, (CLASS,), "class", is_counted=True, comment=words)
        draft.put(spec, class_rulings(atom.rulings))
        draft.chain(name, rule(s.register_from_class(name), s.back(), comment=words), rule(s.set_register(0)))


def _split_protocols(part: Prepared) -> dict[int, list[tuple[Span, str]]]:
    """The protocols whose ports or types do not all lead to one atom."""
    return {protocol: spans for protocol, spans in part.spans.items() if not _is_whole(spans)}


def _is_whole(spans: list[tuple[Span, str]]) -> bool:
    return len(spans) == 1 and spans[0][0].is_whole


def _intervals(spans: list[tuple[Span, str]]) -> tuple[Interval, ...]:
    return tuple(Interval(span.lo, span.hi, target) for span, target in spans)


# -- chains of one part in one view ----------------------------------------------------------------------------------


def _service_chains(draft: Draft, view: View, part: Prepared) -> str | None:
    """Add the map from protocols to chains and the chains that look at ports or ICMP types; None when there is none."""
    if not part.spans:
        return None
    for protocol, spans in _split_protocols(part).items():
        name = _service_chain(part, view, protocol)
        match = _port_match(draft, view, part, protocol, spans)
        draft.chain(name, *([rule(match)] if match is not None else []), rule(s.set_register(0)))
    return draft.put_ranges(f"services_{part.name}{_reply(view)}", PROTOCOL, "verdict", _protocol_targets(part, view))


def _service_chain(part: Prepared, view: View, protocol: int) -> str:
    return f"service_{part.name}{_reply(view)}_{s.protocol_name(protocol).replace('-', '')}"


def _protocol_targets(part: Prepared, view: View) -> tuple[Interval, ...]:
    """Protocol -> chain: an atom's own, or one that looks at ports or types. Neighbours with one target are merged."""
    targets: list[Interval] = []
    for protocol, spans in part.spans.items():
        target = spans[0][1] if _is_whole(spans) else _service_chain(part, view, protocol)
        if targets and targets[-1].value == target and targets[-1].hi == protocol - 1:
            targets[-1] = Interval(targets[-1].lo, protocol, target)
        else:
            targets.append(Interval(protocol, protocol, target))
    return tuple(targets)


def _port_match(
    draft: Draft, view: View, part: Prepared, protocol: int, spans: list[tuple[Span, str]]
) -> s.Statement | None:
    if protocol in PORTED:
        name = f"ports_{part.name}_{s.protocol_name(protocol)}"
        return s.port_to_chain(protocol, view.port, draft.put_ranges(name, PORT, "verdict", _intervals(spans)))
    types = _reply_types(protocol, spans) if view.is_reply else _intervals(spans)
    if not types:
        return None
    field: Field = ICMP_TYPE if protocol == ICMP else ICMPV6_TYPE
    return s.icmp_to_chain(protocol, draft.put_ranges(f"types_{part.name}{_reply(view)}", field, "verdict", types))


def _reply_types(protocol: int, spans: list[tuple[Span, str]]) -> tuple[Interval, ...]:
    """ICMP types of answers -> atoms, each found under the type it answers."""
    replies = REPLY_TYPES[protocol]
    found = ((replies[t], target) for span, target in spans for t in replies if span.lo <= t <= span.hi)
    return tuple(Interval(t, t, target) for t, target in sorted(found))
