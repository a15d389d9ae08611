"""Bitsets: Python ints for algebra and hashing, uint64 words for batches, id arrays for iteration.

A Python int is the fastest set algebra at 3,000 to 50,000 members that needs no dependency and is its own
dictionary key (measured against numpy words, bitarray, pyroaring and frozenset; see
docs/adr/0003-engine-structures.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Ids = NDArray[np.intp]


def of_ids(ids: Iterable[int]) -> int:
    """Members -> bitset."""
    members = list(ids)
    if not members:
        return 0
    out = bytearray((max(members) >> 3) + 1)
    for member in members:
        out[member >> 3] |= 1 << (member & 7)
    return int.from_bytes(out, "little")


def spread(counts: NDArray[np.integer]) -> tuple[Ids, Ids]:
    """Each index as often as its count says, and which of its own it is: `[2, 0, 1]` -> `[0, 0, 2]`, `[0, 1, 0]`."""
    index = np.repeat(np.arange(len(counts)), counts)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)


def to_ids(bits: int) -> Ids:
    """Bitset -> sorted members."""
    raw = np.frombuffer(bits.to_bytes((bits.bit_length() + 7) >> 3, "little"), dtype=np.uint8)
    return np.flatnonzero(np.unpackbits(raw, bitorder="little"))


def members(bits: int) -> Iterator[int]:
    """The members of a small bitset, lowest first."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def lowest(bits: int) -> int:
    """The lowest member of a non-empty bitset."""
    return (bits & -bits).bit_length() - 1


def to_words(bits: int, width: int) -> Words:
    """Bitset -> `width` little-endian uint64 words."""
    return np.frombuffer(bits.to_bytes(width * 8, "little"), dtype=np.uint64)


def of_words(words: Words) -> int:
    return int.from_bytes(words.tobytes(), "little")


def pairs_of(rows: Sequence[int], universe: int) -> tuple[Ids, Ids]:
    """(row, member) of every bit of many bitsets over `universe` members, in order."""
    width = max(1, (universe + 7) >> 3)
    raw = np.frombuffer(b"".join([bits.to_bytes(width, "little") for bits in rows]), dtype=np.uint8)
    return set_bits(raw.reshape(len(rows), width))


def set_bits(raw: NDArray[np.uint8]) -> tuple[Ids, Ids]:
    """(row, bit) of every set bit of little-endian rows of bytes, in order. Empty bytes are skipped unread."""
    flat = raw.ravel()
    lit = np.flatnonzero(flat)
    byte, bit = np.nonzero(np.unpackbits(flat[lit, None], axis=1, bitorder="little"))
    row, column = np.divmod(lit[byte], raw.shape[1])
    return row, (column << 3) + bit


def rows_of(pairs: tuple[NDArray[np.integer], NDArray[np.integer]], rows: int, width: int) -> Words:
    """(row, member) pairs -> a `rows` x `width` matrix of words with those bits set."""
    out = np.zeros((rows, width), dtype=np.uint64)
    row, member = pairs
    bit = np.left_shift(np.uint64(1), (member & 63).astype(np.uint64))
    np.bitwise_or.at(out, (row, member >> 6), bit)
    return out
