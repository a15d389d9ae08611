"""Bare addresses as peers: the smallest sensible CIDRs, `private` or `internet` where they are too many to list.

INVARIANT: every given address is in the returned peers, and a CIDR wider than one address holds no workload's address.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.insight.learning import Learned
from ringfence.core.insight.parties import INTERNET, NAME, PRIVATE_PLACE, Parties
from ringfence.core.net.address import format_address, format_ranges, is_v4, parse_cidr
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.policy.model import Cidr, Everywhere, Fqdn, Peer

NEIGHBOURS = 4
"""So many addresses of one subnet are taken as the subnet, fewer one by one."""
MOST_SUBNETS = 12
MOST_CIDRS = 24
MOST_HOSTS = 8
"""More internet addresses than this are `internet`."""


BARE_PLACES = (INTERNET, PRIVATE_PLACE, NAME)


class Widest(NamedTuple):
    """The widest CIDR looked for, as host bits of each family."""

    v4: int
    v6: int


SUBNET = Widest(8, 64)
"""/24 and /64."""
SITE = Widest(16, 80)
"""/16 and /48 (RFC 6177)."""


def private_peers(addresses: Iterable[int], held: Sequence[int], tight: int) -> tuple[Peer, ...]:
    """Peers for private addresses that no workload holds. `held` is every workload's address, sorted."""
    distinct = sorted(set(addresses))
    if tight >= 10:
        return cidrs([(a, a) for a in distinct])
    subnets = _blocks(distinct, held, SUBNET)
    if len(subnets) <= MOST_SUBNETS:
        return cidrs(subnets)
    sites = _blocks(distinct, held, SITE)
    if len(sites) <= MOST_CIDRS or tight >= 8:
        return cidrs(sites)
    return (Everywhere("private"),)


def internet_peers(addresses: Iterable[int], tight: int) -> tuple[Peer, ...]:
    """`internet`, or at tight 8 and above the addresses themselves while they are few."""
    distinct = sorted(set(addresses))
    if tight >= 8 and 0 < len(distinct) <= MOST_HOSTS:
        return cidrs([(a, a) for a in distinct])
    return (Everywhere("internet"),)


def cidrs(blocks: Iterable[tuple[int, int]]) -> tuple[Cidr, ...]:
    """Inclusive ranges, as the shortest list of CIDRs."""
    texts = format_ranges(IntervalSet.of(blocks))
    return tuple(Cidr(_short(text), parse_cidr(text)) for text in texts)


def _short(cidr: str) -> str:
    address, _, length = cidr.partition("/")
    return address if length == ("128" if ":" in address else "32") else cidr


def _blocks(addresses: Sequence[int], held: Sequence[int], level: Widest) -> list[tuple[int, int]]:
    groups: dict[tuple[bool, int], list[int]] = {}
    for address in addresses:
        v4 = is_v4(address)
        groups.setdefault((v4, address >> (level.v4 if v4 else level.v6)), []).append(address)
    return [block for group in groups.values() for block in _smallest(group, held)]


def _smallest(group: Sequence[int], held: Sequence[int]) -> list[tuple[int, int]]:
    """One CIDR over the whole group, or the halves' CIDRs where a workload's address is in between."""
    if len(group) < NEIGHBOURS:
        return [(a, a) for a in group]
    bits = (group[0] ^ group[-1]).bit_length()
    lo, hi = group[0] >> bits << bits, group[-1] | ((1 << bits) - 1)
    if bisect_left(held, lo) == bisect_right(held, hi):
        return [(lo, hi)]
    middle = bisect_left(group, lo + (1 << (bits - 1)))
    return _smallest(group[:middle], held) + _smallest(group[middle:], held)


def describe(addresses: Iterable[int], limit: int = 3) -> str:
    """A few of the addresses, for a sentence."""
    distinct = sorted(set(addresses))
    more = f" and {len(distinct) - limit} more" if len(distinct) > limit else ""
    return ", ".join(format_address(a) for a in distinct[:limit]) + more


class BareEnds:
    """Gives a rule the peers for its bare end, from the rows it stands for."""

    def __init__(
        self, conversations: Conversations, parties: Parties, learned: Learned, inventory: Inventory, tight: int
    ) -> None:
        self.c, self.place, self.learned, self.tight = conversations, parties.place, learned, tight
        self.held = sorted({lease.address for w in inventory.workloads for lease in w.addresses})

    def peers(self, pairs: NDArray[np.int64], end: str) -> tuple[Peer, ...]:
        """The smallest sensible peers that hold every bare end of these pairs."""
        rows = self.learned.rows_of(pairs)
        numbers = np.unique((self.c.source if end == "source" else self.c.destination)[rows])
        by_place = {place: [self.c.endpoints[i] for i in numbers if self.place[i] == place] for place in BARE_PLACES}
        names = sorted({e.name for e in by_place[NAME] if e.name is not None})
        public, private = ([e.address for e in by_place[p] if e.address is not None] for p in (INTERNET, PRIVATE_PLACE))
        return (
            *(internet_peers(public, self.tight) if public else ()),
            *(private_peers(private, self.held, self.tight) if private else ()),
            *(Fqdn(name) for name in names),
        )
