"""The map from near: workloads of a few groups, each with its own edges, to each other and to the groups beside them.

INVARIANT: nothing is lost: what a workload that is not listed opened or was sent counts at its group, and edges that
are left out are counted. The most urgent are listed first, workloads and edges alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ringfence.controller.study.queries import View, status_codes
from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.workload import Workload
from ringfence.core.insight.fold import Fold, dense
from ringfence.core.insight.map import STATUSES, Status
from ringfence.core.insight.places import Placement, mode_text, place
from ringfence.core.insight.services import ServiceNames, named_services
from ringfence.wire.explore import NearEdge, NearEnd, NearQuery, NearView, NearWorkload

MOST_SERVICES = 3
ATTENTION: tuple[Status, ...] = ("unheld", "would-block", "no-policy", "blocked", "allowed")
"""Unprotected first."""
Ids = NDArray[np.int64]
_RANK = np.array([ATTENTION.index(status) for status in STATUSES], np.int64)


@dataclass(frozen=True)
class _Seen:
    """Rows with an end in the groups asked about, and what policy says of each."""

    placement: Placement
    spots: list[int]
    rows: Conversations
    now: Ids
    """Indices into STATUSES."""
    draft: Ids | None

    @property
    def is_changed(self) -> NDArray[np.bool_]:
        return np.zeros(len(self.rows), np.bool_) if self.draft is None else self.draft != self.now


def near_of(view: View, query: NearQuery) -> NearView:
    """Raises InputError `unknown-group`: the map has no such node."""
    seen = _seen(view, query.groups)
    listed, more = _listed(view, seen, query.most)
    edges = sorted(_edges(view, seen, listed), key=_by_attention)
    inventory, spots = view.ground.world.inventory, seen.placement.spots
    people = (
        NearWorkload(one.uuid, one.name, spots[spot].id, inventory.has_agent(one), mode_text(one.mode))
        for one, spot in listed
    )
    return NearView(
        workloads=tuple(people),
        more_workloads=more,
        edges=tuple(edges[: query.limit]),
        more_edges=max(0, len(edges) - query.limit),
    )


def _seen(view: View, groups: Iterable[str]) -> _Seen:
    placement = place(view.rows.endpoints, view.ground.world.inventory, view.by, subnets=True)
    numbers = {spot.id: number for number, spot in enumerate(placement.spots)}
    for id_ in groups:
        if id_ not in numbers:
            help_ = "ask with the labels the map was asked by"
            raise InputError("unknown-group", f"the map has no group `{id_}`", help=help_)
    spots = sorted({numbers[id_] for id_ in groups})
    is_own = np.isin(placement.spot_of, spots)
    mask = is_own[view.rows.source] | is_own[view.rows.destination]
    rows = view.rows.where(mask)
    judged = [None if one is None else one.where(mask) for one in (view.judgement, view.draft)]
    now, draft = (status_codes(one, len(rows)).astype(np.int64) for one in judged)
    return _Seen(placement, spots, rows, now, None if view.draft is None else draft)


def _listed(view: View, seen: _Seen, most: int) -> tuple[list[tuple[Workload, int]], dict[str, int]]:
    """The workloads of each group that are most urgent, with their spots; and by group how many are left out."""
    ends = view.rows.endpoints
    number_of = {one.uuid: n for n, one in enumerate(w for s in seen.spots for w in seen.placement.spots[s].members)}
    number = np.array([number_of.get(e.workload.uuid, -1) if e.workload else -1 for e in ends], np.int64)
    urgency, busy = np.full(len(number_of) + 1, len(ATTENTION) + 1), np.zeros(len(number_of) + 1, np.int64)
    rank = np.where(seen.is_changed, -1, _RANK[seen.now])
    for end in (seen.rows.source, seen.rows.destination):
        np.minimum.at(urgency, number[end], rank)
        np.add.at(busy, number[end], seen.rows.connections)
    listed: list[tuple[Workload, int]] = []
    more: dict[str, int] = {}
    for spot in seen.spots:
        members = seen.placement.spots[spot].members
        ranked = sorted(members, key=lambda w: (urgency[number_of[w.uuid]], -busy[number_of[w.uuid]], w.name))
        listed += [(one, spot) for one in ranked[:most]]
        if len(ranked) > most:
            more[seen.placement.spots[spot].id] = len(ranked) - most
    return listed, more


def _edges(view: View, seen: _Seen, listed: list[tuple[Workload, int]]) -> Iterator[NearEdge]:
    """One a pair of ends; an end is a listed workload, or a group."""
    rows, spots = seen.rows, seen.placement.spots
    index = {one.uuid: len(spots) + n for n, (one, _) in enumerate(listed)}
    node = seen.placement.spot_of.astype(np.int64)
    for n, end in enumerate(rows.endpoints):
        if end.workload is not None:
            node[n] = index.get(end.workload.uuid, node[n])
    fold = Fold(dense(node[rows.source], node[rows.destination]))
    services = _services(view, rows, fold)
    columns = zip(
        fold.one(node[rows.source]).tolist(), fold.one(node[rows.destination]).tolist(),
        fold.max(seen.now).tolist(), fold.max(seen.now if seen.draft is None else seen.draft).tolist(),
        fold.max(seen.is_changed).tolist(), fold.sum(rows.connections).tolist(), services, strict=True,
    )  # fmt: skip

    def said(number: int) -> NearEnd:
        if number < len(spots):
            return NearEnd(spots[number].id)
        one, spot = listed[number - len(spots)]
        return NearEnd(spots[spot].id, one.name)

    for source, destination, now, draft, is_changed, connections, names in columns:
        yield NearEdge(
            source=said(source),
            destination=said(destination),
            status=STATUSES[now],
            draft=None if seen.draft is None else STATUSES[draft],
            is_changed=bool(is_changed),
            connections=connections,
            services=names,
        )


def _services(view: View, rows: Conversations, fold: Fold) -> list[tuple[str, ...]]:
    """The busiest of each edge."""
    named = ServiceNames(named_services(view.ground.world.policies)).of(rows.point)
    each = Fold(dense(fold.number, named.service))
    edge, service = each.one(fold.number), each.one(named.service)
    found: list[list[str]] = [[] for _ in range(len(fold))]
    for i in np.lexsort((service, -each.sum(rows.connections), edge)).tolist():
        names = found[int(edge[i])]
        if len(names) < MOST_SERVICES:
            names.append(named.text(int(service[i])))
    return [tuple(names) for names in found]


def _by_attention(edge: NearEdge) -> tuple[bool, int, int, tuple[str, ...]]:
    """What a draft says otherwise of, then unprotected first, then the busiest."""
    ends = (edge.source.group, edge.source.workload, edge.destination.group, edge.destination.workload)
    return not edge.is_changed, ATTENTION.index(edge.status), -edge.connections, ends
