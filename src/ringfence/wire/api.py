"""What people and programs say to the API (`/v1`), and what it answers: one set of values for server and client.

INVARIANT: what is said to the controller has no unknown fields: a misspelt key is an error, never ignored. What is
answered may grow.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from ringfence.core.errors import Finding
from ringfence.core.identity.workload import Kind, Mode, ModeName
from ringfence.ports.state import Alert, WrittenException
from ringfence.wire.messages import Live, Probe, Violation

MAX_BODY_BYTES = 8 << 20
PROBLEM = "application/problem+json"
NOTICE = "Ringfence-Notice"
"""A header of answers: something that whoever asks should know, whatever they ask."""
RESTORE_UNCONFIRMED = "restore-unconfirmed"
T = TypeVar("T")
Text = Annotated[str, msgspec.Meta(max_length=2000)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
"""What every database can hold."""
Seconds = Annotated[int, msgspec.Meta(ge=1, le=10 * 365 * 86_400)]
Labels = dict[str, str]


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said to the controller."""


class Problem(msgspec.Struct, frozen=True):
    """An error (RFC 9457), with the code that scripts match."""

    title: str
    status: int
    detail: str
    code: str
    message: str
    """As `detail`: the word every error of ours has for it."""
    help: str = ""
    type: str = "about:blank"
    findings: tuple[Finding, ...] = ()


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some of a list. `next` asks for what follows (`?after=`); empty: that was all."""

    items: tuple[T, ...]
    next: str = ""


class Done(msgspec.Struct, frozen=True):
    """How many things were changed."""

    changed: int


# ---- who may -------------------------------------------------------------------------------------------------------


class Grant(Asked, frozen=True):
    """A token for somebody."""

    name: Name
    roles: tuple[str, ...]
    scope: str | None = None
    """A selector; none: the whole estate."""
    expires: datetime | None = None


class Secret(msgspec.Struct, frozen=True):
    """A token, told once."""

    token: str


class TokenView(msgspec.Struct, frozen=True):
    """A token without what makes it one."""

    id: str
    name: str
    roles: tuple[str, ...]
    created: datetime
    created_by: str
    scope: str | None = None
    expires: datetime | None = None
    revoked_at: datetime | None = None


class PowerView(msgspec.Struct, frozen=True):
    """Roles, and what they are over."""

    roles: tuple[str, ...]
    scope: str | None = None
    """A selector; none: the whole estate."""


class Me(msgspec.Struct, frozen=True):
    """Who somebody is taken for."""

    name: str
    roles: tuple[str, ...]
    rights: tuple[str, ...]
    scope: str | None = None
    """Of the first power."""
    powers: tuple[PowerView, ...] = ()
    """Each role with what it is over. Whoever may read reads the whole estate."""


class SignIn(Asked, frozen=True):
    """A token to open a session for."""

    token: Annotated[str, msgspec.Meta(max_length=200)]


class SessionView(msgspec.Struct, frozen=True):
    """Somebody who is signed in with a browser."""

    me: Me
    opened: datetime
    ends: datetime
    """At the latest."""
    idle_s: int
    """It ends when nobody used it for so long."""
    csrf: str
    """To be sent as `X-CSRF-Token` with whatever changes something."""
    provider: str = ""
    """Who said who it is; empty: a token did."""
    sign_out: str = ""
    """Where the browser goes to sign out of the provider, too, after the session was ended; empty: nowhere."""
    roles: dict[str, tuple[str, ...]] = {}
    """What each role there is may do, so that a page can say who could."""


class OpenSession(msgspec.Struct, frozen=True):
    """A session of somebody, without what makes it one."""

    id: str
    name: str
    opened: datetime
    seen: datetime
    ends: datetime
    token: str | None = None
    """The id of the token it was opened with."""
    subject: str = ""
    """What the provider calls them."""
    is_this: bool = False
    """It is the one that asks."""


class WayIn(msgspec.Struct, frozen=True):
    """How people sign in here."""

    token: bool
    provider: str = ""
    """The issuer that `/v1/login/oidc` leads to; empty: none."""
    name: str = ""
    """What people call it."""


class NewProfile(Asked, frozen=True):
    """What hosts become that join by its tokens."""

    name: Name
    labels: Labels
    mode: Mode = Mode()
    uses: Number | None = None
    expires: datetime | None = None
    ranges: Annotated[tuple[Text, ...], msgspec.Meta(max_length=64)] = ()
    """CIDRs its hosts may have addresses in; private ranges where none is given."""


class ProfileView(msgspec.Struct, frozen=True):
    name: str
    labels: Labels
    mode: Mode
    created: datetime
    created_by: str
    uses_left: int | None = None
    expires: datetime | None = None
    ranges: tuple[str, ...] = ()
    """Where its hosts may have addresses."""


class Ranges(Asked, frozen=True):
    """Where hosts of a profile may have addresses from now on. What they hold, they keep."""

    ranges: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=64)]


class Invite(Asked, frozen=True):
    """A join token of a profile. What is left out is little: one host, within a day, or as the profile limits it; null
    is no limit but the profile's."""

    profile: Name
    uses: Number | UnsetType | None = UNSET
    expires: datetime | UnsetType | None = UNSET


