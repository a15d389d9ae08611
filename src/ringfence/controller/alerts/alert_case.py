"""One alert as it is worked with: how occurrences make it, how it is stored, how it is told.

INVARIANT: a case is what `controller.alerts` decided about it; nothing here decides.
"""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec

from ringfence.controller.alerts.occurrences import CONDITIONS, Kind, Occurrence, plain
from ringfence.ports.notifier import News, Notice
from ringfence.ports.state import Alert, AlertSeverity, AlertState, StateError

EXAMPLES = 5
OVERFLOW = '["more"]'
"""The key of what is not kept apart."""
_OLDEST = timedelta(days=30)
_NEVER = datetime.min.replace(tzinfo=UTC)
_TOGETHER = timedelta(minutes=1)
"""Verdicts so near to each other are of hosts that differ, not of one that turned."""


class Case(msgspec.Struct, omit_defaults=True):
    """An alert as it is worked with; stored as the details of its record."""

    id: str
    kind: Kind
    key: str
    severity: AlertSeverity
    subject: str
    message: str
    first: datetime
    last: datetime
    touched: datetime
    """When it was last heard of, by the controller's time."""
    count: int = 0
    state: AlertState = "open"
    where: str = ""
    rule: str = ""
    source: str = ""
    source_identity: str = ""
    source_address: str = ""
    destination: str = ""
    destination_identity: str = ""
    destination_address: str = ""
    service: str = ""
    verdict: str = ""
    commands: tuple[str, ...] = ()
    sources: list[str] = []
    """The first few that differ, as are `examples`."""
    examples: list[str] = []
    is_broad: bool = False
    stopped: datetime | None = None
    """When it was blocked last; `passed`: when it would have been. Hosts that observe turn to enforce while a scan goes
    on."""
    passed: datetime | None = None
    is_present: bool = False
    """Of a condition: it is so, whatever people say about the alert."""
    is_flapping: bool = False
    changes: list[datetime] = []
    """When a condition came or went, the latest few."""
    reopened: int = 0
    earlier: int = 0
    """Of `count`, what was before it was opened again."""
    part_of: str = ""
    """The broad alert that took this one in."""
    handled_by: str = ""
    """Who acknowledged or closed it last."""
    why: str = ""
    opened: datetime | None = None
    """When it was (re)opened, by the controller's time."""
    notices: int = 0
    """How often it was told."""
    told: Told | None = None


class Told(msgspec.Struct, frozen=True):
    """An alert as it was last told."""

    at: datetime
    is_open: bool
    severity: AlertSeverity
    count: int
    is_flapping: bool = False
    times: int = 1
    """Notices since it was opened."""


def case_of(record: Alert) -> Case:
    """The case of a stored alert. Raises StateError `state-damaged`."""
    try:
        return msgspec.json.decode(record.details, type=Case)
    except ValueError as error:
        message = f"alert `{record.id}` cannot be read: {str(error)[:1].lower()}{str(error)[1:]}"
        raise StateError("state-damaged", message, help="restore the state from a backup") from error


def record_of(case: Case) -> Alert:
    """The alert as it is stored."""
    return Alert(
        id=case.id,
        kind=case.kind,
        key=case.key,
        severity=case.severity,
        state=case.state,
        count=case.count,
        first=case.first,
        last=case.last,
        subject=case.subject,
        message=sentence(case),
        details=msgspec.json.encode(case).decode(),
    )


def plausible(at: datetime, now: datetime) -> datetime:
    """A time as an agent's clock has it, kept within what can be: not in the future, not longer ago than a month."""
    return min(max(at, now - _OLDEST), now)


def key_of(occurrence: Occurrence) -> str:
    """What alike occurrences have in common."""
    source, destination = occurrence.source, occurrence.destination
    parts: tuple[str, ...] = (occurrence.subject, occurrence.topic)
    if source is not None and destination is not None:
        parts = (occurrence.rule, source.identity, destination.identity, occurrence.service, occurrence.verdict)
    return msgspec.json.encode(parts).decode()


def broad_key_of(occurrence: Occurrence) -> str:
    """The key of all that a broad source does."""
    return msgspec.json.encode(("many", occurrence.source.name if occurrence.source else "")).decode()


