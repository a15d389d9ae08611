"""The server child: it is up when it says so, comes back when it dies, and dies with its controller."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from real_bus import PATIENCE_S, A, B, Fleet, connection, open_fleet, running

from ringfence.bus.server import BusServer, Settings, Tls, configuration
from ringfence.core.errors import RingfenceError
from ringfence.durable import write_secret


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(claim: object) -> None:
    async def waiting() -> None:
        while not claim():  # type: ignore[operator]
            await asyncio.sleep(0.02)

    await asyncio.wait_for(waiting(), PATIENCE_S)


def test_the_configuration_holds_no_secret(tmp_path: Path) -> None:
    """What the server is told is readable by its owner alone, and names public keys and files only."""

    async def story() -> None:
        async with running(tmp_path) as fleet:
            path = tmp_path / "nats" / "nats.conf"
            text = path.read_text()

            assert path.stat().st_mode & 0o777 == 0o600
            assert not any(seed in text for seed in (fleet.seeds.issuer, fleet.seeds.controller, fleet.seeds.system))
            assert "PRIVATE" not in text

    asyncio.run(story())


def test_the_server_accepts_its_configuration(tmp_path: Path) -> None:
    """nats-server itself finds the configuration good, with IPv6 addresses and odd paths, too."""
    folder = tmp_path / 'a "quoted" place'
    fleet = Fleet(folder)
    settings = Settings(folder, Tls(fleet.own, fleet.own, folder / "roots.pem"), fleet.seeds.public, host="::1")
    write_secret(folder / "nats.conf", configuration(settings, 4222).encode())
    program = Path(sys.executable).parent / "nats-server"

    checked = subprocess.run(
        [program, "-t", "-c", folder / "nats.conf"], capture_output=True, text=True, timeout=30, check=False
    )

    assert checked.returncode == 0, checked.stderr


def test_a_server_that_is_killed_comes_back(tmp_path: Path) -> None:
    """Killed with -9 again and again, it is up again on the same port, and everybody is connected again."""

    async def story() -> None:
        async with open_fleet(tmp_path) as (fleet, controller), connection(fleet.agent(A)) as agent:
            port = fleet.server.port
            for round_ in range(1, 3):
                pid = fleet.server.pid
                assert pid
                os.kill(pid, signal.SIGKILL)
                await until(lambda before=round_: fleet.server.restarts == before)
                await controller.connected(timeout_s=PATIENCE_S)
                await until(lambda: agent.is_connected)

            assert fleet.server.port == port
            await agent.flush()

    asyncio.run(story())


def test_stopping_leaves_nothing(tmp_path: Path) -> None:
    """After `stop` the child is gone and stays gone."""

    async def story() -> None:
        async with running(tmp_path) as fleet:
            pid = fleet.server.pid
            assert pid
        assert not is_alive(pid)
        assert not fleet.server.is_up
        assert fleet.server.restarts == 0

    asyncio.run(story())


def test_the_server_dies_with_its_controller(tmp_path: Path) -> None:
    """A controller killed with -9 leaves no server behind: the port and the store are free for the next."""
    program = (
        "import asyncio, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; from real_bus import running\n"
        "async def main():\n"
        "    async with running(Path(sys.argv[2])) as fleet:\n"
        "        print(fleet.server.pid, flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as controller:
        assert controller.stdout
        server = int(controller.stdout.readline())
        was_alive = is_alive(server)
        controller.kill()
    asyncio.run(until(lambda: not is_alive(server)))

    assert was_alive


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    """A port that another program has is an error with a code, not somebody else's server."""

    async def story() -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            fleet = Fleet(tmp_path, port=other.getsockname()[1])
            with pytest.raises(RingfenceError) as caught:
                await fleet.server.start()
        assert caught.value.code == "bus-port-taken"
        assert not fleet.server.is_up

    asyncio.run(story())


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """Without its certificate the server does not start, and the error carries a code."""

    async def story() -> None:
        fleet = Fleet(tmp_path)
        fleet.own.unlink()
        with pytest.raises(RingfenceError) as caught:
            await fleet.server.start()
        assert caught.value.code == "bus-not-started"
        assert not fleet.server.is_up

    asyncio.run(story())


def test_a_rotated_root_is_believed_after_a_reload(tmp_path: Path) -> None:
    """Agents of the new root enter once the server has read the bundle again; those of the old one come back by
    themselves, and the server is the one it was."""

    async def story() -> None:
        async with open_fleet(tmp_path) as (fleet, controller), connection(fleet.agent(A)) as old:
            pid = fleet.server.pid
            fleet.authority.add_root(now=datetime.now(UTC))
            fleet.authority.use_newest_root()
            write_secret(tmp_path / "roots.pem", fleet.authority.bundle)
            fleet.server.reload()

            async with connection(fleet.agent(B)) as new:
                await new.flush()
            await until(lambda: old.is_connected and controller.is_connected)
            await old.flush()
            assert fleet.server.pid == pid

    asyncio.run(story())


def test_a_missing_program_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without nats-server says what to install."""
    fleet = Fleet(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(RingfenceError) as caught:
        BusServer(Settings(tmp_path, Tls(fleet.own, fleet.own, fleet.own), fleet.seeds.public))

    assert caught.value.code == "bus-server-missing"
