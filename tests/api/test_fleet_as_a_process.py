"""Commands of a fleet as real processes: pipes, terminals, signals, streams that are closed, and no place to be at."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, fleet_in
from serving import SHOP, eventually
from typer.testing import CliRunner

from ringfence.cli import up
from ringfence.cli.main import app
from ringfence.client import login
from ringfence.core.errors import InputError
from ringfence.wire.api import Contain, Release
from ringfence.wire.messages import Event

PROGRAM = [sys.executable, "-c", "from ringfence.cli.main import main; main()"]
PATIENCE_S = 60
NARROW = 60


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet_in(tmp_path_factory.mktemp("processes")) as made:
        made.publish()
        made.hosts["web"].say(Event(1.0, "tampering", "somebody removed a rule"))
        eventually(lambda: [one for one in made.client.alerts() if one.kind == "tampering"])
        yield made


def clean(**env: str | None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TERM")}
    return {k: v for k, v in {**kept, **env}.items() if v is not None}


def ringfence(*words: str, stdin: str = "", **env: str | None) -> Any:
    return subprocess.run(
        [*PROGRAM, *words], input=stdin, env=clean(**env), text=True, capture_output=True, check=False,
        timeout=PATIENCE_S,
    )  # fmt: skip


def shell(line: str, **env: str | None) -> Any:
    """A line of `sh` in which `$R` is the program."""
    env = {"R": f"{sys.executable} {Path(__file__).with_name('as_ringfence.py')}", **env}
    return subprocess.run(
        ["sh", "-c", line], env=clean(**env), text=True, capture_output=True, check=False, timeout=PATIENCE_S
    )


def in_a_window(*words: str, typed: bytes = b"", **env: str | None) -> tuple[int, str]:
    """What a person sees who types that: exit code and everything on a terminal."""
    here, there = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, *words], stdin=there, stdout=there, stderr=there, env=clean(TERM="xterm-256color", **env),
        start_new_session=True,
    ) as running:  # fmt: skip
        os.close(there)
        seen = b""
        if typed:
            while not seen.endswith(b": "):
                seen += os.read(here, 1 << 16)
            os.write(here, typed)
        while select.select([here], [], [], PATIENCE_S)[0]:
            try:
                piece = os.read(here, 1 << 16)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            seen += piece
        os.close(here)
        return running.wait(PATIENCE_S), seen.decode()


def test_a_window_gets_colours_and_a_pipe_none(fleet: Fleet) -> None:
    """And NO_COLOR is heeded in a window, too: the same words, not one escape sequence of colour."""
    coloured, plain = in_a_window("alerts"), in_a_window("alerts", NO_COLOR="1")
    piped = ringfence("alerts")

    assert (coloured[0], plain[0], piped.returncode) == (1, 1, 1)
    assert re.search(r"\x1b\[[0-9;]*3[0-9]m", coloured[1])
    assert not re.search(r"\x1b\[[0-9;]*[34][0-9]m", plain[1])
    assert "\x1b" not in piped.stdout + piped.stderr
    for seen in (coloured[1], plain[1], piped.stdout):
        assert "somebody removed a rule" in re.sub(r"\x1b\[[0-9;]*m", "", seen)


def test_who_says_nothing_when_asked_is_interrupted(fleet: Fleet) -> None:
    """Ctrl-D at the question for a token, and at the one for a yes: never the exit code of findings."""
    token = in_a_window("login", "https://localhost:1", "--ca-fingerprint", "0" * 64, typed=b"\x04")
    yes = in_a_window("agent", "retire", "web", "--why", "a test", typed=b"\x04")

    assert (token[0], "interrupted: " in token[1]) == (130, True)
    assert (yes[0], "nothing was changed" in yes[1]) == (2, True)
    assert fleet.client.workload("web").name == "web"


@pytest.mark.parametrize("words", ["status", "agent list", "versions", "alerts", "audit", "plan", "token list"])
def test_a_narrow_window_is_not_overrun(fleet: Fleet, words: str) -> None:
    """COLUMNS=60: no line is longer."""
    ran = ringfence(*words.split(), COLUMNS=str(NARROW))

    assert ran.returncode in (0, 1)
    assert max(map(len, (ran.stdout + ran.stderr).splitlines())) <= NARROW
    assert "Traceback" not in ran.stderr


def test_a_terminal_that_knows_only_ascii(fleet: Fleet) -> None:
    """What it has no character for is a question mark in a table, UTF-8 in a document; never an error."""
    fleet.client.quarantine(Contain(("web",), "böse — 悪い"))
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    told, document = ringfence("quarantine", **ascii_only), ringfence("quarantine", "--json", **ascii_only)
    fleet.client.release(Release(("web",), "a test"))

    assert (told.returncode, document.returncode) == (0, 0), told.stderr
    assert "b?se ? ??" in told.stdout
    assert json.loads(document.stdout)[0]["why"] == "böse — 悪い"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("$R audit --limit 9 --json | head -1", 0),
        ("$R audit --limit 9 | head -1", 0),
        ("$R alerts --json >&-", 1),
        ("$R alerts >&-", 1),
        ("$R alerts 2>&-", 1),
        ("$R status nobody 2>&-", 2),
        ("$R status nobody 2>/dev/full", 2),
        ("$R status nobody --json >&- 2>&-", 2),
        ("$R label web --put a=b --why x <&-", 2),
        ("$R decide --fleet <&-", 0),
        ("$R alerts --json > /dev/full", 2),
        ("$R alerts > /dev/full", 2),
        ("$R status nobody --json > /dev/full", 2),
        ("$R --help > /dev/full", 2),
        ("$R nonsense 2> /dev/full", 2),
    ],
)
def test_streams_that_are_closed_full_or_left(fleet: Fleet, line: str, code: int) -> None:
    """No traceback, and the exit code of what was found; where the answer cannot be written, 2 and why."""
    ran = shell(line)

    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    assert "internal-error" not in ran.stderr
    if "> /dev/full" in line and "2> /dev/full" not in line:
        assert ran.stderr.startswith("error[")


def test_who_follows_alerts_is_told_each_and_leaves_when_they_like(fleet: Fleet) -> None:
    """`--follow --json`: one document a line. It ends when nobody reads it any more (`| head -1`), and at Ctrl-C."""
    for ending in ("left", "interrupted"):
        with subprocess.Popen(
            [*PROGRAM, "alerts", "--follow", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=clean(),
        ) as running:  # fmt: skip
            assert running.stdout is not None
            assert running.stderr is not None
            assert "following" in running.stderr.readline()
            line = _told_line(fleet, running)
            assert json.loads(line)["message"]
            if ending == "interrupted":
                running.send_signal(signal.SIGINT)
            else:
                running.stdout.close()
                _tell_until_gone(fleet, running)
            assert (running.wait(PATIENCE_S), running.stderr.read()) == (0, "")


def _told_line(fleet: Fleet, running: subprocess.Popen[str]) -> str:
    """The next line; something is told until it comes."""
    assert running.stdout is not None
    for number in range(100):
        fleet.hosts["web"].say(Event(2.0 + number, "tampering", f"somebody removed rule {number}"))
        if select.select([running.stdout], [], [], 1.0)[0]:
            return running.stdout.readline()
    raise AssertionError("nothing was told")


def _tell_until_gone(fleet: Fleet, running: subprocess.Popen[str]) -> None:
    numbers = iter(range(1000, 2000))

    def is_gone() -> bool:
        fleet.hosts["web"].say(Event(float(next(numbers)), "tampering", "somebody removed another rule"))
        return running.poll() is not None

    eventually(is_gone)


def test_ctrl_c_while_a_controller_does_not_answer(tmp_path: Path) -> None:
    """130 and one line, however long it would have waited."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"https://127.0.0.1:{mute.getsockname()[1]}"
        (tmp_path / "ca.pem").write_text(_some_certificate())
        env = clean(RINGFENCE_SERVER=url, RINGFENCE_TOKEN="rf_a_b", RINGFENCE_CA=str(tmp_path / "ca.pem"))
        with subprocess.Popen(
            [*PROGRAM, "status", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        ) as running:
            called, _ = mute.accept()
            with called:
                assert called.recv(1)  # it said hello, and waits
                running.send_signal(signal.SIGINT)
                out, err = running.communicate(timeout=PATIENCE_S)

    assert (running.returncode, out) == (130, "")
    assert err.startswith("interrupted: ")
    assert len(err.splitlines()) == 1


def _some_certificate() -> str:
    paths = ssl.get_default_verify_paths()
    text = Path(paths.cafile or paths.openssl_cafile).read_text("ascii", "ignore")
    return text[: text.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"


def test_nobody_is_logged_in_and_no_server_is_named(tmp_path: Path) -> None:
    """Every way to have nothing: what lacks, and what to do; the same in JSON."""
    empty = {"XDG_CONFIG_HOME": None, "HOME": str(tmp_path)}
    told = ringfence("status", **empty)
    document = ringfence("status", "--json", **{**empty, "HOME": None, "XDG_CONFIG_HOME": str(tmp_path / "none")})

    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith("error[not-logged-in] no server and no token and no CA is known")
    assert "ringfence login URL --ca-fingerprint F" in told.stderr
    assert (document.returncode, document.stderr) == (2, "")
    assert json.loads(document.stdout)["error"] == "not-logged-in"


def test_a_token_that_could_not_be_sent(tmp_path: Path) -> None:
    """A line's end around it is taken off; anything else that no token holds is told before anybody is asked."""
    (tmp_path / "ca.pem").write_text(_some_certificate())
    known = {"RINGFENCE_SERVER": "https://localhost:1", "RINGFENCE_CA": str(tmp_path / "ca.pem")}
    wrong = ringfence("status", "--json", RINGFENCE_TOKEN="rf_schlüssel", **known)
    ended = ringfence("status", "--json", RINGFENCE_TOKEN="rf_a_b\n", **known)

    assert (wrong.returncode, json.loads(wrong.stdout)["error"]) == (2, "bad-token")
    assert (ended.returncode, json.loads(ended.stdout)["error"]) == (3, "controller-unreachable")


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run as nobody known: the environment is enough, and `login` says that it can keep nothing."""

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    for name in ("XDG_CONFIG_HOME", login.SERVER, login.TOKEN, login.CA):
        monkeypatch.delenv(name, raising=False)
    done = CliRunner().invoke(app, ["status", "--json"])
    assert json.loads(done.stdout)["error"] == "not-logged-in"
    with pytest.raises(InputError) as caught:
        login.keep(login.Login("https://localhost:1", "rf_a_b", ""))
    assert caught.value.code == "no-home"


@pytest.mark.parametrize("words", ["init", "map", "flows import x", "nats-config c --server a", "up c", "restore x c"])
def test_a_place_where_nothing_can_be_written(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc takes no files, whoever asks: exit 2, a code and help."""
    monkeypatch.chdir("/proc")
    monkeypatch.setattr(up, "_log_to_stderr", lambda _: None)
    ran = CliRunner().invoke(app, [*words.split(), "--json"], catch_exceptions=False)

    document = json.loads(ran.stdout)
    assert (ran.exit_code, ran.stderr) == (2, "")
    assert document["findings"][0]["help"]


def test_a_controller_says_where_it_serves_in_one_line_of_json(tmp_path: Path) -> None:
    """`up --json`: one document on stdout, its log as JSON lines on stderr; SIGTERM ends it with 0. A port that is
    taken: 3, and one document."""
    words = ["up", str(tmp_path / "c"), "--listen", "127.0.0.1", "--name", "localhost", "--bus-port", "0", "--json"]
    with subprocess.Popen(
        [*PROGRAM, *words, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean()
    ) as running:
        assert running.stdout is not None
        where = json.loads(running.stdout.readline())
        running.send_signal(signal.SIGTERM)
        rest, log = running.communicate(timeout=PATIENCE_S)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = ringfence(*words[:1], str(tmp_path / "d"), *words[2:], "--port", port)

    assert (running.returncode, rest) == (0, "")
    assert set(where) == {"url", "bus", "ca_fingerprint", "token"}
    assert all("message" in json.loads(line) for line in log.splitlines())
    assert (refused.returncode, json.loads(refused.stdout)["error"]) == (3, "api-port-taken")


async def _silence() -> None:
    pass


def test_a_rollout_that_does_not_end_in_time_ends_with_3(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--wait --within`: the version is published all the same, and says so; a time that is none changes nothing."""
    fleet.write(SHOP.replace("5432", "5433"))
    words = ["apply", "--why", "a test", "--yes", "--wait", "--trial", "none"]
    before = len(fleet.client.versions())
    soon = ringfence(*words, "--within", "soon", "--json")
    assert (soon.returncode, json.loads(soon.stdout)["error"]) == (2, "bad-duration")
    assert len(fleet.client.versions()) == before

    for host in fleet.hosts.values():
        host.run(host.beat())  # they are there: who is not heard is not waited for
        monkeypatch.setattr(host, "beat", _silence)  # they hear, and confirm nothing
    late = ringfence(*words, "--within", "1s", "--json")

    assert (late.returncode, json.loads(late.stdout)["error"]) == (3, "rollout-unfinished")
    assert f"version {before + 1} is published" in late.stderr
    assert len(fleet.client.versions()) == before + 1
