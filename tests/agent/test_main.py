"""The program: exit codes, words, and what each command may load."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import msgspec
import pytest
from scripted import Controller, Host, Paper, body, until

from ringfence.agent.config import Config, read_config
from ringfence.agent.control import Question, ask
from ringfence.agent.held import breakglass
from ringfence.agent.held.disk import Disk
from ringfence.agent.main import DONE, FAILED, USAGE, main
from ringfence.core.errors import InputError
from ringfence.wire import evidence


def test_help_names_every_command_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    """What there is, how it is called, what it returns."""
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    said = capsys.readouterr().out

    assert left.value.code == 0
    for word in (
        "enrol",
        "run",
        "boot",
        "status",
        "preflight",
        "disable",
        "enable",
        "evidence",
        "uninstall",
        "exit codes",
    ):
        assert word in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["enrol", "--token", "nonsense"], USAGE, "bad-token"),
        (["boot"], USAGE, "nothing-held"),
        (["status"], USAGE, "identity-missing"),
        (["run"], USAGE, "identity-missing"),
        (["disable", "--for", "9h", "--why", "x"], USAGE, "disabled-too-long"),
        (["enable"], USAGE, "not-disabled"),
        (["evidence", "-o", "x.tar.gz"], FAILED, "agent-not-running"),
    ],
)
def test_refusals_have_codes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    """On a host that is not enrolled each command says what is missing, with a stable code."""
    assert main([*arguments, "--dir", str(tmp_path)]) == code
    assert f"[{said}]" in capsys.readouterr().err


def test_unknown_settings_are_refused(tmp_path: Path) -> None:
    """A misspelt limit is no limit, and is said."""
    path = tmp_path / "agent.toml"
    path.write_text("heartbeats = 3\n")
    with pytest.raises(InputError) as refused:
        read_config(path)
    path.write_text("heartbeat_s = 3.0\n")

    assert refused.value.code == "bad-agent-config"
    assert read_config(path) == Config(heartbeat_s=3.0)


def test_a_running_agent_answers_on_its_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status in words and JSON, evidence as a tar, break-glass at once: all by the socket only root may open."""

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, Paper()) as agent:
            await controller.say(controller.assign(body("tcp/80")))
            await until(lambda: agent.enforcer.realised.state == "realised")
            assert (tmp_path / "agent.sock").stat().st_mode & 0o077 == 0
            where = ["--dir", str(tmp_path)]
            assert await asyncio.to_thread(main, ["status", *where]) == DONE
            assert await asyncio.to_thread(main, ["status", "--json", *where]) == DONE
            (tmp_path / "e.tar.gz").touch(mode=0o644)
            assert await asyncio.to_thread(main, ["evidence", "-o", str(tmp_path / "e.tar.gz"), *where]) == DONE
            assert await asyncio.to_thread(main, ["disable", "--for", "5m", "--why", "a test", *where]) == DONE
            assert agent.status().disabled_why == "a test"
            assert await asyncio.to_thread(main, ["enable", *where]) == DONE
            await until(lambda: {"disabled", "enabled"} <= set(controller.kinds()) and controller.evidence)
            assert breakglass.last(tmp_path) is None
            sent = evidence.join(map(evidence.read_part, controller.evidence))
            assert sent == (tmp_path / "e.tar.gz").read_bytes()
            assert (tmp_path / "e.tar.gz").stat().st_mode & 0o077 == 0, "nobody else's, though the file was there"
        await controller.bus.close()

    asyncio.run(asyncio.wait_for(test(), 60))
    words, document = capsys.readouterr().out.split('{"workload"', 1)
    assert "realised, revision 11" in words
    assert msgspec.json.decode('{"workload"' + document.splitlines()[0])["realised"]["assignment"] == 11
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "e.tar.gz").read_bytes())) as tar:
        names = set(tar.getnames())
        processes = tar.extractfile("processes.tsv")
        assert processes is not None
        assert b"\tcommand" not in processes.readline()
    assert {"sockets.tsv", "held.json", "rules.nft", "faults.txt"} <= names


def test_a_stopped_agent_is_told_from_the_disk(tmp_path: Path) -> None:
    """Nobody answers on the socket any more."""

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, Paper()):
            await controller.say(controller.assign(body("tcp/80")))
            await until(lambda: controller.realised)
        Disk(tmp_path).save_trust(controller.trust())
        await controller.bus.close()

    asyncio.run(asyncio.wait_for(test(), 60))

    assert ask(tmp_path / "agent.sock", Question("status")) is None


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("ringfence.agent.boot", ("nats", "nacl", "asyncio", "cryptography")),
        ("ringfence.agent.service", ("cryptography", "duckdb", "rich", "typer", "ringfence.core.engine")),
        ("ringfence.agent.main", ("numpy", "nats", "asyncio")),
    ],
)
def test_nothing_is_loaded_that_is_not_needed(module: str, forbidden: tuple[str, ...]) -> None:
    """The boot guard waits for no library of connections; the resident agent never holds those of the controller."""
    program = f"import sys, {module}; print(*[name for name in {forbidden!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == ""


def test_evidence_is_whole_or_absent() -> None:
    """Parts in any order make the bundle; one missing makes none; parts of two bundles are refused."""
    bundle = bytes(range(256)) * 8000
    parts = [evidence.read_part(part) for part in evidence.split(bundle, "a")]
    other = [evidence.read_part(part) for part in evidence.split(bundle + b"x", "b")]

    assert len(parts) == 3
    assert evidence.join(reversed(parts)) == bundle
    assert evidence.join(parts[:-1]) is None
    with pytest.raises(InputError):
        evidence.join([*parts[:-1], other[-1]])
    with pytest.raises(InputError):
        evidence.read_part(b"nonsense")


def test_every_setting_can_be_set(tmp_path: Path) -> None:
    """Folders, too: a file may name each key."""
    path = tmp_path / "agent.toml"
    path.write_text('directory = "/srv/ringfence"\nsocket = "/run/r.sock"\nheartbeat_s = 5\n')
    found = read_config(path)
    assert (found.directory, found.socket, found.heartbeat_s) == (Path("/srv/ringfence"), Path("/run/r.sock"), 5.0)
