"""Lint: each code has a planted case and a clean one, and what it says could go changes no verdict when it goes."""

from __future__ import annotations

from datetime import date
from random import Random

import pytest
from strategies import POINTS, random_flow, random_policy, random_world
from worlds import ENFORCE, host, replace, rows_of, rule, world_of

from ringfence.core.decide import decide
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.lint import cardinality, lint, unused
from ringfence.core.errors import Finding
from ringfence.core.identity.inventory import Inventory
from ringfence.core.net.service import parse_service
from ringfence.core.policy.model import Conditions, Rule
from ringfence.core.world import Endpoint, Flow, World

WEB, DB, API = (host(name, f"role={name},app=shop", f"10.0.0.{n}") for n, name in enumerate(("web", "db", "api"), 1))
ESTATE = [WEB, DB, API]
TLS = Conditions(mutual_tls=True)


def found(*rules: Rule) -> list[tuple[str, str]]:
    """(code, rule) of every finding."""
    return [(f.code, f.subject) for f in lint(Engine.compile(world_of(ESTATE, *rules)))]


def sql(name: str, *services: str, source: str = "role=web", conditions: Conditions | None = None) -> Rule:
    more = {"conditions": conditions} if conditions is not None else {}
    return rule(name, "allow", source, "role=db", *(services or ("tcp/5432",)), **more)


def test_a_clean_set_has_no_findings() -> None:
    """Rules that each open something of their own are left alone."""
    assert found(sql("a"), sql("b", "tcp/1521"), rule("c", "deny", "anyone", "role=db")) == []


def test_duplicate() -> None:
    """The same meaning twice: the later name is the duplicate, whatever its words."""
    assert found(sql("a"), sql("b")) == [("duplicate", "p/b")]
    assert found(sql("a"), sql("b", conditions=TLS)) != [("duplicate", "p/b")]


def test_shadowed() -> None:
    """One wider rule of the same action covers all of it."""
    assert found(sql("a", "tcp"), sql("b")) == [("shadowed", "p/b")]
    assert found(sql("a", "udp"), sql("b")) == []


def test_redundant() -> None:
    """No single rule covers it, two together do."""
    halves = [sql("a", "tcp/1-99"), sql("b", "tcp/100-200")]
    assert found(*halves, sql("c", "tcp/50-150")) == [("redundant", "p/c")]
    assert found(*halves, sql("c", "tcp/50-150", "udp/1")) == []


def test_of_two_that_cover_each_other_one_stays() -> None:
    """Everything that is called superfluous may go at once: the wide rule goes, so its two halves stay."""
    assert found(sql("a", "tcp/1-99"), sql("b", "tcp/100-200"), sql("c", "tcp/1-200")) == [("redundant", "p/c")]
    assert found(sql("c", "tcp/1-200"), sql("x", "tcp/1-99"), sql("y", "tcp/100-200")) == [
        ("shadowed", "p/x"),
        ("shadowed", "p/y"),
    ]


def test_a_condition_covers_nothing() -> None:
    """A rule under a condition makes no other superfluous, and is itself superfluous under an unconditional one."""
    assert found(sql("a", "tcp", conditions=TLS), sql("b")) == []
    assert found(sql("a", "tcp"), sql("b", conditions=TLS)) == [("shadowed", "p/b")]


def test_another_action_covers_nothing() -> None:
    """A deny within an allow is not shadowed by it, nor an allow by a deny."""
    assert found(sql("a", "tcp"), rule("b", "deny", "role=web", "role=db", "tcp/5432")) == []


def test_contradictory() -> None:
    """An allow that forbids leave nothing of; where they leave some, it is only worth knowing."""
    (total,) = lint(Engine.compile(world_of(ESTATE, sql("a"), rule("no", "forbid", "role=web", "role=db"))))
    assert (total.code, total.subject, total.severity) == ("contradictory", "p/a", "warning")
    assert "`p/no`" in total.message
    wide = sql("a", source="app=shop")
    (part,) = lint(Engine.compile(world_of(ESTATE, wide, rule("no", "forbid", "role=web", "role=db"))))
    assert (part.code, part.severity) == ("contradictory", "info")
    assert "1 of 3" in part.message
    assert found(sql("a"), rule("no", "forbid", "role=web", "role=db", "tcp/22")) == []


def test_a_rule_about_nobody_is_not_called_redundant() -> None:
    """It opens nothing, but `unmatched` says why; lint is silent."""
    assert found(sql("a", "tcp"), sql("b", source="role=nobody")) == []


def test_a_scoped_rule_is_not_covered_by_one_that_does_not_speak_there() -> None:
    """Consent counts: an allow that does not speak at the destination covers nothing there."""
    wide, own = rule("wide", "allow", "role=web", "role=db", "tcp"), sql("own")
    theirs = world_of(ESTATE, wide, scope="role=web")
    world = replace(theirs, policies=(*theirs.policies, replace(world_of([], own).policies[0], name="q")))
    assert [f.subject for f in lint(Engine.compile(world)) if f.code in ("shadowed", "redundant")] == []


