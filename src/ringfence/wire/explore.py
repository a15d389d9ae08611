"""What people ask of the traffic that was seen, and what they are shown: the map, one edge of it, tables, the matrix.

INVARIANT: every list is bounded, and says how much of it is left out.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from ringfence.core.identity.workload import ModeName
from ringfence.core.insight.map import Status
from ringfence.core.insight.places import PlaceKind
from ringfence.core.world import Reason, VerdictName
from ringfence.wire.api import Asked, Text

Key = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]


# ---- drafts ---------------------------------------------------------------------------------------------------------


class Pen(Asked, frozen=True):
    """Policy files as somebody would have them: laid over those that hosts have."""

    files: dict[str, str] = msgspec.field(default_factory=dict)
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


class Query(Asked, frozen=True):
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
    programs: bool = False
    """Whether edges are told apart by the programs of workloads that are listed."""
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
    programs: tuple[str, ...] = ()
    """Its units at either end of what was seen, the busiest first."""
    more_programs: int = 0


class NearEnd(msgspec.Struct, frozen=True, gc=False):
    """One end of an edge: a workload that is listed, or one of its programs, or all others of a group."""

    group: str
    workload: str = ""
    program: str = ""


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
    """Of programs as many as their hosts count: they need not add up to those of the workload."""
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
    """One service of an edge with one outcome, and the programs at its ends where these are known."""

    service: str
    point: str
    """The protocol and port: `tcp/5432`."""
    source_programs: tuple[str, ...]
    """Units that opened it, as their hosts say, the busiest first; none: not known."""
    destination_programs: tuple[str, ...]
    """Units that listened."""
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
    base: int
    """The version that the file is an extension of: what most hosts have, perhaps not the newest. 0: there is none."""


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
