"""What one policy set opens and closes against another, as few ranked boxes with a witness each.

Both sets are indexed over one class table and one interner, so two class pairs pass the same iff their numbers are
equal. Only pairs that a changed rule names can differ, so only those are painted; and they are painted once for every
combination of facts (mutual TLS, processes) that some rule there asks for, so a condition that comes or goes is a
change like any other.

Judged at one time, the world's: a rule whose dates or hours change shows the difference they make then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.core.engine import matrix
from ringfence.core.engine.bits import Ids, members
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.naming import Naming
from ringfence.core.engine.prove import canvas_of, own_ways
from ringfence.core.engine.relation import meaning
from ringfence.core.engine.rules import Facts
from ringfence.core.engine.witness import Witness, witness
from ringfence.core.policy.model import Policy
from ringfence.core.world import World

Change = Literal["opened", "closed"]


class Box(msgspec.Struct, frozen=True):
    """Every pair from one set of classes to another whose connections open or close in the same way."""

    change: Change
    sources: str
    destinations: str
    services: tuple[str, ...]
    workload_pairs: int
    """Pairs of workloads (an address range counts as one)."""
    witness: Witness
    """One connection of the box, judged by the set in which it passes."""
    when: tuple[str, ...] = ()
    """What must be stated for it: `mutual-tls`, `from_process=UNIT`, `to_process=UNIT`; empty: nothing."""


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
    after = Engine(msgspec.structs.replace(world, policies=tuple(new)), refine_by=old)
    return compare(after.with_policies(old), after)


def compare(before: Engine, after: Engine) -> Diff:
    """The same for two engines over one class table (`Engine.with_policies`)."""
    comparison = _Comparison(before, after)
    boxes = [box for cells in comparison.cells() for box in comparison.boxes(cells)]
    return Diff(tuple(sorted(boxes, key=lambda b: (-b.workload_pairs, b.change, b.when, b.sources, b.destinations))))


@dataclass(frozen=True)
class _Cells:
    """All class pairs that gain and lose the same atoms under the same facts."""

    rows: Ids
    columns: Ids
    gained: int
    lost: int
    facts: Facts


class _Comparison:
    def __init__(self, before: Engine, after: Engine) -> None:
        self._before, self._after = before, after
        self._naming = Naming(after)
        self._interner = matrix.Interner()

    # ---- which pairs differ ----------------------------------------------------------------------------------------

    def cells(self) -> Iterator[_Cells]:
        """The pairs that differ, grouped by what they gain and lose and by the facts it takes."""
        rows, columns = self._touched()
        if not len(rows) or not len(columns):
            return
        found: dict[tuple[int, int, Facts], list[NDArray[np.intp]]] = {}
        combinations = self._combinations(rows, columns)
        for strip in matrix.strips(rows, columns):
            for facts, codes in self._changes(strip, columns, combinations):
                for code, where in _grouped(codes):
                    pairs = np.stack([strip[where[0]], columns[where[1]]], axis=1)
                    found.setdefault((code >> 32, code & 0xFFFFFFFF, facts), []).append(pairs)
        sets = self._interner.sets
        for (gained, lost, facts), parts in found.items():
            cells = np.concatenate(parts)
            yield _Cells(cells[:, 0], cells[:, 1], sets[gained], sets[lost], facts)

    def _touched(self) -> tuple[Ids, Ids]:
        """The present classes that changed rules name as source and as destination. A deny never decides here."""
        engines = (self._before, self._after)
        meanings = [{meaning(rule) for rule in engine.rules} for engine in engines]
        common = meanings[0] & meanings[1]
        named = [
            engine.relation.classes_of(number)
            for engine in engines
            for number, rule in enumerate(engine.rules)
            if rule.rule.action != "deny" and meaning(rule) not in common
        ]
        present = np.array([self._after.is_present(c) for c in range(len(self._after.classes))], dtype=bool)
        sides = [np.unique(np.concatenate([ends[side] for ends in named] or [_NOBODY])) for side in (0, 1)]
        rows, columns = (side[present[side]] for side in sides)
        return rows, columns

    def _combinations(self, rows: Ids, columns: Ids) -> list[Facts]:
        """Every combination of facts that some rule here tells apart, the plainest first."""
        conditions = [
            engine.rules[number].rule.conditions
            for engine in (self._before, self._after)
            for number in members(canvas_of(engine, rows, columns, self._facts).rules & engine.relation.conditional)
        ]
        tls = [False, True] if any(c.mutual_tls for c in conditions) else [False]
        from_units = [None, *sorted({c.from_process for c in conditions if c.from_process})]
        to_units = [None, *sorted({c.to_process for c in conditions if c.to_process})]
        every = [
            Facts(self._facts.at, mutual_tls=m, from_unit=f, to_unit=t)
            for m, f, t in product(tls, from_units, to_units)
        ]
        return sorted(every, key=lambda facts: len(_stated(facts)))

    @property
    def _facts(self) -> Facts:
        return Facts(self._after.world.at)

    def _changes(self, rows: Ids, columns: Ids, combinations: list[Facts]) -> Iterator[tuple[Facts, NDArray[np.int64]]]:
        """Per combination, `gained << 32 | lost` (set numbers) of each cell, where no plainer facts change it so."""
        known: list[tuple[Facts, NDArray[np.int64]]] = []
        for facts in combinations:
            canvas = canvas_of(self._after, rows, columns, facts, self._interner)
            new = matrix.passed(canvas)
            old = matrix.passed(replace(canvas, relation=self._before.relation))
            codes = _coded(self._interner, old, new)
            codes[own_ways(self._after, rows, columns)] = 0
            plainer = [said for other, said in known if set(_stated(other)) < set(_stated(facts))]
            known.append((facts, codes))
            told = np.any([codes == said for said in plainer], axis=0) if plainer else np.zeros(codes.shape, bool)
            yield facts, np.where(told, 0, codes)

    # ---- how to say it ---------------------------------------------------------------------------------------------

    def boxes(self, cells: _Cells) -> Iterator[Box]:
        for sources, destinations in _rectangles(cells.rows, cells.columns):
            pairs = _weight(self._after, sources) * _weight(self._after, destinations)
            names = self._naming.name(sources), self._naming.name(destinations)
            changes: tuple[tuple[Change, int, Engine], ...]
            changes = (("opened", cells.gained, self._after), ("closed", cells.lost, self._before))
            for change, atoms, judge in changes:
                if atoms:
                    shown = witness(self._after, sources[0], destinations[0], atoms, cells.facts, judge)
                    services = self._after.say_services(atoms)
                    yield Box(change, *names, services, pairs, shown, _stated(cells.facts))


_NOBODY = np.zeros(0, dtype=np.intp)


def _stated(facts: Facts) -> tuple[str, ...]:
    """What is stated, in the words of `unless`."""
    out = ["mutual-tls"] if facts.mutual_tls else []
    out += [f"from_process={facts.from_unit}"] if facts.from_unit else []
    out += [f"to_process={facts.to_unit}"] if facts.to_unit else []
    return tuple(out)


def _coded(interner: matrix.Interner, old: matrix.Numbers, new: matrix.Numbers) -> NDArray[np.int64]:
    """Per cell the numbers of the gained and the lost set in one integer; 0 where nothing changes."""
    codes = np.zeros(old.shape, dtype=np.int64)
    differs = old != new
    pairs, inverse = np.unique(old[differs].astype(np.int64) << 32 | new[differs], return_inverse=True)
    sets = interner.sets
    said = []
    for pair in pairs.tolist():
        was, is_ = sets[pair >> 32], sets[pair & 0xFFFFFFFF]
        said.append(interner.number(is_ & ~was) << 32 | interner.number(was & ~is_))
    codes[differs] = np.array(said, dtype=np.int64)[inverse]
    return codes


def _grouped(codes: NDArray[np.int64]) -> Iterator[tuple[int, tuple[Ids, Ids]]]:
    """(code, rows and columns of its cells), without the code 0."""
    row, column = np.nonzero(codes)
    mine = codes[row, column]
    order = np.argsort(mine, kind="stable")
    distinct, starts = np.unique(mine[order], return_index=True)
    for code, part in zip(distinct.tolist(), np.split(order, starts[1:]), strict=False):
        yield code, (row[part], column[part])


def _rectangles(rows: Ids, columns: Ids) -> Iterator[tuple[list[int], list[int]]]:
    """Sources with equal destination sets together: exact and linear; a minimum cover is NP-hard and not needed."""
    order = np.lexsort((columns, rows))
    rows, columns = rows[order], columns[order]
    starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
    by_destinations: dict[bytes, tuple[list[int], list[int]]] = {}
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(rows)], strict=True):
        mine = columns[start:end]
        by_destinations.setdefault(mine.tobytes(), ([], mine.tolist()))[0].append(int(rows[start]))
    yield from by_destinations.values()


def _weight(engine: Engine, ids: list[int]) -> int:
    """Workloads in the classes; a range of bare addresses counts as one."""
    return sum(engine.classes.workloads[c] or 1 for c in ids)
