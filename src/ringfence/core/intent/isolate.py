"""Quarantines resolved: which addresses are isolated, and what each exception means to whom.

Worked out from the inventory alone, not from the policy index: isolating a workload moves no class and compiles no
rule again, so it is as fast in a large estate as in a small one.

INVARIANT: a quarantine binds every address its workload holds or held while it lasts: nothing the isolated host says
of itself, or leaves unsaid, takes one out.
INVARIANT: an exception picks a host at the addresses it picks, and an address that several workloads hold only if it
picks all of them: what is not told apart errs towards closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload
from ringfence.core.intent.picks import Networks, Picks
from ringfence.core.intent.pieces import Isolation, IsolationException
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.policy.model import Peer
from ringfence.core.world import Quarantine, QuarantineException


def live_quarantines(quarantines: Iterable[Quarantine], at: datetime) -> tuple[Quarantine, ...]:
    """The quarantines in force at a time."""
    return tuple(q for q in quarantines if q.until is None or at < q.until)


def bound_addresses(*known: Iterable[Lease]) -> tuple[Lease, ...]:
    """All of these addresses as a quarantine binds them: sorted, each once, whenever it was."""
    return tuple(Lease(*key) for key in sorted({(lease.address, lease.network) for some in known for lease in some}))


def isolations_of(
    quarantines: Iterable[Quarantine], inventory: Inventory, at: datetime, networks: Networks
) -> tuple[Isolation, ...]:
    """Every live quarantine as the hosts of some networks need it."""
    live = live_quarantines(quarantines, at)
    return Resolver(live, inventory, at).isolations(networks) if live else ()


class Resolver:
    """Quarantines over an inventory, both of which change: what an exception means is worked out once and kept up."""

    def __init__(self, quarantines: Iterable[Quarantine], inventory: Inventory, at: datetime) -> None:
        self._inventory, self._at = inventory, at
        self._turning = {one.uuid for one in inventory.workloads if _is_turning(one)}
        self._picks: dict[tuple[Peer, ...], Picks] = {}
        inventory.holders(0, at), inventory.by_uuid  # its indexes are made now, not when it must be quick
        self._take(quarantines)

    def follow(self, quarantines: Iterable[Quarantine], inventory: Inventory, at: datetime) -> None:
        """What there is now instead. Costs what changed."""
        before, after = self._changes(inventory, at)
        self._inventory, self._at = inventory, at
        for picks in self._picks.values() if before or after else ():
            picks.follow(before, after, inventory, at)
        self._take(quarantines)

    def isolations(self, networks: Networks) -> tuple[Isolation, ...]:
        """Every live quarantine as the hosts of some networks need it."""
        bound = [(one, self._addresses(one, networks)) for one in self._live]
        holders = {address: self._holders(address, networks) for _, addresses in bound for address in addresses}
        for one, addresses in bound:
            for address in addresses:
                holders[address].add(one.workload)
        return tuple(self._isolation(one, addresses, holders, networks) for one, addresses in bound)

    def _changes(self, inventory: Inventory, at: datetime) -> tuple[list[Workload], list[Workload]]:
        """The workloads to look at again, as they were and as they are."""
        before, after = inventory.since(self._inventory) if inventory is not self._inventory else ([], [])
        self._turning -= {one.uuid for one in before}
        if at != self._at and self._turning:
            turning = [inventory.by_uuid[uuid] for uuid in self._turning]
            before, after = [*before, *turning], [*after, *turning]
        self._turning |= {one.uuid for one in after if _is_turning(one)}
        return before, after

    def _take(self, quarantines: Iterable[Quarantine]) -> None:
        self._live = live_quarantines(quarantines, self._at)
        self._isolated = frozenset(one.workload for one in self._live)
        wanted = {exception.peers for one in self._live for exception in one.allow}
        self._picks = {peers: self._picks.get(peers) or Picks(peers, self._inventory, self._at) for peers in wanted}

    def _isolation(
        self, quarantine: Quarantine, addresses: list[int], holders: Mapping[int, set[str]], networks: Networks
    ) -> Isolation:
        alone = [address for address in addresses if len(holders[address]) == 1]
        shared = [a for a in addresses if len(holders[a]) > 1 and holders[a] <= self._isolated]
        return Isolation(
            quarantine.workload,
            tuple(addresses),
            tuple(self._exception(exception, networks) for exception in quarantine.allow),
            quarantine.until,
            IntervalSet.of_values(alone),
            IntervalSet.of_values(shared),
        )

    def _addresses(self, quarantine: Quarantine, networks: Networks) -> list[int]:
        """What it binds, sorted, in every network but where somebody else holds it here: isolating one address too
        many closes, never opens."""
        workload = self._inventory.by_uuid.get(quarantine.workload)
        live = workload.live_addresses(self._at) if workload is not None else ()
        every = {(lease.network, lease.address) for lease in (*quarantine.addresses, *live)}
        return sorted({a for network, a in every if network in networks or not self._holders(a, networks)})

    def _holders(self, address: int, networks: Networks) -> set[str]:
        holders = self._inventory.holders
        return {one.uuid for network in networks for one in holders(address, self._at, network)}

    def _exception(self, exception: QuarantineException, networks: Networks) -> IsolationException:
        picks = self._picks[exception.peers]
        return IsolationException(exception.direction, picks.reach(networks), exception.services, *picks.places)


def _is_turning(workload: Workload) -> bool:
    """Whether its addresses depend on the time."""
    return any(lease.start is not None or lease.end is not None for lease in workload.addresses)
