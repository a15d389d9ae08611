"""The whole way of a fleet by its command line: logs sent, a policy recommended for what the controller saw, written
into the estate, planned; nobody's own text is lost on it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from fleet import AT_ONCE, Fleet, fleet_in
from serving import SHOP, VPC_FIELDS, eventually, refused

from ringfence.cli.drafts import plan_proposals
from ringfence.client.explore import Explore
from ringfence.controller.study.edges import proposals_of
from ringfence.core.policy.parse import parse_policies
from ringfence.wire import api, study
from ringfence.wire.explore import RuleProposal

LEDGER = "---\npolicy: ledger\nowner: team-ledger\nscope: app=ledger\nrules: []\n"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Its policies are in one file; two days of traffic, half of which no rule speaks of, came by the command line."""
    with fleet_in(tmp_path) as made:
        ledger = made.client.workload("db").uuid
        assert made.ring("label", ledger, "--put", "app=ledger", "--why", "it moved", "--yes").exit_code == 0
        made.publish(SHOP.partition("tests:")[0] + LEDGER)
        start = int((datetime.now(UTC) - timedelta(days=2)).timestamp())
        flows = [
            f"2 1 eni-1 {source} {to} {40_000 + n} {port} 6 10 840 {start + 600 * n} {start + 600 * n + 9} ACCEPT OK\n"
            for n in range(200)
            for source, to, port in (("10.0.0.1", "10.0.0.2", 6379), ("10.0.0.2", "10.0.0.1", 9200))
        ]
        (tmp_path / "flows.log").write_text(VPC_FIELDS + "".join(flows))
        sent = made.json("flows", "import", str(tmp_path / "flows.log"), "--fleet")
        assert [job["connections"] for job in sent["jobs"]] == [400], sent
        yield made


def test_what_the_controller_saw_becomes_a_policy_here(fleet: Fleet) -> None:
    """The answer is the controller's; both policies of a file are extended in it, once; the plan opens what is missing;
    asked again, there is nothing to write."""
    told = fleet.client.explore.recommend(study.AskRecommend())
    said = fleet.json("recommend", "--fleet")
    assert said["policies"] == {one.policy: one.text for one in told.files}
    assert [row["rule"] for row in said["evidence"]] == [rule.rule for rule in told.rules]
    assert len(told.rules) == 2
    assert said["coverage"]["connections"]["learned"] == 400
    text = fleet.ring("recommend", "--fleet").stdout
    assert text.count("policy: shop\n") == text.count("policy: ledger\n") == 1
    assert "not ready to enforce yet" in text

    assert fleet.ring("pull", "--force").exit_code == 0
    written = fleet.json("recommend", "--fleet", "-o", "policies")["files"]
    assert [(one["policy"], one["change"], one["added_rules"]) for one in written] == [
        ("ledger", "extended", 1), ("shop", "extended", 1),
    ]  # fmt: skip
    (file,) = (fleet.estate / "policies").iterdir()
    policies = parse_policies({file.name: file.read_text()}).raise_if_errors()
    assert {policy.name: len(policy.rules) for policy in policies} == {"shop": 2, "ledger": 1}
    plan = fleet.ring("plan").stdout
    assert "tcp/6379" in plan
    assert "tcp/9200" in plan
    again = fleet.json("recommend", "--fleet", "-o", "policies")
    assert [one["change"] for one in again["files"]] == ["unchanged", "unchanged"]


def test_a_file_of_ones_own_is_not_replaced(fleet: Fleet) -> None:
    """It is named with what to do; nothing at all is written; --force means it."""
    mine = (fleet.estate / "policies" / "shop.yaml").read_text()
    done = fleet.ring("recommend", "--fleet", "-o", "policies")
    assert (done.exit_code, "error[policy-file-taken]" in done.stderr) == (2, True)
    assert "ringfence pull" in done.stderr
    assert (fleet.estate / "policies" / "shop.yaml").read_text() == mine
    forced = fleet.json("recommend", "--fleet", "-o", "policies", "--force")
    assert {one["change"] for one in forced["files"]} == {"replaced"}
    assert {one["change"] for one in fleet.json("recommend", "--fleet", "-o", "elsewhere")["files"]} == {"new"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--level", "odd"), "bad-level"), (("--for", "a!"), "bad-selector"), (("--for", ""), "bad-selector"),
        (("--for", "app=none"), "unmatched"),
        (("--since", "soon"), "bad-time"), (("--since", "1h", "--until", "2h"), "bad-time"),
    ],
)  # fmt: skip
def test_what_cannot_be_recommended_for(fleet: Fleet, words: tuple[str, ...], code: str) -> None:
    assert fleet.json("recommend", "--fleet", *words)["error"] == code


