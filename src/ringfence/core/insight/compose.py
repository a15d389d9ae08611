"""Blocks of the cover -> policies: rectangles merged into rules, ends named, services in the language's words.

INVARIANT: a rule permits exactly the union of its blocks. Blocks are merged only where that loses nothing: equal
ends (their services join), or equal destination and services (their sources join).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from ringfence.core.insight.cover import Block
from ringfence.core.insight.parties import PEER, LabelKeys
from ringfence.core.insight.segments import LabelPairs, SegmentBook, policy_name, rule_name, slug
from ringfence.core.net.intervals import IntervalSet, union
from ringfence.core.net.service import ANY, WELL_KNOWN, format_services, parse_service
from ringfence.core.policy.model import Peer, Policy, Rule

Ids = NDArray[np.int64]
MOST_SOURCES = 6
"""More sources in one rule read worse than two rules."""

BareEnds = Callable[[Ids, str], tuple[Peer, ...]]
"""(pairs, "source" or "destination") -> the peers for the bare addresses at that end."""


@dataclass(frozen=True)
class DraftRule:
    """One rule before it has peers of the language."""

    owner: LabelPairs
    sources: tuple[LabelPairs, ...]
    destination: LabelPairs
    services: IntervalSet
    pairs: Ids
    permitted: int
    seen: int

    @property
    def is_from_bare(self) -> bool:
        return self.sources[0][0][0] == PEER

    @property
    def is_to_bare(self) -> bool:
        return self.destination[0][0] == PEER


@dataclass(frozen=True)
class Composed:
    """One policy with the drafts its new rules came from, in step."""

    policy: Policy
    drafts: tuple[DraftRule, ...]
    rules: tuple[Rule, ...]


def merge(blocks: Iterable[Block], owners: Sequence[LabelPairs], services: Sequence[IntervalSet]) -> list[DraftRule]:
    """Join services of equal ends, then sources of equal destination and services."""
    by_ends: dict[tuple[int, LabelPairs, LabelPairs], list[Block]] = {}
    for block in blocks:
        by_ends.setdefault((block.unit, block.source, block.destination), []).append(block)
    drafts = [
        DraftRule(
            owners[unit], (source,), destination, union(services[b.service] for b in group),
            np.unique(np.concatenate([b.pairs for b in group])),
            sum(b.permitted for b in group), sum(b.seen for b in group),
        )
        for (unit, source, destination), group in by_ends.items()
    ]  # fmt: skip
    by_target: dict[tuple[object, ...], list[DraftRule]] = {}
    for draft in sorted(drafts, key=lambda d: (d.owner, d.destination, d.sources)):
        is_inside = set(draft.owner) <= set(draft.sources[0])
        kind = (draft.is_from_bare and draft.sources, is_inside, draft.destination[0][0] == PEER and draft.sources)
        by_target.setdefault((draft.owner, draft.destination, draft.services, *kind), []).append(draft)
    return [
        _join(group[i : i + MOST_SOURCES]) for group in by_target.values() for i in range(0, len(group), MOST_SOURCES)
    ]


def _join(group: Sequence[DraftRule]) -> DraftRule:
    first = group[0]
    pairs = np.unique(np.concatenate([d.pairs for d in group]))
    sources = tuple(d.sources[0] for d in group)
    permitted, seen = sum(d.permitted for d in group), sum(d.seen for d in group)
    return DraftRule(first.owner, sources, first.destination, first.services, pairs, permitted, seen)


def compose(
    drafts: Iterable[DraftRule], keys: LabelKeys, bare_ends: BareEnds, existing: Sequence[Policy] = ()
) -> list[Composed]:
    """One policy an owner. An existing policy of the same scope is extended: its text stays, rules are added at its
    end."""
    taken = {policy.name for policy in existing}
    out: list[Composed] = []
    for owner, group in groupby(sorted(drafts, key=lambda d: d.owner), key=lambda d: d.owner):
        book = SegmentBook(owner, keys)
        old = next((p for p in existing if p.scope == book.scope_selector), None)
        book = SegmentBook(owner, keys, old)
        name = old.name if old else policy_name(owner, taken)
        taken.add(name)
        out.append(_Composer(name, book, bare_ends, old).compose(list(group)))
    return out


@dataclass
class _Composer:
    name: str
    book: SegmentBook
    bare_ends: BareEnds
    old: Policy | None
    names: set[str] = field(default_factory=set)

    def compose(self, drafts: list[DraftRule]) -> Composed:
        old = self.old
        self.names = {rule.name for rule in old.rules} if old else set()
        ordered = sorted(drafts, key=self._order)
        for draft in ordered:
            self._register(draft)
        rules = tuple(self._rule(draft) for draft in ordered)
        base = old or Policy(self.name, scope=self.book.scope_selector)
        policy = Policy(
            name=base.name, owner=base.owner, scope=base.scope, segments=self.book.segments(), services=base.services,
            rules=(*base.rules, *rules), tests=base.tests,
            because=base.because, comments=base.comments, margin=base.margin, where=base.where,
        )  # fmt: skip
        return Composed(policy, tuple(ordered), rules)

    def _order(self, draft: DraftRule) -> tuple[int, str, str, list[str]]:
        """Clients from outside first, then the inside, then other applications, then what goes out."""
        if draft.is_to_bare:
            rank = 4
        elif draft.is_from_bare:
            rank = 0 if draft.sources[0][0][1] == "internet" else 1
        else:
            rank = 2 if set(self.book.scope) <= set(draft.sources[0]) else 3
        return rank, str(draft.destination), str(draft.sources), format_services(draft.services)

    def _register(self, draft: DraftRule) -> None:
        """Segments appear in the order in which rules use them, destinations first."""
        for pairs in (draft.destination, *draft.sources):
            if pairs[0][0] != PEER and set(self.book.scope) <= set(pairs):
                self.book.peer(pairs)

    def _rule(self, draft: DraftRule) -> Rule:
        sources = self._peers(draft, "source")
        destinations = self._peers(draft, "destination")
        words = service_words(draft.services)
        name = rule_name(
            [self._short(pairs) for pairs in draft.sources], [self._short(draft.destination)],
            "-".join(slug(w) for w in words[:2]), self.names,
        )  # fmt: skip
        self.names.add(name)
        return Rule(
            name=name, action="allow", sources=sources, destinations=destinations,
            services=draft.services, service_words=words, is_named=True,
        )  # fmt: skip

    def _peers(self, draft: DraftRule, end: str) -> tuple[Peer, ...]:
        sides = draft.sources if end == "source" else (draft.destination,)
        if sides[0][0][0] == PEER:
            return self.bare_ends(draft.pairs, end)
        return tuple(dict.fromkeys(self.book.peer(pairs) for pairs in sides))

    def _short(self, pairs: LabelPairs) -> str:
        return pairs[0][1] if pairs[0][0] == PEER else self.book.short(pairs)


def service_words(services: IntervalSet) -> tuple[str, ...]:
    """The set in words a person would choose: dictionary names where all of a name's points are in, else
    `tcp/8080`."""
    if services == ANY:
        return ("any",)
    rest, words = services, []
    for name, points in _DICTIONARY:
        if rest.overlaps(points) and services.covers(points):
            words.append(name)
            rest = rest - points
    return tuple(sorted(words) + format_services(rest))


_DICTIONARY = sorted(
    ((name, union(parse_service(item) for item in text.split())) for name, text in WELL_KNOWN.items()),
    key=lambda entry: (-len(entry[1].ranges), entry[0]),
)
"""Names of many points first, so `dns` is not told as its halves."""
