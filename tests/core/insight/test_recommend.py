"""Recommended policies permit what was seen, little more, and read like somebody wrote them."""

from __future__ import annotations

import random
from datetime import date
from functools import cache

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from insight_estate import HOUR, MONTH, START, Traffic, app, shop_inventory, shop_traffic, workload

from ringfence.core.decide import decide
from ringfence.core.engine import Engine
from ringfence.core.engine.prove import prove
from ringfence.core.errors import InputError, Location
from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode
from ringfence.core.insight.learning import LEVELS, Level
from ringfence.core.insight.noise import ASIDE
from ringfence.core.insight.parties import LabelKeys
from ringfence.core.insight.recommend import recommend
from ringfence.core.insight.recommendation import FATES, GAPS, Recommendation
from ringfence.core.labels.selector import parse_selector
from ringfence.core.policy.model import Conditions, Policy, Workloads
from ringfence.core.policy.parse import parse_policies
from ringfence.core.policy.printing import print_policy
from ringfence.core.world import REASONS, VERDICTS, Flow, World

ENFORCE = Mode.both("enforce")
LEARNED, ALREADY, UNCOVERED = (FATES.index(name) for name in ("learned", "already-allowed", "uncovered"))


@cache
def shop(level: Level = "port", tight: int = 5) -> tuple[Inventory, Conversations, Recommendation]:
    inventory = shop_inventory()
    rows = shop_traffic(inventory).build()
    return inventory, rows, recommend(rows, inventory, level=level, tight=tight)


def policies_of(text: str) -> tuple[Policy, ...]:
    return parse_policies({"p.yaml": text}).raise_if_errors()


def printed(found: Recommendation) -> dict[str, str]:
    return {policy.name: print_policy(policy) for policy in found.policies}


def placeless(policy: Policy) -> Policy:
    """Without locations, which only a file gives."""

    def bare(nodes):  # type: ignore[no-untyped-def]
        return tuple(msgspec.structs.replace(node, where=Location()) for node in nodes)

    return msgspec.structs.replace(
        policy, where=Location(), segments=bare(policy.segments), services=bare(policy.services),
        rules=bare(policy.rules), tests=bare(policy.tests),
    )  # fmt: skip


def replayed(inventory: Inventory, policies: tuple[Policy, ...], rows: Conversations) -> np.ndarray:
    """Every row's verdict with every controlled end enforcing."""
    return Engine.compile(World(inventory, policies)).judge(rows, as_mode=ENFORCE).verdict


def assert_sound(inventory: Inventory, rows: Conversations, found: Recommendation) -> None:
    """What must hold of every recommendation whatsoever."""
    verdict = replayed(inventory, found.policies, rows)
    blocked = {FATES[f] for f in found.fate[verdict == VERDICTS.index("blocked")].tolist()}
    assert blocked <= {"set-aside", "uncovered", "not-selected"}
    for policy in found.policies:
        peers = [p for rule in policy.rules for p in (*rule.sources, *rule.destinations)]
        used = [r for p in peers if isinstance(p, Workloads) for s in p.selectors for r in s.requirements]
        assert {r.op for r in used} <= {"in"}
    texts = printed(found)
    assert [placeless(p) for p in parse_policies(texts).raise_if_errors()] == [placeless(p) for p in found.policies]
    rare = (found.fate == FATES.index("set-aside")) & (found.reason == ASIDE.index("single-shot"))
    assert (rows.connections[rare] == 1).all()
    counted = found.coverage
    assert (
        counted.connections
        == int(rows.connections.sum())
        == sum((counted.learned, counted.already_allowed, counted.set_aside, counted.uncovered, counted.not_selected))
    )
    assert sum(e.connections for e in found.evidence) == counted.learned
    assert sum(x.connections for x in found.set_aside) == counted.set_aside
    assert sum(x.connections for x in found.uncovered) == counted.uncovered


