"""No hysteresis: after any changes, in any order, a live engine answers as one compiled from the result."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from strategies import HELD, NETWORKS, random_flow, random_host, random_labels, random_policy, random_rule, random_world
from worlds import ENFORCE, host, replace, rule, world_of

from ringfence.core.decide import decide
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.live import LiveEngine
from ringfence.core.engine.peers import key_of
from ringfence.core.errors import InputError
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.policy.model import Policy
from ringfence.core.world import World

SEEDS = range(12000, 12030)
Change = Callable[[LiveEngine], None]


def starting_world(rng: Random) -> World:
    """A random world with a policy to edit."""
    world = random_world(rng)
    return replace(world, policies=(*world.policies, random_policy(rng, "live")))


def random_change(rng: Random, step: int) -> Change:
    kind = rng.choice(("add", "add", "remove", "again", "relabel", "readdress", "come", "go"))
    return {
        "add": lambda live: add_something(rng, live, step),
        "again": lambda live: remove_and_add_again(rng, live),
        "remove": lambda live: remove_something(rng, live),
        "relabel": lambda live: relabel_something(rng, live),
        "readdress": lambda live: readdress_something(rng, live),
        "come": lambda live: live.put_workload(random_host(rng, f"new{step}")),
        "go": lambda live: forget_something(rng, live),
    }[kind]


def add_something(rng: Random, live: LiveEngine, step: int) -> None:
    policy = rng.choice(live.engine.world.policies)
    new = random_rule(rng, policy.scope, f"n{step}")
    seen = [r for p in live.engine.world.policies for r in p.rules]
    if seen and rng.random() < 0.5:  # known services: the change is made in place
        new = replace(new, services=rng.choice(seen).services)
    live.add_rule(policy.name, new)


def remove_and_add_again(rng: Random, live: LiveEngine) -> None:
    policies = [p for p in live.engine.world.policies if p.rules]
    if policies:
        policy = rng.choice(policies)
        one = rng.choice(policy.rules)
        live.remove_rule(policy.ref(one))
        changed = replace(one, action=rng.choice(("deny", "forbid"))) if rng.random() < 0.5 else one
        live.add_rule(policy.name, replace(changed, conditions=one.conditions) if changed is one else changed)


def remove_something(rng: Random, live: LiveEngine) -> None:
    refs = [p.ref(r) for p in live.engine.world.policies for r in p.rules]
    if refs:
        live.remove_rule(rng.choice(refs))


def relabel_something(rng: Random, live: LiveEngine) -> None:
    workload = rng.choice(live.engine.world.inventory.workloads)
    live.put_workload(replace(workload, labels=random_labels(rng)))


def readdress_something(rng: Random, live: LiveEngine) -> None:
    workload = rng.choice(live.engine.world.inventory.workloads)
    if workload.kind != "process":
        live.put_workload(replace(workload, addresses=(Lease(rng.choice(HELD), rng.choice(NETWORKS)),)))


def forget_something(rng: Random, live: LiveEngine) -> None:
    inventory = live.engine.world.inventory
    free = [w for w in inventory.workloads if w.kind != "process" and not inventory.processes_of(w.name)]
    if len(free) > 1:
        live.remove_workload(rng.choice(free).uuid)


def assert_alike(rng: Random, live: LiveEngine, fresh: Engine) -> None:
    """Same decisions as the oracle and as a fresh index; same connection sets between the same ends; same presence."""
    world = live.engine.world
    for _ in range(20):
        flow = random_flow(rng, world)
        assert live.engine.decide(flow) == decide(world, flow) == fresh.decide(flow), flow
    ends = [(w, a) for w in world.inventory.workloads for a in fresh.addresses_of(w, world.at) if w.kind != "process"]
    other = LiveEngine(fresh.world)
    for source, destination in ((s, d) for s in ends for d in ends):
        sets = [
            one.engine.atoms.points(one.passes(one.engine.class_of(*source), one.engine.class_of(*destination)))
            for one in (live, other)
        ]
        assert sets[0] == sets[1], (source, destination)
    for end in ends:
        counts = [engine.classes.workloads[engine.class_of(*end)] for engine in (live.engine, fresh)]
        assert counts[0] >= counts[1] > 0, "a live index may tell fewer classes apart, never count a workload out"


def rebuilt(world: World) -> World:
    """The same inputs with indexes of their own."""
    return replace(world, inventory=Inventory(world.inventory.workloads, ignore=world.inventory.ignore))


@pytest.mark.parametrize("seed", SEEDS)
def test_after_any_changes_it_is_what_it_would_have_been(seed: int) -> None:
    """Random rules and workloads come, change and go; after each the live engine equals a fresh one and the oracle."""
    rng = Random(seed)
    live = LiveEngine(starting_world(rng))
    for step in range(10):
        if rng.random() < 0.7:
            _ = live.numbers
        random_change(rng, step)(live)
        if step % 3 == 2:
            assert_alike(rng, live, Engine.compile(rebuilt(live.engine.world)))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_changes_does_not_matter(seed: int) -> None:
    """The same rules and workloads put in any order end in the same answers."""
    rng = Random(seed)
    world = starting_world(rng)
    rules = [random_rule(rng, None, f"n{n}") for n in range(4)]
    moves = [replace(w, labels=random_labels(rng)) for w in world.inventory.workloads[:3]]
    changes: list[Change] = [*map(adding, rules), *map(putting, moves)]
    world = replace(world, policies=(*world.policies, Policy("open")))
    engines = []
    for order in (changes, changes[::-1], rng.sample(changes, len(changes))):
        live = LiveEngine(world)
        _ = live.numbers
        for change in order:
            change(live)
        engines.append(live)
    for _ in range(25):
        flow = random_flow(rng, engines[0].engine.world)
        verdicts = [live.engine.decide(flow) for live in engines]
        assert verdicts[0] == verdicts[1] == verdicts[2] == decide(engines[0].engine.world, flow)


def adding(one: object) -> Change:
    return lambda live: live.add_rule("open", one)  # type: ignore[arg-type]


def putting(one: object) -> Change:
    return lambda live: live.put_workload(one)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_done_and_undone_leaves_no_trace(seed: int) -> None:
    """Rules added and removed, workloads relabelled and put back: the connection sets are as before, to the number."""
    rng = Random(seed)
    world = starting_world(rng)
    live = LiveEngine(world)
    before = live.numbers.copy()
    engine = live.engine
    rules = [r for p in world.policies for r in p.rules]
    added = [replace(r, name=f"again{n}") for n, r in enumerate(rules[:3])]
    for one in added:
        live.add_rule("live", one)
    for workload in world.inventory.workloads:
        live.put_workload(replace(workload, labels=random_labels(rng)))
    _ = live.numbers
    for workload in world.inventory.workloads:
        live.put_workload(workload)
    for one in added[::-1]:
        live.remove_rule(f"live/{one.name}")
    assert live.engine is engine, "known services and peers never compile anew"
    size = len(before)
    assert np.array_equal(live.numbers[:size, :size], before)
    assert live.engine.world.policies == world.policies


@pytest.mark.parametrize("seed", SEEDS)
def test_halves_of_a_rule_are_the_rule(seed: int) -> None:
    """Expanders: rules that add nothing (a split, an empty match) change no connection set."""
    rng = Random(seed)
    world = starting_world(rng)
    live = LiveEngine(world)
    before = live.numbers.copy()
    for number, one in enumerate(r for p in world.policies if p.name == "live" for r in p.rules):
        first = IntervalSet(one.services.ranges[:1])
        if live.engine.atoms.mask(first) is not None:
            live.add_rule("live", replace(one, name=f"half{number}", services=first))
    live.add_rule("live", rule("nobody", "allow", "role=nobody", "anyone"))
    live.add_rule("live", rule("no-one", "forbid", "anyone", "role=nobody"))
    assert np.array_equal(live.numbers[: len(before), : len(before)], before)


# ---- planted ---------------------------------------------------------------------------------------------------------

WEB, DB = host("web", "role=web", "10.0.0.1"), host("db", "role=db", "10.0.0.2")
SQL = rule("sql", "allow", "role=web", "role=db", "tcp/5432")


def live_of(*rules: object) -> LiveEngine:
    return LiveEngine(world_of([WEB, DB], *rules))  # type: ignore[arg-type]


def between(live: LiveEngine) -> IntervalSet:
    ends = [live.engine.class_of(w, w.addresses[0].address) for w in (WEB, DB)]
    return live.engine.atoms.points(live.passes(*ends))


def test_a_selector_nobody_named_is_learnt_in_place() -> None:
    """A rule between new selectors needs no new index; one with a new CIDR gets one, with the same answers."""
    live = live_of(SQL)
    _ = live.numbers
    engine = live.engine
    live.add_rule("p", rule("more", "allow", "role in (web,api)", "role!=web,!legacy", "tcp/5432"))
    live.remove_rule("p/sql")
    assert live.engine is engine
    assert between(live) == SQL.services
    live.add_rule("p", rule("net", "forbid", "10.0.0.0/24", "role=db", "tcp/5432"))
    assert live.engine is not engine
    assert between(live) == IntervalSet()


def test_a_peer_learnt_late_picks_workloads_that_come_later() -> None:
    """A class that appears after a selector was learnt belongs to it."""
    live = live_of(SQL)
    _ = live.numbers
    live.add_rule("p", rule("api", "allow", "role=api", "role=db", "tcp/5432"))
    api = host("api", "role=api", "10.0.0.3")
    live.put_workload(api)
    source, destination = (live.engine.class_of(w, w.addresses[0].address) for w in (api, DB))
    assert live.engine.atoms.points(live.passes(source, destination)) == SQL.services
    keys = {key_of(p) for p in live.engine.peers.peers}
    assert len(keys) == len(live.engine.peers)


def test_a_rule_that_comes_back_changed_is_the_changed_one() -> None:
    """The slot of a removed rule is taken again only by the very same rule."""
    live = live_of(SQL)
    _ = live.numbers
    live.remove_rule("p/sql")
    live.add_rule("p", rule("sql", "forbid", "role=web", "role=db", "tcp/5432"))
    live.add_rule("p", rule("all", "allow", "role=web", "role=db", "tcp/5432"))
    assert between(live) == IntervalSet()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda live: live.add_rule("p", SQL), "duplicate-name"),
        (lambda live: live.add_rule("q", SQL), "unknown-policy"),
        (lambda live: live.remove_rule("p/nothing"), "unknown-rule"),
        (lambda live: live.remove_workload("nobody"), "unknown-workload"),
        (lambda live: live.put_workload(replace(DB, uuid="another")), "duplicate-name"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(change: Change, code: str) -> None:
    """An error carries its code, and the world is the one before."""
    live = live_of(SQL)
    world = live.engine.world
    with pytest.raises(InputError) as refused:
        change(live)
    assert refused.value.code == code
    assert live.engine.world is world


def test_a_removed_rule_is_unknown() -> None:
    """A rule out of force cannot be removed twice."""
    live = live_of(SQL)
    live.remove_rule("p/sql")
    with pytest.raises(InputError, match="no rule"):
        live.remove_rule("p/sql")


def test_a_host_relabelled_takes_its_processes_along() -> None:
    """A process inherits its host's labels: when those change, so does what the process may do."""
    worker = host("worker", "", kind="process", host="web", unit="w.service")
    world = world_of([WEB, DB, worker], rule("shop", "allow", "role=shop", "role=db", "tcp/1"))
    live = LiveEngine(replace(world, as_mode=ENFORCE))
    _ = live.numbers
    before = live.engine.class_of(worker, WEB.addresses[0].address)
    live.put_workload(replace(WEB, labels={"role": "shop"}))
    after = live.engine.class_of(worker, WEB.addresses[0].address)
    assert live.engine.classes.labels[before] == {"role": "web"}
    assert live.engine.classes.labels[after] == {"role": "shop"}


