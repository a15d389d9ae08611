"""The home page's numbers are those of the library; each step to take has its reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from explored import Explored, is_stopped
from serving import serving

from ringfence.core.engine import ask
from ringfence.core.engine.ends import segments
from ringfence.core.engine.prove import present
from ringfence.core.engine.reach import Reachability
from ringfence.core.net.address import parse_address
from ringfence.core.world import REASONS, VERDICTS, Endpoint, Flow


def test_an_empty_controller_says_how_to_begin(tmp_path: Path) -> None:
    """No workload, no traffic: all is zero, and the first step is to get some."""
    with serving(tmp_path / "empty") as served, served.client() as client:
        told = client.explore.posture()
    assert (told.workloads, told.rules, told.coverage[0].connections, told.jewels) == (0, 0, 0, ())
    assert [step.code for step in told.next] == ["no-workloads"]


def test_coverage_counts_what_rules_speak_of(estate: Explored) -> None:
    """Of the last day and week: connections by the engine's reason and verdict; modes and states of all workloads."""
    told = estate.client.explore.posture()
    rows = estate.rows()
    judged = estate.engine().judge(rows)
    reasons, verdicts = Counter[str](), Counter[str]()
    for i in range(len(rows)):
        reasons[REASONS[int(judged.reason[i])]] += int(rows.connections[i])
        verdicts[VERDICTS[int(judged.verdict[i])]] += int(rows.connections[i])

    day, week = told.coverage
    assert (day.hours, week.hours) == (24, 168)
    assert week.connections == reasons.total() > day.connections > 0
    assert (week.uncovered, week.uncontrolled) == (reasons["default"], reasons["uncontrolled"])
    assert week.covered == reasons.total() - reasons["default"] - reasons["uncontrolled"]
    assert (week.would_block, week.blocked + week.unheld) == (verdicts["would-block"], verdicts["blocked"])
    assert week.unheld == rows.connections[judged.unheld].sum() > 0
    controlled = [w for w in estate.inventory.workloads if w.has_agent]
    assert told.modes == Counter(w.mode.inbound for w in controlled)
    assert (told.workloads, told.controlled) == (len(estate.inventory.workloads), len(controlled))
    assert told.states == {
        "unreachable": len(controlled),
        "unmanaged": len(estate.inventory.workloads) - len(controlled),
    }
    assert (len(told.laggards) + told.more_laggards, told.rules, told.policy_version) == (len(controlled), 4, 1)


def test_exposure_of_a_crown_jewel(estate: Explored) -> None:
    """Who reaches it now is what the oracle lets through or no agent stops, pair by pair and service by service; once
    enforced, what reach says."""
    (jewel,) = estate.client.explore.posture().jewels
    engine, world = estate.engine(), estate.world()
    members = [w for w in world.inventory.workloads if w.labels == {"app": "shop", "env": "prod", "role": "db"}]
    points = [p for p in ask.points(engine, ask.services(engine, "any")) if not _is_essential(engine, p)]
    sources = [Endpoint(w, w.addresses[0].address) for w in world.inventory.workloads if w not in members]
    bare = [Endpoint(address=parse_address(text)) for text in ("8.8.8.8", "172.16.5.9")]

    def reaches(source: Endpoint) -> bool:
        targets = [Endpoint(w, w.addresses[0].address) for w in members]
        return any(not is_stopped(world, Flow(source, t, p)) for t in targets for p in points)

    reaching = [end.workload for end in sources if reaches(end)]
    assert jewel.workloads_now == len(reaching) > 0
    assert jewel.identities_now == len({frozenset(w.labels.items()) for w in reaching if w is not None})
    assert jewel.is_open_to_internet_now == reaches(bare[0])
    reached = Reachability(engine).of(present(engine, (segments(engine)["shop.db"],)), "to").reached
    assert jewel.identities_allowed == len({r.who for r in reached if not r.is_bare})
    assert jewel.workloads_allowed == sum(r.workloads for r in reached if not r.is_bare)
    assert (jewel.segment, jewel.workloads) == ("shop.db", 2)
    assert jewel.enforcing == sum(w.mode.inbound == "enforce" for w in members)
    rows = estate.rows()
    uuids = {w.uuid for w in members}
    seen = set()
    for i in range(len(rows)):
        source, destination = (rows.endpoints[int(end[i])] for end in (rows.source, rows.destination))
        inside = [end.workload is not None and end.workload.uuid in uuids for end in (source, destination)]
        if inside == [False, True]:
            seen.add(source.workload.uuid if source.workload else source.address)
    assert jewel.seen == len(seen)


def _is_essential(engine: object, point: int) -> bool:
    return bool((engine.essential | engine.dhcp) >> engine.atoms.atom(point) & 1)  # type: ignore[attr-defined]


def test_steps_name_what_is_amiss(estate: Explored) -> None:
    """Hosts not heard, connections no rule speaks of, a critical segment that does not enforce: each with its count
    and a link, the gravest first."""
    told = estate.client.explore.posture()
    codes = [step.code for step in told.next]
    ranks = [("critical", "warning", "info").index(step.severity) for step in told.next]

    assert ranks == sorted(ranks)
    assert {"unreachable", "uncovered"} <= set(codes)
    uncovered = next(step for step in told.next if step.code == "uncovered")
    assert (uncovered.count, uncovered.link) == (told.coverage[1].uncovered, "/map?verdict=uncovered")
