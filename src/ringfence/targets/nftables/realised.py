"""What was read from the kernel, with what it means: which generation is in force, and how long. Pure.

INVARIANT: what is in force is told by the elements the kernel has, never by what this process remembers.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ringfence.core.intent.model import Intent
from ringfence.ports.target import Observed
from ringfence.targets.nftables.areas import CgroupRef
from ringfence.targets.nftables.generations import FAMILY_KEYS, POLICY, TRIAL, split
from ringfence.targets.nftables.layout import Layout
from ringfence.targets.nftables.readback import Unreadable, about, generation_in, parse
from ringfence.targets.nftables.render import said_in, seal_of
from ringfence.targets.nftables.terms import FOR_GOOD, Terms, faults, terms_in

_TOUCHED = "the table was changed since it was applied"


class Standing(msgspec.Struct, frozen=True):
    """One policy generation in the kernel."""

    layout: Layout
    """As the only one of its table."""
    intent: Intent | None
    """None: unreadable."""
    generation: int
    """The number live connections are judged under."""
    digest: str
    """Of the intent it was made from."""
    policy: str
    """The name it was given."""
    fault: str = ""


class Realised(Observed, frozen=True):
    """What was read from the kernel, at the level of the kernel too."""

    layout: Layout | None = None
    """The whole table."""
    generation: int = 0
    """The kernel's rule set generation when it was read."""
    policy_generation: int = 0
    """The generation number live connections are judged under."""
    is_untouched: bool = False
    """Whether it is to the bit what some apply of this target wrote."""
    on_trial: bool = False
    """A policy on trial is in force; unless it is confirmed in time, the one before it will be."""
    trial_left_s: float = 0.0
    is_reverted: bool = False
    """A policy was on trial and was not confirmed: the one before it is in force."""
    confirmed: Standing | None = None
    """What stays, or what the trial reverts to."""
    trial: Standing | None = None
    """What is or was on trial and is still in the table."""
    terms: Terms = Terms()

    @property
    def in_force(self) -> Standing | None:
        return self.trial if self.trial is not None and not self.is_reverted else self.confirmed


def realised(layout: Layout | None, generation: int, groups: Mapping[str, CgroupRef], now: float) -> Realised:
    """What a table that was read at `now` (CLOCK_MONOTONIC, seconds) realises."""
    if layout is None:
        return Realised("absent", generation=generation)
    found = split(layout)
    confirmed = _standing(found.confirmed, groups)
    trial = _standing(found.trial, groups) if found.trial is not None else None
    is_sealed = about(layout).seal == seal_of(layout)
    return told(layout, generation, confirmed, trial, is_sealed=is_sealed, now=now)


def retold(found: Realised, timers: Mapping[str, Mapping[bytes, float | None]], now: float) -> Realised:
    """The same table at a later time: only its timers were read again."""
    assert found.layout is not None
    assert found.confirmed is not None
    layout = msgspec.structs.replace(found.layout, timers=timers)
    is_sealed = about(layout).seal == seal_of(layout) if not found.is_untouched else True
    return told(layout, found.generation, found.confirmed, found.trial, is_sealed=is_sealed, now=now)


def told(
    layout: Layout, generation: int, confirmed: Standing, trial: Standing | None, *, is_sealed: bool, now: float
) -> Realised:
    """What the generations of a table come to at a time. `is_sealed`: the table is what it says it is."""
    said = said_in(layout)
    left = trial_left_s(layout)
    is_reverted = trial is not None and left is None
    wrong = (*(() if is_sealed else (_TOUCHED,)), *faults(said, layout, now))
    in_force = confirmed if trial is None or is_reverted else trial
    broken = [f for f in (confirmed.fault, trial.fault if trial else "") if f]
    is_untouched = not wrong and not broken
    return Realised(
        "realised" if is_untouched else "drifted",
        in_force.intent,
        in_force.digest if is_untouched else "",
        (*broken, *wrong),
        layout,
        generation,
        in_force.generation,
        is_untouched,
        left is not None and left != FOR_GOOD,
        left if left is not None and left != FOR_GOOD else 0.0,
        is_reverted,
        confirmed,
        trial,
        terms_in(said, layout),
    )


def trial_left_s(layout: Layout) -> float | None:
    """How long the trial decides for both families; None: it does not, for at least one. FOR_GOOD: it was
    confirmed."""
    timers = layout.timers.get(TRIAL, {})
    if any(key not in timers for key in FAMILY_KEYS):
        return None
    left = [timers[key] for key in FAMILY_KEYS]
    return min((FOR_GOOD if one is None else one) for one in left)


def _standing(layout: Layout, groups: Mapping[str, CgroupRef]) -> Standing:
    told = about(layout)
    policy = said_in(layout).get(POLICY, "").removeprefix("policy ")
    try:
        return Standing(layout, parse(layout, groups), generation_in(layout), told.digest, policy)
    except Unreadable as error:
        return Standing(layout, None, generation_in(layout), told.digest, policy, str(error))


def with_groups(found: Realised, groups: Mapping[str, CgroupRef]) -> Realised:
    """The reading with its control groups under the names they have in an intent."""
    if not groups or found.in_force is None or found.in_force.intent is None:
        return found
    confirmed, trial = (s and _standing(s.layout, groups) for s in (found.confirmed, found.trial))
    in_force = confirmed if trial is None or found.is_reverted else trial
    assert in_force is not None
    return msgspec.structs.replace(found, intent=in_force.intent, confirmed=confirmed, trial=trial)
