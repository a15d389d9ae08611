"""What commands share that ask a controller: where it is, how they end, what they read from people.

INVARIANT: a controller that does not answer ends a command with 3, what it refuses with 2, a policy whose tests fail
with 1.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from ringfence.cli.session import CLEAN, FINDINGS, UNREACHABLE, Session, command, refuse, write_out
from ringfence.client.client import Client
from ringfence.client.errors import Unreachable
from ringfence.client.login import find
from ringfence.core.errors import FindingsError, InputError
from ringfence.wire.api import RESTORE_UNCONFIRMED, Invited, Secret

ServerOption = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="Another controller than the usual one.", show_default="as logged in"),
]
WorkloadsArgument = Annotated[
    list[str], typer.Argument(metavar="WORKLOAD...", help="Names, UUIDs or selectors like `app=shop,env=prod`.")
]
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NOTICES = {
    RESTORE_UNCONFIRMED: "this controller was restored from a backup, and nobody confirmed that yet: hosts keep what"
    " they have, and no change but a quarantine reaches them; `ringfence confirm-restore --help` says what to do"
}
FAILING = frozenset({"test-failed", "test-unmatched"})


def fleet(app: typer.Typer, name: str, **options: Any) -> Callable[[Callable[..., int]], Callable[..., None]]:
    """Register `(session, client, ...) -> exit code` as a command that asks a controller; it also takes --server."""

    def register(function: Callable[..., int]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())

        @functools.wraps(function)
        def run(session: Session, *, server: str | None, **arguments: Any) -> int:
            return at_controller(session, server, lambda client: function(session, client, **arguments))

        keyword = inspect.Parameter.KEYWORD_ONLY
        shared = inspect.Parameter("server", keyword, default=None, annotation=ServerOption)
        rest = [parameter.replace(kind=keyword) for parameter in own[2:]]
        run.__signature__ = inspect.Signature([own[0], *rest, shared])  # type: ignore[attr-defined]
        return command(app, name, **options)(run)

    return register


def at_controller(session: Session, server: str | None, work: Callable[[Client], int]) -> int:
    """Ask a controller: that of a URL, or the usual one; how the command ends."""
    try:
        with Client(find(server or "")) as client:
            try:
                return work(client)
            finally:
                for notice in sorted(client.notices & _NOTICES.keys()):
                    session.warn(_NOTICES[notice])
    except Unreachable as error:
        return refuse(session, error, UNREACHABLE)
    except FindingsError as error:
        is_failing = all(f.code in FAILING for f in error.findings if f.severity == "error")
        return refuse(session, error, FINDINGS if is_failing else None)


def show_token(session: Session, told: Secret | Invited) -> int:
    """A token, alone on stdout, so that it can be piped."""
    if session.is_json:
        session.emit(told)
    else:
        write_out(told.token + "\n")
    return CLEAN


def parse_duration(text: str) -> timedelta:
    """`45s`, `30m`, `2h`, `7d`. Raises InputError `bad-duration`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise InputError("bad-duration", f"`{text}` is no length of time", help="write it like 45s, 30m, 2h or 7d")
    return timedelta(seconds=float(match[1]) * _UNIT_S[match[2]])


def parse_labels(words: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE`, each key once. Raises InputError `bad-label-key`."""
    labels: dict[str, str] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key or key in labels:
            what = "is given twice" if key in labels else "is no label"
            raise InputError("bad-label-key", f"`{word}` {what}", help="write each once, like app=shop")
        labels[key] = value
    return labels


def in_time(text: str | None) -> datetime | None:
    """So long from now; None if nothing was said."""
    return datetime.now(UTC) + parse_duration(text) if text else None


def say_time(at: datetime | None) -> str:
    """Local to nobody: UTC, to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S}Z" if at is not None else ""


def say_labels(labels: dict[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
