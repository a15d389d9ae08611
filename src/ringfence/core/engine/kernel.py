"""The batch kernel: least matching forbid, allow and deny of many connections at one end.

The C path and the numpy path compute the same; `RINGFENCE_PURE=1` or a missing compiler selects numpy. Tests run both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ringfence.core.engine.bits import Words, to_words
from ringfence.core.engine.relation import Relation

try:
    from ringfence.core.engine import _kernel as _compiled  # type: ignore[attr-defined]
except ImportError:  # no compiler at install time: the numpy path serves
    _compiled = None

_CHUNK = 8192


@dataclass(frozen=True)
class Bitmaps:
    """A relation's bitmaps as words, with their summaries."""

    source: Words
    destination: Words
    scope: Words
    service: Words
    summaries: tuple[bytes, bytes, bytes] | None


@dataclass(frozen=True)
class Held:
    """Which allows hold at one end: always, and only where the other end is believed. Bitsets over rules."""

    always: int
    if_believed: int


def is_compiled() -> bool:
    return _compiled is not None


def bitmaps_of(relation: Relation) -> Bitmaps:
    source, destination, scope = relation.words()
    service = np.stack([to_words(row, relation.width) for row in relation.services])
    summaries = None
    if _compiled is not None:
        summaries = tuple(_compiled.summarise(m, len(m), relation.width) for m in (source, destination, service))
    return Bitmaps(source, destination, scope, service, summaries)


def decide(
    relation: Relation, maps: Bitmaps, held: Held, ends: tuple[NDArray[np.int32], ...], believes:
    NDArray[np.uint8], end: str, *, pure: bool = False,
) -> NDArray[np.int32]:  # fmt: skip
    """rows x 3: the least rule that forbids, allows and denies each (source class, destination class, atom), or -1.

    Where a forbid is found the other two columns need not be filled.
    """
    s, d, a = (np.ascontiguousarray(column, dtype=np.int32) for column in ends)
    actions = [
        to_words(bits, relation.width) for bits in (relation.forbid, held.always, held.if_believed, relation.deny)
    ]
    out = np.full((len(s), 3), -1, dtype=np.int32)
    is_destination = end == "destination"
    if _compiled is None or pure:
        for start in range(0, len(s), _CHUNK):
            rows = slice(start, start + _CHUNK)
            out[rows] = _decide_numpy(maps, actions, (s[rows], d[rows], a[rows]), believes[rows], is_destination)
        return out
    assert maps.summaries is not None
    believed = np.ascontiguousarray(believes, dtype=np.uint8)
    shape = (len(s), len(maps.source), len(maps.service), relation.width)
    bitmaps = (maps.source, maps.destination, maps.scope, maps.service)
    _compiled.decide(*bitmaps, *maps.summaries, *actions, s, d, a, believed, out, *shape, is_destination)
    return out


def _decide_numpy(
    maps: Bitmaps, actions: list[Words], ends: tuple[NDArray[np.int32], ...], believes: NDArray[np.uint8],
    is_destination: bool
) -> NDArray[np.int32]:  # fmt: skip
    s, d, a = ends
    forbid, allow, allow_if, deny = actions
    matching = maps.source[s] & maps.destination[d] & maps.service[a]
    either = matching & (maps.scope[s] | maps.scope[d])
    held: Words = np.where(believes[:, None] != 0, allow | allow_if, allow)
    speaking = matching & maps.scope[d] if is_destination else either
    return np.stack([_first_bit(either & forbid), _first_bit(speaking & held), _first_bit(either & deny)], axis=1)


def _first_bit(words: Words) -> NDArray[np.int32]:
    """The lowest set bit of each row, or -1."""
    word = (words != 0).argmax(axis=1)
    value = words[np.arange(len(words)), word]
    low = value & (~value + np.uint64(1))
    bit = np.bitwise_count(low - np.uint64(1)).astype(np.int32)
    return np.where(value != 0, (word << 6).astype(np.int32) + bit, -1).astype(np.int32)
