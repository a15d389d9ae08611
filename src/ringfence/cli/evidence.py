"""`ringfence evidence`: bundles of what a host does, asked for and fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ringfence.cli.consent import WhyOption, YesOption, confirm, reason
from ringfence.cli.keeping import write_private
from ringfence.cli.remote import fleet, say_time
from ringfence.cli.session import CLEAN, Session
from ringfence.cli.tables import Rows
from ringfence.client.client import Client
from ringfence.core.errors import InputError
from ringfence.wire.api import AskEvidence


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    fleet(app, "evidence", epilog="Example: ringfence evidence web-1 --why 'incident 4711'")(evidence)


def evidence(
    session: Session,
    client: Client,
    workload: Annotated[
        str | None,
        typer.Argument(help="Ask that host for a bundle; none: list them; `delete ID`: forget one for good."),
    ] = None,
    id_: Annotated[str | None, typer.Argument(metavar="[ID]", help="After `delete`: which bundle.")] = None,
    why: WhyOption = "",
    with_command_lines: Annotated[bool, typer.Option("--with-command-lines", help="They may hold passwords.")] = False,
    get: Annotated[str | None, typer.Option(metavar="ID", help="Fetch that bundle (tar.gz).")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write it; ID.tar.gz by default.")
    ] = None,
    yes: YesOption = False,
) -> int:
    """Who talks with what program under which rules, on one host: asked for, listed, fetched, deleted."""
    if id_ is not None:
        return _delete(session, client, workload, id_, why, yes=yes)
    if get is not None:
        path = output or Path(f"{get}.tar.gz")
        size = write_private(path, client.bundle(get))
        session.emit({"path": str(path), "size_bytes": size}, f"{path}: {size:,} bytes")
        return CLEAN
    if workload is not None:
        asked = client.ask_evidence(AskEvidence(workload, reason(session, why, "evidence"), with_command_lines))
        session.emit(asked, f"asked {asked.name}; fetch it with `ringfence evidence --get {asked.id}`")
        return CLEAN
    found = client.evidence()
    table = Rows(("id", "host", "state", "asked", "by", "bytes>", "sha256"))
    for one in found:
        bytes_ = f"{one.size_bytes:,}" if one.size_bytes else ""
        table.add(one.id, one.name, one.state, say_time(one.at), one.by, bytes_, one.digest)
    session.emit(found, table if found else "no evidence was asked for")
    return CLEAN


def _delete(session: Session, client: Client, action: str | None, id_: str, why: str, *, yes: bool) -> int:
    if action != "delete":
        message = f"`{action}` is nothing to do with evidence"
        raise InputError("bad-action", message, help="`ringfence evidence delete ID --why ...`")
    why = reason(session, why, "deleting evidence")
    if any(one.id == id_ for one in client.evidence()):
        confirm(session, f"forget the evidence {id_} for good?", yes=yes)
    gone = client.erase(id_, why)
    session.emit(gone, f"evidence {gone.id} of {gone.name} is deleted; the audit log keeps its digest")
    return CLEAN
