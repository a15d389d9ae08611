"""What the table must be next: which generations it holds, under which numbers, and what lasts how long. Pure.

    plain       the intent is the only policy. Whatever was on trial ends
    trial       the intent's policy stands beside the confirmed one and decides while its time runs
    followed    the policy on trial is the same: membership and quarantine change, for both generations at once

INVARIANT: what stands apart from policy (membership, quarantine, failsafe) is the same for both generations: what the
new intent withdraws is withdrawn from the confirmed one too, and whatever cannot be told there is withheld.
INVARIANT: a generation number is given out again only after every number in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from ringfence.core.errors import TargetError
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.model import UNKNOWN_CLASS, Cell, Intent, Part, PeerClass
from ringfence.core.net.address import V4_BASE, is_v4
from ringfence.core.net.service import ANY
from ringfence.targets.nftables.areas import CgroupRef
from ringfence.targets.nftables.changes import class_texts
from ringfence.targets.nftables.generations import POLICY, side_by_side
from ringfence.targets.nftables.layout import Layout
from ringfence.targets.nftables.marks import LAST_CLASS, fresh_generations, reused_generations
from ringfence.targets.nftables.realised import Realised, Standing
from ringfence.targets.nftables.render import DEPARTED, DIRECTIONS, render
from ringfence.targets.nftables.revocation import Losses, losses, moved, policy_of
from ringfence.targets.nftables.terms import FOR_GOOD, MOST_DEPARTED, Terms

Live = Literal["keep", "drain", "cut"]
WITHHELD = LAST_CLASS
"""The class of addresses of which the confirmed policy does not know what they are now: all of theirs is forbidden.
Compiled classes have 31 bits (core.intent), so none has this number."""
NOTHING_LOST = Losses(False, False, frozenset())


class How(msgspec.Struct, frozen=True):
    """How an intent is to be applied."""

    trial_s: float | None = None
    """For so long it is on trial; None: for good."""
    live: Live = "cut"
    grace_s: float = 60.0
    policy: str = ""
    """A name of the policy, by which the same one is known again; without, its content is compared."""
    fallback: Intent | None = None
    """The confirmed policy with the membership of now; without, as much of it as can be told is followed."""


class Revision(msgspec.Struct, frozen=True):
    layout: Layout
    terms: Terms
    has_trial: bool
    generation: int
    """In force."""
    forgets: tuple[range, ...]
    """Numbers that no connection may bear when this is applied."""
    judges_again: bool
    seeds: int = 0
    """The generation of connections that are older than the first rules, where they may last."""


def revise(intent: Intent, found: Realised, groups: Mapping[str, CgroupRef], how: How, now: float) -> Revision:
    """The next table. Raises TargetError `no-confirmed-policy` where a trial has nothing to fall back on."""
    return _Reviser(intent, found, groups, how, now).revise()


class _Reviser:
    def __init__(self, intent: Intent, found: Realised, groups: Mapping[str, CgroupRef], how: How, now: float) -> None:
        self.intent, self.found, self.groups, self.how, self.now = intent, found, groups, how, now
        self.terms = (found.terms if found.is_untouched else Terms()).at(now)
        standings = [s for s in (found.confirmed, found.trial) if s is not None]
        self.latest = (
            found.trial.generation if found.trial is not None else max([s.generation for s in standings] or [0])
        )
        self.base = found.in_force

    def revise(self) -> Revision:
        trial = self.found.trial
        confirmed = self.found.confirmed if self.found.on_trial else self.base
        if (
            self.found.on_trial
            and trial is not None
            and self._is_policy_of(trial, strictly=self.how.trial_s is not None)
        ):
            assert confirmed is not None
            return self._followed(confirmed, trial)
        if self.found.layout is None and self.how.live != "cut":
            return self._first()
        if self.how.trial_s is not None and not self._is_confirmed_already(confirmed):
            return self._trial(confirmed)
        return self._plain()

    def _is_confirmed_already(self, confirmed: Standing | None) -> bool:
        return (
            confirmed is not None
            and self.found.is_untouched
            and not self.found.on_trial
            and self._is_policy_of(confirmed, strictly=True)
        )

    def _is_policy_of(self, standing: Standing, *, strictly: bool) -> bool:
        """Whether the intent is of this policy. A class may come and go with its cells for want of addresses."""
        if standing.intent is None or standing.intent.mode != self.intent.mode:
            return False
        if self.how.policy and standing.policy:
            return self.how.policy == standing.policy
        mine, theirs = (policy_of(one, with_rules=strictly) for one in (self.intent, standing.intent))
        if strictly:
            return mine == theirs
        present = {UNKNOWN_CLASS, *(p.id for p in self.intent.peers)} & {0, *(p.id for p in standing.intent.peers)}
        return _about(mine, present) == _about(theirs, present)

    # -- the three ways --

    def _first(self) -> Revision:
        """The first rules: what was there before them is a generation of its own, which may last."""
        (before,), forgets = self._numbers(1)
        self.latest = before
        until = self._until()
        self.terms = Terms(None, {before: until} if until > self.now else {})
        revision = self._trial(None) if self.how.trial_s is not None else self._plain()
        return msgspec.structs.replace(revision, forgets=(*forgets, *revision.forgets), seeds=before)

    def _plain(self) -> Revision:
        lost = self._losses(self.base, self.intent)
        number, forgets = self.base.generation if self.base is not None else 0, tuple[range, ...]()
        is_new = not number or lost.is_any or self.found.is_reverted
        if is_new:
            (number,), forgets = self._numbers(1)
        terms = self._terms(lost, forgets)
        layout = self._render(self.intent, number, terms, has_trial=False)
        return Revision(layout, terms, False, number, forgets, is_new)

    def _trial(self, confirmed: Standing | None) -> Revision:
        fallback, is_verbatim = self._fallback(confirmed)
        lost = self._losses(self.base, self.intent)
        keeps = confirmed is not None and (is_verbatim or not self._losses(confirmed, fallback).is_any)
        numbers, forgets = self._numbers(1 if keeps else 2, (confirmed.generation,) if keeps and confirmed else ())
        until = self.now + (self.how.trial_s or 0.0)
        terms = msgspec.structs.replace(self._terms(lost, forgets), trial_until=until)
        ground = confirmed.generation if keeps and confirmed is not None else numbers[0]
        return self._both(confirmed, fallback, ground, numbers[-1], terms, forgets, is_verbatim=is_verbatim)

    def _followed(self, confirmed: Standing, trial: Standing) -> Revision:
        if self.how.fallback is None and (confirmed.intent is None or trial.intent is None):
            raise _nothing_to_fall_back_on()
        fallback = self.how.fallback or follow(named_intent(confirmed), named_intent(trial), self.intent)
        lost = self._losses(trial, self.intent)
        other = self._losses(confirmed, fallback)
        keeps = not lost.is_any and not other.is_any
        numbers, forgets = ((confirmed.generation, trial.generation), ()) if keeps else self._numbers(2)
        both = Losses(lost.is_any or other.is_any, False, lost.addresses | other.addresses)
        until = self.terms.trial_until
        if self.how.trial_s is not None:
            until = self.now + self.how.trial_s
        terms = msgspec.structs.replace(self._terms(both, forgets), trial_until=until)
        return self._both(
            confirmed, fallback, numbers[0], numbers[1], terms, forgets, is_verbatim=False, again=not keeps
        )

    def _both(
        self,
        confirmed: Standing | None,
        fallback: Intent,
        ground: int,
        number: int,
        terms: Terms,
        forgets: tuple[range, ...],
        *,
        is_verbatim: bool,
        again: bool = True,
    ) -> Revision:
        words = terms.words(has_trial=True)
        if is_verbatim and confirmed is not None:
            first = confirmed.layout
        else:
            named = {POLICY: f"policy {confirmed.policy}"} if confirmed is not None and confirmed.policy else {}
            first = render(fallback, ground, self.groups, named)
        second = self._render(self.intent, number, terms, has_trial=True)
        return Revision(side_by_side(first, second, words), terms, True, number, forgets, again)

    def _fallback(self, confirmed: Standing | None) -> tuple[Intent, bool]:
        """The confirmed policy as it is from now on, and whether that is what is in the kernel to the bit."""
        if self.how.fallback is not None:
            return self.how.fallback, False
        if self.found.layout is None:
            return _watching(self.intent), False
        if confirmed is None or confirmed.intent is None or not self.found.is_untouched:
            raise _nothing_to_fall_back_on()
        named = named_intent(confirmed)
        apart = _apart(named, self.intent)
        return apart, apart == named

    # -- what they share --

    def _losses(self, base: Standing | None, intent: Intent) -> Losses:
        """Where it is not known what was let pass, everything may be lost."""
        if base is None or not base.generation:
            return NOTHING_LOST
        if base.intent is None or not self.found.is_untouched:
            return Losses(True, False, frozenset())
        return losses(base.intent, intent)

    def _numbers(self, count: int, kept: tuple[int, ...] = ()) -> tuple[tuple[int, ...], tuple[range, ...]]:
        return next_numbers(self.latest, count, (*kept, *self.terms.lasting))

    def _terms(self, lost: Losses, forgets: tuple[range, ...]) -> Terms:
        """What lasts afterwards: after a loss of policy as it is to be, capped by every stricter word since."""
        lasting = dict(self.terms.lasting)
        if lost.is_policy:
            until = self._until()
            last = self.base.generation if self.base is not None else 0
            lasting = {g: min(given, until) for g, given in {**lasting, last: FOR_GOOD}.items() if g}
        lasting = {g: t for g, t in lasting.items() if t > self.now}
        return with_departed(msgspec.structs.replace(self.terms, lasting=lasting), lost.addresses, forgets)

    def _until(self) -> float:
        """Until when a connection lasts that loses permission now."""
        return {"cut": 0.0, "drain": self.now + self.how.grace_s, "keep": FOR_GOOD}[self.how.live]

    def _render(self, intent: Intent, generation: int, terms: Terms, *, has_trial: bool) -> Layout:
        named = {POLICY: f"policy {self.how.policy}"} if self.how.policy else {}
        return render(intent, generation, self.groups, {**terms.words(has_trial=has_trial), **named})


def next_numbers(latest: int, count: int, taken: Iterable[int]) -> tuple[tuple[int, ...], tuple[range, ...]]:
    """The next generation numbers, and which must be forgotten before they are given out."""
    numbers = fresh_generations(latest, count, taken)
    return numbers, tuple(r for n in numbers if (r := reused_generations(n)) is not None)


def with_departed(terms: Terms, lost: frozenset[int], forgets: tuple[range, ...]) -> Terms:
    """The terms after addresses lost their class, and some generations are forgotten. Nothing of a trial's time."""
    lasting = {g: until for g, until in terms.lasting.items() if not any(g in r for r in forgets)}
    departed = _departed(terms.departed, lost)
    if sum(map(len, departed.values())) > MOST_DEPARTED:
        return Terms()
    return Terms(None, lasting, departed if lasting else {})


