"""Records of bytes in a file, each with its sender and digest, appended so that a torn one never hides a whole one.

INVARIANT: a file grows at the end of its last whole record only: what a failed or interrupted write left behind is cut
off before anything is written, so whatever was acknowledged can be read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

HEAD = struct.Struct("!I16s32s")


class Record(NamedTuple):
    """Something an agent sent."""

    sender: UUID
    data: bytes
    digest: bytes

    @property
    def size(self) -> int:
        return HEAD.size + len(self.data)


def digest_of(sender: UUID, data: bytes) -> bytes:
    return hashlib.sha256(sender.bytes + data).digest()


def append(path: Path, record: Record, good: int) -> int:
    """Write a record behind the `good` bytes of a file; how many are good now. Raises OSError, having added nothing."""
    content = memoryview(HEAD.pack(len(record.data), record.sender.bytes, record.digest) + record.data)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(file).st_size != good:
            os.ftruncate(file, good)
        try:
            at = good
            while at < good + len(content):
                at += os.pwrite(file, content[at - good :], at)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file, good)
            raise
    finally:
        os.close(file)
    return good + len(content)


def records(path: Path) -> Iterator[Record]:
    """Every whole record, one in memory at a time. Raises OSError."""
    with path.open("rb") as file:
        while len(head := file.read(HEAD.size)) == HEAD.size:
            size, sender, digest = HEAD.unpack(head)
            if size > os.fstat(file.fileno()).st_size - file.tell():
                return
            record = Record(UUID(bytes=sender), file.read(size), digest)
            if digest_of(record.sender, record.data) != digest:
                return
            yield record


def sync(paths: list[Path], folder: Path) -> None:
    """Return when these files, and that they exist, are on disk. Raises OSError."""
    for path in (*paths, folder):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)
