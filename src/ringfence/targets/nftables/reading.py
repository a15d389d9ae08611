"""Reading the table from the kernel: whole, or after a change what the change wrote.

A whole reading after a change leaves out the large sets that it left alone, or of which it moved a few. The change was
made on a whole reading, under the kernel's guard that nobody wrote in between. So a set that was not written to is what
it was, and one of which a few elements were moved is proven by those elements. All else is read.

INVARIANT: what is left out is known at one rule set generation only: after exactly the commits of the plan and nobody
else's.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ringfence.core.errors import TargetError
from ringfence.targets.nftables.generations import is_same
from ringfence.targets.nftables.layout import Chain, Elements, Hash, Layout
from ringfence.targets.nftables.membership import Moved
from ringfence.targets.nftables.netlink import Netlink, Refused, following
from ringfence.targets.nftables.observe import read_elements, read_rules, read_spec, read_table, read_value
from ringfence.targets.nftables.plan import Plan, missing_rows
from ringfence.targets.nftables.refusals import refusal_of

ATTEMPTS = 8
MANY = 4096
"""A set of fewer elements is read whole as fast."""
FEW = 256


class Resting(NamedTuple):
    """Sets that are known, at one generation of the rule set."""

    generation: int
    elements: Mapping[str, Elements]


NOTHING = Resting(0, {})


def resting(netlink: Netlink, plan: Plan, found: Layout | None) -> Resting:
    """What is known after a plan was applied to what was found."""
    if found is None or plan.based_on is None:
        return NOTHING
    known = {name: new for name, old, new in _large(found, plan.layout) if _is_proven(netlink, name, old, new)}
    return Resting(after(plan, plan.based_on), known)


def after(plan: Plan, generation: int) -> int:
    """The rule set generation after a plan's commits."""
    for step in (plan.preparation, plan.messages, plan.cleanup):
        generation = following(generation) if step else generation
    return generation


def _large(found: Layout, wanted: Layout) -> Iterator[tuple[str, Hash, Hash]]:
    """Sets that stay what they are, with their elements before and after."""
    for name, new in wanted.elements.items():
        old = found.elements.get(name)
        if found.sets.get(name) != wanted.sets[name] or not isinstance(old, Hash) or not isinstance(new, Hash):
            continue
        if len(new) >= MANY and not new.comments and not old.comments:
            yield name, old, new


def _is_proven(netlink: Netlink, name: str, old: Hash, new: Hash) -> bool:
    if new is old or (np.array_equal(old.keys, new.keys) and np.array_equal(old.values, new.values)):
        return True
    gone, come = missing_rows(old, new), missing_rows(new, old)
    if len(gone) + len(come) > FEW:
        return False
    wanted = {new.keys[at].tobytes(): new.values[at].tobytes() for at in come}
    keys = {old.keys[at].tobytes() for at in gone} | wanted.keys()
    return all(read_value(netlink, name, key) == wanted.get(key) for key in keys)


# -- reading ---------------------------------------------------------------------------------------------------------


def consistent(netlink: Netlink, known: Resting = NOTHING) -> tuple[Layout | None, int]:
    """The table, read while nobody changed the rule set."""
    for _ in range(ATTEMPTS):
        before = netlink.generation()
        try:
            layout = read_table(netlink, known.elements if before == known.generation else None)
        except Refused as refusal:
            if refusal.errno != errno.ENOENT:
                raise refusal_of(refusal) from refusal
            continue
        if netlink.generation() == before:
            return layout, before
    raise TargetError("read-back-unstable", "the rule set kept changing while it was read", help="try again")


def missed(netlink: Netlink, moved: Moved) -> Iterator[str]:
    """Which of what was sent is not there as it was sent."""
    yield from (name for name, key, value in moved.elements if read_value(netlink, name, key) != value)
    yield from (c.name for c in moved.chains if not Chain(c.name, read_rules(netlink, c.name)).is_same(c))
    yield from (name for name in moved.sets if not _is_as_written(netlink, name, moved.plan.layout))


def _is_as_written(netlink: Netlink, name: str, layout: Layout) -> bool:
    """A whole set, with all that it is."""
    spec = read_spec(netlink, name)
    if spec is None or spec != layout.sets[name]:
        return False
    spec, elements = read_elements(netlink, spec)
    return spec == layout.sets[name] and is_same(elements, layout.elements[name])
