"""`ringfence`: the command line. Each module of this package is one family of commands."""

from __future__ import annotations

import sys
import traceback

import typer

from ringfence import __version__
from ringfence.cli.exits import UNREACHABLE
from ringfence.cli.lazy import Entry, lazy_group

COMMANDS = {
    "init": Entry(
        "ringfence.cli.init",
        "Make an estate here (or in --estate DIR): settings, inventory and policies with commented examples.",
    ),
    "flows": Entry("ringfence.cli.flows", "Import, count and forget observed traffic."),
    "map": Entry("ringfence.cli.map", "Who talks to whom, by any labels, judged against the current policies."),
    "recommend": Entry(
        "ringfence.cli.recommend",
        "A minimal identity-based policy for what was seen, each rule with its evidence, and how far to trust it.",
    ),
    "policy": Entry("ringfence.cli.policy", "Check, prove, compare and format policies."),
    "simulate": Entry(
        "ringfence.cli.simulate",
        "Replay stored flows against policies: what passes, what would break, what would open. Exit 1 when something"
        " breaks.",
    ),
    "explain": Entry(
        "ringfence.cli.ask",
        "The verdict of a connection, the rule with its line, both ends, and what would have allowed it.",
    ),
    "decide": Entry(
        "ringfence.cli.ask",
        'JSON lines {"source","destination","service"} on stdin -> verdicts on stdout, one line each.',
    ),
    "reach": Entry(
        "ringfence.cli.ask", "Who can reach a segment, or what it can reach, as if everything were enforced."
    ),
    "render": Entry(
        "ringfence.cli.enforce",
        "What would be realised there: the rules as text, or the intent with --json. Exit 1 when something is refused.",
    ),
    "enforce": Entry(
        "ringfence.cli.enforce",
        "Realise a workload's policy on this host, in one transaction, and prove it by reading it back (root).",
    ),
    "up": Entry(
        "ringfence.cli.up",
        "Run the controller of a fleet until it is told to stop: API, bus, state and flows in one directory.",
    ),
    "lab": Entry("ringfence.cli.lab", "Worlds of real hosts in network namespaces, with real traffic."),
}

app = typer.Typer(
    cls=lazy_group(COMMANDS),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help in plain text takes a third of the time
    help="Micro-segmentation by identity: observe, propose, prove, simulate, enforce.",
    epilog="Exit codes: 0 clean, 1 findings, 2 bad input, 3 could not reach or apply.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ringfence {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Shared by all commands."""


def main() -> None:
    """The entry point. A fault of ours ends with 3, never with a code that means something was found."""
    try:
        app()
    except Exception:
        traceback.print_exc()
        print(
            "error[internal-error] this is a fault in Ringfence\n  help: report it with the lines above",
            file=sys.stderr,
        )
        sys.exit(UNREACHABLE)
