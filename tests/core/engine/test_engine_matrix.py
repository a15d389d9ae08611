"""Connection sets: what the matrix says passes between two classes is what the oracle passes between their members."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from strategies import POINTS, UNITS, flip
from worlds import class_at, present_ends, provable_world

from ringfence.core.decide import decide
from ringfence.core.engine import matrix
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.prove import canvas_of
from ringfence.core.engine.rules import Facts
from ringfence.core.net.address import LOOPBACK, is_v4
from ringfence.core.net.service import DHCP_PORTS, UDP, point
from ringfence.core.world import Endpoint, Flow

SEEDS = range(7000, 7040)
DHCP = {point(UDP, port) for port in DHCP_PORTS}


def random_facts(rng: Random, engine: Engine) -> Facts:
    units = [rng.choice(UNITS) if flip(rng, 0.4) else None for _ in range(2)]
    return Facts(engine.world.at, flip(rng, 0.5), *units)


def numbers_of(engine: Engine, facts: Facts, interner: matrix.Interner | None = None) -> matrix.Numbers:
    every = np.arange(len(engine.classes))
    return matrix.passed(canvas_of(engine, every, every, facts, interner))


def may_ask(source: Endpoint, destination: Endpoint) -> bool:
    """Two different ends of one address family."""
    assert source.address is not None
    assert destination.address is not None
    is_same = source.workload is not None and source.workload is destination.workload
    return not is_same and is_v4(source.address) == is_v4(destination.address)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cell_is_what_the_oracle_passes(seed: int) -> None:
    """For every pair of present ends and a sample of points, the class pair's set holds the point iff it is allowed."""
    rng = Random(seed)
    world = provable_world(rng)
    engine = Engine.compile(world)
    facts, interner = random_facts(rng, engine), matrix.Interner()
    numbers = numbers_of(engine, facts, interner)
    ends = present_ends(world)
    pairs = [(s, d) for s in ends for d in ends if may_ask(s, d)]
    for source, destination in rng.sample(pairs, min(60, len(pairs))):
        asked = rng.choice([p for p in POINTS if p not in DHCP])
        flow = Flow(source, destination, asked, None, facts.mutual_tls, facts.from_unit, facts.to_unit)
        if not engine.essential >> engine.atoms.atom(asked) & 1 and not is_loopback(flow):
            cell = interner.sets[numbers[class_at(engine, source), class_at(engine, destination)]]
            passes = bool(cell >> engine.atoms.atom(asked) & 1)
            assert passes == (decide(world, flow).verdict == "allowed"), flow


def is_loopback(flow: Flow) -> bool:
    return any(end.address is not None and end.address in LOOPBACK for end in (flow.source, flow.destination))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cell_from_the_bitmaps_is_the_painted_cell(seed: int) -> None:
    """`passed_between` and the painting agree on every class pair."""
    rng = Random(seed)
    engine = Engine.compile(provable_world(rng))
    facts, interner = random_facts(rng, engine), matrix.Interner()
    numbers = numbers_of(engine, facts, interner)
    size = range(len(engine.classes))
    asked = engine.atoms.full & ~engine.essential
    for source, destination in ((s, d) for s in size for d in size):
        expected = engine.passed_between(source, destination, facts)
        if not engine.classes.is_controlled[source] and not engine.classes.is_controlled[destination]:
            expected = asked
        assert interner.sets[numbers[source, destination]] == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_any_rows_and_columns_are_a_part_of_the_whole(seed: int) -> None:
    """Strips, subsets and another order of classes give the cells of the whole matrix, by number."""
    rng = Random(seed)
    engine = Engine.compile(provable_world(rng))
    facts, interner = random_facts(rng, engine), matrix.Interner()
    whole = numbers_of(engine, facts, interner)
    size = len(engine.classes)
    rows, columns = (np.array(rng.sample(range(size), rng.randint(1, size))) for _ in range(2))
    part = matrix.passed(canvas_of(engine, rows, columns, facts, interner))
    assert np.array_equal(part, whole[np.ix_(rows, columns)])


def test_nothing_by_nothing_is_nothing() -> None:
    """A canvas without rows or columns is painted without error."""
    engine = Engine.compile(provable_world(Random(1)))
    none = np.zeros(0, dtype=np.intp)
    every = np.arange(len(engine.classes))
    assert matrix.passed(canvas_of(engine, none, every, Facts(engine.world.at))).shape == (0, len(every))
    assert matrix.passed(canvas_of(engine, every, none, Facts(engine.world.at))).shape == (len(every), 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_only_the_atoms_asked_about_are_painted(seed: int) -> None:
    """A canvas of fewer atoms shows the whole canvas through that mask."""
    rng = Random(seed)
    engine = Engine.compile(provable_world(rng))
    facts, interner = random_facts(rng, engine), matrix.Interner()
    whole = numbers_of(engine, facts, interner)
    every = np.arange(len(engine.classes))
    canvas = canvas_of(engine, every, every, facts, interner)
    asked = canvas.atoms & rng.getrandbits(len(engine.atoms))
    part = matrix.passed(matrix.Canvas(engine.relation, engine.classes, every, every, facts, interner, asked))
    masked = [interner.sets[number] & asked for number in whole.ravel().tolist()]
    assert [interner.sets[number] for number in part.ravel().tolist()] == masked


def test_numbers_are_equal_exactly_when_sets_are() -> None:
    """The interner gives one number a set, append only, and the empty set 0."""
    interner = matrix.Interner()
    numbers = [interner.number(bits) for bits in (0, 5, 9, 5, 0, 9)]
    assert numbers == [0, 1, 2, 1, 0, 2]
    assert interner.flags(1).tolist() == [False, True, True]
