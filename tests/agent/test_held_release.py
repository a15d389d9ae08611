"""What a host holds while a release, a publication and the time overtake one another."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from random import Random

import pytest
from scripted import OTHER, OWN, UUID, body

from ringfence.agent.held.held import Held
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.pieces import Body, Group, Isolation, Station
from ringfence.wire.messages import Assignment, Down, GroupState, Isolations, Pieces, Upcoming

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
WIDE, NARROW = body("tcp/80", "tcp/22"), body("tcp/80")
MINE = Isolation(UUID, OWN)
THEIRS = Isolation(OTHER, (0xFFFF0A000099,))
FREE, ISOLATED, OTHERS = Isolations(1, ("main",)), Isolations(2, ("main",), (MINE, THEIRS)), Isolations(2, ("main",))


def assignment(revision: int, made: Body, *schedule: Upcoming) -> Assignment:
    station = Station(UUID, "web-1", Mode.both("enforce"), OWN, made.digest, revision=revision)
    return Assignment(revision, station, revision, schedule=schedule)


OLD, NEW = assignment(10, WIDE), assignment(11, NARROW)
RELEASED = Isolations(3, ("main",), (THEIRS,))


def pieces(*bodies: Body, **more: object) -> Pieces:
    groups = tuple(GroupState(Group(key, ()), 1) for made in bodies for key in sorted(made.groups))
    return Pieces(None, None, bodies, groups, workload=UUID, **more)  # type: ignore[arg-type]


def holding(first: Assignment, *bodies: Body) -> Held:
    held = Held(UUID)
    held.take(first)
    held.take(pieces(*bodies))
    held.take(FREE)
    assert held.assignment is first
    return held


def is_isolated(held: Held) -> bool:
    intent = held.intent(NOW)
    assert intent is not None
    return intent.is_quarantined


def runs(held: Held) -> str:
    assert held.assignment is not None
    return held.assignment.station.body


def tell(held: Held, messages: Iterable[Down]) -> None:
    """Each, with what must be so after it: no wider than the newest of what was heard."""
    heard: list[Down] = [OLD, ISOLATED]
    for message in messages:
        held.take(message)
        heard.append(message)
        is_first = NEW in heard and (RELEASED not in heard or heard.index(NEW) < heard.index(RELEASED))
        if RELEASED not in heard or (is_first and runs(held) == WIDE.digest):
            assert is_isolated(held)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_release_does_not_overtake_what_was_published_before(order: tuple[int, ...]) -> None:
    """In whatever order assignment, its pieces and the release come, each lost or repeated any number of times: a host
    that heard of the narrower policy is not released under the wider one; in the end it is, under the new."""
    said: list[Down] = [NEW, pieces(NARROW), RELEASED]
    for seed in range(200):
        rng = Random(seed)
        held = holding(OLD, WIDE)
        held.take(ISOLATED)
        told = [said[n] for n in order for _ in range(rng.choice((0, 1, 1, 2)))]
        again = rng.sample(said, 3)
        tell(held, [*told, *again, pieces(NARROW)])
        assert runs(held) == NARROW.digest
        assert not is_isolated(held)
        assert held.isolations == RELEASED


def test_a_release_that_waits_outlives_the_agent() -> None:
    """One that is restarted meanwhile starts with the quarantine, and asks for what it misses."""
    held = holding(OLD, WIDE)
    for message in (ISOLATED, NEW, RELEASED):
        held.take(message)
    before = held.state
    again = Held.restore(UUID, held.snapshot())
    assert is_isolated(again)
    assert again.isolations is not None
    assert again.isolations.revision == ISOLATED.revision
    held.take(pieces(NARROW))
    assert held.state != before
    again.take(Pieces(NEW, RELEASED, (), (), workload=UUID))
    assert is_isolated(again)
    again.take(pieces(NARROW))
    assert not is_isolated(again)
    assert again.state == held.state


def test_a_quarantine_waits_for_nothing() -> None:
    """While an assignment is incomplete a new one binds at once, though another ends with the same message; the one
    that ends, ends with the assignment."""
    held = holding(OLD, WIDE)
    for message in (ISOLATED, NEW):
        held.take(message)
    other = Isolation("33333333-3333-4333-8333-333333333333", (0xFFFF0A000077,))
    held.take(Isolations(3, ("main",), (THEIRS, other)))
    assert held.isolations is not None
    assert {one.workload for one in held.isolations.isolations} == {UUID, OTHER, other.workload}
    assert not held.take(RELEASED)
    held.take(pieces(NARROW))
    assert {one.workload for one in held.isolations.isolations} == {OTHER, other.workload}


def test_a_newer_release_replaces_the_one_that_waits() -> None:
    """And a quarantine that begins again does."""
    held = holding(OLD, WIDE)
    for message in (ISOLATED, NEW, RELEASED, Isolations(4, ("main",), (MINE, THEIRS))):
        held.take(message)
    held.take(pieces(NARROW))
    assert is_isolated(held)
    held.take(Isolations(5, ("main",)))
    assert not is_isolated(held)


TIMED = assignment(10, WIDE, Upcoming(NOW + timedelta(hours=1), NARROW.digest))
LATER = NOW + timedelta(days=3)


def timed(held: Held, now: datetime) -> bool:
    """Whether what ends in an hour holds."""
    return held.policy(TIMED, now).endswith(WIDE.digest[:32])


def test_a_clock_that_steps_back_reopens_nothing() -> None:
    """What it once closed stays closed, also for an agent that is started again."""
    held = holding(TIMED, WIDE, NARROW)
    assert timed(held, NOW)
    assert not timed(held, LATER)
    assert not timed(held, NOW)
    assert not timed(Held.restore(UUID, held.snapshot()), NOW)


def test_the_controllers_word_ends_what_a_wrong_clock_closed() -> None:
    """A clock that had stepped ahead and is right again keeps nothing closed for days; one that is still ahead does,
    and what the controller says to be over is over."""
    held = holding(TIMED, WIDE, NARROW)
    assert not timed(held, LATER)
    assert held.correct(NOW)
    assert not timed(held, LATER)
    assert held.correct(NOW)
    assert timed(held, NOW)
    assert not held.correct(NOW)
    assert not timed(held, LATER)
    assert held.correct(NOW + timedelta(hours=2))
    assert not timed(held, NOW)
