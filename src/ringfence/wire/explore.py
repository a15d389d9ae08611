"""What people ask about an estate and change nothing by: the map, tables, drafts under the pen, what to do next.

INVARIANT: every list is bounded, and says how much of it is left out.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from ringfence.core.engine.prove import Outcome as ProofOutcome
from ringfence.core.engine.questions import Answer, Near
from ringfence.core.engine.reach import Reached
from ringfence.core.errors import Finding
from ringfence.core.identity.workload import ModeName
from ringfence.core.insight.confidence import Confidence
from ringfence.core.insight.evidence import Evidence
from ringfence.core.insight.exposure import Reaching
from ringfence.core.insight.learning import Level
from ringfence.core.insight.leftovers import Leftover
from ringfence.core.insight.map import Status
from ringfence.core.insight.places import PlaceKind
from ringfence.core.insight.recommendation import Coverage as RowCoverage
from ringfence.core.insight.simulate import ApplicationCoverage, Break, Change, Count, RuleUse, Talker
from ringfence.core.world import Reason, VerdictName
from ringfence.wire.api import DiffView, HostState, RolloutView, Text

Key = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


# ---- drafts ---------------------------------------------------------------------------------------------------------


class Pen(_Asked, frozen=True):
    """Policy files as somebody would have them: laid over those that hosts have."""

    files: dict[str, str] = {}
    """Name, as in `shop.yaml` -> text. One of a name that is in force stands in its place."""
    remove: tuple[str, ...] = ()
    """Files in force that would go."""
    alone: bool = False
    """These files and nothing else."""
    settings: str | None = None
    """The text of `ringfence.toml`; none: as it is in force."""


# ---- the map, the table, the matrix ---------------------------------------------------------------------------------

Shown = Literal["allowed", "no-policy", "would-block", "blocked", "unheld", "uncovered", "opens", "closes"]
"""A status of the map; `unheld`: policy blocks it, and no end that says so has an agent; `uncovered`: no rule speaks of
it; `opens`, `closes`: the draft lets it pass, or no more."""


class Query(_Asked, frozen=True):
    """Which traffic, folded how: one question for the map, the table and the matrix."""

    by: Annotated[tuple[Key, ...], msgspec.Meta(max_length=8)] = ()
    """Label keys, the outermost first; none: the usual ones the estate has."""
    where: Text = ""
    """Either end: a selector, a workload, a segment, an address, a CIDR, `internet` or `private`."""
    source: Text = ""
    destination: Text = ""
    since: datetime | None = None
    until: datetime | None = None
    service: Text = ""
    verdict: Shown | None = None
    draft: Pen | None = None
    as_mode: ModeName | None = None
    """As if every host were in this mode; none: each in its own."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=50_000)] = 10_000


class MapNode(msgspec.Struct, frozen=True, gc=False):
    """Workloads that share the labels asked for, or a place that nobody of ours is at."""

    id: str
    """Of workloads the selector that picks them."""
    name: str
    kind: PlaceKind
    labels: dict[str, str | None]
    selector: str | None
    """How a rule would name exactly them; none where it could not."""
    workloads: int
    controlled: int
    """Workloads with an agent of ours."""
    kinds: dict[str, int]
    modes: dict[str, int]
    """Of those with an agent."""
    addresses: int
    jewels: tuple[str, ...]
    """The critical segments it has workloads of."""
    is_crown_jewel: bool
    quarantined: int
    sources: int
    """Groups that opened connections to it, in what was asked for."""
    destinations: int
    """Groups it opened connections to."""
    from_internet: int
    """Connections the internet opened to it."""
    members: tuple[str, ...]
    """The first names."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What policy says about traffic."""

    status: Status
    verdict: VerdictName | None
    reason: Reason | None
    rule: str | None
    is_uncovered: bool
    """No rule speaks of it."""


class MapUse(msgspec.Struct, frozen=True, gc=False):
    """One service of an edge with one outcome."""

    service: str
    connections: int
    bytes: int
    status: Status
    reason: Reason | None
    rule: str | None


