"""The messages. Down: from the controller, sealed. Up: from an agent, over its own authenticated connection.

How an agent learns what to enforce:

    Assignment    what is this host's own: station, how to apply it. Whole, replaces the one before
    Change        what came to and left groups of addresses; to every host whose span has one of them
    Isolations    every quarantine of the estate. Whole, to every agent, ahead of everything else
    Bodies, Groups   the answer to a Fetch: what an Assignment names and the host does not have yet

Each is ordered by its own revision, so that a duplicate, a late or a reordered message is recognised; what is missing
is noticed (a Change that does not fit, an `Expected` that differs) and fetched.

INVARIANT: going down, unknown fields are errors; defaults are not written (see `envelope`). Addresses are the 128-bit
ints of `core.net.address`.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Literal

import msgspec

from ringfence.core.identity.workload import Mode
from ringfence.core.intent.pieces import Body, Group, Isolation, Station
from ringfence.ports.target import State

Live = Literal["keep", "drain", "cut"]
"""What becomes of live connections that lose permission."""


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


# ---- down -----------------------------------------------------------------------------------------------------------


class Probe(_Message, frozen=True):
    """Something that must still work for a new policy to stay: a TCP handshake from this host."""

    host: str
    port: int


class Trial(_Message, frozen=True):
    """Confirmed commit: the policy reverts by itself unless it is confirmed in time."""

    seconds: int = 90
    probes: tuple[Probe, ...] = ()
    """Besides the control channel, which must always survive."""


class Upcoming(_Message, frozen=True):
    """Another body from a time on: dates and windows turn while the controller is out of reach, too."""

    at: datetime
    body: str


class Assignment(_Message, frozen=True):
    """What one host must enforce, but for membership and quarantine."""

    revision: int
    station: Station
    policy_version: int = 0
    """The published version of the policies it comes from."""
    networks: tuple[str, ...] = ("main",)
    live: Live = "drain"
    grace_s: int = 60
    trial: Trial | None = None
    schedule: tuple[Upcoming, ...] = ()
    """In order of time. INVARIANT: the last one holds for ever after, so it grants nothing that ends."""


class GroupChange(_Message, frozen=True):
    """A group from one version to the next."""

    key: str
    before: int
    after: int
    added: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()


class Change(_Message, frozen=True):
    """What one change of the inventory did to the groups a host knows. Applied as one transaction."""

    revision: int
    groups: tuple[GroupChange, ...]
    sent: float = 0.0
    """Seconds since the epoch, for measuring how long news travels."""


class Isolations(_Message, frozen=True):
    """Every quarantine in force, for the hosts of some networks."""

    revision: int
    networks: tuple[str, ...]
    isolations: tuple[Isolation, ...] = ()
    adds: bool = False
    """They hold beside what a host has of other workloads: the controller was restored from a backup, and hosts may
    hold more quarantines than it knows of."""
    ended: tuple[str, ...] = ()
    """With `adds`: workloads whose quarantine somebody ended since."""


class GroupState(_Message, frozen=True):
    """A whole group at a version."""

    group: Group
    version: int


class Pieces(_Message, frozen=True):
    """The answer to a `Fetch`. What is too much for one message is left for the next."""

    assignment: Assignment | None = None
    isolations: Isolations | None = None
    bodies: tuple[Body, ...] = ()
    groups: tuple[GroupState, ...] = ()
    unknown: tuple[str, ...] = ()
    """Bodies and groups asked for that are nobody's any more, or none of this host's business."""
    workload: str = ""
    """Whom it is for: nobody else takes it, whoever delivers it."""


class Expected(_Message, frozen=True):
    """The answer to a heartbeat: what the agent should have."""

    state: str
    """`digest_of_state` as the controller holds it."""
    now: float
    """The controller's clock."""
    is_cloned: bool = False
    """Another host lives under the same identity."""
    workload: str = ""
    """Whom it is for."""
    nonce: str = ""
    """That of the heartbeat it answers: an answer is good once."""