class TestTheShop:
    """One hand-made estate, looked at closely."""

    def test_reads_as_if_written(self) -> None:
        """The shop's policy has its scope, its segments by role, one crisp rule a purpose, evidence above, and
        tests.
        """
        assert printed(shop()[2])["shop-prod"] == SHOP_PROD

    def test_core_services_are_one_rule_each(self) -> None:
        """DNS, monitoring and administration become general rules of an unscoped policy."""
        assert printed(shop()[2])["infrastructure"] == INFRASTRUCTURE

    @pytest.mark.parametrize("level", LEVELS)
    @pytest.mark.parametrize("tight", [0, 5, 10])
    def test_is_sound(self, level: Level, tight: int) -> None:
        """At every level and tightness replaying what was learned blocks nothing, and the text parses back equal."""
        assert_sound(*shop(level, tight))

    @pytest.mark.parametrize("level", LEVELS)
    def test_promises_hold(self, level: Level) -> None:
        """Every test a recommended policy carries is proven over the present classes."""
        inventory, _, found = shop(level)
        proofs = prove(Engine.compile(World(inventory, found.policies)))
        assert {proof.outcome for proof in proofs} == {"proven"}

    def test_oracle_agrees(self) -> None:
        """All ends enforcing, the oracle passes every learned connection and blocks all others."""
        inventory, rows, found = shop()
        world = World(inventory, found.policies, as_mode=ENFORCE)
        _, picks = np.unique(np.stack([rows.source, rows.destination, rows.point]), axis=1, return_index=True)
        for i in picks.tolist():
            flow = Flow(rows.endpoints[rows.source[i]], rows.endpoints[rows.destination[i]], int(rows.point[i]))
            passes = found.fate[i] == LEARNED
            assert decide(world, flow).verdict == ("allowed" if passes else "blocked"), flow

    def test_permits_nothing_unseen(self) -> None:
        """At port level the shop's application rules permit exactly the pairs that were seen."""
        permission = shop()[2].permission
        assert (permission.permitted, permission.seen, permission.precision) == (22, 22, 1.0)

    def test_levels_widen(self) -> None:
        """A tier names no services, a ring-fence no roles, and each permits more than the level before."""
        ports, tiers, fence = (shop(level)[2] for level in ("port", "tier", "ringfence"))
        assert "service: any" not in printed(ports)["shop-prod"]
        assert "{from: web, to: api, service: any}" in printed(tiers)["shop-prod"]
        assert "{from: all, to: all, service: any}" in printed(fence)["shop-prod"]
        assert "from: web, to: db" not in printed(tiers)["shop-prod"]
        assert fence.permission.permitted > tiers.permission.permitted

    @pytest.mark.parametrize("level", LEVELS)
    def test_crossing_applications_names_the_service(self, level: Level) -> None:
        """At every level another application gets a rule for its service only, in the destination's policy."""
        text = printed(shop(level)[2])["shop-prod"]
        assert 'allow: {from: "global: app=billing,env=prod,role=api", to: db, service: postgres}' in text

    def test_noise_is_listed(self) -> None:
        """The scanner and the single shot are set aside with examples, the unlabelled end is uncovered."""
        found = shop()[2]
        assert {x.reason: x.connections for x in found.set_aside} == {"scanner": 54, "single-shot": 1}
        assert {x.reason: x.connections for x in found.uncovered} == {"unlabelled": 10}
        assert found.uncovered[0].examples == ("mystery -> shop-prod-db-0 tcp/5432, 10 times",)
        assert "unlabelled-workload" in {f.code for f in found.findings}

    def test_evidence_counts(self) -> None:
        """A rule's evidence has its connections, who used it of whom it permits, and from when to when."""
        evidence = next(e for e in shop()[2].evidence if e.rule == "shop-prod/web-to-api")
        assert (evidence.connections, evidence.seen, evidence.permitted) == (4 * 10 * len(MONTH), 4, 4)
        assert (evidence.sources, evidence.sources_of, evidence.destinations, evidence.destinations_of) == (2, 2, 2, 2)
        assert (evidence.days, evidence.utilisation) == (30, 1.0)
        assert (evidence.first.timestamp(), evidence.last.timestamp()) == (START, START + MONTH[-1] * HOUR + 60)

    def test_confidence_by_policy(self) -> None:
        """Applications all of whose needs recur are ready; the one with a rare need says why not and what to do."""
        verdicts = {c.subject: c for c in shop()[2].by_policy}
        assert verdicts["crm-prod"].verdict == "ready"
        assert verdicts["crm-prod"].false_blocks_a_week == 0
        assert verdicts["billing-prod"].verdict == "not yet"
        assert len(verdicts["billing-prod"].why_not) == len(verdicts["billing-prod"].next_steps) == 1