class EdgeOutcome(msgspec.Struct, frozen=True, gc=False):
    """The worst that policy says of an edge, and the rules it says so by."""

    status: Status
    verdict: VerdictName | None
    rules: tuple[str, ...]
    is_uncovered: bool
    """Of some of it no rule speaks."""


class MapEdge(msgspec.Struct, frozen=True, gc=False):
    """All that one group opened towards another."""

    source: int
    """Index into the nodes."""
    destination: int
    now: EdgeOutcome
    draft: EdgeOutcome | None
    services: tuple[MapUse, ...]
    """Worst first, then busiest."""
    more_services: int
    connections: int
    bytes: int
    first: datetime
    last: datetime
    pairs: int
    """Distinct pairs of ends."""
    is_north_south: bool


class Truncated(msgspec.Struct, frozen=True):
    """What is left out of a bounded answer."""

    nodes: int = 0
    edges: int = 0


class MapView(msgspec.Struct, frozen=True):
    """Who talks to whom. Edges: those a draft says otherwise of, then unprotected first, then the busiest."""

    by: tuple[str, ...]
    is_judged: bool
    nodes: tuple[MapNode, ...]
    edges: tuple[MapEdge, ...]
    statuses: dict[Status, int]
    """Edges by the worst of them, all of them."""
    connections: int
    bytes: int
    first: datetime | None
    last: datetime | None
    truncated: Truncated
    policy_version: int
    """It was judged by; 0: there is none."""


SortKey = Literal["source", "destination", "service", "status", "change", "connections", "bytes", "first", "last"]
"""`change`: what a draft says otherwise first, then by status."""


