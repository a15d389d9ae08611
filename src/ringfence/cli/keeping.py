"""Files that are for their owner's eyes: evidence, backups, passphrases."""

from __future__ import annotations

import os
from pathlib import Path

from ringfence.core.errors import InputError, Location


def write_private(path: Path, content: bytes) -> int:
    """A new file nobody else may read; its size. Raises InputError `file-taken`, OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError as error:
        raise InputError("file-taken", f"`{path}` exists", help="name a new file", where=Location(str(path))) from error
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return len(content)


def read_passphrase(path: Path | None) -> str:
    """The first line of a file; empty where none is named. Raises InputError `unreadable-file`."""
    if path is None:
        return ""
    try:
        line = path.read_text("utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        message = f"cannot read `{path}`"
        raise InputError("unreadable-file", message, help="name a text file", where=Location(str(path))) from error
    if not line:
        raise InputError("unreadable-file", f"`{path}` holds no passphrase", help="write it in the first line")
    return line
