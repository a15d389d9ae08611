"""The services of one part, arranged for lookup: single ports at once, all else by atoms.

An *atom* is a set of services on which every class has one verdict. A packet's port leads to its atom's chain, and
there its class leads to the verdict. Single ports of protocols that have ports skip the atoms: (class, protocol,
port) -> code.

INVARIANT: a (class, point) cell of the part is in exactly one place, exact or one atom, so no lookup order decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from ringfence.core.intent.model import Cell, Part
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.net.service import ICMP, ICMPV6, PORTED, format_point
from ringfence.core.policy.model import Action

EXACT_SPAN = 8
"""Port ranges up to this many ports are written out as single ports."""
REPLY_TYPES = {
    ICMP: {8: 0, 13: 14, 15: 16, 17: 18},
    ICMPV6: {128: 129, 139: 140},
}
"""ICMP request type -> the type of its reply (nf_conntrack_proto_icmp.c `invmap`, nf_conntrack_proto_icmpv6.c)."""


class Ruling(NamedTuple):
    """The verdict of a cell and the rule it is from."""

    action: Action
    rule: str


class Span(NamedTuple):
    """A run of points of one protocol: ports, ICMP types, or 0..0 where the protocol has neither. Inclusive."""

    protocol: int
    lo: int
    hi: int

    @property
    def is_whole(self) -> bool:
        return (self.lo, self.hi) == (0, last_point(self.protocol))

    @property
    def points(self) -> tuple[int, int]:
        """As service points; a whole protocol has the points no packet can have too."""
        return self.protocol << 16 | self.lo, self.protocol << 16 | (0xFFFF if self.is_whole else self.hi)

    def __str__(self) -> str:
        first = format_point(self.protocol << 16 | self.lo)
        return first if self.lo == self.hi else f"{first}-{self.hi}"


class Atom(NamedTuple):
    spans: tuple[Span, ...]
    rulings: dict[int, Ruling]
    """By class."""

    @property
    def text(self) -> str:
        """For people: `tcp/8000-8100`, `protocols 7-57`."""
        whole = IntervalSet.of((x.protocol,) * 2 for x in self.spans if x.is_whole)
        words = [f"protocol {lo}" if lo == hi else f"protocols {lo}-{hi}" for lo, hi in whole]
        return ", ".join([*map(str, (x for x in self.spans if not x.is_whole)), *words])

    @property
    def key(self) -> str:
        """A name of its services that stays when other rules change."""
        return hashlib.sha256(repr(self.spans).encode()).hexdigest()[:8]


class Services(NamedTuple):
    exact: dict[tuple[int, int, int], Ruling]
    """By (class, protocol, port)."""
    atoms: tuple[Atom, ...]

    def atom_ruling(self, peer: int, protocol: int, detail: int) -> Ruling | None:
        """What the atoms say of a class on a port or ICMP type."""
        for atom in self.atoms:
            if any(span.protocol == protocol and span.lo <= detail <= span.hi for span in atom.spans):
                return atom.rulings.get(peer)
        return None


def last_point(protocol: int) -> int:
    """The greatest port or ICMP type a packet of the protocol can have; 0 where it has none."""
    if protocol in PORTED:
        return 0xFFFF
    return 0xFF if protocol in (ICMP, ICMPV6) else 0


def spans_of(services: IntervalSet) -> Iterator[Span]:
    """The points that packets can have, protocol by protocol."""
    for lo, hi in services:
        for protocol in range(lo >> 16, (hi >> 16) + 1):
            first = lo & 0xFFFF if protocol == lo >> 16 else 0
            last = min(hi & 0xFFFF if protocol == hi >> 16 else 0xFFFF, last_point(protocol))
            if first <= last:
                yield Span(protocol, first, last)


def arrange(part: Part) -> Services:
    """A part's cells -> its exact ports and its atoms."""
    exact: dict[tuple[int, int, int], Ruling] = {}
    wide: dict[tuple[Span, ...], dict[int, Ruling]] = {}
    split: dict[IntervalSet, tuple[list[Span], tuple[Span, ...]]] = {}
    for cell in part.cells:
        if cell.services not in split:
            split[cell.services] = _split(cell.services)
        narrow, rest = split[cell.services]
        _put_exact(exact, cell, narrow)
        if rest:
            _put(wide.setdefault(rest, {}), cell.peer, cell)
    return Services(exact, _atoms(wide))


def _split(services: IntervalSet) -> tuple[list[Span], tuple[Span, ...]]:
    narrow: list[Span] = []
    rest: list[Span] = []
    for span in spans_of(services):
        is_narrow = span.protocol in PORTED and span.hi - span.lo < EXACT_SPAN
        (narrow if is_narrow else rest).append(span)
    return narrow, tuple(rest)


def _put_exact(exact: dict[tuple[int, int, int], Ruling], cell: Cell, narrow: list[Span]) -> None:
    for span in narrow:
        for port in range(span.lo, span.hi + 1):
            key = (cell.peer, span.protocol, port)
            if key in exact:
                raise ValueError(f"class {cell.peer} has two cells on protocol {span.protocol} port {port}")
            exact[key] = Ruling(cell.action, cell.rule)


def _put(column: dict[int, Ruling], peer: int, cell: Cell) -> None:
    if peer in column:
        raise ValueError(f"class {peer} has two cells on the same services")
    column[peer] = Ruling(cell.action, cell.rule)


def _atoms(wide: dict[tuple[Span, ...], dict[int, Ruling]]) -> tuple[Atom, ...]:
    """Cut every protocol where some cell begins or ends; pieces that the same cells cover are one atom."""
    covers: dict[int, list[tuple[Span, int]]] = {}
    columns = list(wide.values())
    for index, spans in enumerate(wide):
        for span in spans:
            covers.setdefault(span.protocol, []).append((span, index))
    pieces: dict[frozenset[int], list[Span]] = {}
    for protocol in sorted(covers):
        for span, covering in _pieces(protocol, covers[protocol]):
            pieces.setdefault(covering, []).append(span)
    return tuple(
        Atom(tuple(spans), _column(columns, covering)) for covering, spans in sorted(pieces.items(), key=lambda p: p[1])
    )


def _pieces(protocol: int, covers: list[tuple[Span, int]]) -> Iterator[tuple[Span, frozenset[int]]]:
    events: dict[int, list[tuple[int, bool]]] = {}
    for span, index in covers:
        events.setdefault(span.lo, []).append((index, True))
        events.setdefault(span.hi + 1, []).append((index, False))
    active: set[int] = set()
    edges = sorted(events)
    for edge, following in pairwise(edges):
        for index, begins in events[edge]:
            (active.add if begins else active.discard)(index)
        if active:
            yield Span(protocol, edge, following - 1), frozenset(active)


def _column(columns: list[dict[int, Ruling]], covering: frozenset[int]) -> dict[int, Ruling]:
    merged: dict[int, Ruling] = {}
    for index in sorted(covering):
        for peer, ruling in columns[index].items():
            if peer in merged:
                raise ValueError(f"class {peer} has two cells on the same services")
            merged[peer] = ruling
    return dict(sorted(merged.items()))
