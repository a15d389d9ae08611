"""What a plan does to connections, in words of rules: the difference of two intents as one host lives through it. Pure.

    stays      what rules let through, told where a default begins to block (or a host gets its first rules)
    opens      what did not pass before and passes now
    closes     what passed before and does not any more
    members    addresses that become, or are no longer, a class with permissions of its own

INVARIANT: a service of a class is among `opens` or `closes` exactly if its passing differs between the two intents,
quarantine aside, which is told as itself. An address that changes class is compared as what it was with what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

import msgspec

from ringfence.core.identity.workload import Direction, ModeName
from ringfence.core.intent.model import UNKNOWN_CLASS, Cell, Intent, Part, Passage
from ringfence.core.net.intervals import EMPTY, IntervalSet
from ringfence.core.net.service import ANY
from ringfence.targets.nftables.areas import Area, areas_of
from ringfence.targets.nftables.revocation import moves

DIRECTIONS: tuple[Direction, ...] = ("in", "out")


class Line(msgspec.Struct, frozen=True):
    """Services of some classes that pass, begin to pass, or cease to."""

    direction: Direction
    services: IntervalSet
    """Empty: all that no rule is about."""
    peers: tuple[str, ...]
    """The classes in words: what they are, or what they were where no rule is about them any more; none: everybody."""
    rule: str | None
    """Which decides now; None is the default of the mode."""
    was: str | None = None
    """Which decided before; None is the default of the mode then."""
    local: IntervalSet = EMPTY
    """The host's addresses it is about; empty means all."""
    unit: str | None = None


class ModeChange(msgspec.Struct, frozen=True):
    direction: Direction
    was: ModeName | None
    """None: there was no firewall of ours."""
    now: ModeName


class Member(msgspec.Struct, frozen=True):
    """Addresses and ranges that are of a class from now on, or no longer."""

    text: str
    joins: IntervalSet = EMPTY
    leaves: IntervalSet = EMPTY


class Change(msgspec.Struct, frozen=True):
    """All that changes for connections."""

    modes: tuple[ModeChange, ...] = ()
    quarantine: tuple[bool, bool] = (False, False)
    """Whether this host was quarantined, and is."""
    isolates: tuple[int, ...] = ()
    """Peers that are quarantined from now on."""
    releases: tuple[int, ...] = ()
    stays: tuple[Line, ...] = ()
    opens: tuple[Line, ...] = ()
    closes: tuple[Line, ...] = ()
    members: tuple[Member, ...] = ()
    passages: tuple[tuple[Passage, bool], ...] = ()
    """Failsafe passages and exceptions of quarantines that begin (True) or end."""

    @property
    def is_empty(self) -> bool:
        return self == Change(quarantine=self.quarantine) and self.quarantine[0] == self.quarantine[1]


def change(old: Intent | None, new: Intent, texts: Mapping[int, str] | None = None) -> Change:
    """What turns from one intent to another. None: the host has no firewall of ours, and everything passes.

    `texts`: what the classes of the old intent are called, where it does not know itself.
    """
    return _Comparison(old, new, texts or {}).change()


class Effect(NamedTuple):
    """Whether some services of one class pass, and which rule says so (None: the default)."""

    services: IntervalSet
    passes: bool
    rule: str | None


Cells = dict[int, list[Cell]]
_Key = tuple[Direction, IntervalSet, IntervalSet, str | None, str | None, str | None]


