"""The controller's state as records, and the transactions they are read and changed in.

    await state.read(lambda view: view.find(Alert, Where("state", "open"), order="-last"))
    await state.write(change)          def change(tx: Change) -> ...: one transaction, whole or not at all

INVARIANT: what `write` returned from is committed to disk. A record people decide about (`DECIDED`) changes only in a
transaction that also appends an `AuditEntry`; audit entries are never changed again.

Records hold no secret that could be used: tokens are here as digests. Structures that belong to the rooms above
(heartbeats, details) are JSON text here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar

import msgspec

from ringfence.core.errors import RingfenceError
from ringfence.core.identity.workload import Direction, Kind, Lease, Mode, ModeName, Workload
from ringfence.core.net.address import PRIVATE
from ringfence.core.net.intervals import IntervalSet


class StateError(RingfenceError):
    """The state cannot be read or changed."""


class Record(msgspec.Struct, frozen=True):
    """One row. The first fields are its key (see `stores.sql.tables`)."""


class WorkloadRecord(Record, frozen=True):
    """A workload without its addresses, which are leases."""

    uuid: str
    name: str
    labels: dict[str, str]
    created: datetime
    kind: Kind = "host"
    origin: str = "agent"
    mode_in: ModeName = "observe"
    mode_out: ModeName = "observe"
    host: str | None = None
    unit: str | None = None
    services: IntervalSet = IntervalSet()
    spiffe: str | None = None
    last_seen: datetime | None = None
    is_stale: bool = False
    profile: str = ""
    """The pairing profile it joined by, whose ranges its addresses must be in."""
    enrolled_from: int | None = None
    """The address it joined from, as the controller saw it."""

    @staticmethod
    def of(workload: Workload, created: datetime) -> WorkloadRecord:
        shared = ("uuid", "name", "labels", "kind", "origin", "host", "unit", "services", "spiffe")
        mode = workload.mode
        return WorkloadRecord(
            **{field: getattr(workload, field) for field in shared},
            created=created,
            mode_in=mode.inbound,
            mode_out=mode.outbound,
        )

    def workload(self, leases: Iterable[LeaseRecord] = ()) -> Workload:
        """The workload of the core, with these leases."""
        return Workload(
            name=self.name,
            uuid=self.uuid,
            labels=self.labels,
            addresses=tuple(sorted((record.lease for record in leases), key=_by_address)),
            kind=self.kind,
            mode=Mode(self.mode_in, self.mode_out),
            origin=self.origin,
            spiffe=self.spiffe,
            host=self.host,
            unit=self.unit,
            services=self.services,
        )


CONTESTED: Final = "contested"
"""Source of a lease of what somebody else held already: a host's word against another's."""


class LeaseRecord(Record, frozen=True):
    """An address that belongs, or belonged, to a workload."""

    network: str
    address: int
    workload: str
    start: datetime | None = None
    end: datetime | None = None
    source: str = ""
    """Who said so: `agent` (or CONTESTED), `file`, a cloud."""

    @property
    def lease(self) -> Lease:
        return Lease(self.address, self.network, self.start, self.end)


def _by_address(lease: Lease) -> tuple[str, int, float]:
    return (lease.network, lease.address, lease.start.timestamp() if lease.start else float("-inf"))


class PairingProfile(Record, frozen=True):
    """What hosts become that join by one of its tokens."""

    name: str
    labels: dict[str, str]
    created: datetime
    created_by: str
    mode: Mode = Mode()
    uses_left: int | None = None
    """None: as many as like."""
    expires: datetime | None = None
    ranges: IntervalSet = PRIVATE
    """Addresses its hosts may hold, besides the one they joined from."""


class JoinTokenRecord(Record, frozen=True):
    """A join token, as digest."""

    id: str
    hash: str
    profile: str
    created: datetime
    created_by: str
    uses_left: int | None = None
    expires: datetime | None = None
    revoked_at: datetime | None = None


class Certificate(Record, frozen=True):
    """A certificate that was issued. It outlives its workload."""

    serial: str
    uuid: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    revoked_at: datetime | None = None
    why: str = ""
    key: str = ""
    """Digest of the public key."""
    renewed_by: str | None = None
    """The serial of the certificate that replaced it."""
    machine: str = ""
    """Digest of the identifiers of the machine that enrolled."""


class ApiToken(Record, frozen=True):
    """A person's or program's token, as digest."""

    id: str
    hash: str
    name: str
    roles: tuple[str, ...]
    created: datetime
    created_by: str
    scope: str | None = None
    """A selector; None: the whole estate."""
    expires: datetime | None = None
    revoked_at: datetime | None = None


class Session(Record, frozen=True):
    """Somebody signed in with a browser: the secret of the cookie as digest."""

    id: str
    hash: str
    name: str
    opened: datetime
    seen: datetime
    """To the minute."""
    ends: datetime
    token: str | None = None
    """The id of the token it was opened with, with which it ends; None: a provider of identities said who it is."""
    subject: str = ""
    """`issuer subject`, as the provider says."""
    claims: str = ""
    """What the provider said that was worth something, as JSON (`access.group_roles.Claimed`): judged anew at every
    request."""


class PolicyVersion(Record, frozen=True):
    """A published set of policies: a restore point."""

    number: int
    at: datetime
    actor: str
    note: str
    files: dict[str, str]
    """Name -> text."""
    settings: str
    """The settings they were judged with, as text."""
    digest: str
    """Of files and settings: equal contents have equal digests."""
    parent: int | None = None


ProposalState = Literal["pending", "published", "rejected"]


class Proposal(Record, frozen=True):
    """Policies that wait for a second person."""

    id: str
    at: datetime
    actor: str
    note: str
    files: dict[str, str]
    settings: str
    digest: str
    base: int | None = None
    """The version it was written against."""
    state: ProposalState = "pending"
    decided_at: datetime | None = None
    decided_by: str = ""
    version: int | None = None
    """What it was published as."""


class WorkloadChange(Record, frozen=True):
    """A change of labels or mode, so that it can be looked at and taken back like a policy's."""

    revision: int
    at: datetime
    actor: str
    uuid: str
    what: Literal["labels", "mode"]
    before: str
    """JSON."""
    after: str


