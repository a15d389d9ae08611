"""An intent after a few addresses became of other classes, at the cost of the change. Pure.

INVARIANT: what this makes of an intent is what assembling the whole from the pieces makes (proven in tests/agent).
Where more than membership would change with it (a class gets its first address or loses its last, and its cells with
it), it makes nothing.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from ringfence.core.intent.model import UNKNOWN_CLASS, Intent, PeerClass


class Moves(NamedTuple):
    """What came to which class, and what is of none any more."""

    added: dict[int, list[int]]
    removed: list[int]
    intent: Intent
    """Afterwards."""

    @property
    def is_empty(self) -> bool:
        return not self.added and not self.removed


def moves(intent: Intent, classes: Mapping[int, int]) -> Moves | None:
    """`classes`: address -> its class from now on, 0 for none. None where it is no matter of membership alone."""
    before = {address: _class_of(intent, address) for address in classes}
    changed = {address: number for address, number in classes.items() if before[address] != number}
    known = {peer.id for peer in intent.peers}
    if not known.issuperset(number for number in changed.values() if number != UNKNOWN_CLASS):
        return None
    left = {before[address] for address in changed}
    peers = tuple(
        _after(peer, changed) if peer.id in left or peer.id in changed.values() else peer for peer in intent.peers
    )
    if any(not peer.addresses and not peer.ranges for peer in peers):
        return None
    added: dict[int, list[int]] = {}
    for address, number in changed.items():
        if number != UNKNOWN_CLASS:
            added.setdefault(number, []).append(address)
    removed = [address for address, number in changed.items() if number == UNKNOWN_CLASS]
    return Moves(added, removed, msgspec.structs.replace(intent, peers=peers) if changed else intent)


def _class_of(intent: Intent, address: int) -> int:
    return next((peer.id for peer in intent.peers if _lists(peer, address)), UNKNOWN_CLASS)


def _lists(peer: PeerClass, address: int) -> bool:
    at = bisect_left(peer.addresses, address)
    return at < len(peer.addresses) and peer.addresses[at] == address


def _after(peer: PeerClass, changed: Mapping[int, int]) -> PeerClass:
    addresses = list(peer.addresses)
    for address in changed:
        if _lists(peer, address):
            del addresses[bisect_left(addresses, address)]
    for address, number in changed.items():
        if number == peer.id:
            insort(addresses, address)
    return msgspec.structs.replace(peer, addresses=tuple(addresses))
