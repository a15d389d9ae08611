"""The engine and the oracle give the same answers, and neither answers by order, by file or by what matches nobody."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from strategies import NOBODY, NOW, questions, random_flow, random_rule, random_world, smallest

from ringfence.core.decide import decide
from ringfence.core.engine.engine import Engine
from ringfence.core.flow.conversations import COLUMNS, Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.policy.model import Conditions, Policy, Rule
from ringfence.core.world import REASONS, VERDICTS, Flow, Quarantine, Verdict, World

WORLDS, FLOWS = 80, 40
replace = msgspec.structs.replace


def differs(world: World, flow: Flow) -> bool:
    return Engine.compile(world).decide(flow) != decide(world, flow)


def shown(seed: int, world: World, flow: Flow) -> str:
    """The failure as a person needs it: the seed, the least world, the flow and both answers."""
    least = smallest(world, lambda w: differs(w, flow))
    lines = [f"seed {seed}: oracle {decide(least, flow)}", f"engine {Engine.compile(least).decide(flow)}", f"{flow}"]
    return "\n".join([*lines, *map(str, least.inventory.workloads), str(replace(least, inventory=Inventory(())))])


@pytest.mark.parametrize("block", range(4))
def test_the_engine_answers_like_the_oracle(block: int) -> None:
    """Verdict, reason, rule, place, ends and `unless` agree on 3,200 questions about 80 worlds."""
    for seed in range(block * WORLDS // 4, (block + 1) * WORLDS // 4):
        rng = Random(seed)
        world = random_world(rng)
        engine = Engine.compile(world)
        for _ in range(FLOWS):
            flow = random_flow(rng, world)
            assert engine.decide(flow) == decide(world, flow), shown(seed, world, flow)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(questions())
def test_the_engine_answers_like_the_oracle_wherever_hypothesis_looks(question: tuple[World, Flow]) -> None:
    """The same over seeds that nobody chose."""
    world, flow = question
    assert Engine.compile(world).decide(flow) == decide(world, flow), shown(-1, world, flow)


def conversations_of(flows: list[Flow]) -> Conversations:
    """Flows as rows; only what a record can know: ends and the service."""
    endpoints = tuple(end for flow in flows for end in (flow.source, flow.destination))
    size = len(flows)
    columns = {name: np.zeros(size, np.int64) for name in COLUMNS}
    columns["source"] = np.arange(0, 2 * size, 2, dtype=np.int32)
    columns["destination"] = np.arange(1, 2 * size, 2, dtype=np.int32)
    columns["point"] = np.array([flow.point for flow in flows], dtype=np.int32)
    columns["first"][:] = columns["last"][:] = int(NOW.timestamp())
    return Conversations(endpoints, **columns)


@pytest.mark.parametrize("block", range(4))
def test_rows_judged_in_bulk_are_judged_like_one(block: int) -> None:
    """`judge` gives each row the verdict, reason and rule that the oracle gives its flow at the world's time."""
    for seed in range(1000 + block * 10, 1000 + block * 10 + 10):
        rng = Random(seed)
        world = random_world(rng)
        engine = Engine.compile(world)
        flows = [
            Flow(flow.source, flow.destination, flow.point) for flow in (random_flow(rng, world) for _ in range(60))
        ]
        judged = engine.judge(conversations_of(flows))
        for row, flow in enumerate(flows):
            number = int(judged.rule[row])
            answer = (
                VERDICTS[judged.verdict[row]],
                REASONS[judged.reason[row]],
                engine.rules[number].ref if number >= 0 else None,
            )
            wanted = decide(world, flow)
            assert answer == (wanted.verdict, wanted.reason, wanted.rule), f"seed {seed}: {flow}"


# ---- what must not change an answer ----------------------------------------------------------------------------------


def reversed_rules(world: World, rng: Random) -> World:
    return replace(world, policies=tuple(replace(p, rules=p.rules[::-1]) for p in world.policies))


def reversed_policies(world: World, rng: Random) -> World:
    return replace(world, policies=world.policies[::-1])


def reversed_peers(world: World, rng: Random) -> World:
    def turned(rule: Rule) -> Rule:
        return replace(rule, sources=rule.sources[::-1], destinations=rule.destinations[::-1])

    return replace(world, policies=tuple(replace(p, rules=tuple(map(turned, p.rules))) for p in world.policies))


def reversed_workloads(world: World, rng: Random) -> World:
    inventory = Inventory(world.inventory.workloads[::-1], ignore=world.inventory.ignore)
    return replace(world, inventory=inventory)


def reversed_addresses(world: World, rng: Random) -> World:
    turned = (replace(w, addresses=w.addresses[::-1]) for w in world.inventory.workloads)
    return replace(world, inventory=Inventory(turned, ignore=world.inventory.ignore))


def reversed_passages(world: World, rng: Random) -> World:
    return replace(world, quarantines=world.quarantines[::-1], failsafe=world.failsafe[::-1])


def with_duplicates(world: World, rng: Random) -> World:
    """Every rule once more in the same policy, under a later name."""
    return replace(
        world,
        policies=tuple(
            replace(p, rules=(*p.rules, *(replace(r, name=f"{r.name}~again") for r in p.rules))) for p in world.policies
        ),
    )


def with_rules_about_nobody(world: World, rng: Random) -> World:
    """Before all others by name, one rule of each action whose source or destination picks nobody."""
    rules = [
        replace(
            random_rule(rng, None, f"0-{action}-{field}"), action=action, conditions=Conditions(), **{field: (NOBODY,)}
        )
        for action in ("allow", "deny", "forbid")
        for field in ("sources", "destinations")
    ]
    return replace(world, policies=(Policy("0", rules=tuple(rules)), *world.policies))