class TestAnyEstate:
    """Random estates with random traffic, labelled well and badly."""

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10**6), level=st.sampled_from(LEVELS), tight=st.integers(0, 10))
    def test_is_sound(self, seed: int, level: Level, tight: int) -> None:
        """Whatever the labels, level and tightness: nothing learned is blocked, nothing is named by what it lacks."""
        inventory, rows = random_estate(seed)
        found = recommend(rows, inventory, level=level, tight=tight)
        assert_sound(inventory, rows, found)
        outcomes = {p.outcome for p in prove(Engine.compile(World(inventory, found.policies)))}
        assert outcomes <= {"proven"}

    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 10**6))
    def test_recommending_again_finds_nothing(self, seed: int) -> None:
        """With its own recommendation as the existing policies there is nothing left to recommend."""
        inventory, rows = random_estate(seed)
        first = recommend(rows, inventory)
        second = recommend(rows, inventory, existing=first.policies)
        assert second.policies == ()
        assert second.coverage.already_allowed >= first.coverage.learned

    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 10**6))
    def test_adding_to_existing(self, seed: int) -> None:
        """On top of half of the rules the rest comes back, in the same policies, and together they are sound."""
        inventory, rows = random_estate(seed)
        halves = tuple(
            msgspec.structs.replace(p, rules=p.rules[::2], tests=()) for p in recommend(rows, inventory).policies
        )
        found = recommend(rows, inventory, existing=halves)
        names = {p.name for p in found.policies}
        together = (*found.policies, *(p for p in halves if p.name not in names))
        verdict = replayed(inventory, together, rows)
        kept = np.isin(found.fate, (LEARNED, ALREADY))
        assert not (verdict[kept] == VERDICTS.index("blocked")).any()
        for policy in found.policies:
            old = next((p for p in halves if p.name == policy.name), None)
            assert old is None or policy.rules[: len(old.rules)] == old.rules

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 10**6))
    def test_tighter_is_never_wider(self, seed: int) -> None:
        """Where every workload has its own role, the tightest setting permits no pair and service that was not seen."""
        inventory, rows = random_estate(seed, is_distinct=True)
        assert recommend(rows, inventory, tight=10).permission.precision == 1.0


def random_estate(seed: int, *, is_distinct: bool = False) -> tuple[Inventory, Conversations]:
    rng = random.Random(seed)
    workloads = []
    for i in range(rng.randint(2, 25)):
        labels = {
            "app": rng.choice("abcd"),
            "env": rng.choice(("prod", "dev")),
            "role": rng.choice(("web", "api", "db")),
        }
        if is_distinct:
            labels["role"] = f"r{i}"
        else:
            labels["loc"] = rng.choice(("fra", "ams"))
            labels = {k: v for k, v in labels.items() if rng.random() < 0.9}
        kind = "device" if rng.random() < 0.1 else "host"
        workloads.append(workload(f"w{i}", f"10.0.{i % 3}.{i + 1}", kind, **labels))
    inventory = Inventory(workloads)
    traffic = Traffic(inventory)
    outside = [
        "198.51.100.7",
        "203.0.113.9",
        "10.0.1.200",
        "10.0.1.201",
        "172.16.5.5",
        "2001:db8::7",
        "fd00::5",
        "224.0.0.251",
    ]
    ends = [w.name for w in workloads] * 2 + outside
    services = ["tcp/443", "tcp/5432", "udp/53", "tcp/22", "tcp/9100", "udp/123", "icmp/echo", "tcp/50123", "proto/47"]
    services = [s for s in services if s not in ("udp/53", "icmp/echo")] if is_distinct else services
    for _ in range(rng.randint(0, 150)):
        source, destination = rng.choice(ends), rng.choice([*ends, "api.example.com"])
        traffic.add(
            source, destination, rng.choice(services), times=rng.choice((1, 2, 30)), hours=[rng.randrange(400)],
            confidence=rng.choice(("port-order", "fan-in", "originator")), packets=rng.choice((2, 10)),
            reported=rng.choice(("unknown", "unknown", "allowed", "blocked")),
        )  # fmt: skip
    return inventory, traffic.build()


