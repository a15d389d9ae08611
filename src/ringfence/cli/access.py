"""`ringfence login` and `logout`: which controller commands talk to, as whom."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from ringfence.cli.exits import UNREACHABLE
from ringfence.cli.session import CLEAN, Session, command, refuse
from ringfence.client import login as login_
from ringfence.client.client import Client
from ringfence.client.errors import Unreachable
from ringfence.core.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    command(
        app, "login", epilog="Example: ringfence login https://ringfence.example.com:8443 --ca-fingerprint 5bb2..."
    )(login)
    command(app, "logout", epilog="Example: ringfence logout")(logout)


def login(
    session: Session,
    url: Annotated[str, typer.Argument(metavar="URL", help="The controller's API.")],
    ca_fingerprint: Annotated[
        str, typer.Option("--ca-fingerprint", metavar="HEX", help="SHA-256 of its CA, as `ringfence up` prints it.")
    ],
    token: Annotated[
        str | None,
        typer.Option(
            "--token", metavar="TOKEN", help="The API token; - reads it from stdin.", show_default="RINGFENCE_TOKEN"
        ),
    ] = None,
) -> int:
    """Keep a controller's address, CA and one's token, and use it from now on. Nothing is said to another's CA.

    Without --token it is asked for, so that it stands in no history of the shell.
    """
    try:
        made = login_.Login(url.rstrip("/"), _token(token), login_.fetch_ca(url, ca_fingerprint))
        with Client(made) as client:
            me = client.me()
    except Unreachable as error:
        return refuse(session, error, UNREACHABLE)
    login_.keep(made)
    session.emit(me, f"logged in to {made.server} as {me.name} ({', '.join(me.roles)}); kept in {login_.place()}")
    return CLEAN


def _token(given: str | None) -> str:
    """Raises InputError `bad-token`."""
    text = given or os.environ.get(login_.TOKEN, "")
    if given == "-":
        text = sys.stdin.readline()
    elif not text and sys.stdin.isatty():
        text = typer.prompt("token", hide_input=True, err=True)
    if not text.strip():
        raise InputError("bad-token", "no token is given", help=f"use --token - or {login_.TOKEN}")
    return login_.parse_token(text)


def logout(
    session: Session,
    url: Annotated[str, typer.Argument(metavar="URL", help="Which one; the usual one by default.")] = "",
) -> int:
    """Forget a controller and one's token there. The token stays good: `ringfence token revoke` ends it."""
    forgotten = login_.forget(url)
    session.emit({"forgotten": forgotten}, f"forgot {forgotten}")
    return CLEAN
