"""The map from near: workloads of a few groups, each with its own edges, to each other and to the groups beside them;
from nearer still, the programs of these workloads.

INVARIANT: nothing is lost: what a workload that is not listed opened or was sent counts at its group, and edges that
are left out are counted. The most urgent are listed first, workloads and edges alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.controller.study.grounds import Grounds
from ringfence.controller.study.programs import ProgramsAtRows, programs_at
from ringfence.controller.study.queries import View, status_codes
from ringfence.core.engine.bits import spread
from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import Conversations
from ringfence.core.flow.programs import DESTINATION, SOURCE
from ringfence.core.identity.workload import Workload
from ringfence.core.insight.fold import Fold, dense
from ringfence.core.insight.map import STATUSES, Status
from ringfence.core.insight.places import Placement, mode_text, place
from ringfence.core.insight.services import ServiceNames, named_services
from ringfence.wire.explore import NearEdge, NearEnd, NearQuery, NearView, NearWorkload

MOST_SERVICES = 3
MOST_PROGRAMS = 24
"""Of one workload."""
_UNTOLD = np.iinfo(np.int64).max
"""The count of a row whose program nobody said."""
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


def near_of(grounds: Grounds, view: View, query: NearQuery) -> NearView:
    """Raises InputError `unknown-group`: the map has no such node."""
    seen = _seen(view, query.groups)
    listed, more = _listed(view, seen, query.most)
    nodes = _nodes(seen, listed)
    at = programs_at(grounds, view, seen.rows) if query.programs else None
    running = _Running.of(at, seen.rows, nodes, len(seen.placement.spots)) if at is not None else None
    edges = sorted(_edges(view, seen, listed, _lines(seen.rows, nodes, running)), key=_by_attention)
    inventory, spots = view.ground.world.inventory, seen.placement.spots
    people = []
    for number, (one, spot) in enumerate(listed, len(spots)):
        programs, left = running.listed(number) if running is not None else ((), 0)
        has_agent, mode = inventory.has_agent(one), mode_text(one.mode)
        people.append(NearWorkload(one.uuid, one.name, spots[spot].id, has_agent, mode, programs, left))
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


def _nodes(seen: _Seen, listed: list[tuple[Workload, int]]) -> Ids:
    """Per endpoint its spot; of listed workloads a number of their own, behind the spots."""
    index = {one.uuid: len(seen.placement.spots) + n for n, (one, _) in enumerate(listed)}
    node = seen.placement.spot_of.astype(np.int64)
    for n, end in enumerate(seen.rows.endpoints):
        if end.workload is not None:
            node[n] = index.get(end.workload.uuid, node[n])
    return node


@dataclass(frozen=True)
class _Running:
    """Programs of the workloads that are listed, at the rows they were seen at."""

    names: tuple[str, ...]
    busiest: dict[int, list[int]]
    """Node -> names, all of them."""
    sides: tuple[ProgramsAtRows, ProgramsAtRows]
    """By row: of its source, and of its destination. What is not listed has no name."""

    @classmethod
    def of(cls, at: ProgramsAtRows, rows: Conversations, nodes: Ids, first: int) -> _Running:
        """`first`: the number of the first node that is a workload."""
        ends = np.where(at.side == SOURCE, rows.source[at.row], rows.destination[at.row])
        own = at.where(nodes[ends] >= first)
        node = nodes[ends][nodes[ends] >= first]
        each = Fold(dense(node, own.name))
        number, name = each.one(node), each.one(own.name)
        busiest: dict[int, list[int]] = {}
        for i in np.lexsort((name, -each.sum(own.connections), number)).tolist():
            busiest.setdefault(int(number[i]), []).append(int(name[i]))
        shown = {(n, one) for n, names in busiest.items() for one in names[:MOST_PROGRAMS]}
        is_shown = np.array([pair in shown for pair in zip(number.tolist(), name.tolist(), strict=True)], np.bool_)
        kept = own.where(is_shown[each.number])
        sides = (kept.where(kept.side == SOURCE), kept.where(kept.side == DESTINATION))
        return cls(at.names, busiest, sides)

    def listed(self, node: int) -> tuple[tuple[str, ...], int]:
        """The programs of a workload, and how many are left out."""
        names = self.busiest.get(node, [])
        return tuple(self.names[one] for one in names[:MOST_PROGRAMS]), max(0, len(names) - MOST_PROGRAMS)


@dataclass(frozen=True)
class _Lines:
    """What each line of the picture is of: rows, told apart by the programs at their ends. Columns of equal length."""

    row: Ids
    nodes: tuple[Ids, Ids]
    programs: tuple[Ids, Ids]
    connections: Ids
    names: tuple[str, ...] = ("",)


def _lines(rows: Conversations, nodes: Ids, running: _Running | None) -> _Lines:
    row = np.arange(len(rows))
    none = np.zeros(len(rows), np.int64)
    both = nodes[rows.source], nodes[rows.destination]
    if running is None:
        return _Lines(row, both, (none, none), rows.connections)
    row, source, sent = _told_apart(row, running.sides[0])
    place, destination, heard = _told_apart(row, running.sides[1])
    least = np.minimum(sent[place], heard)
    row, source = row[place], source[place]
    counts = np.minimum(least, rows.connections[row])
    return _Lines(row, (both[0][row], both[1][row]), (source, destination), counts, running.names)


def _told_apart(row: Ids, at: ProgramsAtRows) -> tuple[Ids, Ids, Ids]:
    """Each of these rows once for each of its programs: its place, the program's name and count."""
    first = np.searchsorted(at.row, row, "left")
    known = np.searchsorted(at.row, row, "right") - first
    times = np.maximum(known, 1)
    place, nth = spread(times)
    is_known = np.repeat(known > 0, times)
    which = (first[place] + nth)[is_known]
    name, counts = np.zeros(len(place), np.int64), np.full(len(place), _UNTOLD)
    name[is_known], counts[is_known] = at.name[which], at.connections[which]
    return place, name, counts