class TestSelection:
    """Recommending for some workloads only."""

    def test_keeps_to_the_selected(self) -> None:
        """Only policies of the selected application come out, with the core services it uses."""
        inventory, rows, _ = shop()
        found = recommend(rows, inventory, select=parse_selector("app=billing"))
        assert [p.name for p in found.policies] == ["infrastructure", "billing-prod"]
        assert_sound(inventory, rows, found)

    def test_others_must_consent(self) -> None:
        """What the selected application asks of another is reported as needing its owner's consent, not granted."""
        inventory, rows, _ = shop()
        found = recommend(rows, inventory, select=parse_selector("app=billing"))
        asked = (found.fate == UNCOVERED) & (found.reason == GAPS.index("needs-consent"))
        ends = {rows.endpoints[i].workload.name for i in rows.destination[asked].tolist()}  # type: ignore[union-attr]
        assert ends == {"shop-prod-db-0"}


class TestExisting:
    """Recommending beside policies that are there."""

    def test_forbidden_stays_forbidden(self) -> None:
        """Traffic that an existing forbid bars is reported, and no rule is written for it."""
        inventory, rows, _ = shop()
        guard = policies_of("policy: guard\nrules:\n  - forbid: {from: app=billing, to: app=shop}\n")
        found = recommend(rows, inventory, existing=guard)
        assert {x.reason for x in found.uncovered} == {"forbidden", "unlabelled"}
        assert "billing" not in printed(found)["shop-prod"]

    def test_extends_the_policy_of_the_same_scope(self) -> None:
        """An existing policy keeps its text; its segments are reused by meaning, and only missing rules are added."""
        inventory, rows, _ = shop()
        [old] = policies_of(
            "policy: webshop\nowner: team-shop\nscope: app=shop,env=prod\n"
            "segments: {front: role=web, api: role=api}\n"
            "rules:\n  - {name: calls, allow: {from: front, to: api, service: tcp/8080}}\n"
        )
        found = recommend(rows, inventory, existing=(old,))
        new = next(p for p in found.policies if p.name == "webshop")
        assert (new.owner, new.rules[0], new.segments[:2]) == ("team-shop", old.rules[0], old.segments)
        assert [r.name for r in new.rules] == ["calls", "internet-to-front", "api-to-db", "billing-api-to-db"]
        assert "shop-prod" not in {p.name for p in found.policies}


