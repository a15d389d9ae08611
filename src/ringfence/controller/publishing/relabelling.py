"""What a change of labels opens and closes: the same question as for a change of policy (law 9).

Every class of the estate is taken as it is and as it becomes. Those whose workloads keep their labels become
themselves; the others become the class of their new labels. A connection opens where the pair passes afterwards and did
not before, every controlled end enforcing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, get_args

import msgspec
import numpy as np

from ringfence.controller.publishing.versions import failing
from ringfence.core.engine import Engine, matrix
from ringfence.core.engine.bits import Ids
from ringfence.core.engine.naming import describe_labels, name_classes
from ringfence.core.engine.prove import Proof, canvas_of, prove
from ringfence.core.engine.rules import Facts
from ringfence.core.errors import Finding
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode, Workload
from ringfence.core.world import World
from ringfence.wire.api import BoxView, DiffView, Example

MOST_BOXES = 500
_Change = Literal["opened", "closed"]
_AFTER = "\x00after"
"""Added to a UUID: who the workload is with its new labels."""


class _Turn(NamedTuple):
    """A class, what it becomes, and who does so."""

    before: int
    after: int
    workloads: tuple[str, ...] = ()
    """Names; none: they stay as they are."""
    stay: tuple[str, ...] = ()
    """Names of those who keep their labels."""


def relabelled(world: World, labels: Mapping[str, Mapping[str, str]]) -> DiffView:
    """What new labels (by UUID) open and close, the largest first."""
    known = world.inventory
    changed = [w for uuid in labels if (w := known.by_uuid.get(uuid)) is not None]
    ghosts = [msgspec.structs.replace(w, uuid=w.uuid + _AFTER, labels=dict(labels[w.uuid])) for w in changed]
    inventory = Inventory((*known.workloads, *(_renamed(g) for g in ghosts)), ignore=known.ignore)
    both = msgspec.structs.replace(world, inventory=inventory, quarantines=(), as_mode=Mode.both("enforce"))
    comparison = _Comparison(Engine.compile(both), known, list(zip(changed, ghosts, strict=True)))
    boxes = sorted(comparison.boxes(), key=lambda b: (-b.workload_pairs, b.change, b.sources, b.destinations))
    opened, closed = (sum(b.workload_pairs for b in boxes if b.change == change) for change in get_args(_Change))
    return DiffView(opened, closed, tuple(boxes[:MOST_BOXES]), max(0, len(boxes) - MOST_BOXES))


def world_after(world: World, labels: Mapping[str, Mapping[str, str]]) -> World:
    """The world with new labels (by UUID)."""
    known = world.inventory
    every = (
        msgspec.structs.replace(w, labels=dict(labels[w.uuid])) if w.uuid in labels else w for w in known.workloads
    )
    return msgspec.structs.replace(world, inventory=Inventory(every, ignore=known.ignore))


def world_in_modes(world: World, modes: Mapping[str, Mode]) -> World:
    """The world with workloads (by UUID) in other modes."""
    known = world.inventory
    every = (msgspec.structs.replace(w, mode=modes.get(w.uuid, w.mode)) for w in known.workloads)
    return msgspec.structs.replace(world, inventory=Inventory(every, ignore=known.ignore))


def broken_tests(before: World, after: World) -> tuple[tuple[Proof, ...], tuple[Finding, ...]]:
    """What becomes of each test, and a finding for each that holds before and not after."""
    old, new = (prove(Engine.compile(_enforced(world))) for world in (before, after))
    broken = (now for was, now in zip(old, new, strict=True) if was.outcome != now.outcome)
    return new, tuple(failing(broken, "error"))


def _enforced(world: World) -> World:
    return msgspec.structs.replace(world, quarantines=(), as_mode=Mode.both("enforce"))


def _renamed(ghost: Workload) -> Workload:
    """Names are unique in an inventory."""
    return msgspec.structs.replace(ghost, name=ghost.name + _AFTER)


class _Comparison:
    def __init__(self, engine: Engine, known: Inventory, changes: list[tuple[Workload, Workload]]) -> None:
        self._engine, self._known = engine, known
        self._facts = Facts(engine.world.at)
        self._interner = matrix.Interner()
        self._turns = tuple(self._turned(changes))
        self._all = (*self._turns, *self._staying({before.uuid for before, _ in changes}))

    def _turned(self, changes: Iterable[tuple[Workload, Workload]]) -> Iterator[_Turn]:
        found: dict[tuple[int, int], list[str]] = {}
        for before, after in changes:
            for address in self._engine.addresses_of(before, self._engine.world.at):
                pair = (self._engine.class_of(before, address), self._engine.class_of(after, address))
                found.setdefault(pair, []).append(before.name)
        for (before_, after_), names in found.items():
            if before_ != after_:
                yield _Turn(before_, after_, tuple(dict.fromkeys(names)))

    def _staying(self, changed: set[str]) -> Iterator[_Turn]:
        """The classes of whoever keeps their labels, and of bare addresses."""
        engine = self._engine
        held: dict[int, list[str]] = {}
        for workload in self._known.workloads:
            if workload.uuid not in changed:
                for class_ in {engine.class_of(workload, a) for a in engine.addresses_of(workload, engine.world.at)}:
                    held.setdefault(class_, []).append(workload.name)
        bare = {c for c in range(len(engine.classes)) if engine.classes.labels[c] is None and engine.is_present(c)}
        for class_ in sorted(held.keys() | bare):
            yield _Turn(class_, class_, stay=tuple(held.get(class_, ())))

    def boxes(self) -> Iterator[BoxView]:
        for change, atoms, row, columns, is_source in self._cells():
            who, peers = ", ".join(row.workloads), self._say(columns)
            services = self._engine.say_services(atoms)
            ends = (who, peers) if is_source else (peers, who)
            pairs = len(row.workloads) * sum(self._size(one) for one in columns)
            peer = (columns[0].workloads or columns[0].stay or (self._say(columns[:1]),))[0]
            first = (row.workloads[0], peer) if is_source else (peer, row.workloads[0])
            told = ("allowed", "allow") if change == "opened" else ("blocked", "default")
            example = Example(*first, services[0] if services else "any", *told)
            yield BoxView(change, *ends, services, pairs, example)

    def _cells(self) -> Iterator[tuple[_Change, int, _Turn, tuple[_Turn, ...], bool]]:
        """(change, services, who turns, with whom, whether it is the source): alike columns together."""
        for is_source in (True, False):
            was, becomes = (self._numbers(side, is_source=is_source) for side in (0, 1))
            for position, row in enumerate(self._turns):
                groups: dict[tuple[_Change, int], list[_Turn]] = {}
                for column in np.flatnonzero(was[position] != becomes[position]).tolist():
                    other = self._all[column]
                    if self._is_itself(row, other) or (not is_source and other.workloads):
                        continue  # between two that turn: told once, from the source's side
                    old, new = (self._interner.sets[int(n[position, column])] for n in (was, becomes))
                    moved: tuple[tuple[_Change, int], ...] = (("opened", new & ~old), ("closed", old & ~new))
                    for change, atoms in moved:
                        if atoms & ~self._engine.essential:
                            groups.setdefault((change, atoms), []).append(other)
                for (change, atoms), others in groups.items():
                    yield change, atoms, row, tuple(others), is_source

    def _numbers(self, side: int, *, is_source: bool) -> matrix.Numbers:
        """Turning classes by all classes, before (0) or after (1): the number of the services that pass."""
        rows, columns = (np.array([turn[side] for turn in turns], dtype=np.intp) for turns in (self._turns, self._all))
        if not is_source:
            return self._passed(columns, rows).T
        return self._passed(rows, columns)

    def _passed(self, sources: Ids, destinations: Ids) -> matrix.Numbers:
        (rows, row_of), (columns, column_of) = (
            np.unique(side, return_inverse=True) for side in (sources, destinations)
        )
        canvas = canvas_of(self._engine, rows, columns, self._facts, self._interner)
        return matrix.passed(canvas)[np.ix_(row_of, column_of)]

    @staticmethod
    def _is_itself(row: _Turn, other: _Turn) -> bool:
        """A lone workload's way to itself is loopback."""
        return len(row.workloads) == 1 and row.workloads == other.workloads

    def _size(self, turn: _Turn) -> int:
        return len(turn.workloads) or len(turn.stay) or 1

    def _say(self, turns: Iterable[_Turn]) -> str:
        return "; ".join(self._say_one(turn) for turn in turns)

    def _say_one(self, turn: _Turn) -> str:
        if turn.workloads:
            return ", ".join(turn.workloads)
        if self._engine.classes.labels[turn.before] is None:
            return name_classes(self._engine, [turn.before])
        return describe_labels(self._engine.classes, turn.before)