class TableQuery(Query, frozen=True):
    """A page of the table."""

    sort: SortKey = "connections"
    is_descending: bool = True
    offset: Annotated[int, msgspec.Meta(ge=0, le=10_000_000)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


class FlowRow(msgspec.Struct, frozen=True):
    """One service between two groups, with one outcome."""

    source: str
    """The id of the group."""
    source_name: str
    destination: str
    destination_name: str
    service: str
    now: Outcome
    draft: Outcome | None
    connections: int
    packets: int
    bytes: int
    first: datetime
    last: datetime


class FlowPage(msgspec.Struct, frozen=True):
    """Some of the table."""

    rows: tuple[FlowRow, ...]
    total: int
    connections: int
    """Of all rows."""
    truncated: int
    """Rows after this page."""


class MatrixQuery(Query, frozen=True):
    """Who talks to whom as a square."""

    segments: bool = False
    """Segments of the policies instead of labels. A workload may be in several."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 100
    """Of the rows, and of the columns."""


class Axis(msgspec.Struct, frozen=True):
    """One row and column."""

    id: str
    name: str
    kind: PlaceKind | Literal["segment", "rest"]
    workloads: int
    is_crown_jewel: bool


class Cell(msgspec.Struct, frozen=True):
    """Where traffic was seen."""

    source: int
    """Index into the axes."""
    destination: int
    connections: int
    status: Status
    """The worst."""
    statuses: dict[Status, int]
    """Connections by status."""
    uncovered: int
    """Connections that no rule speaks of."""
    draft: dict[Status, int] | None


class MatrixView(msgspec.Struct, frozen=True):
    """Axes the busiest first; cells with traffic only."""

    axes: tuple[Axis, ...]
    cells: tuple[Cell, ...]
    truncated: int
    """Axes that are left out, with their cells."""


class EdgeQuery(Query, frozen=True, kw_only=True):
    """One edge of the map that the same query gives."""

    source_group: Text
    """The id of a node."""
    destination_group: Text


class NearQuery(Query, frozen=True, kw_only=True):
    """Workloads of some groups of the map that the same query gives, with edges of their own."""

    groups: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=64)]
    """Ids of nodes."""
    most: Annotated[int, msgspec.Meta(ge=1, le=200)] = 48
    """Workloads of one group."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 2000
    """Edges."""


class NearWorkload(msgspec.Struct, frozen=True, gc=False):
    """One workload of a group."""

    uuid: str
    name: str
    group: str
    """The id of its node."""
    has_agent: bool
    mode: str


class NearEnd(msgspec.Struct, frozen=True, gc=False):
    """One end of an edge: a workload that is listed, or all others of a group."""

    group: str
    workload: str = ""


class NearEdge(msgspec.Struct, frozen=True, gc=False):
    """All that one end opened towards another."""

    source: NearEnd
    destination: NearEnd
    status: Status
    """The worst of it."""
    draft: Status | None
    is_changed: bool
    """The draft says otherwise of some of it."""
    connections: int
    services: tuple[str, ...]
    """The busiest."""


class NearView(msgspec.Struct, frozen=True):
    """Workloads and edges, the most urgent first."""

    workloads: tuple[NearWorkload, ...]
    more_workloads: dict[str, int]
    """By group how many are left out: their edges are the group's."""
    edges: tuple[NearEdge, ...]
    more_edges: int
    """Edges that are left out."""


class EdgeUse(msgspec.Struct, frozen=True):
    """One service of an edge, between programs where these are known, with one outcome."""

    service: str
    point: str
    """The protocol and port: `tcp/5432`."""
    source_process: str
    """The unit that opened it; empty: not known."""
    destination_process: str
    now: Outcome
    draft: Outcome | None
    connections: int
    packets: int
    bytes: int
    first: datetime
    last: datetime
    example: str
    """`web-1 -> db-1`: the busiest pair."""


class Decider(msgspec.Struct, frozen=True):
    """A rule that decides some of an edge."""

    rule: str
    """`policy/name`."""
    policy: str
    name: str
    action: Literal["allow", "deny", "forbid"]
    because: str
    file: str
    line: int
    connections: int
    is_draft: bool


class RuleProposal(msgspec.Struct, frozen=True):
    """A rule for what no rule speaks of, in the policy of whoever owns the destination."""

    policy: str
    file: str
    """Where it belongs; a new one where `is_new`."""
    is_new: bool
    rules: str
    """The rules as YAML, to be pasted under `rules:`."""
    text: str
    """The whole file with them."""


class EdgeView(msgspec.Struct, frozen=True):
    """What is known of an edge."""

    source: str
    destination: str
    connections: int
    bytes: int
    first: datetime | None
    last: datetime | None
    uses: tuple[EdgeUse, ...]
    """Those a draft says otherwise of, then the worst, then the busiest."""
    more_uses: int
    talkers: tuple[str, ...]
    """The busiest pairs, as `web-1 -> db-1`."""
    pairs: int
    rules: tuple[Decider, ...]
    uncovered: int
    """Connections that no rule speaks of."""
    proposals: tuple[RuleProposal, ...]
    why_not: tuple[str, ...]
    """Why there is no rule for some of it."""


# ---- drafts under the pen -------------------------------------------------------------------------------------------


class Check(Pen, frozen=True):
    """Policy files to be checked while they are written."""

    lint: bool = True
    """Rules that change nothing, or contradict."""
    tests: bool = True


class TestView(msgspec.Struct, frozen=True):
    """What became of one test."""

    policy: str
    name: str
    file: str
    line: int
    expect: Literal["allowed", "blocked"]
    outcome: ProofOutcome
    pairs: int
    """Pairs of classes it was proven over."""
    violations: int
    message: str
    counterexample: Answer | None
    allowed_by: tuple[str, ...]
    """Rules that let the counterexample pass, or what is proven to."""
    nearest: Near | None
    """Of what should pass and does not: the rule that misses it by least."""


class Checked(msgspec.Struct, frozen=True):
    """What there is to say about a draft. Findings: those of its own files first, each file from its top."""

    is_sound: bool
    """It can be read, and no test fails."""
    findings: tuple[Finding, ...]
    tests: tuple[TestView, ...]
    policies: int
    rules: int
    truncated: int
    """Findings that are left out."""


class LabelWord(msgspec.Struct, frozen=True):
    """A label key, with its most frequent values and how many workloads have each."""

    key: str
    workloads: int
    values: dict[str, int]
    more: int
    """Values that are left out."""
    is_ignored: bool
    """It makes no identities, and may not be selected on."""


class SegmentWord(msgspec.Struct, frozen=True):
    name: str
    """`policy.segment`."""
    policy: str
    selector: str
    """All that it is: its scope included."""
    workloads: int
    is_crown_jewel: bool


class ServiceWord(msgspec.Struct, frozen=True):
    name: str
    ports: str
    policy: str
    """Whose it is; empty: everybody knows it."""


class PolicyWord(msgspec.Struct, frozen=True):
    name: str
    file: str
    owner: str
    scope: str
    rules: int
    tests: int


class Words(msgspec.Struct, frozen=True):
    """What may be written in a policy of this estate."""

    labels: tuple[LabelWord, ...]
    segments: tuple[SegmentWord, ...]
    services: tuple[ServiceWord, ...]
    policies: tuple[PolicyWord, ...]
    peers: tuple[str, ...]
    """Words that stand for ends: `anyone`."""


# ---- the home page --------------------------------------------------------------------------------------------------


class Coverage(msgspec.Struct, frozen=True):
    """Connections of a stretch of time by what policy says of them now."""

    hours: int
    """Fewer than a day, or a week, where all of it does not fit into memory."""
    connections: int
    covered: int
    """A rule speaks of them, or they are essential."""
    uncovered: int
    """No rule speaks of them, though an end is controlled."""
    uncontrolled: int
    """No end is."""
    would_block: int
    """They pass by the mode of a host only."""
    blocked: int
    """By an agent of ours."""
    unheld: int
    """Policy blocks them, and no agent is there to."""

    @property
    def share(self) -> float:
        """Of those that can be controlled."""
        controlled = self.covered + self.uncovered
        return self.covered / controlled if controlled else 1.0


class JewelView(msgspec.Struct, frozen=True):
    """A critical segment, and who reaches it in one step."""

    segment: str
    """`policy.segment`."""
    selector: str
    workloads: int
    enforcing: int
    """Of them, those that hold inbound traffic to the rules."""
    identities_now: int
    """Distinct label sets that reach it on some service, each host in the mode it is in."""
    workloads_now: int
    is_open_to_internet_now: bool
    identities_allowed: int
    """Once everything is enforced; conditions of rules taken as holding."""
    workloads_allowed: int
    is_open_to_internet: bool
    seen: int
    """Workloads and addresses that connected to it in the last seven days."""


class Step(msgspec.Struct, frozen=True):
    """What to do next."""

    code: str
    text: str
    link: str
    """Where in the UI."""
    severity: Literal["critical", "warning", "info"]
    count: int


class LaggardView(msgspec.Struct, frozen=True):
    """A host that is not where it should be."""

    uuid: str
    name: str
    state: HostState
    problems: tuple[str, ...]
    seen: datetime | None


class Posture(msgspec.Struct, frozen=True):
    """How protected the estate is."""

    at: datetime
    policy_version: int
    rules: int
    workloads: int
    controlled: int
    unlabelled: int
    modes: dict[str, int]
    """Controlled workloads: `observe`, `enforce`, `in enforce, out observe`."""
    states: dict[str, int]
    """Workloads by what was read back."""
    coverage: tuple[Coverage, ...]
    """The last day, the last week."""
    jewels: tuple[JewelView, ...]
    laggards: tuple[LaggardView, ...]
    more_laggards: int
    alerts: dict[str, int]
    """Not closed, by severity."""
    quarantines: int
    rollout: RolloutView
    proposals: int
    """That wait for a second person."""
    next: tuple[Step, ...]
    """The most urgent first."""


# ---- recommended, and rehearsed -------------------------------------------------------------------------------------


class AskRecommend(_Asked, frozen=True):
    """A policy for what was seen."""

    where: Text = ""
    """Only traffic with these workloads: a selector; none: all of it."""
    level: Level = "port"
    tight: Annotated[int, msgspec.Meta(ge=0, le=10)] = 5
    """0: general; 10: only what was seen."""
    least: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 2
    """Connections that make a pair worth a rule."""
    since: datetime | None = None
    until: datetime | None = None
    draft: Pen | None = None
    """What there is already; none: what is in force."""
    accept: Annotated[tuple[Text, ...], msgspec.Meta(max_length=10_000)] | None = None
    """Only these of the recommended rules (`policy/name`) go into the files; none: all of them."""


class RuleEvidence(msgspec.Struct, frozen=True):
    """A recommended rule, and what stands behind it."""

    rule: str
    """`policy/name`."""
    policy: str
    text: str
    """As YAML."""
    evidence: Evidence
    utilisation: float | None
    """The share of what it permits that was seen."""
    pairs: tuple[str, ...]
    """The busiest, as `web-1 -> db-1`."""
    is_accepted: bool


class Stage(msgspec.Struct, frozen=True):
    """A step of the coverage curve."""

    rule: str
    connections: int
    share: float
    """Of the connections that call for a rule, those that have one once this and all rules before it are accepted."""


class Recommended(msgspec.Struct, frozen=True):
    """What is recommended, and how far to trust it."""

    files: tuple[RuleProposal, ...]
    rules: tuple[RuleEvidence, ...]
    set_aside: tuple[Leftover, ...]
    uncovered: tuple[Leftover, ...]
    coverage: RowCoverage
    share: float
    """Of the connections that call for a rule, those that have one."""
    curve: tuple[Stage, ...]
    """Rules in the order in which they cover most, and what they cover together."""
    share_before: float
    """Without any of them: what rules in force allow."""
    precision: float
    """Of what the rules permit, what was seen."""
    confidence: Confidence
    by_policy: tuple[Confidence, ...]
    scopes: dict[str, str]
    """Policy -> the selector of those it is about; without those that are about nobody in particular."""
    findings: tuple[Finding, ...]
    """What to mend before it is trusted."""
    broken: tuple[Finding, ...]
    """Tests of policies there are that hold now, and would not with these files: what was seen must not be, somebody
    said."""


class AskSimulate(_Asked, frozen=True):
    """Stored traffic against policies that are not enforced yet."""

    draft: Pen | None = None
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    """In place of a draft; neither: what is in force."""
    where: Text = ""
    """Only traffic with these at either end: a selector, a workload, a segment, an address; none: all of it."""
    since: datetime | None = None
    until: datetime | None = None
    as_mode: ModeName | None = "enforce"
    """As if every host were in this mode; none: each in its own."""
    bucket_h: Annotated[int, msgspec.Meta(ge=1, le=168)] = 1
    """Hours of one point of the series."""


class Timeline(msgspec.Struct, frozen=True):
    """Connections a stretch of time, in step; stretches without traffic are left out."""

    start: tuple[datetime, ...]
    allowed: tuple[int, ...]
    """Pass now, and would."""
    escaped: tuple[int, ...]
    """Pass now, and would not."""
    opened: tuple[int, ...]
    """Blocked now, and would pass."""
    blocked: tuple[int, ...]
    """Blocked now, and would be."""


class Simulated(msgspec.Struct, frozen=True):
    """What would become of stored traffic. Groups: most connections first."""

    is_clean: bool
    """Nothing breaks."""
    totals: dict[VerdictName, Count]
    series: Timeline
    breaks: tuple[Break, ...]
    more_breaks: int
    noise: tuple[Leftover, ...]
    """What would not pass and nobody misses."""
    opens: tuple[Change, ...]
    closes: tuple[Change, ...]
    rules: tuple[RuleUse, ...]
    unused: tuple[str, ...]
    talkers: tuple[Talker, ...]
    applications: tuple[ApplicationCoverage, ...]
    truncated: int
    """Rules and applications that are left out."""


# ---- how far a breach goes ------------------------------------------------------------------------------------------


class AskBlast(_Asked, frozen=True):
    """What somebody reaches who was compromised; or who reaches what is critical."""

    of: Text
    """A workload, selector, segment, address or `internet`."""
    way: Literal["from", "to"] = "from"
    """`from`: what it reaches; `to`: who reaches it."""
    hops: Annotated[int, msgspec.Meta(ge=1, le=16)] = 3
    service: Text = ""
    draft: Pen | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=5000)] = 500
    """Of the groups."""


