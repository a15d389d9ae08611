"""What `status` says of a stopped agent's host: which policy the kernel's table is of, as read back from it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from nft_ground import Ground
from scripted import Controller, Host, body, until

from ringfence.agent.clock import Clock
from ringfence.agent.config import Config
from ringfence.agent.control import Status
from ringfence.agent.held import breakglass
from ringfence.agent.held.disk import Disk
from ringfence.agent.point import nftables
from ringfence.agent.status import from_disk, words

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root on Linux"),
]


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground() as made:
        yield made


def test_a_stopped_agents_table_is_told_by_version_and_mode(ground: Ground, tmp_path: Path) -> None:
    """The version, the mode and the addresses that the kernel holds; a break-glass is told by its mode, whether it is
    over or not; rules of nothing that is on the disk are told as that; and so is that there are none."""
    config = Config(directory=tmp_path, netns=ground.host)

    async def enforce() -> str:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, nftables(ground.host), netns=ground.host) as agent:
            for ports in (("tcp/1", "tcp/2"), ("tcp/1", "tcp/2", "tcp/3")):
                made = controller.assign(body(*ports))
                await controller.say(controller.move(added=["10.1.0.1"]))
                await controller.say(made)
                await until(lambda made=made: agent.enforcer.realised.assignment == made.revision)
            digest = agent.enforcer.realised.digest
        Disk(tmp_path).save_trust(controller.trust())
        await controller.bus.close()
        return digest

    digest = asyncio.run(asyncio.wait_for(enforce(), 90))
    status = from_disk(config)
    told = status.realised
    assert (told.state, told.policy_version, told.digest, told.problems) == ("realised", 3, digest, ())
    assert (told.assignment, status.mode, status.peers) == (
        status.held_revision,
        {"in": "enforce", "out": "enforce"},
        1,
    )
    assert f"version 3, digest {digest[:12]}" in _line("rules", status)
    assert _line("agent", status).startswith("not running: the rules stay")

    point = nftables(ground.host)
    point.remove()
    gone = from_disk(config)
    assert (gone.realised.state, gone.realised.policy_version, gone.realised.digest) == ("absent", 0, "")
    assert "no rule of ours is in the kernel" in _line("agent", gone)
    assert _line("rules", gone) == "absent"

    _boot(tmp_path, point)
    assert from_disk(config).realised.policy_version == 3
    breakglass.disable(tmp_path, Clock(), for_s=60, why="a test")
    _boot(tmp_path, point)
    over = breakglass.last(tmp_path)
    assert over is not None
    breakglass.end(tmp_path, over)
    disabled = from_disk(config)
    assert (disabled.realised.policy_version, disabled.mode["in"], disabled.disabled_until) == (3, "observe", 0.0)

    Disk(tmp_path).forget()
    Disk(tmp_path).save_trust(Controller().trust())
    strange = from_disk(config)
    assert strange.realised.state == "drifted"
    assert "of no version that is on the disk" in _line("rules", strange)
    assert any("of no policy on the disk" in one for one in strange.realised.problems)
    point.close()


def _boot(folder: Path, point: object) -> None:
    from ringfence.agent.boot import guard

    guard(Disk(folder), point, Clock())  # type: ignore[arg-type]


def _line(name: str, status: Status) -> str:
    return next(line[14:] for line in words(status).splitlines() if line.startswith(f"{name} "))
