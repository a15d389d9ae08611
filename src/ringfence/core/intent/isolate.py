"""Quarantines resolved: which addresses are isolated, and what each exception means to whom.

Worked out from the inventory alone, not from the policy index: isolating a workload moves no class and compiles no
rule again, so it is as fast in a large estate as in a small one.

INVARIANT: an exception picks a host at the addresses it picks, and an address that several workloads hold only if it
picks all of them: what is not told apart errs towards closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Workload
from ringfence.core.intent.pieces import Isolation, IsolationException
from ringfence.core.net.address import EVERYWHERE, INTERNET_RANGE, PRIVATE
from ringfence.core.net.intervals import EMPTY, IntervalSet
from ringfence.core.policy.model import Cidr, Everywhere, Peer, Workloads
from ringfence.core.world import Quarantine, QuarantineException

Holders = Mapping[int, list[Workload]]
"""Per live address of some networks, who holds it."""


def live_quarantines(quarantines: Iterable[Quarantine], at: datetime) -> tuple[Quarantine, ...]:
    """The quarantines in force at a time."""
    return tuple(q for q in quarantines if q.until is None or at < q.until)


def isolations_of(
    quarantines: Iterable[Quarantine], inventory: Inventory, at: datetime, networks: frozenset[str], holders: Holders
) -> tuple[Isolation, ...]:
    """Every live quarantine as the hosts of some networks need it. `holders`: who holds what there."""
    live = live_quarantines(quarantines, at)
    isolated = frozenset(q.workload for q in live)
    return tuple(map(_Resolver(inventory, at, networks, holders, isolated).isolation, live)) if live else ()


class _Resolver:
    def __init__(
        self, inventory: Inventory, at: datetime, networks: frozenset[str], holders: Holders, isolated: frozenset[str]
    ) -> None:
        self.inventory, self.at, self.networks, self.holders = inventory, at, networks, holders
        self.isolated = isolated

    def isolation(self, quarantine: Quarantine) -> Isolation:
        addresses = tuple(sorted(self._addresses(quarantine)))
        exceptions = tuple(map(self._exception, quarantine.allow))
        holders = {address: {w.uuid for w in self.holders.get(address, ())} for address in addresses}
        clear = _points(address for address, here in holders.items() if len(here) <= 1)
        shared = _points(address for address, here in holders.items() if len(here) > 1 and here <= self.isolated)
        return Isolation(quarantine.workload, addresses, exceptions, quarantine.until, clear, shared)

    def _addresses(self, quarantine: Quarantine) -> set[int]:
        """The workload's addresses, in every network but where somebody else holds them here: isolating one address
        too many closes, never opens."""
        workload = self.inventory.by_uuid.get(quarantine.workload)
        return {
            lease.address
            for lease in (workload.live_addresses(self.at) if workload else ())
            if lease.network in self.networks or lease.address not in self.holders
        }

    def _exception(self, exception: QuarantineException) -> IsolationException:
        places = [(w.uuid, *self._places(exception.peers, w)) for w in self.inventory.workloads]
        return IsolationException(
            exception.direction,
            self._reach(exception.peers),
            exception.services,
            tuple(sorted(uuid for uuid, here, is_all in places if is_all and here)),
            tuple(sorted((uuid, _points(here)) for uuid, here, is_all in places if here and not is_all)),
        )

    def _places(self, peers: tuple[Peer, ...], workload: Workload) -> tuple[list[int], bool]:
        """At which of its addresses the peers pick a host, and whether these are all it has."""
        if not workload.is_controlled or workload.kind == "process":
            return [], False
        own = [lease.address for lease in workload.live_addresses(self.at)]
        here = [address for address in own if _is_one(peers, workload, address, self.inventory)]
        return here, len(here) == len(own)

    def _reach(self, peers: tuple[Peer, ...]) -> IntervalSet:
        """Every address, held or not, that is one of the peers."""
        held = {
            address: all(_is_one(peers, holder, address, self.inventory) for holder in here)
            for address, here in self.holders.items()
        }
        bare = IntervalSet.of(r for peer in peers for r in _addresses_named(peer).ranges)
        return (bare - _points(held)) | _points(address for address, is_one in held.items() if is_one)


def _is_one(peers: Iterable[Peer], workload: Workload, address: int, inventory: Inventory) -> bool:
    """Whether a workload at one of its addresses is one of the peers."""
    return any(_is(peer, workload, address, inventory) for peer in peers)


def _is(peer: Peer, workload: Workload, address: int, inventory: Inventory) -> bool:
    if isinstance(peer, Workloads):
        labels = inventory.labels_of(workload)
        return all(selector.matches(labels) for selector in peer.selectors)
    if isinstance(peer, Everywhere) and peer.word == "internet":
        return False  # the internet is what no workload holds
    return address in _addresses_named(peer)


def _addresses_named(peer: Peer) -> IntervalSet:
    """The addresses a peer names when nobody holds them."""
    if isinstance(peer, Cidr):
        return peer.addresses
    return _WORDS[peer.word] if isinstance(peer, Everywhere) else EMPTY


def _points(addresses: Iterable[int]) -> IntervalSet:
    return IntervalSet.of((address, address) for address in addresses)


_WORDS = {"anyone": EVERYWHERE, "internet": INTERNET_RANGE, "private": PRIVATE}