class WrittenException(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What passes a quarantine, as somebody wrote it."""

    peer: str
    service: str
    direction: Direction


class QuarantineRecord(Record, frozen=True):
    """An isolation: in force until it is released or ends."""

    id: str
    workload: str
    level: str
    why: str
    by: str
    since: datetime
    exceptions: tuple[WrittenException, ...] = ()
    addresses: tuple[Lease, ...] = ()
    """Every address the workload held since it began: isolated until it ends, whoever holds them by then."""
    until: datetime | None = None
    released_at: datetime | None = None
    released_by: str = ""


class Rollout(Record, frozen=True):
    """A version on its way to the hosts."""

    id: str
    version: int
    state: str
    started: datetime
    canary: tuple[str, ...] = ()
    """UUIDs."""
    manner: str = ""
    """How hosts apply it, as JSON (`controller.desired.desired.Manner`)."""
    finished: datetime | None = None
    problem: str = ""


class AgentRecord(Record, frozen=True):
    """What an agent said last."""

    uuid: str
    seen: datetime | None = None
    instance: str = ""
    version: str = ""
    heartbeat: str = ""
    """JSON."""
    realised: str = ""
    """JSON."""


AlertState = Literal["open", "acknowledged", "closed"]
AlertSeverity = Literal["info", "warning", "error", "critical"]
"""From what is good to know to what wakes somebody."""


class Alert(Record, frozen=True):
    """Something people should look at. Alike ones (`kind`, `key`) are one while it is not closed."""

    id: str
    kind: str
    key: str
    severity: AlertSeverity
    state: AlertState
    count: int
    first: datetime
    last: datetime
    subject: str
    message: str
    details: str = "{}"
    """JSON."""


class AuditEntry(Record, frozen=True):
    """Who did what; see `controller.audit`."""

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    details: str
    """Canonical JSON."""
    previous: str
    """The hash of the entry before."""
    hash: str


class AuditHead(Record, frozen=True):
    """The controller's signature over the audit log as far as `seq`."""

    seq: int
    at: datetime
    hash: str
    key: str
    signature: str


class GroupVersion(Record, frozen=True):
    """How often a group of addresses changed, as the hosts of some networks see it. Never goes backwards."""

    networks: tuple[str, ...]
    key: str
    version: int


class Counter(Record, frozen=True):
    """A number that only grows."""

    name: str
    value: int


RECORDS: tuple[type[Record], ...] = (
    WorkloadRecord, LeaseRecord, PairingProfile, JoinTokenRecord, Certificate, ApiToken, Session, PolicyVersion,
    Proposal, WorkloadChange, QuarantineRecord, Rollout, AgentRecord, Alert, AuditEntry, AuditHead, GroupVersion,
    Counter,
)  # fmt: skip
OBSERVED: frozenset[type[Record]] = frozenset(
    {LeaseRecord, AgentRecord, Alert, Session, GroupVersion, Counter, AuditEntry, AuditHead}
)
"""What is measured or counted rather than decided: it changes without an audit entry."""
DECIDED: frozenset[type[Record]] = frozenset(RECORDS) - OBSERVED
OBSERVED_FIELDS = frozenset({"last_seen", "is_stale"})
"""Of workloads, what is measured."""
APPENDED: frozenset[type[Record]] = frozenset({AuditEntry, AuditHead})
"""Never changed once written."""

R = TypeVar("R", bound=Record)
T = TypeVar("T")
Comparison = Literal["=", "!=", "<", "<=", ">", ">=", "in"]


class Where(NamedTuple):
    """A condition on one field. `in` an empty collection is met by nothing; None equals None only."""

    field: str
    value: Any
    op: Comparison = "="


class View(Protocol):
    """One moment's state: whatever is asked in one `read` is answered as of one time."""

    def get(self, kind: type[R], *key: object) -> R | None:
        """The record of a key."""

    def find(self, kind: type[R], *where: Where, order: str = "", limit: int | None = None) -> list[R]:
        """Records that meet every condition, by key or by the field `order` (`-field`: greatest first)."""

    def count(self, kind: type[Record], *where: Where) -> int: ...


class Change(View, Protocol):
    """One transaction. Whatever it raises undoes all of it."""

    def add(self, *records: Record) -> None:
        """New ones. Raises StateError `record-exists`, `record-missing` (what it refers to)."""

    def put(self, *records: Record) -> None:
        """New ones, or in place of those with their keys; a Counter or GroupVersion only if it is greater."""

    def update(self, kind: type[Record], *where: Where, **values: object) -> int:
        """Set fields where all conditions hold; how many records that were."""

    def remove(self, kind: type[Record], *where: Where) -> int:
        """Delete what meets the conditions, of which there must be one; how many records that were."""

    def next(self, counter: str, by: int = 1) -> int:
        """Advance a counter, which starts at 0, and return it."""


class State(Protocol):
    """The database. Safe to use from asyncio: the work runs in a thread of its own, so it must touch nothing else."""

    async def read(self, work: Callable[[View], T]) -> T:
        """Raises StateError `state-unreachable`, and whatever the work raises."""

    async def write(self, work: Callable[[Change], T]) -> T:
        """Run the work alone; return when what it did is durable. Raises StateError `unaudited-change`,
        `state-unreachable`, `state-unwritable`, and whatever the work raises, having changed nothing then."""

    async def close(self) -> None:
        """Finish what was begun."""
