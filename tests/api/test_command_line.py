"""The command line of a fleet, against a real controller: what it says, and how it ends."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving import SHOP, Host, Serving, eventually, serving
from typer.testing import CliRunner, Result

from ringfence.cli.main import app

HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "run-a-fleet.md"
Ring = Callable[..., Result]


@pytest.fixture
def estate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the shop's policies, in which commands run."""
    (tmp_path / "estate" / "policies").mkdir(parents=True)
    (tmp_path / "estate" / "policies" / "shop.yaml").write_text(SHOP)
    monkeypatch.chdir(tmp_path / "estate")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("RINGFENCE_SERVER", "RINGFENCE_TOKEN", "RINGFENCE_CA"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def fleet(estate: Path) -> Iterator[Serving]:
    with serving(estate / "controller") as served:
        yield served


@pytest.fixture
def ring() -> Ring:
    def run(*words: str, stdin: str = "") -> Result:
        return CliRunner().invoke(app, list(words), input=stdin, catch_exceptions=False)

    return run


def log_in(ring: Ring, fleet: Serving) -> None:
    url, fingerprint = fleet.controller.settings.url, fleet.controller.authority.fingerprints[0]
    done = ring("login", url, "--ca-fingerprint", fingerprint, "--token", "-", stdin=fleet.token)
    assert done.exit_code == 0, done.output


def test_login_says_nothing_to_another_ca(fleet: Serving, ring: Ring, estate: Path) -> None:
    """A wrong fingerprint, a wrong token, no server: each with its code and exit code, and nothing is kept."""
    url, fingerprint = fleet.controller.settings.url, fleet.controller.authority.fingerprints[0]
    wrong = ring("login", url, "--ca-fingerprint", "0" * 64, "--token", fleet.token)
    short = ring("login", url, "--ca-fingerprint", "abc", "--token", fleet.token)
    token = ring("login", url, "--ca-fingerprint", fingerprint, "--token", "rf_a_b", "--json")
    nobody = ring("login", "https://localhost:1", "--ca-fingerprint", fingerprint, "--token", fleet.token)

    assert [(r.exit_code, code in r.output) for r, code in (
        (wrong, "controller-unknown"), (short, "bad-fingerprint"), (token, "token-refused"),
        (nobody, "controller-unreachable"))] == [(2, True), (2, True), (2, True), (3, True)]  # fmt: skip
    assert not (estate / "config").exists()
    assert (ring("status").exit_code, "not-logged-in" in ring("status").output) == (2, True)


def test_what_login_keeps_is_for_its_owner(fleet: Serving, ring: Ring, estate: Path) -> None:
    """Mode 0600; used from then on; gone after logout. The environment is asked first."""
    log_in(ring, fleet)
    kept = estate / "config" / "ringfence" / "login.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert ring("status").exit_code == 0
    assert ring("status", "--server", "https://localhost:1").exit_code == 2
    assert ring("logout").exit_code == 0
    assert fleet.token not in kept.read_text()
    assert ring("status").exit_code == 2


def test_a_controller_that_does_not_answer_ends_a_command_with_3(
    estate: Path, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the code `controller-unreachable`, in the words and in JSON."""
    with serving(estate / "gone") as served:
        log_in(ring, served)
    plain, document = ring("status"), ring("quarantine", "web", "--why", "x", "--json")

    assert (plain.exit_code, document.exit_code) == (3, 3)
    assert "error[controller-unreachable]" in plain.output
    assert json.loads(document.stdout)["error"] == "controller-unreachable"


def commands_of(page: Path) -> list[list[str]]:
    text = "\n".join(re.findall(r"^```console root\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE))
    words = [shlex.split(line.removeprefix("$ ")) for line in text.splitlines() if line.startswith("$ ringfence ")]
    return [w[1:] for w in words if w[1] not in ("up", "login")]


def test_the_howto_does_what_it_says(fleet: Serving, ring: Ring, estate: Path) -> None:
    """Every command of docs/howto/run-a-fleet.md, in its order, with two hosts that join where the page says so."""
    log_in(ring, fleet)
    commands = commands_of(HOWTO)
    assert len(commands) > 20
    hosts: list[Host] = []
    for words in commands:
        if words[0] == "versions":
            (estate / "estate" / "policies" / "shop.yaml").write_text(SHOP.replace("5432", "5433"))
            assert ring("apply", "--trial", "none", "--note", "another port", "--yes").exit_code == 0
        done = ring(*words)
        assert done.exit_code in (0, 1), (words, done.output)
        assert "error[" not in done.output, (words, done.output)
        if words[:2] == ["agent", "invite"]:
            hosts += join_two(fleet, ring, done.stdout.strip(), estate)
        if words[0] in ("apply", "rollback"):
            eventually(lambda: json.loads(ring("rollout", "--json").stdout)["confirmed"] == 2)
    assert json.loads(ring("audit", "verify", "--json").stdout)["is_intact"]
    for host in hosts:
        host.close()


def join_two(fleet: Serving, ring: Ring, web_token: str, folder: Path) -> list[Host]:
    db_token = ring("agent", "invite", "db").stdout.strip()
    hosts = []
    for name, token, address in (("web", web_token, "10.0.0.1"), ("db", db_token, "10.0.0.2")):
        host = Host(folder / "hosts" / name, fleet.run, address)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("socket.gethostname", lambda name=name: name)
            host.join(token)
        host.connect()
        hosts.append(host)
    names = {one["name"] for one in json.loads(ring("agent", "list", "--json").stdout)}
    assert names == {"web", "db"}
    return hosts


def test_failing_tests_end_an_apply_with_1(fleet: Serving, ring: Ring) -> None:
    """As `policy test` does; bad input with 2; and nothing is published."""
    log_in(ring, fleet)
    ring("agent", "profile", "web", "--label", "role=web", "--label", "app=shop")
    unmatched = ring("apply", "--note", "x", "--yes")
    assert (unmatched.exit_code, "test-unmatched" in unmatched.output) == (1, True)
    for words, code in (
        (["apply", "--canary", "x%"], "bad-canary"), (["apply", "--canary", "10"], "bad-canary"),
        (["apply", "--canary", "lots"], "unmatched"), (["apply", "--canary", "0%"], "bad-canary"),
        (["apply", "--live", "whatever"], "bad-live"),
        (["apply", "--probe", "nowhere"], "bad-probe"), (["apply", "--trial", "soon"], "bad-duration"),
        (["alerts", "smash", "x"], "bad-action"), (["mode", "web"], "unknown-mode"),
        (["quarantine", "web", "--allow", "x"], "bad-exception"),
        (["agent", "retire", "nobody", "--why", "x"], "unknown-workload"),
        (["agent", "profile", "web", "--label", "role=web"], "record-exists"),
        (["token", "grant", "x", "--role", "king"], "bad-grant"), (["rollout", "--go-on"], "no-rollout"),
    ):  # fmt: skip
        done = ring(*words)
        assert (done.exit_code, code in done.output) == (2, True), (words, done.output)
    assert json.loads(ring("versions", "--json").stdout) == []
