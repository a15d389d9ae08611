"""Which workloads selectors pick, answered with bitmaps over the distinct label sets of an inventory.

INVARIANT: bit `i` of every bitmap is identity `i`; `picked` equals asking `Selector.matches` of each identity.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from ringfence.core.identity.inventory import Inventory
from ringfence.core.labels.selector import Requirement, Selector
from ringfence.core.policy.suggest import NearMisses


class Population:
    """An inventory's workloads grouped by their labels."""

    def __init__(self, inventory: Inventory) -> None:
        members: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for workload in inventory.workloads:
            labels = inventory.labels_of(workload)
            key = tuple(sorted((k, v) for k, v in labels.items() if k not in inventory.ignore))
            members.setdefault(key, []).append(workload.name)
        self.members = list(members.values())
        """Workload names by identity."""
        self.everyone = (1 << len(members)) - 1
        self._with_key: dict[str, int] = {}
        self._with_value: dict[tuple[str, str], int] = {}
        self._misses: dict[str, NearMisses] = {}
        for index, labels_ in enumerate(members):
            for key_, value in labels_:
                self._with_key[key_] = self._with_key.get(key_, 0) | 1 << index
                self._with_value[key_, value] = self._with_value.get((key_, value), 0) | 1 << index

    def picked(self, selectors: Iterable[Selector]) -> int:
        """The identities that match every selector."""
        found = self.everyone
        for selector in selectors:
            for requirement in selector.requirements:
                found &= self._meeting(requirement)
        return found

    def escaping(self, selectors: Iterable[Selector], key: str) -> int:
        """The identities that lack the key and would match, were the labels they lack the right ones."""
        found = self.everyone & ~self._with_key.get(key, 0)
        for selector in selectors:
            for requirement in selector.requirements:
                lacking = self.everyone & ~self._with_key.get(requirement.key, 0)
                found &= self._meeting(requirement) | lacking
        return found

    def names(self, identities: int) -> list[str]:
        """The workloads of these identities, sorted."""
        return sorted(name for index in _bits(identities) for name in self.members[index])

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Every label key in use."""
        return tuple(sorted(self._with_key))

    def values_of(self, key: str) -> tuple[str, ...]:
        """Every value of a key in use."""
        return self._values.get(key, ())

    def value_misses(self, key: str) -> NearMisses:
        """The values of a key, for suggestions."""
        if key not in self._misses:
            self._misses[key] = NearMisses(self.values_of(key))
        return self._misses[key]

    @cached_property
    def _values(self) -> dict[str, tuple[str, ...]]:
        values: dict[str, list[str]] = {}
        for key, value in sorted(self._with_value):
            values.setdefault(key, []).append(value)
        return {key: tuple(found) for key, found in values.items()}

    def _meeting(self, requirement: Requirement) -> int:
        with_key = self._with_key.get(requirement.key, 0)
        if requirement.op == "exists":
            return with_key
        if requirement.op == "absent":
            return self.everyone & ~with_key
        named = 0
        for value in requirement.values:
            named |= self._with_value.get((requirement.key, value), 0)
        return named if requirement.op == "in" else self.everyone & ~named


def _bits(bitmap: int) -> Iterable[int]:
    while bitmap:
        low = bitmap & -bitmap
        yield low.bit_length() - 1
        bitmap ^= low
