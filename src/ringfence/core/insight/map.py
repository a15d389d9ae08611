"""The map: conversations folded to who talks to whom between groups of workloads, by any labels.

A group is one distinct tuple of the chosen labels' values, or a place that no workload holds: the internet, a private
subnet, multicast. An edge is everything one group opened towards another, split by service and by what policy says.

INVARIANT: nothing is lost or counted twice: the edges' connections, packets and bytes add up to the conversations',
and each edge's uses add up to the edge.
INVARIANT: the map is a function of the set of rows and workloads, never of their order.

It does not decide anything: verdicts are given, a row each, by the one evaluator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import DIRECTION_CONFIDENCE, REPORTED, Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.insight.fold import Fold, dense, ranked
from ringfence.core.insight.places import PlaceKind, Placement, party_text, place
from ringfence.core.insight.services import ServiceNames
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.world import REASONS, VERDICTS, Reason, VerdictName

Status = Literal["allowed", "no-policy", "would-block", "blocked", "unheld"]
STATUSES: tuple[Status, ...] = ("allowed", "no-policy", "would-block", "blocked", "unheld")
"""A verdict as the map shows it, mildest first: `no-policy` is traffic not judged, or with no controlled end; `unheld`
what policy blocks, but at no end that has an agent to do it."""
ON_DISK = STATUSES[:-1]
"""Those of an estate on disk, which has no agents."""
GUESSED = DIRECTION_CONFIDENCE.index("port-order")
TALKERS = 5
"""How many of an edge's busiest pairs are named; `pairs` counts them all."""


class JudgedRows(Protocol):
    """What the engine says of each row. `rule` indexes the list of rule names, -1 where none is named."""

    @property
    def verdict(self) -> NDArray[np.integer]: ...
    @property
    def reason(self) -> NDArray[np.integer]: ...
    @property
    def rule(self) -> NDArray[np.integer]: ...


class Volume(msgspec.Struct, frozen=True, gc=False):
    """How much, and when first and last: seconds since the epoch, UTC."""

    connections: int
    packets: int
    bytes: int
    first: int
    last: int


class Group(msgspec.Struct, frozen=True):
    """The workloads with one tuple of label values, or a place that no workload holds."""

    id: str
    """Unique in the map; of workloads, the selector that picks them (`env=prod,!role`)."""
    name: str
    kind: PlaceKind
    values: tuple[str | None, ...] = ()
    """The labels' values in the order of `FlowMap.by`; None where the label is missing."""
    members: tuple[str, ...] = ()
    """Names of the workloads, sorted: those of the inventory and those that held an address in the traffic."""
    controlled: int = 0
    """How many of the members have an enforcement point."""
    modes: dict[str, int] = {}
    """Controlled members by mode: `observe`, `enforce`, `in enforce, out observe`."""
    addresses: int = 0
    """Distinct addresses (or names) seen, where no workload holds them."""
    peer: str | None = None
    """How a rule would name exactly this group: its selector or `internet`; None where no peer is exact (a CIDR would
    take in the workloads among its addresses)."""

    @property
    def is_controlled(self) -> bool:
        """Whether every member has an enforcement point; an empty group has none."""
        return 0 < self.controlled == len(self.members)

    @property
    def size_text(self) -> str:
        """`3 workloads`."""
        return f"{len(self.members)} workload{'' if len(self.members) == 1 else 's'}"


class Use(msgspec.Struct, frozen=True, gc=False):
    """One service of an edge with one outcome; a service judged in several ways has several uses."""

    service: str
    """Its name where it has one, else its point: `tcp/8080`."""
    points: tuple[str, ...]
    """The protocols and ports seen, `tcp/53`; at most `POINTS` of them, least first."""
    point_count: int
    volume: Volume
    verdict: VerdictName | None = None
    """None: not judged."""
    reason: Reason | None = None
    rule: str | None = None
    """None: no rule speaks of it."""
    is_held: bool = True
    """Whether an end that says so has an agent; of estates on disk, always."""

    @property
    def status(self) -> Status:
        return status_of(self.verdict, self.reason, is_held=self.is_held)


