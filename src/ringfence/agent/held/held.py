"""What an agent holds of what it was told, and what that makes its host's intent: pure, so that it can be proven.

Messages arrive late, twice, out of order, or not at all. Each piece is ordered by its own revision; what does not fit
is asked for (`wants`). What takes a permission away is done at once, even out of order; what gives one waits until it
fits.

INVARIANT: an intent is only made of a complete assignment: its body, and every group of it at a version that was whole.
Until a new assignment is complete the one before stays in force.
INVARIANT: no quarantine ends before what was heard with it is in force: whoever publishes and then releases never has
the old policy without the quarantine.
INVARIANT: of the groups of one body an address is in one at most: the one that heard of it last. (Two bodies may cut
the same addresses into other groups.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple

import msgspec

from ringfence.core.intent.model import UNKNOWN_CLASS, Intent
from ringfence.core.intent.pieces import Body, Group, assemble
from ringfence.wire.messages import (
    Assignment,
    Change,
    Down,
    Fetch,
    GroupChange,
    GroupState,
    Isolations,
    Pieces,
    digest_of_state,
)


class HeldGroup(msgspec.Struct):
    """A group as far as it is known. `is_whole` is False while something of it was missed."""

    version: int
    addresses: set[int]
    is_whole: bool = True


class Snapshot(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What outlives the agent: written to disk, read before the network is up."""

    assignment: Assignment | None = None
    confirmed: Assignment | None = None
    bodies: tuple[Body, ...] = ()
    groups: tuple[GroupState, ...] = ()
    isolations: Isolations | None = None
    turned_at: datetime | None = None


class News(NamedTuple):
    """What changed of what is to be enforced."""

    moved: set[int] | None
    """Addresses that came to a group or left one; None: more than membership and quarantine changed."""
    is_isolated_anew: bool

    @property
    def is_any(self) -> bool:
        return self.moved is None or bool(self.moved) or self.is_isolated_anew


