"""Compile the intents of hosts from the engine's index, in the pieces they travel in.

INVARIANT: a cell's action and rule are what the engine answers for that class, service point and end, under
`enforce`. INVARIANT: span. An address is listed only where its verdicts differ from those its range, or an
unknown address, would get.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from ringfence.core.engine.bits import members
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.rules import next_change
from ringfence.core.identity.workload import Direction, Workload
from ringfence.core.intent.isolate import isolations_of
from ringfence.core.intent.membership import Change, Group, Kind, Membership, Seen
from ringfence.core.intent.model import UNKNOWN_CLASS, Cell, Intent, Part, Passage
from ringfence.core.intent.pieces import Body, ClassPlan, Isolation, Station, assemble
from ringfence.core.intent.refusals import refusals_of
from ringfence.core.intent.verdicts import Row, Verdicts
from ringfence.core.net.address import EVERYWHERE as EVERY_ADDRESS
from ringfence.core.net.intervals import IntervalSet

Networks = frozenset[str]


class _Local(NamedTuple):
    """One way a host is judged: for some of its addresses, or one of its processes."""

    direction: Direction
    class_: int
    addresses: IntervalSet
    unit: str | None


class Moved(NamedTuple):
    """What followed from one host's change."""

    groups: dict[tuple[Networks, str], Change]
    """Per networks and key of group, the addresses that came and went."""
    has_new_bodies: bool
    """Whether classes or groups came or went: every body may be another."""


