"""The README's tour, executed: every command in it runs, and what it is shown to print it prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
TOUR = (
    (ROOT / "README.md").read_text("utf-8").split("## Five minutes with your own eyes")[1].split("## The language")[0]
)
NEEDS_ROOT = ("enforce ",)
VARIES = re.compile(r"lines/s|^ ?─+$")
"""Lines whose figures differ from run to run, and rulers."""


class Shown(NamedTuple):
    """A command of the tour and the lines it is shown to print."""

    command: str
    lines: tuple[str, ...]


def shown_in(text: str) -> Iterator[Shown]:
    for block in re.findall(r"```\n(.*?)```", text, re.DOTALL):
        for part in block.split("$ ")[1:]:
            first, *rest = part.splitlines()
            for command in first.split(" && "):
                yield Shown(command.strip(), tuple(line for line in rest if line.strip() and not VARIES.search(line)))


def words(text: str) -> str:
    return " ".join(text.split())


def run(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from ringfence.cli.main import main; main()", *arguments]
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    return subprocess.run(program, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tour, step by step, on the estate it makes; what each command printed."""
    folder = tmp_path_factory.mktemp("tour")
    out: dict[str, str] = {}
    for command, _ in shown_in(TOUR):
        if command == "cd shop":
            folder /= "shop"
        elif not any(f"ringfence {word}" in command for word in NEEDS_ROOT):
            if "diff before/" in command:
                widen(folder)
            result = run(command.split()[1:], folder)
            assert result.returncode in (0, 1), f"{command}\n{result.stderr}"
            out[command] = result.stdout
            if "diff before/" in command:
                shutil.rmtree(folder / "policies")
                (folder / "before").rename(folder / "policies")
    return out


def widen(folder: Path) -> None:
    """The change that the tour proposes."""
    shutil.copytree(folder / "policies", folder / "before")
    path = folder / "policies" / "shop-prod.yaml"
    text = path.read_text()
    assert "service: rabbitmq" in text
    path.write_text(text.replace("to: queue, service: rabbitmq", "to: queue, service: any", 1))


@pytest.mark.parametrize("shown", [s for s in shown_in(TOUR) if s.lines], ids=lambda s: s.command)
def test_the_tour_prints_what_it_shows(printed: dict[str, str], shown: Shown) -> None:
    """Each line shown below a command of the README is in what the command prints."""
    if shown.command not in printed:
        pytest.skip("changes this host's firewall: the kernel tests run it in a namespace")
    real = words(printed[shown.command])

    missing = [line for line in shown.lines if words(line).removesuffix("…").strip() not in real]

    assert not missing, f"{printed[shown.command]}"
