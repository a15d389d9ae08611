"""The whole way of a fleet by its command line: logs sent, a policy recommended for what the controller saw, written
into the estate, planned; nobody's own text is lost on it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fleet import Fleet, fleet_in
from serving import SHOP, VPC_FIELDS, refused

from ringfence.cli.drafts import plan_proposals
from ringfence.core.policy.parse import parse_policies
from ringfence.wire import study
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
        (("--level", "odd"), "bad-level"), (("--for", "a!"), "bad-selector"), (("--for", "app=none"), "unmatched"),
        (("--since", "soon"), "bad-time"), (("--since", "1h", "--until", "2h"), "bad-time"),
    ],
)  # fmt: skip
def test_what_cannot_be_recommended_for(fleet: Fleet, words: tuple[str, ...], code: str) -> None:
    assert fleet.json("recommend", "--fleet", *words)["error"] == code


@pytest.mark.parametrize("name", ["../out.yaml", "/etc/out.yaml", "link/out.yaml"])
def test_a_controller_names_no_file_outside(tmp_path: Path, name: str) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "link").symlink_to(tmp_path)
    proposal = RuleProposal("shop", name, True, "", "policy: shop\n")
    assert refused(lambda: plan_proposals(tmp_path / "policies", [proposal], {}, {}, force=True)) == "not-a-policy"
