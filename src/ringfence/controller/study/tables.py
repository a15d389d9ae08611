"""The table of stored traffic: one row a service between two groups with one outcome, sorted and paged.

INVARIANT: the rows' connections add up to the query's, whatever the page.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ringfence.controller.study.grounds import Ground
from ringfence.controller.study.queries import View
from ringfence.core.engine import Judgement
from ringfence.core.insight.evidence import moment
from ringfence.core.insight.fold import Fold, dense, ranked
from ringfence.core.insight.map import Status, status_of
from ringfence.core.insight.places import Spot, place
from ringfence.core.insight.services import ServiceNames, named_services
from ringfence.core.world import REASONS, VERDICTS
from ringfence.wire.explore import FlowPage, FlowRow, Outcome, SortKey, TableQuery

Ids = NDArray[np.int64]
_URGENCY: tuple[Status, ...] = ("allowed", "blocked", "no-policy", "would-block", "unheld")
"""What is unprotected is the most urgent: the first of a descending order."""
_NOT_JUDGED = Outcome("no-policy", None, None, None, is_uncovered=True)


@dataclass(frozen=True)
class Table:
    """All rows, as columns."""

    spots: tuple[Spot, ...]
    services: tuple[str, ...]
    source: Ids
    destination: Ids
    service: Ids
    """Index into `services`."""
    now: Ids
    draft: Ids
    outcomes: tuple[Outcome, ...]
    drafted: tuple[Outcome, ...]
    """None drafted: empty."""
    connections: Ids
    packets: Ids
    bytes: Ids
    first: Ids
    last: Ids


def table_of(view: View) -> Table:
    """Fold a view's rows."""
    rows = view.rows
    placement = place(rows.endpoints, view.ground.world.inventory, view.by, subnets=True)
    source, destination = (placement.spot_of[end].astype(np.int64) for end in (rows.source, rows.destination))
    named = ServiceNames(named_services(view.ground.world.policies)).of(rows.point)
    now, outcomes = outcomes_of(view.judgement, view.ground, len(rows))
    draft, drafted = outcomes_of(view.draft, view.draft_ground or view.ground, len(rows))
    fold = Fold(dense(source, destination, named.service, now, draft))
    numbers, service = ranked(fold.one(named.service))
    return Table(
        spots=placement.spots,
        services=tuple(named.text(number) for number in numbers.tolist()),
        source=fold.one(source),
        destination=fold.one(destination),
        service=service,
        now=fold.one(now),
        draft=fold.one(draft),
        outcomes=outcomes,
        drafted=drafted if view.draft is not None else (),
        connections=fold.sum(rows.connections),
        packets=fold.sum(rows.packets),
        bytes=fold.sum(rows.bytes),
        first=fold.min(rows.first),
        last=fold.max(rows.last),
    )


def outcomes_of(judgement: Judgement | None, ground: Ground, rows: int) -> tuple[Ids, tuple[Outcome, ...]]:
    """Each row's outcome, numbered, and what the numbers stand for."""
    if judgement is None:
        return np.zeros(rows, np.int64), (_NOT_JUDGED,)
    columns = [
        np.asarray(c, np.int64) for c in (judgement.verdict, judgement.reason, judgement.rule + 1, judgement.unheld)
    ]
    codes, number = ranked(dense(*columns))
    spans = [int(column.max(initial=0)) + 1 for column in columns[1:]]
    return number, tuple(_outcome(code, spans, ground) for code in codes.tolist())


def _outcome(code: int, spans: list[int], ground: Ground) -> Outcome:
    rest, loose = divmod(code, spans[2])
    rest, rule = divmod(rest, spans[1])
    verdict, reason = divmod(rest, spans[0])
    said, why = VERDICTS[verdict], REASONS[reason]
    name = ground.rules[rule - 1] if rule else None
    return Outcome(status_of(said, why, is_held=not loose), said, why, name, is_uncovered=why == "default")


def page(table: Table, query: TableQuery) -> FlowPage:
    """One page, sorted; ties by source, destination, service."""
    order = _order(table, query.sort, is_descending=query.is_descending)
    chosen = order[query.offset : query.offset + query.limit].tolist()
    total = len(order)
    rows = tuple(_row(table, number) for number in chosen)
    connections = int(table.connections.sum())
    return FlowPage(rows, total, connections, max(0, total - query.offset - len(rows)))


def _order(table: Table, key: SortKey, *, is_descending: bool) -> Ids:
    urgency = _urgency(table.outcomes)[table.now]
    columns = {
        "source": table.source,
        "destination": table.destination,
        "service": _ranks(table.services)[table.service],
        "status": urgency,
        "change": urgency + len(_URGENCY) * _changed(table),
    }
    column: Ids = columns[key] if key in columns else getattr(table, key)
    ties = (table.draft, table.now, columns["service"], table.destination, table.source)
    return np.lexsort((*ties, -column if is_descending else column)).astype(np.int64)


def _urgency(outcomes: tuple[Outcome, ...]) -> Ids:
    return np.array([_URGENCY.index(one.status) for one in outcomes], np.int64)


def _changed(table: Table) -> Ids:
    """Per row 1 where the draft says otherwise."""
    if not table.drafted:
        return np.zeros(len(table.now), np.int64)
    before, after = _urgency(table.outcomes)[table.now], _urgency(table.drafted)[table.draft]
    changed: Ids = (before != after).astype(np.int64)
    return changed


def _ranks(names: tuple[str, ...]) -> Ids:
    """Where each name is in the order of names."""
    out = np.empty(len(names), np.int64)
    out[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return out


def _row(table: Table, number: int) -> FlowRow:
    source, destination = (table.spots[int(end[number])] for end in (table.source, table.destination))
    return FlowRow(
        source=source.id,
        source_name=source.name,
        destination=destination.id,
        destination_name=destination.name,
        service=table.services[int(table.service[number])],
        now=table.outcomes[int(table.now[number])],
        draft=table.drafted[int(table.draft[number])] if table.drafted else None,
        connections=int(table.connections[number]),
        packets=int(table.packets[number]),
        bytes=int(table.bytes[number]),
        first=moment(int(table.first[number])),
        last=moment(int(table.last[number])),
    )
