"""Messages on their way up, kept on disk until the controller has them: one file a message, oldest first.

    spool.put("events", data)    -> id       spool.pending()   -> messages, events before flows
    spool.ack(id)                            spool.stats()     -> what waits, and what was lost

A message is whole or absent: it is written under another name, renamed, and bears a checksum, so kill -9 leaves
nothing half, and what a power cut tore is noticed. Events are flushed to the disk before `put` returns; flows are left
to the operating system.

INVARIANT: `put` never raises and never grows without bound. Where the disk refuses, messages are kept in memory up to
`memory_bytes`; where there is no room, the oldest flows go first, events last, and each one gone is counted in `lost`.
"""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import msgspec

from ringfence.durable import sync_folder

Kind = Literal["events", "evidence", "flows"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The most important first: handed out in this order, given up in the reverse."""
_FLUSHED = frozenset({"events", "evidence"})
_MAGIC = b"rfs1"
_BLOCK = 4096
"""What a file takes on disk at least, in steps."""
_MOST_MESSAGES = 16384
_NEW = ".new"


class Kept(msgspec.Struct, frozen=True):
    """One message that waits."""

    id: str
    kind: Kind
    data: bytes


class SpoolStats(msgspec.Struct, frozen=True):
    """What waits and what was lost since the spool was opened."""

    messages: int
    disk_bytes: int
    memory_bytes: int
    lost: dict[str, int]
    """Messages given up, by kind."""
    is_on_disk: bool
    """Whether the last message reached the disk."""
    why: str = ""
    """What the operating system said when it did not."""


class _Entry(msgspec.Struct):
    size: int
    data: bytes | None
    """None: on disk."""


class Spool:
    """A bounded queue in a folder of its own. Not for several threads at once."""

    def __init__(self, folder: Path, *, max_bytes: int = 256 << 20, memory_bytes: int = 2 << 20) -> None:
        """Take over what an earlier process left; a folder that cannot be read or made is as a disk that is full."""
        self._folder, self._max_bytes, self._max_memory = folder, max_bytes, memory_bytes
        self._waiting: dict[Kind, OrderedDict[str, _Entry]] = {kind: OrderedDict() for kind in KINDS}
        self._lost: dict[str, int] = dict.fromkeys(KINDS, 0)
        self._disk = self._memory = 0
        self._why = ""
        self._last = 0
        try:
            self._take_over()
        except OSError as error:
            self._why = str(error)

    def new_id(self) -> str:
        """An id nobody had before: later ones sort later, over restarts, too."""
        self._last = max(self._last + 1, time.time_ns())
        return f"{self._last:016x}"

    def put(self, kind: Kind, data: bytes, *, id: str = "") -> str:
        """Keep a message; returns its id (from `new_id`, unless one was given)."""
        id = id or self.new_id()
        self._from_memory()
        if self._store(id, kind, data):
            self._add(id, kind, _Entry(_on_disk(data), None))
        else:
            self._add(id, kind, _Entry(len(data), data))
        self._bound()
        return id

    def pending(self, most: int = 64) -> list[Kept]:
        """The next messages, without taking them. One that is torn is dropped here, and counted."""
        return list(self._first(most))

    def ack(self, id: str) -> None:
        """The message is safe elsewhere: forget it. An id that is not there is none to forget."""
        for kind, waiting in self._waiting.items():
            if id in waiting:
                self._remove(kind, id)

    def stats(self) -> SpoolStats:
        messages = sum(map(len, self._waiting.values()))
        return SpoolStats(messages, self._disk, self._memory, dict(self._lost), not self._why, self._why)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    # ---- the queue ---------------------------------------------------------------------------------------------------

    def _add(self, id: str, kind: Kind, entry: _Entry) -> None:
        self._waiting[kind][id] = entry
        self._disk += entry.size if entry.data is None else 0
        self._memory += entry.size if entry.data is not None else 0

    def _remove(self, kind: Kind, id: str) -> None:
        entry = self._waiting[kind].pop(id)
        if entry.data is not None:
            self._memory -= entry.size
            return
        self._disk -= entry.size
        with contextlib.suppress(OSError):
            self._path(id, kind).unlink()

    def _first(self, most: int) -> Iterator[Kept]:
        for kind in KINDS:
            for id, entry in list(self._waiting[kind].items()):
                if most <= 0:
                    return
                data = entry.data if entry.data is not None else self._load(id, kind)
                if data is None:
                    self._lose(kind, id)
                    continue
                most -= 1
                yield Kept(id, kind, data)

    def _bound(self) -> None:
        while self._disk > self._max_bytes and self._give_up(is_on_disk=True):
            pass
        while self._memory > self._max_memory and self._give_up(is_on_disk=False):
            pass
        while len(self) > _MOST_MESSAGES:
            self._give_up(is_on_disk=None)

    def _give_up(self, *, is_on_disk: bool | None) -> bool:
        """The oldest message of the least important kind there is; None: wherever it is."""
        for kind in reversed(KINDS):
            for id, entry in self._waiting[kind].items():
                if is_on_disk is None or (entry.data is None) == is_on_disk:
                    self._lose(kind, id)
                    return True
        return False

    def _lose(self, kind: Kind, id: str) -> None:
        self._lost[kind] += 1
        self._remove(kind, id)

    # ---- the disk ----------------------------------------------------------------------------------------------------

    def _path(self, id: str, kind: Kind) -> Path:
        return self._folder / f"{id}.{kind}"

    def _take_over(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self._folder.iterdir()):
            id, _, kind = path.name.partition(".")
            if path.name.endswith(_NEW):
                path.unlink()
            elif kind in KINDS:
                self._add(id, kind, _Entry(_blocks(path.stat().st_size), None))
                with contextlib.suppress(ValueError):
                    self._last = max(self._last, int(id, 16))
        self._bound()

    def _from_memory(self) -> None:
        """What was kept in memory goes to the disk as soon as that takes it."""
        if not self._memory:
            return
        for kind in KINDS:
            for id, entry in list(self._waiting[kind].items()):
                if entry.data is None:
                    continue
                if not self._store(id, kind, entry.data):
                    return
                self._memory -= entry.size
                entry.size, entry.data = _on_disk(entry.data), None
                self._disk += entry.size

    def _store(self, id: str, kind: Kind, data: bytes) -> bool:
        path = self._path(id, kind)
        temporary = path.with_name(path.name + _NEW)
        try:
            self._write(temporary, data, is_flushed=kind in _FLUSHED)
            temporary.rename(path)
            if kind in _FLUSHED:
                sync_folder(self._folder)
        except OSError as error:
            self._why = str(error)
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
                path.unlink(missing_ok=True)
            return False
        self._why = ""
        return True

    @staticmethod
    def _write(path: Path, data: bytes, *, is_flushed: bool) -> None:
        with path.open("xb", buffering=0) as file:
            content = _MAGIC + zlib.crc32(data).to_bytes(4, "little") + data
            if file.write(content) != len(content):
                raise OSError("the disk took only a part of a message")
            if is_flushed:
                os.fsync(file.fileno())

    def _load(self, id: str, kind: Kind) -> bytes | None:
        """None for what is torn, damaged or gone."""
        try:
            content = self._path(id, kind).read_bytes()
        except OSError:
            return None
        data = content[8:]
        is_whole = content[:4] == _MAGIC and content[4:8] == zlib.crc32(data).to_bytes(4, "little")
        return data if is_whole else None


def _on_disk(data: bytes) -> int:
    return _blocks(len(data) + 8)


def _blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
