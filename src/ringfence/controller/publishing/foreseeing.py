"""What a change would do to traffic: to what was seen in some days, and to the connections that are in use now.

INVARIANT: who talked is taken as they are, and as they become, not as they were labelled when it was seen; what is
blocked already, by the policy and in the modes in force, breaks by no change. What the policy in force would block as
well, in the mode a plan assumes, would break anyway: it is counted apart.
INVARIANT: no plan is refused for the traffic there is: of what does not fit the latest days that do are judged, and
which those are is told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.controller.publishing.versions import changed_policies
from ringfence.core.engine import Engine, Judgement
from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import REPORTED, Conversations
from ringfence.core.identity.workload import Mode, Workload
from ringfence.core.insight.leftovers import end_text
from ringfence.core.insight.seating import as_now
from ringfence.core.insight.simulate import Break, simulate
from ringfence.core.net.address import format_ranges
from ringfence.core.net.service import format_point, format_services
from ringfence.core.policy.model import Policy
from ringfence.core.world import REASONS, VERDICTS, World
from ringfence.ports.flow_store import FlowStore
from ringfence.wire import api

ENFORCED = Mode.both("enforce")
MOST_BROKEN = 100
MOST_SESSIONS = 100
IN_USE_S = 300
"""A connection that carried something in this time is in use: hosts tell once a minute, and it takes two to settle."""
OWNER_LABELS = ("owner", "team")
_ALLOWED, _BLOCKED = VERDICTS.index("allowed"), VERDICTS.index("blocked")
_WAS_BLOCKED = REPORTED.index("blocked")
_DAY_S = 86_400
_NEW, _ABOUT, _ELSEWHERE = range(3)
"""What matters of what would break: what breaks by the change, what it is about and would break anyway, the rest."""


class Foreseen(msgspec.Struct, frozen=True):
    """What a change would do to traffic."""

    impact: api.Impact | None
    """None: none was asked for, or not even a day of it fits."""
    sessions: api.LiveSessions | None
    """None: there are too many to look at."""


def foresee(
    flows: FlowStore, before: World, after: World, *, days: int, now: datetime, as_mode: Mode | None = ENFORCED
) -> Foreseen:
    """From the world in force to another. Slow: for a thread. `days` of stored traffic are judged, 0: none, as if every
    host were in `as_mode`; None: each in its own of the world after."""
    engines = Engine.compile(before), Engine.compile(after)
    second = int(now.timestamp())
    judged, stretch = _latest(flows, second, days)
    seen = _impact(engines, stretch, judged, as_mode, _about(before, after)) if stretch is not None else None
    used = _fitting(flows, second - IN_USE_S)
    return Foreseen(seen, _sessions(engines, used, second) if used is not None else None)


def _latest(flows: FlowStore, now: int, days: int) -> tuple[int, Conversations | None]:
    """The traffic of so many days, or of half as many until it fits; and how many they are."""
    while days:
        found = _fitting(flows, now - days * _DAY_S)
        if found is not None:
            return days, found
        days //= 2
    return 0, None


def _fitting(flows: FlowStore, since: int) -> Conversations | None:
    """None: it is more than fits."""
    try:
        return flows.read(since, by_hour=False)
    except InputError as error:
        if error.code != "too-much":
            raise
        return None


def _about(before: World, after: World) -> Callable[[Workload], bool]:
    """Whether a change is about a workload: it is in the scope of a policy that changes, or becomes another itself.
    What changes for the whole estate is about everybody."""
    known, becoming = before.inventory.by_uuid, after.inventory.by_uuid
    others = {
        uuid
        for uuid, w in becoming.items()
        if (was := known.get(uuid)) is None or (was.labels, was.mode) != (w.labels, w.mode)
    }
    changed = (policy for _, versions in changed_policies(before.policies, after.policies) for policy in versions)
    scopes = {policy.scope for policy in changed}
    if None in scopes or (before.failsafe, before.names) != (after.failsafe, after.names):
        return lambda _: True
    return lambda w: w.uuid in others or any(scope.matches(w.labels) for scope in scopes if scope is not None)


def _impact(
    engines: tuple[Engine, Engine],
    seen: Conversations,
    days: int,
    as_mode: Mode | None,
    is_about: Callable[[Workload], bool],
) -> api.Impact:
    """What passes today and would not, were the change in force in that mode; and whether by this change."""
    if not len(seen):
        return api.Impact(days, 0)
    before, after = engines
    passes = _judged(before, seen).verdict != _BLOCKED
    total, blocked = (int(seen.connections[rows].sum()) for rows in (slice(None), ~passes))
    was = seen.where(passes)
    stops = _judged(after, was).verdict == _BLOCKED
    if as_mode is None:  # what is told as would-block passes on
        was, stops = was.where(stops), stops[stops]
    now = as_now(was, after.world.inventory)
    ends = np.array([e.workload is not None and is_about(e.workload) for e in now.endpoints], np.bool_)
    about = ends[now.source] | ends[now.destination]
    is_new = stops | _first(engines, now, about) | (_judged(before, was, as_mode).verdict == _ALLOWED)
    result = simulate(after, now, as_mode=as_mode, rank=np.select([is_new, about], [_NEW, _ABOUT], _ELSEWHERE))
    of_rank = (*result.ranked, 0, 0, 0)
    ranks = np.repeat(np.arange(len(of_rank)), of_rank).tolist()
    broken = tuple(_broken(one, rank) for one, rank in zip(result.breaks[:MOST_BROKEN], ranks, strict=False))
    kinds = len(result.breaks) + result.more_breaks
    return api.Impact(days, total, broken, kinds - len(broken), of_rank[_ELSEWHERE], blocked, kinds - of_rank[_NEW])


def _first(engines: tuple[Engine, Engine], now: Conversations, about: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows of which no policy said anything: nothing was in force, or an end comes into a scope and was in none."""
    before, after = (engine.world for engine in engines)
    if not before.policies:
        return about

    def is_held(labels: Mapping[str, str], policies: Iterable[Policy]) -> bool:
        return any(p.scope is not None and p.scope.matches(labels) for p in policies)

    def comes(w: Workload | None) -> bool:
        if w is None or not is_held(w.labels, after.policies):
            return False
        return not is_held(before.inventory.by_uuid.get(w.uuid, w).labels, before.policies)

    ends = np.array([comes(end.workload) for end in now.endpoints], np.bool_)
    return ends[now.source] | ends[now.destination]