SAME: dict[str, Callable[[World, Random], World]] = {
    change.__name__: change
    for change in (
        reversed_rules,
        reversed_policies,
        reversed_peers,
        reversed_passages,
        with_duplicates,
        with_rules_about_nobody,
    )
}
DECIDERS: dict[str, Callable[[World], Callable[[Flow], Verdict]]] = {
    "oracle": lambda world: lambda flow: decide(world, flow),
    "engine": lambda world: Engine.compile(world).decide,
}


@pytest.mark.parametrize("decider", DECIDERS)
@pytest.mark.parametrize("change", SAME)
def test_what_means_the_same_gets_the_same_answer(change: str, decider: str) -> None:
    """Order, duplicates and rules about nobody change no verdict, reason, rule or end."""
    for seed in range(2000, 2025):
        rng = Random(seed)
        world = random_world(rng)
        changed = SAME[change](world, rng)
        before, after = DECIDERS[decider](world), DECIDERS[decider](changed)
        for _ in range(20):
            flow = random_flow(rng, world)
            assert after(flow) == before(flow), f"seed {seed}: {flow}"


@pytest.mark.parametrize("decider", DECIDERS)
@pytest.mark.parametrize("change", [reversed_workloads, reversed_addresses])
def test_the_order_of_an_inventory_changes_no_verdict(change: Callable[[World, Random], World], decider: str) -> None:
    """Of several holders or addresses the worst counts, whichever comes first."""
    for seed in range(2500, 2525):
        rng = Random(seed)
        world = random_world(rng)
        changed = change(world, rng)
        before, after = DECIDERS[decider](world), DECIDERS[decider](changed)
        for _ in range(20):
            flow = random_flow(rng, world)
            assert after(asked_in(changed, flow)).verdict == before(flow).verdict, f"seed {seed}: {flow}"


def asked_in(world: World, flow: Flow) -> Flow:
    """The question about the same workloads as another world has them."""
    by_uuid = world.inventory.by_uuid
    ends = [replace(e, workload=e.workload and by_uuid[e.workload.uuid]) for e in (flow.source, flow.destination)]
    return replace(flow, source=ends[0], destination=ends[1])


@pytest.mark.parametrize("decider", DECIDERS)
def test_a_policy_may_be_split_in_two_files(decider: str) -> None:
    """Every second rule in another policy of the same scope: the same verdicts and reasons."""
    for seed in range(3000, 3025):
        rng = Random(seed)
        world = random_world(rng)
        halves = [
            replace(policy, name=f"{policy.name}{half}", rules=policy.rules[half::2])
            for policy in world.policies
            for half in (0, 1)
        ]
        split = replace(world, policies=tuple(halves))
        before, after = DECIDERS[decider](world), DECIDERS[decider](split)
        for _ in range(20):
            flow = random_flow(rng, world)
            assert (after(flow).verdict, after(flow).reason) == (before(flow).verdict, before(flow).reason), f"{seed}"


# ---- which way a change may go ---------------------------------------------------------------------------------------


def with_one_more(action: str) -> Callable[[World, Random], World]:
    def change(world: World, rng: Random) -> World:
        rule = replace(random_rule(rng, None, "more"), action=action, conditions=Conditions())
        return replace(world, policies=(*world.policies, Policy("more", rules=(rule,))))

    return change


def with_one_isolated(world: World, rng: Random) -> World:
    host = rng.choice([w for w in world.inventory.workloads if w.kind != "process"])
    return replace(world, quarantines=(*world.quarantines, Quarantine(host.uuid)))


CLOSES = {"deny": with_one_more("deny"), "forbid": with_one_more("forbid"), "quarantine": with_one_isolated}


@pytest.mark.parametrize("decider", DECIDERS)
@pytest.mark.parametrize("change", ["allow", *CLOSES])
def test_a_change_goes_one_way(change: str, decider: str) -> None:
    """One more allow closes nothing; one more deny, forbid or quarantine opens nothing."""
    for seed in range(4000, 4025):
        rng = Random(seed)
        world = random_world(rng)
        changed = with_one_more("allow")(world, rng) if change == "allow" else CLOSES[change](world, rng)
        before, after = DECIDERS[decider](world), DECIDERS[decider](changed)
        for _ in range(20):
            flow = random_flow(rng, world)
            order = [VERDICTS.index(answer(flow).verdict) for answer in (before, after)]
            assert order == sorted(order, reverse=change == "allow"), f"seed {seed}: {flow}"


def test_the_generator_reaches_every_corner() -> None:
    """Every verdict, every reason, conflicts, unless-hints and either single end are among the questions asked."""
    verdicts = []
    for seed in range(3 * WORLDS):
        rng = Random(seed)
        world = random_world(rng)
        verdicts += [decide(world, random_flow(rng, world)) for _ in range(FLOWS)]
    assert {v.verdict for v in verdicts} == set(VERDICTS)
    assert {v.reason for v in verdicts} == set(REASONS)
    hints = {hint.partition("=")[0] for v in verdicts for hint in v.unless}
    assert hints == {"mutual-tls", "from_process", "to_process"}
    assert {tuple(end.end for end in v.ends) for v in verdicts} == {
        (),
        ("source",),
        ("destination",),
        ("source", "destination"),
    }
    assert any(random_world(Random(seed)).inventory.conflicts(NOW) for seed in range(WORLDS))
