"""Classes and peers: membership is what the language says, however the index came to be."""

from __future__ import annotations

from random import Random

import pytest
from strategies import random_endpoint, random_flow, random_peer, random_policy, random_selector, random_world
from worlds import belongs, replace

from ringfence.core.engine.bits import of_words
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.peers import PeerTable, joined
from ringfence.core.policy.model import Fqdn, Workloads

SEEDS = range(5000, 5040)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_end_belongs_to_the_peers_that_pick_it(seed: int) -> None:
    """The class of a workload at an address, or of a bare address, is in a peer exactly when the end is."""
    rng = Random(seed)
    world = random_world(rng)
    engine = Engine.compile(world)
    for _ in range(30):
        end = random_endpoint(rng, world)
        if end.name is not None:
            continue
        membership = engine.classes.membership[engine.class_of(end.workload, end.address)]
        for number, one in enumerate(engine.peers.peers):
            if not isinstance(one, Fqdn):
                assert bool(membership >> number & 1) == belongs(world, end, one), (end, one)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_row_is_a_function_of_membership(seed: int) -> None:
    """The scalar row, the batch row and the row of the bare membership are one, before and after a late class."""
    rng = Random(seed)
    world = random_world(rng)
    engine = Engine.compile(world)
    engine.relation.words()
    for _ in range(5):
        end = random_endpoint(rng, world)
        engine.class_of(end.workload, end.address)
    words = engine.relation.words()
    for number, membership in enumerate(engine.classes.membership):
        row = engine.relation.rows(number)
        assert row == tuple(of_words(side[number]) for side in words) == engine.relation.row_of(membership)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_classes_of_a_peer_are_those_with_its_bit(seed: int) -> None:
    """The inverse index agrees with the memberships, also for classes and selectors that came later."""
    rng = Random(seed)
    world = random_world(rng)
    engine = Engine.compile(world)
    engine.classes.of_peer(0)
    for _ in range(4):
        end = random_endpoint(rng, world)
        engine.class_of(end.workload, end.address)
    late = Workloads((random_selector(rng),), "late")
    if engine.peers.id(late) is None:
        engine.classes.join(engine.peers.add_selector(late), joined(late))
    for number in range(len(engine.peers)):
        having = [c for c, bits in enumerate(engine.classes.membership) if bits >> number & 1]
        assert engine.classes.of_peer(number).tolist() == having


@pytest.mark.parametrize("seed", SEEDS)
def test_a_selector_added_later_picks_what_it_would_have_picked_at_first(seed: int) -> None:
    """A peer table grown in place gives every label set the peers that a table made at once gives it."""
    rng = Random(seed)
    world = random_world(rng)
    selectors = [random_peer(rng, None) for _ in range(12)]
    peers = list({joined(p): p for p in selectors if isinstance(p, Workloads)}.values())
    grown = PeerTable(peers[:2], {}, world.at)
    for one in peers[2:]:
        grown.add_selector(one)
    at_once = PeerTable(peers, {}, world.at)
    for workload in world.inventory.workloads:
        assert grown.of_labels(workload.labels) == at_once.of_labels(workload.labels)


@pytest.mark.parametrize("seed", SEEDS)
def test_ignored_keys_make_no_classes(seed: int) -> None:
    """Workloads that differ in an ignored label only are one class."""
    world = random_world(Random(seed))
    engine = Engine.compile(world)
    for workload in world.inventory.workloads:
        other = replace(workload, labels=workload.labels | {"hash": "other"})
        assert engine.class_of(other, None) == engine.class_of(workload, None)


@pytest.mark.parametrize("seed", SEEDS)
def test_present_classes_count_their_workloads(seed: int) -> None:
    """A class counts each workload that is in it at some live address once, processes not at all."""
    world = random_world(Random(seed))
    engine = Engine.compile(world)
    counts = [0] * len(engine.classes)
    for workload in (w for w in world.inventory.workloads if w.kind != "process"):
        for number in {engine.class_of(workload, a) for a in engine.addresses_of(workload, world.at)}:
            counts[number] += 1
    assert engine.classes.workloads == counts
    for number, count in enumerate(counts):
        found = {end.workload.uuid for end in engine.members_of(number) if end.workload is not None}
        assert bool(found) == bool(count)
        assert all(engine.class_of(e.workload, e.address) == number for e in engine.members_of(number))


@pytest.mark.parametrize("seed", SEEDS)
def test_refining_by_other_policies_changes_no_answer(seed: int) -> None:
    """An engine cut finer has at least the peers of the plain one, and gives the same verdicts."""
    rng = Random(seed)
    world = random_world(rng)
    plain, finer = Engine.compile(world), Engine(world, refine_by=[random_policy(rng, "other")])
    assert plain.peers.index.keys() <= finer.peers.index.keys()
    for _ in range(15):
        flow = random_flow(rng, world)
        assert plain.decide(flow) == finer.decide(flow)