class Talker(msgspec.Struct, frozen=True, gc=False):
    """One pair of ends of an edge, by workload name or address."""

    source: str
    destination: str
    connections: int
    bytes: int


class Edge(msgspec.Struct, frozen=True, gc=False):
    """All traffic one group opened towards another (or itself)."""

    source: int
    """Index into `FlowMap.groups`."""
    destination: int
    volume: Volume
    uses: tuple[Use, ...]
    """Worst first, then busiest."""
    is_north_south: bool
    """Whether one end is outside: the internet, or a name."""
    reported: dict[str, int]
    """Connections by what the reporter said happened, zeros left out."""
    guessed: int
    """Connections whose direction rests on nothing better than the order of their ports."""
    pairs: int
    """How many distinct pairs of ends talked."""
    talkers: tuple[Talker, ...]
    """The busiest pairs, most connections first."""

    @property
    def status(self) -> Status:
        """The worst of its uses."""
        return self.uses[0].status

    @property
    def verdict(self) -> VerdictName | None:
        """The worst of its uses; None when it is not judged."""
        return max((use.verdict for use in self.uses if use.verdict), key=VERDICTS.index, default=None)

    @property
    def rules(self) -> tuple[str, ...]:
        """Every rule named for any of its uses, sorted."""
        return tuple(sorted({use.rule for use in self.uses if use.rule is not None}))


class FlowMap(msgspec.Struct, frozen=True):
    """Groups sorted by kind and values; edges sorted by their ends."""

    by: tuple[str, ...]
    groups: tuple[Group, ...]
    edges: tuple[Edge, ...]
    is_judged: bool


POINTS = 16
"""How many points a use lists; `point_count` counts them all (a scan of a named range can have thousands)."""


def status_of(verdict: VerdictName | None, reason: Reason | None, *, is_held: bool = True) -> Status:
    """How the map shows a verdict: what nobody controls is not protected, so it is not shown as allowed by policy; what
    nobody holds is not stopped, whatever policy says."""
    if verdict is None or reason == "uncontrolled":
        return "no-policy"
    return "unheld" if verdict == "blocked" and not is_held else verdict


def group(
    conversations: Conversations,
    inventory: Inventory,
    by: Sequence[str],
    *,
    judgement: JudgedRows | None = None,
    rules: Sequence[str] = (),
    services: Mapping[str, IntervalSet] | None = None,
    subnets: bool = True,
    unheld: NDArray[np.bool_] | None = None,
    most_talkers: int = TALKERS,
) -> FlowMap:
    """The map of these conversations by these label keys.

    `services` are the policies' own named services; they shadow the built-in dictionary. `subnets` shows unlabelled
    private addresses by /24 (IPv6: /64) and network, else all together. `unheld`: rows that policy
    blocks, and no agent is there to; None: of no fleet. `most_talkers`: named an edge.

    Raises InputError `map-by-nothing`, `map-by-twice`, `map-by-unknown-label`.
    """
    _check_keys(by, inventory)
    placement = place(conversations.endpoints, inventory, tuple(by), subnets=subnets)
    groups = _groups(placement, selectable=not inventory.ignore.intersection(by))
    edge, ends = _edges_of(conversations, placement, len(groups))
    outcomes = _outcomes(len(conversations), judgement, unheld)
    uses = _uses(conversations, edge, outcomes, rules, ServiceNames(services or {}))
    talkers = _talkers(conversations, edge, placement, most_talkers)
    edges = _edges(conversations, edge, ends, groups, uses=uses, talkers=talkers)
    return FlowMap(tuple(by), groups, edges, judgement is not None)


def default_keys(inventory: Inventory) -> tuple[str, ...]:
    """Those of `env`, `app`, `role` that some workload has; else its most common label key; else `app`."""
    counts: dict[str, int] = {}
    for workload in inventory.workloads:
        for key in inventory.labels_of(workload):
            counts[key] = counts.get(key, 0) + 1
    usual = tuple(key for key in ("env", "app", "role") if key in counts)
    return usual or (min(counts, key=lambda key: (-counts[key], key), default="app"),)


