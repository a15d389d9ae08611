"""`ringfence flows`, `map`, `recommend` and `simulate`: what traffic was seen, and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ringfence.cli.ask import COLOURS, AsOption, parse_mode
from ringfence.cli.flow_store import parse_time, read, store_of
from ringfence.cli.picture import draw_html
from ringfence.cli.render_map import map_table, map_tree
from ringfence.cli.session import CLEAN, FINDINGS, Session, command
from ringfence.cli.sparkline import sparkline
from ringfence.core.engine import Engine
from ringfence.core.engine.ask import selector_of_text
from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import Conversations
from ringfence.core.flow.tally import ImportReport
from ringfence.core.insight.confidence import Confidence
from ringfence.core.insight.draw.document import document as map_document
from ringfence.core.insight.draw.dot import draw_dot
from ringfence.core.insight.draw.mermaid import draw_mermaid
from ringfence.core.insight.draw.words import format_bytes
from ringfence.core.insight.leftovers import Leftover
from ringfence.core.insight.map import FlowMap, default_keys, group
from ringfence.core.insight.recommend import recommend
from ringfence.core.insight.recommendation import Recommendation
from ringfence.core.insight.simulate import Simulation, simulate
from ringfence.core.policy.printing import print_policy
from ringfence.core.world import World
from ringfence.flows import ingest as ingest_

flows = typer.Typer(no_args_is_help=True, help="Import, count and forget observed traffic.")
SinceOption = Annotated[str | None, typer.Option("--since", metavar="TIME", help="`7d`, `12h`, or RFC 3339.")]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="TIME", help="As --since.")]
OutputOption = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="PATH", help="Write there instead of stdout.")
]
_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    app.add_typer(flows, name="flows")
    command(app, "map", epilog="Example: ringfence map --by app,env --format html -o map.html")(map_)
    command(app, "recommend", epilog="Example: ringfence recommend --for app=shop,env=prod -o policies")(recommend_)
    command(app, "simulate", epilog="Example: ringfence simulate --since 7d --as enforce")(simulate_)


# ---- flows ---------------------------------------------------------------------------------------------------------


@command(flows, "import", epilog="Example: ringfence flows import s3-export/ conn.log.gz")
def import_(
    session: Session, paths: Annotated[list[str], typer.Argument(help="Files, folders, globs, or - for stdin.")]
) -> int:
    """Import flow logs of any supported format, detected by content. Exit 1 when a line was malformed."""
    inventory = session.estate.inventory
    settings = session.estate.settings.flows
    with store_of(session) as store, _progress(session) as update:
        report = ingest_.ingest(paths, inventory, store, update)
        pruned = store.prune(
            int(datetime.now(UTC).timestamp()), max_days=settings.max_days, max_bytes=settings.max_bytes
        )
    session.emit({"report": report, "pruned": pruned}, *_render_import(report))
    if pruned.rows:
        session.say(f"[yellow]retention forgot {pruned.rows:,} rows of {pruned.hours} hours[/yellow]")
    session.show_findings(report.all_findings)
    return FINDINGS if report.all_findings else CLEAN


@contextmanager
def _progress(session: Session) -> Iterator[ingest_.OnProgress | None]:
    if session.is_quiet or session.is_json or not session.err.is_terminal:
        yield None
        return
    columns = (
        TextColumn("reading"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=session.err, transient=True) as bar:
        task = bar.add_task("", total=None, rate="")

        def update(now: ingest_.Progress) -> None:
            rate = f"{now.records_per_second:,.0f} records/s"
            bar.update(task, completed=now.bytes_done, total=now.bytes_total, rate=rate)

        yield update


def _render_import(report: ImportReport) -> list[RenderableType]:
    table = _table("file", "format", "state", "lines>", "records>", "malformed>", "no data>", "gaps>")
    for file in report.files:
        counts = (f"{file.nodata:,}", f"{file.skipdata:,}")
        malformed = Text(f"{file.malformed:,}", "bold red" if file.malformed else "")
        table.add_row(
            file.file, file.format or "?", file.state, f"{file.lines:,}", f"{file.records:,}", malformed, *counts
        )
    lines = report.total("lines")
    rate = f", {lines / report.seconds:,.0f} lines/s" if report.seconds > 0 else ""
    words = f"{report.connections:,} connections in {report.conversations:,} conversations from {lines:,} lines{rate}"
    return [table, words]


@command(flows, "status")
def status(session: Session, since: SinceOption = None, until: UntilOption = None) -> int:
    """What is stored: connections, bytes, the time it spans."""
    with store_of(session) as store:
        totals = store.totals(parse_time(since), parse_time(until))
    span = f"{_when(totals.first)} to {_when(totals.last)}" if totals.first and totals.last else "nothing stored"
    words = f"{totals.connections:,} connections, {format_bytes(totals.bytes)} in {totals.rows:,} rows, {span}"
    session.emit(totals, words)
    return CLEAN


@command(flows, "prune")
def prune(
    session: Session,
    max_days: Annotated[int | None, typer.Option(min=0, help="Forget what is older.")] = None,
    max_bytes: Annotated[int | None, typer.Option(min=0, help="Forget the oldest until the store is smaller.")] = None,
) -> int:
    """Forget the oldest traffic, by age or size (the estate's settings by default)."""
    settings = session.estate.settings.flows
    days, size = (
        (settings.max_days, settings.max_bytes) if max_days is None and max_bytes is None else (max_days, max_bytes)
    )
    with store_of(session) as store:
        pruned = store.prune(int(datetime.now(UTC).timestamp()), max_days=days, max_bytes=size)
    session.emit(pruned, f"forgot {pruned.rows:,} rows of {pruned.hours} hours; {format_bytes(pruned.size_bytes)} left")
    return CLEAN


# ---- map -----------------------------------------------------------------------------------------------------------


def map_(
    session: Session,
    by: Annotated[str | None, typer.Option("--by", help="Label keys, comma separated.")] = None,
    format: Annotated[str, typer.Option("--format", "-f", help="table, tree, json, mermaid, dot or html.")] = "table",
    output: OutputOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_: AsOption = None,
) -> int:
    """Who talks to whom, by any labels, judged against the current policies."""
    keys = tuple(key.strip() for key in by.split(",")) if by else default_keys(session.estate.inventory)
    world = session.estate.world(as_mode=parse_mode(as_))
    flow_map = map_of(world, read(session, since, until), keys)
    if session.is_json or format == "json":
        return _write(session, output, None, map_document(flow_map))
    if format in ("table", "tree"):
        renderable = map_table(flow_map) if format == "table" else map_tree(flow_map)
        session.out.print(renderable)
        return CLEAN
    drawers = {"mermaid": draw_mermaid, "dot": draw_dot, "html": lambda m: draw_html(m, title=session.estate.root.name)}
    if format not in drawers:
        raise InputError(
            "unknown-format", f"`{format}` is not a format", help="table, tree, json, mermaid, dot or html"
        )
    return _write(session, output, drawers[format](flow_map), None)


def map_of(world: World, conversations: Conversations, keys: tuple[str, ...]) -> FlowMap:
    """The map of conversations judged by the world's policies (unjudged where there are none)."""
    if not world.policies:
        return group(conversations, world.inventory, keys)
    engine = Engine.compile(world)
    named = {name: s.services for p in world.policies for s in p.services for name in (s.name,)}
    rules = tuple(rule.ref for rule in engine.rules)
    return group(
        conversations, world.inventory, keys, judgement=engine.judge(conversations), rules=rules, services=named
    )


def _write(session: Session, output: Path | None, text: str | None, document: object) -> int:
    if text is None:
        session.emit(document) if session.is_json else session.out.print_json(data=document)
    elif output is None:
        session.out.print(text, markup=False, soft_wrap=True)
    else:
        output.write_text(text, "utf-8")
        session.say(f"wrote {output}")
    return CLEAN


# ---- recommend -----------------------------------------------------------------------------------------------------


def recommend_(
    session: Session,
    for_: Annotated[
        str | None, typer.Option("--for", metavar="SELECTOR", help="Only traffic with these workloads.")
    ] = None,
    level: Annotated[str, typer.Option(help="ringfence, tier or port.")] = "port",
    tight: Annotated[int, typer.Option(min=0, max=10, help="0 general .. 10 only what was seen.")] = 5,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Write one file a policy there.")
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
) -> int:
    """A minimal identity-based policy for what was seen, each rule with its evidence, and how far to trust it.

    Exit 1 while the verdict is `not yet`.
    """
    estate = session.estate
    selector = selector_of_text(for_) if for_ else None
    conversations = read(session, since, until)
    existing = estate.parse().raise_if_errors()
    result = recommend(
        conversations, estate.inventory, select=selector, level=level, tight=tight,  # type: ignore[arg-type]
        existing=existing, keys=estate.label_keys,
    )  # fmt: skip
    texts = {policy.name: print_policy(policy) for policy in result.policies}
    if output is not None:
        _write_policies(session, output, texts)
    session.emit(_recommendation_document(result, texts), *render_recommendation(result, {} if output else texts))
    session.show_findings(result.findings)
    return CLEAN if result.confidence.verdict == "ready" else FINDINGS


def _write_policies(session: Session, folder: Path, texts: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        path = folder / f"{name}.yaml"
        path.write_text(text, "utf-8")
        session.say(f"wrote {path}")


def _recommendation_document(result: Recommendation, texts: dict[str, str]) -> dict[str, object]:
    return {
        "policies": texts, "evidence": result.evidence, "set_aside": result.set_aside, "uncovered": result.uncovered,
        "coverage": {"share": result.coverage.share, "connections": result.coverage},
        "precision": result.permission.precision, "confidence": result.confidence, "by_policy": result.by_policy,
        "findings": result.findings,
    }  # fmt: skip


def render_recommendation(result: Recommendation, texts: dict[str, str]) -> list[RenderableType]:
    """The policies, their evidence, what was left out, and the verdict."""
    evidence = _table("rule", "connections>", "from>", "to>", "days>", "first seen", "last seen")
    for row in result.evidence:
        of = (f"{row.sources} of {row.sources_of}" if row.sources_of else str(row.sources),)
        to = (f"{row.destinations} of {row.destinations_of}" if row.destinations_of else str(row.destinations),)
        times = (f"{row.first:%Y-%m-%d %H:%M}", f"{row.last:%Y-%m-%d %H:%M}")
        evidence.add_row(row.rule, f"{row.connections:,}", *of, *to, str(row.days), *times)
    out: list[RenderableType] = [*(Text(text) for text in texts.values()), evidence]
    out += [_leftovers("set aside", result.set_aside), _leftovers("not covered", result.uncovered)]
    coverage = result.coverage
    out.append(
        f"covers {coverage.share:.1%} of the connections that call for a rule; "
        f"{result.permission.precision:.0%} of what it permits was seen"
    )
    out.append(render_confidence(result.confidence))
    return [item for item in out if item is not None]


def _leftovers(title: str, rows: tuple[Leftover, ...]) -> Table | str:
    if not rows:
        return f"{title}: nothing"
    table = _table(title, "connections>", "because", "for example")
    for row in rows:
        table.add_row(row.reason, f"{row.connections:,}", row.why, row.examples[0] if row.examples else "")
    return table


def render_confidence(confidence: Confidence) -> Text:
    """The ready-to-enforce verdict with its reasons and next steps."""
    text = Text(
        "ready to enforce" if confidence.verdict == "ready" else "not ready to enforce yet",
        "bold green" if confidence.verdict == "ready" else "bold yellow",
    )
    text.append(
        f": an estimated {confidence.unseen_share:.1%} of needs still unseen, "
        f"{confidence.false_blocks_a_week:.1f} false blocks a week",
        "default",
    )
    for why, step in zip(confidence.why_not, confidence.next_steps, strict=False):
        text.append(f"\n  - {why}", "default")
        text.append(f"\n    {step}", "green")
    return text


# ---- simulate ------------------------------------------------------------------------------------------------------


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
    for verdict, count in result.totals.items():
        totals.append(f"{count.connections:,} {verdict}   ", COLOURS[verdict])
    rules = _table("rule", "allowed>", "would-block>", "blocked>")
    for use in result.rules[:_SHOWN]:
        rules.add_row(use.rule or f"({use.reason})", f"{use.allowed:,}", f"{use.would_block:,}", f"{use.blocked:,}")
    unhappy = [w + b for w, b in zip(result.series.would_block, result.series.blocked, strict=True)]
    out: list[RenderableType] = [totals]
    if any(unhappy):
        out.append(Text.assemble("not passing, by hour  ", (sparkline(unhappy), "red")))
    out += [*_breaks(result), rules]
    if result.unused:
        out.append(Text(f"no traffic: {', '.join(result.unused[:_SHOWN])}", "dim"))
    for row in result.noise:
        out.append(
            Text(f"noise that would not pass and nobody misses: {row.reason}, {row.connections:,} connections", "dim")
        )
    verb = (
        "nothing breaks" if result.is_clean else f"{len(result.breaks) + result.more_breaks} kinds of connection break"
    )
    return [*out, Text(verb, "bold green" if result.is_clean else "bold red")]


def _breaks(result: Simulation) -> list[RenderableType]:
    if not result.breaks:
        return []
    table = _table("what breaks", "to", "on", "verdict", "connections>", "last seen", "nearest fix")
    for row in result.breaks[:_SHOWN]:
        verdict = Text(row.verdict, COLOURS[row.verdict])
        table.add_row(
            row.source,
            row.destination,
            row.service,
            verdict,
            f"{row.connections:,}",
            f"{row.last:%Y-%m-%d %H:%M}",
            row.hint,
        )
    return [table]


def _table(*columns: str) -> Table:
    """A plain table; a column that ends in `>` is right aligned."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left", overflow="fold")
    return table


def _when(epoch_s: int) -> str:
    return f"{datetime.fromtimestamp(epoch_s, UTC):%Y-%m-%d %H:%M}"
