"""When the dates and hours of rules hold: the few moments at which asking shows everything that ever passes.

A *span* is the `until` and `within` of one rule. Rules with equal spans hold together, so a moment is known by the
spans that hold then. An allow only ever adds: what passes at a moment by one span passes whenever fewer spans hold and
that one still does. So of all moments to come only those with the fewest spans are worth asking about.

INVARIANT: every moment returned is real, at or after the one asked from; no combination of spans is made up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from ringfence.core.engine.rules import Facts, holds, window_edges
from ringfence.core.policy.model import Conditions

Held = frozenset[Conditions]
_YEAR = 366


def span_of(conditions: Conditions) -> Conditions:
    """Only what time decides of a rule's conditions."""
    return Conditions(until=conditions.until, within=conditions.within)


def is_timed(conditions: Conditions) -> bool:
    return conditions.until is not None or conditions.within is not None


def holds_at(span: Conditions, at: datetime) -> bool:
    return holds(span, "destination", Facts(at), peer_enforces=True)


def moments(spans: Iterable[Conditions], at: datetime, *, keep_all: bool = False) -> list[datetime]:
    """`at`, then later moments in order: of each span the ones where the fewest others hold with it.

    `keep_all` keeps every combination of spans there is, for rules that do not merely add.
    """
    wanted = sorted({span_of(c) for c in spans}, key=str)
    first: dict[Held, datetime] = {}
    for moment in sorted({at, *_candidates(wanted, at)}):
        first.setdefault(frozenset(span for span in wanted if holds_at(span, moment)), moment)
    kept = [moment for held, moment in first.items() if moment == at or keep_all or _is_least(held, first)]
    return sorted(kept)


def _is_least(held: Held, every: Iterable[Held]) -> bool:
    """Whether nothing holds, or some span of these holds nowhere with fewer others."""
    fewer = [other for other in every if other < held]
    return not fewer or any(not any(span in other for other in fewer) for span in held)


def _candidates(spans: list[Conditions], at: datetime) -> Iterator[datetime]:
    """Every time to come at which some span may begin or cease to hold, as far as combinations may differ."""
    windows = list({span.within for span in spans if span.within is not None})
    days = {span.until for span in spans if span.until is not None and at.date() <= span.until < date.max}
    begins = [at, *(datetime.combine(day + timedelta(days=1), time(), UTC) for day in sorted(days))]
    zones = {window.zone for window in windows}
    if len(zones) > 1:
        begins += [jump for begin in begins for zone in zones for jump in _changes_of_clock(ZoneInfo(zone), begin)]
    for begin in begins:
        yield begin
        yield from (edge for window in windows for edge in window_edges(window, begin) if edge >= at)


def _changes_of_clock(zone: ZoneInfo, begin: datetime) -> Iterator[datetime]:
    """The days of the coming year on which a zone's offset has changed: two zones' windows then meet otherwise."""
    last = min(_YEAR, (date.max - begin.date()).days - 1)
    days = [begin + timedelta(days=n) for n in range(max(0, last))]
    offsets = [day.astimezone(zone).utcoffset() for day in days]
    return (day for day, one, other in zip(days[1:], offsets, offsets[1:], strict=False) if one != other)


# ---- in words --------------------------------------------------------------------------------------------------------


def say_held(span: Conditions) -> str:
    """`within mon-fri 08:00-18:00 UTC`, `until 2027-03-01`, or both."""
    said = [f"within {span.within.text}"] if span.within is not None else []
    said += [f"until {span.until}"] if span.until is not None else []
    return " and ".join(said)


def say_not_held(span: Conditions, at: datetime) -> str:
    """Why a span does not hold: `after 2027-03-01`, else `outside mon-fri 08:00-18:00 UTC`."""
    if span.until is not None and at.date() > span.until:
        return f"after {span.until}"
    return f"outside {span.within.text}" if span.within is not None else ""
