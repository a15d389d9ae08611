"""`ringfence audit`: who did what, and whether the log is as it was written."""

from __future__ import annotations

from typing import Annotated

import typer

from ringfence.cli.remote import fleet, say_time
from ringfence.cli.session import CLEAN, FINDINGS, Session
from ringfence.cli.tables import Rows, count
from ringfence.client.client import Client
from ringfence.core.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    fleet(app, "audit", epilog="Example: ringfence audit --actor ann --limit 20")(audit)


def audit(
    session: Session,
    client: Client,
    action: Annotated[str | None, typer.Argument(metavar="[verify]", help="Check the whole log instead.")] = None,
    actor: Annotated[str, typer.Option(help="Only what they did.")] = "",
    what: Annotated[str, typer.Option("--action", help="Only this, as in policy.publish.")] = "",
    subject: Annotated[str, typer.Option(help="Only about this.")] = "",
    before: Annotated[int, typer.Option(help="Only entries with smaller numbers.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many.")] = 50,
) -> int:
    """Who did what, the latest first. `verify` reads all of it; exit 1 when an entry is not as it was written."""
    if action == "verify":
        return _verify(session, client)
    if action is not None:
        raise InputError("bad-action", f"`{action}` is nothing to do with the log", help="`ringfence audit verify`")
    found = client.audit(actor=actor, action=what, subject=subject, before=before, limit=limit)
    table = Rows(("entry>", "at", "who", "did", "about", "details"), heads=4)
    for one in found:
        details = one.details if one.details != "{}" else ""
        table.add(str(one.seq), say_time(one.at), one.actor, one.action, one.subject, details)
    session.emit(found, table)
    return CLEAN


def _verify(session: Session, client: Client) -> int:
    checked = client.verify_audit()
    said = f"{count(checked.entries, 'entry', 'entries')} in order, signed up to entry {checked.signed}"
    if checked.is_intact and checked.signed < checked.entries:
        said += "; the rest is signed some seconds after the last change"
    session.emit(checked, said)
    if checked.broken is not None:
        session.show_findings((checked.broken,))
    return CLEAN if checked.is_intact else FINDINGS
