"""Names a person would give: segments, policies and rules from the label values they stand for.

INVARIANT: a segment's text plus its policy's scope is exactly the label pairs it was asked for; one meaning, one name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ringfence.core.insight.parties import LabelKeys
from ringfence.core.labels.selector import Requirement, Selector
from ringfence.core.policy.model import WORDS, Named, Policy, Workloads

LabelPairs = tuple[tuple[str, str], ...]

WHOLE_SCOPE = "all"
_RESERVED = frozenset({*WORDS, "global"})
_NOT_NAME = re.compile(r"[^a-z0-9]+")
LONGEST = 60


def slug(*parts: str) -> str:
    """A name of the language (`[a-z0-9][a-z0-9_-]*`) from label values."""
    text = _NOT_NAME.sub("-", "-".join(parts).lower()).strip("-")
    return text[:LONGEST].rstrip("-") or "unnamed"


def unique(name: str, taken: Iterable[str]) -> str:
    """The name, or with the least number that makes it new."""
    known = set(taken)
    number, out = 2, name
    while out in known:
        number, out = number + 1, f"{name}-{number}"
    return out


def selector_of_pairs(pairs: LabelPairs) -> Selector:
    return Selector(tuple(sorted(Requirement(key, "in", (value,)) for key, value in pairs)))


def text_of_pairs(pairs: LabelPairs, keys: LabelKeys) -> str:
    """Selector text in the order people say it: application, environment, role, the rest."""
    return ",".join(f"{key}={value}" for key, value in spoken_order(pairs, keys))


def spoken_order(pairs: LabelPairs, keys: LabelKeys) -> list[tuple[str, str]]:
    rank = {key: i for i, key in enumerate((*keys.scope, keys.role))}
    return sorted(pairs, key=lambda pair: (rank.get(pair[0], len(rank)), pair))


class SegmentBook:
    """The segments of one policy, made as rules ask for them."""

    def __init__(self, scope: LabelPairs, keys: LabelKeys, existing: Policy | None = None) -> None:
        self.scope, self.keys = scope, keys
        self.scope_selector = selector_of_pairs(scope)
        self.named: dict[str, Named] = {segment.name: segment for segment in existing.segments} if existing else {}
        self._by_meaning: dict[frozenset[Selector], str] = {
            frozenset(segment.peer.selectors): name for name, segment in self.named.items() if segment.peer
        }

    def peer(self, pairs: LabelPairs) -> Workloads:
        """A segment for label pairs inside the scope, else a `global:` selector."""
        if not set(self.scope) <= set(pairs):
            return Workloads((selector_of_pairs(pairs),), f"global: {text_of_pairs(pairs, self.keys)}")
        rest = tuple(pair for pair in pairs if pair not in self.scope)
        written = selector_of_pairs(rest or self.scope)
        selectors = tuple(dict.fromkeys((written, self.scope_selector)))
        name = self._by_meaning.get(frozenset(selectors)) or self._new_name(rest)
        if name not in self.named:
            text = text_of_pairs(rest or self.scope, self.keys)
            self.named[name] = Named(name, text, peer=Workloads(selectors, name))
            self._by_meaning[frozenset(selectors)] = name
        return Workloads(selectors, name)

    def _new_name(self, rest: LabelPairs) -> str:
        ordered = spoken_order(rest, self.keys)
        name = slug(*(value for _, value in ordered)) if ordered else WHOLE_SCOPE
        name = f"{name}-segment" if name in _RESERVED else name
        return unique(name, self.named)

    def short(self, pairs: LabelPairs) -> str:
        """How a rule's name calls these pairs: without what the scope already says."""
        if set(self.scope) <= set(pairs):
            return self.peer(pairs).text
        shared = {pair for pair in self.scope if pair[0] == self.keys.environment}
        rest = tuple(pair for pair in pairs if pair not in shared) or pairs
        return slug(*(value for _, value in spoken_order(rest, self.keys)))

    def segments(self) -> tuple[Named, ...]:
        return tuple(self.named.values())


def policy_name(scope: LabelPairs, taken: Iterable[str]) -> str:
    return unique(slug(*(value for _, value in scope)), taken)


def rule_name(source: Sequence[str], destination: Sequence[str], service: str, taken: Iterable[str]) -> str:
    """`web-to-db`; with the service where that name is taken."""
    known = set(taken)
    name = f"{_listed(source)}-to-{_listed(destination)}"
    return name if name not in known else unique(slug(name, service), known)


def _listed(names: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return "-and-".join(distinct) if len(distinct) <= 2 else f"{len(distinct)}-groups"