class Hop(msgspec.Struct, frozen=True):
    """All that is first reached in so many steps."""

    hop: int
    identities: int
    workloads: int
    total: int
    """Workloads up to here."""
    jewels: tuple[str, ...]
    """Critical segments with somebody among them."""


class Blast(msgspec.Struct, frozen=True):
    """How far it goes once everything is enforced; conditions of rules taken as holding."""

    hops: tuple[Hop, ...]
    reached: tuple[Reached, ...]
    """Nearest first, the largest first."""
    truncated: int
    jewels: dict[str, tuple[str, ...]] = {}
    """Critical segments, and who of those reached are in each."""


class BlastView(msgspec.Struct, frozen=True):
    """How far a breach goes."""

    of: str
    workloads: int
    """Compromised, or critical."""
    way: Literal["from", "to"]
    now: Reaching
    """In one step, each host in the mode it is in."""
    in_force: Blast
    draft: Blast | None
    unheld: int = 0
    """Workloads of all that could have an agent and have none: rules do not hold there, whatever `in_force` counts."""


# ---- rules in use ---------------------------------------------------------------------------------------------------


class RuleView(msgspec.Struct, frozen=True):
    """A rule in force, and what it was used for in the traffic asked about."""

    rule: str
    """`policy/name`."""
    policy: str
    name: str
    action: Literal["allow", "deny", "forbid"]
    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    services: tuple[str, ...]
    because: str
    file: str
    line: int
    until: str
    connections: int
    """It decided."""
    rows: int
    last: datetime | None
    source_members: int
    """Live workloads it is about; of ranges of addresses only those that workloads hold."""
    destination_members: int
    sources_used: int
    """Of them, those it decided about."""
    destinations_used: int
    utilisation: float | None
    """Used pairs / pairs it lets talk; none where addresses are among the ends, or nobody is."""


