"""Plans: the transaction for a revision, for a trial's end, and for what is left of one. Pure.

INVARIANT: what has an effect is one transaction, timers included. A trial's time is changed by deleting its elements
and adding them anew, which the kernel refuses once they have run out: a trial that is over cannot be confirmed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np

from ringfence.core.intent.model import Intent
from ringfence.targets.nftables import messages as m
from ringfence.targets.nftables.areas import CgroupRef
from ringfence.targets.nftables.generations import FAMILY_KEYS, POLICY, TRIAL, side_by_side, split
from ringfence.targets.nftables.layout import Layout
from ringfence.targets.nftables.netlink import Message
from ringfence.targets.nftables.plan import Plan, difference
from ringfence.targets.nftables.realised import Realised
from ringfence.targets.nftables.render import DEPARTED, LASTING, said_in, sealed
from ringfence.targets.nftables.revision import How, revise
from ringfence.targets.nftables.terms import Terms


def planned(intent: Intent, found: Realised, groups: Mapping[str, CgroupRef], how: How, now: float) -> Plan:
    """From what was found to the intent."""
    wanted = revise(intent, found, groups, how, now)
    plan = plan_to(found, wanted.layout, wanted.terms, now, has_trial=wanted.has_trial)
    is_again = wanted.judges_again and wanted.generation != found.policy_generation
    return msgspec.structs.replace(
        plan,
        intent=intent,
        generation=wanted.generation,
        forgets=wanted.forgets,
        adopts=found.layout is None,
        seeds=wanted.seeds,
        judges_again=is_again,
    )


def settled(found: Realised, until: float | None, now: float) -> Plan:
    """The trial with another time; None: over. The table must be untouched."""
    assert found.layout is not None
    terms = msgspec.structs.replace(found.terms.at(now), trial_until=until)
    generations = split(found.layout)
    assert generations.trial is not None
    layout = side_by_side(generations.confirmed, generations.trial, terms.words(has_trial=True))
    return plan_to(found, layout, terms, now, has_trial=True, insists=until is not None)


def tidied(found: Realised, now: float) -> Plan:
    """Only the generation in force; connections keep their judgement, unless they were let pass by the other one."""
    assert found.in_force is not None
    assert not found.is_reverted, "a reverted trial is tidied by a new generation"
    terms = msgspec.structs.replace(found.terms.at(now), trial_until=None)
    layout = found.in_force.layout
    own = {n: text for n, text in said_in(layout).items() if n in (1, 2, POLICY)}
    return plan_to(found, sealed(layout, {**own, **terms.words(has_trial=False)}), terms, now, has_trial=False)


def plan_to(
    found: Realised, wanted: Layout, terms: Terms, now: float, *, has_trial: bool, insists: bool = False
) -> Plan:
    """From what was found to a table under these terms, as it is called and judged now."""
    changes = difference(wanted, found.layout)
    timed = tuple(timer_messages(found, terms, now, has_trial=has_trial, insists=insists))
    return Plan(
        changes.preparation,
        (*changes.change, *timed),
        changes.cleanup,
        changes.summary,
        found.intent,
        msgspec.structs.replace(wanted, timers=terms.timers(now, has_trial=has_trial)),
        found.policy_generation,
        found.generation or None,
        size=changes.size,
    )


def timer_messages(found: Realised, terms: Terms, now: float, *, has_trial: bool, insists: bool) -> Iterator[Message]:
    """The timed sets that must hold something else. `insists`: refuse where the trial's elements are gone."""
    held = found.layout.timers if found.layout is not None else {}
    for name, timers in terms.timers(now, has_trial=has_trial).items():
        if found.is_untouched and name in held and not _is_other(name, found.terms.at(now), terms):
            continue
        if name == TRIAL and insists:
            keys = np.frombuffer(b"".join(FAMILY_KEYS), np.uint8).reshape(-1, 1)
            yield from m.remove_keys(name, keys)
        elif name in held:
            yield m.flush_set(name)
        yield from m.add_timed(name, timers)


def _is_other(name: str, before: Terms, after: Terms) -> bool:
    if name == TRIAL:
        return before.trial_until != after.trial_until
    if name == LASTING:
        return before.lasting != after.lasting
    assert name.startswith(DEPARTED)
    keys = (before.departed.get(name), after.departed.get(name))
    return keys[0] != keys[1] or (bool(keys[1]) and before.lasting_until != after.lasting_until)