class IntentCompiler:
    """Compiles the intents of all hosts of one engine; what hosts share is worked out once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._memberships: dict[Networks, Membership] = {}
        self._isolations: dict[Networks, tuple[Isolation, ...]] = {}
        self._tables: dict[tuple[Direction, int, str | None], Verdicts] = {}
        self._bodies: dict[tuple[Networks, tuple[_Local, ...]], Body] = {}
        self._resolved: dict[int, Row] = {0: ()}
        self._points_of: dict[int, IntervalSet] = {}
        self._texts: dict[Seen, str] = {}
        self._keys: dict[tuple[Networks, Kind], str] = {}
        self._group_tables: dict[Networks, dict[str, Group]] = {}
        self._class_count = len(engine.classes)
        unknown = engine.classes.of(None, engine.peers.of_address(None, is_held=False), is_controlled=False)
        self._unknown = Seen((unknown,))

    def compile(self, workload: Workload) -> Intent:
        """The intent of one controlled host."""
        networks, body = self.networks_of(workload), self.body(workload)
        members_ = {key: self.group(networks, key) for key in body.groups}
        return assemble(self.station(workload, body), body, members_, self.isolations(networks))

    # ---- the pieces ---------------------------------------------------------------------------------------------

    def networks_of(self, workload: Workload) -> Networks:
        """The networks a host is in: what an address stands for depends on them."""
        live = workload.live_addresses(self.engine.world.at)
        return frozenset(lease.network for lease in live) or frozenset(("main",))

    def station(self, workload: Workload, body: Body) -> Station:
        """What is the host's own."""
        world = self.engine.world
        return Station(
            workload=workload.uuid,
            name=workload.name,
            mode=world.as_mode or workload.mode,
            own=self._own(workload),
            body=body.digest,
            failsafe=self._failsafe,
            valid_until=self.valid_until,
            refusals=refusals_of(self.engine, workload, {(x.direction, x.class_) for x in self._locals(workload)}),
        )

    def body(self, workload: Workload) -> Body:
        """What each class may do there: one object for all hosts that are judged alike."""
        key = (self.networks_of(workload), tuple(self._locals(workload)))
        self._groups(key[0])
        if key not in self._bodies:
            self._bodies[key] = self._body(*key)
        return self._bodies[key]

    @property
    def tables(self) -> Mapping[Networks, Mapping[str, Group]]:
        """Per networks that a host compiled so far is in, every group by key."""
        return self._group_tables

    def holders(self, networks: Networks) -> Mapping[int, list[Workload]]:
        """Per live address of some networks, who holds it."""
        return self._membership(networks).holders

    def group(self, networks: Networks, key: str) -> tuple[int, ...]:
        """The addresses of a group, sorted, as the hosts of some networks know them."""
        return self._groups(networks)[key].addresses

    def move(self, before: Workload | None, after: Workload | None) -> Moved:
        """Follow one host that came, changed or went, once the engine has. For a process, compile anew."""
        changes: dict[tuple[Networks, str], Change] = {}
        is_new = len(self.engine.classes) != self._class_count
        for networks, membership in self._memberships.items():
            table = self._groups(networks)
            for kind, change in membership.move(before, after).items():
                key = self._key(networks, kind)
                changes[networks, key] = change
                group = membership.group(kind)
                is_new = is_new or group is None or key not in table
                if group is None:
                    table.pop(key, None)
                else:
                    table[key] = group
        if is_new:
            self._forget_classes()
        self._isolations.clear()
        self.__dict__.pop("valid_until", None)
        return Moved(changes, is_new)

    def _forget_classes(self) -> None:
        """Classes or groups came or went: what each class may do is looked up again."""
        self._class_count = len(self.engine.classes)
        self._bodies.clear()
        for table in self._tables.values():
            table.__dict__.pop("touched", None)
        self.__dict__.pop("_bare", None)

    def isolations(self, networks: Networks) -> tuple[Isolation, ...]:
        """Every live quarantine, resolved, as the hosts of some networks need it."""
        if networks not in self._isolations:
            world, holders = self.engine.world, self._membership(networks).holders
            self._isolations[networks] = isolations_of(world.quarantines, world.inventory, world.at, networks, holders)
        return self._isolations[networks]

    # ---- who the host is ----------------------------------------------------------------------------------------

    def _own(self, workload: Workload) -> tuple[int, ...]:
        return tuple(sorted({lease.address for lease in workload.live_addresses(self.engine.world.at)}))

    def _locals(self, workload: Workload) -> Iterator[_Local]:
        """Every (direction, unit, own class) the host is judged as.

        Where its addresses differ in class, any other address it has (a secondary one, broadcast, multicast) is judged
        by its labels alone, so that no address of the host is without a part.
        """
        own = self._own(workload)
        by_class: dict[int, list[int]] = {}
        for address in own or (None,):
            by_class.setdefault(self.engine.class_of(workload, address), []).extend(
                [] if address is None else [address]
            )
        processes = {p.unit: p for p in self.engine.world.inventory.processes_of(workload.name) if p.unit}
        for direction in _DIRECTIONS:
            for unit in (None, *sorted({*processes, *self._named_units(direction, by_class)})):
                for class_, addresses in by_class.items():
                    mine = _points(addresses) if len(by_class) > 1 else IntervalSet()
                    process = processes.get(unit) if unit else None
                    at = addresses[0] if addresses else None
                    judged = class_ if process is None else self.engine.class_of(process, at)
                    yield _Local(direction, judged, mine, unit)
                if len(by_class) > 1:
                    judged = self.engine.class_of(processes.get(unit or "") or workload, None)
                    yield _Local(direction, judged, EVERY_ADDRESS - _points(own), unit)

    def _named_units(self, direction: Direction, classes: Iterable[int]) -> set[str]:
        """Units that a rule about this host names on this side."""
        relation = self.engine.relation
        side = 0 if direction == "out" else 1
        about = 0
        for class_ in classes:
            about |= relation.rows(class_)[side]
        conditions = (self.engine.rules[n].rule.conditions for n in members(about & relation.conditional))
        units = (c.from_process if direction == "out" else c.to_process for c in conditions)
        return {unit for unit in units if unit}

    # ---- who is who ---------------------------------------------------------------------------------------------

    def _verdicts(self, local: _Local) -> Verdicts:
        key = (local.direction, local.class_, local.unit)
        if key not in self._tables:
            self._tables[key] = Verdicts(self.engine, *key, self._resolved)
        return self._tables[key]

    def _membership(self, networks: Networks) -> Membership:
        if networks not in self._memberships:
            self._memberships[networks] = Membership(self.engine, networks)
        return self._memberships[networks]

    def _groups(self, networks: Networks) -> dict[str, Group]:
        if networks not in self._group_tables:
            groups = self._membership(networks).groups
            self._group_tables[networks] = {self._key(networks, Kind(g.seen, g.fallback)): g for g in groups}
        return self._group_tables[networks]

    def _key(self, networks: Networks, kind: Kind) -> str:
        """What a group goes by: depends only on what it is, so it stays when others come and go."""
        known = (networks, kind)
        if known not in self._keys:
            texts = (self._text(kind.seen), self._text(kind.fallback))
            words = "\n".join((",".join(sorted(networks)), *texts, self._line))
            self._keys[known] = hashlib.sha256(words.encode()).hexdigest()[:32]
        return self._keys[known]

    @cached_property
    def _line(self) -> str:
        """How the policies tell addresses apart: a class of the same words under another cut is another group."""
        peers = self.engine.peers
        words = sorted(peers.peers[number].text for number in members(peers.all_addresses))
        return "\n".join((*words, "believing" if Membership.is_believing(self.engine) else ""))

    def _body(self, networks: Networks, locals_: tuple[_Local, ...]) -> Body:
        kept = self._kept(networks, locals_)
        numbers = _numbers({seen: self._text(seen) for seen in kept})
        classes = (
            ClassPlan(numbers[seen], self._text(seen), tuple(sorted(groups)), tuple(sorted(ranges)))
            for seen, (groups, ranges) in kept.items()
        )
        tellable = {numbers[seen]: seen for seen in kept}
        parts = tuple(self._part(local, tellable) for local in locals_)
        return Body(tuple(sorted(classes, key=lambda c: c.id)), parts)

    def _kept(
        self, networks: Networks, locals_: tuple[_Local, ...]
    ) -> dict[Seen, tuple[list[str], list[tuple[int, int]]]]:
        """The classes such a host must tell apart, with their groups and ranges.

        A class that no rule about this host names gets what any unlisted address gets, so it is not looked at.
        """
        tables = [self._verdicts(local) for local in locals_]
        rows = _Rows(tables)
        kept: dict[Seen, tuple[list[str], list[tuple[int, int]]]] = {}
        for group in self._membership(networks).groups_about(frozenset().union(*(t.touched for t in tables))):
            if rows[group.seen] != rows[group.fallback]:
                kept.setdefault(group.seen, ([], []))[0].append(self._key(networks, Kind(group.seen, group.fallback)))
        for bare, ranges in self._bare:
            if rows[bare] != rows[self._unknown]:
                kept.setdefault(bare, ([], []))[1].extend(ranges)
        return kept

    @cached_property
    def _bare(self) -> list[tuple[Seen, tuple[tuple[int, int], ...]]]:
        """The classes of addresses that nobody holds, with their ranges."""
        return [(Seen((class_,)), ranges.ranges) for class_, ranges in enumerate(self.engine.classes.ranges) if ranges]

    def _text(self, seen: Seen) -> str:
        """What the class is, in words that no other class shares."""
        if seen not in self._texts:
            believed = [name for name, is_ in zip(("sends", "receives"), seen.believed, strict=True) if is_]
            words = " | ".join(sorted(map(self._class_text, seen.classes)))
            self._texts[seen] = words + (f" (believed: {' '.join(believed)})" if believed else "")
        return self._texts[seen]

    def _class_text(self, class_: int) -> str:
        classes, peers = self.engine.classes, self.engine.peers
        inside = classes.membership[class_] & self._address_bits
        where = "+".join(sorted(peers.peers[n].text for n in members(inside)))
        labels = classes.labels[class_]
        if labels is None:
            return where or "unknown"
        named = ",".join(f"{key}={value}" for key, value in labels.items()) or "unlabelled"
        unmanaged = "" if classes.is_controlled[class_] else " (unmanaged)"
        return named + unmanaged + (f" in {where}" if where else "")

    @cached_property
    def _address_bits(self) -> int:
        everyone = self.engine.peers.of_address(None, is_held=False)
        return self.engine.peers.all_addresses & ~everyone

    # ---- parts --------------------------------------------------------------------------------------------------

    def _part(self, local: _Local, kept: dict[int, Seen]) -> Part:
        cells: list[Cell] = []
        for number, seen in [(UNKNOWN_CLASS, self._unknown), *sorted(kept.items())]:
            for action, mask, rule in self._verdicts(local).of(seen):
                cells.append(Cell(number, self._points(mask), action, self.engine.rules[rule].ref))
        return Part(local.direction, tuple(cells), local.addresses, local.unit)

    def _points(self, atoms: int) -> IntervalSet:
        if atoms not in self._points_of:
            self._points_of[atoms] = self.engine.atoms.points(atoms)
        return self._points_of[atoms]

    # ---- the rest of a station ----------------------------------------------------------------------------------

    @cached_property
    def _failsafe(self) -> tuple[Passage, ...]:
        return tuple(Passage(f.direction, f.remote, f.services) for f in self.engine.world.failsafe)

    @cached_property
    def valid_until(self) -> datetime | None:
        world = self.engine.world
        times: list[datetime | None] = [next_change(r.rule.conditions, world.at) for r in self.engine.rules]
        times += [q.until for q in world.quarantines]
        times += [t for w in world.inventory.workloads for lease in w.addresses for t in (lease.start, lease.end)]
        times += [t for answers in world.names.values() for a in answers for t in (a.start, a.end)]
        return min((t for t in times if t is not None and t > world.at), default=None)


class _Rows(dict[Seen, tuple[Row, ...]]):
    """What a remote may do in every part of a host."""

    def __init__(self, tables: list[Verdicts]) -> None:
        super().__init__()
        self._tables = tables

    def __missing__(self, seen: Seen) -> tuple[Row, ...]:
        row = self[seen] = tuple(table.of(seen) for table in self._tables)
        return row


_DIRECTIONS: tuple[Direction, ...] = ("in", "out")


def _points(addresses: Iterable[int]) -> IntervalSet:
    return IntervalSet.of((address, address) for address in addresses)


def _numbers(texts: dict[Seen, str]) -> dict[Seen, int]:
    """A number for each class that depends only on what the class is, so numbers stay when others come and go.

    31 bits of SHA-256; on the (rare) collision the later text takes the next free number.
    """
    out: dict[Seen, int] = {}
    taken = {UNKNOWN_CLASS}
    for seen, text in sorted(texts.items(), key=lambda item: (item[1], item[0])):
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1 or 1
        while number in taken:
            number = number % 0x7FFFFFFE + 1
        out[seen] = number
        taken.add(number)
    return out
