"""Commands that are loaded when they are asked for: `ringfence --help` reads no more than this package's words.

INVARIANT: the one-line helps of the table are those of the commands themselves (a test compares them).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup

from ringfence.cli.exits import INTERRUPTED, INTERRUPTED_WORDS


class Entry(NamedTuple):
    """A module of commands (`register`) or a family of its own (`app`), and the help in one line."""

    module: str
    help: str


class LazyCommands(MutableMapping[str, Any]):
    """Commands by name: the names are known, a command is made when it is taken."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = entries
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made |= _commands_of(name, self._entries[name].module)
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        raise TypeError("commands are not taken away")

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _commands_of(name: str, path: str) -> dict[str, Any]:
    module = import_module(path)
    root = typer.Typer(rich_markup_mode=None)
    root.callback()(lambda: None)
    if hasattr(module, "app"):
        root.add_typer(module.app, name=name)
    else:
        module.register(root)
    group = typer.main.get_command(root)
    assert isinstance(group, TyperGroup)
    return dict(group.commands)


def lazy_group(entries: Mapping[str, Entry]) -> type[TyperGroup]:
    """A group class of these commands."""

    class LazyGroup(TyperGroup):
        def __init__(self, **options: Any) -> None:
            super().__init__(**{**options, "commands": None})
            self.commands = LazyCommands(entries)

        def invoke(self, ctx: Any) -> Any:
            """A command. Ctrl-C while it is loaded ends as it does while it runs."""
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                typer.echo(INTERRUPTED_WORDS, err=True)
                ctx.exit(INTERRUPTED)

        def list_commands(self, ctx: Any) -> list[str]:
            return list(entries)

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            with formatter.section("Commands"):
                formatter.write_dl([(name, entry.help) for name, entry in entries.items()])

    return LazyGroup
