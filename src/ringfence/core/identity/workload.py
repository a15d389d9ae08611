"""A workload: what can be isolated, with its labels, its leased addresses and its mode.

INVARIANT: a lease is half open, `start <= t < end`; `None` is unbounded on that side. All times are aware UTC.
"""

from __future__ import annotations

import uuid as uuid_
from datetime import UTC, datetime
from typing import Literal

import msgspec

from ringfence.core.errors import InputError, TimeError
from ringfence.core.net.intervals import IntervalSet

Kind = Literal["host", "vm", "container", "pod", "process", "service", "device"]
KINDS: tuple[Kind, ...] = ("host", "vm", "container", "pod", "process", "service", "device")
CONTROLLED_KINDS = frozenset({"host", "vm", "container", "pod", "process"})
"""Kinds that have an enforcement point of ours; managed services and unmanaged devices do not (yet)."""

ModeName = Literal["observe", "selective", "enforce"]
MODES: tuple[ModeName, ...] = ("observe", "selective", "enforce")
Direction = Literal["in", "out"]
NAMESPACE = uuid_.UUID("7f1b7d8e-3f0d-5c0a-9d7e-1b6a3f0c5e21")
"""For UUIDs derived from names where the inventory gives none."""


def parse_mode_name(text: str) -> ModeName:
    """Raises InputError `unknown-mode`."""
    for mode in MODES:
        if mode == text:
            return mode
    raise InputError("unknown-mode", f"`{text}` is not a mode", help=f"one of {', '.join(MODES)}")


class Mode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"inbound": "in", "outbound": "out"}):
    """How strictly each direction is held. Written `mode: enforce` or `mode: {in: enforce, out: observe}`."""

    inbound: ModeName = "observe"
    outbound: ModeName = "observe"

    @staticmethod
    def both(name: ModeName) -> Mode:
        return Mode(name, name)

    def of(self, direction: Direction) -> ModeName:
        return self.inbound if direction == "in" else self.outbound


class Lease(msgspec.Struct, frozen=True, order=True, gc=False):
    """An address of a network that belongs to a workload from a time to a time."""

    address: int
    network: str = "main"
    start: datetime | None = None
    end: datetime | None = None

    def is_live(self, at: datetime) -> bool:
        return (self.start is None or self.start <= at) and (self.end is None or at < self.end)


class Workload(msgspec.Struct, frozen=True):
    """Whatever can be isolated. Equal labels are one identity."""

    name: str
    uuid: str
    labels: dict[str, str] = {}
    addresses: tuple[Lease, ...] = ()
    kind: Kind = "host"
    mode: Mode = Mode()
    origin: str = "file"
    spiffe: str | None = None
    host: str | None = None
    """A process workload's host, by name."""
    unit: str | None = None
    """A process workload's systemd unit, cgroup or path."""
    services: IntervalSet = IntervalSet()
    """A process workload's own listening services."""

    @property
    def is_controlled(self) -> bool:
        return self.kind in CONTROLLED_KINDS

    @property
    def is_host(self) -> bool:
        """Whether it has an enforcement point of its own; a process has its host's."""
        return self.is_controlled and self.kind != "process"

    @property
    def has_agent(self) -> bool:
        """Whether one of ours runs there; of what a file says, nothing does."""
        return self.origin == "agent"

    def live_addresses(self, at: datetime) -> tuple[Lease, ...]:
        return tuple([lease for lease in self.addresses if lease.is_live(at)])


def derived_uuid(name: str) -> str:
    """The UUID of a workload whose source names it but gives no UUID."""
    return str(uuid_.uuid5(NAMESPACE, name))


def utc(value: datetime) -> datetime:
    """An aware UTC time; a naive one is taken as UTC. Raises TimeError (a ValueError) `bad-time` outside years 1 to
    9999.
    """
    if value.tzinfo is UTC:
        return value
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise TimeError(f"`{value.isoformat()}` lies outside the years 1 to 9999 in UTC") from None
