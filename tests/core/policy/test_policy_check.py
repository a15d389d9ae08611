"""What `check` finds with an inventory at hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.core.errors import Finding
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Workload, derived_uuid
from ringfence.core.labels.selector import parse_selector
from ringfence.core.policy.check import check
from ringfence.core.policy.parse import parse_policies
from ringfence.core.policy.population import Population

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


def workload(name: str, labels: str = "", **more: object) -> Workload:
    pairs = dict(pair.split("=") for pair in labels.split(",") if pair)
    return Workload(name, derived_uuid(name), pairs, **more)  # type: ignore[arg-type]


ESTATE = Inventory(
    [
        workload("web1", "app=shop,env=prod,role=web"),
        workload("db1", "app=shop,env=prod,role=db"),
        workload("dev1", "app=shop,env=dev,role=web"),
    ]
)


def found(text: str, inventory: Inventory = ESTATE, at: datetime = NOW, **more: object) -> list[Finding]:
    policies = parse_policies({"p.yaml": text}).raise_if_errors()
    return list(check(policies, inventory, at, **more))  # type: ignore[arg-type]


def codes(findings: list[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def rules(*lines: str, head: str = "") -> str:
    return f"policy: p\n{head}rules:\n" + "".join(f"  - {line}\n" for line in lines)


def test_a_sound_policy_has_no_findings() -> None:
    """Segments in use, peers that exist and no dates: nothing to say."""
    head = "scope: app=shop\nsegments: {web: role=web}\n"
    text = rules("allow: {from: web, to: role=db, service: tcp/5432}", head=head)
    assert found(text) == []


def test_every_finding_is_a_warning_with_place_and_subject() -> None:
    """Nothing `check` says stops a publish, and everything says where and about what."""
    text = rules("allow: {from: anyone, to: anyone, service: any}", "deny: {from: role=x, to: anyone}")
    findings = found(text)
    assert {f.severity for f in findings} == {"warning"}
    assert all(f.where.file == "p.yaml" and f.where.line and f.subject.startswith("p/") and f.help for f in findings)


@pytest.mark.parametrize(
    ("selector", "help_"),
    [
        ("role=wbe", "did you mean `role=web`?"),
        ("rloe=web", "did you mean `role`?"),
        ("role=printer", "known values: `db`, `web`"),
        ("colour=red", "known keys: `app`, `env`, `role`"),
        ("env=dev,role=db", "none matches them all"),
        ("colour,role=web", "known keys"),
    ],
)
def test_unmatched_selectors_say_what_was_probably_meant(selector: str, help_: str) -> None:
    """A selector that picks nobody is told, with the nearest label that exists."""
    findings = [f for f in found(rules(f'deny: {{from: "{selector}", to: anyone}}')) if f.code == "unmatched"]
    assert len(findings) == 1
    assert help_ in findings[0].help


def test_an_unmatched_segment_is_told_once_where_it_is_defined() -> None:
    """Ten uses of a segment that picks nobody add nothing; the scope counts."""
    uses = [f"allow: {{from: dev, to: dev, service: tcp/{port}}}" for port in range(1, 11)]
    findings = found(rules(*uses, head="scope: env=test\nsegments: {dev: role=web}\n"))
    assert [(f.code, f.where.line, f.subject) for f in findings] == [("unmatched", 3, "p.dev")]


def test_unmatched_peers_of_tests_are_told() -> None:
    """A test that would prove something about nobody is told too."""
    assert codes(found("policy: p\ntests: [{from: role=web, to: role=cache, expect: blocked}]\n")) == ["unmatched"]


def test_another_policys_segment_is_judged_with_both_scopes() -> None:
    """`a.web` in the scope env=dev picks nobody where a's scope is env=prod's application."""
    text = (
        "policy: a\nscope: env=prod\nsegments: {web: role=web}\nrules:\n  - deny: {from: web, to: anyone}\n"
        "---\npolicy: b\nscope: app=crm\nrules:\n  - deny: {from: a.web, to: anyone}\n"
    )
    assert [(f.code, f.text) for f in found(text) if f.where.line > 5] == [("unmatched", "a.web")]


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        ("2026-06-14", ["expired"]),
        ("2026-06-15", ["expires-soon"]),
        ("2026-06-29", ["expires-soon"]),
        ("2026-06-30", []),
    ],
)
def test_dates(until: str, expected: list[str]) -> None:
    """A rule holds through its last day, UTC; the last fourteen days are told."""
    text = rules(f"allow: {{from: role=web, to: role=db, service: ssh, until: {until}}}")
    assert codes(found(text)) == expected
    elsewhere = NOW.astimezone(timezone(timedelta(hours=14)))
    assert codes(found(text, at=elsewhere)) == expected


@pytest.mark.parametrize(
    ("body", "is_broad"),
    [
        ("allow: {from: anyone, to: anyone, service: ssh}", True),
        ("allow: {from: [role=web, anyone], to: [anyone, role=db], service: ssh}", True),
        ("allow: {from: internet, to: role=web, service: any}", True),
        ("allow: {from: private, to: role=web, service: [ssh, any]}", True),
        ("allow: {from: internet, to: role=web, service: https}", False),
        ("allow: {from: role=web, to: role=db, service: any}", False),
        ("deny: {from: anyone, to: anyone}", False),
    ],
)
def test_over_broad(body: str, is_broad: bool) -> None:
    """Everyone to everyone, and every service from outsiders, is told of an allow and of nothing else."""
    assert ("over-broad" in codes(found(rules(body)))) == is_broad


def test_unlabelled_workloads_escape_a_forbid() -> None:
    """Workloads that lack the tested key are counted, five are named, and no others."""
    nameless = [workload(f"n{i}", "app=shop") for i in range(7)]
    estate = Inventory([*ESTATE.workloads, *nameless, workload("other", "app=crm")])
    findings = found(rules('forbid: {from: "app=shop,env=dev", to: role=db}'), estate)
    env, role = findings
    assert (env.code, env.text, env.subject[:9]) == ("unlabelled-escape", "env", "p/forbid-")
    assert "7 workloads have no label `env`" in env.message
    assert env.help == "label them with `env`: `n0`, `n1`, `n2`, `n3`, `n4` and 2 more"
    assert "8 workloads have no label `role`" in role.message


@pytest.mark.parametrize("selector", ["env!=dev", "!env", "env notin (dev,test)"])
def test_requirements_that_a_missing_key_meets_let_nobody_escape(selector: str) -> None:
    """A workload without the key does match `!=`, `notin` and `!key`, so it does not escape."""
    estate = Inventory([*ESTATE.workloads, workload("bare")])
    assert "unlabelled-escape" not in codes(found(rules(f'deny: {{from: "{selector}", to: anyone}}'), estate))


def test_an_allow_lets_nobody_escape() -> None:
    """A workload that an allow misses stays closed: nothing to tell."""
    estate = Inventory([*ESTATE.workloads, workload("bare")])
    assert found(rules("allow: {from: role=web, to: role=db, service: ssh}"), estate) == []


def test_processes_count_with_their_hosts_labels() -> None:
    """A process inherits its host's labels, so it does not escape for want of them."""
    process = workload("db1/pg", "", kind="process", host="db1", unit="postgres.service")
    estate = Inventory([*ESTATE.workloads, process])
    assert found(rules("forbid: {from: env=dev, to: role=db}"), estate) == []


