"""The whole of Ringfence as one story on a real fleet, or as far as recorded flows go.

    a controller, a dozen agents · discover · propose · plan · a canary, then everybody · enforce
    controller and bus killed: protected, and back · attack, alert, quarantine, release · the record

Each act says what it does, does it, and shows what came of it; what must hold is a `Claim`, and the demo is a success
only if every claim does. The controller is `ringfence up`, the agents are `ringfence-agent run`, each in a network of
its own, and what is asked of the controller is asked over its API.

What it leaves is an ordinary estate (`inventory/`, `policies/`, `flows/`, `map.html`) beside what controller and agents
kept and said.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from ringfence.agent.config import Config
from ringfence.estate import CONFIG
from ringfence.lab.description import find_world
from ringfence.lab.fleet import Fleet, with_controller
from ringfence.lab.fleet_controller import HEARTBEAT_S
from ringfence.lab.lab import Lab
from ringfence.lab.served import FLOWS_S, Served
from ringfence.lab.story import closing, containing, enforcing, learning, recorded, starting, surviving
from ringfence.lab.story.scene import Scene
from ringfence.lab.story.steady import Steady
from ringfence.lab.story.telling import Story, Views
from ringfence.lab.world import World

SECONDS: Final = 15.0
INTRUDER: Final = "prod-web-1"
_LEFT_OUT: Final = frozenset({"prod-db-2", "prod-api-2", "dev-web-1", "backup-1", "audit-1"})
"""Of the shop: a dozen hosts are enough for the story, and for two cores."""
_SESSION: Final = ("jump-1", INTRUDER, 22)
_OPENED: Final = (INTRUDER, "prod-api-1", 8080)
_LAB_LOG_GROUP: Final = 4242
"""The agents listen to the group that rules log to; the lab's own telemetry must not."""


def run_live(console: Console, views: Views, folder: Path, *, seconds: float = SECONDS) -> Story:
    """The whole story on a lab of real hosts; raises what `Lab.up` and the controller raise."""
    story = Story(console, _fresh(folder))
    with tempfile.TemporaryDirectory(prefix="ringfence-") as scratch, _lab(story.folder) as lab:
        fleet = Fleet(lab, story.folder, Config(heartbeat_s=HEARTBEAT_S, flows_s=FLOWS_S), None)
        served = Served(lab, story.folder / "controller", Path(scratch) / "api.sock")
        scene = Scene(story, views, fleet, served, Steady(fleet))
        try:
            _tell(scene, seconds)
        finally:
            served.close()
            scene.steady.close()
    story.step("What was claimed, and what was measured")
    story.sum_up()
    story.say("the lab is gone: its processes, networks and rules")
    closing.what_next(story)
    return story


def _tell(scene: Scene, seconds: float) -> None:
    starting.start_controller(scene)
    starting.join_hosts(scene)
    found = learning.discover(scene, seconds)
    proposal = learning.propose(scene.story, found, scene.inventory())
    learning.plan(scene, proposal)
    before = surviving.knock_before(scene, INTRUDER)
    enforcing.apply(scene)
    enforcing.enforce(scene)
    surviving.survive(scene, INTRUDER, before)
    containing.catch(scene, INTRUDER, "prod-db-1")
    containing.contain(scene, INTRUDER, _SESSION, _OPENED)
    closing.close(scene)


def run_recorded(console: Console, views: Views, folder: Path) -> Story:
    """The story as far as recorded flows go: everything but a fleet and an attack."""
    story = Story(console, _fresh(folder))
    recorded.tell(story, views)
    return story


def dozen() -> World:
    """The shop with a dozen hosts that have an agent."""
    shop = find_world("shop")
    hosts = tuple(host for host in shop.hosts if host.name not in _LEFT_OUT)
    names = {host.name for host in hosts}
    paths = tuple(path for path in shop.paths if {path.client, path.server} <= names)
    return msgspec.structs.replace(shop, hosts=hosts, paths=paths, surveys=())


def _lab(folder: Path) -> Lab:
    return Lab.up(with_controller(dozen()), flows_dir=folder / "flows", nflog_group=_LAB_LOG_GROUP)


def _fresh(folder: Path) -> Path:
    """The folder, without what an earlier demo wrote into it."""
    for name in ("flows", "policies", "inventory", "controller", "agents"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("controller.log", "map.html", CONFIG):
        (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
