"""Rule bitmaps: per class the rules that name it as source, destination and scope; per atom the rules with it.

The rules that match a connection are `sources[s] & destinations[d] & services[a]`, joined with the scopes; the one
to name is the lowest bit (Lakshman and Stiliadis, SIGCOMM 1998). Memory is linear in classes and rules.

INVARIANT: a row of a class is a function of its peer membership alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ringfence.core.engine.bits import Words, of_ids, of_words, rows_of, to_words
from ringfence.core.engine.classes import ClassTable
from ringfence.core.engine.peers import PeerTable
from ringfence.core.engine.rules import RuleRef, is_conditional
from ringfence.core.policy.model import Peer, Workloads

_CHUNK = 2048
"""Classes unpacked at a time: bounds memory at classes x peers bytes of one chunk."""


def scope_peer(rule: RuleRef) -> Workloads | None:
    scope = rule.policy.scope
    return None if scope is None else Workloads((scope,), str(scope))


class Relation:
    """The bitmaps of one rule set over a class table that may grow."""

    def __init__(self, rules: Sequence[RuleRef], classes: ClassTable, masks: Sequence[int], atoms: int) -> None:
        self.rules = tuple(rules)
        self.classes = classes
        self.masks = list(masks)
        """Per rule, its service atoms as a bitset."""
        self.width = max(1, (len(rules) + 63) >> 6)
        self.forbid, self.allow, self.deny = (_acting(rules, action) for action in ("forbid", "allow", "deny"))
        self.conditional = of_ids(i for i, r in enumerate(rules) if is_conditional(r.rule.conditions))
        self.services = self._atom_rows(atoms)
        table = classes.peers
        self._by_source = _rules_by_peer(table, [r.rule.sources for r in rules])
        self._by_destination = _rules_by_peer(table, [r.rule.destinations for r in rules])
        scopes = [scope_peer(r) for r in rules]
        self._unscoped = of_ids(i for i, scope in enumerate(scopes) if scope is None)
        self._by_scope = _rules_by_peer(table, [() if scope is None else (scope,) for scope in scopes])
        self._rows: list[tuple[int, int, int]] = []
        self._words: tuple[Words, Words, Words] | None = None
        self.is_ranked = True
        """Whether slots are in the order of names; a rule added later is not."""

    def first(self, matching: int) -> int:
        """The rule to name of a non-empty bitset: the least by `policy/name`."""
        if self.is_ranked:
            return (matching & -matching).bit_length() - 1
        return min(_members(matching), key=lambda number: self.rules[number].ref)

    @property
    def in_force(self) -> int:
        return self.forbid | self.allow | self.deny

    def append(self, rule: RuleRef, mask: int) -> None:
        """Give a new rule the next slot: its bits in the rows of the classes it names."""
        number, bit = len(self.rules), 1 << len(self.rules)
        scope = scope_peer(rule)
        sides = (rule.rule.sources, rule.rule.destinations, () if scope is None else (scope,))
        tables = (self._by_source, self._by_destination, self._by_scope)
        picked = [of_ids(p for peer in side if (p := self.classes.peers.id(peer)) is not None) for side in sides]
        for table, peers in zip(tables, picked, strict=True):
            for peer in _members(peers):
                table[peer] = table.get(peer, 0) | bit
        self._unscoped |= bit if scope is None else 0
        self._rows = [self._with_bit(row, c, picked, bit) for c, row in enumerate(self._rows)]
        self.masks.append(mask)
        for atom in _members(mask):
            self.services[atom] |= bit
        self.rules = (*self.rules, rule)
        self.width = (number + 64) >> 6
        self.is_ranked, self._words = False, None

    def _with_bit(self, row: tuple[int, int, int], class_: int, picked: list[int], bit: int) -> tuple[int, int, int]:
        membership = self.classes.membership[class_]
        source, destination, scope = (r | bit if membership & p else r for r, p in zip(row, picked, strict=True))
        return source, destination, scope | (self._unscoped & bit)

    def put_in_force(self, number: int) -> None:
        rule, bit = self.rules[number].rule, 1 << number
        setattr(self, rule.action, getattr(self, rule.action) | bit)
        self.conditional |= bit if is_conditional(rule.conditions) else 0

    def take_out_of_force(self, number: int) -> None:
        bit = 1 << number
        self.forbid, self.allow, self.deny = (bits & ~bit for bits in (self.forbid, self.allow, self.deny))
        self.conditional &= ~bit

    def rows(self, number: int) -> tuple[int, int, int]:
        """(rules naming the class as source, as destination, rules whose scope it is in), as bitsets."""
        while len(self._rows) <= number:
            self._rows.append(self._row(self.classes.membership[len(self._rows)]))
        return self._rows[number]

    def words(self) -> tuple[Words, Words, Words]:
        """The same for all classes, as (classes x width) words each."""
        if self._words is None or len(self._words[0]) < len(self.classes):
            self._words = self._all_words()
        return self._words

    def _row(self, membership: int) -> tuple[int, int, int]:
        source = destination = 0
        scope = self._unscoped
        for peer in _members(membership):
            source |= self._by_source.get(peer, 0)
            destination |= self._by_destination.get(peer, 0)
            scope |= self._by_scope.get(peer, 0)
        return source, destination, scope

    def _all_words(self) -> tuple[Words, Words, Words]:
        """The rows not yet known, by one join of (class, peer) with (peer, rule); known rows are kept."""
        done = 0 if self._words is None else len(self._words[0])
        tables = [_csr(by, len(self.classes.peers)) for by in (self._by_source, self._by_destination, self._by_scope)]
        parts: list[list[Words]] = [[], [], []]
        for start in range(done, len(self.classes), _CHUNK):
            membership = self.classes.membership[start : start + _CHUNK]
            class_, peer = _unpack(membership, len(self.classes.peers))
            for part, (offsets, rule_ids) in zip(parts, tables, strict=True):
                part.append(rows_of(_join(class_, peer, offsets, rule_ids), len(membership), self.width))
        known = self._words or tuple(np.zeros((0, self.width), np.uint64) for _ in range(3))
        source, destination, scope = (np.concatenate([k, *p]) for k, p in zip(known, parts, strict=True))
        scope[done:] |= to_words(self._unscoped, self.width)
        self._adopt(source, destination, scope)
        return source, destination, scope

    def _adopt(self, source: Words, destination: Words, scope: Words) -> None:
        """Scalar rows come from the words once those exist: one source of truth."""
        for row in range(len(self._rows), len(source)):
            self._rows.append((of_words(source[row]), of_words(destination[row]), of_words(scope[row])))

    def _atom_rows(self, atoms: int) -> list[int]:
        ids: list[list[int]] = [[] for _ in range(atoms)]
        for rule, mask in enumerate(self.masks):
            for atom in _members(mask):
                ids[atom].append(rule)
        return [of_ids(members) for members in ids]


def _acting(rules: Sequence[RuleRef], action: str) -> int:
    return of_ids(i for i, r in enumerate(rules) if r.rule.action == action)


def _members(bits: int) -> Iterable[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def _rules_by_peer(table: PeerTable, sides: Sequence[Sequence[Peer]]) -> dict[int, int]:
    lists: dict[int, list[int]] = {}
    for rule, side in enumerate(sides):
        for peer in side:
            number = table.id(peer)
            assert number is not None, "every peer of a rule is in the table"
            lists.setdefault(number, []).append(rule)
    return {peer: of_ids(rules) for peer, rules in lists.items()}


def _csr(by_peer: dict[int, int], peers: int) -> tuple[np.ndarray, np.ndarray]:
    """Rules of each peer, concatenated, with offsets."""
    lists = [list(_members(by_peer.get(peer, 0))) for peer in range(peers)]
    offsets = np.zeros(peers + 1, dtype=np.int64)
    np.cumsum([len(rules) for rules in lists], out=offsets[1:])
    return offsets, np.array([rule for rules in lists for rule in rules], dtype=np.int64)


def _unpack(membership: Sequence[int], peers: int) -> tuple[np.ndarray, np.ndarray]:
    """Bitsets over peers -> (row, peer) pairs."""
    width = max(1, (peers + 7) >> 3)
    raw = np.frombuffer(b"".join(bits.to_bytes(width, "little") for bits in membership), dtype=np.uint8)
    row, peer = np.nonzero(np.unpackbits(raw.reshape(len(membership), width), axis=1, bitorder="little"))
    return row, peer


def _join(
    class_: np.ndarray, peer: np.ndarray, offsets: np.ndarray, rule_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(class, peer) joined with (peer -> rules): every (class, rule) pair."""
    counts = offsets[peer + 1] - offsets[peer]
    total = int(counts.sum())
    within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(class_, counts), rule_ids[np.repeat(offsets[peer], counts) + within]