def new_case(occurrence: Occurrence, key: str, now: datetime) -> Case:
    """A case that counts nothing yet."""
    source, destination = occurrence.source, occurrence.destination
    digest = hashlib.sha256(f"{occurrence.kind} {key} {now.isoformat()}".encode()).hexdigest()
    is_overflow = key == OVERFLOW
    return Case(
        id=digest[:12],
        kind=occurrence.kind,
        key=key,
        severity="info",
        subject="others" if is_overflow else occurrence.subject,
        message="more kinds of it than are kept apart" if is_overflow else occurrence.message,
        first=plausible(occurrence.at, now),
        last=plausible(occurrence.at, now),
        touched=now,
        where=occurrence.where,
        rule=occurrence.rule,
        source=source.name if source else "",
        source_identity=source.identity if source else "",
        source_address=source.address if source else "",
        destination=destination.name if destination else "",
        destination_identity=destination.identity if destination else "",
        destination_address=destination.address if destination else "",
        service=occurrence.service,
        verdict=occurrence.verdict,
        commands=occurrence.commands or explain_commands(occurrence),
        opened=now,
    )


def explain_commands(occurrence: Occurrence) -> tuple[str, ...]:
    source, destination = occurrence.source, occurrence.destination
    if source is None or destination is None:
        return ()
    ends = f"{shlex.quote(source.name)} {shlex.quote(destination.name)} {occurrence.service}"
    explain = f"ringfence explain {ends} --fleet --at {occurrence.at:%Y-%m-%dT%H:%M:%SZ}"
    return (explain, f"ringfence quarantine {shlex.quote(source.name)}") if source.is_workload else (explain,)


def exemplify(case: Case, occurrence: Occurrence) -> None:
    source, destination = occurrence.source, occurrence.destination
    if source is None or destination is None or len(case.examples) >= EXAMPLES:
        return
    example = f"{source.name} ({source.address}) to {destination.name} ({destination.address}) {occurrence.service}"
    if example not in case.examples:
        case.examples.append(example)


def take_verdict(case: Case, occurrence: Occurrence, at: datetime) -> None:
    """What became of it last, host by host: a broad alert is about many."""
    if occurrence.verdict == "blocked":
        case.stopped = max(at, case.stopped or at)
    elif occurrence.verdict:
        case.passed = max(at, case.passed or at)
    if case.stopped is not None or case.passed is not None:
        case.verdict = "blocked" if (case.stopped or _NEVER) >= (case.passed or _NEVER) else "would-block"


def _outcome(case: Case) -> str:
    """Whether it is blocked by now, everywhere."""
    if case.stopped is None or case.passed is None or abs(case.stopped - case.passed) > _TOGETHER:
        return case.verdict
    return "blocked by some hosts, would-block on others"


def is_open_event(case: Case) -> bool:
    return case.state != "closed" and case.kind not in CONDITIONS


def sentence(case: Case) -> str:
    """What happened, in one line."""
    tried = "; ".join(case.examples[:2])
    if case.is_broad:
        return plain(
            f"{case.source} reaches for many destinations or services ({_outcome(case)}), as in a scan: {tried}"
        )
    if len(case.examples) < 2 or case.key == OVERFLOW:
        return case.message
    by = f"`{case.rule}`" if "/" in case.rule else f"the {case.rule}"
    verb = "were blocked" if case.verdict == "blocked" else "would be blocked"
    return plain(f"{case.source_identity} to {case.destination_identity} {case.service} {verb} by {by}: {tried}")


def notice_of(case: Case, news: News, now: datetime) -> Notice:
    told = case.told
    texts = (
        "subject", "where", "rule", "source", "source_identity", "source_address", "destination",
        "destination_identity", "destination_address", "service", "verdict",
    )  # fmt: skip
    return Notice(
        id=f"{case.id}-{case.notices + 1}",
        at=now,
        news=news,
        kind=case.kind,
        severity=case.severity,
        message=sentence(case),
        alert=case.id,
        state=case.state,
        count=case.count,
        more=max(0, case.count - (told.count if told else 0)),
        first=case.first,
        last=case.last,
        examples=tuple(plain(example, 300) for example in case.examples),
        commands=case.commands,
        **{field: plain(getattr(case, field), 300) for field in texts},
    )


def summary_of(held_by_kind: Counter[str], since: datetime, now: datetime) -> Notice:
    held = ", ".join(f"{count} {kind}" for kind, count in sorted(held_by_kind.items(), key=lambda kv: (-kv[1], kv[0])))
    count = held_by_kind.total()
    return Notice(
        id=f"summary-{now:%Y%m%dT%H%M%S}-{count}",
        at=now,
        news="summary",
        kind="summary",
        severity="warning",
        message=f"{count} more notices were held back: {held}",
        count=count,
        more=count,
        first=since,
        last=now,
        commands=("ringfence alerts",),
    )
