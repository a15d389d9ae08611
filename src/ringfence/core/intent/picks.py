"""Whom the peers of a quarantine's exception pick, and at which addresses: worked out once, then kept up.

INVARIANT: after any changes, what is kept equals what would be worked out anew. An address is picked by labels only if
all who hold it are: what is not told apart errs towards closed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime

from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Workload
from ringfence.core.labels.selector import Selector
from ringfence.core.net.address import EVERYWHERE, INTERNET_RANGE, PRIVATE
from ringfence.core.net.intervals import EMPTY, IntervalSet, union
from ringfence.core.policy.model import Cidr, Everywhere, Peer, Workloads

Networks = frozenset[str]
Places = tuple[tuple[str, ...], tuple[tuple[str, IntervalSet], ...]]
"""The hosts picked at every one of their addresses, and those picked at some, with these."""


class Picks:
    """What the peers of one exception mean in one inventory at one time."""

    def __init__(self, peers: tuple[Peer, ...], inventory: Inventory, at: datetime) -> None:
        self._peers = peers
        self._named = union(map(_addresses_named, peers))
        self._is_internet = any(isinstance(peer, Everywhere) and peer.word == "internet" for peer in peers)
        self._selectors = [peer.selectors for peer in peers if isinstance(peer, Workloads)]
        self._inventory, self._at = inventory, at
        self._here = {one.uuid: here for one in self._candidates() if (here := self._place(one))}
        self._places: Places | None = None
        self._reaches: dict[Networks, _Reach] = {}

    def follow(
        self, before: Collection[Workload], after: Collection[Workload], inventory: Inventory, at: datetime
    ) -> None:
        """These workloads were, and are now, in an inventory and at a time that are otherwise alike."""
        self._inventory, self._at = inventory, at
        known = {one.uuid: self._here.pop(one.uuid, None) for one in before}
        changed = {one.uuid: self._place(one) for one in after}
        self._here |= {uuid: here for uuid, here in changed.items() if here is not None}
        if any(known.get(uuid) != changed.get(uuid) for uuid in known.keys() | changed.keys()):
            self._places = None
        touched = {(lease.network, lease.address) for one in (*before, *after) for lease in one.addresses}
        for networks, reach in self._reaches.items():
            reach.follow({address for network, address in touched if network in networks}, self)

    @property
    def places(self) -> Places:
        """The hosts that are picked."""
        if self._places is None:
            partly = sorted((uuid, here) for uuid, (here, is_all) in self._here.items() if not is_all)
            wholly = sorted(uuid for uuid, (_, is_all) in self._here.items() if is_all)
            self._places = tuple(wholly), tuple((uuid, IntervalSet.of_values(here)) for uuid, here in partly)
        return self._places

    def reach(self, networks: Networks) -> IntervalSet:
        """Every address, held or not, that is one of the peers to the hosts of some networks."""
        if networks not in self._reaches:
            held = self._leased(networks, self._labelled())
            everybody = self._leased(networks, self._inventory.workloads) if self._is_internet else ()
            self._reaches[networks] = reach = _Reach(networks)
            reach.follow({*held, *everybody}, self)
        return self._reaches[networks].addresses(self._named, is_internet=self._is_internet)

    def judge(self, address: int, networks: Networks) -> tuple[bool, bool]:
        """Whether somebody holds an address, and whether all who do are picked by their labels."""
        held = [one for network in networks for one in self._inventory.holders(address, self._at, network)]
        return bool(held), bool(held) and all(map(self._is_labelled, held))

    def _leased(self, networks: Networks, workloads: Iterable[Workload]) -> Iterator[int]:
        hosts = (one for one in workloads if one.kind != "process")
        return (lease.address for one in hosts for lease in one.addresses if lease.network in networks)

    def _place(self, workload: Workload) -> tuple[tuple[int, ...], bool] | None:
        """At which of its addresses a host is picked, and whether these are all it has."""
        if not workload.is_controlled or workload.kind == "process":
            return None
        own = tuple(lease.address for lease in workload.live_addresses(self._at))
        here = own if self._is_labelled(workload) else tuple(address for address in own if address in self._named)
        return (here, len(here) == len(own)) if here else None

    def _is_labelled(self, workload: Workload) -> bool:
        return any(all(one.matches(workload.labels) for one in selectors) for selectors in self._selectors)

    def _candidates(self) -> Iterable[Workload]:
        """All that may be picked, and others."""
        return self._inventory.workloads if self._named else self._labelled()

    def _labelled(self) -> Iterator[Workload]:
        """All that may be picked by their labels, and others."""
        for selectors in self._selectors:
            key, values = _needed(selectors)
            every = self._inventory.workloads
            yield from (one for one in every if one.labels.get(key) in values) if key else every


class _Reach:
    """The held addresses of some networks that are picked, or are out of the internet."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._picked: set[int] = set()
        self._held: set[int] = set()
        """Those of the internet's range, where that is asked for."""
        self._known: IntervalSet | None = None

    def follow(self, addresses: Iterable[int], picks: Picks) -> None:
        """Other workloads hold these addresses now."""
        for address in addresses:
            is_held, is_picked = picks.judge(address, self._networks)
            for is_in, known in ((is_picked, self._picked), (is_held and address in INTERNET_RANGE, self._held)):
                if is_in != (address in known):
                    known.symmetric_difference_update((address,))
                    self._known = None

    def addresses(self, named: IntervalSet, *, is_internet: bool) -> IntervalSet:
        if self._known is None:
            bare = INTERNET_RANGE - IntervalSet.of_values(self._held) if is_internet else EMPTY
            self._known = union((named, bare, IntervalSet.of_values(self._picked)))
        return self._known


def _needed(selectors: Iterable[Selector]) -> tuple[str, tuple[str, ...]]:
    """A label without one of these values a workload is not picked; no key: there is no such."""
    every = (one for selector in selectors for one in selector.requirements if one.op == "in")
    return next(((one.key, one.values) for one in every), ("", ()))


def _addresses_named(peer: Peer) -> IntervalSet:
    """The addresses a peer names, whoever holds them."""
    if isinstance(peer, Cidr):
        return peer.addresses
    return _WORDS.get(peer.word, EMPTY) if isinstance(peer, Everywhere) else EMPTY


_WORDS = {"anyone": EVERYWHERE, "private": PRIVATE}
