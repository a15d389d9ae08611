"""Everything a decision depends on, as one immutable value: policies, inventory, quarantine, failsafe, names, time.

What is enforced for new connections is a function of this and nothing else (law 2).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

from ringfence.core.errors import Location
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Direction, Lease, Mode, Workload, utc
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.policy.model import Peer, Policy

VerdictName = Literal["allowed", "would-block", "blocked"]
VERDICTS: tuple[VerdictName, ...] = ("allowed", "would-block", "blocked")
Reason = Literal["essential", "quarantine", "forbid", "allow", "deny", "default", "uncontrolled"]
REASONS: tuple[Reason, ...] = ("essential", "quarantine", "forbid", "allow", "deny", "default", "uncontrolled")


class QuarantineException(msgspec.Struct, frozen=True):
    """Traffic that passes a quarantine outright: `direction` as seen from the quarantined workload."""

    peers: tuple[Peer, ...]
    services: IntervalSet
    direction: Direction


class Quarantine(msgspec.Struct, frozen=True):
    """An emergency isolation of one workload, by UUID, that beats every rule and every mode."""

    workload: str
    allow: tuple[QuarantineException, ...] = ()
    until: datetime | None = None
    addresses: tuple[Lease, ...] = ()
    """Bound besides those the workload holds now: what it held since it began, whoever holds them by now."""


class Failsafe(msgspec.Struct, frozen=True):
    """An essential passage of the whole estate: remote addresses and services that always pass one direction."""

    direction: Direction
    remote: IntervalSet
    services: IntervalSet


class Answer(msgspec.Struct, frozen=True):
    """A resolved name: the addresses it had from one time to another (its TTL)."""

    addresses: tuple[int, ...]
    start: datetime | None = None
    end: datetime | None = None

    def is_live(self, at: datetime) -> bool:
        return (self.start is None or self.start <= at) and (self.end is None or at < self.end)


class World(msgspec.Struct, frozen=True):
    """The inputs of every decision."""

    inventory: Inventory
    policies: tuple[Policy, ...] = ()
    quarantines: tuple[Quarantine, ...] = ()
    failsafe: tuple[Failsafe, ...] = ()
    names: dict[str, tuple[Answer, ...]] = {}
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    """The time at which addresses, conditions and expiries are read, where a flow states none."""
    as_mode: Mode | None = None
    """Judge as if every controlled end were in this mode (proofs use enforce)."""

    def __post_init__(self) -> None:
        if self.at.tzinfo is not UTC:
            msgspec.structs.force_setattr(self, "at", utc(self.at))


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One end of a flow as asked: a workload, an address, a name, or several of them (a workload's one address)."""

    workload: Workload | None = None
    address: int | None = None
    network: str = "main"
    name: str | None = None
    """A DNS name."""


class Flow(msgspec.Struct, frozen=True):
    """One new connection to judge."""

    source: Endpoint
    destination: Endpoint
    point: int
    """The service point: protocol and destination port (or ICMP type)."""
    source_port: int | None = None
    """Only DHCP asks for it; unstated, DHCP's own port is assumed."""
    mutual_tls: bool = False
    from_process: str | None = None
    to_process: str | None = None
    at: datetime | None = None
    """UTC; a naive time is taken as UTC. Raises TimeError `bad-time` outside the calendar."""

    def __post_init__(self) -> None:
        if self.at is not None and self.at.tzinfo is not UTC:
            msgspec.structs.force_setattr(self, "at", utc(self.at))


class EndVerdict(msgspec.Struct, frozen=True):
    """What one controlled end says, on its own."""

    end: Literal["source", "destination"]
    workload: str
    mode: str
    verdict: VerdictName
    reason: Reason
    rule: str | None = None
    unless: tuple[str, ...] = ()
    """Conditions that were not stated and would have let an allow match here."""


class Verdict(msgspec.Struct, frozen=True):
    """The overall verdict with its reason: the worst end's, at a tie the destination's (law 5)."""

    verdict: VerdictName
    reason: Reason
    rule: str | None = None
    where: Location | None = None
    ends: tuple[EndVerdict, ...] = ()
    unless: tuple[str, ...] = ()
