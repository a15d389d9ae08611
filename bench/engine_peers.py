"""Two general policy engines on the engine's own question: may this identity connect to that one on this service?

The policy is the same 10,000 rules, mapped as favourably as each peer allows. Both are handed what Ringfence computes
for itself: which selectors pick an identity (as group membership) and which services contain a point (as action
groups), so neither has to match labels or port ranges. `allow` is permit/allow and `forbid` is forbid/deny-overrides.
A `deny` yields to any allow, and where every end enforces it decides what the default decides anyway, so it is left
out of both. Workloads are in no scope and under no condition, so both ends decide alike and one decision is one
connection. Verdicts are compared one by one.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable

import casbin
import cedarpy

from bench.measure import Figure, cpu_s
from ringfence.core.engine import Engine
from ringfence.core.engine.bits import lowest, members
from ringfence.core.world import Endpoint, Flow, World

QUESTIONS = 2_000
CEDAR_DECISIONS = 200
CASBIN_DECISIONS = 3
Question = tuple[int, int, int]
"""Source class, destination class, service atom."""

CASBIN_MODEL = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act, eft
[role_definition]
g = _, _
g2 = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g2(r.act, p.act) && g(r.sub, p.sub) && g(r.obj, p.obj)
"""


def peer_figures(world: World) -> list[Figure]:
    """Decisions a second of the engine, Cedar and Casbin, one by one from Python."""
    engine = Engine.compile(world)
    questions = _questions(engine)
    spent, ours = _ringfence(engine, questions)
    each_s = spent / len(questions)
    share = f"{sum(ours) / len(ours):.0%} allowed"
    figures = [
        Figure("Ringfence decide, one by one", 1 / each_s, "decisions/s", note=f"both ends, with rules; {share}")
    ]
    peers = (("Cedar (cedarpy)", _cedar, CEDAR_DECISIONS), ("Casbin (pycasbin)", _casbin, CASBIN_DECISIONS))
    for name, run, count in peers:
        spent, theirs = run(engine, questions[:count])
        if theirs != ours[:count]:
            raise AssertionError(f"{name} decides otherwise")
        note = f"same verdicts on {count}; Ringfence is {spent / count / each_s:,.0f} times as fast"
        figures.append(Figure(f"{name}, same policy", count / spent, "decisions/s", note=note))
    return figures


def _questions(engine: Engine) -> list[Question]:
    """Half on the ends and service of some allow, half anywhere; never an essential service."""
    rng = random.Random(17)
    present = [c for c, count in enumerate(engine.classes.workloads) if count]
    policy = engine.atoms.full & ~engine.essential
    atoms = list(members(policy))
    out: list[Question] = []
    while len(out) < QUESTIONS:
        number = rng.randrange(len(engine.rules))
        sides = ([c for c in present if engine.relation.rows(c)[side] >> number & 1] for side in (0, 1))
        sources, destinations = sides
        mask = engine.relation.masks[number] & policy
        if sources and destinations and mask:
            out.append((rng.choice(sources), rng.choice(destinations), lowest(mask)))
            out.append((rng.choice(present), rng.choice(present), rng.choice(atoms)))
    return out


def _ringfence(engine: Engine, questions: list[Question]) -> tuple[float, list[bool]]:
    """One workload of each class, two where a class talks to itself (a host talking to itself is essential)."""
    of_class: dict[int, list[Endpoint]] = {}
    for workload in engine.world.inventory.workloads:
        address = workload.addresses[0].address
        of_class.setdefault(engine.class_of(workload, address), []).append(Endpoint(workload, address))
    flows = [Flow(of_class[s][0], of_class[d][-1], engine.atoms.points(1 << a).ranges[0][0]) for s, d, a in questions]
    spent, verdicts = cpu_s(lambda: [engine.decide(flow) for flow in flows])
    return spent, [v.verdict == "allowed" for v in verdicts]


def _cedar(engine: Engine, questions: list[Question]) -> tuple[float, list[bool]]:
    """Policies that are all scope, no condition: the form Cedar evaluates fastest. Parsed once, not timed."""
    verbs = {"allow": "permit", "forbid": "forbid"}
    policies = "\n".join(
        f'{verbs[r.rule.action]} (principal in Peer::"{source}", action in Action::"s{n}", resource in Peer::"{dest}");'
        for n, r in enumerate(engine.rules)
        if r.rule.action in verbs
        for source, dest in [_ends(engine, n)]
    )
    entities = [_entity("Class", str(c), "Peer", map(str, _peers(engine, c))) for c in range(len(engine.classes))]
    entities += [_entity("Peer", str(p), "Peer", ()) for p in range(len(engine.peers))]
    entities += [_entity("Action", f"a{a}", "Action", _groups(engine, a)) for a in range(len(engine.atoms))]
    known, parsed = cedarpy.PolicySet.from_str(policies), cedarpy.Entities.from_json_str(json.dumps(entities))
    requests = [
        {"principal": f'Class::"{s}"', "action": f'Action::"a{a}"', "resource": f'Class::"{d}"', "context": {}}
        for s, d, a in questions
    ]
    spent, results = cpu_s(lambda: cedarpy.is_authorized_batch(requests, known, parsed), runs=1)
    return spent, [result.allowed for result in results]


def _entity(kind: str, name: str, parent: str, parents: Iterable[str]) -> dict[str, object]:
    above = [{"type": parent, "id": p} for p in parents]
    return {"uid": {"type": kind, "id": name}, "attrs": {}, "parents": above}


def _casbin(engine: Engine, questions: list[Question]) -> tuple[float, list[bool]]:
    """Role-based access control with deny-override; the questions' own classes and atoms are the only role members."""
    model = casbin.Enforcer.new_model(text=CASBIN_MODEL)
    enforcer = casbin.Enforcer(model, enable_log=False)
    effects = {"allow": "allow", "forbid": "deny"}
    enforcer.add_policies(
        [
            [*(f"p{peer}" for peer in _ends(engine, n)), f"s{n}", effects[r.rule.action]]
            for n, r in enumerate(engine.rules)
            if r.rule.action in effects
        ]
    )
    classes, atoms = {c for s, d, _ in questions for c in (s, d)}, {a for _, _, a in questions}
    enforcer.add_grouping_policies([[f"c{c}", f"p{p}"] for c in sorted(classes) for p in _peers(engine, c)])
    enforcer.add_named_grouping_policies(
        "g2", [[f"a{a}", group] for a in sorted(atoms) for group in _groups(engine, a)]
    )
    asked = [(f"c{s}", f"c{d}", f"a{a}") for s, d, a in questions]
    spent, allowed = cpu_s(lambda: [bool(enforcer.enforce(*one)) for one in asked], runs=1)
    return spent, allowed


def _ends(engine: Engine, number: int) -> tuple[int, int]:
    """The selectors of a rule of the estate (it has one a side), by number."""
    rule = engine.rules[number].rule
    source, destination = engine.peers.id(rule.sources[0]), engine.peers.id(rule.destinations[0])
    assert source is not None
    assert destination is not None
    return source, destination


def _peers(engine: Engine, class_: int) -> list[int]:
    return list(members(engine.classes.membership[class_]))


def _groups(engine: Engine, atom: int) -> list[str]:
    """One action group a rule: the rules whose services contain the atom."""
    return [f"s{n}" for n in members(engine.relation.services[atom])]
