"""Connection sets: what may pass between two classes under `enforce`, as interned atom sets over class pairs.

`passed[s, d]` is a number, `interner.sets[number]` the bitset of atoms. Two policies judged with one interner
pass the same between two classes iff their numbers are equal. It is painted rule by rule (cost: the sum of the
rules' blocks), never pair by pair.

INVARIANT: numbers are handed out by one `Interner`, append only; compare numbers of one interner only.
INVARIANT: essential atoms are left out of every set: they always pass and would hide what policy says.
Above about 10,000 classes ask for strips of rows (`strips`): a strip costs its own cells only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ringfence.core.engine.bits import Ids, Words, members, of_words
from ringfence.core.engine.classes import ClassTable
from ringfence.core.engine.relation import Relation
from ringfence.core.engine.rules import End, Facts, RuleRef, holds

Numbers = NDArray[np.int32]
Change = Callable[[int, int], int]
"""(set, mask of a rule) -> changed set."""
NONE = 0
"""The number of the empty set."""
STRIP_CELLS = 1 << 22
"""Cells painted at a time where no resident matrix is kept: bounds memory at some 100 MB whatever the estate."""
_SCALAR_CELLS = 4
"""Below this many cells a Python loop beats numpy's call overhead."""


@dataclass
class Interner:
    """Atom sets by number, each once."""

    sets: list[int] = field(default_factory=lambda: [0])
    index: dict[int, int] = field(default_factory=lambda: {0: NONE})

    def number(self, atoms: int) -> int:
        found = self.index.setdefault(atoms, len(self.sets))
        if found == len(self.sets):
            self.sets.append(atoms)
        return found

    def flags(self, mask: int) -> NDArray[np.bool_]:
        """Per number, whether its set meets the mask."""
        return np.fromiter((bool(atoms & mask) for atoms in self.sets), dtype=bool, count=len(self.sets))


_NOT_ASKED = np.zeros(0, dtype=np.int32)


class _Step:
    """`set -> changed set` on numbers, for one mask, memoised in an array."""

    def __init__(self, interner: Interner, change: Change, mask: int) -> None:
        self._interner, self._change, self._mask = interner, change, mask
        self._memo = _NOT_ASKED

    def one(self, number: int) -> int:
        return self._interner.number(self._change(self._interner.sets[number], self._mask))

    def all(self, numbers: Numbers) -> Numbers:
        if len(self._memo) < len(self._interner.sets):
            grown = np.full(2 * len(self._interner.sets), -1, dtype=np.int32)
            grown[: len(self._memo)] = self._memo
            self._memo = grown
        out = self._memo[numbers]
        if (unknown := numbers[out < 0]).size:
            for number in np.unique(unknown).tolist():
                self._memo[number] = self.one(number)
            out = self._memo[numbers]
        return out


@dataclass(frozen=True)
class Canvas:
    """Which class pairs are painted, on which atoms, and with what facts stated."""

    relation: Relation
    classes: ClassTable
    rows: Ids
    columns: Ids
    facts: Facts
    interner: Interner
    atoms: int
    """The atoms asked about, as a bitset; essential ones are never among them."""

    @cached_property
    def everything(self) -> int:
        return self.interner.number(self.atoms)

    @cached_property
    def rules(self) -> int:
        """At least the rules that name a row as source and a column as destination, as a bitset: no other can paint
        here.
        """
        source, destination, _ = self.relation.words()
        named = self.relation.in_force
        if self._row_of is not None:
            named &= of_words(np.bitwise_or.reduce(source[self.rows]))
        if self._column_of is not None:
            named &= of_words(np.bitwise_or.reduce(destination[self.columns]))
        return named

    def over(self, columns: Ids) -> Canvas:
        """The same canvas with only these of its columns (positions)."""
        return replace(self, columns=self.columns[columns])

    def block(self, number: int) -> tuple[Ids, Ids]:
        """The rows a rule names as source and the columns it names as destination (positions)."""
        sources, destinations = self.relation.classes_of(number)
        return _positions(sources, self._row_of), _positions(destinations, self._column_of)

    @cached_property
    def _row_of(self) -> Ids | None:
        return self._position_of(self.rows)

    @cached_property
    def _column_of(self) -> Ids | None:
        return self._position_of(self.columns)

    def _position_of(self, chosen: Ids) -> Ids | None:
        """Class -> its position among the chosen, or -1; None when all classes are, in order."""
        every = np.arange(len(self.classes))
        if np.array_equal(chosen, every):
            return None
        out = np.full(len(every), -1, dtype=np.intp)
        out[chosen] = np.arange(len(chosen))
        return out

    @cached_property
    def row_scopes(self) -> Words:
        return self.relation.words()[2][self.rows]

    @cached_property
    def column_scopes(self) -> Words:
        return self.relation.words()[2][self.columns]

    @cached_property
    def controlled_rows(self) -> NDArray[np.bool_]:
        return np.array(self.classes.is_controlled, dtype=bool)[self.rows]

    @cached_property
    def controlled_columns(self) -> NDArray[np.bool_]:
        return np.array(self.classes.is_controlled, dtype=bool)[self.columns]


