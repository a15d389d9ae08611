"""The alerts: occurrences grouped, counted and judged, and what people are told about them.

    note(occurrence)            something happened
    present(kind, occurrences)  a condition: all that is so now; what is missing is over
    due(now)                    what to tell now; call it about once a second
    changed()                   records to store since the last call

Alike occurrences (kind, rule, source identity, destination identity, service; else kind and subject) are one alert. A
source that reaches for many destinations or services is one alert of its own, which takes in those it caused alone
since it began to. What was there before goes on beside it, and so does what a rule made and people were told of.

What to tell is a function of the alert as it is and as it was last told (`_news`), so whatever happened between two
notices needs no queue and cannot be told in the wrong order.

INVARIANT: every occurrence is in exactly one alert's count. Notices are bounded, counts are not: what is held back is
told as a number. No clock: times are given, and may come late or out of order.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec

from ringfence.controller.alerts.alert_case import (
    EXAMPLES,
    OVERFLOW,
    Case,
    Told,
    broad_key_of,
    case_of,
    exemplify,
    explain_commands,
    is_open_event,
    key_of,
    new_case,
    notice_of,
    plausible,
    record_of,
    summary_of,
    take_verdict,
)  # fmt: skip
from ringfence.controller.alerts.breadth import Breadth, Scan
from ringfence.controller.alerts.occurrences import CONDITIONS, Kind, Occurrence, plain
from ringfence.core.errors import InputError
from ringfence.ports.notifier import SEVERITIES, News, Notice
from ringfence.ports.state import Alert, AlertSeverity

QUIET = MappingProxyType(
    {"violation": timedelta(days=1), "policy-change": timedelta(days=1), "agent": timedelta(days=7)}
)
"""After how long without news an alert closes by itself. Others end with their condition, or when somebody says so."""


class Limits(msgspec.Struct, frozen=True):
    """What people are spared. Windows are consecutive, not sliding."""

    settle_s: float = 2.0
    """How long a new violation waits, so that a scan is seen to be one before its parts are told."""
    same_s: float = 60.0
    """At least so long between two notices of one alert, unless it became more severe."""
    window_s: float = 60.0
    most: int = 30
    """Notices in a window."""
    most_of_kind: int = 10
    """Of one kind in a window: a storm of one kind leaves room for the others."""
    reserve: int = 10
    """So many more of either, for what is critical."""
    again_s: float = 3600.0
    """An alert nobody acknowledged, and that goes on, is told again after this, then twice this, up to a day."""
    changes: int = 6
    flap_s: float = 3600.0
    """A condition that came or went `changes` times in `flap_s` is flapping."""
    steady_s: float = 600.0
    """Flapping is over after so long without a change."""
    open_most: int = 10_000
    """Alerts about events at once; beyond, they are counted in one alert of their kind."""
    reopen_s: float = 7 * 86400.0
    """A closed alert that comes back in this time is the same one."""
    sweep_s: float = 10.0


class _Window(NamedTuple):
    start: datetime
    sent: Counter[str]
    held: Counter[str]


class Alerts:
    """Every alert that is open, and those closed lately."""

    def __init__(self, limits: Limits | None = None, *, breadth: Breadth | None = None) -> None:
        self._limits = limits or Limits()
        self._breadth = breadth or Breadth()
        self._cases: dict[tuple[str, str], Case] = {}
        self._by_id: dict[str, Case] = {}
        self._there: dict[tuple[str, str], set[str]] = {}
        """(kind, subject) -> keys of the conditions that are so."""
        self._unstored: dict[str, Case] = {}
        self._pending: dict[str, Case] = {}
        """Of which there may be something to tell."""
        self._events_open = 0
        self._window: _Window | None = None
        self._swept: datetime | None = None

    # ---- what happens ------------------------------------------------------------------------------------------------

    def note(self, occurrence: Occurrence, now: datetime) -> str:
        """Something happened: the id of the alert that counts it."""
        scan = self._breadth.note(occurrence, now) if occurrence.kind == "violation" else None
        if scan is not None and scan.is_new:
            self._broaden(scan.since, occurrence, now)
        case = self._case(occurrence, self._key(occurrence, scan), now)
        if case.state == "closed":
            self._open(case, now)
        self._count(case, occurrence, now)
        self._touch(case)
        return case.id

    def present(
        self, kind: Kind, occurrences: Iterable[Occurrence], now: datetime, *, subject: str | None = None
    ) -> None:
        """All of a condition that is so now, of one subject or of everybody. Those not listed are over."""
        if kind not in CONDITIONS:
            raise ValueError(f"{kind} is no condition")
        listed = {key_of(one): one for one in occurrences}
        places = (
            [(kind, plain(subject))] if subject is not None else [place for place in self._there if place[0] == kind]
        )
        for key in [key for place in places for key in self._there.get(place, ()) if key not in listed]:
            self._went(self._cases[kind, key], now)
        for key, occurrence in listed.items():
            self._is_so(occurrence, key, now)

    def acknowledge(self, id: str, by: str, now: datetime, *, why: str = "") -> None:
        """Somebody looks after it: no more reminders, unless it gets worse. Raises InputError `unknown-alert`,
        `alert-closed`.
        """
        case = self._find(id)
        if case.state == "closed":
            raise InputError("alert-closed", f"alert `{id}` is closed", help="it opens again when it comes back")
        case.state, case.handled_by, case.why, case.touched = "acknowledged", by, why, now
        self._unstored[case.id] = case

    def resolve(self, id: str, by: str, now: datetime, *, why: str = "") -> None:
        """Somebody says it is over. It opens again when it comes back. Raises InputError `unknown-alert`."""
        case = self._find(id)
        if case.state == "closed":
            return
        case.handled_by, case.why, case.is_flapping = by, why, False
        self._close(case, now)

    # ---- what is told ------------------------------------------------------------------------------------------------

    def due(self, now: datetime) -> tuple[Notice, ...]:
        """What to tell now, the most severe first."""
        if self._swept is None or now >= self._swept + _s(self._limits.sweep_s):
            self._sweep(now)
        out = list(self._rolled(now))
        window = self._window
        assert window is not None
        ready = [(case, news) for case in self._pending.values() if (news := self._news(case, now)) != "later"]
        for case, news in sorted(ready, key=lambda pair: _urgency(pair[0])):
            del self._pending[case.id]
            if news == "nothing":
                continue
            if self._has_room(window, case):
                window.sent[case.kind] += 1
                out.append(notice_of(case, news, now))
            else:
                window.held[case.kind] += 1
            self._tell(case, news, now)
        return tuple(out)

    def changed(self) -> tuple[Alert, ...]:
        """Records of all that changed since the last call. Those closed come first: a key is open only once."""
        cases = sorted(self._unstored.values(), key=lambda case: case.state != "closed")
        self._unstored = {}
        return tuple(record_of(case) for case in cases)

    def restore(self, records: Iterable[Alert]) -> None:
        """Go on from what was stored, in a book that is empty. Of one key the open or else the latest record counts.

        Raises StateError `state-damaged`.
        """
        for record in sorted(records, key=lambda record: (record.state != "closed", record.last)):
            case = case_of(record)
            self._cases[case.kind, case.key] = self._by_id[case.id] = case
        for case in self._cases.values():
            self._events_open += is_open_event(case)
            self._pending[case.id] = case
            if case.is_present:
                self._there.setdefault((case.kind, case.subject), set()).add(case.key)

    def __iter__(self) -> Iterator[Alert]:
        """Every alert known here, the latest first."""
        return iter(sorted((record_of(case) for case in self._cases.values()), key=lambda a: a.last, reverse=True))

    def open_by_kind(self) -> Counter[tuple[str, str]]:
        """(kind, severity) -> how many are not closed."""
        return Counter((case.kind, case.severity) for case in self._cases.values() if case.state != "closed")

    # ---- one alert ---------------------------------------------------------------------------------------------------

    def _case(self, occurrence: Occurrence, key: str, now: datetime) -> Case:
        kind = occurrence.kind
        known = self._cases.get((kind, key))
        if known is not None:
            return known
        if kind not in CONDITIONS and self._events_open >= self._limits.open_most:
            key = OVERFLOW
            known = self._cases.get((kind, key))
        if known is None:
            known = new_case(occurrence, key, now)
            self._cases[kind, key] = self._by_id[known.id] = known
            self._events_open += is_open_event(known)
        return known

    def _key(self, occurrence: Occurrence, scan: Scan | None) -> str:
        """Of the alert that counts it: of a scan all but what has an alert of its own that is open."""
        own = key_of(occurrence)
        if scan is None:
            return own
        known = self._cases.get((occurrence.kind, own))
        return own if known is not None and known.state != "closed" else broad_key_of(occurrence)

    def _count(self, case: Case, occurrence: Occurrence, now: datetime) -> None:
        at = plausible(occurrence.at, now)
        if not case.count:  # nothing of it is its own any more, or yet
            case.first = case.last = at
        case.first, case.last = min(case.first, at), max(case.last, at)
        case.count += occurrence.count
        case.touched = now
        take_verdict(case, occurrence, at)
        source = occurrence.source.name if occurrence.source else ""
        if source and source not in case.sources and len(case.sources) < EXAMPLES:
            case.sources.append(source)
        exemplify(case, occurrence)
        self._judge(case, occurrence)

    def _judge(self, case: Case, occurrence: Occurrence) -> None:
        """Severity only rises while an alert is open; what got worse needs to be looked at again."""
        severity = _raised(occurrence.severity, by=occurrence.is_jewel + case.is_broad)
        if SEVERITIES.index(severity) <= SEVERITIES.index(case.severity):
            return
        case.severity = severity
        if case.state == "acknowledged":
            case.state = "open"

    def _open(self, case: Case, now: datetime) -> None:
        case.state, case.opened, case.part_of, case.handled_by, case.why = "open", now, "", "", ""
        case.severity, case.reopened, case.earlier = "info", case.reopened + 1, case.count
        self._events_open += is_open_event(case)

    def _close(self, case: Case, now: datetime) -> None:
        self._events_open -= is_open_event(case)
        case.state, case.touched = "closed", now
        self._touch(case)

    def _touch(self, case: Case) -> None:
        self._unstored[case.id] = case
        self._pending[case.id] = case

    def _find(self, id: str) -> Case:
        case = self._by_id.get(id)
        if case is None:
            raise InputError("unknown-alert", f"there is no alert `{id}`", help="`ringfence alerts` lists them")
        return case

    # ---- conditions --------------------------------------------------------------------------------------------------

    def _is_so(self, occurrence: Occurrence, key: str, now: datetime) -> None:
        case = self._case(occurrence, key, now)
        if case.is_present:
            before = case.severity
            self._judge(case, occurrence)
            if case.severity != before:
                case.message = occurrence.message
                self._touch(case)
            return
        case.is_present = True
        self._there.setdefault((case.kind, case.subject), set()).add(key)
        if case.state == "closed":
            self._open(case, now)
        case.message = occurrence.message
        self._count(case, occurrence, now)
        self._changed(case, now)

    def _went(self, case: Case, now: datetime) -> None:
        case.is_present, case.last = False, now
        keys = self._there[case.kind, case.subject]
        keys.discard(case.key)
        if not keys:
            del self._there[case.kind, case.subject]
        self._changed(case, now)
        if not case.is_flapping and case.state != "closed":
            self._close(case, now)

    def _changed(self, case: Case, now: datetime) -> None:
        case.changes = [*case.changes, now][-self._limits.changes :]
        is_often = len(case.changes) == self._limits.changes
        case.is_flapping = is_often and now - case.changes[0] <= _s(self._limits.flap_s)
        self._touch(case)

    # ---- breadth -----------------------------------------------------------------------------------------------------

    def _broaden(self, since: datetime, occurrence: Occurrence, now: datetime) -> None:
        """A scan began: one alert stands for it, and takes in what the same source alone has caused since."""
        source = occurrence.source
        assert source is not None
        case = self._case(occurrence, broad_key_of(occurrence), now)
        if case.key == OVERFLOW:
            return
        if case.state == "closed":
            self._open(case, now)
        case.is_broad, case.destination, case.destination_identity, case.service, case.rule = True, "", "", "", ""
        case.destination_address = ""
        quarantine = (f"ringfence quarantine {shlex.quote(source.name)}",) if source.is_workload else ()
        case.commands = tuple(dict.fromkeys((*quarantine, *explain_commands(occurrence))))
        for other in [one for one in self._cases.values() if _is_part(one, source.name, since)]:
            self._take_in(other, case)
            self._judge(case, msgspec.structs.replace(occurrence, severity=other.severity, is_jewel=False))
            self._close(other, now)

    @staticmethod
    def _take_in(other: Case, case: Case) -> None:
        """Its occurrences since it was opened are the other's from now on."""
        began = other.first if not other.earlier or other.opened is None else other.opened
        case.first, case.last = (
            (min(case.first, began), max(case.last, other.last)) if case.count else (began, other.last)
        )
        case.count += other.count - other.earlier
        other.count, other.part_of, other.told = other.earlier, case.id, None

    # ---- what to tell ------------------------------------------------------------------------------------------------

    def _news(self, case: Case, now: datetime) -> News | Literal["later", "nothing"]:
        """What there is to tell of an alert, given how it was last told."""
        told, is_open = case.told, case.state != "closed"
        if case.part_of:
            return "nothing"
        if told is None:
            if not is_open:
                return "nothing"
            waits = case.kind == "violation" and now < (case.opened or now) + _s(self._limits.settle_s)
            return "later" if waits else "opened"
        if is_open and told.is_open and SEVERITIES.index(case.severity) > SEVERITIES.index(told.severity):
            return "raised"
        if now < told.at + _s(self._limits.same_s):
            return "later"
        if case.is_flapping:
            return "nothing" if told.is_flapping else "flapping"
        if is_open != told.is_open:
            return "reopened" if is_open else "resolved"
        has_settled = is_open and told.is_flapping
        return "again" if has_settled or self._is_reminder_due(case, told, now) else "nothing"

    def _is_reminder_due(self, case: Case, told: Told, now: datetime) -> bool:
        goes_on = case.count > told.count or case.is_present
        pause = min(self._limits.again_s * 2.0 ** min(told.times - 1, 16), 86400.0)
        return case.state == "open" and goes_on and now >= told.at + _s(pause)

    def _has_room(self, window: _Window, case: Case) -> bool:
        slack = self._limits.reserve if case.severity == "critical" else 0
        is_kind_heard = window.sent[case.kind] >= self._limits.most_of_kind + slack
        return not is_kind_heard and window.sent.total() < self._limits.most + slack

    def _tell(self, case: Case, news: News, now: datetime) -> None:
        told, is_open = case.told, case.state != "closed"
        times = told.times + 1 if told and news in ("again", "raised") else 1
        case.told = Told(now, is_open, case.severity, case.count, case.is_flapping, times)
        case.notices += 1
        self._unstored[case.id] = case

    def _rolled(self, now: datetime) -> Iterator[Notice]:
        """Begin a new window when it is time; what the last one held back is told as numbers."""
        if self._window is not None and now < self._window.start + _s(self._limits.window_s):
            return
        last, self._window = self._window, _Window(now, Counter(), Counter())
        if last is not None and last.held:
            yield summary_of(last.held, last.start, now)

    def _sweep(self, now: datetime) -> None:
        """What only time does: flapping ends, silence closes, reminders fall due, and the old is forgotten."""
        self._swept = now
        self._breadth.forget(now)
        for case in list(self._cases.values()):
            quiet = QUIET.get(case.kind)
            if case.state == "closed":
                self._forget(case, now)
            elif case.is_flapping and now >= case.changes[-1] + _s(self._limits.steady_s):
                self._settle(case, now)
            elif quiet is not None and now >= case.touched + quiet and case.id not in self._pending:
                self._close(case, now)
            elif case.told is not None and self._is_reminder_due(case, case.told, now):
                self._pending[case.id] = case

    def _settle(self, case: Case, now: datetime) -> None:
        """A condition stopped coming and going: it is there, or it is over."""
        case.is_flapping, case.changes = False, []
        self._touch(case)
        if not case.is_present:
            self._close(case, now)

    def _forget(self, case: Case, now: datetime) -> None:
        if not case.is_present and now >= case.touched + _s(self._limits.reopen_s):
            del self._cases[case.kind, case.key], self._by_id[case.id]


def _is_part(case: Case, source: str, since: datetime) -> bool:
    """Whether a scan takes it in: it is of this source alone, since the scan began; unless a rule made it and people
    were told."""
    if case.state == "closed" or case.is_broad or case.sources != [source] or (case.opened or case.first) < since:
        return False
    return case.told is None or "/" not in case.rule


def _raised(severity: AlertSeverity, *, by: int) -> AlertSeverity:
    return SEVERITIES[min(SEVERITIES.index(severity) + by, len(SEVERITIES) - 1)]


def _urgency(case: Case) -> tuple[int, datetime, str]:
    return (-SEVERITIES.index(case.severity), case.first, case.id)


def _s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)
