"""A quarantine that begins or ends, at the cost of the change: no class, cell or rule of policy is rendered. Pure.

Like `membership`, it starts from a table that was read whole and found untouched. Both generations are bound where a
policy is on trial. What is sent are elements, the chains a quarantine is in, and, where it isolates, the next policy
generation, so that live connections are judged again.

INVARIANT: the layout this foretells is, part by part, what a whole reading would find.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from ringfence.core.intent.model import Intent
from ringfence.targets.nftables.generations import FOR_ONE, is_same, side_by_side, split
from ringfence.targets.nftables.layout import Elements, Hash, Layout
from ringfence.targets.nftables.membership import Moved
from ringfence.targets.nftables.plan import Plan, missing_rows
from ringfence.targets.nftables.readback import normal_passages
from ringfence.targets.nftables.reading import after
from ringfence.targets.nftables.realised import Realised, Standing, told
from ringfence.targets.nftables.render import PASSAGE, marked_chains, quarantined, said_in, sealed
from ringfence.targets.nftables.revision import next_numbers, with_departed
from ringfence.targets.nftables.steps import plan_to

FIELDS = ("is_quarantined", "isolated", "quarantine_passages")
"""What of an intent is quarantine."""
_INTENT = 1
"""The line of a table that says which intent it is of."""


def with_quarantine(intent: Intent, of: Intent) -> Intent:
    """The one intent with the quarantines of the other."""
    return msgspec.structs.replace(intent, **{field: getattr(of, field) for field in FIELDS})


def is_alike(one: Intent, other: Intent) -> bool:
    """Whether two intents are the same to a host's rules, quarantine aside."""
    return one.mode == other.mode and all(getattr(one, f) == getattr(other, f) for f in ("failsafe", "parts", "peers"))


def changed_isolation(found: Realised, intent: Intent, now: float) -> Moved | None:
    """The step to the quarantines of an intent; None where they are in force. `found` is untouched and not reverted."""
    before = [s for s in (found.confirmed, found.trial) if s is not None]
    if all(_is_same(standing.intent, intent) for standing in before):
        return None
    return _Step(found, before, intent, now).moved()


def _is_same(one: Intent | None, other: Intent) -> bool:
    assert one is not None
    return set(one.isolated) == set(other.isolated) and not _is_other(one, other)


def _is_other(one: Intent, other: Intent) -> bool:
    """Whether more differs than who else is isolated."""
    passages = ([normal_passages(i.quarantine_passages, d) for d in ("in", "out")] for i in (one, other))
    return one.is_quarantined != other.is_quarantined or next(passages) != next(passages)


def _takes(before: Intent | None, after: Intent) -> bool:
    """Whether anything may pass before that does not afterwards; errs towards saying so."""
    return before is None or _is_other(before, after) or not set(after.isolated) <= set(before.isolated)


class _Step:
    def __init__(self, found: Realised, before: list[Standing], intent: Intent, now: float) -> None:
        self.found, self.before, self.intent, self.now = found, before, intent, now

    def moved(self) -> Moved:
        found, has_trial = self.found, self.found.trial is not None
        assert found.layout is not None
        numbers, forgets = self._numbers()
        terms = with_departed(found.terms.at(self.now), frozenset(), forgets)
        terms = msgspec.structs.replace(terms, trial_until=found.terms.trial_until)
        words = terms.words(has_trial=has_trial)
        standings = [self._isolated(s, n, words) for s, n in zip(self.before, numbers, strict=True)]
        layout = standings[0].layout
        if has_trial:
            layout = side_by_side(standings[0].layout, standings[1].layout, words)
            layouts = split(layout)
            assert layouts.trial is not None
            standings = [
                msgspec.structs.replace(standing, layout=one)
                for standing, one in zip(standings, (layouts.confirmed, layouts.trial), strict=True)
            ]
        plan = msgspec.structs.replace(
            plan_to(found, layout, terms, self.now, has_trial=has_trial),
            intent=standings[-1].intent,
            generation=numbers[-1],
            forgets=forgets,
            judges_again=list(numbers) != [s.generation for s in self.before],
        )
        after = self._after(plan, standings, {**found.layout.timers, **terms.timers(self.now, has_trial=has_trial)})
        elements, chains, sets = _to_read(found.layout, layout)
        return Moved(plan, after, elements, chains, sets)

    def _numbers(self) -> tuple[tuple[int, ...], tuple[range, ...]]:
        kept = tuple(standing.generation for standing in self.before)
        if not any(_takes(standing.intent, self.intent) for standing in self.before):
            return kept, ()
        return next_numbers(kept[-1], len(kept), self.found.terms.at(self.now).lasting)

    def _isolated(self, standing: Standing, number: int, words: Mapping[int, str]) -> Standing:
        """One generation with the quarantines of now, under a number."""
        assert standing.intent is not None
        old, intent = standing.layout, with_quarantine(standing.intent, self.intent)
        intent = msgspec.structs.replace(intent, isolated=tuple(sorted(intent.isolated)))
        draft = quarantined(intent)
        marked = marked_chains(intent, number) if number != standing.generation else {}
        sets = {n: spec for n, spec in old.sets.items() if not n.startswith(f"{PASSAGE}_")} | draft.sets
        elements = {n: _kept(old.elements.get(n), draft.elements.get(n)) for n in sets}
        chains = {**old.chains, **draft.chains, **marked}
        layout = msgspec.structs.replace(old, sets=sets, elements=elements, chains=chains)
        digest = _digest(standing.digest, intent)
        own = {n: text for n, text in said_in(old).items() if n in FOR_ONE}
        layout = sealed(layout, {**own, **words, _INTENT: f"intent {digest}"})
        return Standing(layout, intent, number, digest, standing.policy)

    def _after(
        self, plan: Plan, standings: list[Standing], timers: Mapping[str, Mapping[bytes, float | None]]
    ) -> Realised:
        generation = after(plan, self.found.generation)
        confirmed, trial = standings[0], standings[1] if len(standings) > 1 else None
        layout = msgspec.structs.replace(plan.layout, timers=timers)
        return told(layout, generation, confirmed, trial, is_sealed=True, now=self.now)


def _kept(old: Elements | None, new: Elements | None) -> Elements:
    """The same object where nothing changes: what is not touched is not compared either."""
    if new is None or (old is not None and is_same(old, new)):
        assert old is not None
        return old
    return new


def _digest(before: str, intent: Intent) -> str:
    """Of what a table was made from, and every quarantine since: for telling tables apart, not intents."""
    quarantine = msgspec.json.encode([getattr(intent, field) for field in FIELDS], order="deterministic")
    return hashlib.sha256(before.encode() + quarantine).hexdigest()


def _to_read(old: Layout, new: Layout) -> Iterator[Any]:
    """What was sent, to be read back: elements, chains, and sets that are new."""
    written = [name for name, spec in new.sets.items() if not spec.has_timeout]
    kept = [name for name in written if name in old.sets and new.elements[name] is not old.elements[name]]
    yield tuple(expected for name in kept for expected in _elements(name, old.elements[name], new.elements[name]))
    yield tuple(c for n, c in new.chains.items() if n not in old.chains or not c.is_same(old.chains[n]))
    yield tuple(name for name in new.sets if name not in old.sets)


def _elements(name: str, old: Elements, new: Elements) -> Iterator[tuple[str, bytes, bytes | None]]:
    if isinstance(old, Hash) and isinstance(new, Hash) and not new.comments:
        yield from ((name, old.keys[at].tobytes(), None) for at in missing_rows(old, new))
        yield from ((name, new.keys[at].tobytes(), new.values[at].tobytes()) for at in missing_rows(new, old))
