"""Whether a change takes any permission away, so that live connections must be judged again.

A pure gain (a workload appears in a class that may do more) leaves every live connection as it is: only elements move.

INVARIANT: `revokes` errs towards judging again; when it says no, every connection let pass before would still pass.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from ringfence.core.identity.workload import Direction, Mode, ModeName
from ringfence.core.intent.model import UNKNOWN_CLASS, Cell, Intent, Part, PeerClass
from ringfence.core.net.intervals import EMPTY, IntervalSet
from ringfence.core.net.service import ANY
from ringfence.targets.nftables.readback import normal
from ringfence.targets.nftables.render import DIRECTIONS


def revokes(old: Intent, new: Intent) -> bool:
    """Whether some flow that passes under `old` may not pass under `new`."""
    if normal(old, with_rules=False) != normal(new, with_rules=False):
        return True
    if not set(new.isolated) <= set(old.isolated):
        return True
    return any(_loses(new, before, after) for before, after in moves(old.peers, new.peers))


def moves(old: tuple[PeerClass, ...], new: tuple[PeerClass, ...]) -> set[tuple[int, int]]:
    """Every (class before, class after) of some address."""
    before, after = _exact(old), _exact(new)
    changed = [a for a, _ in before.items() ^ after.items()]
    old_ranges, new_ranges = _ranges(old), _ranges(new)
    pairs = {(before.get(a) or _holder(old_ranges, a), after.get(a) or _holder(new_ranges, a)) for a in set(changed)}
    return {pair for pair in {*pairs, *_range_moves(old_ranges, new_ranges)} if pair[0] != pair[1]}


def _exact(peers: Iterable[PeerClass]) -> dict[int, int]:
    return {address: peer.id for peer in peers for address in peer.addresses}


Ranges = list[tuple[int, int, int]]


def _ranges(peers: Iterable[PeerClass]) -> Ranges:
    return sorted((lo, hi, peer.id) for peer in peers for lo, hi in peer.ranges)


def _holder(ranges: Ranges, address: int) -> int:
    index = bisect_right(ranges, address, key=lambda r: r[0]) - 1
    return ranges[index][2] if index >= 0 and address <= ranges[index][1] else UNKNOWN_CLASS


def _range_moves(old: Ranges, new: Ranges) -> Iterator[tuple[int, int]]:
    """Sweep both lists at once over the points where either changes."""
    if old == new:
        return
    edges = sorted({edge for lo, hi, _ in (*old, *new) for edge in (lo, hi + 1)})
    cursors = (_Cursor(old), _Cursor(new))
    for lo, _ in pairwise(edges):
        yield cursors[0].at(lo), cursors[1].at(lo)


class _Cursor:
    """The class of ever greater addresses."""

    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges
        self._index = 0

    def at(self, address: int) -> int:
        while self._index < len(self._ranges) and self._ranges[self._index][1] < address:
            self._index += 1
        if self._index == len(self._ranges):
            return UNKNOWN_CLASS
        lo, _, number = self._ranges[self._index]
        return number if lo <= address else UNKNOWN_CLASS


def _loses(intent: Intent, before: int, after: int) -> bool:
    return any(
        not _passing(part, after, intent.mode.of(part.direction)).covers(
            _passing(part, before, intent.mode.of(part.direction))
        )
        for part in intent.parts
    )


def passes_wherever(part: Part, other: Part, mode: Mode) -> bool:
    """Whether all that passes under the other part of this direction passes under this one too."""
    mine = mode.of(part.direction)
    peers = {cell.peer for cell in (*part.cells, *other.cells)}
    return all(_passing(part, peer, mine).covers(_passing(other, peer, mine)) for peer in peers)


def _passing(part: Part, peer: int, mode: ModeName) -> IntervalSet:
    """The services that pass for a class here."""
    if mode == "observe":
        return ANY
    if mode == "enforce":
        return _services(part, peer, {"allow"})
    return ANY - _services(part, peer, {"deny", "forbid"})


def _services(part: Part, peer: int, actions: set[str]) -> IntervalSet:
    found = EMPTY
    for cell in part.cells:
        if cell.peer == peer and cell.action in actions:
            found = found | cell.services
    return found


# -- why ---------------------------------------------------------------------------------------------------------------


class Losses(NamedTuple):
    """What is taken away, by what becomes of live connections."""

    is_any: bool
    is_policy: bool
    """Rules, modes or address ranges changed: connections end as the one who applies says."""
    addresses: frozenset[int]
    """Those that lost their class: their connections end at once."""


def losses(old: Intent, new: Intent) -> Losses:
    """What some flow that passes under `old` may lose under `new`."""
    if not revokes(old, new):
        return Losses(False, False, frozenset())
    return Losses(True, policy_of(old) != policy_of(new), frozenset(_losers(old, new)))


def policy_of(intent: Intent, *, with_rules: bool = False) -> dict[object, object]:
    """All an intent decides but for membership, quarantine and failsafe, in one comparable form."""
    apart = ("quarantined", *((name, d) for name in ("failsafe", "passages") for d in DIRECTIONS))
    found = {k: v for k, v in normal(intent, with_rules=with_rules).items() if k not in apart}
    return found | {("ranges", peer.id): tuple(sorted(peer.ranges)) for peer in intent.peers if peer.ranges}


def moved(old: Iterable[PeerClass], new: Iterable[PeerClass]) -> dict[int, tuple[int, int]]:
    """Address -> (class before, class after) of every one that is listed differently; 0 where it is not listed."""
    before, after = _exact(old), _exact(new)
    return {a: (before.get(a, UNKNOWN_CLASS), after.get(a, UNKNOWN_CLASS)) for a, _ in before.items() ^ after.items()}


def range_holder(peers: Iterable[PeerClass]) -> Callable[[int], int]:
    """Which class an address is of that is not listed."""
    ranges = _ranges(peers)
    return lambda address: _holder(ranges, address)


def _losers(old: Intent, new: Intent) -> Iterator[int]:
    was, is_ = Permissions(old), Permissions(new)
    old_ranges, new_ranges = _ranges(old.peers), _ranges(new.peers)
    lost: dict[tuple[int, int], bool] = {}
    for address, (before, after) in moved(old.peers, new.peers).items():
        pair = (before or _holder(old_ranges, address), after or _holder(new_ranges, address))
        if pair not in lost:
            lost[pair] = not is_.cover(was, *pair)
        if lost[pair]:
            yield address


class Permissions:
    """What passes for each class in each part of an intent, worked out when asked."""

    def __init__(self, intent: Intent) -> None:
        self.intent = intent
        self._parts: dict[tuple[Direction, object, str | None], dict[int, list[Cell]]] = {}
        for part in intent.parts:
            by_class = self._parts.setdefault((part.direction, part.local, part.unit), {})
            for cell in part.cells:
                by_class.setdefault(cell.peer, []).append(cell)

    def cover(self, other: Permissions, theirs: int, mine: int) -> bool:
        """Whether a class may do here all that another may do under other permissions."""
        if self._parts.keys() != other._parts.keys() or self.intent.mode != other.intent.mode:
            return False
        return all(self._passing(key, mine).covers(other._passing(key, theirs)) for key in self._parts)

    def _passing(self, key: tuple[Direction, object, str | None], class_: int) -> IntervalSet:
        cells = tuple(self._parts[key].get(class_, ()))
        return _passing(Part(key[0], cells), class_, self.intent.mode.of(key[0]))
