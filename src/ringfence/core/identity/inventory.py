"""The inventory: one immutable snapshot of workloads, and who held an address at a time.

INVARIANT: names and UUIDs are unique. Two live holders of one (network, address) are kept, both: the
decision is then the worse of the two, and a finding says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cached_property
from typing import TypeVar

from ringfence.core.errors import Finding
from ringfence.core.identity.patched import Patched, PatchedRow
from ringfence.core.identity.workload import Lease, Workload
from ringfence.core.net.address import format_address

K = TypeVar("K")
V = TypeVar("V")
Index = dict[K, V] | Patched[K, V]
Leases = list[tuple[Lease, Workload]]


class Inventory:
    """Workloads by name, UUID and address. Value semantics: build a new one to change anything."""

    def __init__(self, workloads: Iterable[Workload], *, ignore: Iterable[str] = ()) -> None:
        self._row = PatchedRow.of(tuple(workloads))
        self.ignore = frozenset(ignore)
        """Label keys that make no identities and may not be selected on (`identity.ignore`)."""
        self._live: tuple[datetime, frozenset[int]] | None = None
        """The last answer of `live_addresses`, with its time."""

    def ignoring(self, keys: Iterable[str]) -> Inventory:
        """The same workloads, other labels of which make no identities. Asked again, the same object."""
        wanted = frozenset(keys)
        if wanted == self.ignore:
            return self
        known = self._otherwise.get(wanted)
        if known is None:
            known = self._otherwise[wanted] = Inventory((), ignore=wanted)
            known._row = self._row
            shared = ("workloads", "_positions", "by_name", "by_uuid", "_leases", "_processes")
            known.__dict__.update({name: self.__dict__[name] for name in shared if name in self.__dict__})
        return known

    @cached_property
    def _otherwise(self) -> dict[frozenset[str], Inventory]:
        """By the keys they ignore."""
        return {}

    @cached_property
    def workloads(self) -> tuple[Workload, ...]:
        return self._row.flat()

    def replacing(self, before: Workload | None, after: Workload | None) -> Inventory:
        """The inventory with one workload added (`before` None), removed (`after` None) or replaced in place.

        Costs what changed: indexes are carried over, not built anew. The last workload takes the place of a removed
        one.
        """
        changed = Inventory((), ignore=self.ignore)
        changed._row, positions = self._placing(before, after)
        known = changed.__dict__
        known["_positions"] = Patched.of(self._positions, positions)
        known["by_name"] = Patched.of(self.by_name, _renamed(before, after, "name"))
        known["by_uuid"] = Patched.of(self.by_uuid, _renamed(before, after, "uuid"))
        if "_leases" in self.__dict__:
            known["_leases"] = Patched.of(self._leases, self._released(before, after))
        if "_processes" in self.__dict__ and not any(w is not None and w.kind == "process" for w in (before, after)):
            known["_processes"] = self._processes
        return changed

    def replacing_all(self, workloads: Iterable[Workload]) -> Inventory:
        """The inventory with each of these in place of whoever has its UUID, or after all others. Costs the whole."""
        new = {workload.uuid: workload for workload in workloads}
        kept = [new.pop(workload.uuid, workload) for workload in self.workloads]
        return Inventory((*kept, *new.values()), ignore=self.ignore)

    def _placing(
        self, before: Workload | None, after: Workload | None
    ) -> tuple[PatchedRow[Workload], dict[str, int | None]]:
        """The workloads after a change, and whose place changes: to where, or None for who is gone."""
        row, end = self._row, len(self._row)
        if before is None:
            return (row, {}) if after is None else (row.put(end, after), {after.uuid: end})
        at = self._positions[before.uuid]
        if after is not None:
            return row.put(at, after), {before.uuid: None, after.uuid: at}
        last = row[end - 1]
        if last is before:
            return row.without_last(), {before.uuid: None}
        return row.put(at, last).without_last(), {before.uuid: None, last.uuid: at}

    def _released(self, before: Workload | None, after: Workload | None) -> dict[tuple[str, int], Leases | None]:
        """The entries of `_leases` that a change touches, as they are afterwards."""
        touched: dict[tuple[str, int], Leases | None] = {}
        for workload in (w for w in (before, after) if w is not None and w.kind != "process"):
            for lease in workload.addresses:
                key = (lease.network, lease.address)
                kept = [entry for entry in self._leases.get(key, ()) if before is None or entry[1] is not before]
                own = [] if after is None else [(one, after) for one in after.addresses if _key(one) == key]
                touched[key] = (kept + own) or None
        return touched

    def since(self, earlier: Inventory) -> tuple[list[Workload], list[Workload]]:
        """The workloads that are no more as they were in an earlier inventory, as they were and as they are; some may
        be in both and alike. Costs what changed where one came of the other by `replacing`."""
        pairs = earlier._row.differing(self._row)
        return [one for one, _ in pairs if one is not None], [one for _, one in pairs if one is not None]

    @cached_property
    def _positions(self) -> Index[str, int]:
        return {workload.uuid: position for position, workload in enumerate(self.workloads)}

    @cached_property
    def by_name(self) -> Index[str, Workload]:
        return {workload.name: workload for workload in self.workloads}

    @cached_property
    def by_uuid(self) -> Index[str, Workload]:
        return {workload.uuid: workload for workload in self.workloads}

    @cached_property
    def _leases(self) -> Index[tuple[str, int], Leases]:
        """(network, address) -> leases. Processes hold no address of their own: their host does."""
        table: dict[tuple[str, int], Leases] = {}
        for workload in self.workloads:
            for lease in workload.addresses if workload.kind != "process" else ():
                table.setdefault(_key(lease), []).append((lease, workload))
        return table

    @cached_property
    def lease_count(self) -> int:
        """How many leases there are: at least as many as addresses held at any one time."""
        return sum(len(workload.addresses) for workload in self.workloads)

    def find(self, name_or_uuid: str) -> Workload | None:
        return self.by_name.get(name_or_uuid) or self.by_uuid.get(name_or_uuid)

    def holders(self, address: int, at: datetime, network: str = "main") -> tuple[Workload, ...]:
        """Every workload that holds the address at that time: none, one, or (a finding) several, by name."""
        live = [w for lease, w in self._leases.get((network, address), ()) if lease.is_live(at)]
        return tuple(sorted(live, key=lambda w: w.name) if len(live) > 1 else live)

    def leases_of(self, address: int, network: str = "main") -> tuple[Lease, ...]:
        """Every lease of an address, whenever it is and whoever has it."""
        return tuple(lease for lease, _ in self._leases.get((network, address), ()))

    def live_addresses(self, at: datetime) -> frozenset[int]:
        """Every address some workload holds at that time."""
        if self._live is None or self._live[0] != at:
            held = (entries for entries in self._leases.items() if any(lease.is_live(at) for lease, _ in entries[1]))
            self._live = (at, frozenset(address for (_, address), _ in held))
        return self._live[1]

    def has_agent(self, workload: Workload) -> bool:
        """Whether an agent of ours holds it to its policy; a process has its host's."""
        host = self.find(workload.host or "") if workload.kind == "process" else workload
        return host is not None and host.has_agent

    def processes_of(self, host: str) -> tuple[Workload, ...]:
        return self._processes.get(host, ())

    @cached_property
    def _processes(self) -> dict[str, tuple[Workload, ...]]:
        """Host name -> its processes by name: an order that does not depend on how the inventory came about."""
        table: dict[str, list[Workload]] = {}
        for workload in self.workloads:
            if workload.kind == "process" and workload.host:
                table.setdefault(workload.host, []).append(workload)
        return {host: tuple(sorted(processes, key=lambda w: w.name)) for host, processes in table.items()}

    def labels_of(self, workload: Workload) -> dict[str, str]:
        """Its labels; a process inherits its host's, overridden by its own. To be read only."""
        if workload.kind != "process":
            return workload.labels
        host = self.find(workload.host) if workload.host else None
        return {**(host.labels if host else {}), **workload.labels}

    @cached_property
    def identities(self) -> tuple[frozenset[tuple[str, str]], ...]:
        """The identity of each workload, in their order: its labels less the ignored keys, each distinct set one
        object.
        """
        one: dict[frozenset[tuple[str, str]], frozenset[tuple[str, str]]] = {}
        keys = (frozenset(self._telling(self.labels_of(w)).items()) for w in self.workloads)
        return tuple(one.setdefault(key, key) for key in keys)

    def _telling(self, labels: dict[str, str]) -> dict[str, str]:
        return {k: v for k, v in labels.items() if k not in self.ignore} if self.ignore else labels

    def conflicts(self, at: datetime) -> tuple[Finding, ...]:
        """Addresses with more than one live holder."""
        out: list[Finding] = []
        for (network, address), entries in self._leases.items():
            live = sorted(w.name for lease, w in entries if lease.is_live(at))
            if len(live) > 1:
                message = f"`{format_address(address)}` in network `{network}` is held by {', '.join(live)}"
                help_ = "until resolved a connection passes only if it would pass for every holder"
                out.append(Finding("address-conflict", message, "warning", help=help_, subject=live[0]))
        return tuple(out)


def _key(lease: Lease) -> tuple[str, int]:
    return lease.network, lease.address


def _renamed(before: Workload | None, after: Workload | None, by: str) -> dict[str, Workload | None]:
    """What changes in an index of workloads by name or UUID."""
    gone: dict[str, Workload | None] = {} if before is None else {getattr(before, by): None}
    return gone if after is None else gone | {getattr(after, by): after}
