"""Flow batches of the agents, kept raw until their stretch of time is over, then merged and stored as conversations.

    keep(data)            on disk when it returns: the bus may forget it
    take(now)             every stretch that is over and has settled -> the flow store, then forgotten

INVARIANT: a batch is counted once: one that is delivered again is recognised by its content, and a stretch that was
stored before a crash is known by its digest to the store.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ringfence.core.errors import InputError
from ringfence.core.flow.leases import LeaseTable
from ringfence.core.flow.tally import FileReport
from ringfence.core.identity.inventory import Inventory
from ringfence.flows.agent import Report, conversations_of
from ringfence.ports.flow_store import FlowStore
from ringfence.wire.columns import decode

_log = logging.getLogger(__name__)
STRETCH_S: Final = 60
SETTLE_S: Final = 45
"""How long after a stretch its last batches may come; later ones fall into the stretch in which they come."""
_HEAD = struct.Struct("!I32s")
_SYNC_S = 0.05


class Incoming:
    """The folder of raw batches: a file for each stretch, in order of arrival."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._folder, self._clock = folder, clock
        folder.mkdir(parents=True, exist_ok=True)
        self._known: dict[bytes, int] = {}
        """Digest -> stretch, of batches kept lately."""
        self._waiting: list[asyncio.Future[None]] = []
        self._unsynced: set[int] = set()
        self.batches = self.rows = self.malformed = 0

    async def keep(self, data: bytes) -> None:
        """Return when the batch is on disk. Raises OSError."""
        digest = hashlib.sha256(data).digest()
        if digest in self._known:
            return
        stretch = int(self._clock()) // STRETCH_S
        with self._path(stretch).open("ab") as file:
            file.write(_HEAD.pack(len(data), digest) + data)
        self._known[digest] = stretch
        self._unsynced.add(stretch)
        await self._synced()

    async def _synced(self) -> None:
        """One sync for all that came in a moment."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if len(self._waiting) == 1:
            await asyncio.sleep(_SYNC_S)
            waiting, self._waiting = self._waiting, []
            stretches, self._unsynced = self._unsynced, set()
            try:
                await asyncio.to_thread(self._sync, stretches)
            except OSError as error:
                for one in waiting:
                    one.set_exception(error)
            else:
                for one in waiting:
                    one.set_result(None)
        await future

    def _sync(self, stretches: set[int]) -> None:
        for stretch in stretches:
            with self._path(stretch).open("rb") as file:
                os.fsync(file.fileno())

    def _path(self, stretch: int) -> Path:
        return self._folder / f"{stretch}.batches"

    def take(self, inventory: Inventory, store: FlowStore) -> int:
        """Store every stretch that has settled; how many conversations that were. Slow: for a thread."""
        before = (int(self._clock()) - SETTLE_S) // STRETCH_S
        stored = 0
        for path in sorted(self._folder.glob("*.batches"), key=lambda p: int(p.stem)):
            if int(path.stem) < before:
                stored += self._store(path, inventory, store)
                path.unlink()
        self._known = {digest: stretch for digest, stretch in self._known.items() if stretch >= before - 10}
        return stored

    def _store(self, path: Path, inventory: Inventory, store: FlowStore) -> int:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if store.known_files([digest]):
            return 0
        reports = list(self._reports(content, path))
        found = conversations_of(reports, LeaseTable.of(inventory))
        records = sum(len(report.rows) for report in reports)
        self.rows += records
        name = f"agents/{path.stem}"
        report = FileReport(name, "agents", digest=digest, size_bytes=len(content), lines=records, records=records)
        store.append(found, (report,))
        return len(found)

    def _reports(self, content: bytes, path: Path) -> Iterator[Report]:
        seen: set[bytes] = set()
        for digest, data in _batches(content):
            if digest in seen:
                continue
            seen.add(digest)
            self.batches += 1
            try:
                yield Report(decode(data))
            except InputError as error:
                self.malformed += 1
                _log.warning("a flow batch in `%s` cannot be read: %s", path.name, error)


def _batches(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(digest, data) of each whole batch; a torn tail was never acknowledged."""
    at = 0
    while at + _HEAD.size <= len(content):
        size, digest = _HEAD.unpack_from(content, at)
        data = content[at + _HEAD.size : at + _HEAD.size + size]
        if len(data) < size or hashlib.sha256(data).digest() != digest:
            return
        yield digest, data
        at += _HEAD.size + size
