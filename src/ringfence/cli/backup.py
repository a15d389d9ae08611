"""`ringfence backup` and `restore`: a controller as one file, and one made of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from ringfence.cli.keeping import read_passphrase, write_private
from ringfence.cli.remote import fleet
from ringfence.cli.session import CLEAN, Session, command
from ringfence.client.client import Client

SealOption = Annotated[
    Path | None, typer.Option("--passphrase-file", metavar="FILE", help="Its first line seals the backup.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    fleet(app, "backup", epilog="Example: ringfence backup ringfence.backup --passphrase-file seal.txt")(backup)
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
        session.say("[yellow]it is not sealed: whoever reads it can be your controller[/yellow]")
    session.emit({"path": str(file), "size_bytes": size, "is_sealed": bool(passphrase)}, f"{file}: {size:,} bytes")
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
    from ringfence.controller.backing_up import restore_into
    from ringfence.controller.controller import utcnow

    passphrase = read_passphrase(passphrase_file)
    work = restore_into(file, directory.absolute(), database=database, passphrase=passphrase, clock=utcnow)
    manifest = asyncio.run(work)
    session.emit(
        manifest, f"restored what was backed up at {manifest.at:%Y-%m-%d %H:%M:%S}Z; `ringfence up {directory}`"
    )
    return CLEAN
