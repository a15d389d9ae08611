"""How a story is told: steps, words, tables, and claims that were checked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.rule import Rule
from rich.text import Text

from ringfence.core.insight.map import FlowMap
from ringfence.lab import tables
from ringfence.wire import api

_GLUE = "\u00a0"
"""A space that no line is broken at."""


@dataclass(frozen=True)
class Views:
    """How findings are shown; given by the caller, who has the renderers."""

    table: Callable[[FlowMap], RenderableType]
    picture: Callable[[FlowMap], str]
    plan: Callable[[api.Planned], Iterable[RenderableType]]
    contained: Callable[[Iterable[api.ContainedView]], RenderableType]


class Claim(msgspec.Struct, frozen=True):
    """Something the story says, and whether it was seen to hold."""

    text: str
    holds: bool
    measured: str = ""
    """The figure that was seen, in words."""


@dataclass
class Story:
    """Where the story is told, and what it has claimed so far."""

    console: Console
    folder: Path
    claims: list[Claim] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    _step: int = 0

    def step(self, title: str) -> None:
        self._step += 1
        self.console.print()
        self.console.print(Rule(f"[bold]{self._step}  {title}", align="left", style="cyan"))

    def say(self, text: str) -> None:
        """`text` may have markup: what comes from outside is escaped by whoever says it."""
        self.show(Text.from_markup(text, overflow="fold"))

    def show(self, what: RenderableType) -> None:
        self.console.print(Padding(what, (0, 0, 0, 3)), highlight=False)

    def claim(self, text: str, *, holds: bool, measured: str = "") -> None:
        self.claims.append(Claim(text, holds, measured))
        told = f"{escape(text)}: [bold]{escape(measured)}[/]" if measured else escape(text)
        self.say(f"[bold green]✓[/] {told}" if holds else f"[bold red]✗ NOT TRUE:[/] {told}")

    def progress(self, words: str, seconds: float) -> Progressing:
        return Progressing(self.console, words, seconds)

    def sum_up(self) -> None:
        """All claims as one table."""
        table = tables.table("", "claim", "measured")
        for claim in self.claims:
            mark = Text("✓", "bold green") if claim.holds else Text("✗", "bold red")
            table.add_row(mark, Text(claim.text), Text(claim.measured, "bold"))
        self.show(table)

    @property
    def code(self) -> int:
        """The exit code: 0 when everything claimed holds."""
        return 0 if all(claim.holds for claim in self.claims) else 1

    def end(self) -> int:
        """Say how it ended; the exit code."""
        broken = sum(not claim.holds for claim in self.claims)
        verdict = f"[bold red]{broken} of {len(self.claims)} claims do not hold" if broken else ""
        self.console.print()
        self.console.print(Rule(verdict or f"[bold green]all {len(self.claims)} claims hold", style="cyan"))
        return self.code


class Progressing:
    """A progress bar that is told how many seconds have gone by."""

    def __init__(self, console: Console, words: str, seconds: float) -> None:
        columns = (TextColumn(f"   {words}"), BarColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task("", total=seconds)

    def __enter__(self) -> Callable[[float], None]:
        self._bar.start()
        return lambda gone: self._bar.update(self._task, completed=gone)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def in_words(seconds: float) -> str:
    """A duration as people say it."""
    return f"{1000 * seconds:.0f}{_GLUE}ms" if seconds < 1 else f"{seconds:.1f}{_GLUE}s"
