"""The class table: what an end can be, and the peers each class belongs to.

A class is (identity or none, the address peers that contain the address, has an enforcement point or not). All
members of a class get equal decisions, so the quotient is exact: 100,000 workloads become about 3,000 classes.

INVARIANT: class numbers are handed out in order of first appearance and never reused while the table lives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ringfence.core.engine.bits import Ids, members, pairs_of
from ringfence.core.engine.peers import PeerTable
from ringfence.core.labels.selector import Labels, Selector
from ringfence.core.net.intervals import IntervalSet

ClassKey = tuple[frozenset[tuple[str, str]] | None, int, bool]
_LATE = 64
"""So many classes may come before the inverse is made anew."""


class _Inverse(NamedTuple):
    """Peer -> classes: those of peer `p` are `ids[offsets[p] : offsets[p + 1]]`."""

    offsets: Ids
    ids: Ids
    classes: int
    """How many classes it knows."""


@dataclass
class ClassTable:
    """Parallel lists, one entry a class."""

    peers: PeerTable
    ignore: frozenset[str] = frozenset()
    index: dict[ClassKey, int] = field(default_factory=dict)
    labels: list[Labels | None] = field(default_factory=list)
    membership: list[int] = field(default_factory=list)
    """The peers the class belongs to, as a bitset."""
    is_controlled: list[bool] = field(default_factory=list)
    workloads: list[int] = field(default_factory=list)
    """How many workloads are in the class now; 0 for hypothetical ones and bare addresses."""
    ranges: list[IntervalSet] = field(default_factory=list)
    """For a class of bare addresses, the addresses nobody holds; else empty."""
    _label_bits: dict[frozenset[tuple[str, str]], int] = field(default_factory=dict)
    _inverse: _Inverse | None = None
    _late: dict[int, list[int]] = field(default_factory=dict)
    """Peer -> its classes that the inverse does not know."""

    def __len__(self) -> int:
        return len(self.membership)

    def of(self, labels: Labels | None, address_peers: int, *, is_controlled: bool) -> int:
        """The class of an end, made if it is new."""
        return self.of_key((None if labels is None else self._identity(labels), address_peers, is_controlled))

    def of_key(self, key: ClassKey) -> int:
        """The class of a key, made if it is new."""
        found = self.index.get(key)
        return found if found is not None else self._add(key)

    def _identity(self, labels: Labels) -> frozenset[tuple[str, str]]:
        if not self.ignore:
            return frozenset(labels.items())
        return frozenset(item for item in labels.items() if item[0] not in self.ignore)

    def _add(self, key: ClassKey) -> int:
        identity, address_peers, is_controlled = key
        number = self.index[key] = len(self.membership)
        self.labels.append(None if identity is None else dict(sorted(identity)))
        self.membership.append(address_peers | (0 if identity is None else self._of_identity(identity)))
        if self._inverse is not None:
            for peer in members(self.membership[number]):
                self._late.setdefault(peer, []).append(number)
        self.is_controlled.append(is_controlled)
        self.workloads.append(0)
        self.ranges.append(IntervalSet())
        return number

    def _of_identity(self, identity: frozenset[tuple[str, str]]) -> int:
        bits = self._label_bits.get(identity)
        if bits is None:
            bits = self._label_bits[identity] = self.peers.of_labels(dict(identity))
        return bits

    @property
    def identities(self) -> int:
        """How many distinct label sets there are."""
        return len(self._label_bits)

    def join(self, peer: int, selector: Selector) -> None:
        """Enter a new peer, a selector, in the membership of the classes it picks."""
        bit = 1 << peer
        for identity in self._label_bits:
            self._label_bits[identity] |= bit if selector.matches(dict(identity)) else 0
        for class_, labels in enumerate(self.labels):
            self.membership[class_] |= bit if labels is not None and selector.matches(labels) else 0

    def of_peer(self, peer: int) -> Ids:
        """The classes that belong to a peer, in order."""
        if self._inverse is None or len(self) - self._inverse.classes > _LATE:
            self._inverse, self._late = self._inverted(), {}
        offsets, ids, _ = self._inverse
        if peer >= len(offsets) - 1:
            return np.array([c for c, bits in enumerate(self.membership) if bits >> peer & 1], dtype=np.intp)
        known_ids = ids[offsets[peer] : offsets[peer + 1]]
        late = self._late.get(peer)
        return known_ids if late is None else np.concatenate([known_ids, np.array(late, dtype=np.intp)])

    def _inverted(self) -> _Inverse:
        class_, peer = pairs_of(self.membership, len(self.peers))
        order = np.argsort(peer, kind="stable")
        offsets = np.searchsorted(peer[order], np.arange(len(self.peers) + 1))
        return _Inverse(offsets, class_[order], len(self))
