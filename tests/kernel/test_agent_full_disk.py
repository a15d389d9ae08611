"""A host whose disk is full, or read-only, on a real file system: enforcement never waits for it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from scripted import OTHER, UUID, Controller, Paper, body, until

from ringfence.agent.config import Config
from ringfence.agent.enforce import enforcer
from ringfence.agent.held.disk import Disk
from ringfence.agent.held.journal import Journal, heard
from ringfence.agent.run import Agent
from ringfence.bus.memory import MemoryBus
from ringfence.core.intent.model import Intent
from ringfence.core.intent.pieces import Isolation
from ringfence.core.net.address import parse_address
from ringfence.wire.messages import Isolations

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root on Linux"),
]
SIZE = 256 << 10
FIRST = parse_address("10.0.0.1")


def alone(story: str, folder: Path) -> None:
    """Run a story of this file over a small file system, in a mount namespace that ends with it."""
    order = f"import sys, {__name__} as stories; stories.{story}(sys.argv[1])"
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", order, str(folder)],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def mounted(folder: Path, size: int = SIZE) -> Path:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True, timeout=10)
    return folder


def fill(folder: Path) -> Path:
    """Until not a byte more goes in."""
    ballast = folder / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert shutil.disk_usage(folder).free == 0
    return ballast


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True, timeout=10)


class Running:
    """An agent with all that it keeps on the small disk."""

    def __init__(self, controller: Controller, folder: Path, point: Paper) -> None:
        config = Config(directory=folder, socket=folder.parent / "agent.sock", heartbeat_s=0.2, watch_s=0.05)
        self.agent = Agent(config, controller.trust(), MemoryBus(controller.broker), point)

    async def __aenter__(self) -> Agent:
        self._task = asyncio.create_task(self.agent.run())
        return self.agent

    async def __aexit__(self, *_: object) -> None:
        self.agent.stop()
        await self._task
        await self.agent.bus.close()


async def enforced(controller: Controller) -> None:
    """Members, a quarantine and a policy, one after the other: each is in force and told."""
    away = controller.move(removed=["10.0.0.2"], added=[f"10.0.1.{number}" for number in range(200)])
    await controller.say(away)
    await until(lambda: controller.realised[-1].change == away.revision)
    isolated = controller.isolate(Isolation(OTHER, (FIRST,)))
    await controller.say(isolated)
    await until(lambda: controller.realised[-1].isolations == isolated.revision)
    made = controller.assign(body("tcp/81"))
    await controller.say(made)
    await until(lambda: controller.realised[-1].assignment == made.revision)


async def settled(controller: Controller) -> None:
    await controller.say(controller.move(added=["10.0.0.1", "10.0.0.2"]))
    made = controller.assign(body("tcp/80"))
    await controller.say(made)
    await until(lambda: controller.realised and controller.realised[-1].assignment == made.revision)


async def recovered(controller: Controller, agent: Agent, state: Path) -> None:
    """With no other news all that is held is on the disk."""
    await until(lambda: "disk-recovered" in controller.kinds())
    await until(lambda: agent.footing.keeper.is_kept)
    kept = Disk(state).load().held()
    assert kept is not None
    assert kept.state == agent.held.state
    assert controller.kinds().count("disk-refused") == 1
    assert not list(state.glob("*.new"))


async def comes_back(controller: Controller, state: Path, to: Intent | None) -> None:
    """A restart without the controller."""
    controller.answers = False
    again = Paper()
    async with Running(controller, state, again):
        await until(lambda: again.intent is not None)
        assert again.intent == to
    controller.answers = True


async def filling(disk: Path) -> None:
    enforcer._DISK_S = 0.1  # type: ignore[misc]
    controller, point, state = Controller(), Paper(), disk / "state"
    await controller.start()
    async with Running(controller, state, point) as agent:
        await settled(controller)
        ballast = fill(disk)
        await enforced(controller)
        await until(lambda: "disk-refused" in controller.kinds())
        assert Disk(state).load().problem == ""
        ballast.unlink()
        await recovered(controller, agent, state)
    await comes_back(controller, state, point.intent)
    fill(disk)
    await comes_back(controller, state, point.intent)
    await controller.bus.close()


async def locking(disk: Path) -> None:
    enforcer._DISK_S = 0.1  # type: ignore[misc]
    controller, point, state = Controller(), Paper(), disk / "state"
    await controller.start()
    async with Running(controller, state, point):
        await settled(controller)
    remount(disk, "ro")
    await comes_back(controller, state, point.intent)
    controller.beats.clear()
    controller.events.clear()
    async with Running(controller, state, point) as agent:
        await until(lambda: len(controller.beats) > 2)
        await enforced(controller)
        await until(lambda: {"disk-refused", "control-refused"} <= {*controller.kinds()})
        remount(disk, "rw")
        await recovered(controller, agent, state)
    await comes_back(controller, state, point.intent)
    await controller.bus.close()


def full(folder: str) -> None:
    asyncio.run(asyncio.wait_for(filling(mounted(Path(folder))), 60))


def read_only(folder: str) -> None:
    asyncio.run(asyncio.wait_for(locking(mounted(Path(folder))), 60))


@pytest.mark.parametrize("story", ["full", "read_only"])
def test_a_disk_that_takes_nothing_stops_no_rule(story: str, tmp_path: Path) -> None:
    """Full or read-only: members, quarantine and policy are enforced and told; so is that the disk refuses, once. When
    it takes something again, with no other news, all is written and that is told; a restart then, and one on the disk
    that refuses again, come back to the same rules."""
    (tmp_path / "disk").mkdir()
    alone(story, tmp_path / "disk")


def nearly_full(folder: str) -> None:
    """Room for a part of a segment's head, then for none, then for all."""
    disk = mounted(Path(folder))
    journal = Journal(disk, UUID)
    ballast = fill(disk)
    for _ in range(2):
        with pytest.raises(OSError, match=r"full|No space"):
            journal.append([Isolations(2, ("main",))])
    ballast.unlink()
    (disk / "heard.00000001").write_bytes(b"rf")  # what a short write of the head left
    journal.append([Isolations(3, ("main",))])
    journal.sync()
    told = heard(disk, UUID)
    assert (told.problem, [message.revision for message in told.messages]) == ("", [3])  # type: ignore[union-attr]


def test_a_segment_that_was_begun_on_a_full_disk_is_begun_anew(tmp_path: Path) -> None:
    """What is appended when there is room is read, though its first bytes did not all go in at first."""
    (tmp_path / "disk").mkdir()
    alone("nearly_full", tmp_path / "disk")
