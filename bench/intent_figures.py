"""How fast the pieces of all hosts' intents are compiled, and followed when one workload is relabelled.

At the size of a large installation of agents: 5,000 hosts, 300 identities, 2,000 rules.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from bench import estate
from bench.measure import Figure, cpu_s, each_cpu_s
from ringfence.controller.desired.desired import Desired
from ringfence.controller.desired.inputs import Inputs, Version
from ringfence.core.engine.live import LiveEngine
from ringfence.core.identity.workload import Workload
from ringfence.core.intent.compile import IntentCompiler
from ringfence.core.intent.pieces import Body, Station
from ringfence.core.net.address import parse_cidr
from ringfence.core.policy.model import Cidr, Policy
from ringfence.core.world import World

HOSTS, IDENTITIES, RULES = 5_000, 300, 2_000
RANGES = 50
CHANGES = 20


def pieces() -> Iterator[Figure]:
    """Bodies and stations of all hosts; one relabelled workload; the same for a controller's whole desired state."""
    world = estate.generate(workloads=HOSTS, identities=IDENTITIES, rules=RULES)
    yield from _compiled("pieces of 5,000 hosts", world)
    yield from _compiled(f"  with {RANGES} allows of ranges", _with_ranges(world))
    yield from _followed(world)
    yield from _desired(world)


def _compiled(name: str, world: World) -> Iterator[Figure]:
    live = LiveEngine(world)
    hosts = world.inventory.workloads
    seconds, found = cpu_s(lambda: _pieces_of(IntentCompiler(live.engine), hosts), runs=2)
    bodies = {station.body: body for station, body in found}.values()
    parts, classes = (statistics.mean(len(each) for each in of) for of in zip(*map(_content, bodies), strict=True))
    yield Figure(name, seconds, note=f"{len(bodies)} bodies, mean {parts:.3g} parts and {classes:.0f} classes")


def _content(body: Body) -> tuple[tuple[object, ...], tuple[object, ...]]:
    return body.parts, body.classes


def _pieces_of(compiler: IntentCompiler, hosts: tuple[Workload, ...]) -> list[tuple[Station, Body]]:
    bodies = (compiler.body(host) for host in hosts)
    return [(compiler.station(host, body), body) for host, body in zip(hosts, bodies, strict=True)]


def _with_ranges(world: World) -> World:
    """Offices that no host is in may do what some rules' sources may."""
    policy, rng = world.policies[0], random.Random(17)
    offices = (Cidr(text, parse_cidr(text)) for text in (f"172.16.{i}.0/24" for i in range(RANGES)))
    rules = [
        msgspec.structs.replace(rng.choice(policy.rules), name=f"office{i}", action="allow", sources=(office,))
        for i, office in enumerate(offices)
    ]
    return msgspec.structs.replace(world, policies=(Policy(policy.name, rules=(*policy.rules, *rules)),))


def _followed(world: World) -> Iterator[Figure]:
    live = LiveEngine(world)
    compiler = IntentCompiler(live.engine)
    _pieces_of(compiler, world.inventory.workloads)

    def put(workload: Workload) -> None:
        before = live.engine.world.inventory.by_uuid[workload.uuid]
        live.put_workload(workload)
        compiler.move(before, workload)
        for host in live.engine.world.inventory.workloads:  # as whoever hands them out does
            compiler.digest(host)

    yield from _relabelled("", world, put, (5e-3, 100e-3))


def _desired(world: World) -> Iterator[Figure]:
    inputs = Inputs(world.inventory, Version(1, world.policies), world.at)
    made_s, desired = cpu_s(lambda: Desired(inputs), runs=1)
    yield Figure("desired state of 5,000 hosts", made_s)
    told: list[int] = []

    def put(workload: Workload) -> None:
        told.append(len(desired.put_workload(workload).assignments))

    *figures, last = _relabelled("  ", world, put, (5e-3, None))
    yield from figures
    yield msgspec.structs.replace(last, note=f"mean {statistics.mean(told[CHANGES:]):.0f} hosts have another body")


def _relabelled(
    indent: str, world: World, put: Callable[[Workload], None], targets: tuple[float | None, float | None]
) -> Iterator[Figure]:
    """To a known identity, and to one that nobody had."""
    rng, hosts = random.Random(19), world.inventory.workloads
    chosen = rng.sample(hosts, 2 * CHANGES)
    known = [msgspec.structs.replace(host, labels=dict(rng.choice(hosts).labels)) for host in chosen[:CHANGES]]
    fresh = [
        msgspec.structs.replace(host, labels=host.labels | {"loc": f"new{number}"})
        for number, host in enumerate(chosen[CHANGES:])
    ]
    for name, changed, target in zip(("a known", "a new"), (known, fresh), targets, strict=True):
        times = each_cpu_s([partial(put, host) for host in changed])
        yield Figure(f"{indent}relabel to {name} identity, median", statistics.median(times), target=target)
