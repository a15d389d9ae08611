"""Rule bitmaps: per class the rules that name it as source, destination and scope; per atom the rules with it.

The rules that match a connection are `sources[s] & destinations[d] & services[a]`, joined with the scopes; the one
to name is the lowest bit (Lakshman and Stiliadis, SIGCOMM 1998). Memory is linear in classes and rules.

INVARIANT: a row of a class is a function of its peer membership alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from ringfence.core.engine.bits import Ids, Words, members, of_ids, of_words, pairs_of, rows_of, spread, to_words
from ringfence.core.engine.classes import ClassTable
from ringfence.core.engine.peers import PeerTable, key_of
from ringfence.core.engine.rules import RuleRef, is_conditional
from ringfence.core.policy.model import Workloads

Row = tuple[int, int, int]
"""The rules that name a class as source, as destination, and those whose scope it is in, as bitsets."""
Sides = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
_FEW = 32
"""Up to so many missing rows are filled one by one: a join has a fixed cost."""


def scope_peer(rule: RuleRef) -> Workloads | None:
    scope = rule.policy.scope
    return None if scope is None else Workloads((scope,), str(scope))


def meaning(rule: RuleRef) -> tuple[object, ...]:
    """What a rule says, whatever it is called: equal for rules that decide alike."""
    body = rule.rule
    sides = (frozenset(key_of(peer) for peer in side) for side in (body.sources, body.destinations))
    return (body.action, *sides, body.services, body.conditions, rule.policy.scope)


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
        self._unscoped = of_ids(i for i, r in enumerate(rules) if r.policy.scope is None)
        self._sides = [_sides_of(rule, classes.peers) for rule in rules]
        """Per rule, the peers it names as source, as destination, as scope."""
        self._naming = tuple(_rules_by_peer(sides[side] for sides in self._sides) for side in range(3))
        """The other way round: peer -> rules, for each side."""
        self._rows: dict[int, Row] = {}
        self._room: list[Words] = []
        """The same rows as words, with room for classes to come; the first `_filled` are known."""
        self._filled = 0
        self.is_ranked = True
        """Whether slots are in the order of names; a rule added later is not."""

    def first(self, matching: int) -> int:
        """The rule to name of a non-empty bitset: the least by `policy/name`."""
        if self.is_ranked:
            return (matching & -matching).bit_length() - 1
        return min(members(matching), key=lambda number: self.rules[number].ref)

    @property
    def in_force(self) -> int:
        return self.forbid | self.allow | self.deny

    # ---- changes in place ----------------------------------------------------------------------------------------

    def append(self, rule: RuleRef, mask: int) -> None:
        """Give a new rule the next slot: its bits in the rows of the classes it names."""
        number, bit = len(self.rules), 1 << len(self.rules)
        sides = _sides_of(rule, self.classes.peers)
        self._sides.append(sides)
        for table, side in zip(self._naming, sides, strict=True):
            for peer in side:
                table.setdefault(peer, []).append(number)
        self._unscoped |= bit if rule.policy.scope is None else 0
        self.masks.append(mask)
        for atom in members(mask):
            self.services[atom] |= bit
        self.rules = (*self.rules, rule)
        self.width = (number + 64) >> 6
        self.is_ranked = False
        self._rows.clear()
        self._light(number, sides)

    def _light(self, number: int, sides: Sides) -> None:
        """Set a new rule's bit in the words there are."""
        word, bit = number >> 6, np.uint64(1 << (number & 63))
        if self._room and self._room[0].shape[1] < self.width:
            self._room = [np.pad(words, ((0, 0), (0, 1))) for words in self._room]
        for words, side in zip(self._room, sides, strict=False):
            for peer in side:
                picked = self.classes.of_peer(peer)
                words[picked[picked < self._filled], word] |= bit
        if self._room and self._unscoped >> number & 1:
            self._room[2][: self._filled, word] |= bit

    def put_in_force(self, number: int) -> None:
        rule, bit = self.rules[number].rule, 1 << number
        setattr(self, rule.action, getattr(self, rule.action) | bit)
        self.conditional |= bit if is_conditional(rule.conditions) else 0

    def take_out_of_force(self, number: int) -> None:
        bit = 1 << number
        self.forbid, self.allow, self.deny = (bits & ~bit for bits in (self.forbid, self.allow, self.deny))
        self.conditional &= ~bit

    # ---- rows ----------------------------------------------------------------------------------------------------

    def rows(self, number: int) -> Row:
        """(rules naming the class as source, as destination, rules whose scope it is in), as bitsets."""
        row = self._rows.get(number)
        if row is None:
            row = self._rows[number] = self._read(number)
        return row

    def words(self) -> tuple[Words, Words, Words]:
        """The same for all classes, as (classes x width) words each."""
        self._fill()
        source, destination, scope = (words[: self._filled] for words in self._room)
        return source, destination, scope

    def classes_of(self, number: int) -> tuple[Ids, Ids]:
        """The classes a rule names as source and as destination, in order."""
        sources, destinations, _ = self._sides[number]
        return self._union(sources), self._union(destinations)

    def _union(self, side: tuple[int, ...]) -> Ids:
        picked = [self.classes.of_peer(peer) for peer in side]
        return picked[0] if len(picked) == 1 else np.unique(np.concatenate(picked))

    def _read(self, number: int) -> Row:
        if number < self._filled:
            source, destination, scope = (of_words(words[number]) for words in self._room)
            return source, destination, scope
        return self.row_of(self.classes.membership[number])

    def row_of(self, membership: int) -> Row:
        """The row of whatever belongs to these peers, a class of the table or not."""
        peers = list(members(membership))
        source, destination, scope = (
            of_ids(chain.from_iterable(table[p] for p in peers if p in table)) for table in self._naming
        )
        return source, destination, scope | self._unscoped

    def _fill(self) -> None:
        """Rows for the classes that appeared since."""
        wanted = len(self.classes)
        if not self._room or wanted > len(self._room[0]):
            grown = [np.zeros((wanted + wanted // 8 + 16, self.width), dtype=np.uint64) for _ in self._naming]
            for new, old in zip(grown, self._room, strict=False):
                new[: self._filled] = old[: self._filled]
            self._room = grown
        if wanted - self._filled <= _FEW:
            for number in range(self._filled, wanted):
                for words, row in zip(self._room, self.rows(number), strict=True):
                    words[number] = to_words(row, self.width)
        else:
            self._join(self._filled, wanted)
        self._filled = wanted

    def _join(self, first: int, last: int) -> None:
        """Many rows at once: (class, peer) joined with (peer, rule)."""
        class_, peer = pairs_of(self.classes.membership[first:last], len(self.classes.peers))
        for words, table in zip(self._room, self._naming, strict=True):
            offsets, rules = _csr(table, len(self.classes.peers))
            words[first:last] = rows_of(_joined(class_, peer, offsets, rules), last - first, self.width)
        self._room[2][first:last] |= to_words(self._unscoped, self.width)

    def _atom_rows(self, atoms: int) -> list[int]:
        rule, atom = pairs_of(self.masks, atoms)
        return [of_words(row) for row in rows_of((atom, rule), atoms, self.width)]


def _acting(rules: Sequence[RuleRef], action: str) -> int:
    return of_ids(i for i, r in enumerate(rules) if r.rule.action == action)


def _sides_of(rule: RuleRef, table: PeerTable) -> Sides:
    scope = scope_peer(rule)
    sides = (rule.rule.sources, rule.rule.destinations, () if scope is None else (scope,))
    source, destination, within = (tuple({table.known(peer) for peer in side}) for side in sides)
    return source, destination, within


def _rules_by_peer(sides: Iterable[tuple[int, ...]]) -> dict[int, list[int]]:
    lists: dict[int, list[int]] = {}
    for rule, side in enumerate(sides):
        for peer in side:
            lists.setdefault(peer, []).append(rule)
    return lists


def _csr(by_peer: dict[int, list[int]], peers: int) -> tuple[Ids, Ids]:
    """Rules of each peer, concatenated, with offsets."""
    offsets = np.zeros(peers + 1, dtype=np.intp)
    np.cumsum([len(by_peer.get(peer, ())) for peer in range(peers)], out=offsets[1:])
    return offsets, np.array([rule for peer in range(peers) for rule in by_peer.get(peer, ())], dtype=np.intp)


def _joined(class_: Ids, peer: Ids, offsets: Ids, rules: Ids) -> tuple[Ids, Ids]:
    """(class, peer) joined with (peer -> rules): every (class, rule) pair."""
    counts = offsets[peer + 1] - offsets[peer]
    pair, within = spread(counts)
    return class_[pair], rules[offsets[peer][pair] + within]
