"""What names mean: every policy's scope, segments and services, known before any rule is read.

INVARIANT: a name whose definition is at fault is kept as None, so its uses are not reported a second time.
"""

from __future__ import annotations

from collections.abc import Iterable
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

    # The properties below are for suggestions and near misses. Ask only when all policies are in.

    @cached_property
    def segment_misses(self) -> NearMisses:
        """Over every `policy.segment`."""
        return NearMisses(f"{v.policy}.{segment}" for v in self.policies.values() for segment in v.segments)

    @cached_property
    def service_misses(self) -> NearMisses:
        """Over every `policy.service`."""
        return NearMisses(f"{v.policy}.{service}" for v in self.policies.values() for service in v.services)

    @cached_property
    def owners_of(self) -> dict[str, str]:
        """Segment name -> the first policy that defines it."""
        owners: dict[str, str] = {}
        for vocabulary in self.policies.values():
            for segment in vocabulary.segments:
                owners.setdefault(segment, vocabulary.policy)
        return owners


def join(*selectors: Selector | None) -> tuple[Selector, ...]:
    """The selectors that are there, each once, in the order given."""
    return tuple(dict.fromkeys(selector for selector in selectors if selector is not None))


def is_possible(selectors: Iterable[Selector]) -> bool:
    """Whether some workload could match every selector."""
    requirements = {requirement for selector in selectors for requirement in selector.requirements}
    return not requirements or Selector(tuple(sorted(requirements))).is_satisfiable
