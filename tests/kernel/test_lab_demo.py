"""The demo: on recorded flows anywhere, on real hosts as root; and that it does not claim what is not so."""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from ringfence.catalog import flow_sources
from ringfence.cli.picture import draw_html
from ringfence.cli.render_map import map_table
from ringfence.core.engine import Engine
from ringfence.core.identity.workload import Mode
from ringfence.core.policy.parse import parse_policies
from ringfence.core.world import World
from ringfence.flows.ingest import read_flows
from ringfence.inventory.files import load_paths
from ringfence.lab import defend, demo
from ringfence.lab.attack import Intrusion, Reached, attack, disarm, permitted
from ringfence.lab.description import built_in
from ringfence.lab.lab import Lab
from ringfence.lab.record import recorded_estate, write_inventory

ENFORCE = Mode.both("enforce")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def _told() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=160, color_system=None), out


VIEWS = demo.Views(table=map_table, picture=draw_html)


def test_the_recording_is_whole_and_matches_the_shipped_world() -> None:
    """Every recorded line reads, the inventory is the world's, and every application path of the world was recorded."""
    estate, shop = recorded_estate(), built_in("shop")
    loaded = load_paths([estate / "inventory"]).raise_if_errors()
    assert {w.name: (w.uuid, w.labels, w.addresses, w.kind) for w in loaded.workloads} == {
        w.name: (w.uuid, w.labels, w.addresses, w.kind) for w in shop.inventory().workloads
    }
    read = read_flows([str(estate / "flows")], shop.inventory(), among=flow_sources())
    assert read.report.total("malformed") == 0
    assert read.report.total("records") == read.report.total("lines") - read.report.total("skipped") > 10_000
    c = read.conversations
    holders = [end.workload.name if end.workload else None for end in c.endpoints]
    seen = {(holders[s], holders[d], int(p)) for s, d, p in zip(c.source, c.destination, c.point, strict=True)}
    workloads = {w.name for w in loaded.workloads}
    for path in shop.paths:
        service = shop.by_name[path.server].service(path.service)
        assert service is not None
        ends = [name if name in workloads else None for name in (path.client, path.server)]
        assert all((*ends, service.point(family)) in seen for family in shop.families(path)), path


def test_the_recording_is_small() -> None:
    """What ships with every install stays under 300 kB."""
    assert sum(path.stat().st_size for path in recorded_estate().rglob("*") if path.is_file()) < 300_000


def test_an_inventory_written_reads_back_the_same(tmp_path: Path) -> None:
    """Names, labels, addresses, kinds and modes survive the file."""
    armed = demo._enforcing(built_in("shop").inventory())
    write_inventory(armed, tmp_path / "inventory" / "workloads.yaml")
    loaded = load_paths([tmp_path / "inventory"]).raise_if_errors()
    assert sorted(loaded.workloads, key=lambda w: w.name) == sorted(armed.workloads, key=lambda w: w.name)


def test_the_recorded_demo_tells_the_story_and_says_what_it_cannot(tmp_path: Path) -> None:
    """Without root: discovery, a policy that covers everything, a clean simulation, a map; and an honest end."""
    console, out = _told()
    assert demo.run_recorded(console, VIEWS, tmp_path) == 0
    text = out.getvalue()
    assert "NOT TRUE" not in text
    assert "sudo make demo" in text
    policies = {path.name: path.read_text() for path in (tmp_path / "policies").iterdir()}
    assert {"shop-prod.yaml", "shop-dev.yaml"} <= set(policies)
    parse_policies(policies).raise_if_errors()
    assert "prometheus" in (tmp_path / "map.html").read_text()
    assert demo.run_recorded(console, VIEWS, tmp_path) == 0


def test_a_door_open_against_policy_or_shut_against_it_is_a_broken_claim(tmp_path: Path) -> None:
    """One door too many and one too few each turn the claim and the exit code."""
    allowed = frozenset({Reached("prod-api-1", "api", "tcp", 8080, 4)})
    extra = Reached("prod-db-1", "postgres", "tcp", 5432, 6)
    for reached, holds in ((allowed, True), (allowed | {extra}, False), (frozenset(), False)):
        console, out = _told()
        story = demo.Story(console, tmp_path)
        demo._claim_exact(story, Intrusion("prod-web-1", frozenset(reached), 1), allowed)
        assert story.end() == (0 if holds else 1)
        assert ("NOT TRUE" in out.getvalue()) is not holds


@pytest.mark.kernel
@needs_root
def test_the_live_demo_holds_every_claim(tmp_path: Path) -> None:
    """Discover, propose, enforce on real hosts, attack, prove: all claims hold, and the lab is gone."""
    console, out = _told()
    code = demo.run_live(console, VIEWS, tmp_path, seconds=5.0, attackers=["prod-web-1"], every_port=False)
    assert code == 0, out.getvalue()
    text = out.getvalue()
    assert text.count("✓") >= 11
    assert "212 of 212 paths work" in text
    assert (tmp_path / "map.html").exists()


HOLE = """\
policy: hole
rules:
  - {name: redis-only, allow: {from: "role=web", to: "role=cache", service: redis}}
"""


@pytest.mark.kernel
@needs_root
def test_destination_ends_hold_against_root_on_the_source_and_show_a_missing_one(tmp_path: Path) -> None:
    """Root on a web host reaches exactly what the policy's destinations let in; take one destination's rules away
    and its services show as reached against policy."""
    shop, kept = built_in("shop"), {"prod-web-1", "prod-cache-1", "prod-db-1"}
    hosts = tuple(host for host in shop.hosts if host.name in kept)
    world = msgspec.structs.replace(shop, hosts=hosts, paths=(), surveys=())
    with Lab.up(world, flows_dir=tmp_path) as lab:
        inventory = demo._enforcing(lab.inventory)
        policies = parse_policies({"hole.yaml": HOLE}).policies
        engine = Engine.compile(World(inventory, policies, at=datetime.now(UTC)))
        wanted = defend.intents(lab, engine)
        assert {one.state for one in defend.defend(lab, wanted)} == {"realised"}
        allowed = permitted(world, inventory, engine.decide, "prod-web-1", datetime.now(UTC))
        assert {(door.host, door.service) for door in allowed} == {("prod-cache-1", "redis")}
        disarm(lab, "prod-web-1")
        assert attack(lab, "prod-web-1").reached == allowed
        assert {one.host: one.state for one in defend.audit(lab, wanted)} == {
            "prod-web-1": "absent", "prod-cache-1": "realised", "prod-db-1": "realised",
        }  # fmt: skip
        disarm(lab, "prod-db-1")
        beyond = {(door.host, door.service) for door in attack(lab, "prod-web-1").reached - allowed}
        assert beyond == {("prod-db-1", name) for name in ("postgres", "ssh", "node-exporter", "ping")}