def _check_keys(by: Sequence[str], inventory: Inventory) -> None:
    if not by:
        raise InputError("map-by-nothing", "a map needs at least one label key", help="for example `--by app,env`")
    if len(set(by)) < len(by):
        raise InputError("map-by-twice", f"`{','.join(by)}` names a label key twice", help="name each key once")
    known = {key for workload in inventory.workloads for key in inventory.labels_of(workload)}
    unknown = sorted(set(by) - known)
    if unknown and known:
        help_ = f"labels in the inventory: {', '.join(sorted(known))}"
        raise InputError("map-by-unknown-label", f"no workload has a label `{unknown[0]}`", help=help_)


def _groups(placement: Placement, *, selectable: bool) -> tuple[Group, ...]:
    return tuple(
        Group(
            id=spot.id,
            name=spot.name,
            kind=spot.kind,
            values=spot.values,
            members=tuple(sorted(workload.name for workload in spot.members)),
            controlled=sum(workload.is_controlled for workload in spot.members),
            modes=spot.modes(),
            addresses=spot.addresses,
            peer=spot.peer(selectable=selectable),
        )
        for spot in placement.spots
    )


def _edges_of(
    conversations: Conversations, placement: Placement, groups: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each row's edge, numbered by (source group, destination group), and the code `source * groups + destination`."""
    spot = placement.spot_of
    code = spot[conversations.source].astype(np.int64) * max(groups, 1) + spot[conversations.destination]
    ends, edge = ranked(code)
    return edge, ends


def _volumes(fold: Fold, conversations: Conversations) -> list[Volume]:
    columns = (
        fold.sum(conversations.connections), fold.sum(conversations.packets), fold.sum(conversations.bytes),
        fold.min(conversations.first), fold.max(conversations.last),
    )  # fmt: skip
    return [Volume(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _uses(
    conversations: Conversations,
    edge: NDArray[np.int64],
    judged: _Outcomes,
    rules: Sequence[str],
    names: ServiceNames,
) -> dict[int, tuple[Use, ...]]:
    """Edge -> its uses, worst first, then busiest, then by name."""
    named = names.of(conversations.point)
    outcome, outcomes = judged
    fold = Fold(dense(edge, named.service, outcome))
    points = _points(fold, conversations.point)
    found: dict[int, list[Use]] = {}
    volumes = _volumes(fold, conversations)
    columns = zip(
        fold.one(edge).tolist(), fold.one(named.service).tolist(), fold.one(outcome).tolist(),
        volumes, points, strict=True,
    )  # fmt: skip
    for edge_, service, outcome_, volume, seen in columns:
        verdict, reason, rule, is_held = outcomes[outcome_]
        use = Use(
            service=named.text(service),
            points=tuple(names.point_text(point) for point in seen[:POINTS]),
            point_count=len(seen),
            volume=volume,
            verdict=None if verdict < 0 else VERDICTS[verdict],
            reason=None if verdict < 0 else REASONS[reason],
            rule=None if rule < 0 else rules[rule],
            is_held=is_held,
        )
        found.setdefault(edge_, []).append(use)
    return {edge_: tuple(sorted(uses, key=_use_order)) for edge_, uses in found.items()}


def _use_order(use: Use) -> tuple[int, int, str, str, str]:
    return (-STATUSES.index(use.status), -use.volume.connections, use.service, use.rule or "", use.reason or "")


_Outcomes = tuple[NDArray[np.int64], list[tuple[int, int, int, bool]]]


def _outcomes(rows: int, judgement: JudgedRows | None, unheld: NDArray[np.bool_] | None) -> _Outcomes:
    """Each row's outcome, numbered, and what each number stands for: (verdict, reason, rule, whether somebody holds
    it), -1 for not judged.
    """
    if judgement is None:
        return np.zeros(rows, np.int64), [(-1, -1, -1, True)]
    columns = [np.asarray(column, np.int64) for column in (judgement.verdict, judgement.reason, judgement.rule)]
    if any(len(column) != rows for column in columns):
        raise ValueError("a judgement has one verdict, reason and rule for every conversation")
    verdict, reason, rule = columns
    span = int(rule.max(initial=-1)) + 2
    loose = np.zeros(rows, np.int64) if unheld is None else unheld.astype(np.int64)
    codes, outcome = ranked(((verdict * len(REASONS) + reason) * span + rule + 1) * 2 + loose)
    return outcome, [_decoded(code, span) for code in codes.tolist()]


def _decoded(code: int, span: int) -> tuple[int, int, int, bool]:
    said, loose = divmod(code, 2)
    said, rule = divmod(said, span)
    return (*divmod(said, len(REASONS)), rule - 1, not loose)


def _points(fold: Fold, point: NDArray[np.int32]) -> list[list[int]]:
    """The distinct points of every fold, ascending."""
    distinct, rank = ranked(point)
    pairs, _ = ranked(dense(fold.number, rank))
    span = max(len(distinct), 1)
    values = distinct[pairs % span].tolist()
    bounds = np.searchsorted(pairs, np.arange(len(fold) + 1) * span).tolist()
    return [values[lo:hi] for lo, hi in pairwise(bounds)]


def _talkers(
    conversations: Conversations, edge: NDArray[np.int64], placement: Placement, most: int
) -> dict[int, tuple[int, tuple[Talker, ...]]]:
    """Edge -> how many pairs of ends talked, and the busiest of them."""
    party = placement.party_of
    source, destination = party[conversations.source], party[conversations.destination]
    fold = Fold(dense(edge, source, destination))
    edges = fold.one(edge)
    starts = np.searchsorted(edges, np.arange(int(edges.max(initial=-1)) + 2)).tolist()
    if not most:
        return {number: (hi - lo, ()) for number, (lo, hi) in enumerate(pairwise(starts))}
    sources, destinations = fold.one(source), fold.one(destination)
    connections, size = fold.sum(conversations.connections), fold.sum(conversations.bytes)
    # Folds come by edge and then by name, and the sort is stable: equal traffic stays ranked by name.
    order = np.argsort(dense(edges, connections.max(initial=0) - connections), kind="stable")
    out: dict[int, tuple[int, tuple[Talker, ...]]] = {}
    for number, (lo, hi) in enumerate(pairwise(starts)):
        top = order[lo : min(hi, lo + most)].tolist()
        named = [(placement.parties[sources[i]], placement.parties[destinations[i]], i) for i in top]
        out[number] = (
            hi - lo,
            tuple(Talker(party_text(s), party_text(d), int(connections[i]), int(size[i])) for s, d, i in named),
        )
    return out


def _edges(
    conversations: Conversations,
    edge: NDArray[np.int64],
    ends: NDArray[np.int64],
    groups: tuple[Group, ...],
    *,
    uses: dict[int, tuple[Use, ...]],
    talkers: dict[int, tuple[int, tuple[Talker, ...]]],
) -> tuple[Edge, ...]:
    fold = Fold(edge)
    volumes = _volumes(fold, conversations)
    guessed = fold.sum(np.where(conversations.confidence == GUESSED, conversations.connections, 0)).tolist()
    reported = [
        fold.sum(np.where(conversations.reported == code, conversations.connections, 0)).tolist()
        for code in range(len(REPORTED))
    ]
    out: list[Edge] = []
    for number, code in enumerate(ends.tolist()):
        source, destination = divmod(code, len(groups))
        said = {word: counts[number] for word, counts in zip(REPORTED, reported, strict=True) if counts[number]}
        outside = {groups[source].kind, groups[destination].kind} & {"internet", "name"}
        pairs, top = talkers[number]
        out.append(
            Edge(
                source=source,
                destination=destination,
                volume=volumes[number],
                uses=uses[number],
                is_north_south=bool(outside),
                reported=said,
                guessed=guessed[number],
                pairs=pairs,
                talkers=top,
            )
        )
    return tuple(out)
