"""Map, table, matrix and edge of one query say what the library says of the same traffic."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from explored import DRAFTED, FILES, START, Explored, is_stopped
from serving import refused

from ringfence.core.engine import Engine
from ringfence.core.insight.map import FlowMap, group
from ringfence.core.insight.services import named_services
from ringfence.core.policy.parse import parse_policies
from ringfence.core.world import Flow

BY = ["app", "env", "role"]
DRAFT = FILES | {"shop.yaml": DRAFTED}


def library(estate: Explored, files: dict[str, str] | None = None, by: list[str] = BY) -> FlowMap:
    engine = estate.engine(files)
    rules = tuple(rule.ref for rule in engine.rules)
    services = named_services(engine.world.policies)
    rows = estate.rows()
    judgement = engine.judge(rows)
    told = {"judgement": judgement, "rules": rules, "services": services, "unheld": judgement.unheld}
    return group(rows, engine.world.inventory, by, **told)


def edges_of(answer: Any) -> dict[tuple[str, str], Any]:
    ids = [node["id"] for node in answer["nodes"]]
    return {(ids[edge["source"]], ids[edge["destination"]]): edge for edge in answer["edges"]}


def test_the_map_is_the_librarys(estate: Explored) -> None:
    """The same groups and edges, each with the same connections, bytes, status, verdict, rules; unprotected first."""
    wanted = library(estate)
    answer = estate.post("/map", by=BY)

    nodes = {node["id"]: node for node in answer["nodes"]}
    assert set(nodes) == {one.id for one in wanted.groups}
    for one in wanted.groups:
        node = nodes[one.id]
        held = [w for w in map(estate.inventory.find, one.members) if w is not None and w.has_agent]
        assert (node["workloads"], node["controlled"]) == (len(one.members), len(held))
        assert node["modes"] == Counter(w.mode.inbound for w in held)
        assert node["addresses"] == one.addresses
    found = edges_of(answer)
    assert len(found) == len(wanted.edges) > 50
    for edge in wanted.edges:
        ends = (wanted.groups[edge.source].id, wanted.groups[edge.destination].id)
        shown = found[ends]
        assert (shown["connections"], shown["bytes"]) == (edge.volume.connections, edge.volume.bytes)
        assert shown["now"]["status"] == edge.status
        assert shown["now"]["verdict"] == edge.verdict
        assert tuple(shown["now"]["rules"]) == edge.rules
        assert shown["now"]["is_uncovered"] == any(use.reason == "default" for use in edge.uses)
        assert shown["pairs"] == edge.pairs
    assert answer["statuses"] == Counter(edge.status for edge in wanted.edges)
    order = ["unheld", "would-block", "no-policy", "blocked", "allowed"]
    ranks = [order.index(edge["now"]["status"]) for edge in answer["edges"]]
    assert ranks == sorted(ranks)
    assert answer["policy_version"] == 1


def test_nodes_tell_what_is_critical_and_exposed(estate: Explored) -> None:
    """The group of the crown jewel says so; degrees and the internet's connections are those of the edges."""
    wanted = library(estate)
    nodes = {node["id"]: node for node in estate.post("/map", by=BY)["nodes"]}

    assert [id_ for id_, node in nodes.items() if node["is_crown_jewel"]] == ["app=shop,env=prod,role=db"]
    assert nodes["app=shop,env=prod,role=db"]["jewels"] == ["shop.db"]
    for number, one in enumerate(wanted.groups):
        into = [edge for edge in wanted.edges if edge.destination == number]
        assert nodes[one.id]["sources"] == len(into)
        internet = sum(e.volume.connections for e in into if wanted.groups[e.source].kind == "internet")
        assert nodes[one.id]["from_internet"] == internet
    printer = next(node for node in nodes.values() if node["members"] == ["printer"])
    assert printer["kinds"] == {"device": 1}


