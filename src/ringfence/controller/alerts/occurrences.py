"""What agents, certificates and people do, as occurrences: what `controller.alerts` counts and groups.

An event happens (a violation, tampering); a condition is there or not (offline, drift), and is told as everything that
is there now. Times are given; nothing here reads a clock.

INVARIANT: whatever an agent reports becomes an occurrence; a kind of event nobody knows is told as `agent`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

import msgspec

from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Workload
from ringfence.core.labels.selector import Labels
from ringfence.core.net.address import INTERNET_RANGE, LAST, PRIVATE, format_address
from ringfence.core.net.service import format_point, point
from ringfence.core.policy.model import Policy, Workloads
from ringfence.ports.state import AlertSeverity, Certificate, PolicyVersion, QuarantineRecord
from ringfence.wire.messages import Event, Events, Heartbeat, Realised, Violation

Kind = Literal[
    "violation", "tampering", "drift", "offline", "quarantine", "policy-change", "clone", "trial-reverted", "disabled",
    "conntrack-headroom", "certificate", "agent", "uninstalled",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)
BEAT_KINDS: tuple[Kind, ...] = ("drift", "trial-reverted", "disabled", "conntrack-headroom")
"""Conditions that a heartbeat tells whether they are there."""
CONDITIONS: frozenset[Kind] = frozenset({*BEAT_KINDS, "offline", "quarantine", "certificate"})
"""Kinds that end by themselves, when what they tell is no longer so."""
BASE: Mapping[Kind, AlertSeverity] = MappingProxyType(
    {
        "violation": "warning", "tampering": "error", "drift": "error", "offline": "warning", "quarantine": "info",
        "policy-change": "info", "clone": "error", "trial-reverted": "error", "disabled": "error",
        "conntrack-headroom": "warning", "certificate": "warning", "agent": "warning",
        "uninstalled": "error",
    }
)  # fmt: skip
"""How severe each kind is before jewels and breadth raise it."""
_EVENTS: Mapping[str, Kind] = MappingProxyType(
    {"refused": "drift", "reverted": "trial-reverted", "message-forged": "tampering"}
)
"""What agents call otherwise than alerts do."""
_REMOVED = "its agent was removed"
"""How the only problem of a host begins that nobody hears any more because somebody uninstalled its agent."""
_LONGEST = 1000
_MOST_AT_ONCE = 1 << 32
"""More packets than a host counts between two messages; so many messages would have to come before a sum of 64 bits
overflows."""


class Party(msgspec.Struct, frozen=True):
    """One end of an attempt."""

    identity: str
    """Its labels; `internet` or `private` for an address that is no workload's."""
    name: str
    """The workload's name, else the address."""
    address: str = ""
    is_jewel: bool = False
    is_workload: bool = False


class Occurrence(msgspec.Struct, frozen=True):
    """Something that happened, or is so, once or `count` times."""

    kind: Kind
    at: datetime
    subject: str
    message: str
    severity: AlertSeverity
    where: str = ""
    rule: str = ""
    source: Party | None = None
    destination: Party | None = None
    service: str = ""
    verdict: str = ""
    count: int = 1
    is_jewel: bool = False
    topic: str = ""
    """What else tells it from others of its kind about the same subject."""
    commands: tuple[str, ...] = ()


class Ground(NamedTuple):
    """What occurrences are read against: who is who, and what is critical."""

    inventory: Inventory
    jewels: tuple[Workloads, ...] = ()
    network: str = "main"


def jewels_of(policies: Iterable[Policy]) -> tuple[Workloads, ...]:
    """The segments declared critical, as what they pick."""
    return tuple(s.peer for p in policies for s in p.segments if s.is_crown_jewel and s.peer is not None)


def is_jewel(labels: Labels, jewels: Iterable[Workloads]) -> bool:
    """Whether any critical segment picks these labels."""
    return any(all(selector.matches(labels) for selector in jewel.selectors) for jewel in jewels)


# ---- events ---------------------------------------------------------------------------------------------------------


def can_be(events: Events) -> bool:
    """Whether every number an agent tells is one there is: others would be no address, or fit no store."""
    counts = (events.suppressed, *(told.count for told in events.violations))
    return all(0 <= count <= _MOST_AT_ONCE for count in counts) and all(map(_has_ends, events.violations))