class Held:
    """The pieces one host holds."""

    def __init__(self, workload: str) -> None:
        self.workload = workload
        self.assignment: Assignment | None = None
        """The last one that is complete: the one to enforce."""
        self.pending: Assignment | None = None
        """A newer one, pieces of which are missing yet."""
        self.confirmed: Assignment | None = None
        """The last one that outlived its trial: what a failed trial falls back to."""
        self.applying: Assignment | None = None
        """The one that is being put in force or tried, whatever was heard since."""
        self.isolations: Isolations | None = None
        """Those in force."""
        self._release: Isolations | None = None
        """What is to be in force once the pending assignment is."""
        self.groups: dict[str, HeldGroup] = {}
        self._bodies: dict[str, Body] = {}
        self._turned_at: datetime | None = None
        self._kept_at: datetime | None = None
        """The `_turned_at` of the last snapshot."""
        self._moved: set[int] | None = None
        self._is_isolated_anew = False

    # ---- hearing ----------------------------------------------------------------------------------------------------

    def take(self, message: Down) -> bool:
        """Whether the message changes what is to be enforced."""
        if isinstance(message, Assignment):
            return self._assign(message)
        if isinstance(message, Change):
            return self._change(message.groups)
        if isinstance(message, Isolations):
            return self._isolate(message)
        if isinstance(message, Pieces):
            return self._pieces(message)
        return False

    def _assign(self, new: Assignment) -> bool:
        newest = self.pending or self.assignment
        if new.station.workload != self.workload or (newest is not None and new.revision <= newest.revision):
            return False
        self.pending = new
        return self._promote()

    def _change(self, groups: Iterable[GroupChange]) -> bool:
        known = [one for one in groups if one.key in self.groups and one.after > self.groups[one.key].version]
        for one in known:  # all that goes, before anything comes
            self._remove(one.key, one.removed)
        for one in known:
            group = self.groups[one.key]
            if group.version == one.before and group.is_whole:
                group.version = one.after
                self._add(one.key, one.added)
            else:
                group.is_whole = False
        return bool(known)

    def _isolate(self, new: Isolations) -> bool:
        mine, known = self.pending or self.assignment, self.isolations
        if mine is None or new.networks != mine.networks:
            return False
        if known is not None and known.networks == new.networks and new.revision <= known.revision:
            return False
        if self._release is not None and new.revision <= self._release.revision:
            return False
        told = _joined(known, new) if new.adds else new
        self._release = told if self.pending is not None and known is not None and _ends_any(known, told) else None
        if self._release is not None and known is not None:
            told = msgspec.structs.replace(_joined(known, told), revision=known.revision, networks=known.networks)
        self.isolations, self._is_isolated_anew = told, True
        return True

    def _pieces(self, pieces: Pieces) -> bool:
        if pieces.workload != self.workload:
            return False
        changed = pieces.assignment is not None and self._assign(pieces.assignment)  # first: it says what is needed
        missing = self._missing_bodies() if pieces.bodies else ()
        for body in pieces.bodies:
            if body.digest in missing:
                self._learn(body)
        for state in pieces.groups:
            changed |= self._take_group(state)
        if pieces.isolations is not None:
            changed |= self._isolate(pieces.isolations)
        return self._promote() or changed

    def _take_group(self, state: GroupState) -> bool:
        key = state.group.key
        held = self.groups.get(key)
        if held is not None and (state.version < held.version or (held.is_whole and state.version == held.version)):
            return False
        if held is None and key not in self._keys_needed():
            return False
        new = set(state.group.addresses)
        if held is None:
            held = self.groups[key] = HeldGroup(state.version, set())
        self._remove(key, held.addresses - new)
        held.version, held.is_whole = state.version, True
        self._add(key, new - held.addresses)
        return True

    def _remove(self, key: str, addresses: Collection[int]) -> None:
        self.groups[key].addresses.difference_update(addresses)
        self._note(addresses)

    def _note(self, addresses: Collection[int]) -> None:
        """INVARIANT: an address whose group changed is among the moved ones, or they are not told apart."""
        if self._moved is not None:
            self._moved.update(addresses)

    def _add(self, key: str, addresses: Collection[int]) -> None:
        """What a group of the same body holds too goes to whichever heard later; the other has missed something."""
        group = self.groups[key]
        group.addresses.update(addresses)
        self._note(addresses)
        for other in self._rivals(key):
            self._part(group, other, addresses)

    def _part(self, group: HeldGroup, other: HeldGroup, addresses: Collection[int]) -> None:
        both = other.addresses.intersection(addresses)
        if both:
            self._note(both)
            behind = other if other.version < group.version else group
            behind.addresses -= both
            behind.is_whole = False

    def _rivals(self, key: str) -> list[HeldGroup]:
        """The other groups of the bodies that a group is in."""
        keys = {other for body in self._bodies.values() if key in body.groups for other in body.groups} - {key}
        return [self.groups[other] for other in keys if other in self.groups]

    def _learn(self, body: Body) -> None:
        """A body that is new here: groups held for other bodies become rivals in it."""
        self._bodies[body.digest] = body
        held = [self.groups[key] for key in sorted(body.groups) if key in self.groups]
        for number, group in enumerate(held):
            for other in held[:number]:
                self._part(group, other, group.addresses)

    # ---- what is missing --------------------------------------------------------------------------------------------

    @property
    def wants(self) -> Fetch | None:
        """What to ask for; None when nothing is missing."""
        newest = self.pending or self.assignment
        if newest is None:
            return Fetch(assignment=True, isolations=True)
        bodies = tuple(sorted(self._missing_bodies()))
        groups = tuple(sorted(key for key in self._keys_needed() if not self._is_whole(key)))
        has_isolations = self.isolations is not None and self.isolations.networks == newest.networks
        if not bodies and not groups and has_isolations:
            return None
        is_elsewhere = not has_isolations  # perhaps because this host is in other networks by now
        return Fetch(assignment=is_elsewhere, isolations=is_elsewhere, bodies=bodies, groups=groups)

    @property
    def everything(self) -> Fetch:
        """What to ask for when the controller expects another state, and nothing is known to be missing."""
        keys = sorted(self._keys_needed())
        whole = {key: self.groups[key].version for key in keys if self._is_whole(key)}
        return Fetch(assignment=True, isolations=True, groups=tuple(keys), held=whole)

    def _missing_bodies(self) -> set[str]:
        return {digest for one in self._in_use() for digest in _bodies_of(one)} - self._bodies.keys()

    def _keys_needed(self) -> set[str]:
        known = (self._bodies.get(digest) for one in self._in_use() for digest in _bodies_of(one))
        return {key for body in known if body is not None for key in body.groups}

    def _in_use(self) -> list[Assignment]:
        return [one for one in (self.pending, self.assignment, self.applying, self.confirmed) if one is not None]

    def _is_whole(self, key: str) -> bool:
        return key in self.groups and self.groups[key].is_whole

    def _promote(self) -> bool:
        """Put the pending assignment in force if all of it is here."""
        new = self.pending
        if new is None or any(digest not in self._bodies for digest in _bodies_of(new)):
            return False
        if not all(self._is_whole(key) for key in self._bodies[new.station.body].groups):
            return False
        self.assignment, self.pending = new, None
        if self._release is not None:
            self.isolations, self._release, self._is_isolated_anew = self._release, None, True
        self._turned_at = self._kept_at = None  # the controller's word, newer than any time this host's clock has shown
        self._moved = None
        self._forget_unused()
        return True

    def confirm(self, assignment: Assignment) -> None:
        """This very assignment outlived its trial, or had none. A newer one heard meanwhile has proven nothing."""
        self.confirmed, self.applying = assignment, None
        self._forget_unused()

    def _forget_unused(self) -> None:
        used = {digest for one in self._in_use() for digest in _bodies_of(one)}
        self._bodies = {digest: body for digest, body in self._bodies.items() if digest in used}
        for key in self.groups.keys() - self._keys_needed():
            del self.groups[key]

    # ---- what it makes ----------------------------------------------------------------------------------------------

    def intent(self, now: datetime) -> Intent | None:
        """What to enforce; None while nothing complete is held. A clock that steps back reopens nothing."""
        return self._intent_of(self.assignment, now)

    def fallback(self, now: datetime) -> Intent | None:
        """What a failed trial falls back to, over the same membership and quarantine; None if there is nothing."""
        return self._intent_of(self.confirmed, now)

    def _intent_of(self, assignment: Assignment | None, now: datetime) -> Intent | None:
        if assignment is None:
            return None
        body = self._body_of(assignment, now)
        groups = {key: self.groups[key].addresses if key in self.groups else () for key in body.groups}
        isolations = self.isolations.isolations if self.isolations is not None else ()
        return assemble(assignment.station, body, groups, isolations)

    def _body_of(self, assignment: Assignment, now: datetime) -> Body:
        self._turned_at = max(now, self._turned_at or now)
        return self._bodies[_body_at(assignment, self._turned_at)]

    def correct(self, now: datetime) -> bool:
        """The controller's word for the time. Whether it was later here: a clock that had stepped ahead, and is right
        again, keeps nothing closed."""
        if self._turned_at is None or self._turned_at <= now:
            return False
        self._turned_at = now
        return True

    def policy(self, assignment: Assignment, now: datetime) -> str:
        """What an assignment's policy of now goes by: another one for each assignment, and for each turn of it."""
        self._turned_at = max(now, self._turned_at or now)
        return f"{assignment.revision}.{_body_at(assignment, self._turned_at)[:32]}"

    def take_news(self) -> News:
        """What changed since last asked."""
        news = News(self._moved, self._is_isolated_anew)
        self._moved, self._is_isolated_anew = set(), False
        return news

    def isolated(self, intent: Intent) -> Intent:
        """The same with the quarantines of now."""
        assert self.assignment is not None
        isolations = self.isolations.isolations if self.isolations is not None else ()
        bare = assemble(self.assignment.station, Body(), {}, isolations)
        return msgspec.structs.replace(
            intent,
            is_quarantined=bare.is_quarantined,
            isolated=bare.isolated,
            quarantine_passages=bare.quarantine_passages,
        )

    def classes_of(self, addresses: Collection[int], now: datetime) -> dict[int, int]:
        """What each is under the assignment in force, 0 for nothing; without the host's own, which are no peers."""
        assert self.assignment is not None
        body, own = self._body_of(self.assignment, now), self.assignment.station.own
        groups = [
            (class_.id, self.groups[key].addresses)
            for class_ in body.classes
            for key in class_.groups
            if key in self.groups
        ]
        return {
            address: next((number for number, some in groups if address in some), UNKNOWN_CLASS)
            for address in addresses
            if address not in own
        }

    @property
    def is_turned(self) -> bool:
        """Whether time turned the policy in force since the last snapshot: what it closed must outlive this process."""
        kept, turned = self._kept_at, self._turned_at
        schedule = self.assignment.schedule if self.assignment is not None else ()
        return turned is not None and any(one.at <= turned and (kept is None or kept < one.at) for one in schedule)

    def turns_at(self, now: datetime) -> datetime | None:
        """When to ask for the intent again, though nothing was heard."""
        if self.assignment is None:
            return None
        return next((upcoming.at for upcoming in self.assignment.schedule if upcoming.at > now), None)

    @property
    def state(self) -> str:
        """What the controller compares with what it said."""
        newest = self.pending or self.assignment
        if newest is None:
            return ""
        known = (self._bodies.get(digest) for digest in _bodies_of(newest))
        keys = {key for body in known if body is not None for key in body.groups}
        versions = {key: self.groups[key].version if self._is_whole(key) else 0 for key in keys}
        return digest_of_state(newest.revision, self.isolations.revision if self.isolations else 0, versions)

    # ---- disk -------------------------------------------------------------------------------------------------------

    @property
    def carried(self) -> tuple[Assignment | Isolations, ...]:
        """What a snapshot lacks, as it was heard: the pending assignment, and the release that waits for it."""
        if self.pending is None:
            return ()
        return (self.pending,) if self._release is None else (self.pending, self._release)

    def snapshot(self) -> Snapshot:
        """All but what is `carried`. A group something of which was missed is written at version 0, to be asked for
        again."""
        self._kept_at = self._turned_at
        groups = tuple(
            GroupState(Group(key, tuple(sorted(held.addresses))), held.version if held.is_whole else 0)
            for key, held in sorted(self.groups.items())
        )
        bodies = tuple(self._bodies.values())
        return Snapshot(self.assignment, self.confirmed, bodies, groups, self.isolations, self._turned_at)

    @staticmethod
    def restore(workload: str, snapshot: Snapshot) -> Held:
        """As it was, but for what is `carried`."""
        held = Held(workload)
        held.assignment, held.confirmed = snapshot.assignment, snapshot.confirmed
        held.isolations, held._turned_at = snapshot.isolations, snapshot.turned_at
        held._kept_at = snapshot.turned_at
        held._bodies = {body.digest: body for body in snapshot.bodies}
        for state in snapshot.groups:
            key, addresses = state.group.key, set(state.group.addresses)
            held.groups[key] = HeldGroup(state.version, addresses, is_whole=state.version > 0)
        return held


def _ends_any(known: Isolations, new: Isolations) -> bool:
    return not {one.workload for one in known.isolations} <= {one.workload for one in new.isolations}


def _joined(known: Isolations | None, new: Isolations) -> Isolations:
    """What is held, and what is to hold besides. INVARIANT: what nobody ended stays, whoever does not know of it."""
    replaced = {one.workload for one in new.isolations}.union(new.ended)
    kept = tuple(one for one in known.isolations if one.workload not in replaced) if known is not None else ()
    return Isolations(new.revision, new.networks, (*kept, *new.isolations))


def _bodies_of(assignment: Assignment) -> tuple[str, ...]:
    return (assignment.station.body, *(upcoming.body for upcoming in assignment.schedule))


def _body_at(assignment: Assignment, now: datetime) -> str:
    """The body that holds at a time."""
    digest = assignment.station.body
    for upcoming in assignment.schedule:
        if upcoming.at <= now:
            digest = upcoming.body
    return digest