def test_what_nobody_holds_is_not_called_blocked(estate: Explored) -> None:
    """`unheld` is what policy blocks at ends without an agent only, in map, table, matrix and edge alike, and each can
    be asked for it; what an agent blocks is `blocked`.
    """
    rows, engine = estate.rows(), estate.engine()
    status = Counter[str]()
    for source, destination, at, connections in zip(
        rows.source.tolist(), rows.destination.tolist(), rows.point.tolist(), rows.connections.tolist(), strict=True
    ):
        flow = Flow(rows.endpoints[source], rows.endpoints[destination], at)
        if engine.decide(flow).verdict == "blocked":
            status["blocked" if is_stopped(engine.world, flow) else "unheld"] += connections
    assert min(status["blocked"], status["unheld"]) > 50

    for word in ("blocked", "unheld"):
        asked = estate.post("/map", by=BY, verdict=word)
        assert asked["connections"] == status[word]
        assert {use["status"] for edge in asked["edges"] for use in edge["services"]} == {word}
        table = estate.post("/flows", by=BY, verdict=word, limit=1000)
        assert (table["connections"], {row["now"]["status"] for row in table["rows"]}) == (status[word], {word})
        assert {row["now"]["verdict"] for row in table["rows"]} == {"blocked"}
    cells = estate.post("/matrix", by=BY)["cells"]
    assert sum(cell["statuses"].get("unheld", 0) for cell in cells) == status["unheld"]
    edge = estate.post("/map", by=BY, verdict="unheld")
    first, ids = edge["edges"][0], [node["id"] for node in edge["nodes"]]
    ends = {"source_group": ids[first["source"]], "destination_group": ids[first["destination"]]}
    assert "unheld" in {use["now"]["status"] for use in estate.post("/map/edge", by=BY, **ends)["uses"]}


def test_a_draft_is_judged_beside_what_is_in_force(estate: Explored) -> None:
    """Each edge has the verdict of the draft as the library gives it; `opens` picks exactly what changes."""
    wanted = library(estate, DRAFT)
    answer = estate.post("/map", by=BY, draft={"files": {"shop.yaml": DRAFTED}})

    found = edges_of(answer)
    for edge in wanted.edges:
        shown = found[wanted.groups[edge.source].id, wanted.groups[edge.destination].id]
        assert (shown["draft"]["status"], tuple(shown["draft"]["rules"])) == (edge.status, edge.rules)
    opens = edges_of(estate.post("/map", by=BY, verdict="opens", draft={"files": {"shop.yaml": DRAFTED}}))
    assert set(opens) == {("app=shop,env=prod,role=api", "app=shop,env=prod,role=db")}
    assert estate.post("/map", by=BY, verdict="closes", draft={"files": {"shop.yaml": DRAFTED}})["edges"] == []
    changes = [edge["now"]["status"] != edge["draft"]["status"] for edge in answer["edges"]]
    assert 0 < sum(changes) < len(changes)
    assert changes == sorted(changes, reverse=True)
    limited = estate.post("/map", by=BY, draft={"files": {"shop.yaml": DRAFTED}}, limit=1)["edges"]
    assert [edge["now"]["status"] != edge["draft"]["status"] for edge in limited] == [True]
    told = {"sort": "change", "limit": 1000, "draft": {"files": {"shop.yaml": DRAFTED}}}
    rows = [row["now"]["status"] != row["draft"]["status"] for row in estate.post("/flows", by=BY, **told)["rows"]]
    assert any(rows)
    assert rows == sorted(rows, reverse=True)
    removed = {"remove": ["shop.yaml"]}
    closed = edges_of(estate.post("/map", by=BY, verdict="closes", draft=removed))
    assert ("app=shop,env=prod,role=web", "app=shop,env=prod,role=api") in closed


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ({"where": "app=shop,env=prod"}, lambda s, d, p: "shop-prod" in s or "shop-prod" in d),
        ({"source": "internet"}, lambda s, d, p: s in ("8.8.8.8", "1.1.1.1")),
        ({"source": "172.16.0.0/12"}, lambda s, d, p: s == "172.16.5.9"),
        ({"destination": "shop.db"}, lambda s, d, p: d.startswith("shop-prod-db")),
        ({"source": "crm-dev-web-1", "service": "tcp/443"}, lambda s, d, p: s == "crm-dev-web-1" and p == "443"),
        ({"service": "postgres"}, lambda s, d, p: p == "5432"),
    ],
)
def test_a_query_keeps_what_it_says(estate: Explored, said: dict[str, str], means: Any) -> None:
    """Ends by selector, workload, word, CIDR and segment; services by name and number: map, table and matrix count
    exactly the connections that a plain loop counts."""
    rows = estate.rows()
    total = 0
    for i in range(len(rows)):
        ends = (rows.endpoints[int(end[i])] for end in (rows.source, rows.destination))
        source, destination = (str(e.workload.name if e.workload else _dotted(e.address)) for e in ends)
        if means(source, destination, str(int(rows.point[i]) & 0xFFFF)):
            total += int(rows.connections[i])

    answer = estate.post("/map", by=BY, **said)
    assert answer["connections"] == total > 0
    assert estate.post("/flows", by=BY, **said)["connections"] == total
    matrix = estate.post("/matrix", by=BY, limit=500, **said)
    assert sum(cell["connections"] for cell in matrix["cells"]) == total
    talking = {end for edge in answer["edges"] for end in (edge["source"], edge["destination"])}
    assert talking <= set(range(len(answer["nodes"])))


