"""What people ask about an estate and change nothing by: drafts under the pen, what to do next, how far a breach goes.

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
from ringfence.core.insight.recommendation import Coverage as RowCoverage
from ringfence.core.insight.simulate import ApplicationCoverage, Break, Change, Count, RuleUse, Talker
from ringfence.core.world import VerdictName
from ringfence.wire.api import Asked, HostState, RolloutView, Text
from ringfence.wire.explore import Pen, RuleProposal

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


class AskRecommend(Asked, frozen=True):
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


class AskSimulate(Asked, frozen=True):
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


class AskBlast(Asked, frozen=True):
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
