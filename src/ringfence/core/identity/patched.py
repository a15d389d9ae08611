"""A mapping that differs from a shared one in a few keys: a snapshot of a large index at the cost of what changed.

INVARIANT: neither the shared part nor the changes are ever altered once a mapping holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
