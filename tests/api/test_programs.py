"""Programs at the ends of traffic: on an edge and from near, as a loop over what hosts said finds them."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Any

from explored import FILES, START, Explored

from ringfence.core.flow.programs import DESTINATION, SOURCE
from ringfence.core.insight.map import STATUSES
from ringfence.core.world import Endpoint

BY = ["app", "env", "role"]
WEB, DB = "app=shop,env=prod,role=web", "app=shop,env=prod,role=db"
HOUR = 3600


def group_of(end: Endpoint) -> str:
    labels = end.workload.labels if end.workload is not None else {}
    return ",".join(f"{key}={labels.get(key)}" for key in BY)


def test_an_edge_names_the_programs_at_both_ends(estate: Explored) -> None:
    """Of each use the units of each side, the busiest first; of the hours asked about and of no others."""
    told, ends = estate.programs, {"source_group": WEB, "destination_group": DB}
    half = START + 24 * HOUR
    spans: tuple[tuple[int, dict[str, str]], ...] = (
        (0, {}),
        (half, {"since": datetime.fromtimestamp(half, UTC).isoformat()}),
    )
    sizes = []
    for since, span in spans:
        uses = estate.post("/map/edge", by=BY, **ends, **span)["uses"]
        wanted: dict[int, Counter[str]] = {SOURCE: Counter(), DESTINATION: Counter()}
        for i in range(len(told)):
            groups = [group_of(told.endpoints[int(end[i])]) for end in (told.source, told.destination)]
            if groups == [WEB, DB] and told.hour[i] >= since:
                wanted[int(told.side[i])][told.names[told.name[i]]] += int(told.connections[i])
        for side, field in ((SOURCE, "source_programs"), (DESTINATION, "destination_programs")):
            assert {name for use in uses for name in use[field]} == {*wanted[side]}
            if len(uses) == 1:
                assert uses[0][field] == sorted(uses[0][field], key=lambda name: -wanted[side][name])
        sizes.append(sum(len(names) for names in wanted.values()))
    assert sizes[0] >= sizes[1] > 0


def near(estate: Explored, **more: Any) -> Any:
    return estate.post("/map/near", by=BY, groups=[WEB, DB], **more)


def test_from_nearest_programs_have_edges_of_their_own(estate: Explored) -> None:
    """Each program of a workload that is listed; each pair of programs that may have talked is a line, no line counts
    more than its rows, and without programs nothing changes."""
    told, plain, answer = estate.programs, near(estate), near(estate, programs=True)
    running: dict[str, Counter[str]] = defaultdict(Counter)
    pairs: dict[tuple[int, int, int], tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    listed = {one["name"] for one in plain["workloads"]}
    for i in range(len(told)):
        end = told.endpoints[int((told.source, told.destination)[told.side[i]][i])]
        if end.workload is not None and end.workload.name in listed:
            name = told.names[told.name[i]]
            running[end.workload.name][name] += int(told.connections[i])
            key = (int(told.source[i]), int(told.destination[i]), int(told.point[i]))
            pairs[key][told.side[i]].add(name)
    for one in answer["workloads"]:
        counts = running[one["name"]]
        assert {*one["programs"]} == {*counts}
        assert [counts[name] for name in one["programs"]] == sorted(counts.values(), reverse=True)
        assert one["more_programs"] == 0
    assert all(one["programs"] == [] for one in plain["workloads"])

    wanted = set()
    for i in range(len(estate.traffic)):
        key = (int(estate.traffic.source[i]), int(estate.traffic.destination[i]), int(estate.traffic.point[i]))
        ends = [estate.traffic.endpoints[end].workload for end in key[:2]]
        names = [end.name if end is not None and end.name in listed else "" for end in ends]
        if any(names):
            openers, listeners = pairs[key]
            wanted |= {(names[0], a, names[1], b) for a in openers or {""} for b in listeners or {""}}
    found = {
        (e["source"]["workload"], e["source"]["program"], e["destination"]["workload"], e["destination"]["program"]): e
        for e in answer["edges"]
    }
    assert {*found} == wanted
    assert all(edge["source"]["program"] == edge["destination"]["program"] == "" for edge in plain["edges"])
    totals: Counter[tuple[str, str]] = Counter()
    for edge in plain["edges"]:
        totals[edge["source"]["workload"], edge["destination"]["workload"]] += edge["connections"]
    assert all(edge["connections"] <= totals[key[0], key[2]] for key, edge in found.items())


def test_nothing_is_decided_by_what_a_host_says_of_itself(estate: Explored) -> None:
    """The worst of a pair of workloads is the worst of its programs, in force and under a draft."""
    draft = {"files": {"guard.yaml": FILES["guard.yaml"]}, "alone": True}
    for field in ("status", "draft"):
        pairs, lines = (
            worst(near(estate, draft=draft, programs=programs)["edges"], field) for programs in (False, True)
        )
        assert pairs == lines
        assert len(set(pairs.values())) > 1


def worst(edges: list[Any], field: str) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for edge in edges:
        pair = tuple(edge[end]["workload"] or edge[end]["group"] for end in ("source", "destination"))
        found[pair] = max(found.get(pair, 0), STATUSES.index(edge[field]))  # type: ignore[index, arg-type]
    return found  # type: ignore[return-value]
