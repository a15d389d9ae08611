"""The home page: how protected the estate is, in numbers that each lead somewhere, and what to do next."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ringfence.controller.publishing.applying import rollout_view
from ringfence.controller.publishing.workloads import tally
from ringfence.controller.study.grounds import Ground, Grounds, Kept
from ringfence.controller.study.queries import picked_ends
from ringfence.controller.thinking import think
from ringfence.core.flow.series import HOUR_S
from ringfence.core.identity.workload import Workload
from ringfence.core.insight.exposure import Exposures
from ringfence.core.insight.places import mode_text
from ringfence.core.policy.model import Workloads
from ringfence.core.world import REASONS, VERDICTS
from ringfence.wire.api import HostState
from ringfence.wire.study import Coverage, JewelView, LaggardView, Posture, Step

if TYPE_CHECKING:
    from ringfence.controller.controller import Controller

DAY_H, WEEK_H = 24, 168
MOST_LAGGARDS, MOST_JEWELS = 20, 50
_LATE: frozenset[HostState] = frozenset({"pending", "drifted", "refused", "reverted", "unreachable"})
_URGENT = ("critical", "warning", "info")


class Standing:
    """Coverage and exposure, kept while their ground stays."""

    def __init__(self, grounds: Grounds) -> None:
        self._grounds = grounds
        self._coverage: Kept[Coverage] = Kept(8)
        self._jewels: Kept[tuple[JewelView, ...]] = Kept(2)

    def of(self, now: int) -> tuple[Ground, tuple[Coverage, ...], tuple[JewelView, ...]]:
        """At a time (seconds). Slow: for a thread."""
        ground = self._grounds.now()
        hour, revision = now // HOUR_S, self._grounds.flows.revision
        key = (ground.number, revision, hour)
        jewels = self._jewels.get(key, lambda: tuple(self._exposed(ground, now)))
        coverage = tuple(self._covered(ground, now, hours, key) for hours in (DAY_H, WEEK_H))
        return ground, coverage, jewels

    def _covered(self, ground: Ground, now: int, hours: int, key: tuple[int, ...]) -> Coverage:
        return self._coverage.get((*key, hours), lambda: self._cover(ground, now, hours))

    def _cover(self, ground: Ground, now: int, hours: int) -> Coverage:
        hours, rows = self._grounds.latest(ground, now, hours)
        if not ground.is_judging:
            total = int(rows.connections.sum())
            return Coverage(hours, total, 0, total, 0, 0, 0, 0)
        judged = self._grounds.judged(ground, rows)
        reasons = np.bincount(judged.reason, rows.connections, len(REASONS)).astype(np.int64)
        verdicts = np.bincount(judged.verdict, rows.connections, len(VERDICTS)).astype(np.int64)
        total = int(reasons.sum())
        uncovered, uncontrolled = (int(reasons[REASONS.index(name)]) for name in ("default", "uncontrolled"))
        would_block, blocked = (int(verdicts[VERDICTS.index(name)]) for name in ("would-block", "blocked"))
        covered, unheld = total - uncovered - uncontrolled, int(rows.connections[judged.unheld].sum())
        return Coverage(hours, total, covered, uncovered, uncontrolled, would_block, blocked - unheld, unheld)

    def _exposed(self, ground: Ground, now: int) -> Iterator[JewelView]:
        named = [
            (f"{policy.name}.{segment.name}", segment.peer)
            for policy in ground.world.policies
            for segment in policy.segments
            if segment.is_crown_jewel and segment.peer is not None
        ]
        if not named:
            return
        with ground.lock:
            exposures = Exposures(ground.engine)
            for name, peer in named[:MOST_JEWELS]:
                yield self._jewel(ground, exposures, name, peer, now)

    def _jewel(self, ground: Ground, exposures: Exposures, name: str, peer: Workloads, now: int) -> JewelView:
        inventory = ground.world.inventory
        members = [w for w in inventory.workloads if all(s.matches(inventory.labels_of(w)) for s in peer.selectors)]
        exposure = exposures.of(peer)
        return JewelView(
            segment=name,
            selector=peer.text,
            workloads=len(members),
            enforcing=sum(_is_held(w) and w.mode.inbound == "enforce" for w in members),
            identities_now=exposure.now.identities,
            workloads_now=exposure.now.workloads,
            is_open_to_internet_now=exposure.now.is_open_to_internet,
            identities_allowed=exposure.enforced.identities,
            workloads_allowed=exposure.enforced.workloads,
            is_open_to_internet=exposure.enforced.is_open_to_internet,
            seen=self._seen(ground, name, now),
        )

    def _seen(self, ground: Ground, segment: str, now: int) -> int:
        """Workloads and addresses outside of a segment that connected to it in a week, or in as much of it as fits."""
        _, rows = self._grounds.latest(ground, now, WEEK_H)
        inside = picked_ends(segment, rows.endpoints, ground.engine)
        sources = np.unique(rows.source[inside[rows.destination] & ~inside[rows.source]]).tolist()
        ends = (rows.endpoints[number] for number in sources)
        return len({end.workload.uuid if end.workload else (end.network, end.address, end.name) for end in ends})


async def posture_of(controller: Controller) -> Posture:
    """How protected the estate is, now."""
    at = controller.clock()
    standing = controller.studies.standing
    ground, coverage, jewels = await think(standing.of, int(at.timestamp()))
    workloads = controller.workloads.inventory.workloads
    states = {w.uuid: controller.workloads.state_of(w) for w in workloads}
    late = [w for w in workloads if states[w.uuid] in _LATE]
    first = heapq.nsmallest(MOST_LAGGARDS, late, key=lambda w: (_urgency(states[w.uuid]), w.name))
    severities: Counter[str] = Counter()
    for (_, severity), number in controller.watching.alerts.open_by_kind().items():
        severities[severity] += number
    posture = Posture(
        at=at,
        policy_version=ground.version,
        rules=len(ground.rules),
        workloads=len(workloads),
        controlled=sum(_is_held(w) for w in workloads),
        unlabelled=sum(not w.labels for w in workloads),
        modes=dict(Counter(mode_text(w.mode) for w in workloads if _is_held(w)).most_common()),
        states=dict(tally(states.values())),
        coverage=coverage,
        jewels=jewels,
        laggards=tuple(_laggard(controller, w, states[w.uuid]) for w in first),
        more_laggards=len(late) - len(first),
        alerts=dict(severities),
        quarantines=len(await controller.containing.live()),
        rollout=rollout_view(await controller.rollouts.progress()),
        proposals=len(await controller.versions.proposals()),
        next=(),
    )
    ordered = sorted(steps(posture), key=lambda step: _URGENT.index(step.severity))
    return msgspec.structs.replace(posture, next=tuple(ordered))


def _is_held(workload: Workload) -> bool:
    """Whether it has an agent that holds it to its mode."""
    return workload.has_agent and workload.is_controlled


def _urgency(state: HostState) -> int:
    return ("drifted", "reverted", "refused", "pending", "unreachable").index(state)


def _laggard(controller: Controller, workload: Workload, state: HostState) -> LaggardView:
    seen = controller.presence.seen.get(workload.uuid)
    problems = seen.realised.problems if seen is not None else ()
    at = datetime.fromtimestamp(seen.at, UTC) if seen is not None else None
    return LaggardView(workload.uuid, workload.name, state, problems, at)


# ---- what to do next ------------------------------------------------------------------------------------------------


def steps(posture: Posture) -> Iterator[Step]:
    """What calls for somebody, each with where to go."""
    yield from _urgent(posture)
    yield from _beginning(posture)
    yield from _tightening(posture)


def _urgent(posture: Posture) -> Iterator[Step]:
    grave = posture.alerts.get("critical", 0) + posture.alerts.get("error", 0)
    if grave:
        yield Step("alerts", f"{_count(grave, 'grave alert')} open", "/alerts", "critical", grave)
    if posture.rollout.stage == "stopped":
        text = f"the rollout of version {posture.rollout.version} was stopped: {posture.rollout.problem}"
        yield Step("rollout-stopped", text, "/policies/rollout", "critical", 1)
    for state, link, what in (
        ("drifted", "/workloads?state=drifted", "hold something else than they were told"),
        ("refused", "/workloads?state=refused", "cannot hold what they were told"),
        ("reverted", "/workloads?state=reverted", "took back what they were told last"),
    ):
        if count := posture.states.get(state, 0):
            yield Step(state, f"{_count(count, 'host')} {what}", link, "critical", count)
    for jewel in posture.jewels:
        if jewel.is_open_to_internet_now:
            text = f"the internet reaches `{jewel.segment}`, which is critical"
            yield Step("jewel-open", text, f"/reach?to={jewel.segment}", "critical", 1)


def _beginning(posture: Posture) -> Iterator[Step]:
    if not posture.workloads:
        yield Step("no-workloads", "pair a host, import an inventory, or load the demo estate", "/setup", "warning", 0)
    elif not posture.coverage[-1].connections and posture.coverage[-1].hours == WEEK_H:
        yield Step(
            "no-flows", "no traffic was seen in a week: import flow logs, or pair a host", "/setup", "warning", 0
        )
    elif not posture.rules:
        text = "no policy is in force: have one recommended from the traffic"
        yield Step("no-policy", text, "/recommend", "warning", 0)
    if posture.unlabelled:
        text = f"{_count(posture.unlabelled, 'workload')} without labels: no rule can name them"
        yield Step("unlabelled", text, "/workloads?unlabelled=1", "warning", posture.unlabelled)


def _tightening(posture: Posture) -> Iterator[Step]:
    if posture.proposals:
        text = f"{_count(posture.proposals, 'proposal')} to approve"
        yield Step("proposals", text, "/policies/proposals", "warning", posture.proposals)
    if count := posture.states.get("unreachable", 0):
        text = f"{_count(count, 'host')} not heard: their last policy holds"
        yield Step("unreachable", text, "/workloads?state=unreachable", "warning", count)
    week = posture.coverage[-1]
    if posture.rules and week.uncovered:
        text = f"{_count(week.uncovered, 'connection')} in {_span(week.hours)} that no rule speaks of"
        yield Step("uncovered", text, "/map?verdict=uncovered", "warning", week.uncovered)
    if week.unheld:
        what = f"{_count(week.unheld, 'connection')} in {_span(week.hours)}"
        text = f"{what} that policy blocks passed: no agent is there"
        yield Step("unheld", text, "/map?verdict=unheld", "warning", week.unheld)
    for jewel in posture.jewels:
        if jewel.enforcing < jewel.workloads and not jewel.is_open_to_internet_now:
            left = jewel.workloads - jewel.enforcing
            text = f"{left} of {jewel.workloads} workloads of `{jewel.segment}` do not enforce what comes in"
            yield Step("jewel-observing", text, f"/workloads?segment={jewel.segment}", "warning", left)
    observing = posture.controlled - posture.modes.get("enforce", 0)
    if posture.rules and observing and not week.uncovered and week.hours == WEEK_H:
        text = f"{_count(observing, 'host')} could enforce: a rule speaks of all they did in a week"
        yield Step("could-enforce", text, "/workloads?mode=observe", "info", observing)


def _span(hours: int) -> str:
    return {DAY_H: "a day", WEEK_H: "a week"}.get(hours) or _count(hours, "hour")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
