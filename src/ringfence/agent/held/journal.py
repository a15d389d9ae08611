"""What was heard since the record was written, appended message by message: keeping costs what the message costs.

    journal.append(messages)      survives the agent, killed at once after it        journal.sync()   survives the host
    first = journal.turn()        what is heard from here on goes to a new segment
    journal.forget(first)         the segments before it are in a record by now
    heard(folder, workload)       all of it, in order; said again to what the record holds, it changes nothing twice

INVARIANT: a segment is read up to its first entry that is not whole: a crash tears the last one only, and what could
not be appended is cut off, so that nothing whole ever stands behind something torn.
INVARIANT: what a later version wrote is passed over, and that is said; what stands behind it counts.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ringfence.agent.owned import read_owned
from ringfence.durable import sync_folder
from ringfence.wire.messages import DOWN, Assignment, Change, Isolations, Pieces

NAME: Final = "heard."
_FAMILY: Final = b"rfj"
_MAGIC: Final = _FAMILY + b"1"
_ENTRY: Final = struct.Struct(">II")
"""Length of what follows, and its CRC-32."""
_MAX_ENTRY: Final = 64 << 20
Heard = Assignment | Change | Isolations | Pieces
"""What says what to enforce."""
_KINDS: Final = {kind.__name__: kind for kind in DOWN if issubclass(kind, Heard)}


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    kind: str
    message: msgspec.Raw


class Told(NamedTuple):
    """What the journal holds."""

    messages: tuple[Heard, ...] = ()
    problem: str = ""
    """What could not be read."""


class Journal:
    """Of one host. Only `turn` and `size_bytes` are for the event loop; the others block. Each raises OSError."""

    def __init__(self, folder: Path, workload: str) -> None:
        self._folder, self._workload = folder, workload
        self._number = max((number for number, _ in _segments(folder)), default=0) + 1
        self._file: int | None = None
        self._open: int = 0
        """Which segment `_file` is."""
        self.size_bytes = 0
        """Of what was appended since the last turn."""

    def turn(self) -> int:
        self._number += 1
        self.size_bytes = 0
        return self._number

    def append(self, messages: Iterable[Heard]) -> None:
        content = b"".join(map(_written, messages))
        file = self._segment()
        whole = os.fstat(file).st_size
        try:
            if os.write(file, content) != len(content):
                raise OSError(errno.ENOSPC, "it is full")
        except OSError:
            os.ftruncate(file, whole)
            raise
        self.size_bytes += len(content)

    def sync(self) -> None:
        if self._file is not None:
            os.fdatasync(self._file)

    def forget(self, first: int) -> None:
        """The segments before this one."""
        for number, path in _segments(self._folder):
            if number < first:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _segment(self) -> int:
        """The file of now. INVARIANT: its name is on the disk before anything in it counts as kept."""
        number = self._number
        if self._file is not None and self._open == number:
            return self._file
        self.close()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        file = os.open(self._folder / f"{NAME}{number:08}", flags, 0o600)
        try:
            _begin(file, _head(self._workload))
            sync_folder(self._folder)
        except OSError:
            os.close(file)
            raise
        self._file, self._open = file, number
        return file


def heard(folder: Path, workload: str) -> Told:
    """What was heard since the record of this identity; segments of another are nobody's."""
    found: list[Heard] = []
    problem = ""
    for _, path in _segments(folder):
        try:
            content = read_owned(path)
        except (OSError, ValueError) as error:
            problem = problem or f"`{path}` cannot be used: {error}"
            continue
        if content.startswith(_head(workload)):
            entries = [_message(entry) for entry in _entries(content, len(_head(workload)))]
            found += [entry for entry in entries if entry is not None]
            is_newer = None in entries
        else:
            is_newer = content.startswith(_FAMILY) and not content.startswith(_MAGIC)
        if is_newer:
            problem = problem or f"`{path}` has messages of a later version, which are passed over"
    return Told(tuple(found), problem)


def forget(folder: Path) -> None:
    """All of it."""
    for _, path in _segments(folder):
        path.unlink(missing_ok=True)


def _segments(folder: Path) -> list[tuple[int, Path]]:
    """By number."""
    found = [(path.name.removeprefix(NAME), path) for path in folder.glob(f"{NAME}*")]
    return sorted((int(number), path) for number, path in found if number.isdigit())


def _head(workload: str) -> bytes:
    return _MAGIC + bytes((len(workload),)) + workload.encode()


def _written(message: Heard) -> bytes:
    content = msgspec.json.encode(_Entry(type(message).__name__, msgspec.Raw(msgspec.json.encode(message))))
    return _ENTRY.pack(len(content), zlib.crc32(content)) + content


def size_of(messages: Iterable[Heard]) -> int:
    """What they take in a journal, in bytes."""
    return sum(len(_written(message)) for message in messages)


def _begin(file: int, head: bytes) -> None:
    """A segment begins with its head, whole: what a full disk left of one is begun anew. Raises OSError."""
    if os.fstat(file).st_size >= len(head):
        return
    os.ftruncate(file, 0)
    if os.write(file, head) != len(head):
        os.ftruncate(file, 0)
        raise OSError(errno.ENOSPC, "it is full")


def _entries(content: bytes, at: int) -> Iterator[bytes]:
    while at + _ENTRY.size <= len(content):
        length, checksum = _ENTRY.unpack_from(content, at)
        entry = content[at + _ENTRY.size : at + _ENTRY.size + length]
        if length > _MAX_ENTRY or len(entry) != length or zlib.crc32(entry) != checksum:
            return
        yield entry
        at += _ENTRY.size + length


def _message(entry: bytes) -> Heard | None:
    """None: of a later version. What it would have changed is asked for."""
    try:
        read = msgspec.json.decode(entry, type=_Entry)
        message: Heard = msgspec.json.decode(read.message, type=_KINDS[read.kind])
    except (ValueError, KeyError):
        return None
    return message
