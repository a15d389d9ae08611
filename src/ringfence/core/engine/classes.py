"""The class table: what an end can be, and the peers each class belongs to.

A class is (identity or none, the address peers that contain the address, has an enforcement point or not). All
members of a class get equal decisions, so the quotient is exact: 100,000 workloads become about 3,000 classes.

INVARIANT: class numbers are handed out in order of first appearance and never reused while the table lives.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ringfence.core.engine.bits import of_ids
from ringfence.core.engine.peers import PeerTable
from ringfence.core.labels.selector import Labels
from ringfence.core.net.intervals import IntervalSet

ClassKey = tuple[frozenset[tuple[str, str]] | None, int, bool]


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
        return frozenset(item for item in labels.items() if item[0] not in self.ignore)

    def _add(self, key: ClassKey) -> int:
        identity, address_peers, is_controlled = key
        number = self.index[key] = len(self.membership)
        self.labels.append(None if identity is None else dict(sorted(identity)))
        self.membership.append(address_peers | (0 if identity is None else self._of_identity(identity)))
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

    def picked_by(self, peer: int) -> int:
        """The bitset of classes that belong to a peer."""
        return of_ids(c for c, bits in enumerate(self.membership) if bits >> peer & 1)