def test_an_unused_segment_is_told_once() -> None:
    """A segment that nobody uses and that picks nobody is one thing to mend, not two; one in use that does is told."""
    text = "policy: a\nsegments: {idle: role=none, used: role=none}\nrules:\n  - deny: {from: used, to: anyone}\n"
    assert [(f.code, f.text) for f in found(text)] == [("unused-segment", "idle"), ("unmatched", "role=none")]


def test_unused_definitions() -> None:
    """Segments and services no rule or test names are told; crown jewels and those used elsewhere are not."""
    text = (
        "policy: a\n"
        "segments: {used: role=web, idle: role=db, jewel: {selector: role=db, crown_jewel: true}, out: env=dev}\n"
        "services: {s1: tcp/1, s2: tcp/2, s3: tcp/3}\n"
        "rules:\n  - deny: {from: used, to: anyone, service: s1}\n"
        "---\npolicy: b\n"
        'tests: [{from: "global: a.out", to: role=web, service: a.s3, expect: blocked}]\n'
    )
    assert [(f.code, f.text) for f in found(text)] == [("unused-segment", "idle"), ("unused-service", "s2")]


def test_unresolved_names() -> None:
    """A DNS name without an answer is told if answers are given at all; a wildcard needs one name below it."""
    text = rules('allow: {from: role=web, to: [a.example.com, b.example.com, "*.example.org"], service: https}')
    answers = {"a.example.com": [1], "b.example.com": [], "x.example.org": [1]}
    assert found(text) == []
    assert [f.text for f in found(text, names=answers)] == ["b.example.com"]
    without = ["a.example.com", "b.example.com", "*.example.org"]
    assert [f.text for f in found(text, names={"example.org": [1]})] == without


def test_ignored_keys_are_no_labels() -> None:
    """Keys that make no identities do not split the population."""
    estate = Inventory([workload("a", "k=1,role=web"), workload("b", "k=2,role=web")], ignore=["k"])
    population = Population(estate)
    assert (population.keys, population.members) == (("role",), [["a", "b"]])


LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"), max_size=3)
SELECTORS = st.lists(
    st.sampled_from(["a=x", "a!=x", "a", "!a", "b in (x,y)", "b notin (y,z)", "c=z", "!c"]), min_size=1, max_size=3
).map(lambda parts: parse_selector(",".join(parts)))


@given(st.lists(LABELS, max_size=8), st.lists(SELECTORS, min_size=1, max_size=2))
def test_the_population_agrees_with_the_selectors(labels: list[dict[str, str]], selectors: list[object]) -> None:
    """The bitmaps pick exactly the workloads that `Selector.matches` picks one by one."""
    estate = Inventory([Workload(f"w{i}", derived_uuid(f"w{i}"), found) for i, found in enumerate(labels)])
    population = Population(estate)
    expected = sorted(w.name for w in estate.workloads if all(s.matches(w.labels) for s in selectors))  # type: ignore[attr-defined]
    assert population.names(population.picked(selectors)) == expected  # type: ignore[arg-type]
