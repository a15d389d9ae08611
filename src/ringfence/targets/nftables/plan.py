"""The difference of two layouts as one transaction that matters, with one before it and one after that do not. Pure.

What changed is what is sent: membership moves elements, a mode rewrites the chains it is in, and counters of everything
else keep counting. The table and its base chains are never deleted, so no packet meets a host without policy.

    preparation   new sets, maps and chains, complete, which nothing refers to yet
    change        everything that has an effect, all at once
    cleanup       what nothing refers to any more

Why three: the kernel makes the ranges of a new interval set visible a moment after the rules of the same transaction
(`nft_rbtree_commit`), and a packet that is being judged while rules change finishes under the old ones, for which what
they look up must still be there. Without new ranges preparation and change are one transaction.

INVARIANT: in the change removals come before additions, so an address that changes hands loses its old class in the
transaction that gives it the new one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from ringfence.core.intent.model import Intent
from ringfence.targets.nftables import messages as m
from ringfence.targets.nftables.layout import DORMANT, Bytes2D, Chain, Elements, Hash, Layout, as_rows
from ringfence.targets.nftables.marks import ACTIONS
from ringfence.targets.nftables.netlink import Message
from ringfence.targets.nftables.services import Services

Indexes = npt.NDArray[np.int64]


class Size(NamedTuple):
    """How much a plan moves."""

    added: int = 0
    """Elements of sets and maps, each range being one."""
    removed: int = 0
    rules: int = 0
    """Rules of the chains that are written anew."""


class Plan(msgspec.Struct, frozen=True):
    """What to send. Empty when nothing changes."""

    preparation: tuple[Message, ...] = ()
    messages: tuple[Message, ...] = ()
    cleanup: tuple[Message, ...] = ()
    summary: tuple[str, ...] = ()
    """For people: what is added, removed and rewritten."""
    intent: Intent | None = None
    layout: Layout = Layout()
    """What the table will be."""
    generation: int = 0
    """The policy generation connections are judged under afterwards."""
    based_on: int | None = None
    """The kernel's rule set generation the difference was taken from."""
    forgets: tuple[range, ...] = ()
    """Policy generations that no connection may bear when this is applied."""
    adopts: bool = False
    """Whether connections may be older than the rules."""
    seeds: int = 0
    """The generation that connections older than the rules are given, so that they may last; 0: none."""
    size: Size = Size()
    judges_again: bool = False
    """Whether live connections are judged again, because something is taken away."""

    @property
    def is_empty(self) -> bool:
        return not (self.preparation or self.messages or self.cleanup)


class Difference(NamedTuple):
    """What turns one layout into another."""

    preparation: tuple[Message, ...]
    change: tuple[Message, ...]
    cleanup: tuple[Message, ...]
    summary: tuple[str, ...]
    size: Size


def difference(wanted: Layout, found: Layout | None) -> Difference:
    """The messages that turn what was found into what is wanted. None: there is no table."""
    return _Comparison(wanted, found or Layout(), is_new=found is None).difference()


