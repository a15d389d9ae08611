"""A witness: one concrete connection that shows what a set of class pairs means."""

from __future__ import annotations

import msgspec

from ringfence.core.engine.bits import lowest
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.rules import Facts
from ringfence.core.identity.workload import Mode
from ringfence.core.net.address import format_address, is_v4
from ringfence.core.net.service import format_point
from ringfence.core.world import Endpoint, Flow, Verdict


class Witness(msgspec.Struct, frozen=True):
    """One connection and what is decided about it when every controlled end enforces."""

    source: str
    destination: str
    service: str
    verdict: Verdict


def witness(
    engine: Engine, source: int, destination: int, atoms: int, facts: Facts, judge: Engine | None = None
) -> Witness:
    """A concrete connection from one class to another on the first of the atoms, judged by `judge` or the same
    engine.
    """
    ends = _compatible(_endpoints(engine, source), _endpoints(engine, destination))
    point = engine.atoms.points(1 << lowest(atoms)).ranges[0][0]
    flow = Flow(
        *ends, point, mutual_tls=facts.mutual_tls, from_process=facts.from_unit, to_process=facts.to_unit, at=facts.at
    )
    enforced = judge or engine
    if enforced.world.as_mode != Mode.both("enforce"):
        enforced = Engine.compile(msgspec.structs.replace(enforced.world, as_mode=Mode.both("enforce")))
    return Witness(_say(ends[0]), _say(ends[1]), format_point(point), enforced.decide(flow))


def _endpoints(engine: Engine, class_: int) -> list[Endpoint]:
    """Members of a class, one of each family where there are any."""
    found: dict[bool, Endpoint] = {}
    at = engine.world.at
    if engine.classes.labels[class_] is None:
        firsts = [lo for lo, _ in engine.classes.ranges[class_]]
        return list({is_v4(lo): Endpoint(address=lo) for lo in reversed(firsts)}.values()) or [Endpoint()]
    for workload in engine.world.inventory.workloads:
        for lease in workload.live_addresses(at):
            if is_v4(lease.address) not in found and engine.class_of(workload, lease.address) == class_:
                found[is_v4(lease.address)] = Endpoint(workload, lease.address, lease.network)
        if not workload.live_addresses(at) and engine.class_of(workload, None) == class_:
            return [Endpoint(workload)]
        if len(found) == 2:
            break
    return list(found.values()) or [Endpoint()]


def _compatible(sources: list[Endpoint], destinations: list[Endpoint]) -> tuple[Endpoint, Endpoint]:
    pairs = [(s, d) for s in sources for d in destinations]
    alike = (p for p in pairs if None not in (p[0].address, p[1].address) and _family(p[0]) == _family(p[1]))
    distinct = [p for p in pairs if p[0].workload is None or p[0].workload is not p[1].workload]
    return next(alike, (distinct or pairs)[0])


def _family(end: Endpoint) -> bool:
    return end.address is not None and is_v4(end.address)


def _say(end: Endpoint) -> str:
    if end.workload is not None:
        return end.workload.name
    return "an unknown address" if end.address is None else format_address(end.address)