class _Comparison:
    """Two intents on one host."""

    def __init__(self, old: Intent | None, new: Intent, texts: Mapping[int, str]) -> None:
        self.old, self.new = old, new
        named = {peer.id: peer.text for peer in new.peers if peer.text}
        self.texts = {**(_texts(old) if old else {}), **texts, **named}
        self._cells: dict[int, Cells] = {}

    def change(self) -> Change:
        old, new = self.old, self.new
        was = old.is_quarantined if old else False
        opens, closes = ([], []) if new.is_quarantined else self._differences()
        return Change(
            modes=tuple(self._modes()),
            quarantine=(was, new.is_quarantined),
            isolates=tuple(sorted({*new.isolated} - {*(old.isolated if old else ())})),
            releases=tuple(sorted({*(old.isolated if old else ())} - {*new.isolated})),
            stays=() if new.is_quarantined else tuple(self._stays()),
            opens=tuple(opens),
            closes=tuple(closes),
            members=tuple(self._members()) if old else (),
            passages=tuple(self._passages()),
        )

    def _modes(self) -> Iterator[ModeChange]:
        for direction in DIRECTIONS:
            was = self.old.mode.of(direction) if self.old else None
            now = self.new.mode.of(direction)
            if was != now:
                yield ModeChange(direction, was, now)

    def _passages(self) -> Iterator[tuple[Passage, bool]]:
        for field in ("failsafe", "quarantine_passages"):
            before: tuple[Passage, ...] = getattr(self.old, field) if self.old else ()
            after: tuple[Passage, ...] = getattr(self.new, field)
            mine, theirs = ([_span_of(p) for p in passages] for passages in (after, before))
            yield from ((p, True) for p in mine if not _is_within(p, theirs))
            yield from ((p, False) for p in theirs if not _is_within(p, mine))

    # -- classes --

    @cached_property
    def _pairs(self) -> list[tuple[int, int]]:
        """(class before, class now) of every address; several classes of which none is left are nobody's."""
        now = _present(self.new)
        if self.old is None:
            return [(UNKNOWN_CLASS, number) for number in sorted(now)]
        before = _present(self.old)
        same = {(number, number) for number in now & before}
        return sorted(same | moves(self.old.peers, self.new.peers))

    def _name(self, number: int) -> str:
        return self.texts.get(number, f"class {number}") if number else "anyone else"

    def _members(self) -> Iterator[Member]:
        assert self.old is not None
        before, after = ({p.id: _addresses(p.addresses, p.ranges) for p in of.peers} for of in (self.old, self.new))
        for number in sorted({*before, *after}, key=self._name):
            old, new = before.get(number, EMPTY), after.get(number, EMPTY)
            if old != new:
                yield Member(self._name(number), new - old, old - new)

    # -- lines --

    def _differences(self) -> tuple[list[Line], list[Line]]:
        opens: dict[_Key, list[str]] = {}
        closes: dict[_Key, list[str]] = {}
        for direction in DIRECTIONS:
            for local, unit, before, after in self._places(direction):
                for pair in self._pairs:
                    for old in self._effects(self.old, direction, before, pair[0]):
                        for new in self._effects(self.new, direction, after, pair[1]):
                            if old.passes != new.passes and (services := old.services & new.services):
                                by_default = old.rule is None and new.rule is None
                                shown = EMPTY if by_default else services
                                key = (direction, local, shown, unit, new.rule, old.rule)
                                peers = (opens if new.passes else closes).setdefault(key, [])
                                is_lost = not new.passes and new.rule is None
                                peers += [] if by_default else [self._name(pair[0] if is_lost else pair[1])]
        return _lines(opens), _lines(closes)

    def _stays(self) -> Iterator[Line]:
        """What rules allow in a direction whose default begins to block."""
        found: dict[_Key, list[str]] = {}
        for direction in DIRECTIONS:
            if self.new.mode.of(direction) != "enforce" or (self.old and self.old.mode.of(direction) == "enforce"):
                continue
            for local, unit, _, after in self._places(direction):
                for number in sorted(_present(self.new)):
                    for cell in self._by_class(after).get(number, ()):
                        if cell.action == "allow":
                            key = (direction, local, cell.services, unit, cell.rule, None)
                            found.setdefault(key, []).append(self._name(number))
        yield from _lines(found)

    def _places(self, direction: Direction) -> Iterator[tuple[IntervalSet, str | None, Part | None, Part | None]]:
        """Every part of the host that is judged apart, before or now."""
        mine = areas_of(self.new, direction)
        theirs = areas_of(self.old, direction) if self.old else (Area(EMPTY, ()),)
        for after in mine:
            for before in theirs:
                here = after.local & before.local if self.old else after.local
                if not here:
                    continue
                local = EMPTY if len(mine) == len(theirs) == 1 else here
                for unit in (None, *sorted({p.unit or "" for p in (*before.units, *after.units)})):
                    yield local, unit, before.part_of(unit), after.part_of(unit)

    def _effects(self, intent: Intent | None, direction: Direction, part: Part | None, number: int) -> Iterator[Effect]:
        if intent is None or intent.is_quarantined:
            yield Effect(ANY, intent is None, None)
            return
        mode, rest = intent.mode.of(direction), ANY
        for cell in self._by_class(part).get(number, ()):
            rest = rest - cell.services
            yield Effect(cell.services, cell.action == "allow" or not _blocks(mode, cell.action), cell.rule)
        yield Effect(rest, mode != "enforce", None)

    def _by_class(self, part: Part | None) -> Cells:
        if part is None:
            return {}
        if id(part) not in self._cells:
            found: Cells = {}
            for cell in part.cells:
                found.setdefault(cell.peer, []).append(cell)
            self._cells[id(part)] = found
        return self._cells[id(part)]


def _blocks(mode: ModeName, action: str) -> bool:
    return mode == "enforce" or (mode == "selective" and action in ("deny", "forbid"))


def _present(intent: Intent) -> set[int]:
    """The classes that somebody is in; of all others nothing passes or ceases to."""
    return {UNKNOWN_CLASS, *(peer.id for peer in intent.peers if peer.addresses or peer.ranges)}


def _texts(intent: Intent) -> dict[int, str]:
    return {peer.id: peer.text for peer in intent.peers if peer.text}


def _addresses(addresses: Iterable[int], ranges: Iterable[tuple[int, int]]) -> IntervalSet:
    return IntervalSet.of([*((a, a) for a in addresses), *ranges])


def _span_of(passage: Passage) -> Passage:
    return Passage(passage.direction, passage.remote, passage.services, passage.local)


def _is_within(passage: Passage, others: Iterable[Passage]) -> bool:
    """Whether all of it passes by the others."""
    left = [(passage.remote, passage.services)]
    for other in others:
        is_here = not other.local or (bool(passage.local) and other.local.covers(passage.local))
        if other.direction == passage.direction and is_here:
            left = [piece for remote, services in left for piece in _cut(remote, services, other)]
    return not left


def _cut(remote: IntervalSet, services: IntervalSet, other: Passage) -> Iterator[tuple[IntervalSet, IntervalSet]]:
    pieces = ((remote - other.remote, services), (remote & other.remote, services - other.services))
    yield from ((addresses, points) for addresses, points in pieces if addresses and points)


def _lines(found: Mapping[_Key, list[str]]) -> list[Line]:
    return [
        Line(direction, services, tuple(sorted(set(peers))), rule, was, local, unit)
        for (direction, local, services, unit, rule, was), peers in found.items()
    ]