class TestLabels:
    """Estates that label otherwise, or not enough."""

    def test_other_keys(self) -> None:
        """Kubernetes' recommended labels are taken where `app`, `env` and `role` are not in use."""
        keys = {"app.kubernetes.io/name": "shop", "namespace": "prod"}
        inventory = Inventory(
            [
                workload("a", "10.0.0.1", **keys, component="web"),
                workload("b", "10.0.0.2", **keys, component="db"),
            ]
        )
        rows = Traffic(inventory).add("a", "b", "tcp/5432", hours=MONTH).build()
        [policy] = recommend(rows, inventory).policies
        assert str(policy.scope) == "app.kubernetes.io/name=shop,namespace=prod"
        assert [(s.name, s.text) for s in policy.segments] == [("db", "component=db"), ("web", "component=web")]
        assert LabelKeys.found_in(inventory) == LabelKeys("app.kubernetes.io/name", "namespace", "component")

    def test_without_environment(self) -> None:
        """Where nobody has an environment the application alone is the scope."""
        inventory = Inventory(
            [workload("a", "10.0.0.1", app="x", role="web"), workload("b", "10.0.0.2", app="x", role="db")]
        )
        rows = Traffic(inventory).add("a", "b", "tcp/5432").build()
        [policy] = recommend(rows, inventory).policies
        assert (policy.name, str(policy.scope)) == ("x", "app=x")

    def test_without_role(self) -> None:
        """A workload without a role is named by its scope, and a finding says the rule is wider for it."""
        inventory = Inventory(
            [*app("x", "prod", "10.0.0", web=1, db=1), workload("odd", "10.0.0.9", app="x", env="prod")]
        )
        rows = Traffic(inventory).add("odd", "x-prod-db-0", "tcp/5432").build()
        found = recommend(rows, inventory)
        assert [r.sources[0].text for r in found.policies[0].rules] == ["all"]
        assert found.permission.precision < 1
        assert [f.code for f in found.findings] == ["missing-label"]

    def test_half_labelled_scope_gets_no_ring_fence(self) -> None:
        """Workloads with an application but no environment are never fenced in with those that have one."""
        inventory = Inventory([*app("x", "prod", "10.0.0", web=1), *app("x", "dev", "10.1.0", web=1),
                               workload("a", "10.2.0.1", app="x"), workload("b", "10.2.0.2", app="x")])  # fmt: skip
        rows = Traffic(inventory).add("a", "b", "tcp/5432").build()
        [policy] = recommend(rows, inventory, level="ringfence").policies
        assert [r.service_words for r in policy.rules] == [("postgres",)]

    def test_generalises_over_applications(self) -> None:
        """A service that all applications' workers use is opened to the role, one that two use to those two only."""
        names = [f"a{i}" for i in range(8)]
        others = [w for i in range(8) for w in app(f"a{i}", "prod", f"10.1.{i}", worker=1, web=1)]
        inventory = Inventory([*app("hub", "prod", "10.0.0", queue=1, cache=1), *others])
        traffic = Traffic(inventory)
        for name in names:
            traffic.add(f"{name}-prod-worker-0", "hub-prod-queue-0", "tcp/5672", hours=MONTH)
        for name in names[:2]:
            traffic.add(f"{name}-prod-worker-0", "hub-prod-cache-0", "tcp/6379", hours=MONTH)
        found = recommend(traffic.build(), inventory)
        text = printed(found)["hub-prod"]
        assert 'allow: {from: "global: env=prod,role=worker", to: queue, service: rabbitmq}' in text
        cache = next(r for p in found.policies for r in p.rules if r.service_words == ("redis",))
        assert [p.text for p in cache.sources] == [f"global: app=a{i},env=prod,role=worker" for i in (0, 1)]


class TestServices:
    """What a service becomes."""

    def test_dynamic_ports_are_one_range(self) -> None:
        """Many high ports in a known direction are the range they are drawn from, not a list."""
        inventory = Inventory(app("x", "prod", "10.0.0", web=1, db=1))
        traffic = Traffic(inventory)
        for port in range(50000, 50900, 100):
            traffic.add("x-prod-web-0", "x-prod-db-0", f"tcp/{port}")
        [policy] = recommend(traffic.build(), inventory).policies
        assert [r.service_words for r in policy.rules] == [("tcp/49152-65535",)]

    def test_services_of_one_pair_are_one_rule(self) -> None:
        """Ends that use several services get one rule that lists them, by name where they have one."""
        inventory = Inventory(app("x", "prod", "10.0.0", web=1, db=1))
        traffic = Traffic(inventory)
        for service in ("tcp/5432", "tcp/8080", "tcp/8081", "tcp/8082"):
            traffic.add("x-prod-web-0", "x-prod-db-0", service)
        [policy] = recommend(traffic.build(), inventory).policies
        assert [r.service_words for r in policy.rules] == [("postgres", "tcp/8080-8082")]

    def test_popular_services_are_believed(self) -> None:
        """One connection is little evidence alone, and enough where many others use the same service."""
        workers = [w for i in range(6) for w in app(f"a{i}", "prod", f"10.1.{i}", worker=1)]
        inventory = Inventory([*app("hub", "prod", "10.0.0", queue=1), *workers])

        def of(users: int) -> list[str]:
            traffic = Traffic(inventory)
            for i in range(users):
                traffic.add(f"a{i}-prod-worker-0", "hub-prod-queue-0", "tcp/5672", times=1)
            return [r.name for p in recommend(traffic.build(), inventory).policies for r in p.rules]

        assert of(4) == []
        assert of(6) == ["worker-to-queue"]

    def test_names_are_named(self) -> None:
        """A destination known by name only becomes an FQDN peer of the source's policy."""
        inventory = Inventory(app("x", "prod", "10.0.0", web=1))
        rows = Traffic(inventory).add("x-prod-web-0", "api.example.com", "tcp/443").build()
        [policy] = recommend(rows, inventory).policies
        assert [r.destinations[0].text for r in policy.rules] == ["api.example.com"]