class Invited(msgspec.Struct, frozen=True):
    """A join token, told once, and what it is good for by its own limits and the profile's; null: no limit."""

    token: str
    uses: int | None
    expires: datetime | None


class InvitationView(msgspec.Struct, frozen=True):
    """A join token without its secret."""

    id: str
    profile: str
    created: datetime
    created_by: str
    uses_left: int | None = None
    expires: datetime | None = None
    revoked_at: datetime | None = None


# ---- workloads -----------------------------------------------------------------------------------------------------


HostState = Literal["realised", "pending", "drifted", "refused", "reverted", "unreachable", "unmanaged"]


class RefusedClaim(msgspec.Struct, frozen=True):
    """An address that a host says it has, and does not get."""

    address: str
    why: str
    """`held`: another has it, and keeps it; `contested`: another has it, too, and both hold it; `lie`: others have it,
    and more than one host can have taken over; `outside`: of the ranges of its pairing profile; `unusable`: no host can
    have it; `too-many`."""
    holder: str = ""
    """Who has it."""


class WorkloadView(msgspec.Struct, frozen=True):
    """A workload, and what its host said last."""

    uuid: str
    name: str
    labels: Labels
    kind: Kind
    origin: str
    mode: Mode
    addresses: tuple[str, ...] = ()
    spiffe: str | None = None
    state: HostState = "unmanaged"
    """What was read back there; `unreachable` while nothing is heard."""
    problems: tuple[str, ...] = ()
    seen: datetime | None = None
    policy_version: int = 0
    """In force there."""
    digest: str = ""
    """Of the intent that was read back there: what the host should enforce has the same one."""
    agent: str = ""
    """The version of the agent."""
    is_quarantined: bool = False
    disabled_until: datetime | None = None
    """Break-glass on that host."""
    refused: tuple[RefusedClaim, ...] = ()
    forwards: bool = False
    """It passes on traffic of others (containers, virtual machines, a network behind it): no policy judges that."""


class Relabel(Asked, frozen=True):
    """Labels to put on workloads and take off them. A change of labels is a change of policy."""

    workloads: tuple[str, ...]
    """Names, UUIDs or selectors."""
    put: Labels = {}
    remove: tuple[str, ...] = ()
    why: Text = ""
    """Needed to put them, not to plan it."""
    accept_failing: bool = False
    """Go on although tests that hold now would not."""
    plan: Text = ""
    """The digest of the plan that was looked at: refused if anything else would open or close by now."""


class SetMode(Asked, frozen=True):
    """How strictly workloads are held. A direction that is left out stays as it is."""

    workloads: tuple[str, ...]
    inbound: ModeName | None = None
    outbound: ModeName | None = None
    why: Text = ""
    """Needed to set it, not to plan it."""
    plan: Text = ""
    """The digest of the plan that was looked at: refused if other hosts would turn, or under other policies, by now."""


class Reason(Asked, frozen=True):
    why: Text = ""


# ---- policies ------------------------------------------------------------------------------------------------------


class VersionView(msgspec.Struct, frozen=True):
    """A version without its text."""

    number: int
    at: datetime
    actor: str
    note: str
    digest: str
    files: tuple[str, ...] = ()
    parent: int | None = None


class VersionText(msgspec.Struct, frozen=True):
    """A version, whole."""

    number: int
    files: dict[str, str]
    settings: str


class Example(msgspec.Struct, frozen=True):
    """One connection, and its verdict."""

    source: str
    destination: str
    service: str
    verdict: str
    reason: str
    rule: str | None = None


class BoxView(msgspec.Struct, frozen=True):
    """Connections that open or close together."""

    change: Literal["opened", "closed"]
    sources: str
    destinations: str
    services: tuple[str, ...]
    workload_pairs: int
    example: Example
    when: tuple[str, ...] = ()


class DiffView(msgspec.Struct, frozen=True):
    """What opens and closes, the largest first."""

    opened: int
    closed: int
    boxes: tuple[BoxView, ...] = ()
    more: int = 0
    """Boxes that are not listed."""


