"""Commands of `ringfence-agent` as commands of `ringfence`: as it says them, or as one JSON document.

INVARIANT: with --json stdout is one document, also where the agent's own program would print an error.
"""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout

import msgspec

from ringfence.agent import main as program
from ringfence.agent.config import read_config
from ringfence.cli.session import CLEAN, UNREACHABLE, Session, refuse
from ringfence.core.errors import FindingsError, InputError, RingfenceError

_IN_JSON = frozenset({"status", "preflight"})
"""What the agent's program says as JSON itself."""


def ask(name: str, words: list[str]) -> int:
    """In the program's own words."""
    return program.main([name, *words])


def tell(session: Session, name: str, words: list[str]) -> int:
    """The same as JSON: the program's document, else what it said, line by line."""
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            code = _run([name, *words, *(("--json",) if name in _IN_JSON else ())])
    except (InputError, FindingsError):
        raise
    except PermissionError as error:
        refusal = RingfenceError("not-permitted", f"`{error.filename}`: permission denied", help="run as root")
        return refuse(session, refusal, UNREACHABLE)
    except RingfenceError as error:
        return refuse(session, error, UNREACHABLE)
    text = said.getvalue()
    session.emit(msgspec.json.decode(text) if text.startswith("{") else {"said": text.splitlines()})
    return code


def _run(words: list[str]) -> int:
    """Raises InputError `bad-usage`, and whatever the command refuses."""
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            options = program.parser().parse_args(words)
    except SystemExit as left:
        if left.code in (None, CLEAN):
            return CLEAN
        message = complaint.getvalue().rstrip().rpartition("error: ")[2]
        help_ = f"`ringfence-agent {words[0]} --help` tells how it is written"
        raise InputError("bad-usage", message, help=help_) from None
    code: int = options.run(options, read_config(options.config, directory=options.dir))
    return code