def _has_ends(told: Violation) -> bool:
    ports = (told.source_port, told.port)
    ends = (told.source, told.destination)
    return 0 <= told.protocol <= 255 and all(0 <= p <= 65535 for p in ports) and all(0 <= a <= LAST for a in ends)


def party(address: int, at: datetime, ground: Ground) -> Party:
    """Who had the address then. Several holders are named together: which of them it was is not known."""
    inventory, text = ground.inventory, format_address(address)
    holders = inventory.holders(address, at, ground.network)
    if not holders:
        word = "private" if address in PRIVATE else "internet" if address in INTERNET_RANGE else text
        return Party(word, text, text)
    labels = [inventory.labels_of(holder) for holder in holders]
    identity = " or ".join(sorted({_identity(holder, inventory) for holder in holders}))
    jewel = any(is_jewel(each, ground.jewels) for each in labels)
    name = plain(holders[0].name) if len(holders) == 1 else text
    return Party(identity, name, text, jewel, len(holders) == 1)


def _identity(workload: Workload, inventory: Inventory) -> str:
    labels = inventory.labels_of(workload)
    told = ",".join(f"{key}={labels[key]}" for key in sorted(labels) if key not in inventory.ignore)
    return told or workload.name


def violation(told: Violation, host: str, ground: Ground) -> Occurrence:
    """Attempts one host's policy stopped, or would have. `host` is its workload's name."""
    at = moment(told.at)
    source, destination = party(told.source, at, ground), party(told.destination, at, ground)
    service = format_point(point(told.protocol, told.port))
    stopped = "was blocked" if told.verdict == "blocked" else "would be blocked"
    by = f"`{told.rule}`" if told.rule else {"quarantine": "the quarantine"}.get(told.step, "the default")
    end = "to" if told.direction == "in" else "from"  # a host knows its own processes alone
    process = f" ({end} process {told.unit or told.process} on {host})" if told.unit or told.process else ""
    return Occurrence(
        kind="violation",
        at=at,
        subject=source.name,
        message=plain(f"{source.name} to {destination.name} {service} {stopped} by {by}{process}"),
        severity="warning" if told.verdict == "blocked" else "info",
        where=plain(host),
        rule=plain(told.rule or told.step),
        source=source,
        destination=destination,
        service=service,
        verdict=told.verdict,
        count=max(1, told.count),
        is_jewel=source.is_jewel or destination.is_jewel,
    )


def event(told: Event, host: str, ground: Ground) -> Occurrence:
    """What an agent wants people to know."""
    kind: Kind = _EVENTS.get(told.kind) or (told.kind if told.kind in KINDS else "agent")
    details = f": {'; '.join(told.details)}" if told.details else ""
    name = f"{told.kind}: " if kind == "agent" else ""
    topic = plain(told.kind, 60) if kind == "agent" else ""
    return _about(kind, host, moment(told.at), f"{host}: {name}{told.message}{details}", ground, topic=topic)


class Act(NamedTuple):
    """What somebody did on a host with its agent, as the agent told it."""

    action: str
    """The audit log's word."""
    by: str
    """Empty: nobody is named."""


_ACTS: Mapping[str, str] = MappingProxyType(
    {"disabled": "agent.disable", "enabled": "agent.enable", "uninstalled": "agent.uninstall"}
)


def act(told: Event) -> Act | None:
    """What belongs in the audit log; None for what nobody did."""
    action = _ACTS.get(told.kind)
    return Act(action, _detail(told, "by ")) if action is not None else None


def removed(told: Event) -> Realised | None:
    """What is known of a host from the moment its agent says that it is removed: only that; None for another event."""
    if told.kind != "uninstalled":
        return None
    left, by = _detail(told, "leaves it "), _detail(told, "by ")
    words = _REMOVED + (f" by {by}" if by else "") + (f", and left it {left}" if left else "")
    return Realised("unreachable", problems=(f"{words}: {_afterwards(left)}",), at=told.at)


def _afterwards(left: str) -> str:
    """What holds on a host that was left so. What nobody knows is said to be unknown."""
    found = {
        "open": "no rule of ours decides there",
        "closed": "all but the essential and the failsafe is blocked there",
        "enforced": "its last rules stay until it reboots, and nobody follows changes",
    }
    return found.get(left, "what decides there is not known")


def is_removed(realised: Realised) -> bool:
    """Whether the agent said last that it is removed."""
    return realised.state == "unreachable" and any(one.startswith(_REMOVED) for one in realised.problems)


