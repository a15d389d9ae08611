"""What rules add to each other: which could go without changing a verdict, and which allows forbids leave nothing of.

A rule adds nothing where other rules of its action, under no condition, already cover it; it could go when that is so
of every class pair and end at which it speaks. So each action is painted once with what is covered at least once and
at least twice, and a rule compares its services with the twice covered. Strip by strip: memory is bounded by rows x
classes.

INVARIANT: exact over present classes. Process workloads count as classes of their own at either end, which can only
keep a rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ringfence.core.engine import matrix
from ringfence.core.engine.bits import members
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.prove import canvas_of
from ringfence.core.engine.rules import End, Facts

_STRIP = 1024
_BLAMED = 3


@dataclass
class Hits:
    """How much of an allow is forbidden, in class pairs, and by which rules (the first few)."""

    pairs: int = 0
    forbidden: int = 0
    by: set[int] = field(default_factory=set)


class Coverage:
    """Every rule of an engine against all others."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._relation = engine, engine.relation
        self._all = engine.atoms.full
        self.classes = np.array(_lived_in(engine), dtype=np.intp)
        self.needed: set[int] = set()
        """Rules that somewhere pass or block what no other rule of their action does."""
        self.hits: dict[int, Hits] = {}
        """Per allow that speaks anywhere."""
        interner = matrix.Interner()
        facts = Facts(engine.world.at, holds_all=True)
        for start in range(0, len(self.classes), _STRIP):
            rows = self.classes[start : start + _STRIP]
            self._strip(canvas_of(engine, rows, self.classes, facts, interner))

    def _strip(self, canvas: matrix.Canvas) -> None:
        relation = self._relation
        forbidden = self._check(canvas, relation.forbid, "destination")
        self._check(canvas, relation.deny, "destination")
        self._check(canvas, relation.allow, "destination")
        if any(self._engine.rules[number].policy.scope is not None for number in members(relation.allow)):
            self._check(canvas, relation.allow, "source")
        for number in members(relation.allow & canvas.rules):
            self._contradict(canvas, number, forbidden)

    def _check(self, canvas: matrix.Canvas, rules: int, end: End) -> matrix.Numbers:
        """Note the rules of one action that are needed in this strip; returns what they cover once and twice."""
        numbers = np.zeros((len(canvas.rows), len(canvas.columns)), dtype=np.int32)
        unconditional = rules & ~self._relation.conditional
        matrix.paint(numbers, canvas, end, unconditional, self._cover)
        for number in members(rules & canvas.rules):
            mask = self._relation.masks[number] & canvas.atoms
            if not mask:
                self.needed.add(number)  # it is about essential traffic only: no other rule makes it superfluous
            if number not in self.needed and not self._is_covered(canvas, number, end, numbers, mask):
                self.needed.add(number)
        return numbers

    def _cover(self, covered: int, mask: int) -> int:
        """Atoms covered once in the low half, twice in the high half."""
        return covered | mask | (covered & mask) << self._all.bit_length()

    def _is_covered(self, canvas: matrix.Canvas, number: int, end: End, numbers: matrix.Numbers, mask: int) -> bool:
        """Whether others cover a rule wherever it speaks: a painted rule must not count itself."""
        is_painted = not self._relation.conditional >> number & 1
        others = mask << self._all.bit_length() if is_painted else mask
        cells = self._cells(canvas, number, end, numbers)
        return all(not others & ~canvas.interner.sets[n] for n in np.unique(cells).tolist())

    @staticmethod
    def _cells(canvas: matrix.Canvas, number: int, end: End, numbers: matrix.Numbers) -> matrix.Numbers:
        parts = [numbers[np.ix_(rows, columns)].ravel() for rows, columns in matrix.blocks(canvas, number, end)]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)

    def _contradict(self, canvas: matrix.Canvas, number: int, forbidden: matrix.Numbers) -> None:
        mask = self._relation.masks[number] & canvas.atoms
        hits = self.hits.setdefault(number, Hits())
        for rows, columns in matrix.blocks(canvas, number, "destination"):
            block = forbidden[np.ix_(rows, columns)]
            hits.pairs += block.size
            if not block.any():
                continue
            distinct, first, counts = np.unique(block, return_index=True, return_counts=True)
            for set_, at, count in zip(distinct.tolist(), first.tolist(), counts.tolist(), strict=True):
                if mask and not mask & ~canvas.interner.sets[set_]:
                    row, column = divmod(at, len(columns))
                    hits.forbidden += count
                    self._blame(hits, int(canvas.rows[rows[row]]), int(canvas.columns[columns[column]]), mask)

    def _blame(self, hits: Hits, source: int, destination: int, mask: int) -> None:
        """The forbids that meet the services between two classes, least name first."""
        live, _ = self._engine.speaking("destination", source, destination, self._facts, peer_enforces=True)
        found = (n for n in members(live & self._relation.forbid) if self._relation.masks[n] & mask)
        hits.by.update(n for n, _ in zip(found, range(_BLAMED - len(hits.by)), strict=False))

    @property
    def _facts(self) -> Facts:
        return Facts(self._engine.world.at, holds_all=True)


def _lived_in(engine: Engine) -> list[int]:
    """Present classes, and those of process workloads at their hosts' addresses."""
    processes = set(_process_classes(engine))
    return [c for c in range(len(engine.classes)) if c in processes or engine.is_present(c)]


def _process_classes(engine: Engine) -> Iterable[int]:
    at = engine.world.at
    for process in engine.world.inventory.workloads:
        if process.kind == "process":
            yield from (engine.class_of(process, a) for a in engine.addresses_of(engine.host_of(process), at))
