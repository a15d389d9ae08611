"""The language as data: every case under `cases/`, put to every decider there is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec
import pytest
from cases.load import Case, Probe, load_cases

from ringfence.core.decide import decide
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.prove import prove
from ringfence.core.errors import Finding
from ringfence.core.intent.compile import IntentCompiler
from ringfence.core.world import Flow, Verdict, World

CASES = load_cases()
DECIDERS: dict[str, Callable[[World, Flow], Verdict]] = {
    "oracle": decide,
    "engine": lambda world, flow: Engine.compile(world).decide(flow),
}
"""Name -> who answers. Each must give every answer wanted (law 8)."""


GAPS: dict[str, str] = {}
"""Cases in which the product differs from its design, and how. One that passes must leave this list."""


def cases(wanted: Callable[[Case], object], *, gaps: bool = True) -> pytest.MarkDecorator:
    """The cases that ask for something, by their notes; those with a gap are expected to fail where the gap is."""
    chosen = [case for case in CASES if wanted(case)]
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=case.note, marks=_marks(case, gaps)) for case in chosen]
    )


def _marks(case: Case, gaps: bool) -> list[pytest.MarkDecorator]:
    return [pytest.mark.xfail(reason=GAPS[case.note], strict=True)] if gaps and case.note in GAPS else []


def said(case: Case, probe: Probe, verdict: Verdict) -> dict[str, object]:
    """What a decider said, as far as the probe asks."""
    answer: dict[str, object] = {"want": verdict.verdict}
    if probe.reason is not None:
        answer["reason"] = verdict.reason
    if probe.rule is not msgspec.UNSET:
        is_wanted = verdict.rule is not None and probe.rule is not None and fnmatchcase(verdict.rule, probe.rule)
        answer["rule"] = probe.rule if is_wanted else verdict.rule
    if probe.unless is not None:
        answer["unless"] = sorted(verdict.unless)
    if probe.ends is not None:
        answer["ends"] = {end.end: end.verdict for end in verdict.ends}
    return answer


def wanted(probe: Probe) -> dict[str, object]:
    answer: dict[str, object] = {"want": probe.want}
    if probe.reason is not None:
        answer["reason"] = probe.reason
    if probe.rule is not msgspec.UNSET:
        answer["rule"] = probe.rule
    if probe.unless is not None:
        answer["unless"] = sorted(probe.unless)
    if probe.ends is not None:
        answer["ends"] = probe.ends
    return answer


@pytest.mark.parametrize("decider", DECIDERS)
@cases(lambda case: case.probes)
def test_every_decider_gives_the_wanted_verdict(case: Case, decider: str) -> None:
    """Verdict, reason, rule, unstated conditions and each end's own verdict are those of the case."""
    for number, probe in enumerate(case.probes, 1):
        verdict = DECIDERS[decider](case.world_of(probe), case.flow_of(probe))
        about = f"{case.where}: probe {number}: {probe.source} -> {probe.destination} {probe.service}"
        assert said(case, probe, verdict) == wanted(probe), about


@cases(lambda case: case.want_errors is not None)
def test_every_error_is_found_with_its_code_and_place(case: Case) -> None:
    """The errors are exactly those wanted: `code`, or `code at LINE:COLUMN`."""
    assert case.want_errors is not None
    places = [bool(re.search(" at ", want)) for want in case.want_errors]
    found = [shown(f, is_placed=all(places)) for f in case.errors]
    assert Counter(found) == Counter(case.want_errors), case.errors


def shown(finding: Finding, *, is_placed: bool) -> str:
    return f"{finding.code} at {finding.where.line}:{finding.where.column}" if is_placed else finding.code


@cases(lambda case: case.want_errors is not None)
def test_every_error_says_what_to_do(case: Case) -> None:
    """An error names its file and line, quotes no Python, and comes with the next step."""
    for finding in case.errors:
        assert finding.help, finding
        assert finding.where.file, finding
        assert finding.where.line > 0, finding
        assert finding.message[:1] not in ".", finding
        assert not finding.message.endswith("."), finding


@cases(lambda case: case.want_errors is None, gaps=False)
def test_every_other_case_can_be_read(case: Case) -> None:
    """A case that wants no errors has none, and asks for something."""
    assert case.errors == []
    assert case.probes or case.want_findings is not None or case.want_proof or case.refuses


@cases(lambda case: case.want_findings is not None)
def test_every_wanted_finding_is_found(case: Case) -> None:
    """The wanted codes are among the warnings; wanting none means that there is none."""
    found = {finding.code for finding in case.findings}
    assert case.want_findings is not None
    assert found == set() if not case.want_findings else found >= set(case.want_findings), case.findings


@cases(lambda case: case.want_proof)
def test_every_proof_has_its_result(case: Case) -> None:
    """Each named test of the policies comes out as wanted."""
    results = {proof.name: proof.outcome for proof in prove(Engine.compile(case.compiled))}
    assert {want.test: results.get(want.test) for want in case.want_proof} == {
        want.test: want.result for want in case.want_proof
    }


@cases(lambda case: case.refuses)
def test_every_refusal_is_made(case: Case) -> None:
    """What a host cannot express is refused by code when its intent is compiled, never dropped."""
    compiler = IntentCompiler(Engine.compile(case.compiled))
    hosts = [w for w in case.compiled.inventory.workloads if w.is_controlled and w.kind != "process"]
    found = {finding.code for host in hosts for finding in compiler.compile(host).refusals}
    assert found == {code for codes in case.refuses.values() for code in codes}


def test_every_gap_is_a_case() -> None:
    """A gap that is closed, or whose case was renamed, does not stay listed."""
    assert GAPS.keys() <= {case.note for case in CASES}


def test_notes_are_unique_and_name_their_folder() -> None:
    """A note identifies its case."""
    assert [note for note, count in Counter(case.note for case in CASES).items() if count > 1] == []
    assert len(CASES) >= 170


def test_every_folder_of_the_readme_holds_cases() -> None:
    """The topics that the README lists are the folders there are."""
    readme = (Path(__file__).parent / "cases" / "README.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)/`", readme, re.MULTILINE))
    assert listed == {Path(case.where.file).parts[0] for case in CASES}
