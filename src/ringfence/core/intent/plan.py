"""How a body is made, kept so that a class that comes or goes changes it in place.

INVARIANT (no hysteresis, law 2): a plan that followed changes has the body of one made from nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby

from ringfence.core.engine.engine import Engine
from ringfence.core.intent.locals import Local
from ringfence.core.intent.membership import Kind, Seen
from ringfence.core.intent.model import UNKNOWN_CLASS, Cell, Part
from ringfence.core.intent.names import Names, Networks
from ringfence.core.intent.pieces import Body, ClassPlan
from ringfence.core.intent.verdicts import Row, Verdicts
from ringfence.core.net.intervals import EMPTY, IntervalSet, union

Bare = Sequence[tuple[Seen, tuple[tuple[int, int], ...]]]


class Shared:
    """What all plans of one engine share."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.names = Names(engine)
        unknown = engine.classes.of(None, engine.peers.of_address(None, is_held=False), is_controlled=False)
        self.unknown = Seen((unknown,))
        ranges = enumerate(engine.classes.ranges)
        self.bare: Bare = [(Seen((class_,)), found.ranges) for class_, found in ranges if found]
        """The classes of addresses that nobody holds, with their ranges."""
        self._tables: dict[tuple[object, ...], Verdicts] = {}
        self._resolved: dict[int, Row] = {0: ()}
        self._points: dict[int, IntervalSet] = {}

    def table(self, local: Local) -> Verdicts:
        """The verdicts about a local: one table for all that are alike."""
        key = (local.direction, local.rules, local.scope, local.unit)
        if key not in self._tables:
            self._tables[key] = Verdicts(self.engine, local, self._resolved)
        return self._tables[key]

    def keep(self, used: set[Verdicts]) -> None:
        """Forget all other tables."""
        self._tables = {key: table for key, table in self._tables.items() if table in used}

    def follow(self, gone: Iterable[Kind]) -> None:
        """Classes came or went."""
        for table in self._tables.values():
            table.__dict__.pop("touched", None)
            for kind in gone:
                table.forget(kind.seen)

    def points(self, atoms: int) -> IntervalSet:
        if atoms not in self._points:
            self._points[atoms] = self.engine.atoms.points(atoms)
        return self._points[atoms]


class Plan:
    """A body, and the classes that hosts who run it must tell apart."""

    def __init__(self, shared: Shared, networks: Networks, locals_: tuple[Local, ...]) -> None:
        self._shared, self._networks = shared, networks
        self.locals = locals_
        self.tables = [shared.table(local) for local in locals_]
        self._kept: dict[Seen, set[str]] = {}
        """Per class, its groups."""
        self._classes: dict[Seen, ClassPlan] = {}
        self._cells: dict[tuple[int, Seen], tuple[tuple[Cell, ...], ...]] = {}
        self._body: Body | None = None
        self._digest: str | None = None
        unknown = self._rows(shared.unknown)
        self._ranges = {bare: ranges for bare, ranges in shared.bare if self._rows(bare) != unknown}

    @property
    def touched(self) -> frozenset[int]:
        """The remote classes that some rule about the host names. No other has a verdict."""
        return frozenset().union(*(table.touched for table in self.tables))

    @property
    def body(self) -> Body:
        if self._body is None:
            self._body = self._made()
        return self._body

    @property
    def digest(self) -> str:
        """The body's: worked out once."""
        if self._digest is None:
            self._digest = self.body.digest
        return self._digest

    def is_about(self, kind: Kind) -> bool:
        """Whether hosts must know the addresses of a group: unlisted they would be judged otherwise."""
        return any(table.of(kind.seen) != table.of(kind.fallback) for table in self.tables)

    def add(self, kind: Kind) -> None:
        """A group came, which this is about."""
        self._kept.setdefault(kind.seen, set()).add(self._shared.names.key(self._networks, kind))
        self._classes.pop(kind.seen, None)

    def follow(self, came: Iterable[Kind], went: Iterable[Kind]) -> str | None:
        """Groups came and went. Returns the digest the body had, if it is another now and anybody knew it."""
        about = [kind for kind in came if self.is_about(kind)]
        for kind in about:
            self.add(kind)
        gone = [kind for kind in went if self._remove(kind)]
        if not about and not gone:
            return None
        before = self.digest if self._body is not None else None
        self._body = self._digest = None
        return before

    def _remove(self, kind: Kind) -> bool:
        groups, key = self._kept.get(kind.seen), self._shared.names.key(self._networks, kind)
        if groups is None or key not in groups:
            return False
        groups.remove(key)
        self._classes.pop(kind.seen, None)
        if not groups:
            del self._kept[kind.seen]
        return True

    # ---- the body -----------------------------------------------------------------------------------------------

    def _rows(self, seen: Seen) -> tuple[Row, ...]:
        return tuple(table.of(seen) for table in self.tables)

    def _made(self) -> Body:
        numbers = self._shared.names.numbers({*self._kept, *self._ranges})
        told = sorted((number, seen) for seen, number in numbers.items())
        known, self._classes = self._classes, {}
        for number, seen in told:
            old = known.get(seen)
            self._classes[seen] = old if old is not None and old.id == number else self._class(number, seen)
        return Body(tuple(self._classes.values()), tuple(self._parts(told)))

    def _class(self, number: int, seen: Seen) -> ClassPlan:
        groups = tuple(sorted(self._kept.get(seen, ())))
        return ClassPlan(number, self._shared.names.text(seen), groups, self._ranges.get(seen, ()))

    def _parts(self, told: list[tuple[int, Seen]]) -> Iterator[Part]:
        """One a local; places where nothing differs are one."""
        known, self._cells = self._cells, {}
        for one in ((UNKNOWN_CLASS, self._shared.unknown), *told):
            self._cells[one] = known.get(one) or self._cells_of(*one)
        cells = [tuple(chain.from_iterable(rows)) for rows in zip(*self._cells.values(), strict=True)]
        for _, positions in groupby(range(len(self.locals)), key=lambda at: self.locals[at].direction):
            yield from self._joined(list(positions), cells)

    def _cells_of(self, number: int, seen: Seen) -> tuple[tuple[Cell, ...], ...]:
        """A class's cells in each local."""
        rules, points = self._shared.engine.rules, self._shared.points
        return tuple(
            tuple(Cell(number, points(mask), action, rules[rule].ref) for action, mask, rule in table.of(seen))
            for table in self.tables
        )

    def _joined(self, positions: list[int], cells: list[tuple[Cell, ...]]) -> Iterator[Part]:
        """The parts of one direction. Two places are one if no process is judged otherwise at one than at the other."""
        by_place: dict[IntervalSet, list[int]] = {}
        for at in positions:
            by_place.setdefault(self.locals[at].addresses, []).append(at)
        alike: dict[tuple[tuple[Cell, ...], ...], list[IntervalSet]] = {}
        for addresses, here in by_place.items():
            alike.setdefault(tuple(cells[at] for at in here), []).append(addresses)
        places = [(by_place[found[0]], union(found)) for found in alike.values()]
        parts = (
            Part(self.locals[at].direction, cells[at], addresses if len(places) > 1 else EMPTY, self.locals[at].unit)
            for here, addresses in places
            for at in here
        )
        yield from sorted(parts, key=lambda part: (part.unit or "", part.local.ranges))
