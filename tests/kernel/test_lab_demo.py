"""The demo: on recorded flows anywhere, on real hosts as root; and that it does not claim what is not so."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console

from ringfence.catalog import flow_sources
from ringfence.cli.fleet_words import contained_words, plan_words
from ringfence.cli.picture import draw_html
from ringfence.cli.render_map import map_table
from ringfence.core.engine import Engine
from ringfence.core.flow.conversations import COLUMNS, Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode, Workload
from ringfence.core.policy.parse import parse_policies
from ringfence.core.world import Endpoint, World
from ringfence.flows.ingest import read_flows
from ringfence.inventory.files import load_paths
from ringfence.lab import defend, demo, namespaces
from ringfence.lab.attack import Intrusion, Reached, attack, disarm, permitted
from ringfence.lab.description import built_in
from ringfence.lab.lab import Lab
from ringfence.lab.record import recorded_estate, write_inventory
from ringfence.lab.story import learning, surviving
from ringfence.lab.story.telling import Story, Views

ENFORCE = Mode.both("enforce")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def _told() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=160, color_system=None), out


VIEWS = Views(table=map_table, picture=draw_html, plan=plan_words, contained=contained_words)


def _enforcing(inventory: Inventory) -> Inventory:
    """The same workloads, every controlled one in `enforce`."""
    return Inventory(msgspec.structs.replace(w, mode=ENFORCE) if w.is_controlled else w for w in inventory.workloads)


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
    armed = _enforcing(built_in("shop").inventory())
    write_inventory(armed, tmp_path / "inventory" / "workloads.yaml")
    loaded = load_paths([tmp_path / "inventory"]).raise_if_errors()
    assert sorted(loaded.workloads, key=lambda w: w.name) == sorted(armed.workloads, key=lambda w: w.name)


def test_the_recorded_demo_tells_the_story_and_says_what_it_cannot(tmp_path: Path) -> None:
    """Without root: discovery, a policy that covers everything, a clean simulation, a map; and an honest end."""
    console, out = _told()
    assert demo.run_recorded(console, VIEWS, tmp_path).end() == 0
    text = out.getvalue()
    assert "NOT TRUE" not in text
    assert "sudo make demo" in text
    policies = {path.name: path.read_text() for path in (tmp_path / "policies").iterdir()}
    assert {"shop-prod.yaml", "shop-dev.yaml"} <= set(policies)
    parse_policies(policies).raise_if_errors()
    assert "prometheus" in (tmp_path / "map.html").read_text()
    assert demo.run_recorded(console, VIEWS, tmp_path).end() == 0


def test_a_door_open_against_policy_or_shut_against_it_is_a_broken_claim(tmp_path: Path) -> None:
    """One door too many and one too few each turn the claim and the exit code."""
    allowed = frozenset({Reached("prod-api-1", "api", "tcp", 8080, 4)})
    extra = Reached("prod-db-1", "postgres", "tcp", 5432, 6)
    for reached, holds in ((allowed, True), (allowed | {extra}, False), (frozenset(), False)):
        console, out = _told()
        story = Story(console, tmp_path)
        surviving.claim_exact(story, Intrusion("prod-web-1", frozenset(reached), 1), allowed)
        assert story.end() == (0 if holds else 1)
        assert ("NOT TRUE" in out.getvalue()) is not holds


def test_a_claim_that_does_not_hold_is_said_and_ends_with_1(tmp_path: Path) -> None:
    """The word, the table and the exit code agree."""
    console, out = _told()
    story = Story(console, tmp_path)
    story.claim("water is wet", holds=True, measured="very")
    assert story.code == 0
    story.claim("fire is cold", holds=False)
    story.sum_up()
    assert story.end() == story.code == 1
    assert "NOT TRUE: fire is cold" in out.getvalue()
    assert "1 of 2 claims do not hold" in out.getvalue()


def test_a_dozen_hosts_have_every_path_that_the_story_needs() -> None:
    """Twelve agents; no path to a host that is left out; the intruder has a session and opens connections."""
    world = demo.dozen()
    assert len(world.managed) == 12
    assert all({path.client, path.server} <= world.by_name.keys() for path in world.paths)
    ends = {(path.client, path.server) for path in world.paths}
    assert {demo._SESSION[:2], demo._OPENED[:2]} <= ends


def test_a_path_seen_once_is_missing_still() -> None:
    """What is learned from needs to have been seen twice."""
    web, db = (Workload(name, name) for name in ("web", "db"))
    columns = {name: np.array([1, 2], np.int64) for name in COLUMNS}
    columns |= {"source": np.array([0, 0]), "destination": np.array([1, 2]), "point": np.array([5, 6])}
    found = Conversations((Endpoint(web, 1), Endpoint(db, 2), Endpoint(None, 3)), **columns)
    paths = frozenset({("web", "db", 5), ("web", None, 6), ("db", "web", 5)})
    assert learning.missing(found, paths) == {("web", "db", 5), ("db", "web", 5)}


@pytest.mark.kernel
@needs_root
def test_the_live_demo_holds_every_claim(tmp_path: Path) -> None:
    """A controller, a dozen agents, the whole story: all claims hold, and nothing of it is left."""
    console, out = _told()
    before = set(namespaces.MOUNTS.glob("rf-*"))
    story = demo.run_live(console, VIEWS, tmp_path)
    assert story.end() == 0, out.getvalue()
    assert len(story.claims) >= 24
    assert {path.name for path in tmp_path.iterdir()} >= {"policies", "inventory", "flows", "map.html", "controller"}
    assert not [pid for pid in _processes() if str(tmp_path).encode() in pid]
    assert not {path for path in set(namespaces.MOUNTS.glob("rf-*")) - before if story_lab(out.getvalue()) in path.name}


def story_lab(text: str) -> str:
    """The id of the lab that a story was told in."""
    found = re.search(r"ip netns exec rf-(\w+)-", text)
    assert found is not None
    return found[1]


def _processes() -> list[bytes]:
    """The command line of every process."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes())
    return lines


@pytest.mark.kernel
@needs_root
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C while agents run: no namespace, no process, no traceback."""
    argv = [sys.executable, "-c", "from ringfence.cli.main import main; main()", "lab", "demo", "-o", str(tmp_path)]
    running = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    assert running.stdout is not None
    said = []
    for line in running.stdout:
        said.append(line)
        if "agents join" in line:
            break
    os.killpg(running.pid, signal.SIGINT)
    said.append(running.communicate()[0])
    text = "".join(said)
    assert running.returncode != 0
    assert "Traceback" not in text, text
    assert not namespaces.namespaces_of(story_lab(text))
    assert not [line for line in _processes() if str(tmp_path).encode() in line]


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
        inventory = _enforcing(lab.inventory)
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