def _detail(told: Event, word: str) -> str:
    """What follows the word, in the first detail that begins with it."""
    return next((plain(one.removeprefix(word), 200) for one in told.details if one.startswith(word)), "")


def clone(host: str, at: datetime, instances: Iterable[str], ground: Ground) -> Occurrence:
    """Two hosts live under one identity."""
    both = ", ".join(sorted(instances))
    return _about("clone", host, at, f"two hosts answer as {host} (instances {both}); neither is trusted more", ground)


def forked(host: str, at: datetime, serial: str, ground: Ground) -> Occurrence:
    """Somebody has the key of a certificate that its host has replaced."""
    message = f"somebody else has a key of {host}: its certificate {serial}, replaced already, was to be renewed again"
    return _about("clone", host, at, message, ground, topic="key")


def moved(host: str, at: datetime, ground: Ground, *, other_lives: bool) -> Occurrence:
    """A host answers from another machine than the one that enrolled, which may still be there."""
    if other_lives:
        message = f"two machines answer as {host}, the one that enrolled and another; neither is trusted more"
        return _about("clone", host, at, message, ground, topic="machine")
    message = f"{host} is on another machine than the one that enrolled: an image that was copied, or new hardware"
    return _about("agent", host, at, message, ground, topic="machine")


def false_flows(host: str, at: datetime, rows: int, ground: Ground) -> Occurrence:
    """A host reported traffic between others."""
    message = f"{host} reports connections of hosts that it is not ({rows:,} rows in a minute); they are dropped"
    return _about("tampering", host, at, message, ground, topic="flows")


def lost_flows(host: str, at: datetime, rows: int, ground: Ground) -> Occurrence:
    """More traffic was reported than is kept of one host."""
    message = f"{rows:,} rows of the traffic of {host} are lost: it reports more than is kept of one host"
    return _about("agent", host, at, message, ground, topic="flows-lost")


def policy_change(version: PolicyVersion) -> Occurrence:
    """Somebody published."""
    note = f": {version.note}" if version.note else ""
    commands = ["ringfence audit"]
    if version.parent is not None:
        commands.insert(0, f"ringfence rollback {version.parent}")
    return Occurrence(
        kind="policy-change",
        at=version.at,
        subject=f"version {version.number}",
        message=plain(f"{version.actor} published version {version.number} of the policies{note}"),
        severity=BASE["policy-change"],
        commands=tuple(commands),
    )


# ---- conditions -----------------------------------------------------------------------------------------------------


def beat(told: Heartbeat, host: str, now: datetime, ground: Ground) -> tuple[Occurrence, ...]:
    """What a heartbeat says is wrong: all that is so of `BEAT_KINDS`."""
    realised, found = told.realised, []
    has_begun = realised.assignment > 0 or realised.state != "absent"  # who just joined has nothing to miss yet
    if realised.state in ("drifted", "refused", "unreachable", "absent") and has_begun:
        why = f": {'; '.join(realised.problems)}" if realised.problems else ""
        message = f"what {host} enforces is {realised.state}, not what it should be{why}"
        found.append(_about("drift", host, now, message, ground))
    if realised.is_reverted:
        message = f"{host} tried a new policy and went back to version {realised.policy_version}"
        found.append(_about("trial-reverted", host, now, message, ground))
    if told.disabled_until > now.timestamp():
        until = moment(told.disabled_until)
        message = f"enforcement is switched off on {host} until {until:%Y-%m-%d %H:%M} UTC"
        found.append(_about("disabled", host, now, message, ground))
    return (*found, *headroom(told, host, now, ground))


def is_well(told: Heartbeat, realised: Realised, now_s: float) -> bool:
    """Whether `beat` finds nothing: asked of every host every second, so in few words. False where it may find
    something."""
    return (
        realised.state in ("realised", "pending")
        and not realised.is_reverted
        and told.disabled_until <= now_s
        and (told.conntrack_max <= 0 or 2 * told.conntrack_used < told.conntrack_max)
    )


def headroom(
    told: Heartbeat, host: str, now: datetime, ground: Ground, *, warn_at: float = 0.8, error_at: float = 0.95
) -> tuple[Occurrence, ...]:
    """A connection table that fills up: a full one drops new connections, allowed ones too."""
    used = told.conntrack_used / told.conntrack_max if told.conntrack_max > 0 else 0.0
    if used < warn_at:
        return ()
    size = f"{told.conntrack_used:,} of {told.conntrack_max:,} entries"
    message = f"the connection table of {host} is {used:.0%} full ({size}); a full one drops new connections"
    severity: AlertSeverity = "error" if used >= error_at else "warning"
    return (_about("conntrack-headroom", host, now, message, ground, severity=severity),)


