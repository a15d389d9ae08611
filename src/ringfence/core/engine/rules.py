"""Rules as the engine numbers them, and when the conditions of an allow hold.

INVARIANT: a rule's number is its rank by `policy/name`, so the lowest set bit of a rule bitset is the rule to name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from ringfence.core.policy.model import Conditions, Policy, Rule, Within

End = Literal["source", "destination"]


@dataclass(frozen=True)
class RuleRef:
    """A rule with the policy it belongs to; `ref` is `policy/name`."""

    ref: str
    policy: Policy
    rule: Rule


class Facts(msgspec.Struct, frozen=True):
    """What is stated about a connection beyond its ends and service. Unstated does not hold."""

    at: datetime
    mutual_tls: bool = False
    from_unit: str | None = None
    to_unit: str | None = None
    holds_all: bool = False
    """Take every condition as holding: what a rule may ever allow."""


def is_same(one: RuleRef, other: RuleRef | None) -> bool:
    """Whether both say the same in the same words, in the same scope."""
    return other is not None and one.rule == other.rule and one.policy.scope == other.policy.scope


def number_rules(policies: Sequence[Policy]) -> tuple[RuleRef, ...]:
    """All rules, ranked by `policy/name`."""
    refs = (RuleRef(policy.ref(rule), policy, rule) for policy in policies for rule in policy.rules)
    return tuple(sorted(refs, key=lambda r: r.ref))


def is_conditional(conditions: Conditions) -> bool:
    return conditions != Conditions()


def holds(conditions: Conditions, end: End, facts: Facts, *, peer_enforces: bool) -> bool:
    """Whether every condition holds as `end` sees it.

    A process is checked at its own end; the other end believes it only when the checking end is controlled and
    enforcing in that direction (`peer_enforces`).
    """
    if facts.holds_all:
        return True
    return (
        (not conditions.mutual_tls or facts.mutual_tls)
        and _process_holds(conditions.from_process, facts.from_unit, end == "source", peer_enforces=peer_enforces)
        and _process_holds(conditions.to_process, facts.to_unit, end == "destination", peer_enforces=peer_enforces)
        and (conditions.until is None or facts.at.astimezone(UTC).date() <= conditions.until)
        and (conditions.within is None or is_within(conditions.within, facts.at))
    )


def _process_holds(wanted: str | None, stated: str | None, is_own_end: bool, *, peer_enforces: bool) -> bool:
    if wanted is None:
        return True
    return stated == wanted if is_own_end else peer_enforces


def unstated(conditions: Conditions, end: End, facts: Facts, *, peer_enforces: bool) -> Iterator[str]:
    """The conditions nobody stated that, stated, would let the allow hold here: what `unless` reports."""
    asks_from = conditions.from_process if end == "source" and facts.from_unit is None else None
    asks_to = conditions.to_process if end == "destination" and facts.to_unit is None else None
    units = {"from_unit": asks_from or facts.from_unit, "to_unit": asks_to or facts.to_unit}
    stated = msgspec.structs.replace(facts, mutual_tls=True, **units)
    if not holds(conditions, end, stated, peer_enforces=peer_enforces):
        return
    if conditions.mutual_tls and not facts.mutual_tls:
        yield "mutual-tls"
    if asks_from:
        yield f"from_process={asks_from}"
    if asks_to:
        yield f"to_process={asks_to}"


def is_within(window: Within, at: datetime) -> bool:
    """Whether the local time of the window's zone is inside it; past midnight it belongs to the day it began."""
    local = _inland(at).astimezone(ZoneInfo(window.zone))
    minute, weekday = local.hour * 60 + local.minute, local.weekday()
    if window.start_minute < window.end_minute:
        return weekday in window.days and window.start_minute <= minute < window.end_minute
    began_yesterday = (weekday - 1) % 7 in window.days and minute < window.end_minute
    return began_yesterday or (weekday in window.days and minute >= window.start_minute)


def _inland(at: datetime) -> datetime:
    """The same weekday and hour, a week away from an end of the calendar: no zone's offset leads past it."""
    if at.year in (date.min.year, date.max.year):
        return at + timedelta(days=7 if at.year == date.min.year else -7)
    return at


def next_change(conditions: Conditions, at: datetime) -> datetime | None:
    """The first time after `at` at which a date or window may flip; None when it never will again."""
    times: list[datetime] = []
    if conditions.until is not None and at.astimezone(UTC).date() <= conditions.until < date.max:
        times.append(datetime.combine(conditions.until + timedelta(days=1), time(), UTC))
    if conditions.within is not None:
        times += window_edges(conditions.within, at)
    return min((t for t in times if t > at), default=None)


def window_edges(window: Within, at: datetime) -> list[datetime]:
    """Every time in the next days at which the window may open or shut: its edges, both passes of a repeated hour, and
    the moments at which the zone's clock jumps.
    """
    if not _FIRST_DAY < at.date() < _LAST_DAY:
        return [at + timedelta(days=1)] if at.date() <= _FIRST_DAY else []
    zone = ZoneInfo(window.zone)
    today: date = at.astimezone(zone).date()
    minutes = (window.start_minute % 1440, window.end_minute % 1440)
    days = [today + timedelta(days=offset) for offset in range(-1, _WEEK)]
    walls = [datetime.combine(day, time(m // 60, m % 60), zone) for day in days for m in minutes]
    edges = [wall.replace(fold=fold).astimezone(UTC) for wall in walls for fold in (0, 1)]
    return edges + _clock_jumps(zone, at)


def _clock_jumps(zone: ZoneInfo, at: datetime) -> list[datetime]:
    """When the zone's offset changes in the next days; all such changes fall on a UTC quarter hour."""
    start = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    steps = [start + timedelta(minutes=15 * n) for n in range(_WEEK * 24 * 4)]
    offsets = [step.astimezone(zone).utcoffset() for step in steps]
    return [step for step, before, after in zip(steps[1:], offsets, offsets[1:], strict=False) if before != after]


_WEEK = 9
"""Days looked ahead: a window recurs within a week, and an edge of it lies within the day before or after."""
_FIRST_DAY, _LAST_DAY = date.min + timedelta(days=2), date.max - timedelta(days=_WEEK + 2)
"""Between them every edge looked at is on the calendar; before them ask again the next day, after them never."""