def _dotted(address: int | None) -> str:
    return "" if address is None else ".".join(str(address >> shift & 255) for shift in (24, 16, 8, 0))


def test_a_span_keeps_its_hours(estate: Explored) -> None:
    """Only hours it touches."""
    rows = estate.rows()
    since, until = START + 10 * 3600, START + 20 * 3600
    wanted = int(rows.connections[(rows.hour >= since) & (rows.hour < until)].sum())

    answer = estate.post("/map", by=BY, since=_rfc(since), until=_rfc(until))
    assert answer["connections"] == wanted > 0
    assert refused(lambda: estate.post("/map", since=_rfc(until), until=_rfc(since))) == "bad-time"


def _rfc(seconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).isoformat()


def test_what_is_left_out_is_counted(estate: Explored) -> None:
    """The first edges of the same order, and how many more there are."""
    whole = estate.post("/map", by=BY)
    some = estate.post("/map", by=BY, limit=7)

    assert some["truncated"]["edges"] == len(whole["edges"]) - 7
    assert [edges_of(some)[ends]["connections"] for ends in edges_of(some)] == [
        edge["connections"] for edge in whole["edges"][:7]
    ]
    assert (some["connections"], some["statuses"]) == (whole["connections"], whole["statuses"])


def test_the_table_is_paged_and_sorted(estate: Explored) -> None:
    """Its pages are the whole table without gap or repetition, in the order asked for, now and under a draft."""
    asked = {"by": BY, "sort": "bytes", "limit": 50, "draft": {"files": {"shop.yaml": DRAFTED}}}
    pages = [estate.post("/flows", **asked, offset=0)]
    while pages[-1]["truncated"]:
        pages.append(estate.post("/flows", **asked, offset=50 * len(pages)))
    rows = [row for page in pages for row in page["rows"]]

    assert len(rows) == pages[0]["total"]
    assert [row["bytes"] for row in rows] == sorted((row["bytes"] for row in rows), reverse=True)
    assert sum(row["connections"] for row in rows) == pages[0]["connections"] == int(estate.rows().connections.sum())
    for files, side in ((None, "now"), (DRAFT, "draft")):
        wanted = library(estate, files)
        uses = Counter[tuple[str, str, str, str | None]]()
        for edge in wanted.edges:
            for use in edge.uses:
                ends = (wanted.groups[edge.source].id, wanted.groups[edge.destination].id)
                uses[*ends, use.service, use.rule] += use.volume.connections
        told = Counter[tuple[str, str, str, str | None]]()
        for row in rows:
            told[row["source"], row["destination"], row["service"], row[side]["rule"]] += row["connections"]
        assert told == uses


