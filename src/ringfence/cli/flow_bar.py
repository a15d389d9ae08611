"""How far flow logs are, in bytes, while they are sent and read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ringfence.cli.session import Session

Moved = Callable[[int, int, str], None]
"""Bytes that are done, of all, and a word about the pace."""


@contextmanager
def flow_bar(session: Session, doing: str) -> Iterator[Moved]:
    """A bar, where somebody looks at stderr; else what it is told goes nowhere."""
    if session.is_quiet or session.is_json or not session.err.is_terminal:
        yield lambda *_: None
        return
    columns = (
        TextColumn(doing),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[pace]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=session.err, transient=True) as bar:
        task = bar.add_task("", total=None, pace="")

        def moved(done: int, total: int, pace: str) -> None:
            bar.update(task, completed=done, total=total, pace=pace)

        yield moved
