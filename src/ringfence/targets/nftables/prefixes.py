"""Many address ranges as a few hash maps, one for each prefix length, so that a lookup stays flat in their number.

An interval map costs a step deeper for every doubling. Where there are many ranges, those that are whole prefixes of
the commonest lengths go into hash maps keyed by the masked address; what is left stays an interval map, and small.

INVARIANT: every address of every range is in exactly one of the maps, and no other address is in any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ringfence.targets.nftables.layout import Hash, Interval, sorted_hash

FEW = 64
"""Up to so many ranges an interval map costs no more than hash maps with their masks (bench/bench_nftables.py)."""
MOST_LENGTHS = 6
BLOCKS_PER_RANGE = 4
"""A range that falls apart into more prefixes than this stays a range."""


class Arranged(NamedTuple):
    prefixes: dict[int, Hash]
    """Prefix length -> masked address -> class."""
    rest: tuple[Interval, ...]


def arrange(intervals: tuple[Interval, ...], width: int) -> Arranged:
    """Disjoint ranges of addresses of `width` bits, each with a class."""
    if len(intervals) <= FEW:
        return Arranged({}, intervals)
    blocks = [tuple(_blocks(i.lo, i.hi, width)) for i in intervals]
    lengths = _chosen({length for _, length in found} for found in blocks if found)
    taken = [bool(found) and all(length in lengths for _, length in found) for found in blocks]
    prefixes: dict[int, tuple[list[int], list[int]]] = {}
    for interval, found, is_taken in zip(intervals, blocks, taken, strict=True):
        for base, length in found if is_taken else ():
            keys, classes = prefixes.setdefault(length, ([], []))
            keys.append(base)
            classes.append(int(interval.value or 0))
    rest = tuple(interval for interval, is_taken in zip(intervals, taken, strict=True) if not is_taken)
    return Arranged({n: _hash(*found, width) for n, found in sorted(prefixes.items(), reverse=True)}, rest)


def _blocks(lo: int, hi: int, width: int) -> Iterator[tuple[int, int]]:
    """The prefixes (first address, length) that make up a range; none when they are too many."""
    size = hi - lo + 1
    if size & (size - 1) == 0 and lo & (size - 1) == 0:
        return iter(((lo, width - size.bit_length() + 1),))
    found = []
    while lo <= hi:
        bits = min((lo & -lo).bit_length() - 1 if lo else width, (hi - lo + 1).bit_length() - 1)
        found.append((lo, width - bits))
        if len(found) > BLOCKS_PER_RANGE:
            return iter(())
        lo += 1 << bits
    return iter(found)


def _chosen(needed: Iterable[set[int]]) -> frozenset[int]:
    """The prefix lengths worth a map: as few as leave a small rest, commonest first."""
    ranges = Counter(frozenset(lengths) for lengths in needed)
    commonest = [length for length, _ in Counter(
        {n: sum(count for lengths, count in ranges.items() if n in lengths) for n in frozenset().union(*ranges)}
    ).most_common(MOST_LENGTHS)]  # fmt: skip
    total, chosen = sum(ranges.values()), frozenset[int]()
    for length in commonest:
        chosen = chosen | {length}
        covered = sum(count for lengths, count in ranges.items() if lengths <= chosen)
        if total - covered <= FEW:
            break
    return chosen


def _hash(keys: list[int], classes: list[int], width: int) -> Hash:
    size = width // 8
    raw = np.frombuffer(b"".join(key.to_bytes(size, "big") for key in keys), np.uint8).reshape(-1, size)
    return sorted_hash(raw, np.array(classes, np.uint32).view(np.uint8).reshape(-1, 4))


def mask_of(length: int, width: int) -> bytes:
    return (((1 << length) - 1) << (width - length)).to_bytes(width // 8, "big")