class _Comparison:
    """Two layouts, and what of each is kept, new, or in the way."""

    def __init__(self, wanted: Layout, old: Layout, *, is_new: bool) -> None:
        self.wanted, self.old, self.is_new = wanted, old, is_new
        self.remade = [chain for chain in wanted.chains.values() if self._is_moved(chain)]
        self.clashing = [name for name in wanted.sets if self._is_clashing(name)]
        self.kept = [name for name in wanted.sets if name in old.sets and name not in self.clashing]
        self.new_sets = [name for name in wanted.sets if name not in self.kept and name not in self.clashing]
        self.is_upheaval = bool(self.clashing or self.remade)
        self.rewritten = [chain for chain in wanted.chains.values() if self._is_rewritten(chain)]
        self.deferred: dict[str, Indexes] = {}
        self.summary: list[str] = []
        self.added = self.removed = self.rules = 0

    def _is_moved(self, chain: Chain) -> bool:
        return chain.name in self.old.chains and self.old.chains[chain.name].place != chain.place

    def _is_clashing(self, name: str) -> bool:
        """A set of somebody else's making under our name, or one that leads to a chain to be made anew."""
        if any(stranger.kind == "set" and stranger.name == name for stranger in self.old.strangers):
            return True
        spec = self.wanted.sets[name]
        return name in self.old.sets and (self.old.sets[name] != spec or (bool(self.remade) and spec.data == "verdict"))

    def _is_rewritten(self, chain: Chain) -> bool:
        """What is made anew, set or chain, no rule may be using meanwhile."""
        return self.is_upheaval or chain.name not in self.old.chains or not chain.is_same(self.old.chains[chain.name])

    def difference(self) -> Difference:
        preparation, change = list(self._preparation()), list(self._change())
        if not any(self.wanted.sets[name].is_interval for name in self.new_sets):
            preparation, change = [], preparation + change
        cleanup = tuple(self._cleanup())
        size = Size(self.added, self.removed, self.rules)
        return Difference(tuple(preparation), tuple(change), cleanup, tuple(self.summary), size)

    # -- preparation --

    def _preparation(self) -> Iterator[Message]:
        """The table, new counters, new sets with their elements, new chains with their rules; no base chains."""
        if self.is_new:
            yield m.new_table(self.wanted.flags)
        counters = [name for name in self.wanted.counters if name not in self.old.counters]
        yield from map(m.new_counter, counters)
        yield from (m.new_set(self.wanted.sets[name], n) for n, name in enumerate(self.new_sets, start=1))
        chains = [c for c in self.wanted.chains.values() if c.name not in self.old.chains and c.hook is None]
        yield from map(m.new_chain, chains)
        for name in self.new_sets:
            yield from self._add(name, self.wanted.elements[name])
        if self.is_upheaval:
            return
        for chain in chains:
            yield from self._rules(chain)
        self.summary += [] if self.is_new else [f"+ counter {name}" for name in counters]

    def _rules(self, chain: Chain) -> Iterator[Message]:
        sign = "~" if chain.name in self.old.chains else "+"
        self.summary.append(f"{sign} chain {chain.name}: {len(chain.rules)} rules")
        self.rules += len(chain.rules)
        yield from (m.new_rule(chain.name, rule) for rule in chain.rules)

    # -- change --

    def _change(self) -> Iterator[Message]:
        if self.old.flags & DORMANT:
            self.summary.append("~ table: flags")
            yield m.new_table(self.old.flags & ~DORMANT)
        yield from self._flushes()
        for name in self.kept:
            yield from self._kept_elements(name)
        yield from map(m.delete_set, self.clashing)
        yield from self._places()
        yield from (m.new_set(self.wanted.sets[name], 10_000 + n) for n, name in enumerate(self.clashing))
        for name in self.clashing:
            yield from self._add(name, self.wanted.elements[name])
        for chain in self.rewritten:
            if self.is_upheaval or chain.name in self.old.chains or chain.hook is not None:
                yield from self._rules(chain)

    def _places(self) -> Iterator[Message]:
        """Base chains: new, with another policy, or (like any chain that was moved) deleted and made anew."""
        yield from (m.delete_chain(chain.name) for chain in self.remade)
        for chain in self.wanted.chains.values():
            old = self.old.chains.get(chain.name)
            if chain in self.remade or (chain.hook is not None and (old is None or old.hook != chain.hook)):
                yield m.new_chain(chain)
                self.summary += [f"~ chain {chain.name}: hook and policy"] if old is not None else []

    def _flushes(self) -> Iterator[Message]:
        names = set(self.old.chains) if self.is_upheaval else {chain.name for chain in self.rewritten}
        yield from (m.flush_chain(name) for name, chain in self.old.chains.items() if name in names and chain.rules)

    def _kept_elements(self, name: str) -> Iterator[Message]:
        new, old, spec = self.wanted.elements[name], self.old.elements[name], self.wanted.sets[name]
        if spec.has_timeout or new is old:
            return
        if isinstance(new, Hash) and isinstance(old, Hash):
            leaving = missing_rows(old, new)
            later = self._movable(name, old, leaving)
            leaving = np.setdiff1d(leaving, later)
            if len(leaving):
                self.summary.append(f"- {len(leaving)} elements of {name}")
                self.removed += len(leaving)
                yield from m.remove_hash(spec, old.keys[leaving])
            if len(later):
                self.deferred[name] = later
            yield from self._add(name, _subset(new, missing_rows(new, old)))
        elif new != old:
            self.removed += len(old)
            yield m.flush_set(name)
            yield from self._add(name, new)

    def _movable(self, name: str, old: Hash, leaving: Indexes) -> Indexes:
        """Exact cells whose verdict is found among the atoms from now on: they may stay until nobody needs them."""
        services = self.wanted.services.get(name)
        if services is None:
            return leaving[:0]
        return np.array([n for n in leaving if _has_same_verdict(services, old, int(n))], np.int64)

    def _add(self, name: str, elements: Elements) -> Iterator[Message]:
        spec = self.wanted.sets[name]
        if len(elements):
            kind = "elements" if isinstance(elements, Hash) else "ranges"
            self.summary.append(f"+ {len(elements)} {kind} of {name}")
            self.added += len(elements)
        yield from m.add_hash(spec, elements) if isinstance(elements, Hash) else m.add_intervals(spec, elements)

    # -- cleanup --

    def _cleanup(self) -> Iterator[Message]:
        chains = [name for name in self.old.chains if name not in self.wanted.chains]
        sets = [name for name in self.old.sets if name not in self.wanted.sets]
        counters = [name for name in self.old.counters if name not in self.wanted.counters]
        for name, indexes in self.deferred.items():
            old = self.old.elements[name]
            if isinstance(old, Hash):
                yield from m.remove_hash(self.old.sets[name], old.keys[indexes])
            self.summary.append(f"- {len(indexes)} elements of {name}")
            self.removed += len(indexes)
        self.removed += sum(len(self.old.elements[name]) for name in sets)
        yield from (m.flush_chain(name) for name in chains)
        yield from map(m.delete_set, sets)
        yield from map(m.delete_chain, chains)
        yield from map(m.delete_counter, counters)
        in_the_way = {("set", name) for name in self.clashing}
        leaving = [s for s in self.old.strangers if (s.kind, s.name) not in in_the_way]
        yield from map(m.delete_stranger, leaving)
        strangers = [stranger.name for stranger in leaving]
        named = (("chain", chains), ("map", sets), ("counter", counters), ("stranger", strangers))
        self.summary += [f"- {kind} {name}" for kind, names in named for name in names]


