r"""Label rules: labels that follow from a workload's addresses, name or attributes, each with its reason.

    - when: {cidr: 10.1.0.0/16}
      set: {env: prod}
    - when: {name: '(?P<app>[a-z]+)-(?P<role>[a-z]+)-\d+'}
      set: {app: "{app}", role: "{role}"}
      because: the naming convention of 2019
    - when: {attribute: kind, equals: device}
      set: {role: appliance}

A label written in the inventory beats every rule. Rules are a set: all that match count, and where two give one key
two values the key is not set and both are named (`label-conflict`). Rules see what the inventory says, never what rules
set. A CIDR asks for an address in `network` (default `main`) that the workload holds for good: a lease with an end
names nobody.

INVARIANT: a pattern matches the whole text or nothing, and a conflict never picks a side.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from ringfence.core.errors import Location
from ringfence.core.identity.workload import Workload
from ringfence.core.labels.selector import LABEL_KEY, LABEL_VALUE
from ringfence.core.net.address import parse_cidr
from ringfence.core.net.intervals import EMPTY, IntervalSet, union
from ringfence.core.policy.peers import host_bits_help, without_host_bits
from ringfence.core.policy.yaml import Node
from ringfence.inventory.files.draft import Findings, Text, unknown_word
from ringfence.inventory.files.nodes import Nodes
from ringfence.inventory.files.workloads import KIND_ALIASES

WHEN_KEYS = ("cidr", "network", "name", "attribute", "equals", "matches")
RULE_KEYS = ("when", "set", "because")
ATTRIBUTES = ("name", "uuid", "kind", "origin", "host", "unit", "spiffe")
_SLOT = re.compile(r"\{([^{}]*)\}")


class LabelRule(msgspec.Struct, frozen=True):
    """What a workload must be, all of it, and the labels that follow."""

    labels: tuple[tuple[str, str], ...]
    """(key, value), where `{group}` in the value stands for what a pattern's named group held."""
    where: Location
    cidrs: IntervalSet | None = None
    network: str = "main"
    patterns: tuple[tuple[str, re.Pattern[str]], ...] = ()
    """(attribute, pattern of its whole text)."""
    because: str = ""

    def labels_of(self, workload: Workload) -> dict[str, str] | None:
        """The labels this rule gives the workload; None where it does not match."""
        if self.cidrs is not None and not self._holds_address(workload, self.cidrs):
            return None
        groups: dict[str, str | None] = {}
        for attribute, pattern in self.patterns:
            match = pattern.fullmatch(getattr(workload, attribute) or "")
            if match is None:
                return None
            groups |= match.groupdict()
        return {key: value for key, text in self.labels if (value := _filled(text, groups))}

    def _holds_address(self, workload: Workload, cidrs: IntervalSet) -> bool:
        lasting = (lease for lease in workload.addresses if lease.end is None and lease.network == self.network)
        return any(lease.address in cidrs for lease in lasting)

    @property
    def text(self) -> str:
        """How the rule is called: its place and its reason."""
        return f"the label rule at {self.where}" + (f" (because {self.because})" if self.because else "")


def _filled(text: str, groups: Mapping[str, str | None]) -> str:
    """The text with its slots filled; empty where a group took no part in the match."""
    if any(groups[slot] is None for slot in _SLOT.findall(text)):
        return ""
    return _SLOT.sub(lambda slot: groups[slot[1]] or "", text)


def parse_label_rules(text: str, file: str, findings: Findings) -> tuple[LabelRule, ...]:
    """The rules of one file; a rule with an error is left out, and `findings` says why."""
    nodes = Nodes(file, findings)
    entries = [entry for root in nodes.roots(text) for entry in nodes.items(root, "a file of label rules")]
    rules = [_RuleReader(nodes).read(entry) for entry in entries]
    return tuple(rule for rule in rules if rule is not None)


