"""As what a host is judged: in each direction, at each address it may have, each process on it.

Rules name a host by its labels and by the addresses they are about, so the address line is cut where such rules begin
and end. At an address that nobody listed a host is judged as if it were listed, with one exception: an allow of ranges
none of which holds an address it is known to have opens nothing there until it is. Else every host would carry every
such rule of the estate, in a part of its own, for addresses it does not have.

INVARIANT: the places of one direction and process are disjoint and cover every address. A forbid or deny is wherever it
says; an allow is never where it does not say.
INVARIANT: a rule that cannot speak at this end (no consent, a condition that cannot hold) cuts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property, reduce
from operator import or_
from typing import NamedTuple

from ringfence.core.engine.bits import members, of_ids
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.rules import End, Facts, holds
from ringfence.core.identity.workload import Direction, Workload
from ringfence.core.net.address import parse_cidr
from ringfence.core.net.intervals import EMPTY, IntervalSet, union
from ringfence.core.policy.model import Everywhere

Identity = frozenset[tuple[str, str]]
END_OF: dict[Direction, End] = {"in": "destination", "out": "source"}
_SIDE: dict[Direction, int] = {"out": 0, "in": 1}
"""Where a row of the relation has the rules that name a host on its side."""


class Local(NamedTuple):
    """One way a host is judged: in a direction, at some of its addresses, one of its processes."""

    direction: Direction
    rules: int
    """Those that name it on its side and may speak there, as a bitset."""
    scope: int
    """Those of them whose scope it is in."""
    addresses: IntervalSet
    """Empty means all of them."""
    unit: str | None


def facts_of(engine: Engine, direction: Direction, unit: str | None) -> Facts:
    """What a host knows of a connection of one of its processes."""
    from_unit, to_unit = (unit, None) if direction == "out" else (None, unit)
    return Facts(engine.world.at, from_unit=from_unit, to_unit=to_unit)


class _Place(NamedTuple):
    """Some of the address line, and the rules that name it."""

    rules: int
    addresses: IntervalSet
    is_common: bool
    """Any host may have these without anybody listing them."""


class _Judged(NamedTuple):
    """What one host is judged by: all hosts of which this is equal are judged alike."""

    labels: Identity
    processes: tuple[tuple[str, Identity], ...]
    known: tuple[int, ...]
    """Per direction, the allows of ranges that hold an address it is known to have, as a bitset."""


class Locals:
    """The locals of every host of one engine; what hosts share is worked out once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._found: dict[_Judged, tuple[Local, ...]] = {}
        self._never: dict[tuple[Direction, str | None], int] = {}
        self._named: dict[int, tuple[int, int, int]] = {}

    def of(self, workload: Workload) -> tuple[Local, ...]:
        """Every (direction, place, process) that the host is judged as."""
        inventory = self.engine.world.inventory
        processes = {p.unit: inventory.labels_of(p) for p in inventory.processes_of(workload.name) if p.unit}
        judged = _Judged(
            frozenset(inventory.labels_of(workload).items()),
            tuple((unit, frozenset(labels.items())) for unit, labels in sorted(processes.items())),
            self._known(workload),
        )
        if judged not in self._found:
            self._found[judged] = tuple(self._locals(judged))
        return self._found[judged]

    def _known(self, workload: Workload) -> tuple[int, ...]:
        if not any(self._ranged.values()):
            return (0,) * len(_DIRECTIONS)
        rows = [self._naming(lease.address) for lease in workload.live_addresses(self.engine.world.at)]
        return tuple(reduce(or_, (row[_SIDE[d]] for row in rows), 0) & self._ranged[d] for d in _DIRECTIONS)

    def keep(self, used: set[tuple[Local, ...]]) -> None:
        """Forget all others."""
        self._found = {judged: locals_ for judged, locals_ in self._found.items() if locals_ in used}

    def _locals(self, judged: _Judged) -> Iterator[Local]:
        for direction, known in zip(_DIRECTIONS, judged.known, strict=True):
            own = self._row(judged.labels, direction)
            declared = {unit: self._row(labels, direction) for unit, labels in judged.processes}
            places = [
                (place.rules if place.is_common else place.rules & ~(self._ranged[direction] & ~known), place.addresses)
                for place in self._line[direction]
            ]
            units = (None, *sorted({*declared, *self._named_units(direction, own, places)}))
            rows = [own if unit is None else declared.get(unit, own) for unit in units]
            alike: dict[tuple[tuple[int, int], ...], list[IntervalSet]] = {}
            for named, addresses in places:
                speaking = (
                    self._speaking(direction, unit, rules | named, scope)
                    for unit, (rules, scope) in zip(units, rows, strict=True)
                )
                alike.setdefault(tuple(speaking), []).append(addresses)
            yield from _by_unit(direction, units, alike)

    def _row(self, labels: Identity, direction: Direction) -> tuple[int, int]:
        """The rules that name somebody of these labels, and those whose scope they are in."""
        row = self.engine.relation.row_of(self.engine.peers.of_labels(dict(labels)))
        return row[_SIDE[direction]], row[2]

    def _naming(self, address: int) -> tuple[int, int, int]:
        """The rules that name an address somebody holds."""
        bits = self.engine.peers.of_address(address, is_held=True)
        if bits not in self._named:
            self._named[bits] = self.engine.relation.row_of(bits)
        return self._named[bits]

    @cached_property
    def _line(self) -> dict[Direction, tuple[_Place, ...]]:
        """Per direction, the address line cut by the rules that name addresses on the host's side."""
        return {direction: tuple(self._cut(_SIDE[direction])) for direction in _DIRECTIONS}

    def _cut(self, side: int) -> Iterator[_Place]:
        alike: dict[tuple[int, bool], list[IntervalSet]] = {}
        for _, atom in self.engine.peers.address_atoms():
            rules = self._naming(atom.ranges[0][0])[side] & self.engine.relation.in_force
            for is_common, addresses in ((True, atom & _COMMON), (False, atom - _COMMON)):
                if addresses:
                    alike.setdefault((rules, is_common), []).append(addresses)
        for (rules, is_common), found in alike.items():
            yield _Place(rules, union(found), is_common)

    @cached_property
    def _ranged(self) -> dict[Direction, int]:
        """Per direction, the allows that name addresses on the host's side, but no word, as a bitset."""
        relation, peers = self.engine.relation, self.engine.peers
        words = of_ids(n for n, peer in enumerate(peers.peers) if isinstance(peer, Everywhere))
        ranges = relation.row_of(peers.all_addresses & ~words)
        worded = relation.row_of(words)
        return {d: ranges[_SIDE[d]] & ~worded[_SIDE[d]] & relation.allow for d in _DIRECTIONS}

    def _named_units(
        self, direction: Direction, own: tuple[int, int], places: Iterable[tuple[int, IntervalSet]]
    ) -> set[str]:
        """Units that a rule about this host names on this side."""
        about = own[0]
        for named, _ in places:
            about |= named
        return {
            unit
            for number in members(about & self._asking_units[direction])
            if (unit := self._unit_of(number, direction)) and self._speaking(direction, unit, 1 << number, own[1])[0]
        }

    @cached_property
    def _asking_units(self) -> dict[Direction, int]:
        """Per direction, the rules that ask for a process on the host's side, as a bitset."""
        numbers = list(members(self.engine.relation.conditional & self.engine.relation.in_force))
        return {d: sum(1 << n for n in numbers if self._unit_of(n, d)) for d in _DIRECTIONS}

    def _unit_of(self, number: int, direction: Direction) -> str | None:
        conditions = self.engine.rules[number].rule.conditions
        return conditions.from_process if direction == "out" else conditions.to_process

    def _speaking(self, direction: Direction, unit: str | None, rules: int, scope: int) -> tuple[int, int]:
        """Those of the rules that may speak at this end, and those of them whose scope it is in."""
        relation = self.engine.relation
        rules &= relation.in_force & ~self._never_holding(direction, unit)
        if direction == "in":
            rules &= ~(relation.allow & ~scope)  # the owner of the destination consents
        return rules, rules & scope

    def _never_holding(self, direction: Direction, unit: str | None) -> int:
        """The allows whose conditions do not hold there, whoever the other end is."""
        if (direction, unit) not in self._never:
            facts, rules = facts_of(self.engine, direction, unit), self.engine.rules
            self._never[direction, unit] = sum(
                1 << number
                for number in members(self.engine.relation.conditional)
                if not holds(rules[number].rule.conditions, END_OF[direction], facts, peer_enforces=True)
            )
        return self._never[direction, unit]


def _by_unit(
    direction: Direction, units: tuple[str | None, ...], alike: dict[tuple[tuple[int, int], ...], list[IntervalSet]]
) -> Iterator[Local]:
    """In an order that depends only on what they are."""
    places = sorted(((union(found), judged) for judged, found in alike.items()), key=lambda place: place[0].ranges)
    for position, unit in enumerate(units):
        for addresses, judged in places:
            yield Local(direction, *judged[position], addresses if len(places) > 1 else EMPTY, unit)


_DIRECTIONS: tuple[Direction, ...] = ("in", "out")
_COMMON = union(map(parse_cidr, ("169.254.0.0/16", "fe80::/10", "224.0.0.0/4", "ff00::/8", "255.255.255.255/32")))
"""Link-local, multicast and broadcast addresses (RFC 3927, RFC 4291, RFC 1112, RFC 919): no inventory lists them."""
