"""The conditions of an allow, written inside its body or beside it."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping

from ringfence.core.policy.model import Action, Conditions
from ringfence.core.policy.report import Report
from ringfence.core.policy.texts import read_process, read_require
from ringfence.core.policy.times import read_until, read_within
from ringfence.core.policy.yaml import Mapping, Node, Scalar

CONDITION_KEYS = frozenset({"require", "from_process", "to_process", "until", "within"})
_NONE = Conditions()

Entries = AnyMapping[str, tuple[Scalar, Node]]


def read_conditions(report: Report, action: Action, body: Mapping, beside: Mapping) -> Conditions | None:
    """All conditions of a rule, or None if any is at fault or stands where none can."""
    inner, outer = _given(body), _given(beside)
    if not inner and not outer:
        return _NONE
    for key in inner.keys() & outer.keys():
        first = inner[key][0].line
        report.error("duplicate-condition", outer[key][0], f"`{key}` is already given on line {first}")
    given = {**outer, **inner}
    if action == "allow":
        return _read(report, {key: node for key, (_, node) in given.items()})
    for key, (node, _) in given.items():
        report.error("condition-on-deny", node, f"`{key}` cannot be a condition of a `{action}`")
    return None


def _given(mapping: Mapping) -> Entries:
    if CONDITION_KEYS.isdisjoint(mapping.entries):
        return {}
    return {key: entry for key, entry in mapping.entries.items() if key in CONDITION_KEYS}


def _read(report: Report, nodes: dict[str, Node]) -> Conditions | None:
    before = len(report.findings)
    texts = {key: report.text(node, f"`{key}`") for key, node in nodes.items()}
    require, until, within = texts.get("require"), texts.get("until"), texts.get("within")
    conditions = Conditions(
        mutual_tls=bool(require and read_require(report, nodes["require"], require)),
        from_process=_process(report, nodes, texts, "from_process"),
        to_process=_process(report, nodes, texts, "to_process"),
        until=read_until(report, nodes["until"], until) if until else None,
        within=read_within(report, nodes["within"], within) if within else None,
    )
    return conditions if len(report.findings) == before else None


def _process(report: Report, nodes: dict[str, Node], texts: dict[str, str | None], key: str) -> str | None:
    text = texts.get(key)
    return read_process(report, nodes[key], text) if text else None
