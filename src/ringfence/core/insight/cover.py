"""Greedy rectangle cover of observed pairs by label selectors, priced by minimum description length (MDL).

A *pair* is (source party, destination party, service); a *block* is (source selector, destination selector,
service): everything its two selectors permit on that service. Naming a pair by itself costs `2 log2 n` bits; a
block costs its literals, plus `beta * log2 C(permitted, seen)` for what it permits and nobody saw. The block that
saves most is taken first.

INVARIANT: every required pair that some valid naming can express is covered. A label is left out of a selector only
when enough of its values were seen (`Price.share`), so an estate with one application never yields rules about
every application. It knows nothing of addresses, ports or YAML, and never names a party by what it lacks.

Method: greedy set cover with an MDL price as in policy mining (Xu and Stoller, "Mining attribute-based access
control policies", arXiv 1306.2401); every candidate of every pair is scored at once by `np.unique`, blocks of
different `unit`s never meet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

RULE_BITS = 8.0
PEER_BITS = 2.0
"""What one more source costs a rule that is already there."""
SERVICE_BITS = 6.0
CHUNK_PAIRS = 10_000
MANY_NAMINGS = 1 << 16
LARGE_UNIT = 4_000
"""A unit with more pairs is covered service by service."""


class Naming(NamedTuple):
    """One way to name a party: by the values of these keys, for the parties it is meant for."""

    keys: tuple[str, ...]
    meant_for: NDArray[np.bool_]
    """Per party. A selector still picks whoever matches; this only says who may be named so."""
    dropped: tuple[str, ...] = ()
    """Keys left out, which takes evidence."""


class Shape(NamedTuple):
    """One way to name a pair."""

    source: Naming
    destination: Naming


class Price(NamedTuple):
    """What generality costs. `of_tightness` turns the one knob into these."""

    beta: float
    extra_bits: float
    share: Mapping[str, float]
    """Per droppable key: the share of its values, among those the selector would pick, that must have been seen."""
    at_least: Mapping[str, int]
    """Per droppable key: how many distinct values must have been seen."""


@dataclass(frozen=True)
class Pairs:
    """Distinct observed pairs, as columns of equal length."""

    source: Ids
    destination: Ids
    service: Ids
    unit: Ids
    """Pairs of different units never share a block (one policy is one unit)."""
    is_required: NDArray[np.bool_]
    """Weak pairs are carried along: a block may cover them, but none is made for them."""

    def __len__(self) -> int:
        return len(self.source)

    def where(self, rows: NDArray[np.int64]) -> Pairs:
        columns = (self.source, self.destination, self.service, self.unit, self.is_required)
        return Pairs(*(column[rows] for column in columns))  # type: ignore[arg-type]


class Block(NamedTuple):
    """One chosen rectangle."""

    source: tuple[tuple[str, str], ...]
    """The source selector as label pairs."""
    destination: tuple[tuple[str, str], ...]
    service: int
    unit: int
    pairs: Ids
    """Every pair inside, weak ones too."""
    permitted: int
    """How many (source party, destination party) cells it permits."""
    seen: int
    """How many of those were seen, well evidenced."""


@dataclass
class LabelSpace:
    """Parties as integer codes by label key; groupings by several keys are computed once."""

    labels: Sequence[Mapping[str, str]]
    exists: NDArray[np.bool_]
    """Per party: somebody of the inventory is it; parties of the past count for nothing in what is permitted."""
    _groupings: dict[tuple[str, ...], Grouping] = field(default_factory=dict)
    _codes: dict[str, Ids] = field(default_factory=dict)
    _values: dict[str, dict[str, int]] = field(default_factory=dict)

    def codes(self, key: str) -> Ids:
        """Per party the value's code; -1 lacks the key."""
        if key not in self._codes:
            values = sorted({labels[key] for labels in self.labels if key in labels})
            index = self._values[key] = {value: i for i, value in enumerate(values)}
            self._codes[key] = np.array([index[x[key]] if key in x else -1 for x in self.labels], np.int64)
        return self._codes[key]

    def grouping(self, keys: tuple[str, ...]) -> Grouping:
        if keys not in self._groupings:
            self._groupings[keys] = self._group(keys)
        return self._groupings[keys]

    def _group(self, keys: tuple[str, ...]) -> Grouping:
        has_all = np.ones(len(self.labels), dtype=bool)
        ids = np.zeros(len(self.labels), np.int64)
        for key in keys:
            codes = self.codes(key)
            has_all &= codes >= 0
            ids = np.unique(ids * (int(codes.max(initial=0)) + 2) + codes + 1, return_inverse=True)[1]
        out = np.full(len(self.labels), -1, np.int64)
        distinct, out[has_all] = np.unique(ids[has_all], return_inverse=True)
        counted = has_all & self.exists
        return Grouping(out, np.bincount(out[counted], minlength=len(distinct)))

    def values(self, key: str) -> int:
        return int(self.codes(key).max(initial=-1)) + 1

    def bits(self, keys: Sequence[str], extra: frozenset[str], extra_bits: float) -> float:
        """What the literals cost: log2 of the choice of value, at least one bit each."""
        return sum(math.log2(max(2, self.values(key))) + (extra_bits if key in extra else 0.0) for key in keys)

    def picks(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.bool_]:
        """Per party: it has all these label pairs."""
        out = np.ones(len(self.labels), dtype=bool)
        for key, value in pairs:
            codes = self.codes(key)
            out &= codes == self._values[key].get(value, -2)
        return out

    def selector(self, party: int, keys: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        return tuple((key, self.labels[party][key]) for key in sorted(keys))


class Grouping(NamedTuple):
    """Parties grouped by the values of some keys."""

    of_party: Ids
    """-1 where a key is lacking."""
    size: Ids
    """Per group: existing parties whose labels the selector picks."""


def of_tightness(tight: int, *, role: str, scope: Sequence[str]) -> Price:
    """The one knob, 0 (general) to 10 (only what was seen). 5 asks 4 bits for a bit of surprise, and three in four
    roles."""
    beta = 64.0 if tight >= 10 else 4.0 * 2 ** ((tight - 5) / 2)
    share = {role: min(1.0, 0.45 + 0.06 * tight)} | dict.fromkeys(scope, max(0, tight - 3) / 20)
    return Price(beta, 12.0 - tight, share, {role: 2} | dict.fromkeys(scope, 3))


def cover(
    space: LabelSpace, pairs: Pairs, shapes: Sequence[Shape], price: Price, *, extra: frozenset[str] = frozenset()
) -> list[Block]:
    """The chosen blocks, unit by unit, in the order they were taken."""
    blocks: list[Block] = []
    task = _tasks(pairs)
    for rows in _chunks(task):
        blocks += _cover_chunk(space, pairs.where(rows), task[rows], rows, shapes=shapes, price=price, extra=extra)
    return blocks


def _chunks(task: Ids) -> list[Ids]:
    """Rows in runs of whole tasks, each run about CHUNK_PAIRS long, so the candidate table stays small."""
    order = np.argsort(task, kind="stable")
    starts = np.flatnonzero(np.diff(task[order], prepend=-1))
    firsts = starts[np.flatnonzero(np.diff(starts // CHUNK_PAIRS, prepend=-1))]
    return [part for part in np.split(order, firsts[1:]) if len(part)]


def _tasks(pairs: Pairs) -> Ids:
    """Per pair what is covered together: a unit, or one service of a very large unit."""
    size = np.bincount(pairs.unit)[pairs.unit] if len(pairs) else pairs.unit
    split = np.where(size > LARGE_UNIT, pairs.service + 1, 0)
    return np.asarray(pairs.unit * (int(split.max(initial=0)) + 1) + split)


@dataclass
class _Candidates:
    """Every candidate block of a chunk. `block[c, p]` is the block that shape c makes of pair p, or -1."""

    block: Ids
    shape: Ids
    """Per block from here on."""
    permitted: Ids
    seen: Ids
    surprise: NDArray[np.float64]
    source_bits: NDArray[np.float64]
    destination_bits: NDArray[np.float64]
    ends: Ids
    """Equal for blocks that differ in the service only."""
    target: Ids
    """Equal for blocks that differ in the source only."""


def _cover_chunk(
    space: LabelSpace,
    part: Pairs,
    task: Ids,
    rows: Ids,
    *,
    shapes: Sequence[Shape],
    price: Price,
    extra: frozenset[str],
) -> list[Block]:
    """The blocks of some whole tasks; `rows` are their pairs' numbers in the whole."""
    found = _candidates(space, part, shapes, price, extra)
    if not len(found.shape):
        return []
    name_bits = 2 * np.log2(max(2, int(space.exists.sum())))
    blocks: list[Block] = []
    for columns in _groups(task):
        table = found.block[:, columns]
        for block in _greedy(table, part.is_required[columns], found, name_bits):
            shape_at, first = np.argwhere(table == block)[0]
            pair, shape = columns[first], shapes[int(shape_at)]
            inside = columns[(table[shape_at] == block)]
            blocks.append(
                Block(
                    space.selector(int(part.source[pair]), shape.source.keys),
                    space.selector(int(part.destination[pair]), shape.destination.keys),
                    int(part.service[pair]),
                    int(part.unit[pair]),
                    rows[inside],
                    int(found.permitted[block]),
                    int(found.seen[block]),
                )
            )
    return blocks


def _groups(key: Ids) -> list[Ids]:
    """Positions of equal keys, together."""
    order = np.argsort(key, kind="stable")
    return [part for part in np.split(order, np.flatnonzero(np.diff(key[order])) + 1) if len(part)]


def _candidates(
    space: LabelSpace, pairs: Pairs, shapes: Sequence[Shape], price: Price, extra: frozenset[str]
) -> _Candidates:
    table = np.full((len(shapes), len(pairs)), -1, np.int64)
    columns: list[tuple[Ids | NDArray[np.float64], ...]] = []
    offset = 0
    numbers = {keys: i for i, keys in enumerate(dict.fromkeys(shape.destination.keys for shape in shapes))}
    for c, shape in enumerate(shapes):
        rows, inverse, block = _blocks_of(space, pairs, shape, price, extra, numbers[shape.destination.keys])
        keep = block.is_allowed
        number = np.where(keep, np.cumsum(keep) - 1 + offset, -1)
        table[c, rows] = number[inverse]
        columns.append(tuple(column[keep] for column in (np.full(len(keep), c, np.int64), *block.columns)))
        offset += int(keep.sum())
    merged = [np.concatenate(parts) for parts in zip(*columns, strict=True)]
    shape_, permitted, seen, surprise, source_bits, destination_bits, ends, target = merged
    target_ids = np.unique(target, return_inverse=True)[1]
    ends_ids = np.unique(ends * len(shapes) + shape_, return_inverse=True)[1]
    return _Candidates(table, shape_, permitted, seen, surprise, source_bits, destination_bits, ends_ids, target_ids)


class _Scored(NamedTuple):
    is_allowed: NDArray[np.bool_]
    columns: tuple[Ids | NDArray[np.float64], ...]


def _blocks_of(
    space: LabelSpace, pairs: Pairs, shape: Shape, price: Price, extra: frozenset[str], naming_number: int
) -> tuple[Ids, Ids, _Scored]:
    """The pairs this shape can name, the block each falls into, and what every block permits, saw and costs."""
    s, d = space.grouping(shape.source.keys), space.grouping(shape.destination.keys)
    source, destination = s.of_party[pairs.source], d.of_party[pairs.destination]
    can = shape.source.meant_for[pairs.source] & shape.destination.meant_for[pairs.destination]
    rows = np.flatnonzero(can & (source >= 0) & (destination >= 0))
    wide_d, wide_v = len(d.size) + 1, int(pairs.service.max(initial=0)) + 1
    ends = source[rows] * wide_d + destination[rows]
    unit = pairs.unit[rows]
    key = np.unique(ends, return_inverse=True)[1] * wide_v + pairs.service[rows]
    key = np.unique(key, return_inverse=True)[1] * (int(unit.max(initial=0)) + 1) + unit
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    required = pairs.is_required[rows]
    seen = np.bincount(inverse, required, len(first)).astype(np.int64)
    at = rows[first]
    permitted = np.maximum(s.size[source[at]] * d.size[destination[at]], seen)
    allowed = seen > 0
    for naming, party, group in (
        (shape.source, pairs.source, source),
        (shape.destination, pairs.destination, destination),
    ):
        for dropped in naming.dropped:
            allowed &= _is_evidenced(space, naming.keys, dropped, party[rows], group[at], inverse, required, price)
    ones = np.ones(len(first))
    columns = (
        permitted, seen, price.beta * surprise_bits(permitted, seen),
        ones * space.bits(shape.source.keys, extra, price.extra_bits),
        ones * space.bits(shape.destination.keys, extra, price.extra_bits),
        ends[first] * (int(unit.max(initial=0)) + 1) + unit[first],
        (destination[at] * wide_v + pairs.service[at]) * MANY_NAMINGS + naming_number,
    )  # fmt: skip
    return rows, inverse, _Scored(allowed, columns)


def _is_evidenced(
    space: LabelSpace, keys: tuple[str, ...], dropped: str, party: Ids, group_of_block: Ids, inverse: Ids,
    required: NDArray[np.bool_], price: Price,
) -> NDArray[np.bool_]:  # fmt: skip
    """Per block: enough values of the dropped key were seen, or some required member has none to be named by."""
    n = len(group_of_block)
    codes = space.codes(dropped)
    wide = int(codes.max(initial=0)) + 2
    seen = np.unique(inverse[required] * wide + codes[party[required]] + 1)
    lacks = np.zeros(n, dtype=bool)
    lacks[seen[seen % wide == 0] // wide] = True
    distinct = np.bincount(seen[seen % wide > 0] // wide, minlength=n)
    grouping = space.grouping(keys)
    counted = (grouping.of_party >= 0) & (codes >= 0) & space.exists
    there = np.unique(grouping.of_party[counted] * wide + codes[counted]) // wide
    available = np.bincount(there, minlength=len(grouping.size))[group_of_block]
    enough = (distinct >= price.at_least[dropped]) & (distinct >= price.share[dropped] * available)
    return np.asarray(enough | lacks)


def surprise_bits(permitted: Ids, seen: Ids) -> NDArray[np.float64]:
    """log2 C(permitted, seen): the bits to say which of the permitted cells are used."""
    unseen = np.maximum(permitted - seen, 0)
    return np.maximum(_log2_factorial(permitted) - _log2_factorial(seen) - _log2_factorial(unseen), 0.0)


def _log2_factorial(n: Ids) -> NDArray[np.float64]:
    """Stirling's series (DLMF 5.11.1), off by less than 0.001 bit."""
    x = np.maximum(n, 1).astype(np.float64)
    ln = x * np.log(x) - x + 0.5 * np.log(2 * np.pi * x) + 1 / (12 * x) - 1 / (360 * x**3)
    return np.asarray(np.where(n <= 1, 0.0, ln / np.log(2)))


def _greedy(table: Ids, required: NDArray[np.bool_], found: _Candidates, name_bits: float) -> list[int]:
    """Blocks of one unit, best saving first, until every required pair that can be named is covered."""
    ids, inverse = np.unique(table, return_inverse=True)
    local = inverse.reshape(table.shape)
    usable = ids >= 0
    open_ = required & (table >= 0).any(axis=0)
    new = np.bincount(local[:, open_].ravel(), minlength=len(ids)).astype(np.float64)
    at = np.where(usable, ids, 0)
    cost = RULE_BITS + SERVICE_BITS + found.source_bits[at] + found.destination_bits[at]
    chosen: list[int] = []
    while open_.any():
        gain = np.where(usable & (new > 0), name_bits * new - cost - found.surprise[at], -np.inf)
        pick = int(gain.argmax())
        chosen.append(pick)
        closed = open_ & (local == pick).any(axis=0)
        open_ &= ~closed
        new -= np.bincount(local[:, closed].ravel(), minlength=len(ids))
        is_source_more = found.target[at] == found.target[at[pick]]
        cost = np.where(is_source_more, np.minimum(cost, PEER_BITS + found.source_bits[at]), cost)
        cost = np.where(found.ends[at] == found.ends[at[pick]], SERVICE_BITS, cost)
    return [int(ids[pick]) for pick in _without_redundant(local, required, chosen)]


def _without_redundant(local: Ids, required: NDArray[np.bool_], chosen: list[int]) -> list[int]:
    """Drop, last taken first, every block whose required pairs the others cover."""
    members = [(local == pick).any(axis=0) & required for pick in chosen]
    times = np.sum(members, axis=0) if members else np.zeros(len(required), np.int64)
    kept: list[int] = []
    for pick, inside in reversed(list(zip(chosen, members, strict=True))):
        if (times[inside] > 1).all():
            times = times - inside
        else:
            kept.append(pick)
    return kept[::-1]
