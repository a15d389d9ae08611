"""`ringfence` as a real process: pipes, exit codes, what stands on which stream."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_estate import ShopEstate, flow_log

LOADED = """
import sys
from ringfence.cli.main import main
try:
    main()
except SystemExit:
    print(*sys.modules, file=sys.stderr)
"""
"""Runs a command, and tells on stderr which modules it loaded."""
PROGRAM = "from ringfence.cli.main import main; main()"


def ringfence(*words: str, cwd: Path, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "FORCE_COLOR")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], cwd=cwd, input=stdin, env=clean | env, text=True, capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip


def test_the_answer_is_on_stdout_and_messages_on_stderr(shop: ShopEstate) -> None:
    """A whole import through a pipe, then its map as one JSON document; no colours, no progress bar."""
    imported = ringfence("flows", "import", "-", cwd=shop.root, stdin=flow_log())
    mapped = ringfence("map", "--json", cwd=shop.root)

    assert (imported.returncode, imported.stderr) == (0, "")
    assert "24 connections in 4 conversations from 25 lines" in imported.stdout
    assert "\x1b" not in imported.stdout
    assert json.loads(mapped.stdout)["summary"]["connections"] == 24


def test_a_pipe_gets_whole_lines_and_a_window_gets_its_width(busy_shop: ShopEstate) -> None:
    """Into a pipe a row is one line to grep; COLUMNS=80 is heeded."""
    piped = ringfence("simulate", cwd=busy_shop.root)
    narrow = ringfence("simulate", cwd=busy_shop.root, COLUMNS="80")

    rows = [line for line in piped.stdout.splitlines() if "comes closest" in line]
    assert [("role=web" in row, "role=db" in row, "blocked" in row) for row in rows] == [
        (False, True, True),
        (True,) * 3,
    ]
    assert max(map(len, narrow.stdout.splitlines())) <= 80
    assert piped.returncode == narrow.returncode == 1


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["policy", "schema"], 0), (["map", "--json"], 0), (["simulate"], 1), (["render", "nftables", "web-1"], 0),
        (["policy", "check", "nowhere", "--json"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_reader_that_leaves_changes_no_exit_code(busy_shop: ShopEstate, words: list[str], code: int) -> None:
    """`| head` hears no traceback, and findings stay findings."""
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], cwd=busy_shop.root, stdout=writing, stderr=subprocess.PIPE, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    os.close(writing)

    assert (ran.returncode, ran.stderr) == (code, "")


def test_decide_stops_when_nobody_reads_its_answers(shop: ShopEstate) -> None:
    """It ends by itself, quietly."""
    reading, writing = os.pipe()
    os.close(reading)
    line = '{"source":"web-1","destination":"api-1","service":"tcp/8080"}\n'
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, "decide"], cwd=shop.root, stdout=writing, stderr=subprocess.PIPE, text=True,
        input=line * 50, timeout=60, check=False,
    )  # fmt: skip
    os.close(writing)

    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_estate_is_found_upwards(shop: ShopEstate) -> None:
    """From a folder inside it, like git."""
    inside = shop.root / "policies"

    assert ringfence("policy", "check", cwd=inside).stdout.startswith("2 policies, 4 rules")


def test_a_c_locale_writes_utf8(busy_shop: ShopEstate) -> None:
    """Where the locale knows only ASCII, documents are UTF-8 all the same."""
    busy_shop.write("policies/cafe.yaml", "policy: cafe\nowner: café\nrules: []\n")

    drawn = ringfence("map", "-f", "mermaid", cwd=busy_shop.root, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")

    assert drawn.returncode == 0


def test_a_fault_of_ours_is_no_finding(shop: ShopEstate) -> None:
    """An unforeseen error ends with 3 and says how to report it: CI never takes it for findings, nor for a pass."""
    broken = "import ringfence.cli.policy as p; p.check = lambda *_, **__: 1 / 0; "
    ran = subprocess.run(
        [sys.executable, "-c", broken + PROGRAM, "policy", "check"], cwd=shop.root, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip

    assert (ran.returncode, ran.stdout) == (3, "")
    assert "ZeroDivisionError" in ran.stderr
    assert "error[internal-error]" in ran.stderr


def test_help_loads_no_command() -> None:
    """What a command needs is loaded when it is run: help needs no arrays, no database, no lab."""
    ran = subprocess.run(
        [sys.executable, "-c", LOADED, "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(ran.stderr.split())

    assert "recommend" in ran.stdout
    assert not loaded & {"numpy", "duckdb", "pyarrow", "yaml", "ringfence.estate", "ringfence.lab.lab"}


def test_a_check_loads_no_database(shop: ShopEstate) -> None:
    """Without imported traffic nothing of the flow store is read, nor any reader of flow logs."""
    ran = subprocess.run(
        [sys.executable, "-c", LOADED, "policy", "check"], cwd=shop.root, capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip

    assert ran.stdout.startswith("2 policies")
    assert not set(ran.stderr.split()) & {"duckdb", "pyarrow", "ringfence.flows.ingest", "ringfence.lab.lab"}


def test_quiet_leaves_only_the_result(busy_shop: ShopEstate) -> None:
    """-q silences messages, not errors."""
    quiet = ringfence("map", "-f", "dot", "-o", "x.dot", "-q", cwd=busy_shop.root)
    failed = ringfence("policy", "check", "nowhere", "-q", cwd=busy_shop.root)

    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    assert "error[missing-file]" in failed.stderr


def interrupted(program: str, *words: str, cwd: Path) -> tuple[int, str]:
    """How a command ends that somebody interrupts once it said `ready`."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *words], cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdin.write('{"source":"web-1","destination":"api-1","service":"tcp/8080"}\n')
        running.stdin.flush()
        assert running.stdout.readline()
        running.send_signal(signal.SIGINT)
        return running.wait(60), running.stderr.read()


def test_ctrl_c_ends_a_command_without_a_traceback(shop: ShopEstate) -> None:
    """While it runs, and while it is loaded: one line, and the exit code that shells know; never that of findings."""
    loading = (
        "import time, ringfence.cli.lazy as lazy\n"
        "def stuck(path):\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "lazy.import_module = stuck\n"
    )
    for program in (PROGRAM, loading + PROGRAM):
        code, told = interrupted(program, "decide", cwd=shop.root)
        assert code == 130
        assert told.startswith("interrupted: ")
        assert len(told.splitlines()) == 1