class ProofView(msgspec.Struct, frozen=True):
    """What became of one test."""

    policy: str
    name: str
    outcome: str
    expect: str
    pairs: int
    message: str = ""


class Broken(msgspec.Struct, frozen=True):
    """Connections that were seen and would not pass any more."""

    source: str
    destination: str
    service: str
    connections: int
    last: datetime
    rule: str | None
    example: str
    hint: str = ""
    about: bool = True
    """An end is what the change is about: in the scope of a policy that changes, or another by now itself."""
    is_new: bool = True
    """It breaks by this change; else it would break with it and without it, once its hosts enforce."""


class Impact(msgspec.Struct, frozen=True):
    """What stored traffic says about a change: what passes now and would not."""

    days: int
    connections: int
    """Seen in those days."""
    broken: tuple[Broken, ...] = ()
    """What breaks by this change comes first, then what the change is about."""
    more: int = 0
    elsewhere: int = 0
    """Of all kinds, listed or not, those that the change is not about: they stop once their hosts enforce, with it
    and without it."""
    blocked: int = 0
    """Of the connections seen, those that are blocked today already: no change breaks them."""
    anyway: int = 0
    """Of all kinds, listed or not, those that would break with this change and without it, once their hosts enforce:
    `elsewhere`, and what the change is about and does not mend."""

    @property
    def breaks(self) -> int:
        """Kinds that break by this change, listed or not."""
        return len(self.broken) + self.more - self.anyway


class LiveSession(msgspec.Struct, frozen=True):
    """Connections in use that a change would cut: of one pair of ends, on one service."""

    source: str
    destination: str
    service: str
    owner: str
    """Whose the destination is: the owner of the policies in whose scope it is, or its label `owner` or `team`."""
    source_owner: str
    last: datetime
    """When they were last seen to carry something."""
    reason: str
    rule: str | None = None


class LiveSessions(msgspec.Struct, frozen=True):
    """Connections in use, and which of them a change would cut, in the modes in force."""

    seconds: int
    """In use is what carried something in this time."""
    in_use: int
    """Pairs of ends and services that pass now."""
    cut: tuple[LiveSession, ...] = ()
    more: int = 0


class FailsafeView(msgspec.Struct, frozen=True):
    """What always passes, whatever policy says."""

    direction: Literal["in", "out"]
    addresses: tuple[str, ...]
    services: tuple[str, ...]


class Draft(Asked, frozen=True):
    """Policies somebody would have in force."""

    files: dict[str, str]
    base: Number
    """The version it was made from; 0: there was none."""
    settings: str = ""
    """The text of `ringfence.toml`."""
    note: Text = ""
    """Needed to apply or propose it: it stands in the history."""


class Plan(Asked, frozen=True):
    draft: Draft
    days: Annotated[int, msgspec.Meta(ge=0, le=365)] = 7
    """Of stored traffic to judge; 0: none."""


class LabelsPlanned(DiffView, frozen=True):
    """What new labels would do."""

    findings: tuple[Finding, ...] = ()
    """Tests that hold now and would not."""
    proofs: tuple[ProofView, ...] = ()
    impact: Impact | None = None
    sessions: LiveSessions | None = None
    failsafe: tuple[FailsafeView, ...] = ()
    digest: str = ""
    """What this plan goes by (`Relabel.plan`)."""
    changed: int = 0
    """Workloads whose labels would be others."""


class Turn(msgspec.Struct, frozen=True):
    """A host whose mode would be another."""

    name: str
    before: Mode
    after: Mode


class ModesPlanned(msgspec.Struct, frozen=True):
    """What would stop in other modes: every host in its own, as it is or would be."""

    changed: int
    """Workloads whose mode would be another; those without an agent are left out."""
    impact: Impact | None = None
    sessions: LiveSessions | None = None
    hosts: tuple[Turn, ...] = ()
    """By name; at most a thousand of them."""
    failsafe: tuple[FailsafeView, ...] = ()
    digest: str = ""
    """What this plan goes by (`SetMode.plan`)."""


class FileChange(msgspec.Struct, frozen=True):
    """What becomes of one file of policies when a draft is published over the newest version."""

    name: str
    change: Literal["added", "changed", "removed"]
    by: str = ""
    """Who made what it replaces or takes away; empty: nothing, or so old that nobody looked."""
    at: datetime | None = None
    version: int | None = None
    """The version that came with."""


