"""A mapping or a row that differs from a shared one in a few places: a snapshot at the cost of what changed.

INVARIANT: neither the shared part nor the changes are ever altered once a snapshot holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, zip_longest
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")
_MANY = 512
"""So many changes are folded into a new base: a copy of everything, once in so many steps."""


class Patched(Mapping[K, V], Generic[K, V]):
    """`base` with `changes` applied; a change to None removes the key."""

    def __init__(self, base: dict[K, V], changes: dict[K, V | None]) -> None:
        self._base, self._changes = base, changes

    @staticmethod
    def of(mapping: dict[K, V] | Patched[K, V], changes: Mapping[K, V | None]) -> Patched[K, V]:
        """`mapping` with `changes` applied; it stays as it is."""
        known = mapping if isinstance(mapping, Patched) else Patched(mapping, {})
        merged = {**known._changes, **changes}
        if len(merged) <= _MANY:
            return Patched(known._base, merged)
        return Patched(dict(Patched(known._base, merged).items()), {})

    def __getitem__(self, key: K) -> V:
        if key in self._changes:
            changed = self._changes[key]
            if changed is None:
                raise KeyError(key)
            return changed
        return self._base[key]

    def __iter__(self) -> Iterator[K]:
        yield from (key for key in self._base if key not in self._changes)
        yield from (key for key, value in self._changes.items() if value is not None)

    def __len__(self) -> int:
        gone = sum(key in self._base for key in self._changes)
        return len(self._base) - gone + sum(value is not None for value in self._changes.values())


class PatchedRow(Generic[V]):
    """`base` with other values in some places, and a length of its own: longer at the end, or shorter."""

    def __init__(self, base: tuple[V, ...], changes: Mapping[int, V], length: int) -> None:
        self._base, self._changes, self._length = base, changes, length

    @staticmethod
    def of(values: tuple[V, ...]) -> PatchedRow[V]:
        return PatchedRow(values, {}, len(values))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> V:
        """The value in a place, counted from 0."""
        return self._changes[position] if position in self._changes else self._base[position]

    def put(self, position: int, value: V) -> PatchedRow[V]:
        """The row with another value in a place, or one more at its end."""
        changes = {**self._changes, position: value}
        longer = PatchedRow(self._base, changes, max(self._length, position + 1))
        return longer if len(changes) <= _MANY else PatchedRow.of(longer.flat())

    def without_last(self) -> PatchedRow[V]:
        """The row less its last value."""
        return PatchedRow(self._base, self._changes, self._length - 1)

    def flat(self) -> tuple[V, ...]:
        """All values in order."""
        out = list(islice(self._base, self._length))
        for position, value in sorted(self._changes.items()):
            if position < len(out):
                out[position] = value
            elif position < self._length:
                out.append(value)
        return tuple(out)

    def differing(self, other: PatchedRow[V]) -> list[tuple[V | None, V | None]]:
        """(here, there) wherever they are not the same value, None beyond an end. Costs what changed, but for rows of
        different bases."""
        if self._base is not other._base:
            return [pair for pair in zip_longest(self.flat(), other.flat()) if pair[0] is not pair[1]]
        ends = sorted((len(self), len(other)))
        places = self._changes.keys() | other._changes.keys() | set(range(*ends))
        pairs = ((self._at(place), other._at(place)) for place in sorted(places))
        return [pair for pair in pairs if pair[0] is not pair[1]]

    def _at(self, position: int) -> V | None:
        return self[position] if position < len(self) else None
