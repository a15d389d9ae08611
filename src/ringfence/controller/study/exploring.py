"""Who talks to whom, as people look at it: a map, a table, a matrix, all of one query.

The map is `core.insight.map`'s, the verdicts are the engine's; here they are only filtered, sorted and bounded.

INVARIANT: map, table and matrix of one query count the same connections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec
import numpy as np

from ringfence.controller.alerts.occurrences import is_jewel
from ringfence.controller.study import edges, matrices, tables
from ringfence.controller.study.grounds import Ground, Grounds, Kept, Texts
from ringfence.controller.study.nearby import ATTENTION, near_of
from ringfence.controller.study.queries import View, meaning, view_of
from ringfence.controller.thinking import think
from ringfence.core.insight.evidence import moment
from ringfence.core.insight.map import STATUSES, Edge, FlowMap, Group, group
from ringfence.core.insight.places import mode_text
from ringfence.core.insight.services import named_services
from ringfence.core.policy.model import Named
from ringfence.core.world import Endpoint
from ringfence.wire.explore import (
    EdgeOutcome,
    EdgeQuery,
    EdgeView,
    FlowPage,
    MapEdge,
    MapNode,
    MapUse,
    MapView,
    MatrixQuery,
    MatrixView,
    NearQuery,
    NearView,
    Query,
    TableQuery,
    Truncated,
)

SERVICES, RULES, MEMBERS = 6, 6, 20
"""How many an edge or a node lists."""
MOST_NODES = 20_000


class Exploring:
    """Questions about stored traffic."""

    def __init__(self, grounds: Grounds, texts: Callable[[], Awaitable[Texts]]) -> None:
        """`texts`: the version that hosts have."""
        self.grounds, self._texts = grounds, texts
        self._views: Kept[View] = Kept(8, weigh=lambda one: len(one.rows), heaviest=grounds.most_rows)
        self._maps: Kept[bytes] = Kept(16)
        self._tables: Kept[tables.Table] = Kept(4, weigh=lambda one: len(one.source), heaviest=grounds.most_rows)
        self._matrices: Kept[bytes] = Kept(8)

    async def map(self, query: Query) -> bytes:
        """A MapView as JSON: large, and asked for again and again. Raises as `view_of`, and InputError
        `map-by-unknown-label`, `map-by-twice`."""
        texts = await self._texts()
        return await think(self._map, query, texts)

    def _map(self, query: Query, texts: Texts) -> bytes:
        key = self._key(query, texts)
        return self._maps.get(key, lambda: msgspec.json.encode(self._map_view(query, texts)))

    def _map_view(self, query: Query, texts: Texts) -> MapView:
        return map_view(self._view(query, texts), limit=query.limit, version=texts.number)

    async def table(self, query: TableQuery) -> FlowPage:
        """Raises as `map`."""
        texts = await self._texts()

        def work() -> FlowPage:
            plain = _query(query)
            made = self._tables.get(self._key(plain, texts), lambda: tables.table_of(self._view(plain, texts)))
            return tables.page(made, query)

        return await think(work)

    async def matrix(self, query: MatrixQuery) -> bytes:
        """A MatrixView as JSON. Raises as `map`."""
        texts = await self._texts()

        def work() -> bytes:
            view = self._view(_query(query), texts)
            made: MatrixView = matrices.matrix_of(view, is_of_segments=query.segments, limit=query.limit)
            return msgspec.json.encode(made)

        return await think(lambda: self._matrices.get(self._key(query, texts), work))

    async def edge(self, query: EdgeQuery) -> EdgeView:
        """Raises as `map`, and InputError `unknown-group`."""
        texts = await self._texts()
        return await think(lambda: edges.edge_of(self.grounds, self._view(_query(query), texts), query, texts))

    async def near(self, query: NearQuery) -> NearView:
        """Raises as `map`, and InputError `unknown-group`."""
        texts = await self._texts()
        return await think(lambda: near_of(self.grounds, self._view(_query(query), texts), query))

    def _view(self, query: Query, texts: Texts) -> View:
        plain = msgspec.structs.replace(query, limit=1)
        return self._views.get(self._key(plain, texts), lambda: view_of(self.grounds, plain, texts))

    def _key(self, query: Query, texts: Texts) -> tuple[object, ...]:
        """What an answer depends on."""
        said = msgspec.json.encode(query)
        return type(query), said, texts.number, self.grounds.now().number, self.grounds.flows.revision


def _query(query: Query) -> Query:
    """What the map would be asked."""
    return Query(**{name: getattr(query, name) for name in Query.__struct_fields__ if name != "limit"})


# ---- the map --------------------------------------------------------------------------------------------------------


def map_view(view: View, *, limit: int, version: int) -> MapView:
    """The map of what a query picked. Raises InputError `map-by-unknown-label`, `map-by-twice`."""
    now = flow_map(view, view.ground)
    draft = flow_map(view, view.draft_ground) if view.draft_ground is not None else None
    order = _by_attention(now, draft)
    listed = order[:limit]
    kept = _kept_groups(view, now, listed)
    place = {number: position for position, number in enumerate(kept)}
    shown = [
        number for number in listed if now.edges[number].source in place and now.edges[number].destination in place
    ]
    nodes = _nodes(view.ground, now, kept)
    volumes = [edge.volume for edge in now.edges]
    statuses = Counter(edge.status for edge in now.edges)
    return MapView(
        by=now.by,
        is_judged=now.is_judged,
        nodes=nodes,
        edges=tuple(_edge(now.edges[i], draft.edges[i] if draft else None, place) for i in shown),
        statuses={status: statuses[status] for status in STATUSES if statuses[status]},
        connections=sum(volume.connections for volume in volumes),
        bytes=sum(volume.bytes for volume in volumes),
        first=min((moment(volume.first) for volume in volumes), default=None),
        last=max((moment(volume.last) for volume in volumes), default=None),
        truncated=Truncated(len(_wanted(view, now, order)) - len(kept), len(order) - len(shown)),
        policy_version=version,
    )


def flow_map(view: View, ground: Ground) -> FlowMap:
    """The library's map of a view's rows, judged by a ground. Groups and edges do not depend on the ground."""
    judgement = view.judgement if ground is view.ground else view.draft
    return group(
        view.rows,
        view.ground.world.inventory,
        view.by,
        judgement=judgement,
        rules=ground.rules,
        unheld=None if judgement is None else judgement.unheld,
        most_talkers=0,
        services=named_services(ground.world.policies),
    )


def attention(edge: Edge) -> tuple[int, int, int, int]:
    """Unprotected first, then the busiest."""
    return ATTENTION.index(edge.status), -edge.volume.connections, edge.source, edge.destination


def _by_attention(now: FlowMap, draft: FlowMap | None) -> list[int]:
    """Edges in order: those a draft says otherwise of first."""
    if draft is None:
        return sorted(range(len(now.edges)), key=lambda i: attention(now.edges[i]))
    is_same = [one.status == other.status for one, other in zip(now.edges, draft.edges, strict=True)]
    return sorted(range(len(now.edges)), key=lambda i: (is_same[i], attention(now.edges[i])))


def _wanted(view: View, found: FlowMap, edges_: list[int]) -> set[int]:
    """The groups an answer is about: all of them, or those that talk and those asked for by name."""
    if view.is_whole:
        return set(range(len(found.groups)))
    talking = {end for i in edges_ for end in (found.edges[i].source, found.edges[i].destination)}
    if view.query.verdict or view.query.service:
        return talking
    asked = [text for text in (view.query.where, view.query.source, view.query.destination) if text]
    means = [meaning(text, view.ground.engine) for text in asked]
    inventory = view.ground.world.inventory
    named = {w.name for w in inventory.workloads if any(is_meant(Endpoint(w)) for is_meant in means)}
    return talking | {i for i, one in enumerate(found.groups) if not named.isdisjoint(one.members)}


def _kept_groups(view: View, found: FlowMap, listed: list[int]) -> list[int]:
    """Those with edges first, then the largest."""
    wanted = _wanted(view, found, listed)
    if len(wanted) <= MOST_NODES:
        return sorted(wanted)
    busy = {end for i in listed for end in (found.edges[i].source, found.edges[i].destination)}
    ranked = sorted(wanted, key=lambda i: (i not in busy, -len(found.groups[i].members), i))
    return sorted(ranked[:MOST_NODES])


def _nodes(ground: Ground, found: FlowMap, kept: list[int]) -> tuple[MapNode, ...]:
    sources, destinations, internet = _degrees(found)
    jewels = jewels_by_name(ground)
    quarantined = {quarantine.workload for quarantine in ground.world.quarantines}
    return tuple(
        _node(ground, found, number, jewels, quarantined, (sources[number], destinations[number], internet[number]))
        for number in kept
    )


def _degrees(found: FlowMap) -> tuple[list[int], list[int], list[int]]:
    """Per group: how many open connections to it, to how many it does, and connections from the internet."""
    counts = np.zeros((3, len(found.groups)), np.int64)
    for edge in found.edges:
        counts[0, edge.destination] += 1
        counts[1, edge.source] += 1
        if found.groups[edge.source].kind == "internet":
            counts[2, edge.destination] += edge.volume.connections
    sources, destinations, internet = counts.tolist()
    return sources, destinations, internet


def _node(
    ground: Ground,
    found: FlowMap,
    number: int,
    jewels: dict[str, Named],
    quarantined: set[str],
    degrees: tuple[int, int, int],
) -> MapNode:
    one, inventory = found.groups[number], ground.world.inventory
    members = [w for w in map(inventory.find, one.members) if w is not None]
    kinds = Counter[str](workload.kind for workload in members)
    modes = Counter(mode_text(workload.mode) for workload in members if inventory.has_agent(workload))
    labels = [inventory.labels_of(workload) for workload in members] if jewels else []
    own = tuple(
        name
        for name, segment in jewels.items()
        if segment.peer is not None and any(is_jewel(each, (segment.peer,)) for each in labels)
    )
    return MapNode(
        id=one.id,
        name=one.name,
        kind=one.kind,
        labels=_labels(one, found.by),
        selector=one.peer,
        workloads=len(one.members),
        controlled=modes.total(),
        kinds=dict(kinds),
        modes=dict(modes.most_common()),
        addresses=one.addresses,
        jewels=own,
        is_crown_jewel=bool(own),
        quarantined=sum(workload.uuid in quarantined for workload in members) if quarantined else 0,
        sources=degrees[0],
        destinations=degrees[1],
        from_internet=degrees[2],
        members=one.members[:MEMBERS],
    )


def _labels(one: Group, by: tuple[str, ...]) -> dict[str, str | None]:
    return dict(zip(by, one.values, strict=True)) if one.kind == "workloads" else {}


def jewels_by_name(ground: Ground) -> dict[str, Named]:
    """The critical segments as `policy.segment`."""
    return {
        f"{policy.name}.{segment.name}": segment
        for policy in ground.world.policies
        for segment in policy.segments
        if segment.is_crown_jewel and segment.peer is not None
    }


def _edge(edge: Edge, draft: Edge | None, place: dict[int, int]) -> MapEdge:
    uses = (
        MapUse(use.service, use.volume.connections, use.volume.bytes, use.status, use.reason, use.rule)
        for use in edge.uses[:SERVICES]
    )
    return MapEdge(
        source=place[edge.source],
        destination=place[edge.destination],
        now=outcome_of(edge),
        draft=outcome_of(draft) if draft is not None else None,
        services=tuple(uses),
        more_services=max(0, len(edge.uses) - SERVICES),
        connections=edge.volume.connections,
        bytes=edge.volume.bytes,
        first=moment(edge.volume.first),
        last=moment(edge.volume.last),
        pairs=edge.pairs,
        is_north_south=edge.is_north_south,
    )


def outcome_of(edge: Edge) -> EdgeOutcome:
    """The worst of an edge."""
    is_uncovered = any(use.verdict is None or use.reason == "default" for use in edge.uses)
    return EdgeOutcome(edge.status, edge.verdict, edge.rules[:RULES], is_uncovered)