class Planned(msgspec.Struct, frozen=True):
    """What a draft would do."""

    base: int
    diff: DiffView
    findings: tuple[Finding, ...] = ()
    proofs: tuple[ProofView, ...] = ()
    refusals: tuple[Finding, ...] = ()
    """Rules that an enforcement point cannot express: those allows stay closed there."""
    impact: Impact | None = None
    hosts: int = 0
    """Enforcement points it goes to."""
    settings_changed: bool = False
    against: int = 0
    """The version that hosts have, which it is compared with; 0: none."""
    sessions: LiveSessions | None = None
    failsafe: tuple[FailsafeView, ...] = ()
    digest: str = ""
    """What this plan goes by (`Apply.plan`)."""
    files: tuple[FileChange, ...] = ()
    """Against the newest version, which hosts need not have yet; those that it takes away come first."""


class How(Asked, frozen=True):
    """How a version reaches the hosts."""

    live: Live = "drain"
    grace_s: Annotated[int, msgspec.Meta(ge=0, le=3600)] = 60
    trial_s: Annotated[int, msgspec.Meta(ge=10, le=3600)] | None = 90
    """A host that does not confirm in time goes back by itself; none: no trial."""
    probes: tuple[Probe, ...] = ()
    canary: str = ""
    """A selector: who goes first."""
    canary_percent: Annotated[float, msgspec.Meta(ge=0, le=100)] = 0.0
    accept_refused: bool = False
    """Go on although allows stay closed somewhere."""


class Apply(Asked, frozen=True):
    draft: Draft
    how: How = How()
    plan: Text = ""
    """The digest of the plan that was looked at: refused if anything else would open or close by now."""


class Rollback(Asked, frozen=True):
    """Back to what an old version says."""

    to: Number
    base: Number
    note: Text = ""
    """Needed: it stands in the history."""
    how: How = How()
    plan: Text = ""
    """As `Apply.plan`, of a plan of what the old version says."""


class Approve(Asked, frozen=True):
    """Yes to what somebody else proposed, and to what it does."""

    plan: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    """The digest of the plan of its text (`POST /v1/plan`): nobody approves what they have not seen, and it is refused
    if anything else would open or close by now."""
    how: How = How()


class StandingView(msgspec.Struct, frozen=True):
    """One host in a rollout."""

    uuid: str
    name: str
    state: str
    why: str = ""


class RolloutView(msgspec.Struct, frozen=True):
    """A rollout as it stands."""

    version: int
    stage: str
    problem: str
    total: int
    confirmed: int
    laggards: tuple[StandingView, ...] = ()
    """Those that are not confirmed, who call for somebody first: at most a thousand, and 20 in a status or posture."""
    canary: int = 0
    """How many hosts were to go first; 0: all at once."""
    more_laggards: int = 0
    """Those that are not confirmed, either, and not listed."""
    behind: dict[str, int] = {}
    """All that are not confirmed, by state."""
    first: tuple[StandingView, ...] = ()
    """The canary as it stands: at most a thousand, and 20 in a status or posture."""
    well_since: datetime | None = None
    """While the canary goes first: since when all of it is well; none: it is not yet."""
    soak_s: int = 0
    """How long it must be, in seconds, before the rest follow."""


class Applied(msgspec.Struct, frozen=True):
    version: VersionView
    findings: tuple[Finding, ...] = ()
    proofs: tuple[ProofView, ...] = ()
    rollout: RolloutView | None = None


class ProposalView(msgspec.Struct, frozen=True):
    """Policies that wait for a second person."""

    id: str
    at: datetime
    actor: str
    note: str
    state: str
    base: int | None
    files: tuple[str, ...] = ()
    decided_by: str = ""
    version: int | None = None


class ProposalText(msgspec.Struct, frozen=True):
    """A proposal, whole: nobody decides about what they have not seen."""

    id: str
    files: dict[str, str]
    settings: str
    base: int | None


# ---- containment ---------------------------------------------------------------------------------------------------


class Contain(Asked, frozen=True):
    """Isolate workloads, now."""

    workloads: tuple[str, ...]
    """Names, UUIDs or selectors."""
    why: Text
    level: str = "isolate"
    allow: tuple[WrittenException, ...] = ()
    for_s: Seconds | None = None
    replace: bool = False
    """Also where a quarantine in force becomes shorter or weaker by it; refused with `weaker-than` otherwise."""


class Replaced(msgspec.Struct, frozen=True):
    """A quarantine in force whose place another takes."""

    id: str
    workload: str
    name: str
    level: str
    why: str
    by: str
    until: datetime | None
    weaker: tuple[str, ...] = ()
    """What becomes shorter or weaker, in words; empty: nothing does."""


class Hit(msgspec.Struct, frozen=True):
    """Who would be isolated."""

    name: str
    has_agent: bool
    """It isolates itself, too; otherwise only its peers do."""
    is_isolated: bool = False
    """Already; it would be isolated anew."""
    forwards: bool = False
    """It passes on traffic of others, which no policy judges: all of that would end, too."""


