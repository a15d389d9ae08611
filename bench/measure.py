"""Figures with their targets: CPU time of this process, the best of a few runs, which a busy machine blurs least."""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec
from rich.console import Console
from rich.table import Table

Result = TypeVar("Result")
_SCALES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


class Figure(msgspec.Struct, frozen=True):
    """One measured number. `target` has the same unit; below it is good."""

    name: str
    value: float
    unit: str = "s"
    target: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Value over target: at most 1 meets it."""
        return None if self.target is None else self.value / self.target


def cpu_s(call: Callable[[], Result], *, runs: int = 3) -> tuple[float, Result]:
    """The least CPU time of a few runs, in seconds, and the last result."""
    best = float("inf")
    for _ in range(runs):
        gc.collect()
        start = time.process_time()
        result = call()
        best = min(best, time.process_time() - start)
    return best, result


def each_cpu_s(calls: Iterable[Callable[[], object]]) -> list[float]:
    """The CPU time of each call, in seconds."""
    out = []
    for call in calls:
        start = time.process_time()
        call()
        out.append(time.process_time() - start)
    return out


def peak_rss_mb() -> float:
    """The most memory this process ever held, in MB (getrusage(2): kilobytes on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def show(title: str, figures: list[Figure], *, as_json: bool) -> None:
    """A table for people, or one JSON document."""
    if as_json:
        rows = [msgspec.structs.asdict(f) | {"ratio": f.ratio} for f in figures]
        sys.stdout.write(msgspec.json.encode({"bench": title, "figures": rows}).decode() + "\n")
        return
    table = Table("figure", "measured", "target", "ratio", "note", title=title)
    for figure in figures:
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}" + ("" if figure.ratio <= 1 else " MISSED")
        target = "" if figure.target is None else "< " + _say(figure.target, figure.unit)
        table.add_row(figure.name, _say(figure.value, figure.unit), target, ratio, figure.note)
    Console(width=170).print(table)


def _say(value: float, unit: str) -> str:
    if unit != "s" or value == 0:
        return f"{value:,.0f} {unit}" if abs(value) >= 100 else f"{value:.3g} {unit}"
    scale, name = next((s for s in _SCALES if abs(value) >= s[0]), _SCALES[-1])
    return f"{value / scale:.3g} {name}"
