"""Rules in force and what they are used for, judged from stored traffic: the queue of what could be tightened.

INVARIANT: a connection is credited to the one rule that the engine names for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from ringfence.controller.study.grounds import Ground, Grounds, Kept
from ringfence.controller.thinking import think
from ringfence.core.engine import Engine
from ringfence.core.engine.rules import RuleRef
from ringfence.core.flow.conversations import Conversations
from ringfence.core.flow.series import HOUR_S
from ringfence.core.insight.evidence import moment
from ringfence.core.policy.model import Peer, Workloads
from ringfence.wire.study import RulesView, RuleView

DAY_H = 24


class RuleUses:
    """What rules are used for."""

    def __init__(self, grounds: Grounds) -> None:
        self._grounds = grounds
        self._views: Kept[tuple[int, tuple[RuleView, ...]]] = Kept(4)

    async def of(self, now: datetime, *, days: int, limit: int) -> RulesView:
        """Rules in force with their use in some days."""
        hours, views = await think(self._uses, int(now.timestamp()) // HOUR_S, days)
        unused = sum(not view.connections for view in views)
        return RulesView(views[:limit], days, hours, len(views), unused, max(0, len(views) - limit))

    def _uses(self, hour: int, days: int) -> tuple[int, tuple[RuleView, ...]]:
        ground = self._grounds.now()

        def make() -> tuple[int, tuple[RuleView, ...]]:
            hours, rows = self._grounds.latest(ground, hour * HOUR_S, days * DAY_H)
            return hours, tuple(sorted(self._judged(ground, rows), key=_by_slack))

        return self._views.get((ground.number, self._grounds.flows.revision, hour, days), make)

    def _judged(self, ground: Ground, rows: Conversations) -> Iterable[RuleView]:
        if not ground.rules:
            return ()
        rule = self._grounds.judged(ground, rows).rule
        who = _numbers(rows)
        order = np.argsort(rule, kind="stable")
        bounds = np.searchsorted(rule[order], np.arange(len(ground.rules) + 1))
        with ground.lock:
            return [
                _view(ground.engine, one, number, rows.where(order[bounds[number] : bounds[number + 1]]), who)
                for number, one in enumerate(ground.engine.rules)
            ]


def _by_slack(view: RuleView) -> tuple[bool, float, str]:
    """Unused first, then those that are used least of what they permit."""
    return view.connections > 0, 2.0 if view.utilisation is None else view.utilisation, view.rule


def _numbers(rows: Conversations) -> NDArray[np.int64]:
    """A number per workload; -1 for ends that are none."""
    index: dict[str, int] = {}
    uuids = (end.workload.uuid if end.workload is not None else "" for end in rows.endpoints)
    return np.array([index.setdefault(uuid, len(index)) if uuid else -1 for uuid in uuids], np.int64)


def _view(engine: Engine, ref: RuleRef, number: int, rows: Conversations, who: NDArray[np.int64]) -> RuleView:
    rule = ref.rule
    members = [_members(engine, classes) for classes in engine.relation.classes_of(number)]
    used = [_distinct(who[end]) for end in (rows.source, rows.destination)]
    conditions = rule.conditions
    return RuleView(
        rule=ref.ref,
        policy=ref.policy.name,
        name=rule.name,
        action=rule.action,
        sources=tuple(peer.text for peer in rule.sources),
        destinations=tuple(peer.text for peer in rule.destinations),
        services=rule.service_words,
        because=rule.because,
        file=rule.where.file,
        line=rule.where.line,
        until="" if conditions.until is None else conditions.until.isoformat(),
        connections=int(rows.connections.sum()),
        rows=len(rows),
        last=moment(rows.last.max()) if len(rows) else None,
        source_members=members[0],
        destination_members=members[1],
        sources_used=used[0],
        destinations_used=used[1],
        utilisation=_utilisation((rule.sources, rule.destinations), members, used),
    )


def _members(engine: Engine, classes: NDArray[np.intp]) -> int:
    """Live workloads of some classes."""
    return int(sum(engine.classes.workloads[class_] for class_ in classes.tolist()))


def _distinct(numbers: NDArray[np.int64]) -> int:
    return len(np.unique(numbers[numbers >= 0]))


def _utilisation(sides: tuple[tuple[Peer, ...], ...], members: list[int], used: list[int]) -> float | None:
    """Used members / members, of the sides that name workloads only."""
    named = [i for i, peers in enumerate(sides) if all(isinstance(peer, Workloads) for peer in peers)]
    there = sum(members[i] for i in named)
    return min(1.0, sum(used[i] for i in named) / there) if there else None