def test_the_matrix_of_segments(estate: Explored) -> None:
    """Cells of segments count what a loop counts; what is in no segment has its own row."""
    answer = estate.post("/matrix", segments=True)
    rows = estate.rows()
    wanted = Counter[tuple[str, str]]()
    for i in range(len(rows)):
        ends = (_axis(rows.endpoints[int(end[i])]) for end in (rows.source, rows.destination))
        wanted[next(ends), next(ends)] += int(rows.connections[i])

    ids = [axis["id"] for axis in answer["axes"]]
    assert {"shop.web", "shop.api", "shop.db", "rest", "internet"} <= set(ids)
    told = {(ids[c["source"]], ids[c["destination"]]): c["connections"] for c in answer["cells"]}
    assert told == wanted
    assert [axis["id"] for axis in answer["axes"] if axis["is_crown_jewel"]] == ["shop.db"]


def _axis(end: Any) -> str:
    if end.workload is None:
        return "private" if end.address is not None and _dotted(end.address).startswith("172.") else "internet"
    labels = end.workload.labels
    is_shop = labels.get("app") == "shop" and labels.get("env") == "prod" and labels["role"] in ("web", "api", "db")
    return f"shop.{labels['role']}" if is_shop else "rest"


def test_an_edge_names_its_rules_and_proposes_one(estate: Explored) -> None:
    """A decided edge names the rule with its line and why; an uncovered one comes with a rule in the policy of the
    destination's scope, and the whole file with it lets all of the edge pass."""
    ends = {"source_group": "app=shop,env=prod,role=web", "destination_group": "app=shop,env=prod,role=api"}
    decided = estate.post("/map/edge", by=BY, **ends)
    (rule,) = decided["rules"]
    assert (rule["rule"], rule["file"], rule["action"]) == ("shop/calls", "shop.yaml", "allow")
    assert rule["because"] == "pages are made of answers"
    assert FILES["shop.yaml"].splitlines()[rule["line"] - 1].strip().startswith("- name: calls")
    assert (decided["uncovered"], decided["proposals"]) == (0, [])

    ends = {"source_group": "app=shop,env=prod,role=api", "destination_group": "app=shop,env=prod,role=db"}
    bare = estate.post("/map/edge", by=BY, **ends)
    assert bare["uncovered"] == bare["connections"] > 0
    assert bare["rules"] == []
    (proposal,) = bare["proposals"]
    assert (proposal["policy"], proposal["file"], proposal["is_new"]) == ("shop", "shop.yaml", False)
    assert "5432" in proposal["rules"] or "postgres" in proposal["rules"]
    after = parse_policies(FILES | {"shop.yaml": proposal["text"]}).raise_if_errors()
    judged = Engine.compile(estate.world({**FILES, "shop.yaml": proposal["text"]})).judge(estate.rows())
    assert {policy.name for policy in after} == {"shop", "guard"}
    assert judged is not None
    mended = estate.post("/map/edge", by=BY, draft={"files": {"shop.yaml": proposal["text"]}}, **ends)
    assert {use["draft"]["verdict"] for use in mended["uses"]} == {"allowed"}
    assert (mended["uncovered"], mended["proposals"]) == (0, [])


def test_questions_that_cannot_be_meant(estate: Explored) -> None:
    """Each is refused with its code."""
    assert refused(lambda: estate.post("/map", by=["nope"])) == "map-by-unknown-label"
    assert refused(lambda: estate.post("/map", where="nobody-here")) == "unknown-endpoint"
    assert refused(lambda: estate.post("/map", where="a=b=c")) == "bad-selector"
    assert refused(lambda: estate.post("/map", verdict="opens")) == "draft-missing"
    assert refused(lambda: estate.post("/map", draft={"remove": ["x.yaml"]})) == "unknown-file"
    unknown = {"source_group": "x", "destination_group": "y"}
    assert refused(lambda: estate.post("/map/edge", by=BY, **unknown)) == "unknown-group"


