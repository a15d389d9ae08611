"""Reach: what is reached, when, and on what, is what a breadth-first walk of the oracle's answers finds."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from worlds import class_at, host, present_ends, provable_world, replace, rule, world_of

from ringfence.core.decide import decide
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.reach import Reachability, Way
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.net.service import ANY, DHCP_PORTS, parse_service
from ringfence.core.policy.model import Conditions
from ringfence.core.world import Endpoint, Flow, World

SEEDS = range(9000, 9025)
Edges = dict[int, set[int]]


def edges_of(world: World, engine: Engine, services: IntervalSet) -> Edges:
    """Class -> classes it may connect to on any of the services, one representative point an atom, by the oracle."""
    first: dict[int, int] = {}
    for lo, hi, atom in engine.atoms.segments:
        if (overlap := IntervalSet(((lo, hi),)) & services) and not engine.essential >> atom & 1:
            first.setdefault(atom, overlap.ranges[0][0])
    out: Edges = {}
    ends = lived_in(world)
    for source in ends:
        for destination in ends:
            if source.workload is not None and source.workload is destination.workload:
                continue
            flows = (Flow(source, destination, point, 1024) for point in first.values())
            if any(decide(world, flow).verdict == "allowed" for flow in flows):
                out.setdefault(class_at(engine, source), set()).add(class_at(engine, destination))
    return out


def unconditional(world: World) -> World:
    """Every allow without its conditions: reach counts what may ever pass, so that exposure is never understated."""
    rules = {p.name: tuple(replace(r, conditions=Conditions()) for r in p.rules) for p in world.policies}
    return replace(world, policies=tuple(replace(p, rules=rules[p.name]) for p in world.policies))


def lived_in(world: World) -> list[Endpoint]:
    """Present ends, and workloads whose addresses are not known."""
    unknown = [Endpoint(w) for w in world.inventory.workloads if not w.live_addresses(world.at)]
    return unknown + [end for end in present_ends(world) if not _is_loopback(end.address)]


def _is_loopback(address: int | None) -> bool:
    return address is not None and (address == 1 or address >> 24 == 0xFFFF7F)


def walked(edges: Edges, start: set[int], hops: int, is_bare: list[bool]) -> dict[int, int]:
    """Class -> hop at which it is first reached; a bare address is never a stepping stone."""
    seen, frontier, found = set(start), set(start), {}
    for hop in range(1, hops + 1):
        stepping = {c for c in frontier if hop == 1 or not is_bare[c]}
        frontier = {d for c in stepping for d in edges.get(c, ())} - seen
        found.update(dict.fromkeys(frontier, hop))
        seen |= frontier
    return found


@pytest.mark.parametrize("way", ["from", "to"])
@pytest.mark.parametrize("seed", SEEDS)
def test_reach_is_a_breadth_first_walk_of_the_oracle(seed: int, way: Way) -> None:
    """The same classes at the same hops as a naive walk, along or against the connections."""
    rng = Random(seed)
    world = provable_world(rng)
    services = rng.choice([ANY, parse_service("tcp/443"), parse_service("udp")])
    engine = Engine(world, services=(services,))
    edges = edges_of(unconditional(world), engine, services)
    if way == "to":
        edges = {c: {s for s, reached in edges.items() if c in reached} for c in range(len(engine.classes))}
    is_bare = [labels is None for labels in engine.classes.labels]
    start = rng.choice(sorted({class_at(engine, end) for end in lived_in(world)}))
    reached = Reachability(engine, services).of(np.array([start]), way, hops=3).reached
    expected = walked(edges, {start}, 3, is_bare)
    named = {c: hop for c, hop in expected.items() if not is_bare[c]}
    assert sorted(r.hop for r in reached if not r.is_bare) == sorted(named.values())
    assert sum(r.workloads for r in reached) == sum(engine.classes.workloads[c] for c in named)


CHAIN = [host(name, f"role={name}", f"10.0.0.{n}") for n, name in enumerate(("a", "b", "c", "d"), 1)]
HOPS = world_of(
    CHAIN,
    rule("ab", "allow", "role=a", "role=b", "tcp/22"),
    rule("bc", "allow", "role=b", "role=c", "tcp/22", "tcp/80"),
    rule("cd", "allow", "role=c", "role=d", "tcp/80"),
)


def asked(services: str, way: Way, role: str, hops: int) -> list[tuple[int, str, tuple[str, ...], str]]:
    wanted = parse_service(services)
    engine = Engine(HOPS, services=(wanted,))
    start = engine.class_of(next(w for w in CHAIN if w.name == role), CHAIN["abcd".index(role)].addresses[0].address)
    found = Reachability(engine, wanted).of(np.array([start]), way, hops=hops)
    return [(r.hop, r.who, r.services, r.via) for r in found.reached]


def test_each_hop_names_who_on_what_and_through_whom() -> None:
    """A chain is walked link by link; the services are those of the last link."""
    assert asked("any", "from", "a", 3) == [
        (1, "role=b", ("tcp/22",), "role=a"),
        (2, "role=c", ("tcp/22", "tcp/80"), "role=b"),
        (3, "role=d", ("tcp/80",), "role=c"),
    ]


def test_only_the_services_asked_for_carry() -> None:
    """SSH goes two hops and no further."""
    assert [row[:2] for row in asked("tcp/22", "from", "a", 9)] == [(1, "role=b"), (2, "role=c")]


def test_who_reaches_is_the_walk_against_the_connections() -> None:
    """`to` finds the sources, nearest first."""
    assert [row[:2] for row in asked("any", "to", "d", 2)] == [(1, "role=c"), (2, "role=b")]


def test_hops_are_a_limit() -> None:
    """One hop asked is one hop answered."""
    assert [row[:2] for row in asked("any", "from", "a", 1)] == [(1, "role=b")]


def test_nothing_is_known_behind_a_bare_address() -> None:
    """An address range may be reached, and reached from, but is no stepping stone."""
    web, db = host("web", "role=web", "10.0.0.1"), host("db", "role=db", "10.0.0.2")
    world = world_of(
        [web, db],
        rule("out", "allow", "role=web", "198.51.100.0/24", "tcp/443"),
        rule("in", "allow", "198.51.100.0/24", "role=db", "tcp/443"),
    )
    engine = Engine.compile(world)
    start = np.array([engine.class_of(web, web.addresses[0].address)])
    found = Reachability(engine).of(start, "from", hops=5).reached
    assert [(r.hop, r.who, r.is_bare) for r in found] == [(1, "198.51.100.0/24", True)]


def test_a_held_range_is_no_bare_class() -> None:
    """A /32 that a workload holds is that workload: no unheld address is left to reach."""
    web, db = host("web", "role=web", "10.0.0.1"), host("db", "role=db", "10.0.0.2")
    world = world_of([web, db], rule("one", "allow", "role=web", "10.0.0.2/32", "tcp/443"))
    engine = Engine.compile(world)
    start = np.array([engine.class_of(web, web.addresses[0].address)])
    found = Reachability(engine).of(start, "from").reached
    assert [(r.who, r.workloads, r.is_bare) for r in found] == [("role=db", 1, False)]


def test_dhcp_is_policy_from_other_ports() -> None:
    """What passes only from DHCP's own source ports is no way in."""
    assert {67, 68} <= set(DHCP_PORTS)
    assert asked("udp/67", "from", "a", 3) == []
