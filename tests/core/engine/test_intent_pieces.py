"""The pieces of an intent: they follow changes without memory, and each changes only for its own reason."""

from __future__ import annotations

from random import Random
from typing import TypeVar

import msgspec
import pytest
from strategies import HELD, NETWORKS, random_host, random_labels, random_mode, random_world
from worlds import ENFORCE, host, replace, rule, world_of

from ringfence.core.engine.engine import Engine
from ringfence.core.engine.live import LiveEngine
from ringfence.core.identity.workload import Lease, Workload
from ringfence.core.intent.compile import IntentCompiler, Moved
from ringfence.core.intent.pieces import Body, Isolation, Station, assemble

SEEDS = range(31000, 31040)
T = TypeVar("T", Station, Body, Isolation)


def changed(rng: Random, live: LiveEngine, step: int) -> tuple[Workload | None, Workload | None]:
    """One random change of one workload: (before, after)."""
    inventory = live.engine.world.inventory
    hosts = [w for w in inventory.workloads if w.kind != "process"]
    before = rng.choice(hosts)
    free = not inventory.processes_of(before.name) and len(hosts) > 1
    address = Lease(rng.choice(HELD), rng.choice(NETWORKS))
    return rng.choice(
        (
            (None, random_host(rng, f"new{step}")),
            (before, None) if free else (before, before),
            (before, replace(before, labels=random_labels(rng))),
            (before, replace(before, addresses=(address,))),
            (before, replace(before, addresses=(*before.addresses, address))),
            (before, replace(before, mode=random_mode(rng))),
        )
    )


def follow(live: LiveEngine, compiler: IntentCompiler, before: Workload | None, after: Workload | None) -> Moved:
    if after is not None:
        live.put_workload(after)
    elif before is not None:
        live.remove_workload(before.uuid)
    return compiler.move(before, after)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_compiler_that_followed_changes_equals_a_fresh_one(seed: int) -> None:
    """No hysteresis (law 2): whatever came, changed and went, every host's intent is that of the world as it is."""
    rng = Random(seed)
    live = LiveEngine(random_world(rng))
    compiler = IntentCompiler(live.engine)
    for step in range(12):
        for me in controlled(live.engine)[:2]:
            compiler.compile(me)
        follow(live, compiler, *changed(rng, live, step))
        fresh = IntentCompiler(Engine.compile(live.engine.world))
        for me in controlled(live.engine):
            assert compiler.compile(me) == fresh.compile(me)


def controlled(engine: Engine) -> list[Workload]:
    return [w for w in engine.world.inventory.workloads if w.is_controlled and w.kind != "process"]


@pytest.mark.parametrize("seed", SEEDS)
def test_pieces_travel_and_join_to_the_same_intent(seed: int) -> None:
    """Encoded, sent and decoded, the pieces make the intent that was compiled."""
    compiler = IntentCompiler(Engine.compile(random_world(Random(seed))))
    for me in controlled(compiler.engine):
        body = compiler.body(me)
        networks = compiler.networks_of(me)
        there = assemble(
            over_the_wire(compiler.station(me, body)),
            over_the_wire(body),
            {key: compiler.group(networks, key) for key in body.groups},
            [over_the_wire(isolation) for isolation in compiler.isolations(networks)],
        )
        assert there == compiler.compile(me)


def over_the_wire(piece: T) -> T:
    return msgspec.json.decode(msgspec.json.encode(piece), type=type(piece))


WEB, WEB2 = host("web-1", "role=web", "10.0.0.1"), host("web-2", "role=web", "10.0.0.2")
DB, DB2 = host("db-1", "role=db", "10.0.1.1"), host("db-2", "role=db", "10.0.1.2")
SQL = rule("sql", "allow", "role=web", "role=db", "tcp/5432")


def test_hosts_of_one_identity_run_one_body() -> None:
    """A body is content-addressed: equal hosts, in whatever mode, share it."""
    compiler = IntentCompiler(Engine.compile(world_of([WEB, DB, replace(DB2, mode=ENFORCE)], SQL)))
    assert compiler.body(DB) is compiler.body(DB2)
    assert compiler.body(DB).digest != compiler.body(WEB).digest


def test_a_joining_workload_changes_one_address_of_one_group() -> None:
    """Membership moves apart from policy: bodies stay, and what is sent is as large as what joined."""
    live = LiveEngine(world_of([WEB, DB], SQL))
    compiler = IntentCompiler(live.engine)
    before = compiler.body(DB)
    moved = follow(live, compiler, None, WEB2)
    assert not moved.bodies
    assert [(c.added, c.removed) for c in moved.groups.values()] == [([WEB2.addresses[0].address], [])]
    assert compiler.body(DB) is before


def test_an_address_that_changes_hands_leaves_and_enters_in_one_move() -> None:
    """On reuse, the old permission goes with the change that brings the new one, never after it."""
    live = LiveEngine(world_of([WEB, WEB2, DB], SQL))
    compiler = IntentCompiler(live.engine)
    compiler.body(DB)
    follow(live, compiler, WEB2, replace(WEB2, addresses=()))
    moved = follow(live, compiler, WEB, replace(WEB, labels={"role": "db"}))
    address = WEB.addresses[0].address
    assert sorted((c.added, c.removed) for c in moved.groups.values()) == [([], [address]), ([address], [])]
    assert moved.bodies  # the last web left: nobody is of that class any more


def test_only_bodies_about_a_new_identity_are_others() -> None:
    """A new identity that a rule about some hosts names changes their body and nobody else's."""
    live = LiveEngine(world_of([WEB, DB], SQL, rule("own", "allow", "role=web", "role=web", "tcp/80")))
    compiler = IntentCompiler(live.engine)
    before = {me.name: compiler.digest(me) for me in (WEB, DB)}
    moved = follow(live, compiler, None, host("db-3", "role=db,env=new", "10.0.1.3"))
    assert moved.bodies == {before["web-1"]}
    assert compiler.digest(WEB) != before["web-1"]
    assert compiler.digest(DB) == before["db-1"]


def test_identities_that_went_leave_nothing_behind() -> None:
    """However many identities came and went, little but those there are is kept, and intents are as from nothing."""
    live = LiveEngine(world_of([WEB, DB], SQL))
    compiler = IntentCompiler(live.engine)
    before: Workload = WEB2
    live.put_workload(before)
    compiler.move(None, before)
    most = 0
    for number in range(200):
        after = replace(before, labels={"role": "web", "env": f"e{number}"})
        follow(live, compiler, before, after)
        bodies = {compiler.digest(me) for me in controlled(live.engine)}
        most = max(most, len(compiler._plans[frozenset(("main",))]))
        assert len(bodies) <= 3
        before = after
    assert most < 100
    fresh = IntentCompiler(Engine.compile(live.engine.world))
    assert [compiler.compile(me) for me in controlled(live.engine)] == list(map(fresh.compile, controlled(live.engine)))