class ContainPlanned(msgspec.Struct, frozen=True):
    """What an isolation would hit. Nothing is changed."""

    workloads: tuple[Hit, ...]
    """By name; at most a thousand of them."""
    total: int
    peers: int
    """Hosts with an agent that would drop what goes to and comes from them."""
    replaces: tuple[Replaced, ...] = ()
    """Quarantines in force whose place it would take, those that would be weakened first; at most a thousand."""
    weakened: int = 0
    """So many of them, all counted, would become shorter or weaker."""


class Release(Asked, frozen=True):
    workloads: tuple[str, ...]
    why: Text = ""
    """Needed."""


class HostCheckView(msgspec.Struct, frozen=True):
    uuid: str
    name: str
    state: Literal["verified", "pending", "unreachable"]


class ContainedView(msgspec.Struct, frozen=True):
    """A quarantine and how far it is in force."""

    id: str
    workload: str
    name: str
    level: str
    why: str
    by: str
    since: datetime
    until: datetime | None
    allow: tuple[WrittenException, ...]
    own: HostCheckView | None
    """The isolated host itself; none where no agent runs."""
    verified_peers: int
    peers: int
    is_verified: bool
    """Read back by the host itself, where an agent runs, and by every peer."""
    state: Literal["verified", "partly", "pending"] = "pending"
    """`partly`: read back by all that are heard. `pending`: not so, or nobody is heard."""
    unreachable: int = 0
    """Hosts of which nothing is known, the isolated one included."""
    pending: tuple[HostCheckView, ...] = ()
    """The peers that did not read it back, those that are heard first; no more than a thousand."""
    replaces: tuple[Replaced, ...] = ()
    """Whose place it took. Told as it begins; later the audit log has it."""
    forwards: bool = False
    """The isolated host passes on traffic of others: none gets through while the quarantine is in force there."""


# ---- alerts, audit, evidence ----------------------------------------------------------------------------------------


AlertView = Alert


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what. All but the names is what `hash` is the SHA-256 of, as canonical JSON without `hash` itself."""

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
    name: str | UnsetType = UNSET
    """What the workload is called, or was, where the subject is the UUID of one."""
    actor_name: str | UnsetType = UNSET
    """The same of the actor."""


class Handle(Asked, frozen=True):
    """What somebody does about an alert."""

    why: Text = ""


class AuditChecked(msgspec.Struct, frozen=True):
    """What became of checking the log."""

    entries: int
    signed: int
    """How far a signature covers them."""
    is_intact: bool
    last_hash: str = ""
    broken: Finding | None = None


class AskEvidence(Asked, frozen=True):
    """A bundle of who talks with what program under which rules."""

    workload: Name
    why: Text
    with_command_lines: bool = False
    """They may hold passwords."""


class EvidenceView(msgspec.Struct, frozen=True):
    """A bundle, asked for or here."""

    id: str
    workload: str
    name: str
    at: datetime
    by: str
    state: Literal["asked", "arriving", "here"]
    size_bytes: int = 0
    digest: str = ""


# ---- the controller itself ------------------------------------------------------------------------------------------


PartState = Literal["ok", "degraded", "failed"]


class Part(msgspec.Struct, frozen=True):
    """One part of the controller, and how it is."""

    name: str
    state: PartState
    message: str = ""


class Status(msgspec.Struct, frozen=True):
    """The controller and its fleet, in numbers."""

    version: str
    name: str
    started: datetime
    trust_domain: str
    ca_fingerprint: str
    parts: tuple[Part, ...]
    workloads: int
    agents: dict[str, int]
    """By what was read back on their hosts; `unreachable` is whoever is not heard."""
    policy_version: int
    needs_approval: bool
    """Policies take a second person: one proposes, another approves."""
    rollout: RolloutView
    quarantines: int
    quarantines_verified: int
    alerts: dict[str, int]
    """Not closed, by severity."""

    @property
    def is_well(self) -> bool:
        return all(part.state == "ok" for part in self.parts)


class BackUp(Asked, frozen=True):
    """A backup of the state, the CA and the keys. Whoever has it unsealed has the estate."""

    passphrase: Annotated[str, msgspec.Meta(max_length=1000)] = ""


class Event(msgspec.Struct, frozen=True):
    """Something that happened just now, of the stream. `lost`: how many before it were."""

    kind: Literal["violation", "alert", "still-here"]
    message: str = ""
    host: str = ""
    alert: Alert | None = None
    violation: Violation | None = None
    lost: int = 0
