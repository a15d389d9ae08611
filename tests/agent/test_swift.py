"""The swift way and the whole way end at the same intent, whatever changes in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

import msgspec
import pytest
from scripted import OTHER, UUID, Paper

from ringfence.agent.enforce.swift import Ground, Swift
from ringfence.agent.held.held import Held, News
from ringfence.agent.point import How
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.model import Cell, Part
from ringfence.core.intent.pieces import Body, ClassPlan, Group, Isolation, Station
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.net.service import parse_service
from ringfence.wire.messages import Assignment, Change, GroupChange, GroupState, Isolations, Pieces

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KEYS = ("a", "b", "c", "d", "e")
POOL = tuple(range(0xFFFF0A000001, 0xFFFF0A000011))
OWN = POOL[:2]
BODY = Body(
    (
        ClassPlan(1, "one", ("a", "b")),
        ClassPlan(2, "two", ("c",), ((0xFFFF0B000000, 0xFFFF0B0000FF),)),
        ClassPlan(3, "three", ("d",)),
    ),
    (
        Part("in", tuple(Cell(n, parse_service(f"tcp/{80 + n}"), "allow", f"p/{n}") for n in (0, 1, 2, 3))),
        Part("out", (Cell(1, parse_service("any"), "deny", "p/out"),)),
    ),
)


def held_at_first(rng: Random) -> Held:
    held = Held(UUID)
    station = Station(UUID, "web-1", Mode.both("enforce"), OWN, BODY.digest, revision=1)
    homes = {address: rng.choice(KEYS) for address in POOL if rng.random() < 0.6}
    groups = tuple(GroupState(Group(key, tuple(a for a in POOL if homes.get(a) == key)), 1) for key in KEYS)
    held.take(Pieces(Assignment(1, station), Isolations(1, ("main",)), (BODY,), (), workload=station.workload))
    held.take(Pieces(None, Isolations(1, ("main",)), (BODY,), groups, workload=station.workload))
    assert held.assignment is not None
    return held


def random_change(rng: Random, held: Held, step: int) -> Change:
    """Addresses that move between groups; sometimes what fits nothing that was heard before."""
    groups: list[GroupChange] = []
    moving = rng.sample(POOL, rng.randint(1, 4))
    for key in rng.sample(sorted(held.groups), 2):
        group = held.groups[key]
        gone = tuple(a for a in moving if a in group.addresses and rng.random() < 0.7)
        came = tuple(a for a in moving if a not in group.addresses and rng.random() < 0.5)
        before = group.version if rng.random() < 0.9 else group.version + 1
        groups.append(GroupChange(key, before, before + 1, came, gone))
    return Change(step, tuple(groups))


def mended(held: Held) -> Pieces:
    """The answer to what was missed."""
    behind = {key: group for key, group in held.groups.items() if not group.is_whole}
    states = (GroupState(Group(key, tuple(sorted(g.addresses))), g.version + 1) for key, g in behind.items())
    return Pieces(groups=tuple(states), workload=UUID)


def random_isolations(rng: Random, step: int) -> Isolations:
    held = IntervalSet.of((a, a) for a in POOL)
    some = tuple(sorted(rng.sample(POOL, rng.randint(1, 3))))
    whole = IntervalSet.of((a, a) for a in some) & held
    isolations = tuple(Isolation(who, some, clear=whole) for who in (OTHER, UUID) if rng.random() < 0.5)
    return Isolations(step, ("main",), isolations)


async def inline(work: Callable[..., Any], *arguments: Any) -> Any:
    return work(*arguments)


@pytest.mark.parametrize("seed", range(60))
def test_both_ways_end_at_the_same_intent(seed: int) -> None:
    """After every step the kernel holds what assembling all pieces makes, and not every step applies a whole intent."""
    rng = Random(seed)
    held, point = held_at_first(rng), Paper()
    swift = Swift(held, point, inline, lambda intent, _: None)
    ground: Ground | None = None
    swift_steps = 0
    for step in range(2, 60):
        held.take(random_isolations(rng, step) if rng.random() < 0.15 else random_change(rng, held, step))
        if rng.random() < 0.2:  # several messages before the next step
            held.take(random_change(rng, held, 100 + step))
        if rng.random() < 0.3:
            held.take(mended(held))
        news = held.take_news()
        after = None if ground is None or news.moved is None else asyncio.run(swift.step(ground, news, NOW))
        whole = held.intent(NOW)
        assert whole is not None
        swift_steps += after is not None
        if after is None:
            point.converge(whole, How())
            after = Ground(held.policy(held.assignment, NOW), (), whole, whole)  # type: ignore[arg-type]
        ground = after
        assert point.intent == whole
        assert after.policy == whole
        assert after.policy.digest == whole.digest
    assert swift_steps > 5


def test_a_new_assignment_is_no_matter_of_membership() -> None:
    """Another policy is other news: what moved is not told apart."""
    held = held_at_first(Random(1))
    assert held.take_news().moved is None
    assert held.take_news() == News(set(), is_isolated_anew=False)
    assert held.assignment is not None
    station = msgspec.structs.replace(held.assignment.station, mode=Mode())
    held.take(Assignment(2, station))
    assert held.take_news().moved is None


def test_the_hosts_own_addresses_are_no_peers() -> None:
    """A group may list the host itself: neither way makes a peer of it."""
    held = held_at_first(Random(2))
    assert held.classes_of(OWN, NOW) == {}
