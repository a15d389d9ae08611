"""Commands that are loaded when they are asked for: `ringfence --help` reads no more than this package's words.

INVARIANT: the one-line helps of the table are those of the commands themselves (a test compares them).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup

from ringfence.cli.exits import INTERRUPTED, INTERRUPTED_WORDS

_UsageError: Any = typer.BadParameter.__base__
"""Whatever is wrong with the words of a command; Typer has no public name for it."""
_IS_JSON = "ringfence.is_json"


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


def is_json_asked(words: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, however wrong it is besides."""
    return "--json" in words[: words.index("--") if "--" in words else None]


@contextmanager
def _usage_told(*, is_json: bool) -> Iterator[None]:
    """With --json a wrong command line is told as any other error, as JSON on stdout."""
    try:
        yield
    except _UsageError as error:
        if not is_json:
            raise
        from ringfence.cli.session import Session, refuse  # help needs none of it
        from ringfence.core.errors import InputError

        message, _, guess = error.format_message().replace("'", "`").partition(" Did you mean ")
        where = error.ctx.command_path if error.ctx is not None else "ringfence"
        if getattr(error, "option_name", "") == "--json":
            guess = f"`{where} COMMAND --json`: it stands behind the command"
        help_ = f"did you mean {guess}" if guess else f"`{where} --help` tells how it is written"
        refusal = InputError("bad-usage", message[:1].lower() + message[1:].rstrip("."), help=help_)
        raise typer.Exit(refuse(Session(Path(), is_json=True, is_quiet=False), refusal)) from error


def lazy_group(entries: Mapping[str, Entry]) -> type[TyperGroup]:
    """A group class of these commands."""

    class LazyGroup(TyperGroup):
        def __init__(self, **options: Any) -> None:
            super().__init__(**{**options, "commands": None})
            self.commands = LazyCommands(entries)

        def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
            is_json = is_json_asked(args)
            with _usage_told(is_json=is_json):
                context = super().make_context(info_name, args, parent, **extra)
            context.meta[_IS_JSON] = is_json
            return context

        def invoke(self, ctx: Any) -> Any:
            """A command. Ctrl-C while it is loaded ends as it does while it runs."""
            try:
                with _usage_told(is_json=ctx.meta[_IS_JSON]):
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
