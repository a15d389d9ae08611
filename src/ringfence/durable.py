"""Files that survive a crash; those with secrets only their owner may read, and they are replaced whole.

INVARIANT: at every moment, a crash included, the path holds the old content or the new one, on disk and with mode 0600.
It does not encrypt: who can read the owner's files can read these.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from ringfence.core.errors import InputError, Location


def write_secret(path: Path, content: bytes) -> None:
    """Replace the file. It is durable when this returns. The folder is made, for the owner alone, where it lacks."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600 from the start
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(fresh)
        raise
    sync_folder(path.parent)


def read_secret(path: Path) -> bytes | None:
    """The content, or None where there is no such file. Raises InputError `secret-exposed`: others may read it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise _exposed(path, mode)
            return file.read()
    except FileNotFoundError:
        return None


def remove_secret(path: Path) -> None:
    """Be sure that there is no such file, after a crash either."""
    with suppress(FileNotFoundError):
        path.unlink()
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """A renamed file survives a crash once its folder is written, too (rename(2), fsync(2))."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exposed(path: Path, mode: int) -> InputError:
    return InputError(
        "secret-exposed",
        f"`{path}` holds a secret that others may read (mode {mode:04o})",
        help=f"if nobody has read it: chmod 600 {path}; otherwise delete it, and issue what depends on it anew",
        where=Location(str(path)),
    )
