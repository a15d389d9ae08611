"""What a proof claims holds for every connection the oracle is asked about, and a counterexample is one."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import msgspec
import pytest
from strategies import (
    BARE,
    HELD,
    NOW,
    POINTS,
    UNITS,
    flip,
    random_peer,
    random_services,
    random_world,
)

from ringfence.core.decide import decide
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.prove import Proof, prove
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode
from ringfence.core.net.address import INTERNET_RANGE, PRIVATE, is_v4
from ringfence.core.policy.model import Cidr, Everywhere, Expectation, Peer, Policy, Workloads
from ringfence.core.world import Endpoint, Flow, World

TESTS, SAMPLES = 6, 120
replace = msgspec.structs.replace


def provable_world(rng: Random) -> World:
    """A random world less what proofs leave out: isolation, passages, processes and answers to names."""
    world = random_world(rng)
    hosts = [w for w in world.inventory.workloads if w.kind != "process"]
    inventory = Inventory(hosts, ignore=world.inventory.ignore)
    return replace(world, inventory=inventory, quarantines=(), failsafe=(), names={}, as_mode=Mode.both("enforce"))


def random_expectation(rng: Random, number: int) -> Expectation:
    services, words = random_services(rng)
    return Expectation(
        sources=(random_peer(rng, None),),
        destinations=(random_peer(rng, None),),
        services=services,
        service_words=words,
        expect=rng.choice(("allowed", "blocked")),
        mutual_tls=flip(rng, 0.5),
        from_process=rng.choice(UNITS) if flip(rng, 0.3) else None,
        to_process=rng.choice(UNITS) if flip(rng, 0.3) else None,
        name=f"t{number}",
    )


def picked(world: World, peers: tuple[Peer, ...]) -> list[Endpoint]:
    """The ends in a peer: workloads at their live addresses, and addresses that nobody holds in any network."""
    held = {lease.address for w in world.inventory.workloads for lease in w.live_addresses(NOW)}
    ends = [Endpoint(w, x.address, x.network) for w in world.inventory.workloads for x in w.live_addresses(NOW)]
    ends += [Endpoint(address=address) for address in (*HELD, *BARE) if address not in held]
    return [end for end in ends if any(is_in(end, peer) for peer in peers)]


def is_in(end: Endpoint, peer: Peer) -> bool:
    assert end.address is not None
    if isinstance(peer, Workloads):
        return end.workload is not None and all(s.matches(end.workload.labels) for s in peer.selectors)
    if isinstance(peer, Cidr):
        return end.address in peer.addresses
    assert isinstance(peer, Everywhere)
    if peer.word == "internet":
        return end.workload is None and end.address in INTERNET_RANGE
    return peer.word == "anyone" or end.address in PRIVATE


def sampled(rng: Random, world: World, test: Expectation) -> list[Flow]:
    """Connections the test speaks of."""
    sources, destinations = picked(world, test.sources), picked(world, test.destinations)
    points = [point for point in POINTS if point in test.services]
    pairs = [(s, d) for s in sources for d in destinations if is_v4(s.address or 0) == is_v4(d.address or 0)]
    facts = {"mutual_tls": test.mutual_tls, "from_process": test.from_process, "to_process": test.to_process}
    return [Flow(*rng.choice(pairs), rng.choice(points), **facts) for _ in range(SAMPLES if pairs and points else 0)]


def contradicts(world: World, flow: Flow, expect: str) -> bool:
    """Whether a connection between ends that are not one and the same is not what the test expects."""
    verdict = decide(world, flow)
    if verdict.reason in ("essential", "uncontrolled"):
        return False
    return (verdict.verdict == "allowed") != (expect == "allowed")


def asked_by(world: World, proof: Proof) -> Expectation:
    return next(t for p in world.policies for t in p.tests if t.name == proof.name)


@pytest.mark.parametrize("block", range(4))
def test_what_is_proven_is_never_contradicted(block: int) -> None:
    """No sampled connection between the peers of a proven test, on its services, has another verdict."""
    for seed in range(block * 15, block * 15 + 15):
        rng = Random(seed)
        world = provable_world(rng)
        tests = Policy("tests", tests=tuple(random_expectation(rng, n) for n in range(TESTS)))
        world = replace(world, policies=(*world.policies, tests))
        for proof in prove(Engine.compile(world)):
            if proof.outcome == "proven":
                wrong = [f for f in sampled(rng, world, asked_by(world, proof)) if contradicts(world, f, proof.expect)]
                assert wrong == [], f"seed {seed}: {proof}"


def proofs() -> Iterator[Proof]:
    for seed in range(200, 260):
        rng = Random(seed)
        world = provable_world(rng)
        tests = Policy("tests", tests=tuple(random_expectation(rng, n) for n in range(TESTS)))
        yield from prove(Engine.compile(replace(world, policies=(*world.policies, tests))))


def test_a_counterexample_contradicts_its_test() -> None:
    """Every failed test shows one connection that is not essential, with the verdict that the test did not expect."""
    for proof in proofs():
        if proof.outcome == "failed":
            assert proof.counterexample is not None
            verdict = proof.counterexample.verdict
            assert (verdict.verdict == "allowed") != (proof.expect == "allowed"), proof
            assert verdict.reason != "essential", proof


def test_every_outcome_occurs_and_a_failure_is_shown() -> None:
    """Both expectations are proven, failed and unmatched somewhere; a failure always shows a connection."""
    outcomes = set()
    for proof in proofs():
        outcomes.add((proof.expect, proof.outcome))
        assert (proof.outcome == "failed") == (proof.counterexample is not None), proof
    assert outcomes >= {(e, o) for e in ("allowed", "blocked") for o in ("proven", "failed", "unmatched")}