def test_a_process_keeps_the_rule_that_only_it_needs() -> None:
    """A rule that covers the host by a label its process overrides does not cover the process."""
    mine = parse_service("tcp/1")
    worker = host("worker", "role=batch", kind="process", host="web", unit="w.service", services=mine)
    rules = (sql("by-app", source="app=shop"), sql("by-role"))
    assert found(*rules) == [("shadowed", "p/by-role")]
    world = world_of([*ESTATE, worker], sql("a-role"), replace(sql("b-app", source="app=shop,role in (web,batch)")))
    assert [(f.code, f.subject) for f in lint(Engine.compile(world))] == [("shadowed", "p/a-role")]


def test_no_traffic() -> None:
    """A rule that decided no observed connection is said to be unused; one that did is not."""
    world = world_of(ESTATE, sql("used"), sql("idle", "tcp/1521"))
    engine = Engine.compile(world)
    point = parse_service("tcp/5432").ranges[0][0]
    flow = Flow(Endpoint(WEB, WEB.addresses[0].address), Endpoint(DB, DB.addresses[0].address), point)
    findings = unused(engine, engine.judge(rows_of([flow])), 30)
    assert [(f.code, f.subject) for f in findings] == [("no-traffic", "p/idle")]


def test_identity_per_workload() -> None:
    """A key with a value of its own on nearly every workload is named; an ignored one is not."""
    pods = [host(f"pod{n}", f"app=shop,hash=h{n}") for n in range(60)]
    assert [f.subject for f in cardinality(Engine.compile(world_of(pods)))] == ["hash"]
    ignoring = replace(world_of(pods), inventory=Inventory(pods, ignore=("hash",)))
    assert cardinality(Engine.compile(ignoring)) == ()
    assert cardinality(Engine.compile(world_of(pods[:20]))) == ()


def superfluous(world: World) -> list[Finding]:
    findings = lint(Engine.compile(world))
    return [f for f in findings if f.code in ("duplicate", "shadowed", "redundant")]


def without(world: World, ref: str) -> World:
    policies = (replace(p, rules=tuple(r for r in p.rules if p.ref(r) != ref)) for p in world.policies)
    return replace(world, policies=tuple(policies))


def crowded(seed: int) -> tuple[Random, World]:
    """A random world with more rules than usual, so that some are superfluous."""
    rng = Random(seed)
    world = random_world(rng)
    more = [random_policy(rng, f"r{n}") for n in range(4)]
    again = [replace(policy, name=f"{policy.name}-again", rules=policy.rules[:2]) for policy in more[:1]]
    return rng, replace(world, policies=(*world.policies, *more, *again))


@pytest.mark.parametrize("seed", range(9500, 9540))
def test_what_lint_calls_superfluous_may_go(seed: int) -> None:
    """Without all duplicate, shadowed and redundant rules every flow keeps its verdict and reason, in any mode."""
    rng, world = crowded(seed)
    lighter = world
    for finding in superfluous(world):
        lighter = without(lighter, finding.subject)
    for _ in range(100 if lighter is not world else 0):
        flow = random_flow(rng, world)
        before, after = decide(world, flow), decide(lighter, flow)
        assert (before.verdict, before.reason) == (after.verdict, after.reason), flow


def test_random_worlds_have_superfluous_rules_of_every_code() -> None:
    """The law above is asked of every code."""
    codes = {f.code for seed in range(9500, 9540) for f in superfluous(crowded(seed)[1])}
    assert codes == {"duplicate", "shadowed", "redundant"}


@pytest.mark.parametrize("seed", range(9500, 9520))
def test_a_contradictory_allow_allows_nothing(seed: int) -> None:
    """An allow of which nothing is left names no allowed connection between present ends."""
    rng, world = crowded(seed)
    world = replace(world, as_mode=ENFORCE)
    dead = {f.subject for f in lint(Engine.compile(world)) if f.code == "contradictory" and f.severity == "warning"}
    hosts = [w for w in world.inventory.workloads if w.kind != "process"]
    ends = [Endpoint(w, lease.address) for w in hosts for lease in w.live_addresses(world.at)]
    for source, destination in ((s, d) for s in ends for d in ends if s.workload is not d.workload):
        verdict = decide(world, Flow(source, destination, rng.choice(POINTS), 1024, mutual_tls=True))
        assert verdict.verdict != "allowed" or verdict.rule not in dead


def test_strips_find_what_the_whole_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The findings do not depend on how many rows are painted at a time."""
    worlds = [crowded(seed)[1] for seed in range(9500, 9510)]
    whole = [lint(Engine.compile(world)) for world in worlds]
    monkeypatch.setattr("ringfence.core.engine.matrix.STRIP_CELLS", 20)
    assert [lint(Engine.compile(world)) for world in worlds] == whole
    assert any(whole)


def test_until_is_no_cover() -> None:
    """A rule with an end date covers nothing for good."""
    assert found(sql("a", "tcp", conditions=Conditions(until=date(2030, 1, 1))), sql("b")) == []