def offline(
    heard: Mapping[str, datetime],
    now: datetime,
    ground: Ground,
    *,
    listening_since: datetime,
    left: Mapping[str, str] = MappingProxyType({}),
    every_s: float = 10.0,
    missed: int = 3,
) -> tuple[Occurrence, ...]:
    """Hosts (by name) whose last `missed` heartbeats did not come. Nobody is missed before there was time to hear
    them: silence counts from `listening_since`, when this controller began to listen. `left`: what became of those
    whose agent was removed.
    """
    patience = timedelta(seconds=every_s * (missed + 0.5))
    found = []
    for host, last in heard.items():
        if now - max(last, listening_since) <= patience:
            continue
        why = left.get(host, "it keeps its last good policy")
        message = f"{host} is silent since {last:%Y-%m-%d %H:%M:%S} UTC; {why}"
        found.append(_about("offline", host, now, message, ground, topic="removed" if host in left else ""))
    return tuple(found)


def certificates(
    held: Mapping[str, Certificate], now: datetime, ground: Ground, *, warn_at: float = 0.25, error_at: float = 0.1
) -> tuple[Occurrence, ...]:
    """Hosts (by name) whose newest certificate should have been renewed long ago: with less than a quarter left of its
    life a warning, less than a tenth an error. Renewal is due at half.
    """
    found = []
    for host, certificate in held.items():
        left = (certificate.not_after - now) / (certificate.not_after - certificate.not_before)
        if left >= warn_at:
            continue
        when = "expired" if left <= 0 else "expires"
        message = f"the certificate of {host} {when} at {certificate.not_after:%Y-%m-%d %H:%M} UTC and is not renewed"
        severity: AlertSeverity = "error" if left < error_at else "warning"
        found.append(_about("certificate", host, now, message, ground, severity=severity))
    return tuple(found)


def quarantines(records: Iterable[QuarantineRecord], now: datetime, ground: Ground) -> tuple[Occurrence, ...]:
    """The isolations in force."""
    found = []
    for record in records:
        if record.released_at is not None or (record.until is not None and record.until <= now):
            continue
        workload = ground.inventory.by_uuid.get(record.workload)
        name = workload.name if workload else record.workload
        until = f" until {record.until:%Y-%m-%d %H:%M} UTC" if record.until else ""
        message = f"{name} is isolated by {record.by}{until}: {record.why}"
        found.append(_about("quarantine", name, record.since, message, ground, topic=record.id))
    return tuple(found)


# ---- shared ---------------------------------------------------------------------------------------------------------

_NEXT: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        "tampering": ("ringfence status {}", "ringfence quarantine {}"),
        "clone": ("ringfence quarantine {}", "ringfence status {}"),
        "quarantine": ("ringfence release {}", "ringfence status {}"),
        "disabled": ("ringfence status {}", "ringfence audit"),
        "uninstalled": ("ringfence audit", "ringfence agent retire {}"),
    }
)


def _about(
    kind: Kind,
    host: str,
    at: datetime,
    message: str,
    ground: Ground,
    *,
    severity: AlertSeverity | None = None,
    topic: str = "",
) -> Occurrence:
    workload = ground.inventory.find(host)
    labels = ground.inventory.labels_of(workload) if workload else {}
    commands = _NEXT.get(kind, ("ringfence status {}",))
    return Occurrence(
        kind=kind,
        at=at,
        subject=plain(host),
        message=plain(message),
        severity=severity or BASE[kind],
        where=plain(host),
        is_jewel=is_jewel(labels, ground.jewels),
        topic=topic,
        commands=tuple(command.format(shlex.quote(host)) for command in commands),
    )


def plain(text: str, longest: int = _LONGEST) -> str:
    """One line of printable text: what a hostile host calls its processes must not write lines of a log or terminal."""
    line = text[: longest + 1]
    if not line.isprintable():
        line = "".join(c if c.isprintable() else " " for c in line)
    return line if len(line) <= longest else line[: longest - 1] + "…"


def moment(seconds: float) -> datetime:
    """Seconds since the epoch, as an agent's clock has them, as a time; one no calendar can hold becomes the epoch."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, UTC)
