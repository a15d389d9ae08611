"""Flow logs as one tar archive, made while it is sent: nothing is copied to the disk first.

INVARIANT: an archive that was not sent whole has no end, and a controller takes no such archive.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath

import msgspec

from ringfence.core.errors import InputError

_READ = 512 << 10


class Entry(msgspec.Struct, frozen=True):
    """A file of an archive."""

    name: str
    path: Path
    size: int

    @property
    def room(self) -> int:
        """Bytes that it takes in an archive, at most."""
        return _blocks(self.size) + _blocks(len(self.name.encode())) + 4 * tarfile.BLOCKSIZE


class Archive:
    """Files as a tar archive (POSIX.1-1988 ustar; a long name as GNU tar writes it). Iterating gives its bytes,
    each time as they are then."""

    def __init__(self, entries: Sequence[Entry], on_bytes: Callable[[int], None] = lambda _: None) -> None:
        """`on_bytes` hears how much of the files is sent."""
        self.entries, self._on_bytes = tuple(entries), on_bytes

    def __iter__(self) -> Iterator[bytes]:
        """Raises InputError `flow-unreadable`."""
        sent = 0
        for entry in self.entries:
            info = tarfile.TarInfo(entry.name)
            info.size = entry.size
            yield info.tobuf(tarfile.GNU_FORMAT, "utf-8")
            for piece in _content(entry):
                yield piece
                sent += len(piece)
                self._on_bytes(sent)
            yield bytes(-entry.size % tarfile.BLOCKSIZE)
        yield bytes(2 * tarfile.BLOCKSIZE)


def entries_of(files: Iterable[tuple[str, Path]]) -> list[Entry]:
    """(name, file) as an archive takes them: no name leads out of it or hides, and no two are one.

    Raises InputError `flow-unreadable`.
    """
    found: dict[str, Entry] = {}
    folders: set[str] = set()
    for name, path in files:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise _unreadable(name, error.strerror or "", "see who may read it") from error
        plain, number = _plain(name), 1
        unique = plain
        while unique in found or unique in folders or not found.keys().isdisjoint(_folders(unique)):
            number += 1
            unique = f"{number}/{plain}"
        folders.update(_folders(unique))
        found[unique] = Entry(unique, path, size)
    return list(found.values())


def _folders(name: str) -> list[str]:
    return [str(folder) for folder in PurePosixPath(name).parents][:-1]


def batched(entries: Iterable[Entry], *, most_bytes: int, most_files: int) -> list[list[Entry]]:
    """In order, as few archives as can be."""
    batches: list[list[Entry]] = []
    room = 0
    for entry in entries:
        room += entry.room
        if batches and room <= most_bytes and len(batches[-1]) < most_files:
            batches[-1].append(entry)
        else:
            batches.append([entry])
            room = entry.room + 2 * tarfile.BLOCKSIZE
    return batches


def _plain(name: str) -> str:
    parts = ("".join(letter if letter.isprintable() else "_" for letter in part) for part in PurePath(name).parts)
    kept = [part.strip("/").lstrip(".") for part in parts]
    return "/".join(part for part in kept if part) or "log"


def _blocks(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _content(entry: Entry) -> Iterator[bytes]:
    """As many bytes as the archive says it has: a log may grow meanwhile."""
    left = entry.size
    try:
        with entry.path.open("rb") as file:
            while left:
                piece = file.read(min(_READ, left))
                if not piece:
                    raise _unreadable(entry.name, "it became shorter while it was sent", "send it again")
                left -= len(piece)
                yield piece
    except OSError as error:
        raise _unreadable(entry.name, error.strerror or "", "see who may read it") from error


def _unreadable(name: str, why: str, help_: str) -> InputError:
    return InputError("flow-unreadable", f"`{name}` cannot be read: {why}", help=help_)
