"""What one policy set opens and closes against another, as few ranked boxes with a witness each.

Both sets are indexed over one class table and one interner, so two class pairs pass the same iff their numbers are
equal. Only pairs that a changed rule names can differ, so only those are painted; and they are painted once for every
combination of facts (mutual TLS, processes) and every moment to come (`moments`) that some rule there tells apart, so a
condition that comes or goes is a change like any other.

Inventory and names are as they are now. A name without an address is a destination of its own, called by the name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from operator import or_
from typing import Literal

import msgspec
import numpy as np

from ringfence.core.engine import matrix
from ringfence.core.engine.bits import Ids, members
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.moments import holds_at, is_timed, moments, say_held, say_not_held, span_of
from ringfence.core.engine.naming import Naming
from ringfence.core.engine.prove import canvas_of, own_ways
from ringfence.core.engine.relation import meaning
from ringfence.core.engine.rules import Facts, RuleRef, is_same
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
    """What must be so for it, all of them; empty: nothing.

    `mutual-tls`, `from_process=UNIT`, `to_process=UNIT` in the words of `unless`; `within mon-fri 08:00-18:00 UTC`,
    `until 2027-03-01` (or one of several, joined by `or`); `outside ...`, `after ...`.
    """


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
    boxes = [box for kind, blocks in comparison.blocks().items() for box in comparison.boxes(kind, blocks)]
    return Diff(tuple(sorted(boxes, key=lambda b: (-b.workload_pairs, b.change, b.when, b.sources, b.destinations))))


Blocks = dict[bytes, tuple[list[int], Ids]]
"""Sources with equal destination sets together, by those: exact and linear; a minimum cover is NP-hard, not needed."""


@dataclass(frozen=True)
class _Kind:
    """One way in which class pairs differ: the atoms gained and lost, and the facts it takes."""

    gained: int
    lost: int
    facts: Facts


class _Comparison:
    def __init__(self, before: Engine, after: Engine) -> None:
        self._before, self._after = before, after
        self._naming = Naming(after, after.classes_of_names())
        self._interner = matrix.Interner()
        self._changed: dict[tuple[int, int], int] = {(0, 0): 0}
        """(gained, lost) -> its number; 0 is no change."""

    # ---- which pairs differ ----------------------------------------------------------------------------------------

    def blocks(self) -> dict[_Kind, Blocks]:
        """The class pairs that differ, by how."""
        rows, columns = self._touched()
        found: dict[_Kind, Blocks] = {}
        if not len(rows) or not len(columns):
            return found
        combinations = self._combinations(rows, columns)
        for strip in matrix.strips(rows, columns):
            for facts, numbers in self._changes(strip, columns, combinations):
                gains = list(self._changed)
                for number, row, mine in _by_row(numbers):
                    blocks = found.setdefault(_Kind(*gains[number], facts), {})
                    blocks.setdefault(mine.tobytes(), ([], columns[mine]))[0].append(int(strip[row]))
        return found

    def _touched(self) -> tuple[Ids, Ids]:
        """The present classes that changed rules name as source and as destination. A deny never decides here."""
        engines = (self._before, self._after)
        edited = [_edited(*engines), _edited(*engines[::-1])]
        common = {meaning for _, meaning in edited[0]} & {meaning for _, meaning in edited[1]}
        named = [
            engine.relation.classes_of(number)
            for engine, rules in zip(engines, edited, strict=True)
            for number, meaning in rules
            if engine.rules[number].rule.action != "deny" and meaning not in common
        ]
        classes = range(len(self._after.classes))
        present = np.array([c in self._naming.names or self._after.is_present(c) for c in classes], dtype=bool)
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
        timed = [c for c in conditions if is_timed(c)]
        asks_process = len(from_units) > 1 or len(to_units) > 1
        times = moments(timed, self._facts.at, keep_all=asks_process)
        every = [
            Facts(at, mutual_tls=m, from_unit=f, to_unit=t) for at, m, f, t in product(times, tls, from_units, to_units)
        ]
        return sorted(every, key=lambda facts: (len(_stated(facts)), facts.at))

    @property
    def _facts(self) -> Facts:
        return Facts(self._after.world.at)

    def _changes(self, rows: Ids, columns: Ids, combinations: list[Facts]) -> Iterator[tuple[Facts, matrix.Numbers]]:
        """Per combination, the number of each cell's change, where no plainer facts change it in the same way."""
        known: list[tuple[Facts, matrix.Numbers]] = []
        for facts in combinations:
            canvas = canvas_of(self._after, rows, columns, facts, self._interner)
            new = matrix.passed(canvas)
            old = matrix.passed(replace(canvas, relation=self._before.relation))
            numbers = self._numbered(old, new)
            plainer = [said for other, said in known if set(_stated(other)) <= set(_stated(facts))]
            if len(combinations) > 1:
                known.append((facts, numbers.copy()))
            for said in plainer:
                numbers[numbers == said] = 0
            yield facts, numbers

    def _numbered(self, old: matrix.Numbers, new: matrix.Numbers) -> matrix.Numbers:
        """Per cell the number of its change; 0 where nothing changes."""
        differs = old != new
        was, is_ = old[differs], new[differs]
        (before, was), (after, is_) = _ranked(was), _ranked(is_)
        pair = was.astype(np.intp) * len(after) + is_
        sets = self._interner.sets
        numbers = np.zeros(len(before) * len(after), dtype=np.int32)
        for code in np.flatnonzero(np.bincount(pair, minlength=len(numbers))).tolist():
            one, other = sets[before[code // len(after)]], sets[after[code % len(after)]]
            numbers[code] = self._changed.setdefault((other & ~one, one & ~other), len(self._changed))
        out = np.zeros(old.shape, dtype=np.int32)
        out[differs] = numbers[pair]
        return out

    # ---- how to say it ---------------------------------------------------------------------------------------------

    def boxes(self, kind: _Kind, blocks: Blocks) -> Iterator[Box]:
        for sources, columns in blocks.values():
            destinations = columns.tolist()
            pairs = self._pairs(np.array(sources), columns)
            if not pairs:
                continue
            names = self._naming.name(sources), self._naming.name(destinations)
            changes: tuple[tuple[Change, int, Engine, Engine], ...]
            changes = (
                ("opened", kind.gained, self._after, self._before),
                ("closed", kind.lost, self._before, self._after),
            )
            for change, atoms, judge, other in changes:
                if atoms:
                    ends = self._two_workloads(sources, destinations)
                    shown = witness(self._after, *ends, atoms, kind.facts, judge)
                    services = self._after.say_services(atoms)
                    when = (*_stated(kind.facts), *_times((judge, other), (sources, destinations), atoms, kind.facts))
                    yield Box(change, *names, services, pairs, shown, when)

    def _pairs(self, sources: Ids, destinations: Ids) -> int:
        """Workload pairs, less those of a workload and itself; a range of bare addresses counts as one."""
        counts = self._after.classes.workloads
        one, other = (sum(counts[c] or 1 for c in side.tolist()) for side in (sources, destinations))
        own, _ = own_ways(self._after, sources, destinations)
        return one * other - len(own)

    def _two_workloads(self, sources: list[int], destinations: list[int]) -> tuple[int, int]:
        """A pair of classes of a block that are not one and the same workload."""
        pairs = ((s, d) for s in sources for d in destinations)
        return next((s, d) for s, d in pairs if not len(own_ways(self._after, np.array([s]), np.array([d]))[0]))


def _edited(engine: Engine, other: Engine) -> list[tuple[int, tuple[object, ...]]]:
    """The rules, by number with their meaning, that the other engine does not have word for word."""
    theirs = {rule.ref: rule for rule in other.rules}
    unlike = ((n, r) for n, r in enumerate(engine.rules) if not is_same(r, theirs.get(r.ref)))
    return [(number, meaning(rule)) for number, rule in unlike]


_NOBODY = np.zeros(0, dtype=np.intp)


def _stated(facts: Facts) -> tuple[str, ...]:
    """What is stated, in the words of `unless`."""
    out = ["mutual-tls"] if facts.mutual_tls else []
    out += [f"from_process={facts.from_unit}"] if facts.from_unit else []
    out += [f"to_process={facts.to_unit}"] if facts.to_unit else []
    return tuple(out)


def _times(
    engines: tuple[Engine, Engine], ends: tuple[list[int], list[int]], atoms: int, facts: Facts
) -> Iterator[str]:
    """In words, when the first engine passes the atoms of a block and the second does not."""
    passing, stopping = (_allowing(engine, *ends, atoms) for engine in engines)
    alike = {meaning(rule) for rule in stopping}
    made = [rule for rule in passing if holds_at(span_of(rule.rule.conditions), facts.at)]
    if any(meaning(rule) not in alike for rule in made):
        made = [rule for rule in passing if meaning(rule) not in alike]
    if made and all(is_timed(rule.rule.conditions) for rule in made):
        yield " or ".join(sorted({say_held(rule.rule.conditions) for rule in made}))
    spans = [span_of(rule.rule.conditions) for rule in stopping if is_timed(rule.rule.conditions)]
    yield from sorted({say_not_held(span, facts.at) for span in spans if not holds_at(span, facts.at)})


def _allowing(engine: Engine, sources: list[int], destinations: list[int], atoms: int) -> list[RuleRef]:
    """The allows that name one of the sources, one of the destinations and one of the atoms, less those that ended."""
    relation = engine.relation
    named = [reduce(or_, (relation.rows(c)[side] for c in ids)) for side, ids in enumerate((sources, destinations))]
    rules = (engine.rules[n] for n in members(relation.allow & named[0] & named[1]) if relation.masks[n] & atoms)
    today = engine.world.at.date()
    return [r for r in rules if r.rule.conditions.until is None or r.rule.conditions.until >= today]


def _ranked(numbers: matrix.Numbers) -> tuple[list[int], matrix.Numbers]:
    """The distinct numbers, and each number's place among them."""
    distinct = np.flatnonzero(np.bincount(numbers))
    place = np.zeros(int(distinct[-1]) + 1 if len(distinct) else 0, dtype=np.int32)
    place[distinct] = np.arange(len(distinct))
    return distinct.tolist(), place[numbers]


def _by_row(numbers: matrix.Numbers) -> Iterator[tuple[int, int, Ids]]:
    """(number, row, columns) of every row and number but 0."""
    for row in np.flatnonzero(numbers.any(axis=1)).tolist():
        line = numbers[row]
        for number in np.flatnonzero(np.bincount(line)).tolist():
            if number:
                yield number, row, np.flatnonzero(line == number)