class Order(_Message, frozen=True):
    """Something to do once, now."""

    id: str
    what: Literal["evidence", "resync", "renew", "uninstall"]
    argument: str = ""
    until: float = 0.0
    """After this (seconds since the epoch) it is too late. An order without an end is none."""
    workload: str = ""
    """Whom it is for."""


Down = Assignment | Change | Isolations | Pieces | Expected | Order
DOWN: tuple[type[Down], ...] = (Assignment, Change, Isolations, Pieces, Expected, Order)


# ---- up -------------------------------------------------------------------------------------------------------------


class _Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an agent says decides nothing, so a controller may overlook what a newer agent adds."""


class Fetch(_Said, frozen=True):
    """Give me these."""

    assignment: bool = False
    isolations: bool = False
    bodies: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    held: dict[str, int] = {}
    """Groups among them that are held whole, with their versions: no need to send those again."""


class Realised(_Said, frozen=True):
    """What was read back from the kernel, and of which revisions it is."""

    state: State
    assignment: int = 0
    change: int = 0
    isolations: int = 0
    digest: str = ""
    """Of the intent as read back."""
    problems: tuple[str, ...] = ()
    on_trial: bool = False
    is_reverted: bool = False
    """The last trial failed, and the policy before it is in force."""
    rejected: int = 0
    """The revision of the assignment that failed its trial, or was refused; 0: none, or an agent that does not say."""
    policy_version: int = 0
    """The version in force."""
    at: float = 0.0


class Interface(_Said, frozen=True):
    """Addresses of one interface, as the host has them."""

    name: str
    addresses: tuple[int, ...]


class Heartbeat(_Said, frozen=True):
    """Alive, and how."""

    at: float
    """The agent's clock."""
    instance: str
    """Random for each boot of the agent: two at once under one identity are a clone."""
    machine: str
    """Digest of the machine's own identifiers."""
    version: str
    protocol: int
    state: str
    """`digest_of_state` as the agent holds it."""
    realised: Realised
    mode: Mode = Mode()
    interfaces: tuple[Interface, ...] = ()
    conntrack_used: int = 0
    conntrack_max: int = 0
    rss_bytes: int = 0
    cpu_s: float = 0.0
    spool_bytes: int = 0
    lost: int = 0
    """Telemetry records lost since the agent started, for any reason."""
    disabled_until: float = 0.0
    nonce: str = ""
    """Random, for the answer to repeat."""
    is_blind: bool = False
    """The kernel did not say which addresses there are: `interfaces` says nothing, and what was known stays."""
    forwards: bool = False
    """It passes packets on for others, containers perhaps: no policy judges those, and in quarantine it stops them."""


class Violation(_Said, frozen=True):
    """Attempts this host's policy stopped (or would have), of one kind, since the last report."""

    at: float
    direction: Literal["in", "out"]
    protocol: int
    source: int
    destination: int
    source_port: int
    port: int
    """Destination port, or ICMP type."""
    verdict: Literal["blocked", "would-block"]
    step: str
    """Which step of the judgement: `quarantine`, `forbid`, `deny`, `default`."""
    rule: str = ""
    count: int = 1
    process: str = ""
    unit: str = ""


class Event(_Said, frozen=True):
    """Something people should know: tampering, a reverted trial, a refusal, a disabled agent."""

    at: float
    kind: str
    message: str
    details: tuple[str, ...] = ()


class Events(_Said, frozen=True):
    """Violations and events, in one durable message."""

    sequence: str
    """Unique for each message of an agent: the same one twice counts once."""
    violations: tuple[Violation, ...] = ()
    events: tuple[Event, ...] = ()
    suppressed: int = 0
    """Violations counted but not described, because there were too many."""


Up = Fetch | Realised | Heartbeat | Events


def digest_of_state(assignment: int, isolations: int, groups: dict[str, int]) -> str:
    """What controller and agent compare: equal exactly when the agent has heard all that is for it."""
    words = [str(assignment), str(isolations), *(f"{key}={version}" for key, version in sorted(groups.items()))]
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:32]
