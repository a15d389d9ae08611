"""Every fault of the language is found, at its place, with its code and the way out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from language_faults import FAULTS, Fault

import ringfence.core.policy as package
from ringfence.core.errors import FindingsError
from ringfence.core.policy.codes import CODES
from ringfence.core.policy.parse import parse_policies

CHECK_CODES = {
    *("unmatched", "expired", "expires-soon", "over-broad", "unlabelled-escape", "unused-segment", "unused-service"),
    "fqdn-unresolved",
}
"""Raised by `check`; test_policy_check.py has a case for each."""


@pytest.mark.parametrize("fault", FAULTS, ids=[f.note for f in FAULTS])
def test_fault_is_found_at_its_place(fault: Fault) -> None:
    """The fault is found, alone, where it stands, and its help says how to mend it."""
    parsed = parse_policies({"case.yaml": fault.source, **fault.others}, ignore=fault.ignore)
    finding = parsed.findings[0]
    assert {f.code for f in parsed.findings} == {fault.code}
    assert (finding.where.file, finding.where.line) == ("case.yaml", fault.line)
    assert fault.help in finding.help
    text = fault.source if isinstance(fault.source, str) else fault.source.decode("utf-8", "replace")
    line = (text + "\n").split("\n")[fault.line - 1]
    assert line[max(0, finding.where.column - 1) :].startswith(fault.at)
    if finding.text and finding.code not in ("yaml-syntax", "duplicate-key") and "\\" not in line:
        assert finding.text in line


@pytest.mark.parametrize("fault", FAULTS, ids=[f.note for f in FAULTS])
def test_fault_yields_no_policy(fault: Fault) -> None:
    """One fault anywhere and no policy comes out at all, so none can be silently smaller."""
    parsed = parse_policies({"case.yaml": fault.source, **fault.others}, ignore=fault.ignore)
    assert parsed.policies == ()
    with pytest.raises(FindingsError) as raised:
        parsed.raise_if_errors()
    assert raised.value.findings == parsed.findings


@pytest.mark.parametrize("fault", FAULTS, ids=[f.note for f in FAULTS])
def test_messages_follow_the_style(fault: Fault) -> None:
    """A message is lower case, without a full stop, and names no Python type."""
    for finding in parse_policies({"case.yaml": fault.source, **fault.others}, ignore=fault.ignore).findings:
        words = re.sub(r"`[^`]*`", "``", finding.message)
        assert words[0] == words[0].lower()
        assert not words.endswith(".")
        assert not re.search(r"\b(str|int|NoneType|dict|Error)\b", words)


def test_every_code_of_the_table_has_a_case() -> None:
    """Each code in the table is raised by at least one case here or in the tests of `check`."""
    assert {fault.code for fault in FAULTS} | CHECK_CODES == set(CODES)


def test_every_code_used_is_in_the_table() -> None:
    """Every kebab-case code given to a finding anywhere in core/policy is in the table."""
    used = {code for path in Path(package.__path__[0]).glob("*.py") for code in codes_in(path)}
    assert used
    assert used <= set(CODES)


def codes_in(path: Path) -> set[str]:
    """The literal first arguments of calls that make findings, and `code=` arguments."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    makers = {"error", "Finding", "_refuse", "_refuse_at", "_warning", "help_of"}
    named = [c for c in calls if getattr(c.func, "attr", getattr(c.func, "id", "")) in makers]
    arguments = [c.args[0] for c in named if c.args] + [k.value for c in calls for k in c.keywords if k.arg == "code"]
    return {a.value for a in arguments if isinstance(a, ast.Constant) and isinstance(a.value, str)}


def test_all_faults_of_all_files_are_told_at_once() -> None:
    """Three faulty files with several faults each give every finding in one pass, in the order of the text."""
    texts = {
        "a.yaml": "policy: a\nscop: x\nrules:\n  - alow: {}\n  - deny: {from: nobody, to: 10.0.0.1/8}\n",
        "b.yaml": "policy: b\nowner: [x\n",
        "c.yaml": "policy: c\nrules:\n  - allow: {from: a.web, to: b.db, service: htps}\n",
    }
    found = [(f.where.file, f.where.line, f.code) for f in parse_policies(texts).findings]
    assert found == [
        ("a.yaml", 2, "unknown-key"),
        ("a.yaml", 4, "unknown-key"),
        ("a.yaml", 5, "unknown-segment"),
        ("a.yaml", 5, "host-bits"),
        ("b.yaml", 3, "yaml-syntax"),
        ("c.yaml", 3, "unknown-segment"),
        ("c.yaml", 3, "unknown-service"),
    ]


def test_a_faulty_definition_is_told_once_not_at_each_use() -> None:
    """Ten uses of a segment and a service whose definitions are at fault add no findings."""
    uses = "".join(f"  - allow: {{from: web, to: web, service: [pg, tcp/{port}]}}\n" for port in range(1, 11))
    text = f"policy: p\nsegments: {{web: 'a==='}}\nservices: {{pg: tcp/x}}\nrules:\n{uses}"
    assert [f.code for f in parse_policies({"p.yaml": text}).findings] == ["bad-selector", "bad-service"]


def test_who_names_an_unreadable_policy_is_not_blamed() -> None:
    """A reference to a policy whose file has a syntax error or a bad segment adds no finding."""
    user = "policy: b\nrules:\n  - deny: {from: shop.db, to: 'global: shop.db', service: shop.pg}\n"
    unreadable = "policy: shop\nsegments: {db: role=db\n"
    wrong = "policy: shop\nsegments: {db: 'a==='}\nservices: {pg: tcp/x}\n"
    for text in (unreadable, wrong):
        assert {f.where.file for f in parse_policies({"a.yaml": text, "b.yaml": user}).findings} == {"a.yaml"}
