"""The peer table: every distinct selector, scope, CIDR, word and name once, and which of them an end belongs to.

An end's *membership* is a bitset over peers. The label part comes from a transposed index (label value -> peers
that accept it), so the membership of any label set, known or hypothetical, is one AND per label key. The address
part comes from the partition of the address line by CIDRs and words.

INVARIANT: an address peer says nothing about labels and a selector nothing about addresses: a bare address is in
no selector, negative ones included.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ringfence.core.engine.bits import of_ids
from ringfence.core.engine.partition import Partition
from ringfence.core.labels.selector import Labels, Requirement, Selector
from ringfence.core.net.address import EVERYWHERE, INTERNET_RANGE, LAST, PRIVATE
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.policy.model import Cidr, Everywhere, Fqdn, Peer, Workloads
from ringfence.core.world import Answer

_WORDS = {"anyone": EVERYWHERE, "internet": INTERNET_RANGE, "private": PRIVATE}
PeerKey = Selector | IntervalSet | str


def key_of(peer: Peer) -> PeerKey:
    """What makes two peers the same: the joined selector, the addresses, the word or the name."""
    if isinstance(peer, Workloads):
        return joined(peer)
    if isinstance(peer, Cidr):
        return peer.addresses
    return peer.word if isinstance(peer, Everywhere) else f"fqdn {peer.text}"


def joined(peer: Workloads) -> Selector:
    """Its selectors as one."""
    if len(peer.selectors) == 1:
        return peer.selectors[0]
    return Selector(tuple(sorted({r for s in peer.selectors for r in s.requirements})))


@dataclass
class _KeyIndex:
    """For one label key: which peers accept a value, any other value, or the key's absence. Bitsets over peers."""

    free: int = 0
    """Accept every value but those in `refused`."""
    absent: int = 0
    accepted: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)

    def accepting(self, value: str | None) -> int:
        if value is None:
            return self.absent
        return self.accepted.get(value, 0) | (self.free & ~self.refused.get(value, 0))

    def add(self, peer: int, constraint: _Constraint) -> None:
        bit = 1 << peer
        self.absent |= bit if constraint.absent_ok else 0
        if not constraint.present_ok:
            return
        self.free |= bit if constraint.accepted is None else 0
        table, values = (
            (self.refused, constraint.refused)
            if constraint.accepted is None
            else (self.accepted, constraint.accepted - constraint.refused)
        )
        for value in values:
            table[value] = table.get(value, 0) | bit


