"""The matrix of stored traffic: labels by labels, or segments by segments.

A workload may be in several segments: its connections then count in each, and in the total once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ringfence.controller.study.queries import View, segment_picks, status_codes, uncovered
from ringfence.core.engine.ends import segments
from ringfence.core.insight.fold import Fold, dense
from ringfence.core.insight.map import STATUSES, Status
from ringfence.core.insight.places import PlaceKind, Spot, place
from ringfence.core.policy.model import Workloads
from ringfence.wire.explore import Axis, Cell, MatrixView

Counts = NDArray[np.int64]
_LAYERS = len(STATUSES) + 1
"""Connections by status, then those no rule speaks of."""
_REST = "in no segment"


@dataclass(frozen=True)
class _Axes:
    """What the rows and columns are, and which ends are in each."""

    axes: tuple[Axis, ...]
    kind: NDArray[np.int64]
    """Per end: which kind of end it is; ends of one kind are on the same axes."""
    is_on: NDArray[np.int64]
    """Axes by kinds, 0 or 1."""


def matrix_of(view: View, *, is_of_segments: bool, limit: int) -> MatrixView:
    """The busiest axes, and the cells between them that have traffic."""
    axes = _of_segments(view) if is_of_segments else _of_labels(view)
    rows = len(view.rows)
    now = _counts(view, axes, status_codes(view.judgement, rows), uncovered(view.judgement, rows))
    draft = None
    if view.draft is not None:
        draft = _counts(view, axes, status_codes(view.draft, rows), uncovered(view.draft, rows))
    total = now[:, :, :-1].sum(axis=2)
    traffic = total.sum(axis=0) + total.sum(axis=1)
    order = np.lexsort((np.arange(len(traffic)), -traffic))
    kept = [int(i) for i in order[:limit] if traffic[i] or not is_of_segments or axes.axes[int(i)].kind == "segment"]
    left = int((traffic > 0).sum()) - sum(bool(traffic[i]) for i in kept)
    place_of = {number: position for position, number in enumerate(kept)}
    found = np.argwhere(total[np.ix_(kept, kept)]).tolist() if kept else []
    cells = tuple(_cell(kept[s], kept[d], now, draft, place_of) for s, d in found)
    return MatrixView(tuple(axes.axes[i] for i in kept), cells, left)


def _counts(view: View, axes: _Axes, status: NDArray[np.uint8], is_uncovered: NDArray[np.bool_]) -> Counts:
    """Axes x axes x layers."""
    rows, kinds = view.rows, axes.is_on.shape[1]
    fold = Fold(dense(axes.kind[rows.source], axes.kind[rows.destination], status, is_uncovered))
    source, destination = (fold.one(axes.kind[end]) for end in (rows.source, rows.destination))
    connections = fold.sum(rows.connections)
    table = np.zeros((_LAYERS, kinds, kinds), np.int64)
    np.add.at(table, (fold.one(status), source, destination), connections)
    np.add.at(table[-1], (source, destination), connections * fold.one(is_uncovered))
    return np.stack([axes.is_on @ layer @ axes.is_on.T for layer in table], axis=2)


def _cell(source: int, destination: int, now: Counts, draft: Counts | None, place_of: dict[int, int]) -> Cell:
    statuses = _by_status(now[source, destination])
    return Cell(
        source=place_of[source],
        destination=place_of[destination],
        connections=sum(statuses.values()),
        status=max(statuses, key=STATUSES.index),
        statuses=statuses,
        uncovered=int(now[source, destination, -1]),
        draft=None if draft is None else _by_status(draft[source, destination]),
    )


def _by_status(layers: Counts) -> dict[Status, int]:
    return {status: int(count) for status, count in zip(STATUSES, layers[:-1], strict=True) if count}


def _of_labels(view: View) -> _Axes:
    inventory = view.ground.world.inventory
    placement = place(view.rows.endpoints, inventory, view.by, subnets=False)
    jewels = [s.peer for p in view.ground.world.policies for s in p.segments if s.is_crown_jewel and s.peer]
    axes = tuple(_spot_axis(view, spot, jewels) for spot in placement.spots)
    return _Axes(axes, placement.spot_of.astype(np.int64), np.eye(len(axes), dtype=np.int64))


def _spot_axis(view: View, spot: Spot, jewels: list[Workloads]) -> Axis:
    inventory = view.ground.world.inventory
    is_jewel = any(segment_picks(j.selectors, inventory.labels_of(w)) for j in jewels for w in spot.members)
    return Axis(spot.id, spot.name, spot.kind, len(spot.members), is_jewel)


def _of_segments(view: View) -> _Axes:
    """Every segment by `policy.name`; then the workloads in none of them, and places."""
    engine, inventory = view.ground.engine, view.ground.world.inventory
    known = {name: peer for name, peer in segments(engine).items() if "." in name}
    jewels = {f"{p.name}.{s.name}" for p in view.ground.world.policies for s in p.segments if s.is_crown_jewel}
    placement = place(view.rows.endpoints, inventory, view.by, subnets=False)
    kinds: dict[tuple[int, ...] | PlaceKind, int] = {}
    of_uuid = {w.uuid: _on(known, inventory.labels_of(w)) for w in inventory.workloads}
    kind = np.empty(len(view.rows.endpoints), np.int64)
    for i, end in enumerate(view.rows.endpoints):
        on: tuple[int, ...] | PlaceKind = placement.spots[int(placement.spot_of[i])].kind
        if end.workload is not None:
            on = of_uuid.get(end.workload.uuid) or _on(known, inventory.labels_of(end.workload))
        kind[i] = kinds.setdefault(on, len(kinds))
    sizes = Counter(number for on in of_uuid.values() for number in on)
    places = tuple(sorted({one for one in kinds if isinstance(one, str)}))
    axes = (
        *(Axis(name, name, "segment", sizes[i], name in jewels) for i, name in enumerate(known)),
        Axis("rest", _REST, "rest", sum(not on for on in of_uuid.values()), is_crown_jewel=False),
        *(Axis(one, one, one, 0, is_crown_jewel=False) for one in places),
    )
    is_on = np.zeros((len(axes), len(kinds)), np.int64)
    for on, number in kinds.items():
        is_on[[len(known) + 1 + places.index(on)] if isinstance(on, str) else list(on) or [len(known)], number] = 1
    return _Axes(axes, kind, is_on)


def _on(known: dict[str, Workloads], labels: dict[str, str]) -> tuple[int, ...]:
    """The segments that labels are in; none: the rest."""
    return tuple(i for i, peer in enumerate(known.values()) if segment_picks(peer.selectors, labels))
