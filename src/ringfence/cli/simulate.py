"""`ringfence simulate`: stored traffic against policies: what passes, breaks and opens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from ringfence.cli.ask import COLOURS, AsOption, parse_mode
from ringfence.cli.flow_store import SinceOption, UntilOption, read
from ringfence.cli.session import CLEAN, FINDINGS, Session, command
from ringfence.cli.sparkline import sparkline
from ringfence.cli.tables import Rows, count
from ringfence.core.engine import Engine
from ringfence.core.insight.simulate import Change, Simulation, simulate

_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    command(app, "simulate", epilog="Example: ringfence simulate --since 7d --as enforce")(simulate_)


def simulate_(
    session: Session,
    policies: Annotated[list[Path] | None, typer.Argument(help="Draft policies; the estate's own by default.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_: AsOption = None,
) -> int:
    """Replay stored flows against policies: what passes, what would break, what would open. Exit 1 when something
    breaks.

    Judged in each workload's own mode; `--as enforce` asks what breaks if everything is enforced.
    """
    estate = session.estate
    world = estate.world(policies=estate.parse(policies).raise_if_errors(), as_mode=parse_mode(as_))
    result = simulate(Engine.compile(world), read(session, since, until), keys=estate.label_keys)
    session.emit(_simulation_document(result), *render_simulation(result))
    return CLEAN if result.is_clean else FINDINGS


def _simulation_document(result: Simulation) -> dict[str, object]:
    names = (
        "totals",
        "rules",
        "unused",
        "series",
        "talkers",
        "breaks",
        "more_breaks",
        "noise",
        "opens",
        "closes",
        "applications",
    )
    return {name: getattr(result, name) for name in names}


def render_simulation(result: Simulation) -> list[RenderableType]:
    """Totals, the time line, what breaks with its nearest fix, who talks most, and each rule's use."""
    totals = Text()
    for verdict, seen in result.totals.items():
        totals.append(f"{seen.connections:,} {verdict}   ", COLOURS[verdict])
    rules = Rows(("rule", "allowed>", "would-block>", "blocked>"))
    for use in result.rules[:_SHOWN]:
        rules.add(use.rule or f"({use.reason})", f"{use.allowed:,}", f"{use.would_block:,}", f"{use.blocked:,}")
    unhappy = [w + b for w, b in zip(result.series.would_block, result.series.blocked, strict=True)]
    out: list[RenderableType] = [totals]
    if any(unhappy) and len(unhappy) > 1:
        out.append(Text.assemble("not passing, by hour  ", (sparkline(unhappy), "red")))
    broken = {(row.source, row.destination, row.service) for row in result.breaks}
    closes = tuple(row for row in result.closes if (row.source, row.destination, row.service) not in broken)
    out += [_breaks(result), _changes("opens", result.opens), _changes("closes", closes), rules]
    if result.unused:
        more = f" and {len(result.unused) - _SHOWN:,} more" if len(result.unused) > _SHOWN else ""
        out.append(Text(f"no traffic: {', '.join(result.unused[:_SHOWN])}{more}", "dim"))
    for row in result.noise:
        connections = count(row.connections, "connection")
        out.append(Text(f"noise that would not pass and nobody misses: {row.reason}, {connections}", "dim"))
    return [*out, _outcome(result)]


def _outcome(result: Simulation) -> Text:
    if result.is_clean:
        return Text("nothing breaks", "bold green")
    kinds = len(result.breaks) + result.more_breaks
    return Text(f"{count(kinds, 'kind')} of connection {'breaks' if kinds == 1 else 'break'}", "bold red")


def _breaks(result: Simulation) -> Rows:
    table = Rows(("what breaks", "", "", "", "verdict", "connections>", "last seen", "nearest fix"), heads=4)
    for row in result.breaks[:_SHOWN]:
        verdict = Text(row.verdict, COLOURS[row.verdict])
        ends = (row.source, "->", row.destination, row.service)
        table.add(*ends, verdict, f"{row.connections:,}", f"{row.last:%Y-%m-%d %H:%M}", row.hint)
    return table


def _changes(verb: str, rows: tuple[Change, ...]) -> Rows:
    """What passes now and was blocked when seen, or the other way round (and is not told as a break already)."""
    table = Rows((verb, "", "", "", "connections>", "last seen", "rule"), heads=4)
    for row in rows[:_SHOWN]:
        ends = (row.source, "->", row.destination, row.service)
        table.add(*ends, f"{row.connections:,}", f"{row.last:%Y-%m-%d %H:%M}", row.rule or "none")
    if len(rows) > _SHOWN:
        table.add(f"and {len(rows) - _SHOWN:,} more", "", "", "", "", "", "")
    return table
