"""What rules add to each other: which could go without changing a verdict, and which allows forbids leave nothing of.

A rule adds nothing where other rules of its action, under no condition, already cover it; it could go when that is so
of every class pair and end at which it speaks. So each action is painted once with what is covered at least once and at
least twice, strip by strip (memory is bounded by rows x classes); what that leaves in doubt is looked at one by one.

INVARIANT: all superfluous rules may go together: each is covered by rules that stay.
INVARIANT: exact over present classes. Process workloads count as classes of their own at either end, which can only
keep a rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ringfence.core.engine import matrix
from ringfence.core.engine.bits import members, of_ids
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.prove import canvas_of
from ringfence.core.engine.relation import meaning
from ringfence.core.engine.rules import End, Facts

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
        self._facts = Facts(engine.world.at, holds_all=True)
        self._is_scoped = any(rule.policy.scope is not None for rule in engine.rules)
        self.classes = np.array(_lived_in(engine), dtype=np.intp)
        self._needed: set[int] = set()
        """Rules that somewhere pass or block what no other rule of their action does."""
        self.hits: dict[int, Hits] = {}
        """Per allow that speaks anywhere."""
        interner = matrix.Interner()
        for rows in matrix.strips(self.classes, self.classes):
            self._strip(canvas_of(engine, rows, self.classes, self._facts, interner))
        self.twins = _twins(engine)
        """Rules that say the same as an earlier one, with that one."""
        self.superfluous = self._may_go()
        """Rules that may go, all of them together."""

    def _may_go(self) -> int:
        """Later names go first, so that of two that cover each other the earlier stays. A bitset."""
        gone = of_ids(self.twins)
        for number in reversed(range(len(self._engine.rules))):
            if number not in self._needed and not gone >> number & 1 and self._is_left_covered(number, gone):
                gone |= 1 << number
        return gone

    def _is_left_covered(self, number: int, gone: int) -> bool:
        """Whether rules that stay cover a rule wherever it speaks."""
        mask = self._relation.masks[number]
        rows, columns = (side[np.isin(side, self.classes)] for side in self._relation.classes_of(number))
        canvas = canvas_of(self._engine, rows, columns, self._facts)
        staying = self.same_action(number) & ~gone
        for end in self._ends(number):
            numbers = np.zeros((len(canvas.rows), len(canvas.columns)), dtype=np.int32)
            matrix.paint(numbers, canvas, end, staying, lambda atoms, more: atoms | more)
            cells = self._cells(canvas, number, end, numbers)
            if any(mask & canvas.atoms & ~canvas.interner.sets[n] for n in np.unique(cells).tolist()):
                return False
        return True

    def same_action(self, number: int) -> int:
        """The other rules of its action that are under no condition, as a bitset."""
        relation, bit = self._relation, 1 << number
        action = next(bits for bits in (relation.forbid, relation.allow, relation.deny) if bits & bit)
        return action & ~relation.conditional & ~bit

    def _ends(self, number: int) -> tuple[End, ...]:
        """The ends at which a rule may speak for different class pairs."""
        is_allow = bool(self._relation.allow >> number & 1)
        return ("destination", "source") if is_allow and self._is_scoped else ("destination",)

    def _strip(self, canvas: matrix.Canvas) -> None:
        relation = self._relation
        forbidden = self._check(canvas, relation.forbid, "destination")
        self._check(canvas, relation.deny, "destination")
        self._check(canvas, relation.allow, "destination")
        if self._is_scoped:
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
                self._needed.add(number)  # it is about essential traffic only: no other rule makes it superfluous
            if number not in self._needed and not self._is_covered(canvas, number, end, numbers, mask):
                self._needed.add(number)
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


def _twins(engine: Engine) -> dict[int, int]:
    first: dict[tuple[object, ...], int] = {}
    numbers = ((number, first.setdefault(meaning(rule), number)) for number, rule in enumerate(engine.rules))
    return {number: twin for number, twin in numbers if twin != number}


def _lived_in(engine: Engine) -> list[int]:
    """Present classes, and those of process workloads at their hosts' addresses."""
    processes = set(_process_classes(engine))
    return [c for c in range(len(engine.classes)) if c in processes or engine.is_present(c)]


def _process_classes(engine: Engine) -> Iterable[int]:
    at = engine.world.at
    for process in engine.world.inventory.workloads:
        if process.kind == "process":
            yield from (engine.class_of(process, a) for a in engine.addresses_of(engine.host_of(process), at))