def test_an_answer_follows_what_changes(estate: Explored) -> None:
    """Traffic that is stored meanwhile is in the next answer, and so is a change of labels."""
    before = estate.post("/map", by=["app"])
    estate.served.controller.flows.append(estate.traffic)
    after = estate.post("/map", by=["app"])
    assert after["connections"] == 2 * before["connections"]
    estate.post("/labels", workloads=["printer"], put={"app": "papers"}, why="it moved")
    assert "app=papers" in {node["id"] for node in estate.post("/map", by=["app"])["nodes"]}
    estate.post("/labels", workloads=["printer"], put={"app": "office"}, why="and back")


def test_an_explanation_names_the_ends_that_nobody_holds(estate: Explored) -> None:
    """Asked one by one or many at once: workloads without an agent are told apart from those with one."""
    ends = ("crm-dev-web-1", "shop-prod-db-1")
    told = estate.post("/explain", source=ends[0], destination=ends[1], service="tcp/5432")
    assert {end["workload"] for end in told["answer"]["ends"]} == set(ends)
    assert told["unheld"] == ["crm-dev-web-1"]
    questions = [
        {"source": source, "destination": "shop-prod-db-1", "service": "ssh"} for source in (ends[0], "8.8.8.8")
    ]
    first, other = estate.post("/decide", questions=questions)
    assert (first["unheld"], other["unheld"]) == (["crm-dev-web-1"], [])


def test_from_near_workloads_have_edges_of_their_own(estate: Explored) -> None:
    """Workloads of the groups asked for, each pair of ends counted by a loop; whoever is not listed counts at the
    group; what is left out is counted.
    """
    groups = ["app=shop,env=prod,role=web", "app=shop,env=prod,role=db"]
    told = estate.post("/map/near", by=BY, groups=groups)
    rows, inside = estate.rows(), {f"shop-prod-{role}-{n}" for role in ("web", "db") for n in (1, 2)}
    wanted = Counter[tuple[str, str]]()
    for source, destination, n in zip(rows.source, rows.destination, rows.connections, strict=True):
        ends = [rows.endpoints[int(end)].workload for end in (source, destination)]
        names = [end.name if end is not None else "" for end in ends]
        if not inside.isdisjoint(names):
            key = tuple(name if name in inside else "" for name in names)
            wanted[key[0], key[1]] += int(n)
    assert {one["name"] for one in told["workloads"]} == inside
    assert {one["has_agent"] for one in told["workloads"]} == {True}
    found = Counter[tuple[str, str]]()
    for edge in told["edges"]:
        found[edge["source"]["workload"], edge["destination"]["workload"]] += edge["connections"]
    assert (found, told["more_edges"], told["more_workloads"]) == (wanted, 0, {})
    ranks = [["unheld", "would-block", "no-policy", "blocked", "allowed"].index(e["status"]) for e in told["edges"]]
    assert ranks == sorted(ranks)

    fewer = estate.post("/map/near", by=BY, groups=groups, most=1, limit=5)
    assert (len(fewer["workloads"]), fewer["more_workloads"]) == (2, dict.fromkeys(groups, 1))
    assert (len(fewer["edges"]), fewer["more_edges"] > 0) == (5, True)
    whole = estate.post("/map/near", by=BY, groups=groups, most=1)
    assert sum(edge["connections"] for edge in whole["edges"]) == wanted.total()
    drafted = estate.post("/map/near", by=BY, groups=groups, draft={"files": {"shop.yaml": DRAFTED}})["edges"]
    assert {edge["destination"]["workload"] for edge in drafted if edge["is_changed"]} <= {
        "shop-prod-db-1",
        "shop-prod-db-2",
    }
    assert drafted[0]["is_changed"]
    assert refused(lambda: estate.post("/map/near", by=BY, groups=["app=none"])) == "unknown-group"
