"""The first pass over a document: its name, scope, segments and services, before any rule is read.

What it makes is a Draft; `rules.py` and `parse.py` finish it once every policy's words are known.
"""

from __future__ import annotations

import msgspec

from ringfence.core.labels.selector import Selector
from ringfence.core.net.intervals import EMPTY
from ringfence.core.policy.margins import Margins
from ringfence.core.policy.model import Named, Workloads
from ringfence.core.policy.names import RESERVED_SEGMENTS, RESERVED_SERVICES, name_fault, split_global
from ringfence.core.policy.report import Report
from ringfence.core.policy.selectors import read_joined, read_selector
from ringfence.core.policy.services import read_definition
from ringfence.core.policy.texts import read_process
from ringfence.core.policy.vocabulary import Dictionary, SegmentMeaning, ServiceMeaning, Vocabulary
from ringfence.core.policy.yaml import Mapping, Node, Scalar

POLICY_KEYS = frozenset({"policy", "owner", "because", "scope", "segments", "services", "rules", "tests"})
SEGMENT_KEYS = frozenset({"selector", "crown_jewel", "because"})
SERVICE_KEYS = frozenset({"ports", "process", "because"})
_NOTHING = Mapping({}, 0, 0)


class Draft(msgspec.Struct):
    """A policy whose words are read and whose rules are not."""

    root: Mapping
    report: Report
    margins: Margins
    vocabulary: Vocabulary
    owner: str = ""
    because: str = ""
    segments: list[Named] = []
    services: list[Named] = []


def read_definitions(root: Mapping, report: Report, margins: Margins, dictionary: Dictionary) -> Draft:
    """The document's own words, entered into the dictionary."""
    report.keys(root, POLICY_KEYS, "a policy")
    name = _read_name(root, report, dictionary)
    report.subject = name
    vocabulary = Vocabulary(name, segments={}, services={})
    draft = Draft(root, report, margins, vocabulary, segments=[], services=[])
    draft.owner = read_optional(report, root, "owner")
    draft.because = read_optional(report, root, "because")
    vocabulary.scope = _read_scope(root, report, dictionary)
    if name:
        dictionary.policies[name] = vocabulary
    _read_section(draft, "segments", dictionary)
    _read_section(draft, "services", dictionary)
    return draft


def read_optional(report: Report, mapping: Mapping, key: str) -> str:
    """The text of a key that may be missing."""
    node = mapping.get(key)
    return "" if node is None else report.text(node, f"`{key}`") or ""


def _read_name(root: Mapping, report: Report, dictionary: Dictionary) -> str:
    node = root.get("policy")
    if node is None:
        report.missing(root, "policy", "the document", "every document starts with `policy: its-name`")
        return ""
    name = report.text(node, "`policy`")
    fault = name_fault(name) if name else ""
    if name is None or fault:
        if fault:
            report.error("bad-name", node, fault)
        return ""
    if name in dictionary.policies:
        report.error("duplicate-name", node, f"there is already a policy `{name}`")
        return ""
    return name


def _read_scope(root: Mapping, report: Report, dictionary: Dictionary) -> Selector | None:
    node = root.get("scope")
    text = None if node is None else report.text(node, "`scope`", code="empty-selector")
    if node is None or text is None:
        return None
    if split_global(text)[0]:
        report.error("bad-global", node, "a scope cannot leave itself", "delete `global:`")
        return None
    return read_selector(report, node, text, dictionary.ignore)


def _read_section(draft: Draft, section: str, dictionary: Dictionary) -> None:
    node = draft.root.get(section)
    if node is None or (isinstance(node, Scalar) and node.is_null):
        return
    mapping = draft.report.mapping(node, f"`{section}`")
    for key, value in mapping.entries.values() if mapping else ():
        if section == "segments":
            _read_segment(draft, key, value, dictionary)
        else:
            _read_service(draft, key, value)


def _read_segment(draft: Draft, key: Scalar, value: Node, dictionary: Dictionary) -> None:
    report, name = draft.report, key.value
    draft.vocabulary.segments[name] = None
    fault = name_fault(name, reserved=RESERVED_SEGMENTS)
    if fault:
        report.error("bad-name", key, fault)
        return
    node = _main_value(report, value, SEGMENT_KEYS, "selector", f"segment `{name}`")
    text = None if node is None else report.text(node, f"segment `{name}`", code="empty-selector")
    if node is None or text is None:
        return
    is_global, written = split_global(text)
    selector = read_selector(report, node, written, dictionary.ignore)
    scope = None if is_global else draft.vocabulary.scope
    joined = read_joined(report, node, text, (selector,), scope) if selector else None
    if selector is None or joined is None:
        return
    draft.vocabulary.segments[name] = SegmentMeaning(selector, scope)
    extra = value if isinstance(value, Mapping) else _NOTHING
    draft.segments.append(
        Named(
            name,
            text,
            where=report.at(key),
            comments=draft.margins.of(key),
            peer=Workloads(joined, name),
            is_crown_jewel=report.boolean(extra.get("crown_jewel"), "`crown_jewel`"),
            because=read_optional(report, extra, "because"),
        )
    )


def _read_service(draft: Draft, key: Scalar, value: Node) -> None:
    report, name = draft.report, key.value
    draft.vocabulary.services[name] = None
    fault = name_fault(name, reserved=RESERVED_SERVICES)
    if fault:
        report.error("bad-name", key, fault)
        return
    before = len(report.findings)
    node = _main_value(report, value, SERVICE_KEYS, "ports", f"service `{name}`")
    words, points = read_definition(report, node, f"service `{name}`") if node else ((), EMPTY)
    extra = value if isinstance(value, Mapping) else _NOTHING
    process_text = read_optional(report, extra, "process")
    process = read_process(report, extra.entries["process"][1], process_text) if process_text else None
    because = read_optional(report, extra, "because")
    if len(report.findings) > before:
        return
    draft.vocabulary.services[name] = ServiceMeaning(points, process)
    where, comments = report.at(key), draft.margins.of(key)
    named = Named(name, " ".join(words), where, comments, services=points, process=process, because=because)
    draft.services.append(named)


def _main_value(report: Report, value: Node, keys: frozenset[str], main: str, what: str) -> Node | None:
    """The definition itself: the value, or the `main` key of a mapping."""
    if not isinstance(value, Mapping):
        return value
    report.keys(value, keys, what)
    node = value.get(main)
    if node is None:
        report.missing(value, main, what)
    return node
