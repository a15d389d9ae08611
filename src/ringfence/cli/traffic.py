"""`ringfence flows`, `map`, `recommend` and `simulate`: what traffic was seen, and what it says."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ringfence import catalog
from ringfence.cli.ask import COLOURS, AsOption, parse_mode
from ringfence.cli.drafts import Draft, plan_drafts, write_drafts
from ringfence.cli.flow_store import has_store, parse_span, read, store_of
from ringfence.cli.picture import draw_html
from ringfence.cli.render_map import map_table, map_tree
from ringfence.cli.session import CLEAN, FINDINGS, Session, command, write_file, write_out
from ringfence.cli.sparkline import sparkline
from ringfence.cli.tables import Rows, count
from ringfence.core.engine import Engine
from ringfence.core.engine.ask import selector_of_text
from ringfence.core.errors import Finding, InputError
from ringfence.core.flow.conversations import Conversations
from ringfence.core.flow.tally import ImportReport
from ringfence.core.insight.confidence import Confidence
from ringfence.core.insight.draw.document import draw_json
from ringfence.core.insight.draw.dot import draw_dot
from ringfence.core.insight.draw.mermaid import draw_mermaid
from ringfence.core.insight.draw.words import format_bytes
from ringfence.core.insight.leftovers import Leftover
from ringfence.core.insight.map import FlowMap, default_keys, group
from ringfence.core.insight.recommend import recommend
from ringfence.core.insight.recommendation import Recommendation
from ringfence.core.insight.simulate import Change, Simulation, simulate
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.policy.model import Policy
from ringfence.core.policy.printing import print_policy
from ringfence.core.world import World
from ringfence.flows import ingest as ingest_
from ringfence.ports.flow_source import FlowSource
from ringfence.ports.flow_store import FlowStore, Pruned, Totals
from ringfence.settings import FlowSettings

flows = typer.Typer(no_args_is_help=True, help="Import, count and forget observed traffic.")
SinceOption = Annotated[str | None, typer.Option("--since", metavar="TIME", help="`7d`, `12h`, or RFC 3339.")]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="TIME", help="As --since.")]
OutputOption = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="PATH", help="Write there instead of stdout.")
]
_SHOWN = 20
_PAGE = 4096
_TABLE_WIDTH = 80
FORMATS = ("table", "tree", "json", "mermaid", "dot", "html")


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
        aged = _retain(store, settings)
        report = ingest_.ingest(paths, inventory, store, update, among=flow_sources(settings))
        pruned = _retain(store, settings)
    findings = (*report.all_findings, *_forgotten(pruned, settings))
    document = {"report": report, "pruned": _together(aged, pruned), "findings": findings}
    session.emit(document, *_render_import(report))
    if aged.rows:
        session.say(f"retention forgot {count(aged.rows, 'row')} of {count(aged.hours, 'hour')}")
    session.show_findings(findings)
    return FINDINGS if any(finding.severity != "info" for finding in findings) else CLEAN


def flow_sources(settings: FlowSettings) -> tuple[FlowSource, ...]:
    """Every source of the catalog; those that name VPCs are told which network each VPC is."""
    factories = [catalog.load(catalog.FLOW_SOURCES, name) for name in catalog.FLOW_SOURCES]
    return tuple(
        factory(settings.networks) if "networks" in inspect.signature(factory).parameters else factory()
        for factory in factories
    )


def _retain(store: FlowStore, settings: FlowSettings) -> Pruned:
    now = int(datetime.now(UTC).timestamp())
    return store.prune(now, max_days=settings.max_days, max_bytes=settings.max_bytes)


def _together(before: Pruned, after: Pruned) -> Pruned:
    return Pruned(before.rows + after.rows, before.hours + after.hours, after.before or before.before, after.size_bytes)


def _forgotten(pruned: Pruned, settings: FlowSettings) -> tuple[Finding, ...]:
    """A finding when retention took what was imported a moment ago, or had to make room for it."""
    if not pruned.rows:
        return ()
    message = f"{count(pruned.rows, 'row')} of {count(pruned.hours, 'hour')} fell out of retention at once"
    help_ = f"raise `max_days` ({settings.max_days}) or `max_bytes` ({settings.max_bytes}) under [flows], import again"
    return (Finding("flows-forgotten", message, "warning", help=help_),)


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
    table = Rows(("file", "format", "state", "lines>", "records>", "malformed>", "no data>", "gaps>"))
    for file in report.files:
        malformed = Text(f"{file.malformed:,}", "bold red" if file.malformed else "")
        counts = (f"{file.lines:,}", f"{file.records:,}", malformed, f"{file.nodata:,}", f"{file.skipdata:,}")
        table.add(file.file, file.format or "unknown", file.state, *counts)
    lines = report.total("lines")
    rate = f", {lines / report.seconds:,.0f} lines/s" if report.seconds > 0 else ""
    found = f"{count(report.connections, 'connection')} in {count(report.conversations, 'conversation')}"
    return [table, f"{found} from {count(lines, 'line')}{rate}"]


@command(flows, "status", epilog="Example: ringfence flows status --since 7d")
def status(session: Session, since: SinceOption = None, until: UntilOption = None) -> int:
    """What is stored: connections, bytes, the time it spans."""
    start, end = parse_span(since, until)
    totals = Totals()
    if has_store(session):
        with store_of(session) as store:
            totals = store.totals(start, end)
    span = f"{_when(totals.first)} to {_when(totals.last)}" if totals.first and totals.last else "nothing stored"
    connections, rows = count(totals.connections, "connection"), count(totals.rows, "row")
    session.emit(totals, f"{connections}, {format_bytes(totals.bytes)} in {rows}, {span}")
    return CLEAN


@command(flows, "prune", epilog="Example: ringfence flows prune --max-days 30")
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
    pruned = Pruned()
    if has_store(session):
        with store_of(session) as store:
            pruned = store.prune(int(datetime.now(UTC).timestamp()), max_days=days, max_bytes=size)
    rows, hours = count(pruned.rows, "row"), count(pruned.hours, "hour")
    session.emit(pruned, f"forgot {rows} of {hours}; {format_bytes(pruned.size_bytes)} left")
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
    drawing = "json" if session.is_json else format
    if drawing not in FORMATS:
        raise InputError("unknown-format", f"`{format}` is not a format", help=f"one of {', '.join(FORMATS)}")
    estate = session.estate
    keys = tuple(key.strip() for key in by.split(",")) if by else default_keys(estate.inventory)
    flow_map = map_of(estate.world(as_mode=parse_mode(as_)), read(session, since, until), keys)
    if drawing in ("table", "tree"):
        _show_map(session, flow_map, drawing, output)
        return CLEAN
    drawers = {"json": draw_json, "mermaid": draw_mermaid, "dot": draw_dot}
    text = drawers[drawing](flow_map) if drawing in drawers else draw_html(flow_map, title=estate.root.name)
    text = text.rstrip("\n") + "\n"
    if output is None:
        write_out(text)
        return CLEAN
    write_file(output, text)
    session.say(Text(f"wrote {output}"))
    return CLEAN


def _show_map(session: Session, flow_map: FlowMap, drawing: str, output: Path | None) -> None:
    """The table, or the tree where the window is too narrow for one; into a file as wide as it needs."""
    if output is not None:
        page = Console(width=_PAGE, file=StringIO(), highlight=False, emoji=False)
        page.print(map_table(flow_map) if drawing == "table" else map_tree(flow_map))
        lines = page.file.getvalue().splitlines()  # type: ignore[attr-defined]
        write_file(output, "".join(f"{line.rstrip()}\n" for line in lines))
        session.say(Text(f"wrote {output}"))
        return
    if drawing == "table" and session.page.width >= _TABLE_WIDTH:
        session.page.print(map_table(flow_map))
        return
    session.page.print(map_tree(flow_map))
    if drawing == "table":
        session.say(f"the table needs {_TABLE_WIDTH} columns, so this is the tree; -o FILE writes the table")


def map_of(world: World, conversations: Conversations, keys: tuple[str, ...]) -> FlowMap:
    """The map of conversations judged by the world's policies (unjudged where there are none)."""
    if not world.policies:
        return group(conversations, world.inventory, keys)
    engine = Engine.compile(world)
    rules = tuple(rule.ref for rule in engine.rules)
    return group(
        conversations,
        world.inventory,
        keys,
        judgement=engine.judge(conversations),
        rules=rules,
        services=named_services(world.policies),
    )


