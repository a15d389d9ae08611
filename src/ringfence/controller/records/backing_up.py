"""A backup of a controller as one file, and a controller's directory from one: the state, the CA, the keys, evidence.

Flows and what waits on the bus are not in it. INVARIANT: a backup is of one moment; a restore is whole or nothing, into
an empty place.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from ringfence import __version__
from ringfence.controller import audit
from ringfence.controller.access.access import Principal
from ringfence.controller.desired.restored import mark_restored
from ringfence.ports.state import Change, Session, StateError, Where
from ringfence.stores.sql import SqlState
from ringfence.stores.sql.archive import Manifest, backup, restore

STATE: Final = "state.sqlite"
_KEYS: Final = ("ca.json", "signing.json", "bus/bus.json", "audit-head.json", "controller.toml", "names.json")
"""What a controller cannot be without, below its directory."""


async def back_up(
    state: SqlState, directory: Path, path: Path, *, passphrase: str, by: Principal, at: datetime
) -> Manifest:
    """Write a backup. Raises AccessError `not-allowed`, StateError `backup-taken`, `state-unwritable`."""
    by.demand("backup")
    details = {"sealed": bool(passphrase)}
    await state.write(lambda tx: audit.record(tx, at=at, actor=by.name, action="backup.make", details=details))
    with _gathered(directory) as keys:
        folders = {"keys": keys, "evidence": directory / "evidence"}
        return await backup(state, path, at=at, version=__version__, folders=folders, passphrase=passphrase)


@contextmanager
def _gathered(directory: Path) -> Iterator[Path]:
    """A folder with copies of the keys."""
    with tempfile.TemporaryDirectory(dir=directory, prefix=".backup-") as folder:
        for name in _KEYS:
            if (directory / name).exists():
                place = Path(folder) / name
                place.parent.mkdir(exist_ok=True, mode=0o700)
                shutil.copy2(directory / name, place)
        yield Path(folder)


async def restore_into(
    path: Path, directory: Path, *, database: str = "", passphrase: str = "", clock: Callable[[], datetime]
) -> Manifest:
    """Make a controller's directory of a backup. Agents that know the old controller know this one.

    Raises StateError `state-not-empty`, `backup-unreadable`, `backup-locked`, `backup-newer`.
    """
    if directory.exists() and any(directory.iterdir()):
        help_ = "name an empty directory and database"
        raise StateError("state-not-empty", f"the folder `{directory}` is not empty", help=help_)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys = directory / ".restored"
    folders = {"keys": keys, "evidence": directory / "evidence"}

    def then(tx: Change) -> None:
        mark_restored(tx)
        tx.remove(Session, Where("id", "", "!="))  # who signed out since must not be signed in again
        audit.record(tx, at=clock(), actor="controller", action="backup.restore", details={"from": path.name})

    manifest = await restore(path, database or directory / STATE, folders=folders, then=then, passphrase=passphrase)
    await asyncio.to_thread(_put_in_place, keys, directory)
    return manifest


def _put_in_place(keys: Path, directory: Path) -> None:
    for name in _KEYS:
        if (keys / name).exists():
            (directory / name).parent.mkdir(exist_ok=True, mode=0o700)
            (keys / name).replace(directory / name)
    shutil.rmtree(keys)
