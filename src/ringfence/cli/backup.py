"""`ringfence backup` and `restore`: a controller as one file, and one made of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from ringfence.cli.consent import YesOption, confirm
from ringfence.cli.keeping import read_passphrase, write_private
from ringfence.cli.remote import fleet
from ringfence.cli.session import CLEAN, Session, command
from ringfence.cli.tables import count
from ringfence.client.client import Client
from ringfence.core.errors import InputError
from ringfence.wire.api import RESTORE_UNCONFIRMED

SealOption = Annotated[
    Path | None, typer.Option("--passphrase-file", metavar="FILE", help="Its first line seals the backup.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    fleet(app, "backup", epilog="Example: ringfence backup ringfence.backup --passphrase-file seal.txt")(backup)
    fleet(app, "confirm-restore", epilog="Example: ringfence confirm-restore --yes")(confirm_restore)
    example = "ringfence restore ringfence.backup /var/lib/ringfence-controller --passphrase-file seal.txt"
    command(app, "restore", epilog=f"Example: {example}")(restore)


def backup(
    session: Session,
    client: Client,
    file: Annotated[Path, typer.Argument(help="A new file to write.")],
    passphrase_file: SealOption = None,
) -> int:
    """The controller's state, CA, keys and evidence as one file. Whoever has it unsealed has the estate."""
    passphrase = read_passphrase(passphrase_file)
    size = write_private(file, client.backup(passphrase))
    if not passphrase:
        session.warn("it is not sealed: whoever reads it can be your controller")
    session.emit({"path": str(file), "size_bytes": size, "is_sealed": bool(passphrase)}, f"{file}: {size:,} bytes")
    return CLEAN


def confirm_restore(session: Session, client: Client, yes: YesOption = False) -> int:
    """What a backup held is in force from now on. Until then a restored controller tells hosts quarantines, no more.

    Hosts then go to the policies, labels, modes and quarantines that the backup holds, with what was done since the
    restore. What was done between backup and restore is not known here, and ends with this: quarantines that were begun
    then end on every host, certificates that were revoked then are good again, hosts that joined then are strangers.
    Do those things again first; `quarantine`, `release` and `agent revoke` work before this is confirmed.
    """
    status = client.status()
    if RESTORE_UNCONFIRMED not in client.notices:
        raise InputError("not-restored", "no restore waits to be confirmed", help="nothing is to be done")
    session.say(
        f"hosts go to version {status.policy_version} of the policies, and hold the"
        f" {count(status.quarantines, 'quarantine')} that this controller knows of; every other one ends"
    )
    confirm(session, "was everything done again that was done since the backup?", yes=yes)
    client.confirm_restore()
    client.notices.clear()
    session.emit({"confirmed": True}, "the restore is confirmed: hosts are told what is in force")
    return CLEAN


def restore(
    session: Session,
    file: Annotated[Path, typer.Argument(help="A backup.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An empty directory, or one to be made.")],
    database: Annotated[
        str, typer.Option(metavar="URL", help="postgresql://... instead of SQLite in the directory.")
    ] = "",
    passphrase_file: SealOption = None,
) -> int:
    """Make a controller's directory of a backup; `ringfence up DIR` starts it.

    Agents that knew the old controller know this one.
    """
    from ringfence.controller.controller import utcnow
    from ringfence.controller.records.backing_up import restore_into

    passphrase = read_passphrase(passphrase_file)
    work = restore_into(file, directory.absolute(), database=database, passphrase=passphrase, clock=utcnow)
    manifest = asyncio.run(work)
    session.emit(
        manifest,
        f"restored what was backed up at {manifest.at:%Y-%m-%d %H:%M:%S}Z; `ringfence up {directory}`"
        " starts it under the names that hosts know; do again what was done since, then `ringfence confirm-restore`",
    )
    return CLEAN