def named_services(policies: Sequence[Policy]) -> dict[str, IntervalSet]:
    """The services that policies define, by name; `policy.name` where two policies mean different things by it."""
    meanings: dict[str, set[IntervalSet]] = {}
    for policy in policies:
        for service in policy.services:
            meanings.setdefault(service.name, set()).add(service.services)
    return {
        service.name if len(meanings[service.name]) == 1 else f"{policy.name}.{service.name}": service.services
        for policy in policies
        for service in policy.services
    }


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
    force: Annotated[bool, typer.Option("--force", help="Replace files that say something else.")] = False,
    since: SinceOption = None,
    until: UntilOption = None,
) -> int:
    """A minimal identity-based policy for what was seen, each rule with its evidence, and how far to trust it.

    A policy of the same scope comes back extended, into its own file. Exit 1 while the verdict is `not yet`.
    """
    estate = session.estate
    selector = selector_of_text(for_) if for_ else None
    conversations = read(session, since, until)
    result = recommend(
        conversations, estate.inventory, select=selector, level=level, tight=tight,  # type: ignore[arg-type]
        existing=estate.policies, keys=estate.label_keys,
    )  # fmt: skip
    texts = {policy.name: print_policy(policy) for policy in result.policies}
    drafts = _write_policies(session, output, result.policies, texts, force=force) if output is not None else ()
    session.emit(
        _recommendation_document(result, texts, drafts), *render_recommendation(result, {} if output else texts)
    )
    session.show_findings(result.findings)
    return CLEAN if result.confidence.verdict == "ready" else FINDINGS


