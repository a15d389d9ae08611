"""Kubernetes label-selector strings: `env=prod,role in (web,api),!legacy`.

A selector is a conjunction of requirements. A workload that lacks the key *does* match `!=`, `notin` and
`!key`, as in Kubernetes (apimachinery `labels.Requirement.Matches`).

INVARIANT: a selector has at least one requirement: "everyone" is a word, never an empty selector (law 3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

Labels = Mapping[str, str]
Operator = Literal["in", "notin", "exists", "absent"]

_KEY = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)?"
LABEL_KEY = re.compile(_KEY)
LABEL_VALUE = re.compile(_VALUE)
_REQUIREMENT = re.compile(
    rf"\s*(?:(?P<absent>!)\s*(?P<absent_key>{_KEY})"
    rf"|(?P<key>{_KEY})\s*(?:(?P<eq>==?|!=)\s*(?P<value>{_VALUE})"
    rf"|(?P<op>\bin\b|\bnotin\b)\s*\((?P<values>[^()]*)\))?)\s*"
)


class Requirement(msgspec.Struct, frozen=True, order=True):
    """One condition on one label key. `values` is sorted and unique; empty for `exists` and `absent`."""

    key: str
    op: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Labels) -> bool:
        value = labels.get(self.key)
        if self.op == "in":
            return value in self.values
        if self.op == "notin":
            return value not in self.values
        return (value is not None) == (self.op == "exists")

    def __str__(self) -> str:
        if self.op == "exists":
            return self.key
        if self.op == "absent":
            return f"!{self.key}"
        if len(self.values) == 1:
            return f"{self.key}{'=' if self.op == 'in' else '!='}{self.values[0]}"
        return f"{self.key} {self.op} ({','.join(self.values)})"


class Selector(msgspec.Struct, frozen=True, order=True):
    """A conjunction of requirements, sorted and unique, so equal meanings written alike compare equal."""

    requirements: tuple[Requirement, ...]

    def matches(self, labels: Labels) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __and__(self, other: Selector) -> Selector:
        return Selector(tuple(sorted({*self.requirements, *other.requirements})))

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(requirement.key for requirement in self.requirements)

    @property
    def is_satisfiable(self) -> bool:
        """Whether some label set, present or not, could match."""
        return all(_some_value(group) for group in _by_key(self.requirements))


def parse_selector(text: str) -> Selector:
    """Kubernetes selector text -> Selector. Raises ValueError that names the offending part."""
    if not text.strip():
        raise ValueError("an empty selector picks nobody; write `anyone` if you mean everyone")
    requirements: set[Requirement] = set()
    position = 0
    while True:
        match = _REQUIREMENT.match(text, position)
        if match is None or match.end() == position:
            raise ValueError(f"cannot read `{text[position:].strip() or text}` as a label requirement")
        requirements.add(_requirement(match))
        position = match.end()
        if position == len(text):
            return Selector(tuple(sorted(requirements)))
        if text[position] != ",":
            raise ValueError(f"expected `,` before `{text[position:].strip()}`")
        position += 1


def meant_by(text: str) -> str:
    """The selector that a text with stray commas or signs may mean; empty: none."""
    parts = (re.sub(r"\s*[:=]{2,}\s*", "=", part.strip()) for part in re.split(r",(?![^(]*\))", text))
    tidied = ",".join(part for part in parts if part)
    try:
        return str(parse_selector(tidied))
    except ValueError:
        return ""


def selector_of(**labels: str) -> Selector:
    """The selector of exactly these `key=value` pairs."""
    return Selector(tuple(sorted(Requirement(key, "in", (value,)) for key, value in labels.items())))


def _requirement(match: re.Match[str]) -> Requirement:
    if match["absent"]:
        return Requirement(match["absent_key"], "absent")
    if match["eq"]:
        return Requirement(match["key"], "notin" if match["eq"] == "!=" else "in", (match["value"],))
    if match["op"]:
        return Requirement(match["key"], "in" if match["op"] == "in" else "notin", _values(match["values"]))
    return Requirement(match["key"], "exists")


def _values(text: str) -> tuple[str, ...]:
    values = tuple(sorted({value.strip() for value in text.split(",")}))
    for value in values:
        if not LABEL_VALUE.fullmatch(value):
            raise ValueError(f"`{value}` is not a label value")
    if values == ("",):
        raise ValueError("`()` lists no value; an empty list picks nobody")
    return values


def _by_key(requirements: Iterable[Requirement]) -> list[list[Requirement]]:
    groups: dict[str, list[Requirement]] = {}
    for requirement in requirements:
        groups.setdefault(requirement.key, []).append(requirement)
    return list(groups.values())


def _some_value(group: list[Requirement]) -> bool:
    """Whether some value of one key (or its absence, or a value nobody named) meets every requirement."""
    key = group[0].key
    named = {value for requirement in group for value in requirement.values}
    worlds: list[dict[str, str]] = [{}, *({key: value} for value in named), {key: "\0a value nobody named"}]
    return any(all(requirement.matches(world) for requirement in group) for world in worlds)
