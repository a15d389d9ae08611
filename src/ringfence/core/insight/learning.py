"""Rows worth learning from -> distinct pairs (source party, destination party, service), each with the policy that
must hold it.

The owner of a pair is the destination's scope (the owner of the destination consents); where the destination is a
bare address or a name, the source's.

INVARIANT: a pair has an owner only if both its ends can be named: labelled inside some scope, or a bare address or
name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import DIRECTION_CONFIDENCE, Conversations
from ringfence.core.insight.cover import Pairs
from ringfence.core.insight.namings import scope_of
from ringfence.core.insight.noise import EPHEMERAL_FROM, dense_ids
from ringfence.core.insight.parties import PEER, LabelKeys, Parties
from ringfence.core.insight.segments import LabelPairs
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.net.service import ANY, ICMP, ICMPV6, PORTED, parse_service, point, protocol_of

Ids = NDArray[np.int64]
Level = Literal["ringfence", "tier", "port"]
LEVELS: tuple[Level, ...] = ("ringfence", "tier", "port")

DNS = parse_service("tcp/53") | parse_service("udp/53")
"""Both or neither: a long answer comes by TCP (RFC 7766 section 5)."""
POPULAR = 5
"""A service used by so many parties is one: a single connection to it is no accident."""
ECHO = parse_service("icmp/echo")
DYNAMIC_PORTS = 5
"""So many high ports between two parties are one dynamic range (RPC, passive FTP)."""
IANA_EPHEMERAL = 49152
"""RFC 6335 section 6."""
_FLAGS = DIRECTION_CONFIDENCE.index("flags")


def level_of(text: str) -> Level:
    """Raises InputError `bad-level`."""
    for level in LEVELS:
        if level == text:
            return level
    raise InputError("bad-level", f"`{text}` is not a level", help=f"use one of {', '.join(LEVELS)}")


@dataclass(frozen=True)
class Scopes:
    """Applications and environments as numbers."""

    pairs: tuple[LabelPairs, ...]
    of_party: Ids
    """-1: bare, or a workload without any scope label."""
    is_complete: NDArray[np.bool_]
    """Per scope: it has every scope key in use, so its selector picks no other scope's workloads."""

    @staticmethod
    def of(parties: Parties, keys: LabelKeys) -> Scopes:
        scopes = [scope_of(labels, keys) for labels in parties.labels]
        index = {scope: i for i, scope in enumerate(sorted({s for s in scopes if s}))}
        used = {key for scope in index for key, _ in scope}
        complete = np.array([{key for key, _ in scope} == used for scope in index], dtype=bool)
        return Scopes(tuple(index), np.array([index.get(s, -1) for s in scopes], np.int64), complete)


@dataclass(frozen=True)
class Learned:
    """The pairs of some rows, and which rows are whose."""

    rows: Ids
    pair_of_row: Ids
    """In step with `rows`."""
    pairs: Pairs
    services: tuple[IntervalSet, ...]
    _order: Ids
    _starts: Ids

    def rows_of(self, pairs: Ids) -> Ids:
        """The rows of these pairs."""
        parts = [self._order[self._starts[p] : self._starts[p + 1]] for p in pairs.tolist()]
        return self.rows[np.concatenate(parts)] if parts else self.rows[:0]


def owners_of(c: Conversations, parties: Parties, scopes: Scopes) -> Ids:
    """Per row the scope that must hold its rule; -1 where an end cannot be named."""
    is_bare = np.array([PEER in labels for labels in parties.labels], dtype=bool)
    is_namable_source = np.array([labels.get(PEER) != "name" for labels in parties.labels], dtype=bool)
    source, destination = parties.of_endpoint[c.source], parties.of_endpoint[c.destination]
    owner = np.where(is_bare[destination], scopes.of_party[source], scopes.of_party[destination])
    named = (is_bare[source] & is_namable_source[source]) | (scopes.of_party[source] >= 0)
    return np.asarray(np.where(named, owner, -1), np.int64)