def _has_same_verdict(services: Services, old: Hash, index: int) -> bool:
    key = old.keys[index].tobytes()
    peer, protocol, port = struct.unpack("=I", key[:4])[0], key[4], int.from_bytes(key[8:10], "big")
    action = ACTIONS.get(struct.unpack("=I", old.values[index].tobytes())[0])
    ruling = services.atom_ruling(peer, protocol, port)
    return ruling is not None and ruling.action == action


def missing_rows(these: Hash, those: Hash) -> Indexes:
    """Indexes of the elements (key, value and comment) of `these` that are not in `those`."""
    if these.comments or those.comments:
        known = set(_triples(those))
        return np.array([i for i, triple in enumerate(_triples(these)) if triple not in known], np.int64)
    if not len(those) or not len(these):
        return np.arange(len(these))
    mine, theirs = as_rows(_joined(these)), as_rows(_joined(those))
    return np.flatnonzero(~np.isin(mine, theirs, assume_unique=True))


def _triples(elements: Hash) -> list[tuple[bytes, bytes, str]]:
    comments = elements.comments or ("",) * len(elements)
    return [(k.tobytes(), v.tobytes(), c) for k, v, c in zip(elements.keys, elements.values, comments, strict=True)]


def _joined(elements: Hash) -> Bytes2D:
    return np.hstack((elements.keys, elements.values))


def _subset(elements: Hash, indexes: Indexes) -> Hash:
    comments = tuple(elements.comments[i] for i in indexes) if elements.comments else ()
    return Hash(elements.keys[indexes], elements.values[indexes], comments)
