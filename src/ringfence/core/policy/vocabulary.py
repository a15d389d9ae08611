"""What names mean: every policy's scope, segments and services, known before any rule is read.

INVARIANT: a name whose definition is at fault is kept as None, so its uses are not reported a second time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

import msgspec

from ringfence.core.labels.selector import Selector
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.policy.suggest import NearMisses


class SegmentMeaning(msgspec.Struct, frozen=True):
    """A segment's own selector, and the scope it is confined to where it is used."""

    selector: Selector
    scope: Selector | None
    """None: written `global:`, or in a policy without a scope."""

    @property
    def selectors(self) -> tuple[Selector, ...]:
        return join(self.selector, self.scope)


class ServiceMeaning(msgspec.Struct, frozen=True):
    """A service's points, and the process that must serve them."""

    services: IntervalSet
    process: str | None = None


class Vocabulary(msgspec.Struct):
    """The words one policy defines."""

    policy: str
    scope: Selector | None = None
    segments: dict[str, SegmentMeaning | None] = {}
    services: dict[str, ServiceMeaning | None] = {}


class Dictionary:
    """The vocabularies of all policies, by name. `broken` are policies that could not be read at all."""

    def __init__(self, broken: Iterable[str] = (), ignore: Iterable[str] = ()) -> None:
        self.policies: dict[str, Vocabulary] = {}
        self.broken = frozenset(broken)
        self.ignore = frozenset(ignore)

    @cached_property
    def near_misses(self) -> NearMisses:
        """Over every `policy.segment`. Ask only when all policies are in."""
        return NearMisses(self.dotted_segments())

    def dotted_segments(self) -> Iterator[str]:
        for vocabulary in self.policies.values():
            for segment in vocabulary.segments:
                yield f"{vocabulary.policy}.{segment}"

    def dotted_services(self) -> Iterator[str]:
        for vocabulary in self.policies.values():
            for service in vocabulary.services:
                yield f"{vocabulary.policy}.{service}"


def join(*selectors: Selector | None) -> tuple[Selector, ...]:
    """The selectors that are there, each once, in the order given."""
    return tuple(dict.fromkeys(selector for selector in selectors if selector is not None))


def is_possible(selectors: Iterable[Selector]) -> bool:
    """Whether some workload could match every selector."""
    requirements = {requirement for selector in selectors for requirement in selector.requirements}
    return not requirements or Selector(tuple(sorted(requirements))).is_satisfiable
