"""What of an intent nftables cannot express exactly, and what is left when that is taken out.

INVARIANT: what is left is never wider than the intent. A process part that cannot be matched may be left out only where
the part its packets then meet opens nothing more and forbids nothing less; otherwise the whole intent is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise

import msgspec

from ringfence.core.errors import Finding, FindingsError
from ringfence.core.identity.workload import Direction
from ringfence.core.intent.model import Intent, Part
from ringfence.core.net.address import format_address
from ringfence.core.net.intervals import EMPTY, IntervalSet
from ringfence.core.policy.model import Action
from ringfence.targets.nftables.areas import areas_of
from ringfence.targets.nftables.marks import LAST_CLASS
from ringfence.targets.nftables.services import arrange

DIRECTIONS: tuple[Direction, ...] = ("in", "out")


def check(intent: Intent) -> tuple[Finding, ...]:
    """Where the intent breaks its own invariants or the target's limits. Any such finding refuses the whole intent."""
    return (*_class_ids(intent), *_peer_overlaps(intent), *_part_overlaps(intent), *_cell_overlaps(intent))


def _class_ids(intent: Intent) -> Iterator[Finding]:
    seen: set[int] = set()
    for peer in intent.peers:
        if not 1 <= peer.id <= LAST_CLASS:
            yield Finding("class-out-of-range", f"class {peer.id} is not between 1 and {LAST_CLASS}", subject=peer.text)
        if peer.id in seen:
            yield Finding("class-duplicate", f"class {peer.id} is described twice", subject=peer.text)
        seen.add(peer.id)
    for part in intent.parts:
        for cell in part.cells:
            if cell.peer != 0 and cell.peer not in seen:
                yield Finding("class-unknown", f"class {cell.peer} has a verdict but no description", subject=cell.rule)


def _peer_overlaps(intent: Intent) -> Iterator[Finding]:
    flat = [address for peer in intent.peers for address in peer.addresses]
    if len(flat) != len(set(flat)):
        twice = next(a for a, b in pairwise(sorted(flat)) if a == b)
        yield Finding("address-in-two-classes", f"`{format_address(twice)}` is in two classes")
    ranges = sorted(r for peer in intent.peers for r in peer.ranges)
    for (_, last), (first, _) in pairwise(ranges):
        if first <= last:
            yield Finding("ranges-overlap", f"two address ranges overlap at `{format_address(first)}`")
            return


def _part_overlaps(intent: Intent) -> Iterator[Finding]:
    for direction in DIRECTIONS:
        try:
            areas_of(intent, direction)
        except ValueError as error:
            yield Finding("parts-overlap", str(error))


def _cell_overlaps(intent: Intent) -> Iterator[Finding]:
    for part in intent.parts:
        try:
            arrange(part)
        except ValueError as error:
            yield Finding("cells-overlap", str(error))


def reduce(intent: Intent, resolved: Collection[str], refusals: tuple[Finding, ...]) -> Intent:
    """The intent less the process parts whose unit did not resolve.

    Raises FindingsError when leaving one out would open or stop forbidding anything.
    """
    refused = [p for p in intent.parts if p.unit is not None and p.unit not in resolved]
    if not refused:
        return intent
    kept = tuple(p for p in intent.parts if p.unit is None or p.unit in resolved)
    left = msgspec.structs.replace(intent, parts=kept, refusals=(*intent.refusals, *refusals))
    for part in refused:
        if any(_widens(part, base) for base in _bases(left, part)):
            raise FindingsError(f for f in refusals if f.subject == part.unit)
    return left


def _bases(intent: Intent, part: Part) -> Iterator[Part]:
    """The parts that the refused part's packets meet instead."""
    for area in areas_of(intent, part.direction):
        if not part.local or area.local.overlaps(part.local):
            yield area.base or Part(part.direction)


def _widens(part: Part, base: Part) -> bool:
    return (
        not _covers(part, base, "allow", ("allow",))
        or not _covers(base, part, "forbid", ("forbid",))
        or not _covers(base, part, "deny", ("deny", "forbid"))
    )


def _covers(wide: Part, narrow: Part, action: Action, by: tuple[Action, ...]) -> bool:
    """Whether all that `narrow` does with this action, `wide` does by one of these."""
    covering: dict[int, IntervalSet] = {}
    for cell in wide.cells:
        if cell.action in by:
            covering[cell.peer] = covering.get(cell.peer, EMPTY) | cell.services
    needed = (cell for cell in narrow.cells if cell.action == action)
    return all(covering.get(cell.peer, EMPTY).covers(cell.services) for cell in needed)
