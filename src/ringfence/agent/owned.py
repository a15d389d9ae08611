"""Files that say what this host enforces: read only where nobody but root, or who runs this, could have written them.

INVARIANT: a file that somebody else owns, that others may write to, or that is a link, is not read at all.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_owned(path: Path) -> bytes:
    """Its content. Raises OSError; ValueError: why it is not to be believed."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        about = os.fstat(file.fileno())
        if about.st_uid not in (0, os.geteuid()):
            raise ValueError(f"it belongs to user {about.st_uid}, not to root")
        if not stat.S_ISREG(about.st_mode) or about.st_mode & 0o022:
            raise ValueError(f"others than root may write to it (mode {stat.S_IMODE(about.st_mode):04o})")
        return file.read()
