"""`ringfence flows import | status | prune`: observed traffic into the store, counted, and out again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from ringfence import catalog
from ringfence.cli.flow_bar import Moved, flow_bar
from ringfence.cli.flow_store import SinceOption, UntilOption, has_store, parse_span, store_of
from ringfence.cli.flows_fleet import send
from ringfence.cli.remote import ServerOption, at_controller
from ringfence.cli.session import CLEAN, FINDINGS, Session, command
from ringfence.cli.tables import Rows, count
from ringfence.core.errors import Finding
from ringfence.core.flow.tally import ImportReport
from ringfence.core.insight.draw.words import format_bytes
from ringfence.flows import ingest as ingest_
from ringfence.ports.flow_store import FlowStore, Pruned, Totals
from ringfence.settings import FlowSettings

app = typer.Typer(
    no_args_is_help=True,
    help="Import, count and forget observed traffic.",
    epilog="Example: ringfence flows import LOGS",
)


@command(app, "import", epilog="Example: ringfence flows import s3-export/ conn.log.gz")
def import_(
    session: Session,
    paths: Annotated[list[str], typer.Argument(help="Files, folders, globs, or - for stdin.")],
    fleet: Annotated[bool, typer.Option("--fleet", help="Into the controller one is logged in to.")] = False,
    server: ServerOption = None,
) -> int:
    """Import flow logs of any supported format, detected by content. Exit 1 when a line was malformed."""
    if fleet or server is not None:
        return at_controller(session, server, lambda client: send(session, client, paths))
    inventory = session.estate.inventory
    settings = session.estate.settings.flows
    with store_of(session) as store, flow_bar(session, "reading") as moved:
        aged = _retain(store, settings)
        report = ingest_.ingest(paths, inventory, store, _shown(moved), among=catalog.flow_sources(settings.networks))
        pruned = _retain(store, settings)
    findings = (*report.all_findings, *_forgotten(pruned, settings))
    document = {"report": report, "pruned": _together(aged, pruned), "findings": findings}
    session.emit(document, *_render_import(report))
    if aged.rows:
        session.say(f"retention forgot {count(aged.rows, 'row')} of {count(aged.hours, 'hour')}")
    session.show_findings(findings)
    return FINDINGS if any(finding.severity != "info" for finding in findings) else CLEAN


def _shown(moved: Moved) -> ingest_.OnProgress:
    return lambda now: moved(now.bytes_done, now.bytes_total, f"{now.records_per_second:,.0f} records/s")


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


@command(app, "status", epilog="Example: ringfence flows status --since 7d")
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


@command(app, "prune", epilog="Example: ringfence flows prune --max-days 30")
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


def _when(epoch_s: int) -> str:
    return f"{datetime.fromtimestamp(epoch_s, UTC):%Y-%m-%d %H:%M}"
