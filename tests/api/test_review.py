"""Blast radius and the use of rules are what the library says, and what a loop over the traffic counts."""

from __future__ import annotations

from collections import Counter

import pytest
from explored import DRAFTED, FILES, Explored, is_stopped
from serving import refused

from ringfence.controller.study.asking import reach
from ringfence.core.engine import ask
from ringfence.core.identity.workload import Workload
from ringfence.core.net.address import parse_address
from ringfence.core.world import Endpoint, Flow
from ringfence.wire import explore, study
from ringfence.wire.questions import AskReach


@pytest.mark.parametrize(("of", "way"), [("shop-prod-web-1", "from"), ("shop.db", "to"), ("app=crm,env=dev", "from")])
def test_a_blast_is_what_reach_says(estate: Explored, of: str, way: str) -> None:
    """Hop by hop, in force and under a draft; critical segments are named at the hop that first meets them."""
    asked = study.AskBlast(of, way, 3, draft=explore.Pen({"shop.yaml": DRAFTED}))  # type: ignore[arg-type]
    told = estate.client.explore.blast_radius(asked)

    for files, blast in ((None, told.in_force), (FILES | {"shop.yaml": DRAFTED}, told.draft)):
        assert blast is not None
        wanted = reach(estate.world(files), AskReach(of, way, 3)).reached  # type: ignore[arg-type]
        assert blast.reached == wanted
        counts = Counter[int]()
        for one in wanted:
            counts[one.hop] += 0 if one.is_bare else one.workloads
        assert {hop.hop: hop.workloads for hop in blast.hops} == counts
        assert [hop.total for hop in blast.hops] == [sum(counts[h] for h in counts if h <= n) for n in sorted(counts)]
    if of == "shop-prod-web-1":
        assert told.draft is not None
        assert [hop.jewels for hop in told.in_force.hops if hop.jewels] == []
        assert [hop.hop for hop in told.draft.hops if "shop.db" in hop.jewels] == [2]
        assert told.in_force.jewels == {}
        databases = tuple(
            sorted(one.who for one in told.draft.reached if {"app=shop", "role=db"} <= {*one.who.split(",")})
        )
        assert told.draft.jewels == {"shop.db": databases} != {"shop.db": ()}


@pytest.mark.parametrize("way", ["from", "to"])
def test_what_is_reached_now_is_what_the_oracle_lets_through(estate: Explored, way: str) -> None:
    """In one step, each host in its own mode: pair by pair and service by service."""
    told = estate.client.explore.blast_radius(study.AskBlast("crm-dev-db-1", way))  # type: ignore[arg-type]
    engine, world = estate.engine(), estate.world()
    own = world.inventory.find("crm-dev-db-1")
    assert own is not None
    essential = engine.essential | engine.dhcp
    points = [p for p in ask.points(engine, ask.services(engine, "any")) if not essential >> engine.atoms.atom(p) & 1]

    def meets(other: Endpoint) -> bool:
        ends = (Endpoint(own, own.addresses[0].address), other)
        source, destination = ends if way == "from" else ends[::-1]
        return any(not is_stopped(world, Flow(source, destination, p)) for p in points)

    others = [Endpoint(w, w.addresses[0].address) for w in world.inventory.workloads if w is not own]
    outside = estate.client.explore.blast_radius(study.AskBlast("198.51.100.9", way))  # type: ignore[arg-type]
    stranger = Endpoint(None, parse_address("198.51.100.9"))

    def is_met(w: Workload) -> bool:
        ends = (stranger, Endpoint(w, w.addresses[0].address))
        source, destination = ends if way == "from" else ends[::-1]
        return any(not is_stopped(world, Flow(source, destination, p)) for p in points)

    assert outside.now.workloads == sum(map(is_met, world.inventory.workloads)) > 0
    assert (told.workloads, told.now.workloads) == (1, sum(map(meets, others)))


def test_breaches_that_cannot_be_meant(estate: Explored) -> None:
    """Nobody of that name, no such service: refused."""
    client = estate.client.explore
    assert refused(lambda: client.blast_radius(study.AskBlast("nobody-here"))) == "unknown-endpoint"
    assert refused(lambda: client.blast_radius(study.AskBlast("shop.db", service="tcp/x"))) == "unknown-service"


def test_rules_are_credited_with_what_they_decide(estate: Explored) -> None:
    """Connections, last hit and members used, counted by a loop; the unused come first."""
    told = estate.client.explore.rules(days=7)
    engine, rows = estate.engine(), estate.rows()
    judged = engine.judge(rows)
    counts, last = Counter[str](), dict[str, int]()
    used: dict[str, tuple[set[str], set[str]]] = {}
    for i in range(len(rows)):
        if judged.rule[i] < 0:
            continue
        ref = engine.rules[int(judged.rule[i])].ref
        counts[ref] += int(rows.connections[i])
        last[ref] = max(last.get(ref, 0), int(rows.last[i]))
        for side, end in zip(used.setdefault(ref, (set(), set())), (rows.source, rows.destination), strict=True):
            workload = rows.endpoints[int(end[i])].workload
            side.update({workload.uuid} if workload is not None else ())

    assert {rule.rule for rule in told.rules} == {ref.ref for ref in engine.rules}
    for rule in told.rules:
        assert rule.connections == counts[rule.rule]
        assert (int(rule.last.timestamp()) if rule.last else None) == last.get(rule.rule)
        sides = used.get(rule.rule, (set(), set()))
        assert (rule.sources_used, rule.destinations_used) == tuple(map(len, sides))
    by_name = {rule.rule: rule for rule in told.rules}
    calls, visitors = by_name["shop/calls"], by_name["shop/visitors"]
    assert (calls.source_members, calls.destination_members) == (2, 2)
    assert calls.utilisation == (calls.sources_used + calls.destinations_used) / 4
    assert visitors.utilisation == visitors.destinations_used / 2
    unused = [ref.ref for ref in engine.rules if not counts[ref.ref]]
    assert "shop/spare" in unused
    assert sorted(rule.rule for rule in told.rules[: told.unused]) == sorted(unused)
    assert FILES["shop.yaml"].splitlines()[calls.line - 1].strip() == "- name: calls"
    assert estate.client.explore.rules(days=7, limit=1).truncated == len(engine.rules) - 1
