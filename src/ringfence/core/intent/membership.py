"""Who every remote address is, as the hosts of some networks see it: worked out once, used by all of them.

INVARIANT: an address held only in a network the host is not in is nobody's here: its key is (network, address). One
held in several of them, or twice, is all of its holders.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from ringfence.core.engine.bits import members
from ringfence.core.engine.engine import Engine
from ringfence.core.identity.workload import Direction, Workload


class Seen(NamedTuple):
    """What a remote address is, as a host sees it: its classes (several on an address conflict), and its belief."""

    classes: tuple[int, ...]
    believed: tuple[bool, bool] = (False, False)
    """Whether its own end checks processes and enforces what it sends us, and what we send it."""


class Group(NamedTuple):
    """Addresses that are one thing to every host, and would be one other thing were they not listed."""

    seen: Seen
    fallback: Seen
    """The class of such an address when nobody holds it."""
    addresses: tuple[int, ...]
    """Sorted."""


class Membership:
    """The groups of every live address in some networks."""

    def __init__(self, engine: Engine, networks: frozenset[str]) -> None:
        self.engine, self.networks = engine, networks

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        table: dict[tuple[Seen, int], list[int]] = {}
        of_address = self.engine.peers.of_address
        for address, holders in self.holders.items():
            key = (self._see(holders, address), of_address(address, is_held=False))
            table.setdefault(key, []).append(address)
        of = self.engine.classes.of
        return tuple(
            Group(seen, Seen((of(None, bare, is_controlled=False),)), tuple(sorted(addresses)))
            for (seen, bare), addresses in table.items()
        )

    def groups_about(self, classes: Iterable[int]) -> list[Group]:
        """The groups that are, or would fall back to, one of the classes."""
        positions = {position for class_ in classes for position in self._by_class.get(class_, ())}
        return [self.groups[position] for position in sorted(positions)]

    @cached_property
    def _by_class(self) -> dict[int, list[int]]:
        out: dict[int, list[int]] = {}
        for position, group in enumerate(self.groups):
            for class_ in {*group.seen.classes, *group.fallback.classes}:
                out.setdefault(class_, []).append(position)
        return out

    @cached_property
    def holders(self) -> dict[int, list[Workload]]:
        """Per live address here, who holds it."""
        holders: dict[int, list[Workload]] = {}
        at = self.engine.world.at
        for workload in self.engine.world.inventory.workloads:
            for lease in workload.addresses if workload.kind != "process" else ():
                if lease.network in self.networks and lease.is_live(at):
                    holders.setdefault(lease.address, []).append(workload)
        return holders

    def _see(self, workloads: list[Workload], address: int) -> Seen:
        classes = tuple(sorted({self.engine.class_of(w, address) for w in workloads}))
        if not self._someone_asks:
            return Seen(classes)
        sends, receives = (all(self._enforces(w, direction) for w in workloads) for direction in ("out", "in"))
        return Seen(classes, (sends, receives))

    @cached_property
    def _someone_asks(self) -> bool:
        """Whether any rule's process is checked at the other end: only then must belief split classes."""
        conditions = (self.engine.rules[n].rule.conditions for n in members(self.engine.relation.conditional))
        return any(c.from_process or c.to_process for c in conditions)

    def _enforces(self, workload: Workload, direction: Direction) -> bool:
        mode = self.engine.world.as_mode or workload.mode
        return workload.is_controlled and mode.of(direction) == "enforce"
