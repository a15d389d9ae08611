"""The batch kernel: least matching forbid, allow and deny of many connections at one end.

The C path and the numpy path compute the same; `RINGFENCE_PURE=1` or a missing compiler selects numpy. Tests run both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ringfence.core.engine.bits import Ids, Words, set_bits, to_words
from ringfence.core.engine.relation import Relation

try:
    from ringfence.core.engine import _kernel as _compiled  # type: ignore[attr-defined]
except ImportError:  # no compiler at install time: the numpy path serves
    _compiled = None

_CHUNK = 65_536
Summary = NDArray[np.uint8]
"""Per row, a bit for each word that is not zero, padded to whole words (Baboescu and Varghese, SIGCOMM 2001)."""


@dataclass(frozen=True)
class Bitmaps:
    """A relation's bitmaps as words, with their summaries."""

    source: Words
    destination: Words
    scope: Words
    service: Words
    summaries: tuple[Summary, Summary, Summary]
    """Of source, destination and service."""


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
    summaries = (_summary(source), _summary(destination), _summary(service))
    return Bitmaps(source, destination, scope, service, summaries)


def _summary(words: Words) -> Summary:
    bits = np.packbits(words != 0, axis=1, bitorder="little")
    return np.ascontiguousarray(np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))))


def decide(
    relation: Relation, maps: Bitmaps, held: Held, ends: tuple[NDArray[np.int32], ...], believes:
    NDArray[np.uint8], end: str, *, pure: bool = False,
) -> NDArray[np.int32]:  # fmt: skip
    """rows x 3: the least rule that forbids, allows and denies each (source class, destination class, atom), or -1.

    Where a forbid is found the other two columns need not be filled. Raises IndexError for a class or an atom that
    does not exist, ValueError for columns of unequal length.
    """
    if {len(column) for column in ends} != {len(believes)}:
        raise ValueError("the columns of a batch are as long as each other")
    s, d, a = (np.ascontiguousarray(column, dtype=np.int32) for column in ends)
    _check_range(s, len(maps.source))
    _check_range(d, len(maps.destination))
    _check_range(a, len(maps.service))
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
    believed = np.ascontiguousarray(believes, dtype=np.uint8)
    shape = (len(s), len(maps.source), len(maps.service), relation.width)
    bitmaps = (maps.source, maps.destination, maps.scope, maps.service)
    _compiled.decide(*bitmaps, *maps.summaries, *actions, s, d, a, believed, out, *shape, is_destination)
    return out


def _check_range(ids: NDArray[np.int32], limit: int) -> None:
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < limit:
        raise IndexError("a row names a class or an atom that does not exist")


def _decide_numpy(
    maps: Bitmaps, actions: list[Words], ends: tuple[NDArray[np.int32], ...], believes: NDArray[np.uint8],
    is_destination: bool
) -> NDArray[np.int32]:  # fmt: skip
    """The same on the few words whose summaries meet, as (row, word) pairs in order."""
    s, d, a = ends
    row, word = set_bits(maps.summaries[0][s] & maps.summaries[1][d] & maps.summaries[2][a])
    matching = maps.source[s[row], word] & maps.destination[d[row], word] & maps.service[a[row], word]
    met = np.flatnonzero(matching)
    row, word, matching = row[met], word[met], matching[met]
    forbid, allow, allow_if, deny = (bits[word] for bits in actions)
    either = matching & (maps.scope[s[row], word] | maps.scope[d[row], word])
    speaking = matching & maps.scope[d[row], word] if is_destination else either
    held: Words = np.where(believes[row] != 0, allow | allow_if, allow)
    found: tuple[Words, ...] = (either & forbid, speaking & held, either & deny)
    return np.stack([_first_bits(row, word, bits, len(s)) for bits in found], axis=1)


def _first_bits(row: Ids, word: Ids, bits: Words, rows: int) -> NDArray[np.int32]:
    """The lowest set bit of each row, or -1."""
    out = np.full(rows, -1, dtype=np.int32)
    lit = np.flatnonzero(bits)
    first = lit[np.flatnonzero(np.diff(row[lit], prepend=-1))]
    value = bits[first]
    low = np.bitwise_count((value & (~value + np.uint64(1))) - np.uint64(1))
    out[row[first]] = (word[first] << 6) + low
    return out
