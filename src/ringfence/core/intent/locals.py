"""As what a host is judged: in each direction, at each address it may have, each process on it.

Rules name a host by its labels and by the addresses they are about, so the address line is cut where such rules begin
and end, whoever is known to hold what there. Hosts of one identity are judged alike, whatever their addresses.

INVARIANT: the places of one direction and process are disjoint and cover every address: at one that nobody listed (a
secondary one, broadcast, multicast) a host is judged as if it were listed, never by what holds at another.
INVARIANT: a rule that cannot speak at this end (no consent, a condition that cannot hold) cuts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from ringfence.core.engine.bits import members
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.rules import End, Facts, holds
from ringfence.core.identity.workload import Direction, Workload
from ringfence.core.labels.selector import Labels
from ringfence.core.net.intervals import EMPTY, IntervalSet, union

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


class Locals:
    """The locals of every host of one engine; what identities share is worked out once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._known: dict[tuple[Identity, tuple[tuple[str, Identity], ...]], tuple[Local, ...]] = {}
        self._never: dict[tuple[Direction, str | None], int] = {}
        self._places: dict[Direction, list[tuple[int, IntervalSet]]] = {}

    def of(self, workload: Workload) -> tuple[Local, ...]:
        """Every (direction, place, process) that the host is judged as."""
        inventory = self.engine.world.inventory
        processes = {p.unit: inventory.labels_of(p) for p in inventory.processes_of(workload.name) if p.unit}
        labels = inventory.labels_of(workload)
        key = (frozenset(labels.items()), tuple((u, frozenset(p.items())) for u, p in sorted(processes.items())))
        if key not in self._known:
            self._known[key] = tuple(self._locals(labels, processes))
        return self._known[key]

    def keep(self, used: set[tuple[Local, ...]]) -> None:
        """Forget all others."""
        self._known = {key: locals_ for key, locals_ in self._known.items() if locals_ in used}

    def _locals(self, labels: Labels, processes: Mapping[str, Labels]) -> Iterator[Local]:
        for direction in _DIRECTIONS:
            own = self._row(labels, direction)
            places = self._places_in(direction)
            units = (None, *sorted({*processes, *self._named_units(direction, own, places)}))
            declared = {unit: self._row(theirs, direction) for unit, theirs in processes.items()}
            rows = [own if unit is None else declared.get(unit, own) for unit in units]
            alike: dict[tuple[tuple[int, int], ...], list[IntervalSet]] = {}
            for named, addresses in places:
                judged = (
                    self._speaking(direction, unit, rules | named, scope)
                    for unit, (rules, scope) in zip(units, rows, strict=True)
                )
                alike.setdefault(tuple(judged), []).append(addresses)
            yield from _by_unit(direction, units, alike)

    def _row(self, labels: Labels, direction: Direction) -> tuple[int, int]:
        """The rules that name somebody of these labels, and those whose scope they are in."""
        row = self.engine.relation.row_of(self.engine.peers.of_labels(labels))
        return row[_SIDE[direction]], row[2]

    def _places_in(self, direction: Direction) -> list[tuple[int, IntervalSet]]:
        """The address line cut by the rules that name addresses on the host's side: (rules, addresses)."""
        if direction not in self._places:
            peers, relation = self.engine.peers, self.engine.relation
            alike: dict[int, list[IntervalSet]] = {}
            for _, addresses in peers.address_atoms():
                held = peers.of_address(addresses.ranges[0][0], is_held=True)
                rules = relation.row_of(held)[_SIDE[direction]] & relation.in_force
                alike.setdefault(rules, []).append(addresses)
            self._places[direction] = [(rules, union(addresses)) for rules, addresses in alike.items()]
        return self._places[direction]

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
