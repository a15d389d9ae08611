"""What every command shares: the estate, where output goes, and how it ends.

Results go to stdout (a table for people, one stable document with --json); progress and messages go to stderr.
Exit codes: 0 done and clean, 1 findings, 2 usage or bad input, 3 could not reach or apply, 130 interrupted.

INVARIANT: a reader that goes away (`| head`) changes neither what a command does nor the code it ends with.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import msgspec
import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ringfence.cli.exits import BAD_INPUT as BAD_INPUT
from ringfence.cli.exits import CLEAN as CLEAN
from ringfence.cli.exits import FINDINGS as FINDINGS
from ringfence.cli.exits import INTERRUPTED, INTERRUPTED_WORDS
from ringfence.cli.exits import UNREACHABLE as UNREACHABLE
from ringfence.cli.findings import findings_table
from ringfence.cli.streams import discard
from ringfence.core.errors import Finding, FindingsError, InputError, Location, RingfenceError, TargetError

if TYPE_CHECKING:
    from ringfence.estate import Estate

_UNBOUNDED = 4096
"""Columns of an output that nobody looks at through a window."""

EstateOption = Annotated[
    Path, typer.Option("--estate", metavar="DIR", help="The estate, found upwards from here.", show_default="here")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One stable JSON document on stdout.")]
OutputOption = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="PATH", help="Write there instead of stdout.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages.")]


_UNSEEN = {code: "�" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
"""Control characters, which a terminal would obey (ECMA-48)."""


class _Console(Console):
    """A console whose reader may leave (`is_left`).

    INVARIANT: only our own styles reach the terminal as control sequences; those in names and messages are shown.
    """

    is_left = False

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=segment.text.translate(_UNSEEN))

    def print(self, *objects: Any, **options: Any) -> None:
        """Messages that stderr does not take are lost, and change nothing."""
        try:
            super().print(*objects, **options)
        except OSError:
            if not self.stderr:
                raise
            discard(sys.stderr)

    def on_broken_pipe(self) -> None:
        self.is_left = True
        discard(sys.stderr if self.stderr else sys.stdout)


def _console(*, stderr: bool = False, width: int | None = None) -> _Console:
    return _Console(stderr=stderr, highlight=False, emoji=False, width=width)


def _width_of(stream: TextIO) -> int | None:
    """None is the window's own."""
    return None if stream.isatty() or "COLUMNS" in os.environ else _UNBOUNDED


@dataclass
class Session:
    """One run of one command."""

    folder: Path
    is_json: bool
    is_quiet: bool
    out: Console = field(default_factory=_console)
    err: Console = field(default_factory=lambda: _console(stderr=True, width=_width_of(sys.stderr)))

    @functools.cached_property
    def page(self) -> _Console:
        """Where results are printed: as wide as the window or COLUMNS; into a file or pipe as wide as the longest line.

        `out` keeps a page's usual width in a pipe, for what fills its width.
        """
        return _console(width=_width_of(sys.stdout))

    @functools.cached_property
    def estate(self) -> Estate:
        from ringfence.estate import Estate  # what asks a controller does without

        return Estate.find(self.folder)

    @functools.cached_property
    def aside(self) -> _Console:
        """As `out`, on stderr: for what fills its width while stdout is for a document."""
        return _console(stderr=True)

    def emit(self, document: Any, *renderables: RenderableType) -> None:
        """The result: the document with --json, else what people read."""
        if self.is_json:
            write_out(to_json(document) + "\n")
            return
        for renderable in renderables:
            self.page.print(Text(renderable) if isinstance(renderable, str) else renderable)

    def say(self, message: RenderableType, style: str = "") -> None:
        """A message on stderr: a text is printed as the characters it has."""
        if not self.is_quiet:
            self.err.print(Text(message, style) if isinstance(message, str) else message)

    def warn(self, message: str) -> None:
        """A message that nobody should overlook."""
        self.say(message, "yellow")

    def show_findings(self, findings: Iterable[Finding]) -> None:
        """Findings that go beside a result, on stderr; with --json they are in the document."""
        found = tuple(findings)
        if found and not self.is_quiet and not self.is_json:
            self.err.print(findings_table(found))


def to_json(document: Any) -> str:
    """Indented. A byte of a file's name that is no UTF-8 becomes a question mark: JSON has no other bytes."""
    try:
        return msgspec.json.format(msgspec.json.encode(document, enc_hook=str), indent=2).decode()
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(document, enc_hook=str), indent=2, ensure_ascii=False)
        return text.encode("utf-8", "replace").decode()


class _OutputError(InputError):
    """Stdout takes no more, not even the error."""


def write_out(text: str) -> bool:
    """The text on stdout as it is: no wrapping, no markup. UTF-8 whatever the locale says. False: its reader left.

    Raises InputError `file-system`: it cannot be written.
    """
    data = text.encode("utf-8", "surrogateescape")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        discard(sys.stdout)
        return False
    except OSError as error:
        discard(sys.stdout)  # what is left of it would be written again at the end, and fail again
        help_ = "check the free space where stdout leads"
        raise _OutputError("file-system", f"cannot write the answer: {_reason(error)}", help=help_) from error
    return True


def write_file(path: Path, text: str) -> None:
    """The text as the file's whole content, all of it or the old one. Raises InputError `unwritable-file`.

    INVARIANT: a regular file is replaced in one step and keeps its mode; a link's target is what is replaced; a
    device or pipe is written to.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, "utf-8")
            return
        _replace(path.resolve(), text)
    except OSError as error:
        help_ = "choose another place with -o, or make the folder first"
        raise InputError(
            "unwritable-file", f"cannot write `{path}`: {_reason(error)}", help=help_, where=Location(str(path))
        ) from error


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        fresh.write_text(text, "utf-8")
        if path.exists():
            fresh.chmod(path.stat().st_mode)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


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
        return refuse(session, error)
    except (KeyboardInterrupt, typer.Abort):
        session.say(INTERRUPTED_WORDS)
        return INTERRUPTED
    except OSError as error:
        place = f"`{error.filename}`: " if error.filename else ""
        help_ = "check the path, its permissions and the free space"
        return refuse(session, InputError("file-system", f"{place}{_reason(error)}", help=help_))


def _is_told(error: RingfenceError, findings: tuple[Finding, ...]) -> bool:
    """Whether stdout took the error as a document."""
    if isinstance(error, _OutputError):
        return False
    try:
        write_out(to_json({"error": error.code, "findings": findings}) + "\n")
    except _OutputError:
        return False
    return True


def refuse(session: Session, error: RingfenceError, code: int | None = None) -> int:
    """Say an error, and with which exit code that ends: `code`, where the kind of error does not tell it."""
    findings = error.findings if isinstance(error, FindingsError) else (error.as_finding(),)
    if not session.is_json or not _is_told(error, findings):
        session.err.print(findings_table(findings))
    if code is not None:
        return code
    return UNREACHABLE if isinstance(error, TargetError) else BAD_INPUT
