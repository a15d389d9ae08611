"""Policy files -> Policies, with every fault of every file told at once.

INVARIANT: policies come out whole or not at all. One error anywhere and `Parsed.policies` is empty, so nobody can go
on with a set from which a `forbid` has silently gone missing.

It opens no files: the caller brings the texts.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from ringfence.core.errors import Finding, FindingsError, errors_among
from ringfence.core.policy.bodies import BodyReader
from ringfence.core.policy.definitions import Draft, read_definitions
from ringfence.core.policy.expectations import ExpectationReader
from ringfence.core.policy.margins import Margins
from ringfence.core.policy.model import Policy
from ringfence.core.policy.report import Report
from ringfence.core.policy.rules import RuleReader
from ringfence.core.policy.vocabulary import Dictionary
from ringfence.core.policy.yaml import Comment, Reading, read

_POLICY_LINE = re.compile(r"^policy:[ \t]*[\"']?([a-z0-9][a-z0-9_-]*)", re.MULTILINE)


class Parsed(msgspec.Struct, frozen=True):
    """What a set of policy files says."""

    policies: tuple[Policy, ...]
    """In the order of the files and documents; empty if anything is wrong anywhere."""
    findings: tuple[Finding, ...] = ()

    def raise_if_errors(self) -> tuple[Policy, ...]:
        """The policies. Raises FindingsError if any finding is an error."""
        if errors_among(self.findings):
            raise FindingsError(self.findings)
        return self.policies


def parse_policies(texts: Mapping[str, str | bytes], *, ignore: Iterable[str] = ()) -> Parsed:
    """File name -> text, for a whole estate, because policies name each other's segments.

    `ignore` are the label keys that make no identities (`identity.ignore`) and may not be selected on.
    Never raises for what is in the texts: every fault is a finding with a code of `codes.CODES`.
    """
    files = parse_files(texts, ignore=ignore)
    findings = tuple(sorted((f for file in files.values() for f in file.findings), key=lambda f: f.sort_key))
    if errors_among(findings):
        return Parsed((), findings)
    return Parsed(tuple(policy for file in files.values() for policy in file.policies), findings)


def parse_files(texts: Mapping[str, str | bytes], *, ignore: Iterable[str] = ()) -> dict[str, Parsed]:
    """As `parse_policies`, but each file's result apart: for editors and formatters, which look at one among others."""
    readings = {file: read(text, file) for file, text in texts.items()}
    dictionary = Dictionary(_broken(texts, readings), ignore)
    reports = {file: Report(file) for file in texts}
    drafts = {file: list(_define(reading, reports[file], dictionary)) for file, reading in readings.items()}
    return {file: _finish(readings[file], reports[file], drafts[file], dictionary) for file in texts}


def _broken(texts: Mapping[str, str | bytes], readings: Mapping[str, Reading]) -> Iterator[str]:
    """Policies of files that could not be read to their end: who refers to them is not at fault."""
    for file, reading in readings.items():
        text = texts[file]
        if reading.findings:
            yield from _POLICY_LINE.findall(text if isinstance(text, str) else text.decode("utf-8", "replace"))


def _define(reading: Reading, report: Report, dictionary: Dictionary) -> Iterator[Draft]:
    for document, comments in zip(reading.documents, _comments_by_document(reading), strict=True):
        root = report.mapping(document.root, "a policy")
        if root is not None:
            margins = Margins()
            margins.attach(root, comments)
            yield read_definitions(root, report, margins, dictionary)


def _comments_by_document(reading: Reading) -> list[list[Comment]]:
    """Every comment to the last document that starts at or above it, the first taking those above them all."""
    groups: list[list[Comment]] = [[] for _ in reading.documents]
    firsts = [document.first_line for document in reading.documents[1:]]
    for comment in reading.comments if groups else ():
        groups[bisect_right(firsts, comment.line)].append(comment)
    return groups


def _finish(reading: Reading, report: Report, drafts: list[Draft], dictionary: Dictionary) -> Parsed:
    policies = tuple(_complete(draft, dictionary) for draft in drafts)
    findings = (*reading.findings, *report.findings)
    return Parsed(() if findings else policies, findings)


def _complete(draft: Draft, dictionary: Dictionary) -> Policy:
    root, report = draft.root, draft.report
    bodies = BodyReader(draft, dictionary)
    rule_reader, test_reader = RuleReader(draft, bodies), ExpectationReader(draft, bodies)
    rules = [rule_reader.read(node) for node in report.list_(root.get("rules"), "`rules`")]
    tests = [test_reader.read(node) for node in report.list_(root.get("tests"), "`tests`")]
    first_key = next(iter(root.entries), "")
    return Policy(
        name=draft.vocabulary.policy,
        owner=draft.owner,
        scope=draft.vocabulary.scope,
        segments=tuple(draft.segments),
        services=tuple(draft.services),
        rules=tuple(rule for rule in rules if rule is not None),
        tests=tuple(test for test in tests if test is not None),
        where=report.at(root),
        because=draft.because,
        comments=tuple(c for key in dict.fromkeys((first_key, "policy")) for c in draft.margins.above(key)),
        margin=draft.margins.margin(but=(first_key, "policy")),
    )
