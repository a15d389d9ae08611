"""A witness: one concrete connection that shows what a set of class pairs means, and the rules that let it pass."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import msgspec

from ringfence.core.engine.bits import members
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.rules import End, Facts
from ringfence.core.errors import Location
from ringfence.core.net.address import LOOPBACK, format_address, is_v4, parse_address, parse_cidr
from ringfence.core.net.intervals import union
from ringfence.core.net.service import ICMP, TCP, UDP, WELL_KNOWN, format_point, parse_service, point, protocol_of
from ringfence.core.world import Endpoint, Flow, Verdict

_NOT_DHCP = 1024
"""A source port from which DHCP's ports are policy."""


class Witness(msgspec.Struct, frozen=True):
    """One connection and what the policy decides about it when every controlled end enforces."""

    source: str
    destination: str
    service: str
    verdict: Verdict
    flow: Flow
    """The connection itself, to ask again."""


class Allowing(msgspec.Struct, frozen=True):
    """A rule that lets a connection pass at one end."""

    end: End
    rule: str
    """`policy/name`."""
    where: Location


def allowing(engine: Engine, source: int, destination: int, shown: Witness) -> tuple[Allowing, ...]:
    """Every rule that allows a witness between two classes at each controlled end, every end enforcing.

    By end, the source first, then by name; an end without an enforcement point has none.
    """
    flow, controlled = shown.flow, engine.classes.is_controlled
    facts = Facts(flow.at or engine.world.at, flow.mutual_tls, flow.from_process, flow.to_process)
    here = engine.relation.services[engine.atoms.atom(flow.point)]
    ends: tuple[tuple[End, int, int], ...]
    ends = (("source", source, destination), ("destination", destination, source))
    out: list[Allowing] = []
    for end, own, other in ends:
        if controlled[own]:
            believed = controlled[other]
            live, _ = engine.speaking(end, source, destination, facts, peer_enforces=believed, within=here)
            rules = sorted((engine.rules[n] for n in members(live & engine.relation.allow)), key=lambda r: r.ref)
            out += [Allowing(end, rule.ref, rule.rule.where) for rule in rules]
    return tuple(out)


def witness(
    engine: Engine, source: int, destination: int, atoms: int, facts: Facts, judge: Engine | None = None
) -> Witness:
    """A concrete connection from one class to another on the best known service of the atoms, judged by `judge` or the
    same engine.
    """
    ends = _compatible(_endpoints(engine, source), _endpoints(engine, destination))
    asked = _best_known(engine, atoms)
    source_port = _NOT_DHCP if engine.dhcp >> engine.atoms.atom(asked) & 1 else None
    flow = Flow(*ends, asked, source_port, facts.mutual_tls, facts.from_unit, facts.to_unit, facts.at)
    verdict = (judge or engine).of_policy_alone().decide(flow)
    return Witness(_say(ends[0]), _say(ends[1]), format_point(asked), verdict, flow)


def _best_known(engine: Engine, atoms: int) -> int:
    """The point of the atoms that people know best: ssh, https, what policies name, the dictionary, any port."""
    own = (s.services for policy in engine.world.policies for s in policy.services)
    named = (services.ranges[0][0] for services in own if services)
    points = (p for p in _well_known(named) if atoms >> engine.atoms.atom(p) & 1)
    return next(points, None) or _plainest(engine, atoms)


def _well_known(named: Iterator[int]) -> Iterator[int]:
    yield from (point(TCP, 22), point(TCP, 443))
    yield from named
    yield from _dictionary()


@cache
def _dictionary() -> tuple[int, ...]:
    """The first point of every part of every service of the built-in dictionary, but DHCP's, which has its own law."""
    parts = (part for name, text in WELL_KNOWN.items() if name != "dhcp" for part in text.split())
    return tuple(parse_service(part).ranges[0][0] for part in parts)


def _plainest(engine: Engine, atoms: int) -> int:
    """The first TCP port of the atoms, else UDP, ICMP, anything."""
    stretches = [first for first, _, atom in engine.atoms.segments if atoms >> atom & 1]
    ranked = ((_PLAIN.index(p) if (p := protocol_of(first)) in _PLAIN else len(_PLAIN), first) for first in stretches)
    return min(ranked)[1]


_PLAIN = (TCP, UDP, ICMP)


def _endpoints(engine: Engine, class_: int) -> list[Endpoint]:
    """A few members of a class, of each family where there are any."""
    if engine.classes.labels[class_] is not None:
        return list(engine.members_of(class_)) or [Endpoint()]
    if not engine.classes.ranges[class_]:
        return [Endpoint(name=engine.classes_of_names().get(class_))]
    bare = sorted((a for a in engine.bare_addresses(class_) if a not in LOOPBACK), key=_is_odd)
    known = [a for a in _KNOWN if a in engine.classes.ranges[class_] and a not in _held(engine)]
    return list({is_v4(a): Endpoint(address=a) for a in reversed([*known, *bare])}.values()) or [Endpoint()]


def _held(engine: Engine) -> frozenset[int]:
    return engine.world.inventory.live_addresses(engine.world.at)


_KNOWN = (parse_address("203.0.113.9"), parse_address("2001:db8::9"))
"""What everybody reads as anybody on the internet (RFC 5737, RFC 3849); the first address of a range they would not."""


def _is_odd(address: int) -> bool:
    """Whether nobody who reads it would know it for what it stands for: this network, or IPv4 as IPv6 (RFC 6052)."""
    return address in _ODD


_ODD = union((parse_cidr("0.0.0.0/8"), parse_cidr("64:ff9b::/96")))


def _compatible(sources: list[Endpoint], destinations: list[Endpoint]) -> tuple[Endpoint, Endpoint]:
    """Two different workloads (a host's way to itself is essential) of one family, as far as there are any."""
    pairs = [(s, d) for s in sources for d in destinations]
    distinct = [p for p in pairs if p[0].workload is None or p[0].workload is not p[1].workload] or pairs
    alike = (p for p in distinct if None not in (p[0].address, p[1].address) and _family(p[0]) == _family(p[1]))
    return next(alike, distinct[0])


def _family(end: Endpoint) -> bool:
    return end.address is not None and is_v4(end.address)


def _say(end: Endpoint) -> str:
    if end.workload is not None:
        return end.workload.name
    return end.name or ("an unknown address" if end.address is None else format_address(end.address))
