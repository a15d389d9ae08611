"""What every command shares: the estate, where output goes, and how it ends.

Results go to stdout (a table for people, one stable document with --json); progress and messages go to stderr.
Exit codes: 0 done and clean, 1 findings, 2 usage or bad input, 3 could not reach or apply.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console, RenderableType

from ringfence.cli.findings import findings_table
from ringfence.core.errors import Finding, FindingsError, RingfenceError, TargetError
from ringfence.estate import Estate

CLEAN, FINDINGS, BAD_INPUT, UNREACHABLE = 0, 1, 2, 3

EstateOption = Annotated[
    Path, typer.Option("--estate", metavar="DIR", help="The estate, found upwards from here.", show_default="here")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One stable JSON document on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages.")]


@dataclass
class Session:
    """One run of one command."""

    folder: Path
    is_json: bool
    is_quiet: bool
    out: Console = field(default_factory=lambda: Console(highlight=False))
    err: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    @functools.cached_property
    def estate(self) -> Estate:
        return Estate.find(self.folder)

    def emit(self, document: Any, *renderables: RenderableType) -> None:
        """The result: the document with --json, else what people read."""
        if self.is_json:
            sys.stdout.write(to_json(document) + "\n")
            return
        for renderable in renderables:
            self.out.print(renderable)

    def say(self, message: RenderableType) -> None:
        if not self.is_quiet:
            self.err.print(message)

    def show_findings(self, findings: Iterable[Finding]) -> None:
        """Findings that go beside a result, on stderr."""
        found = tuple(findings)
        if found and not self.is_quiet:
            self.err.print(findings_table(found))


def to_json(document: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(document, enc_hook=str), indent=2).decode()


def command(app: typer.Typer, name: str, **options: Any) -> Callable[[Callable[..., int]], Callable[..., None]]:
    """Register a function `(session, ...) -> exit code` as a command that also takes --estate, --json and -q."""

    def register(function: Callable[..., int]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        @functools.wraps(function)
        def run(*, estate: Path, json: bool, quiet: bool, **arguments: Any) -> None:
            raise typer.Exit(_guarded(function, Session(estate, json, quiet), arguments))

        shared = [
            inspect.Parameter("estate", inspect.Parameter.KEYWORD_ONLY, default=Path(), annotation=EstateOption),
            inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption),
            inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=QuietOption),
        ]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + shared
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        app.command(name, **options)(run)
        return run

    return register


def _guarded(function: Callable[..., int], session: Session, arguments: dict[str, Any]) -> int:
    """Run it; an error a person can act on becomes a message and the exit code the contract gives it."""
    try:
        return function(session, **arguments)
    except RingfenceError as error:
        findings = error.findings if isinstance(error, FindingsError) else (error.as_finding(),)
        if session.is_json:
            sys.stdout.write(to_json({"error": error.code, "findings": findings}) + "\n")
        else:
            session.err.print(findings_table(findings))
        return UNREACHABLE if isinstance(error, TargetError) else BAD_INPUT
