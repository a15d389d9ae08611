"""`ringfence`: the command line. Each module of this package is one family of commands."""

from __future__ import annotations

import sys
import traceback

import typer

from ringfence import __version__
from ringfence.cli import ask, enforce, init, lab, policy, traffic
from ringfence.cli.session import UNREACHABLE

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Micro-segmentation by identity: observe, propose, prove, simulate, enforce.",
    epilog="Exit codes: 0 clean, 1 findings, 2 bad input, 3 could not reach or apply.",
)
app.add_typer(policy.app, name="policy")
init.register(app)
ask.register(app)
traffic.register(app)
enforce.register(app)
app.add_typer(lab.app, name="lab")


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