def _write_policies(
    session: Session, folder: Path, policies: tuple[Policy, ...], texts: dict[str, str], *, force: bool
) -> tuple[Draft, ...]:
    planned = plan_drafts(session.estate, folder, policies, texts, force=force)
    write_drafts(planned)
    for _, draft in planned:
        session.say(Text(str(draft)))
    return tuple(draft for _, draft in planned)


def _recommendation_document(
    result: Recommendation, texts: dict[str, str], drafts: tuple[Draft, ...]
) -> dict[str, object]:
    files = [{"policy": d.policy, "file": d.file, "change": d.change, "added_rules": d.added_rules} for d in drafts]
    return {
        "policies": texts, "files": files, "evidence": result.evidence, "set_aside": result.set_aside,
        "uncovered": result.uncovered,
        "coverage": {"share": result.coverage.share, "connections": result.coverage},
        "precision": result.permission.precision, "confidence": result.confidence, "by_policy": result.by_policy,
        "findings": result.findings,
    }  # fmt: skip


def render_recommendation(result: Recommendation, texts: dict[str, str]) -> list[RenderableType]:
    """The policies, their evidence, what was left out, and the verdict."""
    evidence = Rows(("rule", "connections>", "from>", "to>", "days>", "first seen", "last seen"))
    for row in result.evidence:
        of = (f"{row.sources} of {row.sources_of}" if row.sources_of else str(row.sources),)
        to = (f"{row.destinations} of {row.destinations_of}" if row.destinations_of else str(row.destinations),)
        times = (f"{row.first:%Y-%m-%d %H:%M}", f"{row.last:%Y-%m-%d %H:%M}")
        evidence.add(row.rule, f"{row.connections:,}", *of, *to, str(row.days), *times)
    out: list[RenderableType] = [*(Text(text) for text in texts.values()), evidence]
    if not result.policies:
        out.append("no rule to add")
    out += [_leftovers("set aside", result.set_aside), _leftovers("not covered", result.uncovered)]
    coverage = result.coverage
    out.append(
        f"covers {coverage.share:.1%} of the connections that call for a rule; "
        f"{result.permission.precision:.0%} of what it permits was seen"
    )
    out.append(render_confidence(result.confidence))
    return out


def _leftovers(title: str, rows: tuple[Leftover, ...]) -> Text:
    """What got no rule and why, with the next step: counted, never dropped."""
    if not rows:
        return Text(f"{title}: nothing")
    text = Text(f"{title}:")
    for row in rows:
        text.append(f"\n  {row.reason}, {count(row.connections, 'connection')}: {row.why}")
        if row.examples:
            text.append(f"\n    for example {row.examples[0]}", "dim")
        text.append(f"\n    {row.help}", "green")
    return text


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
    for verdict, seen in result.totals.items():
        totals.append(f"{seen.connections:,} {verdict}   ", COLOURS[verdict])
    rules = Rows(("rule", "allowed>", "would-block>", "blocked>"))
    for use in result.rules[:_SHOWN]:
        rules.add(use.rule or f"({use.reason})", f"{use.allowed:,}", f"{use.would_block:,}", f"{use.blocked:,}")
    unhappy = [w + b for w, b in zip(result.series.would_block, result.series.blocked, strict=True)]
    out: list[RenderableType] = [totals]
    if any(unhappy):
        out.append(Text.assemble("not passing, by hour  ", (sparkline(unhappy), "red")))
    out += [_breaks(result), _changes("opens", result.opens), _changes("closes", result.closes), rules]
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
    """What passes now and was blocked when seen, or the other way round."""
    table = Rows((verb, "", "", "", "connections>", "last seen", "rule"), heads=4)
    for row in rows[:_SHOWN]:
        ends = (row.source, "->", row.destination, row.service)
        table.add(*ends, f"{row.connections:,}", f"{row.last:%Y-%m-%d %H:%M}", row.rule or "no rule")
    if len(rows) > _SHOWN:
        table.add(f"and {len(rows) - _SHOWN:,} more", "", "", "", "", "", "")
    return table


def _when(epoch_s: int) -> str:
    return f"{datetime.fromtimestamp(epoch_s, UTC):%Y-%m-%d %H:%M}"
