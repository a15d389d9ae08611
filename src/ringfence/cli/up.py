"""`ringfence up`: the controller of a fleet, in the foreground."""

from __future__ import annotations

import asyncio
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from ringfence.cli.session import CLEAN, UNREACHABLE, Session, command, refuse, write_out
from ringfence.core.errors import FindingsError, InputError, RingfenceError

if TYPE_CHECKING:
    from ringfence.api.run import Up


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    command(app, "up", epilog="Example: ringfence up /var/lib/ringfence-controller --name ringfence.example.com")(up)


def up(
    session: Session,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the controller keeps everything.")],
    name: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="HOST", help="How it is reached; agents are told the first. Remembered."),
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Of the API (8443).")] = None,
    bus_port: Annotated[int | None, typer.Option(min=0, max=65535, help="Of the bus (4222).")] = None,
    listen: Annotated[str | None, typer.Option(metavar="ADDRESS", help="The address to listen on (0.0.0.0).")] = None,
    database: Annotated[
        str | None, typer.Option(metavar="URL", help="postgresql://... instead of SQLite in the directory.")
    ] = None,
    nats: Annotated[
        str | None, typer.Option(metavar="URLS", help="NATS servers that run already, with commas: see `nats-config`.")
    ] = None,
    trust_domain: Annotated[str | None, typer.Option(help="Of every identity; for life (ringfence.internal).")] = None,
    needs_approval: Annotated[
        bool | None, typer.Option("--needs-approval/--one-person", help="Policies take a second person.")
    ] = None,
    new_token: Annotated[
        bool, typer.Option("--new-token", help="Print one more administrator's token: the first was lost.")
    ] = False,
) -> int:
    """Run the controller of a fleet until it is told to stop: API, bus, state and flows in one directory.

    The first start makes the CA and prints an administrator's token, once. `controller.toml` in the directory says what
    no option does. With --json the log is JSON lines, and where it serves is one line on stdout.
    """
    from ringfence.api.config import Config, remember_names, settings_of
    from ringfence.api.run import run

    said = Config(
        names=tuple(name) if name else None, host=listen, port=port, bus_port=bus_port, trust_domain=trust_domain,
        database=database, nats=nats, needs_approval=needs_approval,
    )  # fmt: skip
    _log_to_stderr(session)
    settings = settings_of(directory.absolute(), said)

    def serves(where: Up) -> None:
        if said.names:
            remember_names(settings.directory, said.names)
        _tell(session, where)

    try:
        asyncio.run(run(settings, serves, new_token=new_token))
    except (InputError, FindingsError):
        raise
    except RingfenceError as error:
        return refuse(session, error, UNREACHABLE)
    return CLEAN


def _tell(session: Session, where: Up) -> None:
    """Where it serves; and, once in its life, the administrator's token."""
    if session.is_json:
        write_out(msgspec.json.encode(where._asdict()).decode() + "\n")
        return
    session.say(f"serving {where.url} (bus {', '.join(where.bus)})")
    session.say(f"CA fingerprint {where.ca_fingerprint}")
    if where.token is None:
        return
    session.say("\nThis is the administrator's token. It is shown now, never again, and written nowhere:\n")
    write_out(f"{where.token}\n")
    session.say(
        f"\nGo on with:\n  ringfence login {where.url} --ca-fingerprint {where.ca_fingerprint}\n"
        "  ringfence agent profile web --label app=shop --label role=web\n"
        "  ringfence agent invite web --uses 20 --for 24h\n"
    )


class _JsonLines(logging.Formatter):
    """One object a line, for collectors."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(told).decode()


def _log_to_stderr(session: Session) -> None:
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(_JsonLines() if session.is_json else plain)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING if session.is_quiet else logging.INFO)
    for noisy in ("httpx", "httpcore", "nats", "uvicorn.error", "apprise"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