@pytest.mark.parametrize(
    "name",
    ["../out.yaml", "/etc/out.yaml", "link/out.yaml", ".git/hooks/x.yaml", "Makefile", "pyproject.toml", "a\0b.yaml"],
)
def test_a_controller_names_no_file_outside(tmp_path: Path, name: str) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "link").symlink_to(tmp_path)
    proposal = RuleProposal("shop", name, True, "", "policy: shop\n", 0)
    assert refused(lambda: plan_proposals(tmp_path / "policies", [proposal], {}, {}, force=True)) == "not-a-policy"


def test_what_no_host_has_yet_is_not_taken_away(fleet: Fleet) -> None:
    """While a canary has the newest version alone, the recommendation is for the version that hosts have: a file with
    the newest is not overwritten, and the command says which version to fetch."""
    text = fleet.client.version(1).files["shop.yaml"]
    mine = "rules:\n  - name: mine\n    allow: {from: anyone, to: anyone, service: tcp/4444}\n"
    for host in fleet.hosts.values():
        host._take = lambda message: None  # type: ignore[method-assign]
    draft = api.Draft({"shop.yaml": text.replace("rules: []\n", mine)}, 1, note="two")
    fleet.client.apply(api.Apply(draft, api.How(canary="role=web")))
    assert fleet.ring("pull", "--force").exit_code == 0
    done = fleet.ring("recommend", "--fleet", "-o", "policies")
    assert (done.exit_code, "error[policy-file-taken]" in done.stderr) == (2, True)
    assert "ringfence pull 1" in done.stderr
    assert "tcp/4444" in (fleet.estate / "policies" / "shop.yaml").read_text()
    assert fleet.ring("pull", "1", "--force").exit_code == 0
    assert {one["change"] for one in fleet.json("recommend", "--fleet", "-o", "policies")["files"]} == {"extended"}


def test_a_test_that_would_fail_ends_with_1(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """However well known the traffic is: what was seen must not be, somebody said."""
    guard = "policy: guard\nrules: []\ntests:\n  - {from: role=web, to: role=db, service: tcp/6379, expect: blocked}\n"
    files = {"shop.yaml": fleet.client.version(1).files["shop.yaml"], "guard.yaml": guard}
    fleet.client.apply(api.Apply(api.Draft(files, 1, note="a promise"), AT_ONCE))
    eventually(lambda: fleet.client.rollout().stage == "done")
    told = fleet.client.explore.recommend(study.AskRecommend())
    assert told.broken
    sure = msgspec.structs.replace(told, confidence=msgspec.structs.replace(told.confidence, verdict="ready"))
    monkeypatch.setattr(Explore, "recommend", lambda *_: sure)
    done = fleet.ring("recommend", "--fleet")
    assert (done.exit_code, "error[test-failed]" in done.stderr) == (1, True)
    monkeypatch.setattr(Explore, "recommend", lambda *_: msgspec.structs.replace(sure, broken=(), findings=()))
    assert fleet.ring("recommend", "--fleet").exit_code == 0


def test_no_two_new_policies_get_one_file() -> None:
    """Whatever names are taken; what is proposed by itself has no rule of another in its text."""
    shop = (
        "policy: shop\nscope: app=shop\nrules:\n  - name: one\n    allow: {from: anyone, to: anyone, service: tcp/1}\n"
    )
    other = shop.replace("policy: shop", "policy: shop-2").replace("app=shop", "app=other")
    both = parse_policies({"new.yaml": f"{shop}---\n{other}"}).raise_if_errors()
    proposals = list(proposals_of(both, (), ("shop.yaml",), 7))
    assert [(one.policy, one.file, one.base) for one in proposals] == [
        ("shop", "shop-2.yaml", 7), ("shop-2", "shop-2-2.yaml", 7),
    ]  # fmt: skip
    rule = msgspec.structs.replace(both[0].rules[0], name="more")
    more = [msgspec.structs.replace(policy, rules=(*policy.rules, rule)) for policy in both]
    assert [one.text.count("more") for one in proposals_of(more, both, (), 7)] == [2, 2]
    assert [one.text.count("more") for policy in more for one in proposals_of((policy,), both, (), 7)] == [1, 1]


def test_two_texts_of_one_file_are_refused(tmp_path: Path) -> None:
    proposals = [RuleProposal(name, "a.yaml", True, "", f"policy: {name}\n", 0) for name in ("a", "b")]
    assert refused(lambda: plan_proposals(tmp_path, proposals, {}, {}, force=True)) == "policy-file-shared"
