"""Who every remote address is, as the hosts of some networks see it: worked out once, used by all of them.

INVARIANT: an address held only in a network the host is not in is nobody's here: its key is (network, address). One
held in several of them, or twice, is all of its holders.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable
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


class Kind(NamedTuple):
    """What the addresses of one group have in common."""

    seen: Seen
    fallback: Seen


class Change(NamedTuple):
    """What came to a group and what left it."""

    added: list[int]
    removed: list[int]


class Membership:
    """The groups of every live address in some networks. Follows a workload that changes, at the cost of the change."""

    def __init__(self, engine: Engine, networks: frozenset[str]) -> None:
        self.engine, self.networks = engine, networks
        self.holders: dict[int, list[Workload]] = {}
        """Per live address here, who holds it."""
        self._kinds: dict[int, Kind] = {}
        at = engine.world.at
        for workload in engine.world.inventory.workloads:
            for lease in workload.addresses if workload.kind != "process" else ():
                if lease.network in networks and lease.is_live(at):
                    self.holders.setdefault(lease.address, []).append(workload)
        table: dict[Kind, list[int]] = {}
        for address in self.holders:
            kind = self._kinds[address] = self._kind(address)
            table.setdefault(kind, []).append(address)
        self._groups = {kind: Group(*kind, tuple(sorted(addresses))) for kind, addresses in table.items()}

    @property
    def groups(self) -> Collection[Group]:
        return self._groups.values()

    def group(self, kind: Kind) -> Group | None:
        return self._groups.get(kind)

    def groups_about(self, classes: Iterable[int]) -> list[Group]:
        """The groups that are, or would fall back to, one of the classes."""
        kinds = {kind for class_ in classes for kind in self._by_class.get(class_, ())}
        return [self._groups[kind] for kind in sorted(kinds)]

    @cached_property
    def _by_class(self) -> dict[int, list[Kind]]:
        out: dict[int, list[Kind]] = {}
        for kind in self._groups:
            for class_ in {*kind.seen.classes, *kind.fallback.classes}:
                out.setdefault(class_, []).append(kind)
        return out

    # ---- following a change -------------------------------------------------------------------------------------

    def move(self, before: Workload | None, after: Workload | None) -> dict[Kind, Change]:
        """Follow one workload that came, changed or went, once the engine has. Per kind of address, what changed."""
        changes: dict[Kind, Change] = {}
        for address in sorted(self._addresses(before) | self._addresses(after)):
            self._hold(address, before, after)
            old, new = self._kinds.get(address), self._kind(address) if address in self.holders else None
            if old == new:
                continue
            for kind, position in ((old, 1), (new, 0)):
                if kind is not None:
                    changes.setdefault(kind, Change([], []))[position].append(address)
            if new is None:
                del self._kinds[address]
            else:
                self._kinds[address] = new
        for kind, change in changes.items():
            self._apply(kind, change)
        return changes

    def _addresses(self, workload: Workload | None) -> set[int]:
        if workload is None or workload.kind == "process":
            return set()
        live = workload.live_addresses(self.engine.world.at)
        return {lease.address for lease in live if lease.network in self.networks}

    def _hold(self, address: int, before: Workload | None, after: Workload | None) -> None:
        """Who holds an address after the change."""
        here = [w for w in self.holders.get(address, ()) if before is None or w.uuid != before.uuid]
        if after is not None and address in self._addresses(after):
            here.append(after)
        if here:
            self.holders[address] = here
        else:
            self.holders.pop(address, None)

    def _apply(self, kind: Kind, change: Change) -> None:
        """The group of a kind with addresses added and removed."""
        known = self._groups.get(kind)
        addresses = list(known.addresses) if known else []
        for address in change.removed:
            del addresses[bisect_left(addresses, address)]
        for address in change.added:
            insort(addresses, address)
        if not addresses or known is None:
            self.__dict__.pop("_by_class", None)
        if addresses:
            self._groups[kind] = Group(*kind, tuple(addresses))
        else:
            del self._groups[kind]

    # ---- what an address is -------------------------------------------------------------------------------------

    def _kind(self, address: int) -> Kind:
        bare = self.engine.peers.of_address(address, is_held=False)
        fallback = Seen((self.engine.classes.of(None, bare, is_controlled=False),))
        return Kind(self._see(self.holders[address], address), fallback)

    def _see(self, workloads: list[Workload], address: int) -> Seen:
        classes = tuple(sorted({self.engine.class_of(w, address) for w in workloads}))
        if not self._someone_asks:
            return Seen(classes)
        sends, receives = (all(self._enforces(w, direction) for w in workloads) for direction in ("out", "in"))
        return Seen(classes, (sends, receives))

    @cached_property
    def _someone_asks(self) -> bool:
        return self.is_believing(self.engine)

    @staticmethod
    def is_believing(engine: Engine) -> bool:
        """Whether any rule's process is checked at the other end: only then must belief split classes."""
        conditions = (engine.rules[n].rule.conditions for n in members(engine.relation.conditional))
        return any(c.from_process or c.to_process for c in conditions)

    def _enforces(self, workload: Workload, direction: Direction) -> bool:
        mode = self.engine.world.as_mode or workload.mode
        return workload.is_controlled and mode.of(direction) == "enforce"