def _positions(classes: Ids, position_of: Ids | None) -> Ids:
    if position_of is None:
        return classes
    found = position_of[classes]
    return found[found >= 0]


def strips(rows: Ids, columns: Ids) -> Iterator[Ids]:
    """The rows in parts whose cells are at most `STRIP_CELLS` (one row at least)."""
    step = max(1, STRIP_CELLS // max(1, len(columns)))
    return (rows[start : start + step] for start in range(0, len(rows), step))


def passed(canvas: Canvas) -> Numbers:
    """rows x columns: the number of the set of atoms that pass when every controlled end enforces.

    What the destination's end passes, its source's end passes too (consent is asked at the destination only), so
    one painting serves, unless some allow is conditional on a process, which each end judges differently.
    """
    inbound = _painted(canvas, "destination")
    uncontrolled = np.flatnonzero(~canvas.controlled_columns)
    if _asks_process(canvas.relation):
        outbound = _painted(canvas, "source")
        both = np.ix_(canvas.controlled_rows, canvas.controlled_columns)
        inbound[both] = _meet(canvas.interner, inbound[both], outbound[both])
    inbound[:, uncontrolled] = _painted(canvas.over(uncontrolled), "source")
    nobody_judges = np.ix_(np.flatnonzero(~canvas.controlled_rows), uncontrolled)
    inbound[nobody_judges] = canvas.everything
    return inbound


def _painted(canvas: Canvas, end: End) -> Numbers:
    """What one end passes: the union of the allows that speak there, less the forbids."""
    out = np.zeros((len(canvas.rows), len(canvas.columns)), dtype=np.int32)
    paint(out, canvas, end, canvas.relation.allow, lambda atoms, mask: atoms | mask)
    paint(out, canvas, end, canvas.relation.forbid, lambda atoms, mask: atoms & ~mask)
    return out


def paint(out: Numbers, canvas: Canvas, end: End, rules: int, change: Change) -> None:
    """Change the set of every cell in which one of the rules speaks at an end, rule by rule."""
    steps: dict[int, _Step] = {}
    for number in members(rules & canvas.rules):
        mask = canvas.relation.masks[number] & canvas.atoms
        if not mask:
            continue
        step = steps.get(mask) or steps.setdefault(mask, _Step(canvas.interner, change, mask))
        for rows, columns in blocks(canvas, number, end):
            _apply(out, rows, columns, step)


def blocks(canvas: Canvas, number: int, end: End) -> list[tuple[Ids, Ids]]:
    """The class pairs (positions on the canvas) for which a rule speaks at this end."""
    rule = canvas.relation.rules[number]
    word, bit = number >> 6, np.uint64(1 << (number & 63))
    rows, columns = canvas.block(number)
    if not len(rows) or not len(columns):
        return []
    if rule.rule.action == "allow":
        rows, columns = _where_conditions_hold(canvas, rule, end, rows, columns)
    if rule.policy.scope is None:
        return [(rows, columns)]
    scoped_columns = columns[(canvas.column_scopes[columns, word] & bit) != 0]
    if rule.rule.action == "allow" and end == "destination":
        return [(rows, scoped_columns)]
    if len(scoped_columns) == len(columns):
        return [(rows, columns)]
    return [(rows[(canvas.row_scopes[rows, word] & bit) != 0], columns), (rows, scoped_columns)]


def _where_conditions_hold(canvas: Canvas, rule: RuleRef, end: End, rows: Ids, columns: Ids) -> tuple[Ids, Ids]:
    """A process checked at the other end is believed only where that end is controlled (all of those enforce)."""
    conditions = rule.rule.conditions
    if holds(conditions, end, canvas.facts, peer_enforces=False):
        return rows, columns
    if not holds(conditions, end, canvas.facts, peer_enforces=True):
        return rows[:0], columns[:0]
    if end == "destination":
        return rows[canvas.controlled_rows[rows]], columns
    return rows, columns[canvas.controlled_columns[columns]]


def _apply(out: Numbers, rows: Ids, columns: Ids, step: _Step) -> None:
    if len(rows) * len(columns) <= _SCALAR_CELLS:
        for row in rows.tolist():
            for column in columns.tolist():
                out[row, column] = step.one(int(out[row, column]))
        return
    block = (rows[:, None], columns)
    out[block] = step.all(out[block])


def _meet(interner: Interner, left: Numbers, right: Numbers) -> Numbers:
    """Cell by cell, the number of the intersection."""
    pairs = left.astype(np.int64) << 32 | right
    distinct, inverse = np.unique(pairs, return_inverse=True)
    sets = interner.sets
    met = [interner.number(sets[pair >> 32] & sets[pair & 0xFFFFFFFF]) for pair in distinct.tolist()]
    return np.array(met, dtype=np.int32)[inverse].reshape(left.shape)


def _asks_process(relation: Relation) -> bool:
    conditions = (relation.rules[n].rule.conditions for n in members(relation.conditional))
    return any(c.from_process or c.to_process for c in conditions)
