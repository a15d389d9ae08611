"""`ringfence lab demo | up | run | down`: real hosts in network namespaces (root on Linux)."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from ringfence.cli.fleet_words import contained_words, plan_words
from ringfence.cli.picture import draw_html
from ringfence.cli.render_map import map_table
from ringfence.cli.session import CLEAN, Session, command
from ringfence.core.errors import RingfenceError
from ringfence.core.insight.map import FlowMap
from ringfence.lab import demo as demo_
from ringfence.lab import namespaces
from ringfence.lab.lab import Lab
from ringfence.lab.record import write_inventory
from ringfence.lab.story.telling import Views

app = typer.Typer(
    no_args_is_help=True,
    help="Worlds of real hosts in network namespaces, with real traffic.",
    epilog="Example: ringfence lab demo --recorded -o shop",
)
_FLUSH_S = 60.0
"""How often a lab that is kept up writes what it has seen."""
WorldArgument = Annotated[str, typer.Argument(help="A built-in world, or a YAML description.")]
FolderOption = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The estate to write.")]


def why_not() -> str:
    """Why no lab can run here; empty when one can."""
    try:
        namespaces.preflight()
    except RingfenceError as error:
        return error.message
    return ""


@command(app, "demo", epilog="Example: sudo ringfence lab demo -o ringfence-demo")
def demo(
    session: Session,
    output: FolderOption = Path("ringfence-demo"),
    seconds: Annotated[float, typer.Option(min=1, help="How long applications talk first.")] = demo_.SECONDS,
    recorded: Annotated[
        bool, typer.Option("--recorded", help="Use recorded flows even where a lab could run.")
    ] = False,
) -> int:
    """A controller and a dozen agents: discover, propose, enforce, attack, contain, with proof of each.

    Exit 1 if a claim does not hold. Without root on Linux the story is told on recorded flows, as far as those go.
    """
    views = Views(table=map_table, picture=_picture, plan=plan_words, contained=contained_words)
    reason = "" if recorded else why_not()
    console = session.aside if session.is_json else session.out
    if recorded or reason:
        session.say(reason or "recorded flows, as asked", "yellow" if reason else "")
        story = demo_.run_recorded(console, views, output)
    else:
        with _interruptible():
            story = demo_.run_live(console, views, output, seconds=seconds)
    if session.is_json:
        session.emit({"claims": story.claims, "holds": story.code == CLEAN, "estate": str(output)})
    return story.end()


def _picture(flow_map: FlowMap) -> str:
    return draw_html(flow_map, title="Ringfence demo")


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """A polite kill unwinds like an interrupt, so that the lab is taken down on the way out."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@command(app, "up", epilog="Example: sudo ringfence lab up shop")
def up(session: Session, world: WorldArgument = "shop", output: FolderOption = Path("ringfence-lab")) -> int:
    """Build a world, let its applications talk, and keep it until interrupted (Ctrl-C)."""
    output.mkdir(parents=True, exist_ok=True)
    with _interruptible(), Lab.up(world, flows_dir=output / "flows") as lab:
        _write_estate(lab, output)
        session.emit(
            {"hosts": _hosts(lab), "estate": str(output)}, _table_of(lab), f"estate in {output}; Ctrl-C takes it down"
        )
        with contextlib.suppress(KeyboardInterrupt):
            lab.start_clients()
            while True:
                lab.wait(_FLUSH_S)
    return CLEAN


@command(app, "run", epilog="Example: sudo ringfence lab run shop --seconds 60 -o shop-estate")
def run(
    session: Session,
    world: WorldArgument = "shop",
    seconds: Annotated[float, typer.Option(min=1, help="How long its applications talk.")] = 60,
    output: FolderOption = Path("ringfence-lab"),
) -> int:
    """Run a world for a while and keep what its kernels saw, as an estate: inventory and flow logs."""
    output.mkdir(parents=True, exist_ok=True)
    with _interruptible(), Lab.up(world, flows_dir=output / "flows") as lab:
        _write_estate(lab, output)
        with Progress(
            TextColumn("talking"), BarColumn(), console=session.err, transient=True, disable=session.is_quiet
        ) as bar:
            task = bar.add_task("", total=seconds)
            tallies = lab.run(seconds, on_tick=lambda done: bar.update(task, completed=done))
        lab.flush()
    worked, failed = sum(tally.worked for tally in tallies), sum(tally.failed for tally in tallies)
    session.say(f"next: ringfence flows import {output / 'flows'} --estate {output}")
    words = f"{worked:,} exchanges worked, {failed} failed"
    session.emit({"estate": str(output), "paths": tallies}, words)
    return CLEAN


@command(app, "down", epilog="Example: sudo ringfence lab down")
def down(session: Session) -> int:
    """Take down every running lab, and sweep up what a killed one left."""
    running = namespaces.running()
    for lab_id in running:
        namespaces.take_down(lab_id)
    swept = namespaces.sweep()
    session.emit(
        {"taken_down": list(running), "swept": swept},
        f"{len(running)} lab(s) taken down, {len(swept)} namespace(s) swept",
    )
    return CLEAN


def _write_estate(lab: Lab, folder: Path) -> None:
    (folder / "policies").mkdir(exist_ok=True)
    write_inventory(lab.inventory, folder / "inventory" / "workloads.yaml")


def _hosts(lab: Lab) -> dict[str, str]:
    return {host.name: lab.namespace(host.name) for host in lab.world.hosts}


def _table_of(lab: Lab) -> Table:
    table = Table("host", "namespace", box=None, header_style="bold", pad_edge=False)
    for name, namespace in _hosts(lab).items():
        table.add_row(name, namespace)
    return table
