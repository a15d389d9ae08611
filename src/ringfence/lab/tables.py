"""The demo's findings as Rich tables. Shows; measures and decides nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ringfence.core.insight.simulate import Simulation
from ringfence.lab.attack import Reached
from ringfence.lab.world import World

_SHOWN = 12
_VERDICT_STYLES = {"allowed": "green", "would-block": "yellow", "blocked": "red"}


def table(*columns: str, title: str = "") -> Table:
    """A plain table; a column whose name ends in `>` is for numbers."""
    out = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold dim")
    for column in columns:
        out.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left")
    return out


def hosts(world: World) -> Table:
    """Every host with what it is, where, and what it serves."""
    out = table("host", "labels", "address", "serves")
    for host in world.hosts:
        labels = ",".join(f"{key}={value}" for key, value in host.labels.items())
        kind = {"host": "", "device": " (no agent)", "outside": "(not ours)"}[host.kind]
        served = " ".join(service.name for service in host.services)
        out.add_row(host.name, f"{labels}{kind}", host.addresses[0], Text(served, "dim"))
    return out


def simulation(found: Simulation) -> RenderableType:
    """Totals by verdict, what breaks, and what would be stopped and missed by nobody."""
    totals = table("verdict", "connections>", "conversations>")
    for verdict, count in found.totals.items():
        totals.add_row(Text(verdict, _VERDICT_STYLES[verdict]), f"{count.connections:,}", f"{count.rows:,}")
    parts: list[RenderableType] = [totals]
    for broken in found.breaks[:_SHOWN]:
        parts.append(Text(f"breaks: {broken.source} -> {broken.destination} {broken.service}: {broken.hint}", "red"))
    for noise in found.noise:
        parts.append(
            Text(f"stopped, and missed by nobody: {noise.connections:,} connections, {noise.reason}", "yellow")
        )
    return Group(*parts)


def reach(attacker: str, before: frozenset[Reached], after: frozenset[Reached], allowed: frozenset[Reached]) -> Table:
    """One row a service: on how many doors (hosts and address families) it answers the intruder."""
    out = table("service", "before>", "after>", "policy allows>", "still open at", title=f"[bold]from {attacker}")
    counts = [Counter(_service(door) for door in doors) for doors in (before, after, allowed)]
    for service in sorted({service for count in counts for service in count}):
        was, now, may = (count[service] for count in counts)
        where = sorted({door.host for door in after if _service(door) == service})
        out.add_row(
            service, f"{was}", Text(f"{now}", "red" if now > may else "green"), f"{may}", Text(_some(where), "dim")
        )
    total = Text(f"{len(after)}", "bold")
    out.add_row(Text("all doors", "bold"), f"{len(before)}", total, f"{len(allowed)}", "", end_section=True)
    return out


def _service(door: Reached) -> str:
    return f"{door.service} {door.transport}/{door.port}" if door.port else door.service


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