def test_empty() -> None:
    """Nothing seen: nothing recommended, and not ready."""
    inventory = shop_inventory()
    found = recommend(Traffic(inventory).build(), inventory)
    assert (found.policies, found.evidence, found.coverage.connections) == ((), (), 0)
    assert found.confidence.why_not == ("no traffic was seen",)


def test_bad_arguments() -> None:
    """A tightness or level that does not exist is refused with a code."""
    inventory, rows, _ = shop()
    with pytest.raises(InputError) as tight:
        recommend(rows, inventory, tight=11)
    with pytest.raises(InputError) as level:
        recommend(rows, inventory, level="tiers")  # type: ignore[arg-type]
    assert (tight.value.code, level.value.code) == ("bad-tightness", "bad-level")


def test_reasons_are_named() -> None:
    """Every reason a row can have is a name people can look up."""
    found = shop()[2]
    reasons = {ASIDE[r] for r in found.reason[found.fate == FATES.index("set-aside")].tolist()}
    assert reasons == {"scanner", "single-shot"}
    assert "default" in REASONS


INFRASTRUCTURE = """\
# recommended from 12,272 conversations of 2026-09-07 to 2026-10-06: level port, tight 5
policy: infrastructure
because: "what every application needs: names, time, monitoring, administration"

rules:
  # seen 34,560 times, 12 of 14 workloads to 2 of 2, 2026-09-07 to 2026-10-06
  - name: dns
    allow: {from: env=prod, to: "app=dns,env=prod,role=dns", service: dns}
    because: everything resolves names
  # seen 18,720 times, 1 of 1 workloads to 13 of 14, 2026-09-07 to 2026-10-06
  - name: monitoring
    allow: {from: "app=prom,env=prod,role=monitoring", to: env=prod, service: node-exporter}
    because: metrics are scraped
  # seen 3,744 times, 1 of 1 workloads to 13 of 14, 2026-09-07 to 2026-10-06
  - name: admin
    allow: {from: "app=bastion,env=prod,role=jump", to: env=prod, service: ssh}
    because: administration goes through the jump hosts
"""

SHOP_PROD = """\
# recommended from 12,272 conversations of 2026-09-07 to 2026-10-06: level port, tight 5
policy: shop-prod
scope: app=shop,env=prod

segments:
  web: role=web
  api: role=api
  db:  role=db

rules:
  # seen 3,360 times, 30 addresses to 2 of 2 workloads, 2026-09-07 to 2026-10-05
  - name: internet-to-web
    allow: {from: internet, to: web, service: https}
  # seen 5,760 times, 2 of 2 workloads to 2 of 2, 2026-09-07 to 2026-10-06
  - name: web-to-api
    allow: {from: web, to: api, service: tcp/8080}
  # seen 2,880 times, 2 of 2 workloads to 1 of 1, 2026-09-07 to 2026-10-06
  - name: api-to-db
    allow: {from: api, to: db, service: postgres}
  # seen 2,880 times, 2 of 2 workloads to 1 of 1, 2026-09-07 to 2026-10-06
  - name: billing-api-to-db
    allow: {from: "global: app=billing,env=prod,role=api", to: db, service: postgres}

tests:
  - {from: web, to: api, service: tcp/8080, expect: allowed}
  - {from: api, to: db, service: postgres, expect: allowed}
  - {from: internet, to: [api, db], expect: blocked}
"""


def test_a_condition_somebody_wrote_is_not_undone_by_a_rule_beside_it() -> None:
    """Traffic that an existing allow covers but for its condition is shown as uncovered, never allowed outright."""
    inventory, conversations, first = shop()
    expired = Conditions(until=date(2000, 1, 1))
    existing = tuple(
        msgspec.structs.replace(p, rules=tuple(msgspec.structs.replace(r, conditions=expired) for r in p.rules))
        for p in first.policies
    )

    again = recommend(conversations, inventory, existing=existing)

    assert not again.evidence
    assert {row.reason for row in again.uncovered} - {row.reason for row in first.uncovered} == {"conditional"}
