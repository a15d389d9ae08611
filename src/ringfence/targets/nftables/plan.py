"""The difference of two layouts as one transaction. Pure.

What changed is what is sent: membership moves elements, a mode rewrites the chains it is in, and counters of everything
else keep counting. The table and its base chains are never deleted, so no packet meets a host without policy.

INVARIANT: removals come before additions, so an address that changes hands loses its old class in the transaction that
gives it the new one.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from ringfence.core.intent.model import Intent
from ringfence.targets.nftables import messages as m
from ringfence.targets.nftables.layout import Bytes2D, Hash, Layout, SetSpec, as_rows, empty_hash
from ringfence.targets.nftables.netlink import Message


class Plan(msgspec.Struct, frozen=True):
    """One atomic transaction. Empty when nothing changes."""

    messages: tuple[Message, ...] = ()
    summary: tuple[str, ...] = ()
    """For people: what is added, removed and rewritten."""
    intent: Intent | None = None
    layout: Layout = Layout()
    """What the table will be."""
    generation: int = 0
    """The policy generation connections are judged under afterwards."""
    based_on: int | None = None
    """The kernel's rule set generation the difference was taken from."""
    forgets: range | None = None
    """Policy generations that no connection may bear when this is applied."""

    @property
    def is_empty(self) -> bool:
        return not self.messages


def difference(wanted: Layout, found: Layout | None) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """The messages that turn what was found into what is wanted, and their summary. None: there is no table."""
    summary: list[str] = []
    messages = [] if found is not None else [m.new_table()]
    old = found or Layout()
    messages += _removals(wanted, old, summary)
    messages += _additions(wanted, old, summary)
    return tuple(messages), tuple(summary)


def _removals(wanted: Layout, old: Layout, summary: list[str]) -> Iterator[Message]:
    """Rules first, then elements, then the sets and chains nothing refers to any more."""
    for name, chain in old.chains.items():
        if chain.rules and (name not in wanted.chains or not wanted.chains[name].is_same(chain)):
            yield m.flush_chain(name)
    for name in _kept_sets(wanted, old):
        yield from _element_removals(wanted, old, name, summary)
    gone = [name for name in old.sets if not _is_kept(wanted, old, name)]
    yield from map(m.delete_set, gone)
    dropped = [name for name in old.chains if name not in wanted.chains]
    yield from map(m.delete_chain, dropped)
    yield from (m.delete_counter(name) for name in old.counters if name not in wanted.counters)
    summary += [f"- map {name}" for name in gone] + [f"- chain {name}" for name in dropped]


def _additions(wanted: Layout, old: Layout, summary: list[str]) -> Iterator[Message]:
    yield from (m.new_counter(name) for name in wanted.counters if name not in old.counters)
    made = [name for name in wanted.sets if not _is_kept(wanted, old, name)]
    yield from (m.new_set(wanted.sets[name], number) for number, name in enumerate(made, start=1))
    for name, chain in wanted.chains.items():
        if name not in old.chains or (chain.hook is not None and chain.hook != old.chains[name].hook):
            yield m.new_chain(chain)
    for name in wanted.sets:
        yield from _element_additions(wanted, old, name, summary)
    for name, chain in wanted.chains.items():
        if name not in old.chains or not chain.is_same(old.chains[name]):
            yield from (m.new_rule(name, rule) for rule in chain.rules)
            summary.append(f"{'~' if name in old.chains else '+'} chain {name}: {len(chain.rules)} rules")


def _is_kept(wanted: Layout, old: Layout, name: str) -> bool:
    return name in old.sets and wanted.sets.get(name) == old.sets[name]


def _kept_sets(wanted: Layout, old: Layout) -> list[str]:
    return [name for name in old.sets if _is_kept(wanted, old, name)]


def _element_removals(wanted: Layout, old: Layout, name: str, summary: list[str]) -> Iterator[Message]:
    new, current, spec = wanted.elements[name], old.elements[name], wanted.sets[name]
    if isinstance(new, Hash) and isinstance(current, Hash):
        leaving = missing_rows(current, new)
        if len(leaving):
            summary.append(f"- {len(leaving)} elements of {name}")
            yield from m.remove_hash(spec, current.keys[leaving])
    elif new != current and current:
        yield m.flush_set(name)


def _element_additions(wanted: Layout, old: Layout, name: str, summary: list[str]) -> Iterator[Message]:
    new, spec = wanted.elements[name], wanted.sets[name]
    is_kept = _is_kept(wanted, old, name)
    if isinstance(new, Hash):
        current = old.elements[name] if is_kept else empty_hash(spec)
        arriving = missing_rows(new, current) if isinstance(current, Hash) else np.arange(len(new))
        if len(arriving):
            summary.append(f"+ {len(arriving)} elements of {name}")
            yield from m.add_hash(spec, _subset(new, arriving))
    elif new and not (is_kept and new == old.elements[name]):
        summary.append(f"+ {len(new)} ranges of {name}")
        yield from m.add_intervals(spec, new)


def missing_rows(these: Hash, those: Hash) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
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


def _subset(elements: Hash, indexes: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Hash:
    comments = tuple(elements.comments[i] for i in indexes) if elements.comments else ()
    return Hash(elements.keys[indexes], elements.values[indexes], comments)


def describe_set(spec: SetSpec) -> str:
    return f"{'map' if spec.data != 'none' else 'set'} {spec.name}"