# ---- the inventory that follows --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_a_followed_inventory_is_a_rebuilt_one(seed: int) -> None:
    """Every index of an inventory that followed changes equals one made from its workloads."""
    rng = Random(seed)
    inventory = random_world(rng).inventory
    at = random_world(rng).at
    for step in range(12):
        inventory.holders(HELD[0], at)
        inventory.processes_of("w0")
        before = rng.choice([None, *inventory.workloads]) if len(inventory.workloads) > 1 else None
        after = None if before is not None and rng.random() < 0.3 else random_host(rng, f"x{step}")
        if before is not None and after is not None and rng.random() < 0.6:
            after = replace(after, name=before.name, uuid=before.uuid)
        inventory = inventory.replacing(before, after)
        fresh = Inventory(inventory.workloads, ignore=inventory.ignore)
        assert dict(inventory.by_name) == fresh.by_name
        assert dict(inventory.by_uuid) == fresh.by_uuid
        assert len(inventory.by_uuid) == len(fresh.workloads)
        for address in HELD:
            for network in set(NETWORKS):
                assert inventory.holders(address, at, network) == fresh.holders(address, at, network)
        assert inventory.live_addresses(at) == fresh.live_addresses(at)
        for workload in inventory.workloads:
            assert inventory.processes_of(workload.name) == fresh.processes_of(workload.name)


def test_an_inventory_that_follows_for_long_stays_right() -> None:
    """More changes than are kept beside a shared index are folded into a new one; earlier snapshots do not change."""
    first = Inventory([host(f"h{n}", "role=web", f"10.1.{n // 200}.{n % 200}") for n in range(600)])
    now = first
    for workload in first.workloads:
        now = now.replacing(workload, replace(workload, labels={"role": "db"}))
    assert {w.labels["role"] for w in now.by_name.values()} == {"db"}
    assert {w.labels["role"] for w in first.by_name.values()} == {"web"}
    assert len(now.by_uuid) == len(first.by_uuid) == 600
    assert "h1" in now.by_name
    assert "h1" not in now.replacing(now.by_name["h1"], None).by_name
