"""Addresses that come to a class and leave it, at the cost of the change: nothing is rendered or read anew. Pure.

It starts from a table that was read whole and found untouched, and holds as long as the kernel's rule set generation
shows that nobody has written since. What is sent are the elements, and, where somebody loses by it, the next policy
generation; what is read back are those elements and rules.

INVARIANT: the layout this foretells is, part by part, what a whole reading would find.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from ringfence.core.errors import TargetError
from ringfence.core.intent.model import UNKNOWN_CLASS, Intent, PeerClass
from ringfence.core.net.address import V4_BASE, format_address, is_v4
from ringfence.targets.nftables import messages as m
from ringfence.targets.nftables.layout import Bytes2D, Chain, Hash, Layout, as_rows
from ringfence.targets.nftables.netlink import Message, following
from ringfence.targets.nftables.plan import Plan, Size
from ringfence.targets.nftables.realised import Realised, Standing
from ringfence.targets.nftables.render import ABOUT, marked_chains, said_in, sealed
from ringfence.targets.nftables.revision import named_intent, next_numbers, with_departed
from ringfence.targets.nftables.revocation import Permissions, range_holder
from ringfence.targets.nftables.steps import timer_messages

Flags = npt.NDArray[np.bool_]
_SUFFIXES = ("4", "6")


class Moved(NamedTuple):
    """One membership change, worked out."""

    plan: Plan
    after: Realised
    """What the kernel realises then."""
    elements: tuple[tuple[str, bytes, bytes | None], ...]
    """(Set or map, key, value) to read back, in a set without a value; None: it must not be there."""
    chains: tuple[Chain, ...]
    """To read back."""
    sets: tuple[str, ...] = ()
    """Sets that are new: to read back whole."""
    changes: Mapping[int, tuple[int, int]] = {}
    """Address -> (class before, class after)."""


def changed_members(
    found: Realised,
    added: Mapping[int, Collection[int]],
    removed: Collection[int],
    permissions: Permissions,
    now: float,
) -> Moved | None:
    """The step from what was found; None when nothing changes. `found` is untouched and has no trial.

    Raises TargetError `class-unknown` for a class that the realised policy does not know.
    """
    assert found.layout is not None
    assert found.confirmed is not None
    assert found.confirmed.intent is not None
    wanted = _wanted(found.confirmed.intent, added, removed)
    tables = {
        n: _Table(n, found.layout, {a: c for a, c in wanted.items() if is_v4(a) == (n == "4")}) for n in _SUFFIXES
    }
    before = {address: number for table in tables.values() for address, number in table.before.items()}
    changes = {a: (before[a], wanted[a]) for a in wanted if before[a] != wanted[a]}
    return _Step(found, tables, changes, permissions, now).moved() if changes else None


def _wanted(intent: Intent, added: Mapping[int, Collection[int]], removed: Collection[int]) -> dict[int, int]:
    """Address -> class, 0 for none."""
    known = {peer.id for peer in intent.peers}
    wanted = dict.fromkeys(removed, UNKNOWN_CLASS)
    for number, addresses in added.items():
        if number not in known:
            raise TargetError(
                "class-unknown", f"the policy in force knows no class {number}", help="converge to the whole intent"
            )
        for address in addresses:
            if wanted.get(address, UNKNOWN_CLASS) not in (UNKNOWN_CLASS, number):
                raise TargetError(
                    "address-in-two-classes",
                    f"`{format_address(address)}` is added to two classes",
                    help="add it to one",
                )
            wanted[address] = number
    return wanted


def with_members(standing: Standing, added: Mapping[int, Collection[int]], removed: Collection[int]) -> Intent:
    """The intent of a generation with this change of membership. Raises like `changed_members`."""
    assert standing.intent is not None
    listed = {address: peer.id for peer in standing.intent.peers for address in peer.addresses}
    wanted = _wanted(standing.intent, added, removed)
    changes = {a: (listed.get(a, UNKNOWN_CLASS), c) for a, c in wanted.items() if listed.get(a, UNKNOWN_CLASS) != c}
    named = named_intent(standing)
    return msgspec.structs.replace(named, peers=moved_peers(named.peers, changes))


class _Table:
    """The exact addresses of one family, before and after."""

    def __init__(self, suffix: str, layout: Layout, wanted: Mapping[int, int]) -> None:
        self.name = f"peer{suffix}"
        elements = layout.elements[self.name]
        assert isinstance(elements, Hash)
        self.old, self.spec = elements, layout.sets[self.name]
        width, base = (4, V4_BASE) if suffix == "4" else (16, 0)
        self.wanted = sorted(wanted.items())
        raw = b"".join((address - base).to_bytes(width, "big") for address, _ in self.wanted)
        self.keys: Bytes2D = np.frombuffer(raw, np.uint8).reshape(-1, width)
        self.at = np.searchsorted(as_rows(self.old.keys), as_rows(self.keys)) if self.wanted else np.zeros(0, np.int64)
        self.is_there = np.array([self._holds(n, int(at)) for n, at in enumerate(self.at)], bool)
        self.before = {
            address: _class(self.old.values[at]) if there else UNKNOWN_CLASS
            for (address, _), at, there in zip(self.wanted, self.at, self.is_there, strict=True)
        }
        self.is_changed = np.array([self.before[a] != c for a, c in self.wanted], bool)
        self.classes = np.array([c for _, c in self.wanted], np.uint32)

    def _holds(self, index: int, at: int) -> bool:
        return at < len(self.old) and bool((self.old.keys[at] == self.keys[index]).all())

    @property
    def _leaving(self) -> Flags:
        leaving: Flags = np.logical_and(self.is_there, self.is_changed)
        return leaving

    @property
    def _coming(self) -> Flags:
        coming: Flags = np.logical_and(self.is_changed, self.classes != UNKNOWN_CLASS)
        return coming

    def _values(self) -> Bytes2D:
        return self.classes.view(np.uint8).reshape(-1, 4)

    def after(self) -> Hash:
        """INVARIANT: sorted by key, like any layout's."""
        leaving, coming = self._leaving, self._coming
        gone: npt.NDArray[np.int64] = np.cumsum(leaving) - leaving
        drop, at = self.at[leaving], (self.at - gone)[coming]
        keys = _respliced(self.old.keys, drop, at, self.keys[coming])
        return Hash(keys, _respliced(self.old.values, drop, at, self._values()[coming]))

    def removals(self) -> Iterator[Message]:
        yield from m.remove_hash(self.spec, self.keys[self._leaving])

    def additions(self) -> Iterator[Message]:
        yield from m.add_hash(self.spec, Hash(self.keys[self._coming], self._values()[self._coming]))

    def expected(self) -> Iterator[tuple[str, bytes, bytes | None]]:
        for index in np.flatnonzero(self.is_changed):
            value = struct.pack("=I", self.classes[index]) if self.classes[index] else None
            yield self.name, self.keys[index].tobytes(), value

    @property
    def size(self) -> Size:
        return Size(int(self._coming.sum()), int(self._leaving.sum()))