def learn(
    conversations: Conversations, parties: Parties, scopes: Scopes, rows: Ids, *, level: Level, least: int
) -> Learned:
    """Distinct pairs of these rows, all of which have an owner. Required are those of at least `least` connections,
    and those to a popular service."""
    c = conversations.where(rows)
    source, destination = (parties.of_endpoint[x].astype(np.int64) for x in (c.source, c.destination))
    owner = owners_of(c, parties, scopes)
    service, sets = _services(c, source, destination)
    inside = (scopes.of_party[source] == owner) & (scopes.of_party[destination] == owner) & scopes.is_complete[owner]
    if level != "port":
        service = np.where(inside, len(sets) - 1, service)
    key = np.stack([source, destination, service], axis=1)
    packed = (key[:, 0] * (len(parties.labels) + 1) + key[:, 1]) * len(sets) + key[:, 2]
    _, first, pair_of_row = np.unique(packed, return_index=True, return_inverse=True)
    enough = np.bincount(pair_of_row, c.connections, len(first)) >= least
    target = dense_ids(destination[first], service[first])
    is_popular = (np.bincount(target) >= POPULAR)[target]
    pairs = Pairs(source[first], destination[first], service[first], owner[first], enough | is_popular)
    order = np.argsort(pair_of_row, kind="stable")
    starts = np.searchsorted(pair_of_row[order], np.arange(len(first) + 1))
    return Learned(rows, pair_of_row, pairs, sets, order, starts)


def _services(c: Conversations, source: Ids, destination: Ids) -> tuple[Ids, tuple[IntervalSet, ...]]:
    """Per row a service number, and what the numbers mean; the last is `any`."""
    points, of_row = np.unique(c.point, return_inverse=True)
    index: dict[IntervalSet, int] = {}
    of_point = [index.setdefault(_meant_by(int(p)), len(index)) for p in points]
    service = np.array(of_point, np.int64)[of_row]
    sets = list(index)
    for rows, services in _dynamic_ranges(c, source, destination):
        service[rows] = len(sets)
        sets.append(services)
    return service, (*sets, ANY)


def _meant_by(observed: int) -> IntervalSet:
    """The service to write for a point: both halves of DNS, echo of both families, a whole protocol without ports."""
    for service in (DNS, ECHO):
        if observed in service:
            return service
    protocol = protocol_of(observed)
    if protocol in PORTED or protocol in (ICMP, ICMPV6):
        return IntervalSet.single(observed)
    return parse_service(f"proto/{protocol}")


def _dynamic_ranges(c: Conversations, source: Ids, destination: Ids) -> Iterator[tuple[Ids, IntervalSet]]:
    """Rows between parties that use many high ports in a known direction, with the range that stands for those
    ports."""
    protocol, port = (c.point >> 16).astype(np.int64), (c.point & 0xFFFF).astype(np.int64)
    is_high = (port >= EPHEMERAL_FROM) & np.isin(protocol, sorted(PORTED)) & (c.confidence >= _FLAGS)
    high = np.flatnonzero(is_high)
    if not len(high):
        return
    group = dense_ids(source[high], destination[high], protocol[high])
    n = int(group.max()) + 1
    ports = np.bincount(np.unique(group * 65536 + port[high]) // 65536, minlength=n)
    least = np.full(n, 65535)
    np.minimum.at(least, group, port[high])
    low = np.where(least >= IANA_EPHEMERAL, IANA_EPHEMERAL, EPHEMERAL_FROM)[group]
    many = (ports >= DYNAMIC_PORTS)[group]
    for number, first in np.unique(np.stack([protocol[high], low], axis=1)[many], axis=0).tolist():
        rows = high[many & (protocol[high] == number) & (low == first)]
        yield rows, IntervalSet(((point(number, first), point(number, 65535)),))
