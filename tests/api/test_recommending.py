"""What is recommended and simulated is what the library says of the same traffic; some rules make files that hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec
import numpy as np
import pytest
from explored import DRAFTED, FILES, Explored
from serving import refused

from ringfence.core.engine import Engine
from ringfence.core.engine.prove import prove
from ringfence.core.identity.workload import Mode
from ringfence.core.insight.recommend import recommend
from ringfence.core.insight.simulate import simulate
from ringfence.core.labels.selector import parse_selector
from ringfence.core.policy.parse import parse_policies
from ringfence.core.world import VERDICTS, World
from ringfence.wire import explore, study

ENFORCE = Mode.both("enforce")


@pytest.mark.parametrize("asked", [{}, {"where": "app=crm,env=prod"}, {"level": "tier", "tight": 2}], ids=str)
def test_a_recommendation_is_the_librarys(estate: Explored, asked: dict[str, object]) -> None:
    """The same rules with the same evidence, leftovers, coverage and confidence; the files parse with those in force,
    their tests hold, and what was learned from passes."""
    told = estate.client.explore.recommend(study.AskRecommend(**asked))  # type: ignore[arg-type]
    world, rows = estate.world(), estate.rows()
    where = asked.get("where")
    options = {"level": asked.get("level", "port"), "tight": asked.get("tight", 5)}
    select = parse_selector(str(where)) if where else None
    wanted = recommend(rows, world.inventory, select=select, existing=world.policies, **options)  # type: ignore[arg-type]

    assert tuple(rule.evidence for rule in told.rules) == wanted.evidence
    assert len(told.rules) > 2
    assert (told.set_aside, told.uncovered, told.coverage) == (wanted.set_aside, wanted.uncovered, wanted.coverage)
    assert (told.confidence, told.by_policy, told.precision) == (
        wanted.confidence, wanted.by_policy, wanted.permission.precision,
    )  # fmt: skip
    files = FILES | {file.file: file.text for file in told.files}
    policies = parse_policies(files).raise_if_errors()
    scopes = {policy.name: str(policy.scope) for policy in policies if policy.scope is not None}
    assert told.scopes.items() <= scopes.items()
    assert told.scopes
    assert {policy.ref(rule) for policy in policies for rule in policy.rules} >= {rule.rule for rule in told.rules}
    engine = Engine.compile(World(world.inventory, policies, at=world.at, as_mode=ENFORCE))
    proofs = prove(engine)
    assert {proof.outcome for proof in proofs if proof.policy not in ("shop", "guard")} <= {"proven", "warning"}
    failed = [(proof.policy, proof.name) for proof in proofs if proof.outcome == "failed"]
    assert [finding.subject for finding in told.broken] == [policy for policy, _ in failed]
    assert all(name in finding.message for (_, name), finding in zip(failed, told.broken, strict=True))
    learned = wanted.rule >= 0
    assert not engine.judge(rows).verdict[learned].any()


def test_the_curve_ends_at_the_whole(estate: Explored) -> None:
    """Rules that cover most come first; shares never fall, begin above what is covered already, and end at the share
    of all of them together."""
    told = estate.client.explore.recommend(study.AskRecommend())
    counts = [stage.connections for stage in told.curve]
    shares = [stage.share for stage in told.curve]

    assert counts == sorted(counts, reverse=True)
    assert shares == sorted(shares)
    assert told.share_before < shares[0]
    assert shares[-1] == pytest.approx(told.share)
    assert {stage.rule for stage in told.curve} == {rule.rule for rule in told.rules}


def test_the_busiest_pairs_of_a_rule(estate: Explored) -> None:
    """Counted by a loop over the rows that stand behind it."""
    told = estate.client.explore.recommend(study.AskRecommend())
    world, rows = estate.world(), estate.rows()
    wanted = recommend(rows, world.inventory, existing=world.policies)
    number = int(np.argmax([e.connections for e in wanted.evidence]))
    counts = Counter[str]()
    for i in np.flatnonzero(wanted.rule == number).tolist():
        ends = (rows.endpoints[int(end[i])] for end in (rows.source, rows.destination))
        counts[" -> ".join(e.workload.name if e.workload else "address" for e in ends)] += int(rows.connections[i])

    pairs = told.rules[number].pairs
    known = [counts[pair] for pair in pairs if pair in counts]
    assert known == sorted(known, reverse=True)
    assert counts[pairs[0]] == max(counts.values())


def test_some_rules_make_files_that_hold(estate: Explored) -> None:
    """Only accepted rules are in the files; tests that need the others are not, so that what is there can be
    published; nothing accepted: no file."""
    client = estate.client.explore
    every = client.recommend(study.AskRecommend(where="app=crm,env=prod"))
    accepted = [stage.rule for stage in every.curve[:2]]
    told = client.recommend(study.AskRecommend(where="app=crm,env=prod", accept=tuple(accepted)))

    assert [rule.rule for rule in told.rules if rule.is_accepted] == [r.rule for r in every.rules if r.rule in accepted]
    files = FILES | {file.file: file.text for file in told.files}
    policies = parse_policies(files).raise_if_errors()
    added = {p.ref(rule) for p in policies for rule in p.rules} - {
        p.ref(rule) for p in parse_policies(FILES).raise_if_errors() for rule in p.rules
    }
    assert added == set(accepted)
    checked = client.check(study.Check({file.file: file.text for file in told.files}))
    assert checked.is_sound
    assert not [f for f in checked.findings if f.code == "unused-segment" and f.where.file != "shop.yaml"]
    assert client.recommend(study.AskRecommend(accept=())).files == ()
    assert refused(lambda: client.recommend(study.AskRecommend(accept=("no/rule",)))) == "unknown-rule"
    assert refused(lambda: client.recommend(study.AskRecommend(where="app=nope"))) == "unmatched"


def test_a_simulation_is_the_librarys(estate: Explored) -> None:
    """Totals, breaks, openings, rules and applications; the series tells what passes now from what would pass."""
    asked = study.AskSimulate(draft=explore.Pen({"shop.yaml": DRAFTED}), bucket_h=6)
    told = estate.client.explore.simulate(asked)
    rows, files = estate.rows(), FILES | {"shop.yaml": DRAFTED}
    wanted = simulate(estate.engine(files), rows, as_mode=ENFORCE)

    assert (told.totals, told.breaks, told.opens, told.closes) == (
        wanted.totals, wanted.breaks, wanted.opens, wanted.closes,
    )  # fmt: skip
    assert (told.rules, told.unused, told.applications) == (wanted.rules, wanted.unused, wanted.applications)
    assert (told.noise, told.talkers, told.is_clean) == (wanted.noise, wanted.talkers, False)
    before = estate.engine().judge(rows).verdict == VERDICTS.index("blocked")
    after = wanted.judgement.verdict == VERDICTS.index("blocked")
    counts = Counter[tuple[int, bool, bool]]()
    for i in range(len(rows)):
        counts[int(rows.hour[i]) // (6 * 3600), bool(before[i]), bool(after[i])] += int(rows.connections[i])
    series = told.series
    assert [int(start.timestamp()) // (6 * 3600) for start in series.start] == sorted({key[0] for key in counts})
    for i, start in enumerate(series.start):
        bucket = int(start.timestamp()) // (6 * 3600)
        assert series.allowed[i] == counts[bucket, False, False]
        assert series.escaped[i] == counts[bucket, False, True]
        assert series.opened[i] == counts[bucket, True, False]
        assert series.blocked[i] == counts[bucket, True, True]
    assert sum(series.escaped) > 0


def test_one_application_is_simulated_alone(estate: Explored) -> None:
    """Totals, breaks and the series are those of the traffic with one of its ends."""
    asked = study.AskSimulate(where="app=crm,env=prod")
    told = estate.client.explore.simulate(asked)
    rows = estate.rows()
    labels = estate.world().inventory.labels_of
    picked = [e.workload is not None and asked_for(labels(e.workload)) for e in rows.endpoints]
    keep = np.array(picked)[rows.source] | np.array(picked)[rows.destination]
    assert 0 < keep.sum() < len(rows)
    wanted = simulate(estate.engine(), rows.where(keep), as_mode=ENFORCE)
    assert (told.totals, told.breaks, told.applications) == (wanted.totals, wanted.breaks, wanted.applications)
    series = told.series
    sums = (sum(column) for column in (series.allowed, series.escaped, series.opened, series.blocked))
    assert sum(sums) == int(rows.connections[keep].sum())
    unknown = study.AskSimulate(where="nobody")
    assert refused(lambda: estate.client.explore.simulate(unknown)) == "unknown-endpoint"


def asked_for(labels: Mapping[str, str]) -> bool:
    return labels.get("app") == "crm" and labels.get("env") == "prod"


def test_a_version_is_simulated_by_its_number(estate: Explored) -> None:
    """The version in force, by number or by default, is one answer; both a draft and a version are refused, and so is
    a version there is not."""
    client = estate.client.explore
    one, other = client.simulate(study.AskSimulate(version=1)), client.simulate(study.AskSimulate())
    assert msgspec.json.encode(one) == msgspec.json.encode(other)
    both = study.AskSimulate(version=1, draft=explore.Pen())
    assert refused(lambda: client.simulate(both)) == "contradictory-draft"
    assert refused(lambda: client.simulate(study.AskSimulate(version=99))) == "unknown-version"


def test_with_no_policy_in_force_all_is_new(estate: Explored) -> None:
    """Recommended from nothing: each policy comes with its tests, in a file of its own, and the whole is sound."""
    nothing = explore.Pen(alone=True)
    told = estate.client.explore.recommend(study.AskRecommend(draft=nothing))

    assert all(file.is_new for file in told.files)
    assert told.broken == ()
    assert told.share_before == 0.0
    files = {file.file: file.text for file in told.files}
    checked = estate.client.explore.check(study.Check(files, alone=True))
    assert (checked.is_sound, checked.rules) == (True, len(told.rules))
    assert checked.tests
