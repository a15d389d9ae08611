"""`ringfence status`: the controller and its fleet."""

from __future__ import annotations

from typing import Annotated

import typer

from ringfence.cli.fleet_words import WRONG_STATES, status_words, workload_words
from ringfence.cli.remote import fleet
from ringfence.cli.session import CLEAN, FINDINGS, Session
from ringfence.client.client import Client


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    fleet(app, "status", epilog="Example: ringfence status")(status)


def status(
    session: Session,
    client: Client,
    workload: Annotated[str | None, typer.Argument(help="Only this one, by name or UUID.")] = None,
) -> int:
    """How the controller and its fleet are. Exit 1 when a part fails, or a host has drifted, refuses or went back."""
    if workload is not None:
        return tell_workload(session, client, workload)
    found = client.status()
    session.emit(found, *status_words(found))
    wrong = sum(found.agents.get(state, 0) for state in ("drifted", "refused", "reverted"))
    is_failed = any(part.state == "failed" for part in found.parts)
    return FINDINGS if wrong or is_failed or found.rollout.stage == "stopped" else CLEAN


def tell_workload(session: Session, client: Client, name: str) -> int:
    """One workload; exit 1 when it is not as it should be."""
    found = client.workload(name)
    session.emit(found, *workload_words(found))
    return FINDINGS if found.state in WRONG_STATES else CLEAN
