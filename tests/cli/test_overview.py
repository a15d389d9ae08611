"""`ringfence --help`: the table of commands is the commands."""

from __future__ import annotations

import pytest
import typer

from ringfence.cli.main import COMMANDS, app


@pytest.mark.parametrize("name", COMMANDS)
def test_the_overview_says_what_the_command_says(name: str) -> None:
    """The line in the table, which spares loading the command, is the first paragraph of its own help."""
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]

    assert COMMANDS[name].help == " ".join(command.help.split("\n\n")[0].split())
