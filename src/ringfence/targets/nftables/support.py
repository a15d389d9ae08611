"""What of an intent nftables cannot express exactly, and what is left when that is taken out.

INVARIANT: what is left is never wider than the intent. A process part is accepted only where the part its packets meet
when it is not matched opens nothing more and forbids nothing less; otherwise the whole intent is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise

import msgspec

from ringfence.core.errors import Finding, FindingsError, Severity, errors_among
from ringfence.core.identity.workload import Direction
from ringfence.core.intent.model import Intent, Part
from ringfence.core.net.address import format_address
from ringfence.core.net.intervals import EMPTY, IntervalSet
from ringfence.core.policy.model import Action
from ringfence.targets.nftables.areas import areas_of
from ringfence.targets.nftables.marks import LAST_CLASS
from ringfence.targets.nftables.revocation import passes_wherever
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


def refused(intent: Intent, resolved: Collection[str], unresolved: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """What of the intent's processes cannot be enforced: a warning where that only closes, an error where it opens.

    A unit that starts anew is another control group, and its packets meet the base part until the intent is applied
    again. So even of a unit that resolves the part may only open what the base part closes.
    """
    processes = [(part, base) for part in intent.parts if part.unit is not None for base in _bases(intent, part)]
    needed = {part.unit for part, base in processes if _widens(part, base)}
    severities: dict[bool, Severity] = {True: "error", False: "warning"}
    found = [msgspec.structs.replace(f, severity=severities[f.subject in needed]) for f in unresolved]
    lapsing = {part.unit or "" for part, base in processes if not passes_wherever(part, base, intent.mode)}
    return (*found, *(_narrower(unit) for unit in sorted(lapsing & {*resolved})))


def _narrower(unit: str) -> Finding:
    return Finding(
        "process-part-narrower",
        f"process `{unit}` may do less than the rest of its host, which would lapse when it starts anew",
        help="close it for the whole host, and allow what other processes need by their own names",
        subject=unit,
    )


def reduce(intent: Intent, resolved: Collection[str], unresolved: tuple[Finding, ...]) -> Intent:
    """The intent less the process parts whose unit did not resolve.

    Raises FindingsError when the host would open or stop forbidding anything without some process part.
    """
    findings = refused(intent, resolved, unresolved)
    if errors_among(findings):
        raise FindingsError(findings)
    kept = tuple(p for p in intent.parts if p.unit is None or p.unit in resolved)
    if len(kept) == len(intent.parts):
        return intent
    return msgspec.structs.replace(intent, parts=kept, refusals=(*intent.refusals, *findings))


def _bases(intent: Intent, part: Part) -> Iterator[Part]:
    """The parts that a process part's packets meet when it is not matched."""
    for area in areas_of(intent, part.direction):
        if not part.local or area.local.overlaps(part.local):
            yield area.base or Part(part.direction)


def _widens(part: Part, base: Part) -> bool:
    """Whether leaving the part out would lose a prohibition, or open anything, in whatever mode."""
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