class PeerTable:
    """All distinct peers of a policy set, in order of first appearance."""

    def __init__(self, peers: Iterable[Peer], names: Mapping[str, tuple[Answer, ...]], at: datetime) -> None:
        self.index: dict[PeerKey, int] = {}
        self.peers: list[Peer] = []
        for peer in peers:
            if self.index.setdefault(key_of(peer), len(self.peers)) == len(self.peers):
                self.peers.append(peer)
        self._names, self._at = names, at
        self._cut_addresses()
        self._index_labels()

    def __len__(self) -> int:
        return len(self.peers)

    def id(self, peer: Peer) -> int | None:
        return self.index.get(key_of(peer))

    def add_selector(self, peer: Workloads) -> int:
        """A new peer at the end of the table: what is known of the others does not change."""
        number = self.index[key_of(peer)] = len(self.peers)
        self.peers.append(peer)
        constraints = _constraints(peer)
        for key in constraints:
            self._keys.setdefault(key, _KeyIndex(free=self._selectors, absent=self._selectors))
        for key, index in self._keys.items():
            index.add(number, constraints.get(key) or _FREE)
        self._selectors |= 1 << number
        return number

    def known(self, peer: Peer) -> int:
        """The number of a peer that is in the table. Raises KeyError."""
        return self.index[key_of(peer)]

    def bits_of(self, peers: Iterable[Peer]) -> int:
        """Those of the peers that are in the table, as a bitset."""
        return of_ids(n for n in map(self.id, peers) if n is not None)

    @property
    def all_addresses(self) -> int:
        """The peers that speak about addresses, as a bitset."""
        return of_ids(self._address_ids)

    def of_labels(self, labels: Labels) -> int:
        """The selectors (bitset over peers) that pick a workload with these labels."""
        bits = self._selectors
        for key, index in self._keys.items():
            bits &= index.accepting(labels.get(key))
        return bits

    def of_address(self, address: int | None, *, is_held: bool) -> int:
        """The address peers that contain the address; `internet` only where no workload holds it."""
        if address is None:
            return self._anyone
        segment = bisect_right(self._starts, address) - 1
        bits = self._segment_peers[segment]
        return bits & ~self._internet if is_held else bits

    def of_name(self, name: str) -> int:
        """A destination known by name only: the names that match it, and `anyone`."""
        matching = (i for i, peer in enumerate(self.peers) if isinstance(peer, Fqdn) and matches_name(peer.text, name))
        return self._anyone | of_ids(matching)

    def address_atoms(self) -> list[tuple[int, IntervalSet]]:
        """(address peers, the addresses) of each atom of the address line, nobody holding them."""
        ids, line = self._address_ids, self._line
        return [(_translate(signature, ids), line.points(1 << atom)) for atom, signature in enumerate(line.signatures)]

    def _cut_addresses(self) -> None:
        entries = [(i, self._addresses(peer)) for i, peer in enumerate(self.peers) if not isinstance(peer, Workloads)]
        self._address_ids = [i for i, _ in entries]
        self._line = Partition([addresses for _, addresses in entries], LAST)
        self._starts = self._line.starts
        by_atom = [_translate(signature, self._address_ids) for signature in self._line.signatures]
        self._segment_peers = [by_atom[atom] for atom in self._line.segment_atom]
        self._anyone = of_ids(i for i in self._word_ids("anyone"))
        self._internet = of_ids(i for i in self._word_ids("internet"))

    def _word_ids(self, word: str) -> list[int]:
        return [self.index[word]] if word in self.index else []

    def _addresses(self, peer: Peer) -> IntervalSet:
        if isinstance(peer, Cidr):
            return peer.addresses
        if isinstance(peer, Everywhere):
            return _WORDS[peer.word]
        assert isinstance(peer, Fqdn)
        return self.answers(peer)

    def answers(self, peer: Fqdn) -> IntervalSet:
        """The addresses that a name is answered with now."""
        live = (
            a
            for n, answers in self._names.items()
            if matches_name(peer.text, n)
            for a in answers
            if a.is_live(self._at)
        )
        return IntervalSet.of((x, x) for answer in live for x in answer.addresses)

    def _index_labels(self) -> None:
        selectors = [(i, peer) for i, peer in enumerate(self.peers) if isinstance(peer, Workloads)]
        self._selectors = of_ids(i for i, _ in selectors)
        self._keys: dict[str, _KeyIndex] = {}
        constraints = {i: _constraints(peer) for i, peer in selectors}
        for key in sorted({key for by_key in constraints.values() for key in by_key}):
            self._keys[key] = _index_key({i: by_key.get(key) for i, by_key in constraints.items()})


@dataclass
class _Constraint:
    """All requirements of one peer on one key, joined."""

    accepted: frozenset[str] | None = None
    refused: frozenset[str] = frozenset()
    absent_ok: bool = True
    present_ok: bool = True

    def join(self, requirement: Requirement) -> None:
        values = frozenset(requirement.values)
        if requirement.op == "in":
            self.accepted = values if self.accepted is None else self.accepted & values
        if requirement.op == "notin":
            self.refused |= values
        self.absent_ok &= requirement.op not in ("in", "exists")
        self.present_ok &= requirement.op != "absent"


def _constraints(peer: Workloads) -> dict[str, _Constraint]:
    out: dict[str, _Constraint] = {}
    for selector in peer.selectors:
        for requirement in selector.requirements:
            out.setdefault(requirement.key, _Constraint()).join(requirement)
    return out


def _index_key(constraints: Mapping[int, _Constraint | None]) -> _KeyIndex:
    """Bits are collected as lists and turned into bitsets once: a shift per peer would be quadratic."""
    free, absent = [], []
    accepted: dict[str, list[int]] = {}
    refused: dict[str, list[int]] = {}
    for i, constraint in constraints.items():
        c = constraint or _FREE
        if c.absent_ok:
            absent.append(i)
        if not c.present_ok:
            continue
        if c.accepted is None:
            free.append(i)
            for value in c.refused:
                refused.setdefault(value, []).append(i)
        else:
            for value in c.accepted - c.refused:
                accepted.setdefault(value, []).append(i)
    return _KeyIndex(of_ids(free), of_ids(absent), _bitsets(accepted), _bitsets(refused))


_FREE = _Constraint()


def _bitsets(lists: Mapping[str, list[int]]) -> dict[str, int]:
    return {value: of_ids(ids) for value, ids in lists.items()}


def _translate(bits: int, ids: list[int]) -> int:
    """A bitset over positions of `ids` -> a bitset over the ids."""
    return of_ids(ids[i] for i in range(bits.bit_length()) if bits >> i & 1)


def matches_name(pattern: str, name: str) -> bool:
    """`api.example.com` matches itself; `*.example.com` every name below example.com."""
    return name == pattern or (pattern.startswith("*.") and name.endswith(pattern[1:]))
