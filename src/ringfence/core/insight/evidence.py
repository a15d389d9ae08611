"""What stands behind a rule: how often it was used, by how many of those it permits, from when to when.

INVARIANT: every row is credited to at most one rule, so the connections of all rules, set-aside and uncovered rows
add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.core.flow.conversations import Conversations
from ringfence.core.insight.parties import Parties

Ids = NDArray[np.int64]


class Evidence(msgspec.Struct, frozen=True):
    """One recommended rule's support in the learning traffic."""

    rule: str
    """`policy/name`."""
    connections: int
    bytes: int
    share: float
    """Of all connections learned from."""
    sources: int
    """Distinct workloads and addresses seen."""
    sources_of: int | None
    """Workloads the rule's sources pick; None where addresses are among them."""
    destinations: int
    destinations_of: int | None
    permitted: int | None
    """Source workload x destination workload x named service; `any` counts as one service."""
    seen: int
    """How many of those were seen."""
    first: datetime
    last: datetime
    days: int
    """On how many days (UTC)."""
    is_general: bool = False
    """Meant to be wider than what was seen: a core service."""

    @property
    def utilisation(self) -> float | None:
        """The share of what the rule permits that was seen."""
        return None if not self.permitted else min(1.0, self.seen / self.permitted)


@dataclass(frozen=True)
class Reach:
    """What a rule picks, for the denominators."""

    rule: str
    sources_of: int | None
    destinations_of: int | None
    services: int
    """Service words; a range or `any` counts as one."""
    is_any_service: bool
    is_general: bool = False


def parties_seen(parties: Parties, conversations: Conversations) -> Ids:
    """Per endpoint a number that is equal for one workload's several addresses."""
    index: dict[object, int] = {}
    keys = (
        w.uuid if w is not None else (e.network, e.address, e.name)
        for e, w in zip(conversations.endpoints, parties.workloads, strict=True)
    )
    return np.array([index.setdefault(key, len(index)) for key in keys], np.int64)


def collect(
    conversations: Conversations, who: Ids, rule_of_row: NDArray[np.int32], reaches: Sequence[Reach], total: int
) -> tuple[Evidence, ...]:
    """Evidence of every rule, in the rules' order; `total` is all connections learned from."""
    n, rows = len(reaches), np.flatnonzero(rule_of_row >= 0)
    c, rule = conversations.where(rows), rule_of_row[rows].astype(np.int64)
    source, destination = who[c.source], who[c.destination]
    any_service = np.array([reach.is_any_service for reach in reaches], dtype=bool)
    point = np.where(any_service[rule] if n else False, 0, c.point).astype(np.int64)
    connections, volume = _sums(rule, c.connections, n), _sums(rule, c.bytes, n)
    seen = [_distinct(rule, columns, n) for columns in ((source,), (destination,), (source, destination, point))]
    days = _distinct(rule, (c.hour // 86_400,), n)
    first = np.full(n, np.iinfo(np.int64).max)
    last = np.zeros(n, np.int64)
    np.minimum.at(first, rule, c.first)
    np.maximum.at(last, rule, c.last)
    return tuple(
        Evidence(
            rule=reach.rule, connections=int(connections[i]), bytes=int(volume[i]),
            share=float(connections[i]) / max(1, total),
            sources=int(seen[0][i]), sources_of=reach.sources_of,
            destinations=int(seen[1][i]), destinations_of=reach.destinations_of,
            permitted=_permitted(reach), seen=min(int(seen[2][i]), _permitted(reach) or int(seen[2][i])),
            first=moment(first[i] if connections[i] else 0), last=moment(last[i]),
            days=int(days[i]), is_general=reach.is_general,
        )
        for i, reach in enumerate(reaches)
    )  # fmt: skip


def _permitted(reach: Reach) -> int | None:
    if reach.sources_of is None or reach.destinations_of is None:
        return None
    return reach.sources_of * reach.destinations_of * reach.services


def _sums(group: Ids, value: Ids, n: int) -> Ids:
    out = np.zeros(n, np.int64)
    np.add.at(out, group, value)
    return out


def _distinct(group: Ids, columns: Sequence[Ids], n: int) -> Ids:
    """Distinct tuples of the columns per group."""
    key = group
    for column in columns:
        key = np.unique(key, return_inverse=True)[1] * (int(column.max(initial=0)) + 1) + column
    _, first = np.unique(key, return_index=True)
    return np.bincount(group[first], minlength=n)


def moment(seconds: int | np.int64) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def in_words(evidence: Evidence) -> str:
    """One comment line: `seen 1,204 times, from 2 of 2 to 1 of 1 workloads, 2026-09-01 to 2026-09-30`."""
    times = "once" if evidence.connections == 1 else f"{evidence.connections:,} times"
    first, last = evidence.first.date().isoformat(), evidence.last.date().isoformat()
    span = f"on {first}" if first == last else f"{first} to {last}"
    return f"seen {times}, {_of(evidence.sources, evidence.sources_of)} to {_to(evidence)}, {span}"


def _of(seen: int, there: int | None) -> str:
    return f"{seen:,} of {there:,} workloads" if there else f"{seen:,} {'address' if seen == 1 else 'addresses'}"


def _to(evidence: Evidence) -> str:
    if evidence.sources_of and evidence.destinations_of:
        return f"{evidence.destinations:,} of {evidence.destinations_of:,}"
    return _of(evidence.destinations, evidence.destinations_of)