def _edges(view: View, seen: _Seen, listed: list[tuple[Workload, int]], lines: _Lines) -> Iterator[NearEdge]:
    """One a pair of ends; an end is a listed workload or a program of it, or a group."""
    spots = seen.placement.spots
    fold = Fold(dense(*lines.nodes, *lines.programs))
    now, is_changed = seen.now[lines.row], seen.is_changed[lines.row]
    draft = now if seen.draft is None else seen.draft[lines.row]
    columns = zip(
        *(fold.one(column).tolist() for column in (*lines.nodes, *lines.programs)),
        fold.max(now).tolist(), fold.max(draft).tolist(), fold.max(is_changed).tolist(),
        fold.sum(lines.connections).tolist(), _services(view, seen.rows.point[lines.row], lines.connections, fold),
        strict=True,
    )  # fmt: skip

    def said(number: int, program: int) -> NearEnd:
        if number < len(spots):
            return NearEnd(spots[number].id)
        one, spot = listed[number - len(spots)]
        return NearEnd(spots[spot].id, one.name, lines.names[program])

    for source, destination, opener, listener, status, drafted, changed, connections, services in columns:
        yield NearEdge(
            source=said(source, opener),
            destination=said(destination, listener),
            status=STATUSES[status],
            draft=None if seen.draft is None else STATUSES[drafted],
            is_changed=bool(changed),
            connections=connections,
            services=services,
        )


def _services(view: View, points: NDArray[np.int32], connections: Ids, fold: Fold) -> list[tuple[str, ...]]:
    """The busiest of each edge."""
    named = ServiceNames(named_services(view.ground.world.policies)).of(points)
    each = Fold(dense(fold.number, named.service))
    edge, service = each.one(fold.number), each.one(named.service)
    found: list[list[str]] = [[] for _ in range(len(fold))]
    for i in np.lexsort((service, -each.sum(connections), edge)).tolist():
        names = found[int(edge[i])]
        if len(names) < MOST_SERVICES:
            names.append(named.text(int(service[i])))
    return [tuple(names) for names in found]


def _by_attention(edge: NearEdge) -> tuple[bool, int, int, tuple[str, ...]]:
    """What a draft says otherwise of, then unprotected first, then the busiest."""
    ends = (*msgspec.structs.astuple(edge.source), *msgspec.structs.astuple(edge.destination))
    return not edge.is_changed, ATTENTION.index(edge.status), -edge.connections, ends
