"""A witness: one concrete connection that shows what a set of class pairs means."""

from __future__ import annotations

import msgspec

from ringfence.core.engine.bits import lowest
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.rules import Facts
from ringfence.core.net.address import LOOPBACK, format_address, is_v4
from ringfence.core.net.service import format_point
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


def witness(
    engine: Engine, source: int, destination: int, atoms: int, facts: Facts, judge: Engine | None = None
) -> Witness:
    """A concrete connection from one class to another on the first of the atoms, judged by `judge` or the same
    engine.
    """
    ends = _compatible(_endpoints(engine, source), _endpoints(engine, destination))
    atom = lowest(atoms)
    point = engine.atoms.points(1 << atom).ranges[0][0]
    source_port = _NOT_DHCP if engine.dhcp >> atom & 1 else None
    flow = Flow(*ends, point, source_port, facts.mutual_tls, facts.from_unit, facts.to_unit, facts.at)
    verdict = (judge or engine).of_policy_alone().decide(flow)
    return Witness(_say(ends[0]), _say(ends[1]), format_point(point), verdict, flow)


def _endpoints(engine: Engine, class_: int) -> list[Endpoint]:
    """A few members of a class, of each family where there are any."""
    if engine.classes.labels[class_] is not None:
        return list(engine.members_of(class_)) or [Endpoint()]
    if not engine.classes.ranges[class_]:
        return [Endpoint(name=engine.classes_of_names().get(class_))]
    bare = [a for a in engine.bare_addresses(class_) if a not in LOOPBACK]
    return list({is_v4(a): Endpoint(address=a) for a in reversed(bare)}.values()) or [Endpoint()]


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
