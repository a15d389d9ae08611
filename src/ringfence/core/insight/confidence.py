"""How much of the traffic has been seen: unseen mass, calendar coverage, and whether to enforce yet.

A *need* is what a rule is written for; it was met on some days of the watch and not on others. Needs met on one day
only tell how many were never met (Good 1953; Chao 2 for incidence data, Chao et al. 2014, "Rarefaction and
extrapolation with Hill numbers", Ecological Monographs 84). Needs too rare for a rule count as well, or the
estimate would flatter itself.

INVARIANT: the verdict is `ready` only if nothing is listed under `why_not`.
It cannot see what happens less than once a watch by its nature (a disaster drill): the calendar says so instead.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

HOUR, DAY = 3600, 86_400
WEEK_HOURS = 168
FEWEST_DAYS = 14
"""Two weeks: every weekly job twice."""
LEAST_WEEK_SHARE = 0.9
MOST_FALSE_BLOCKS = 0.5
"""Expected new needs a week that may still be unmet when enforcing."""
MOST_UNSEEN_SHARE = 0.01


class Calendar(msgspec.Struct, frozen=True):
    """Which part of the calendar was watched. Times are UTC."""

    first: datetime
    last: datetime
    days: int
    """Days with any traffic."""
    span_days: float
    week_hours: int
    """Of the 168 hours of a week, how many were watched at least once."""
    nights: int
    """Nights (22:00 to 06:00)."""
    weekends: int
    month_ends: int
    """Turns of the month: a last or first day of a month counts for its turn."""
    next_month_end: datetime


class Confidence(msgspec.Struct, frozen=True):
    """What learning so far is worth, for one application or for all."""

    subject: str
    needs: int
    """Distinct needs seen."""
    once: int
    """Needs met on one day only."""
    unseen_needs: float
    """Estimated needs never met so far (Chao 2, a lower bound)."""
    unseen_share: float
    """Estimated share of tomorrow's met needs that will be new (Good-Turing)."""
    false_blocks_a_week: float
    """Expected needs in the next seven days that no rule covers, were it enforced now."""
    calendar: Calendar
    verdict: Literal["ready", "not yet"]
    why_not: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()
    """What would make it ready, in step with `why_not`."""


def calendar_of(hours: Ids) -> Calendar:
    """The calendar of a watch from the starts of the hours in which anything was seen."""
    distinct = np.unique(hours // HOUR)
    if not len(distinct):
        nothing = datetime.fromtimestamp(0, UTC)
        return Calendar(nothing, nothing, 0, 0.0, 0, 0, 0, 0, nothing)
    first, last = _time(distinct[0]), _time(distinct[-1] + 1)
    of_day, day = distinct % 24, distinct // 24
    weekday = (day + 3) % 7
    night = np.unique(np.where(of_day < 6, day - 1, day)[(of_day >= 22) | (of_day < 6)])
    weekend = np.unique((day[weekday >= 5] + 3) // 7)
    turns = {_turn(datetime.fromtimestamp(int(d) * DAY, UTC)) for d in np.unique(day).tolist()} - {None}
    return Calendar(
        first, last, len(np.unique(day)), (last - first) / timedelta(days=1),
        len(np.unique(distinct % WEEK_HOURS)), len(night), len(weekend), len(turns), _next_turn(last),
    )  # fmt: skip


def assess(subject: str, need: Ids, hour: Ids, calendar: Calendar, *, blocked_now: int = 0) -> Confidence:
    """Confidence from rows of (need, hour it was met); `blocked_now` are needs already known to be uncovered."""
    met = np.unique(np.stack([need, hour // DAY], axis=1), axis=0)
    days_met = np.unique(met[:, 0], return_counts=True)[1] if len(met) else np.zeros(0, np.int64)
    once, twice = int((days_met == 1).sum()), int((days_met == 2).sum())
    days = max(1, calendar.days)
    unseen = chao2(once, twice, days)
    share = good_turing(once, twice, int(days_met.sum()), days) if len(days_met) else 1.0
    expected = extrapolate(once, unseen, days, ahead=7)
    reasons = _reasons(calendar, share, expected, blocked_now, is_empty=not len(days_met))
    return Confidence(
        subject, len(days_met), once, round(unseen, 3), round(share, 6), round(expected, 3), calendar,
        "not yet" if reasons else "ready", tuple(why for why, _ in reasons), tuple(step for _, step in reasons),
    )  # fmt: skip


def chao2(once: int, twice: int, units: int) -> float:
    """Lower bound of the species never met, from those met in one and in two of the sampling units (Chao 1987)."""
    factor = (units - 1) / units if units > 1 else 1.0
    if twice:
        return factor * once**2 / (2 * twice)
    return factor * once * (once - 1) / 2


def good_turing(once: int, twice: int, incidences: int, units: int) -> float:
    """The chance that the next incidence is a new species (Chao and Jost 2012, incidence form of Good-Turing)."""
    if not incidences or not once:
        return 0.0
    if units <= 1:
        return once / incidences
    rest = (units - 1) * once / ((units - 1) * once + 2 * max(twice, 1))
    return once / incidences * rest


def extrapolate(once: int, unseen: float, units: int, *, ahead: int) -> float:
    """New species expected in `ahead` more units (Chao et al. 2014, equation 12 for incidence data)."""
    if not once:
        return 0.0
    if unseen <= 0:
        return once / units * ahead
    return unseen * (1 - max(0.0, 1 - once / (units * unseen + once)) ** ahead)


def _reasons(
    calendar: Calendar, share: float, expected: float, blocked_now: int, *, is_empty: bool
) -> list[tuple[str, str]]:
    """(why not, what to do), most telling first."""
    out: list[tuple[str, str]] = []
    if is_empty:
        return [("no traffic was seen", "check that its hosts report flows")]
    if blocked_now:
        out.append((f"{blocked_now:,} connections seen are not covered", "label their ends, or allow or accept them"))
    if calendar.days < FEWEST_DAYS:
        missing = FEWEST_DAYS - calendar.days
        out.append((f"watched on {calendar.days} of {FEWEST_DAYS} days", f"watch {missing} more days"))
    if calendar.week_hours < LEAST_WEEK_SHARE * WEEK_HOURS:
        out.append((f"watched {calendar.week_hours} of the week's 168 hours", "watch nights and weekends too"))
    if not calendar.month_ends:
        until = calendar.next_month_end.date().isoformat()
        out.append(("no turn of the month was watched", f"watch until {until}"))
    if expected > MOST_FALSE_BLOCKS:
        out.append((f"{expected:.1f} new needs a week are expected", "watch on until new needs become rare"))
    if share > MOST_UNSEEN_SHARE:
        out.append((f"{share:.2%} of what is met in a day is still new", "watch on until it is below 1 %"))
    return out


def _turn(day: datetime) -> tuple[int, int] | None:
    """The month whose start this day belongs to, if it is its first day or the day before."""
    after = day + timedelta(days=1)
    if day.day == 1:
        return day.year, day.month
    return (after.year, after.month) if after.day == 1 else None


def _next_turn(at: datetime) -> datetime:
    """The end of the first day of the next month."""
    return (at.replace(day=1, hour=0, minute=0, second=0) + timedelta(days=32)).replace(day=1) + timedelta(days=1)


def _time(hour_number: int | np.int64) -> datetime:
    return datetime.fromtimestamp(int(hour_number) * HOUR, UTC)
