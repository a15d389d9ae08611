"""A page of the documentation as a story: files to write and commands to run, in the order of the page.

    ```yaml policies/shop.yaml      a block with a file's name is that file
    ```console                      commands behind `$ `, with lines they print; `...` stands for lines left out
    ```console root                 changes this machine's firewall: read, not run

INVARIANT: a block of YAML, TOML, CSV or console text that is neither is refused, so no example escapes its test.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from typer.testing import CliRunner

from ringfence.cli.main import app

FENCE = re.compile(r"^```(?P<kind>\w*)[ ]?(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
SHELL = re.compile(r"[|;&<>$*]")
"""A command with none of these is run in this process."""
FILES = frozenset({"yaml", "toml", "csv"})
VARIES = re.compile(r"[\d,]+ lines/s")
"""What differs from run to run."""


class Block(NamedTuple):
    kind: str
    info: str
    text: str
    line: int


class Step(NamedTuple):
    """A command and the lines it is shown to print."""

    command: str
    lines: tuple[str, ...]


def blocks_of(page: Path) -> tuple[Block, ...]:
    """Every fenced block that says what it is."""
    text = page.read_text("utf-8")
    found = [
        Block(m["kind"], m["info"].strip(), m["text"], text[: m.start()].count("\n") + 1) for m in FENCE.finditer(text)
    ]
    for block in found:
        named = block.kind in FILES and block.info
        assert named or block.kind not in FILES | {"sh", "bash", ""}, f"{page}:{block.line} is not executable"
    return tuple(found)


def steps_of(block: Block) -> Iterator[Step]:
    """The commands of a console block."""
    first, *parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    assert not first.strip(), f"line {block.line}: output before any command"
    for part in parts:
        command, *lines = part.splitlines()
        yield Step(command.strip(), tuple(line for line in lines if line.strip() not in ("", "...")))


def play(page: Path, folder: Path) -> list[str]:
    """The page's story in an empty folder. -> what it tells otherwise than the program, each as one text."""
    programs = _programs(folder / "bin")
    here = folder / "story"
    here.mkdir()
    wrong: list[str] = []
    for block in blocks_of(page):
        if block.kind in FILES:
            (here / block.info).parent.mkdir(parents=True, exist_ok=True)
            (here / block.info).write_text(block.text, "utf-8")
        elif block.kind == "console" and block.info != "root":
            for step in steps_of(block):
                here = _take(step, here, programs, wrong)
    return wrong


def _take(step: Step, here: Path, programs: Path, wrong: list[str]) -> Path:
    """One command, and where the story is after it."""
    code, printed, there = _run(step.command, here, programs)
    expected = {2} if any(line.startswith("error[") for line in step.lines) else {0, 1}
    if code not in expected:
        wrong.append(f"$ {step.command}\nexit {code}\n{printed}")
    elif missing := _missing(step.lines, printed):
        wrong.append(f"$ {step.command}\nnot printed in this order: {missing}\n{printed}")
    return there


def _run(command: str, here: Path, programs: Path) -> tuple[int, str, Path]:
    """The exit code, what was printed, and the folder afterwards."""
    window = {"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"}
    if command.startswith("ringfence ") and not SHELL.search(command):
        with contextlib.chdir(here):
            result = CliRunner(env=window).invoke(app, shlex.split(command)[1:])
        return result.exit_code, result.stdout + result.stderr, here
    script = f"trap 'pwd > {programs / 'pwd'}' EXIT\n{command}"
    environment = {**os.environ, **window, "PATH": f"{programs}:{os.environ['PATH']}"}
    ran = subprocess.run(
        ["bash", "-c", script], cwd=here, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return ran.returncode, ran.stdout + ran.stderr, Path((programs / "pwd").read_text().strip())


def _missing(lines: tuple[str, ...], printed: str) -> str:
    """The first shown line that is not among those printed after the one before it, or nothing."""
    real = iter(_words(line) for line in printed.splitlines())
    for line in lines:
        if not any(_words(line) == told for told in real):
            return line
    return ""


def _words(line: str) -> str:
    return VARIES.sub("N lines/s", " ".join(line.split()))


def _programs(folder: Path) -> Path:
    """A folder with `ringfence` in it, run by this interpreter."""
    folder.mkdir(parents=True)
    program = folder / "ringfence"
    program.write_text(f"#!{sys.executable}\nfrom ringfence.cli.main import main\n\nmain()\n")
    program.chmod(0o755)
    return folder