def _nothing_to_fall_back_on() -> TargetError:
    return TargetError(
        "no-confirmed-policy",
        "what is in the kernel is nothing a trial can fall back on",
        help="apply the last good policy without a trial first",
    )


def _about(policy: Mapping[object, object], classes: set[int]) -> dict[object, object]:
    """Those entries that are about one of the classes, or about none."""
    return {key: value for key, value in policy.items() if (number := _class_in(key)) is None or number in classes}


def _class_in(key: object) -> int | None:
    """`normal` keys cells by (direction, addresses, unit, class, ...), `policy_of` ranges by ("ranges", class)."""
    if not isinstance(key, tuple):
        return None
    found = key[3] if len(key) > 3 else key[1] if key[0] == "ranges" else None
    return found if isinstance(found, int) else None


def _departed(known: Mapping[str, frozenset[bytes]], lost: frozenset[int]) -> dict[str, frozenset[bytes]]:
    v4 = frozenset((a - V4_BASE).to_bytes(4, "big") for a in lost if is_v4(a))
    v6 = frozenset(a.to_bytes(16, "big") for a in lost if not is_v4(a))
    merged = {f"{DEPARTED}{n}": known.get(f"{DEPARTED}{n}", frozenset()) | keys for n, keys in (("4", v4), ("6", v6))}
    return {name: keys for name, keys in merged.items() if keys}


