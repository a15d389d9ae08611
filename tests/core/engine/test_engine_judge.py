"""Judging in bulk is deciding one by one, on both paths, in every mode, and when rules are out of rank."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import pytest
from strategies import NOW, random_flow, random_mode, random_world
from worlds import host, replace, rows_of, rule, world_of

from ringfence.core.decide import decide
from ringfence.core.engine import judgement
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.live import LiveEngine
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import TCP, parse_service, point
from ringfence.core.world import REASONS, VERDICTS, Endpoint, Flow, World

SEEDS = range(6000, 6030)
SQL, SECOND = point(TCP, 5432), timedelta(seconds=1)


def questions(rng: Random, world: World) -> list[Flow]:
    flows = (random_flow(rng, world) for _ in range(50))
    return [Flow(flow.source, flow.destination, flow.point) for flow in flows]


def answers(engine: Engine, judged: judgement.Judgement) -> list[tuple[str, str, str | None]]:
    return [
        (VERDICTS[verdict], REASONS[reason], engine.rules[number].ref if number >= 0 else None)
        for verdict, reason, number in zip(judged.verdict, judged.reason, judged.rule, strict=True)
    ]


def oracle(world: World, flows: list[Flow]) -> list[tuple[str, str, str | None]]:
    verdicts = (decide(world, flow) for flow in flows)
    return [(v.verdict, v.reason, v.rule) for v in verdicts]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("pure", [False, True])
def test_every_row_is_judged_like_the_oracle_decides(seed: int, *, pure: bool) -> None:
    """Verdict, reason and rule of every row, whichever path judges."""
    rng = Random(seed)
    world = random_world(rng)
    engine, flows = Engine.compile(world), questions(rng, world)
    assert answers(engine, judgement.judge(engine, rows_of(flows), pure=pure)) == oracle(world, flows)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_row_is_held_by_an_end_that_says_so_and_has_an_agent(seed: int) -> None:
    """Whichever ends have agents: a row is held where one that says the verdict has one, a process by its host's."""
    rng = Random(seed)
    world = random_world(rng)
    people = [replace(w, origin=rng.choice(("agent", "file"))) for w in world.inventory.workloads]
    world = replace(world, inventory=Inventory(tuple(people), ignore=world.inventory.ignore))
    by_name, flows = {w.name: w for w in people}, questions(rng, world)

    def is_held(flow: Flow) -> bool:
        said = decide(world, flow)
        saying = [by_name[end.workload] for end in said.ends if end.verdict == said.verdict]
        return any(by_name.get(w.host or "", w).origin == "agent" for w in saying)

    judged = Engine.compile(world).judge(rows_of(flows))
    assert judged.is_held.tolist() == [is_held(flow) for flow in flows]


@pytest.mark.parametrize("seed", SEEDS)
def test_another_mode_is_another_world(seed: int) -> None:
    """`as_mode` judges as the oracle does in a world where every controlled end is in that mode."""
    rng = Random(seed)
    world, mode = random_world(rng), random_mode(rng)
    engine, flows = Engine.compile(world), questions(rng, world)
    judged = engine.judge(rows_of(flows), as_mode=mode)
    assert answers(engine, judged) == oracle(replace(world, as_mode=mode), flows)


@pytest.mark.parametrize("seed", SEEDS)
def test_rules_out_of_rank_are_named_by_name(seed: int) -> None:
    """After a rule whose name comes first was added last, the least name is still the one that is named."""
    rng = Random(seed)
    world = random_world(rng)
    if not any(policy.rules for policy in world.policies):
        world = world_of(world.inventory.workloads, rule("m", "allow", "anyone", "anyone"))
    live = LiveEngine(world)
    policy = next(p for p in world.policies if p.rules)
    live.add_rule(policy.name, replace(policy.rules[0], name="0-first"))
    engine, flows = live.engine, questions(rng, world)
    assert answers(engine, engine.judge(rows_of(flows))) == oracle(engine.world, flows)


def test_no_rows_are_judged_to_nothing() -> None:
    """An empty batch is no error."""
    engine = Engine.compile(world_of([host("a", "app=a", "10.0.0.1")]))
    assert len(engine.judge(rows_of([])).verdict) == 0


def test_a_host_talking_to_itself_is_essential_in_bulk_too() -> None:
    """Rows are told apart by the workload that holds the end, not by its class."""
    twins = [host(name, "app=a", address) for name, address in (("a", "10.0.0.1"), ("b", "10.0.0.2"))]
    world = world_of(twins)
    ends = [Endpoint(w, w.addresses[0].address) for w in twins]
    point = parse_service("tcp/80").ranges[0][0]
    flows = [Flow(ends[0], ends[0], point), Flow(ends[0], ends[1], point)]
    engine = Engine.compile(world)
    assert [reason for _, reason, _ in answers(engine, engine.judge(rows_of(flows)))] == ["essential", "default"]


@pytest.mark.parametrize("pure", [False, True])
def test_a_bare_address_is_whoever_had_it_when_it_was_seen(*, pure: bool) -> None:
    """A row whose address nobody held then is nobody's, though somebody holds it now, and the other way round."""
    start, end = NOW - timedelta(hours=2), NOW - timedelta(hours=1)
    lease = Lease(parse_address("10.0.0.9"), start=start, end=end)
    guest, db = replace(host("guest", "role=web"), addresses=(lease,)), host("db", "role=db", "10.0.0.2")
    world = world_of([guest, db], rule("sql", "allow", "role=web", "role=db", "tcp/5432"))
    flow = Flow(Endpoint(address=lease.address), Endpoint(db, db.addresses[0].address), SQL)
    for now in (NOW, start):
        engine = Engine.compile(replace(world, at=now))
        for seen, wanted in (
            (start, "allowed"),
            (end - SECOND, "allowed"),
            (start - SECOND, "blocked"),
            (end, "blocked"),
        ):
            judged = judgement.judge(engine, rows_of([flow], seen), pure=pure)
            assert VERDICTS[judged.verdict[0]] == wanted, (now, seen)


def test_one_address_in_two_hands_is_two_questions() -> None:
    """Rows of one batch that differ only in when they were seen are judged each by its own holder."""
    change = NOW - timedelta(hours=1)
    lease = Lease(parse_address("10.0.0.9"), end=change)
    guest, db = replace(host("guest", "role=web"), addresses=(lease,)), host("db", "role=db", "10.0.0.2")
    world = world_of([guest, db], rule("sql", "allow", "role=web", "role=db", "tcp/5432"))
    flow = Flow(Endpoint(address=lease.address), Endpoint(db, db.addresses[0].address), SQL)
    rows = rows_of([flow, flow, flow])
    rows.first[:] = [int((change + timedelta(seconds=s)).timestamp()) for s in (-1, 0, 1)]
    judged = Engine.compile(world).judge(rows)
    assert [VERDICTS[v] for v in judged.verdict] == ["allowed", "blocked", "blocked"]