def _broken(one: Break, rank: int) -> api.Broken:
    told = (one.source, one.destination, one.service, one.connections, one.last, one.rule, one.example, one.hint)
    return api.Broken(*told, about=rank != _ELSEWHERE, is_new=rank == _NEW)


def _sessions(engines: tuple[Engine, Engine], seen: Conversations, now: int) -> api.LiveSessions:
    """Connections in use that pass now and, in the modes in force, would not."""
    used = seen.where((seen.last >= now - IN_USE_S) & (seen.reported != _WAS_BLOCKED))
    was, becomes = (_judged(engine, used) for engine in engines)
    live = was.verdict != _BLOCKED
    cut = _latest_of_each(used, live & (becomes.verdict == _BLOCKED))
    shown = _live_sessions(engines[1], used, becomes, cut[:MOST_SESSIONS])
    kinds = len(_latest_of_each(used, live))
    return api.LiveSessions(IN_USE_S, kinds, shown, len(cut) - len(shown))


def _latest_of_each(used: Conversations, which: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The row used last of each pair of ends and service, the latest first."""
    rows = np.flatnonzero(which)
    kinds = np.stack([used.source[rows], used.destination[rows], used.point[rows]], axis=1)
    order = np.lexsort((*kinds.T[::-1], -used.last[rows]))
    _, first = np.unique(kinds[order], axis=0, return_index=True)
    return rows[order[np.sort(first)]]


def _live_sessions(
    engine: Engine, used: Conversations, judged: Judgement, rows: NDArray[np.int64]
) -> tuple[api.LiveSession, ...]:
    ends = as_now(used, engine.world.inventory).endpoints

    def one(row: int) -> api.LiveSession:
        source, destination = ends[int(used.source[row])], ends[int(used.destination[row])]
        rule = int(judged.rule[row])
        return api.LiveSession(
            end_text(source),
            end_text(destination),
            format_point(int(used.point[row])),
            owner_of(destination.workload, engine.world.policies),
            owner_of(source.workload, engine.world.policies),
            datetime.fromtimestamp(int(used.last[row]), UTC),
            REASONS[int(judged.reason[row])],
            engine.rules[rule].ref if rule >= 0 else None,
        )

    return tuple(
        sorted(map(one, rows.tolist()), key=lambda s: (-s.last.timestamp(), s.source, s.destination, s.service))
    )


def _judged(engine: Engine, seen: Conversations, as_mode: Mode | None = None) -> Judgement:
    return engine.judge(as_now(seen, engine.world.inventory), as_mode=as_mode)


def owner_of(workload: Workload | None, policies: Iterable[Policy]) -> str:
    """Whose a workload is: the owners of the policies whose scope holds it, else what a label says; empty: nobody's."""
    if workload is None:
        return ""
    scoped = {p.owner for p in policies if p.owner and p.scope is not None and p.scope.matches(workload.labels)}
    said = (workload.labels[key] for key in OWNER_LABELS if key in workload.labels)
    return ", ".join(sorted(scoped)) or next(said, "")


def failsafe_views(world: World) -> tuple[api.FailsafeView, ...]:
    """What always passes, whatever policy says: shown in every plan."""
    return tuple(
        api.FailsafeView(one.direction, tuple(format_ranges(one.remote)), tuple(format_services(one.services)))
        for one in world.failsafe
    )


def digest_of(diff: api.DiffView, *more: object) -> str:
    """What a plan goes by: another one as soon as anything else opens or closes."""
    said = (diff.opened, diff.closed, diff.boxes, diff.more, more)
    return hashlib.sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()[:16]


def same_plan(shown: str, now: str) -> None:
    """Raises InputError `plan-changed`: the plan that somebody looked at is not what would be done."""
    if shown and shown != now:
        message = f"the plan `{shown}` is not what would be done now: that is `{now}`"
        raise InputError("plan-changed", message, help="the estate moved on; look at the plan again")
