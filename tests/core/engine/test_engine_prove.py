"""What a proof shows: a connection people know, and the rules that let it pass, with their lines."""

from __future__ import annotations

from random import Random

import pytest
from strategies import flip, random_peer, random_services
from worlds import ENFORCE, host, provable_world, replace

from ringfence.core.decide import decide
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.prove import Proof, prove
from ringfence.core.errors import Location
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Workload
from ringfence.core.net.service import ANY
from ringfence.core.policy.model import Expectation, Policy, Rule
from ringfence.core.policy.parse import parse_policies
from ringfence.core.world import World

WEB, DB = host("web", "role=web", "10.0.0.1"), host("db", "role=db", "10.0.0.2")


def proof_of(text: str, *workloads: Workload) -> Proof:
    """The one proof of a policy with one test."""
    policies = parse_policies({"p.yaml": text}).raise_if_errors()
    world = World(Inventory(workloads or (WEB, DB)), policies, as_mode=ENFORCE)
    (proof,) = prove(Engine.compile(world))
    return proof


@pytest.mark.parametrize(
    ("opened", "shown"),
    [
        ("any", "tcp/22"),
        ("[tcp/443, tcp/9]", "tcp/443"),
        ("[tcp/1-1000]", "tcp/22"),
        ("[udp/1-100, tcp/8, proto/47]", "udp/53"),
        ("[proto/47, udp/7, tcp/9]", "tcp/9"),
        ("[proto/47, udp/7]", "udp/7"),
        ("proto/47", "proto/47"),
        ("[tcp/7000, tcp/6999]", "tcp/6999"),
        ("[tcp/7000, odd]", "tcp/7777"),
    ],
)
def test_a_counterexample_is_on_the_service_people_know(opened: str, shown: str) -> None:
    """SSH or HTTPS where they contradict, then what policies name, the dictionary, then the plainest port."""
    proof = proof_of(
        "policy: p\nservices: {odd: tcp/7777}\n"
        f"rules:\n  - allow: {{from: role=web, to: role=db, service: {opened}}}\n"
        "tests:\n  - {from: role=web, to: role=db, expect: blocked}\n"
    )
    assert proof.counterexample is not None
    assert proof.counterexample.service == shown
    assert proof.counterexample.verdict.verdict == "allowed"


OPEN = """policy: p
rules:
  - name: b
    allow: {from: role=web, to: role=db, service: ssh}
  - name: a
    allow: {from: anyone, to: role=db, service: tcp}
"""


def test_a_failed_blocked_names_every_rule_that_allows_at_each_end() -> None:
    """All rules that let the counterexample pass, at both ends, with file and line, in the order of their names."""
    proof = proof_of(OPEN + "tests: [{from: role=web, to: role=db, expect: blocked}]\n")
    here = [("p/a", Location("p.yaml", 5, 5)), ("p/b", Location("p.yaml", 3, 5))]
    assert [(by.end, by.rule, by.where) for by in proof.allowed_by] == [
        (end, *rule_) for end in ("source", "destination") for rule_ in here
    ]
    assert proof.message == "web -> db tcp/22 is allowed by p/a (p.yaml:5:5), p/b (p.yaml:3:5)"


def test_an_end_nobody_controls_has_no_rule() -> None:
    """Where one end has no enforcement point only the other's rules are named."""
    device = replace(WEB, kind="device")
    proof = proof_of(OPEN + "tests: [{from: role=web, to: role=db, expect: blocked}]\n", device, DB)
    assert {by.end for by in proof.allowed_by} == {"destination"}


def test_a_proven_allowed_shows_an_example_and_its_rules() -> None:
    """What is allowed is allowed by somebody's rule, and the proof says whose."""
    proof = proof_of(OPEN + "tests: [{from: role=web, to: role=db, service: tcp/80, expect: allowed}]\n")
    assert proof.outcome == "proven"
    assert proof.example is not None
    assert (proof.example.source, proof.example.destination, proof.example.service) == ("web", "db", "tcp/80")
    assert [(by.end, by.rule) for by in proof.allowed_by] == [("source", "p/a"), ("destination", "p/a")]


def test_what_holds_by_blocking_has_no_rule() -> None:
    """A proven `expect: blocked` and a failed `expect: allowed` are nobody's permission."""
    blocked = proof_of(OPEN + "tests: [{from: role=db, to: role=web, expect: blocked}]\n")
    closed = proof_of(OPEN + "tests: [{from: role=db, to: role=web, service: ssh, expect: allowed}]\n")
    assert (blocked.outcome, blocked.allowed_by, blocked.example) == ("proven", (), None)
    assert (closed.outcome, closed.allowed_by) == ("failed", ())


def random_test(rng: Random, number: int) -> Expectation:
    services, words = random_services(rng) if flip(rng, 0.7) else (ANY, ("any",))
    sides = (random_peer(rng, None),), (random_peer(rng, None),)
    return Expectation(*sides, services, words, rng.choice(("allowed", "blocked")), name=f"t{number}")


@pytest.mark.parametrize("seed", range(8300, 8330))
def test_the_rules_named_are_those_that_allow(seed: int) -> None:
    """With only the named rules left the connection still passes; with them gone it does not."""
    rng = Random(seed)
    world = provable_world(rng)
    tests = Policy("tests", tests=tuple(random_test(rng, n) for n in range(8)))
    for proof in prove(Engine.compile(replace(world, policies=(*world.policies, tests)))):
        shown = proof.counterexample if proof.expect == "blocked" else proof.example
        if shown is None or shown.verdict.reason != "allow":
            assert shown is not None or not proof.allowed_by
            continue
        named = {by.rule for by in proof.allowed_by}
        assert named
        assert decide(_keeping(world, named, keep=True), shown.flow).verdict == "allowed", proof
        assert decide(_keeping(world, named, keep=False), shown.flow).verdict == "blocked", proof


def _keeping(world: World, refs: set[str], *, keep: bool) -> World:
    """The world with only these allows, or with all but these; other rules stay."""

    def stays(policy: Policy, one: Rule) -> bool:
        return one.action != "allow" or (policy.ref(one) in refs) == keep

    policies = tuple(replace(p, rules=tuple(r for r in p.rules if stays(p, r))) for p in world.policies)
    return replace(world, policies=policies)