class RulesView(msgspec.Struct, frozen=True):
    """Rules, those first that could be tightened most: unused, then little used."""

    rules: tuple[RuleView, ...]
    days: int
    """As asked."""
    hours: int
    """Of traffic that was looked at: fewer where all of it does not fit into memory."""
    total: int
    unused: int
    truncated: int


# ---- what there is to begin with ------------------------------------------------------------------------------------


class ImportInventory(_Asked, frozen=True):
    """An inventory file: planned first, then applied by the digest of what was shown."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    """Of the file: its suffix tells the format (`.csv`, `.tsv`, `.json`, `.yaml`)."""
    text: str
    apply: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """The digest of the plan that is to be applied; empty: only plan."""
    accept_failing: bool = False
    """Go on although tests that hold now would not."""
    why: Text = ""


class LabelChange(msgspec.Struct, frozen=True):
    """A workload that gets other labels."""

    name: str
    before: dict[str, str]
    after: dict[str, str]


class InventoryPlanned(msgspec.Struct, frozen=True):
    """What an inventory file would do. Nobody is removed by it."""

    digest: str
    new: tuple[str, ...]
    """Names, the first of them."""
    new_count: int
    relabelled: tuple[LabelChange, ...]
    relabelled_count: int
    readdressed: int
    """Workloads of earlier files that get other addresses; those of agents keep what the agent says."""
    unchanged: int
    findings: tuple[Finding, ...]
    """Of the file; addresses with two holders; tests that hold now and would not."""
    diff: DiffView
    """What new labels open and close."""
    is_applied: bool


class Job(msgspec.Struct, frozen=True):
    """Work that takes a while."""

    id: str
    kind: Literal["flows-import"]
    state: Literal["running", "done", "failed"]
    by: str
    started: datetime
    finished: datetime | None = None
    done_bytes: int = 0
    total_bytes: int = 0
    records: int = 0
    connections: int = 0
    malformed: int = 0
    findings: tuple[Finding, ...] = ()


class LoadDemo(_Asked, frozen=True):
    """Which recorded estate."""

    estate: Literal["shop"]


class DemoLoaded(msgspec.Struct, frozen=True):
    """The recorded estate, now here."""

    workloads: int
    conversations: int
    """Rows of traffic, its times moved so that the last of it was just now."""