class _RuleReader:
    """Reads one rule; every fault is a finding."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.findings = nodes.findings
        self.before = len(nodes.findings.found)

    def read(self, entry: Node) -> LabelRule | None:
        said = self._values(entry, "a label rule", RULE_KEYS)
        when = self._values(said["when"], "`when`", WHEN_KEYS) if "when" in said else {}
        if not self._asks_something(when) or "set" not in said:
            self._add("empty-rule", "a label rule needs a `when` that asks something, and a `set`", entry)
        patterns = self._patterns(when)
        rule = LabelRule(
            labels=self._labels(said["set"], patterns) if "set" in said else (),
            where=self.nodes.place(entry),
            cidrs=self._cidrs(when["cidr"]) if "cidr" in when else None,
            network=self._text(when, "network") or "main",
            patterns=patterns,
            because=self._text(said, "because"),
        )
        return rule if len(self.findings.found) == self.before else None

    def _add(self, code: str, message: str, node: Node, *, text: str = "", help: str = "") -> None:
        self.findings.add(code, message, self.nodes.place(node), text=text, help=help)

    def _values(self, node: Node, what: str, keys: Sequence[str]) -> dict[str, Node]:
        return {key: value for key, (_, value) in self.nodes.mapping(node, what, keys).items()}

    def _text(self, said: Mapping[str, Node], key: str) -> str:
        text = self.nodes.text(said[key], f"`{key}`") if key in said else None
        return text.value if text is not None else ""

    def _asks_something(self, when: Mapping[str, Node]) -> bool:
        return "cidr" in when or "name" in when or ("attribute" in when and ("equals" in when or "matches" in when))

    def _cidrs(self, node: Node) -> IntervalSet:
        return union(self._cidr(text, node) for text in self.nodes.texts(node, "`cidr`"))

    def _cidr(self, text: Text, node: Node) -> IntervalSet:
        try:
            return parse_cidr(text.value)
        except ValueError as error:
            network = without_host_bits(text.value)
            help_ = host_bits_help(text.value, network) if network else ""
            message = f"`{text.value}` has host bits set" if network else f"`{text.value}` is no CIDR: {error}"
            self._add("bad-cidr", message, node, text=text.value, help=help_)
            return EMPTY

    def _patterns(self, when: Mapping[str, Node]) -> tuple[tuple[str, re.Pattern[str]], ...]:
        """`name: PATTERN`, and `attribute: A` with `equals: TEXT` or `matches: PATTERN`."""
        attribute = self._attribute(when)
        written = [("name", "name"), (attribute, "matches")]
        patterns = [(of, self._pattern(when[key])) for of, key in written if key in when]
        if "equals" in when:
            patterns.append((attribute, re.compile(re.escape(self._equal(attribute, when)))))
        return tuple((of, pattern) for of, pattern in patterns if of and pattern is not None)

    def _attribute(self, when: Mapping[str, Node]) -> str:
        attribute = self._text(when, "attribute")
        if attribute and attribute not in ATTRIBUTES:
            help_ = unknown_word(attribute, ATTRIBUTES)
            message = f"`{attribute}` is no attribute of a workload"
            self._add("unknown-attribute", message, when["attribute"], text=attribute, help=help_)
        for key in ("equals", "matches"):
            if key in when and not attribute:
                self._add("missing-key", f"`{key}` needs the `attribute` it is about", when[key])
        return attribute if attribute in ATTRIBUTES else ""

    def _equal(self, attribute: str, when: Mapping[str, Node]) -> str:
        text = self._text(when, "equals")
        return KIND_ALIASES.get(text, text) if attribute == "kind" else text

    def _pattern(self, node: Node) -> re.Pattern[str] | None:
        text = self.nodes.text(node, "a pattern")
        try:
            return re.compile(text.value) if text is not None else None
        except re.error as error:
            self._add("bad-regex", f"cannot read the pattern: {error}", node, text=text.value if text else "")
            return None

    def _labels(self, node: Node, patterns: Sequence[tuple[str, re.Pattern[str]]]) -> tuple[tuple[str, str], ...]:
        groups = {group for _, pattern in patterns for group in pattern.groupindex}
        labels: list[tuple[str, str]] = []
        for key, (written, value) in self.nodes.mapping(node, "`set`").items():
            text = self.nodes.text(value, f"the label `{key}`")
            if text is not None:
                self._check_label(written, text, groups)
                labels.append((key, text.value))
        if not labels:
            self._add("empty-rule", "`set` sets no label", node)
        return tuple(labels)

    def _check_label(self, key: Text, value: Text, groups: set[str]) -> None:
        if not LABEL_KEY.fullmatch(key.value):
            where = Location(self.nodes.file, key.line, key.column)
            self.findings.add("bad-label-key", f"`{key.value}` is no label key", where, text=key.value)
        where = Location(self.nodes.file, value.line, value.column)
        for slot in _SLOT.findall(value.value):
            if slot not in groups:
                help_ = unknown_word(slot, groups) if groups else f"write `(?P<{slot}>...)` in the pattern"
                self.findings.add(
                    "unknown-group", f"no pattern names a group `{slot}`", where, text=value.value, help=help_
                )
        if not LABEL_VALUE.fullmatch(_SLOT.sub("x", value.value)) or not value.value:
            self.findings.add("bad-label-value", f"`{value.value}` is no label value", where, text=value.value)


Given = dict[tuple[str, str], tuple[LabelRule, ...]]
"""(workload name, key) -> the rules that speak of it. Where they agree the label is set, else it is not."""


def apply_label_rules(
    workloads: Sequence[Workload], rules: Sequence[LabelRule], findings: Findings
) -> tuple[tuple[Workload, ...], Given]:
    """The workloads with the labels that the rules give them, and which rules spoke of which label."""
    given: Given = {}
    unmatched = set(range(len(rules)))
    labelled: list[Workload] = []
    for workload in workloads:
        said = [(i, labels) for i, rule in enumerate(rules) if (labels := rule.labels_of(workload)) is not None]
        unmatched -= {i for i, _ in said}
        new = _agreed(workload, [(rules[i], labels) for i, labels in said], given, findings)
        labelled.append(msgspec.structs.replace(workload, labels=new | workload.labels) if new else workload)
    for rule in (rules[i] for i in sorted(unmatched)):
        findings.add("unmatched-label-rule", "no workload meets this label rule", rule.where, severity="warning")
    return tuple(labelled), given


def _agreed(
    workload: Workload, said: Sequence[tuple[LabelRule, dict[str, str]]], given: Given, findings: Findings
) -> dict[str, str]:
    """The labels on which every matching rule agrees, without those the inventory writes itself."""
    agreed: dict[str, str] = {}
    for key in sorted({key for _, labels in said for key in labels} - workload.labels.keys()):
        speakers = [(rule, labels[key]) for rule, labels in said if key in labels]
        given[workload.name, key] = tuple(rule for rule, _ in speakers)
        values = sorted({value for _, value in speakers})
        if len(values) > 1:
            _add_conflict(workload, key, speakers, findings)
        elif LABEL_VALUE.fullmatch(values[0]):
            agreed[key] = values[0]
        else:
            message = f"`{values[0]}`, given to `{workload.name}` as `{key}`, is no label value"
            findings.add("bad-label-value", message, speakers[0][0].where, text=values[0], subject=workload.name)
    return agreed


def _add_conflict(workload: Workload, key: str, speakers: Sequence[tuple[LabelRule, str]], findings: Findings) -> None:
    sides = " and ".join(f"{rule.text} says `{value}`" for rule, value in speakers)
    message = f"`{workload.name}` has no `{key}`: {sides}"
    findings.add("label-conflict", message, speakers[0][0].where, subject=workload.name, severity="warning")
