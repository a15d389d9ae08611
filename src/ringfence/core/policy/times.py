"""Dates, time windows and moments as the language writes them."""

from __future__ import annotations

import re
from datetime import date, datetime
from zoneinfo import ZoneInfo, available_timezones

from ringfence.core.errors import TimeError
from ringfence.core.identity.workload import utc
from ringfence.core.policy.model import DAYS, Within
from ringfence.core.policy.report import Report
from ringfence.core.policy.suggest import did_you_mean
from ringfence.core.policy.yaml import Node

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WINDOW = re.compile(r"(?P<days>\S+)\s+(?P<start>\d\d:\d\d)\s*-\s*(?P<end>\d\d:\d\d)\s+(?P<zone>\S+)", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_MACHINE_ZONES = frozenset({"localtime", "posixrules", "Factory"})
"""Names that mean another zone on every machine."""
EVERY_DAY = "daily"


def read_until(report: Report, node: Node, text: str) -> date | None:
    """`2027-03-01` -> date. Reports `bad-until`."""
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError as error:
        report.error("bad-until", node, f"`{text}` is no day of the calendar: {error}")
        return None
    report.error("bad-until", node, f"`{text}` is not a date")
    return None


def read_moment(report: Report, node: Node, text: str) -> str | None:
    """An RFC 3339 time, kept as text. Reports `bad-time`."""
    try:
        if _MOMENT.fullmatch(text):
            utc(datetime.fromisoformat(text.upper()))
            return text
    except TimeError as error:
        report.error("bad-time", node, error.message)
        return None
    except ValueError as error:
        report.error("bad-time", node, f"`{text}` is no moment: {error}")
        return None
    report.error("bad-time", node, f"`{text}` is not an RFC 3339 time with an offset")
    return None


def read_within(report: Report, node: Node, text: str) -> Within | None:
    """`mon-fri 08:00-18:00 Europe/Berlin` -> Within. Reports `bad-within` or `unknown-zone`."""
    match = _WINDOW.fullmatch(text)
    if match is None:
        report.error("bad-within", node, f"`{text}` is not days, hours and a time zone")
        return None
    days = _days(match["days"].lower())
    start, end = _minute(match["start"]), _minute(match["end"])
    if days is None:
        names = f"{', '.join(DAYS)} or {EVERY_DAY}"
        report.error("bad-within", node, f"`{match['days']}` does not name days", f"write {names}, as in `mon,wed-fri`")
        return None
    if start is None or end is None or start == 24 * 60:
        help_ = "write hours from 00:00 to 23:59; the end may be 24:00"
        report.error("bad-within", node, f"`{match['start']}-{match['end']}` is not a span of hours", help_)
        return None
    if not _is_zone(match["zone"]):
        help_ = did_you_mean(match["zone"], available_timezones())
        report.error("unknown-zone", node, f"`{match['zone']}` is no time zone", help_)
        return None
    canonical = f"{match['days'].lower()} {match['start']}-{match['end']} {match['zone']}"
    return Within(days, start, end, match["zone"], canonical)


def _days(text: str) -> tuple[int, ...] | None:
    """`mon,wed-fri` -> (0, 2, 3, 4); a range may wrap round the week's end."""
    if text == EVERY_DAY:
        return tuple(range(7))
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            return None
        start, end = DAYS.index(first), DAYS.index(last or first)
        days.update((start + offset) % 7 for offset in range((end - start) % 7 + 1))
    return tuple(sorted(days))


def _minute(text: str) -> int | None:
    hour, minute = int(text[:2]), int(text[3:])
    return hour * 60 + minute if minute < 60 and (hour < 24 or (hour, minute) == (24, 0)) else None


def _is_zone(name: str) -> bool:
    if name in _MACHINE_ZONES:
        return False
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError; a folder's name is an OSError
        return False
    return True
