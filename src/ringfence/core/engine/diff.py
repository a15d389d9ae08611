"""What one policy set opens and closes against another, as few ranked boxes with a witness each.

Both sets are indexed over one class table and one interner, so two class pairs pass the same iff their numbers
are equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.core.engine import matrix
from ringfence.core.engine.bits import Ids
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.naming import name_classes
from ringfence.core.engine.relation import Relation
from ringfence.core.engine.rules import Facts, number_rules
from ringfence.core.engine.witness import Witness, witness
from ringfence.core.identity.workload import Mode
from ringfence.core.policy.model import Policy
from ringfence.core.world import World

_STRIP = 1024
"""Rows painted at a time: bounds memory at rows x classes x 8 bytes."""


class Box(msgspec.Struct, frozen=True):
    """Every pair from one set of classes to another whose connections open or close in the same way."""

    change: Literal["opened", "closed"]
    sources: str
    destinations: str
    services: tuple[str, ...]
    workload_pairs: int
    """Pairs of workloads (an address range counts as one)."""
    witness: Witness
    """One connection of the box, judged by the set in which it passes."""


class Diff(msgspec.Struct, frozen=True):
    """All boxes, the largest first; empty means the two sets pass exactly the same."""

    boxes: tuple[Box, ...] = ()

    @property
    def opened(self) -> int:
        return sum(box.workload_pairs for box in self.boxes if box.change == "opened")

    @property
    def closed(self) -> int:
        return sum(box.workload_pairs for box in self.boxes if box.change == "closed")


def diff(world: World, old: Sequence[Policy], new: Sequence[Policy]) -> Diff:
    """What `new` opens and closes against `old` over the world's inventory, every controlled end enforcing."""
    enforced = msgspec.structs.replace(world, as_mode=Mode.both("enforce"))
    after = Engine(msgspec.structs.replace(enforced, policies=tuple(new)), refine_by=old)
    before = Engine(msgspec.structs.replace(enforced, policies=tuple(old)), refine_by=new)
    relation = _relation_over(after, old)
    boxes = [box for cells in _changed(after, relation) for box in _boxes(before, after, cells)]
    return Diff(tuple(sorted(boxes, key=lambda b: (-b.workload_pairs, b.change, b.sources, b.destinations))))


def _relation_over(engine: Engine, policies: Sequence[Policy]) -> Relation:
    """The other policy set's bitmaps over this engine's classes and atoms."""
    rules = number_rules(policies)
    return Relation(rules, engine.classes, [engine.mask_of(r.rule.services) for r in rules], len(engine.atoms))


Cells = tuple[NDArray[np.intp], NDArray[np.intp], int, int]
"""Rows and columns (class numbers) of all cells that gain and lose the same atoms, and those two atom sets."""


def _changed(after: Engine, before: Relation) -> Iterator[Cells]:
    """The cells that differ, grouped by (gained, lost)."""
    interner = matrix.Interner()
    columns = np.arange(len(after.classes))
    found: dict[tuple[int, int], list[tuple[NDArray[np.intp], NDArray[np.intp]]]] = {}
    for start in range(0, len(columns), _STRIP):
        rows = columns[start : start + _STRIP]
        canvas = _canvas(after, rows, columns, interner)
        new, old = matrix.passed(canvas), matrix.passed(replace(canvas, relation=before))
        for key, cells in _group(interner, old, new, rows):
            found.setdefault(key, []).append(cells)
    for (gained, lost), parts in found.items():
        yield np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), gained, lost


def _canvas(engine: Engine, rows: Ids, columns: Ids, interner: matrix.Interner) -> matrix.Canvas:
    facts = Facts(engine.world.at, mutual_tls=True)
    return matrix.Canvas(
        engine.relation, engine.classes, rows, columns, facts, interner, engine.atoms.full & ~engine.essential
    )


def _group(
    interner: matrix.Interner, old: matrix.Numbers, new: matrix.Numbers, rows: Ids
) -> Iterator[tuple[tuple[int, int], tuple[NDArray[np.intp], NDArray[np.intp]]]]:
    row, column = np.nonzero(old != new)
    if not len(row):
        return
    pairs = old[row, column].astype(np.int64) << 32 | new[row, column]
    for pair in np.unique(pairs).tolist():
        was, is_ = interner.sets[pair >> 32], interner.sets[pair & 0xFFFFFFFF]
        here = pairs == pair
        yield (is_ & ~was, was & ~is_), (rows[row[here]], column[here])


def _boxes(before: Engine, after: Engine, cells: Cells) -> Iterator[Box]:
    rows, columns, gained, lost = cells
    for sources, destinations in _rectangles(rows, columns):
        changes: tuple[tuple[Literal["opened", "closed"], int, Engine], ...]
        changes = (("opened", gained, after), ("closed", lost, before))
        for change, atoms, judge in changes:
            if atoms and (pairs := _workload_pairs(after, sources, destinations)):
                yield _box(judge, after, change, (sources, destinations), atoms, pairs)


def _box(
    judge: Engine,
    after: Engine,
    change: Literal["opened", "closed"],
    ends: tuple[list[int], list[int]],
    atoms: int,
    pairs: int,
) -> Box:
    """Class and atom numbers are those of `after`; the witness is found there and judged where it passes."""
    sources, destinations = ends
    shown = witness(
        after,
        _lived_in(after, sources),
        _lived_in(after, destinations),
        atoms,
        Facts(after.world.at, mutual_tls=True),
        judge,
    )
    names = name_classes(after, sources), name_classes(after, destinations)
    return Box(change, *names, after.say_services(atoms), pairs, shown)


def _rectangles(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Iterator[tuple[list[int], list[int]]]:
    """Sources with equal destination sets together: exact and linear; a minimum cover is NP-hard and not needed."""
    order = np.lexsort((columns, rows))
    rows, columns = rows[order], columns[order]
    starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
    by_destinations: dict[bytes, tuple[list[int], list[int]]] = {}
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(rows)], strict=True):
        mine = columns[start:end]
        by_destinations.setdefault(mine.tobytes(), ([], mine.tolist()))[0].append(int(rows[start]))
    yield from by_destinations.values()


def _workload_pairs(engine: Engine, sources: list[int], destinations: list[int]) -> int:
    return _weight(engine, sources) * _weight(engine, destinations)


def _weight(engine: Engine, ids: list[int]) -> int:
    return sum(engine.classes.workloads[c] or bool(engine.classes.ranges[c]) for c in ids)


def _lived_in(engine: Engine, ids: list[int]) -> int:
    return next((c for c in ids if engine.classes.workloads[c]), ids[0])