# -- the confirmed policy, as it must be now ---------------------------------------------------------------------------


def named_intent(standing: Standing) -> Intent:
    """The intent that was read back, with the words it has for its classes."""
    assert standing.intent is not None
    texts = class_texts(standing.layout)
    peers = tuple(msgspec.structs.replace(p, text=texts.get(p.id, "")) for p in standing.intent.peers)
    return msgspec.structs.replace(standing.intent, peers=peers)


def _apart(confirmed: Intent, now: Intent) -> Intent:
    """The confirmed policy with everything but policy and membership as it is now."""
    changed = {
        field: getattr(now, field)
        for field in ("failsafe", "is_quarantined", "isolated", "quarantine_passages")
        if _sorted(getattr(now, field)) != _sorted(getattr(confirmed, field))
    }
    return msgspec.structs.replace(confirmed, **changed)


def _sorted(value: object) -> object:
    return sorted(value, key=repr) if isinstance(value, tuple) else value


def _watching(intent: Intent) -> Intent:
    """What a host falls back on that had no policy: nothing is blocked but by quarantine."""
    return msgspec.structs.replace(intent, mode=Mode(), peers=(), parts=())


def follow(confirmed: Intent, before: Intent, after: Intent) -> Intent:
    """The confirmed policy after the membership change that turned one intent of another policy into the next.

    INVARIANT: no address is of a class there that it was not of before, unless both policies know that class and agreed
    on what the address was. Of whatever else moved everything is withheld.
    """
    known = {UNKNOWN_CLASS, *(p.id for p in confirmed.peers)}
    listed = {a: p.id for p in confirmed.peers for a in p.addresses}
    for address, (was, is_) in moved(before.peers, after.peers).items():
        agreed = listed.get(address, UNKNOWN_CLASS) == was
        listed[address] = is_ if agreed and is_ and is_ in known else WITHHELD
    return _with_members(_apart(confirmed, after), listed)


def _with_members(intent: Intent, listed: Mapping[int, int]) -> Intent:
    members: dict[int, list[int]] = {}
    for address, number in listed.items():
        members.setdefault(number, []).append(address)
    peers = tuple(msgspec.structs.replace(p, addresses=tuple(sorted(members.get(p.id, ())))) for p in intent.peers)
    if WITHHELD not in members or any(p.id == WITHHELD for p in peers):
        return msgspec.structs.replace(intent, peers=peers)
    withheld = PeerClass(WITHHELD, "withheld until the policy is known again", tuple(sorted(members[WITHHELD])))
    forbidden = Cell(WITHHELD, ANY, "forbid", "withheld")
    bare = [
        Part(d) for d in DIRECTIONS if not any(p.direction == d and not p.local and not p.unit for p in intent.parts)
    ]
    parts = tuple(msgspec.structs.replace(p, cells=(*p.cells, forbidden)) for p in (*intent.parts, *bare))
    return msgspec.structs.replace(intent, peers=(*peers, withheld), parts=parts)