def _respliced(rows: Bytes2D, drop: npt.NDArray[np.int64], at: npt.NDArray[np.int64], new: Bytes2D) -> Bytes2D:
    """Rows less some, with others put in: each row as one item, which numpy moves many times faster."""
    width = rows.shape[1]
    flat, items = (np.ascontiguousarray(x).view(f"V{width}").reshape(-1) for x in (rows, new))
    kept = np.delete(flat, drop) if len(drop) else flat
    return np.ascontiguousarray(np.insert(kept, at, items) if len(at) else kept).view(np.uint8).reshape(-1, width)


def _class(value: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> int:
    number: int = struct.unpack("=I", value.tobytes())[0]
    return number


class _Step:
    def __init__(
        self,
        found: Realised,
        tables: Mapping[str, _Table],
        changes: Mapping[int, tuple[int, int]],
        permissions: Permissions,
        now: float,
    ) -> None:
        self.found, self.tables, self.changes, self.now = found, tables, changes, now
        self.standing = found.confirmed
        self.lost = frozenset(_losers(found, changes, permissions))

    def moved(self) -> Moved:
        found, standing = self.found, self.standing
        assert found.layout is not None
        assert standing is not None
        assert standing.intent is not None
        number, forgets = (standing.generation, ()) if not self.lost else self._number()
        terms = with_departed(found.terms.at(self.now), self.lost, forgets)
        digest = _digest(standing.digest, self.changes)
        intent = msgspec.structs.replace(standing.intent, peers=moved_peers(standing.intent.peers, self.changes))
        chains = marked_chains(intent, number) if number != standing.generation else {}
        layout = self._layout(
            found.layout, chains, {**said_in(found.layout), 1: f"intent {digest}"}, terms.words(has_trial=False)
        )
        timers = {**found.layout.timers, **terms.timers(self.now, has_trial=False)}
        told = Standing(layout, intent, number, digest, standing.policy)
        after = msgspec.structs.replace(
            found,
            intent=intent,
            digest=digest,
            layout=msgspec.structs.replace(layout, timers=timers),
            generation=following(found.generation),
            policy_generation=number,
            confirmed=told,
            terms=terms,
        )
        timed = timer_messages(found, terms, self.now, has_trial=False, insists=False)
        plan = Plan(
            messages=(*self._messages(layout, chains), *timed),
            summary=tuple(self._summary()),
            intent=intent,
            layout=layout,
            generation=number,
            based_on=found.generation,
            forgets=forgets,
            size=Size(*map(sum, zip(*(table.size for table in self.tables.values()), strict=True))),
            judges_again=bool(self.lost),
        )
        elements = tuple(e for table in self.tables.values() for e in table.expected())
        return Moved(plan, after, elements, tuple(chains.values()), changes=self.changes)

    def _number(self) -> tuple[int, tuple[range, ...]]:
        assert self.standing is not None
        (number,), forgets = next_numbers(self.standing.generation, 1, self.found.terms.at(self.now).lasting)
        return number, forgets

    def _layout(
        self, old: Layout, chains: Mapping[str, Chain], said: Mapping[int, str], timed: Mapping[int, str]
    ) -> Layout:
        elements = {**old.elements, **{t.name: t.after() for t in self.tables.values() if t.wanted}}
        layout = msgspec.structs.replace(old, elements=elements, chains={**old.chains, **chains})
        kept = {n: text for n, text in said.items() if n < 8}
        return sealed(layout, {**kept, **timed})

    def _messages(self, layout: Layout, chains: Mapping[str, Chain]) -> Iterator[Message]:
        """Removals first: an address that changes hands loses its old class before it gets the new one."""
        for table in self.tables.values():
            yield from table.removals()
        for table in self.tables.values():
            yield from table.additions()
        for chain in chains.values():
            yield m.flush_chain(chain.name)
            yield from (m.new_rule(chain.name, rule) for rule in chain.rules)
        about = layout.elements[ABOUT]
        assert isinstance(about, Hash)
        yield m.flush_set(ABOUT)
        yield from m.add_hash(layout.sets[ABOUT], about)

    def _summary(self) -> Iterator[str]:
        for table in self.tables.values():
            added, removed, _ = table.size
            yield from (f"{sign} {n} elements of {table.name}" for sign, n in (("-", removed), ("+", added)) if n)


def _losers(found: Realised, changes: Mapping[int, tuple[int, int]], permissions: Permissions) -> Iterator[int]:
    assert found.confirmed is not None
    assert found.confirmed.intent is not None
    holder = range_holder(found.confirmed.intent.peers)
    lost: dict[tuple[int, int], bool] = {}
    for address, (before, after) in changes.items():
        pair = before or holder(address), after or holder(address)
        if pair not in lost:
            lost[pair] = not permissions.cover(permissions, *pair)
        if lost[pair]:
            yield address


def _digest(before: str, changes: Mapping[int, tuple[int, int]]) -> str:
    """Of what a table was made from, and every membership change since: for telling tables apart, not intents."""
    return hashlib.sha256(f"{before} {sorted(changes.items())}".encode()).hexdigest()


def moved_peers(peers: Iterable[PeerClass], changes: Mapping[int, tuple[int, int]]) -> tuple[PeerClass, ...]:
    """The classes after a change of membership: address -> (class before, class after), 0 for none."""
    comes: dict[int, list[int]] = {}
    goes: dict[int, list[int]] = {}
    for address, (before, after) in changes.items():
        goes.setdefault(before, []).append(address)
        comes.setdefault(after, []).append(address)
    return tuple(
        _with(p, comes.get(p.id, []), goes.get(p.id, [])) if p.id in comes or p.id in goes else p for p in peers
    )


def _with(peer: PeerClass, comes: list[int], goes: list[int]) -> PeerClass:
    addresses = list(peer.addresses)
    for address in goes:
        del addresses[bisect_left(addresses, address)]
    for address in comes:
        insort(addresses, address)
    return msgspec.structs.replace(peer, addresses=tuple(addresses))
