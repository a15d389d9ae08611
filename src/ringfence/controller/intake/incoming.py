"""Flow batches of the agents, kept raw until their stretch of time is over, then judged, merged and stored.

    keep(sender, data)    on disk when it returns: the bus may forget it
    take(inventory, ..)   every stretch that is over and has settled -> the flow store, then forgotten

INVARIANT: a batch is counted once: one that is delivered again is recognised by its content, and a stretch that was
stored before a crash is known by its digest to the store.
INVARIANT: no agent takes more than its share of a stretch, and all of them not more than the folder may hold; a stretch
that cannot be merged is set aside. What is not kept is counted and told.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.controller.intake import spooling
from ringfence.controller.intake.spooling import Record
from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import Conversations
from ringfence.core.flow.leases import LeaseTable
from ringfence.core.flow.programs import Programs
from ringfence.core.flow.tally import FileReport
from ringfence.core.identity.inventory import Inventory
from ringfence.flows.agent import Addresses, Judged, Report, judged, merge
from ringfence.ports.flow_store import FlowStore
from ringfence.wire.columns import FlowRows, decode, rows_in

_log = logging.getLogger(__name__)
STRETCH_S: Final = 60
"""What agents report at once, by default."""
SETTLE_SHARE: Final = 0.75
"""Of a stretch: how long after it its last batches may come; later ones fall into the stretch in which they come."""
_SYNC_S: Final = 0.05
_REMEMBERED: Final = 10
_TRIES: Final = (3, 40)
"""So often a stretch may fail to be stored before it is set aside: while others are stored, and at all."""
_PARKED: Final = 16
_NOISE: Final = (20, 0.05)
"""False rows that an agent may report in a stretch, at least and of all its rows, before it is told of."""


class Limits(msgspec.Struct, frozen=True):
    """What is kept. Beyond it batches are lost."""

    agent_bytes: int = 4 << 20
    """Of one agent in one stretch."""
    agent_rows: int = 1 << 18
    folder_bytes: int = 2 << 30
    rows_at_once: int = 1 << 19
    """How many rows are merged in memory at a time."""


DEFAULT: Final = Limits()


class Taken(NamedTuple):
    """What became of the stretches that were over."""

    stored: int
    """Conversations."""
    rows: int
    false: dict[str, int]
    """UUID -> rows that speak for other agents' hosts, of those who report more than noise."""
    lost: dict[str, int]
    """UUID -> rows beyond its share, since it was last asked."""


class _Ground(NamedTuple):
    inventory: Inventory
    leases: LeaseTable
    spoken_for: Addresses


class Incoming:
    """The folder of raw batches: a file for each stretch, in order of arrival."""

    def __init__(
        self, folder: Path, clock: Callable[[], float], limits: Limits = DEFAULT, *, stretch_s: int = STRETCH_S
    ) -> None:
        """`stretch_s`: no shorter than agents wait between two reports."""
        self._folder, self._clock, self._limits, self._stretch_s = folder, clock, limits, stretch_s
        folder.mkdir(parents=True, exist_ok=True)
        self._known: dict[bytes, int] = {}
        """Digest -> stretch, of batches that are on disk."""
        self._pending: dict[bytes, asyncio.Future[None]] = {}
        """Those that are written, and not yet synced."""
        self._good: dict[int, int] = {}
        """Stretch (its first second) -> bytes of whole records."""
        self._bytes: Counter[UUID] = Counter()
        self._rows: Counter[UUID] = Counter()
        """Of the present stretch."""
        self._lost: Counter[str] = Counter()
        self._unsynced: list[tuple[bytes, int]] = []
        self._stretch, self._used = -1, 0
        self._syncing: asyncio.Task[None]
        self._failures: Counter[str] = Counter()
        self.batches = self.rows = self.malformed = self.lost = self.parked = self.foreign = 0

    # ---- keeping ----------------------------------------------------------------------------------------------------

    async def keep(self, sender: UUID, data: bytes) -> None:
        """Return when the batch is on disk, or counted as lost. Raises OSError."""
        record = Record(sender, data, spooling.digest_of(sender, data))
        self._turn(int(self._clock()) // self._stretch_s * self._stretch_s)
        if record.digest in self._known:
            return
        if record.digest not in self._pending:
            if not self._has_room(record):
                return
            self._write(record)
        await asyncio.shield(self._pending[record.digest])

    def _turn(self, stretch: int) -> None:
        """Begin another stretch."""
        if stretch == self._stretch:
            return
        self._stretch = stretch
        self._bytes.clear()
        self._rows.clear()
        oldest = _REMEMBERED * self._stretch_s
        self._known = {digest: at for digest, at in self._known.items() if at >= stretch - oldest}
        self._good = {stretch: self._recovered(stretch)}
        self._used = sum(path.stat().st_size for path in self._folder.iterdir())

    def _recovered(self, stretch: int) -> int:
        """The whole records of a file that an earlier run began: how many bytes they take."""
        path, good = self._path(stretch), 0
        for record in spooling.records(path) if path.exists() else ():
            self._known[record.digest] = stretch
            good += record.size
        return good

    def _has_room(self, record: Record) -> bool:
        try:
            rows = rows_in(record.data)
        except InputError as error:
            self.malformed += 1
            _log.warning("a flow batch of `%s` cannot be read: %s", record.sender, error)
            return False
        limits, sender = self._limits, record.sender
        fits = (
            self._bytes[sender] + record.size <= limits.agent_bytes and self._rows[sender] + rows <= limits.agent_rows
        )
        if not fits or self._used + record.size > limits.folder_bytes:
            self.lost += 1
            self._lost[str(sender)] += rows
            return False
        self._bytes[sender] += record.size
        self._rows[sender] += rows
        return True

    def _write(self, record: Record) -> None:
        stretch = self._stretch
        self._good[stretch] = spooling.append(self._path(stretch), record, self._good[stretch])
        self._used += record.size
        self._pending[record.digest] = asyncio.get_running_loop().create_future()
        self._unsynced.append((record.digest, stretch))
        if len(self._unsynced) == 1:
            self._syncing = asyncio.create_task(self._sync())

    async def _sync(self) -> None:
        """One sync for all that came in a moment."""
        await asyncio.sleep(_SYNC_S)
        written, self._unsynced = self._unsynced, []
        paths = [self._path(stretch) for stretch in {stretch for _, stretch in written}]
        try:
            await asyncio.to_thread(spooling.sync, paths, self._folder)
        except OSError as error:
            for digest, _ in written:
                future = self._pending.pop(digest)
                future.set_exception(error)
                future.exception()
            return
        for digest, stretch in written:
            self._known[digest] = stretch
            self._pending.pop(digest).set_result(None)

    def _path(self, stretch: int) -> Path:
        return self._folder / f"{stretch}.batches"

    # ---- taking -----------------------------------------------------------------------------------------------------

    def has_settled(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._settled()) or bool(self._lost)

    def _settled(self) -> list[Path]:
        before = self._clock() - SETTLE_SHARE * self._stretch_s - self._stretch_s
        paths = (path for path in self._folder.glob("*.batches") if int(path.stem) <= before)
        return sorted(paths, key=lambda path: int(path.stem))

    def take(self, inventory: Inventory, store: FlowStore) -> Taken:
        """Judge, merge and store every stretch that has settled. `inventory` has the history of its addresses. Slow:
        for a thread. Raises what the store raised last, after every stretch was tried."""
        lost, self._lost = self._lost, Counter()
        taken = Taken(0, 0, {}, dict(lost))
        ground = _Ground(inventory, LeaseTable.of(inventory), Addresses.of(inventory.workloads))
        failure: Exception | None = None
        failed = []
        for path in self._settled():
            try:
                taken = self._stored(path, ground, store, taken)
            except _Unmergeable as error:
                _log.exception("the flows of `%s` cannot be merged, and are set aside", path.name)
                self._park(path)
                failure = error
            except Exception as error:  # whatever one stretch does to the store must not keep the others out
                _log.exception("the flows of `%s` are not stored", path.name)
                self._failures[path.name] += 1
                failed.append(path)
                failure = error
        most = _TRIES[0] if taken.rows else _TRIES[1]
        for path in failed:
            if self._failures[path.name] >= most:
                self._park(path)
        if failure is not None and not taken.rows:
            self._lost.update(lost)
            raise failure
        return taken

    def _park(self, path: Path) -> None:
        """Out of the way, for somebody to look at; the oldest ones are forgotten."""
        path.rename(path.with_suffix(".parked"))
        self._failures.pop(path.name, None)
        self.parked += 1
        held = sorted(self._folder.glob("*.parked"), key=lambda p: int(p.stem))
        size = sum(one.stat().st_size for one in held)
        for number, old in enumerate(held, 1 - len(held)):
            if -number >= _PARKED or size > self._limits.folder_bytes // 4:
                size -= old.stat().st_size
                old.unlink()

    def _stored(self, path: Path, ground: _Ground, store: FlowStore, taken: Taken) -> Taken:
        reading = _Reading(path, ground, self._limits.rows_at_once)
        stored = 0
        for part in range(reading.parts):
            digest = hashlib.sha256(f"{reading.digest} {part} {reading.parts}".encode()).hexdigest()
            if store.known_files([digest]):
                continue
            found, programs, rows = reading.merged(part)
            name, size = f"agents/{path.stem}", path.stat().st_size
            report = FileReport(name, "agents", digest=digest, size_bytes=size, lines=rows, records=rows)
            store.append(found, (report,), programs)
            stored += len(found)
        path.unlink()
        self._failures.pop(path.name, None)
        self.batches += reading.batches
        self.rows += reading.rows
        self.malformed += reading.malformed
        self.foreign += sum(reading.foreign.values())
        false = Counter(taken.false) + Counter(reading.liars())
        return Taken(taken.stored + stored, taken.rows + reading.rows, dict(false), taken.lost)


class _Unmergeable(Exception):
    """A stretch is at fault, whatever the store says."""


class _Reading:
    """One stretch, in parts that fit the memory: rows of the same ends are in the same part.

    INVARIANT: how many parts there are follows from the file alone, so that a part is known again after a crash.
    """

    def __init__(self, path: Path, ground: _Ground, rows_at_once: int) -> None:
        self._path, self._ground = path, ground
        self.batches = self.rows = self.malformed = 0
        self.foreign: Counter[str] = Counter()
        self._false: Counter[str] = Counter()
        self._by: Counter[str] = Counter()
        self._reports: list[Report] | None = []
        digest = hashlib.sha256()
        try:
            for record, rows in self._read():
                digest.update(record.digest)
                self._count(record, rows)
                if self.rows > rows_at_once:
                    self._reports = None
        except Exception as error:  # an unforeseen fault of one batch must not stop the stretches that follow
            raise _Unmergeable(str(error)) from error
        self.digest = digest.hexdigest()
        self.parts = max(1, -(-self.rows // rows_at_once))

    def _read(self) -> Iterator[tuple[Record, FlowRows | None]]:
        """Every batch once, None where it cannot be read."""
        seen: set[bytes] = set()
        for record in spooling.records(self._path):
            if record.digest in seen:
                continue
            seen.add(record.digest)
            try:
                yield record, decode(record.data)
            except InputError as error:
                _log.warning("a flow batch of `%s` cannot be read: %s", record.sender, error)
                yield record, None

    def _count(self, record: Record, rows: FlowRows | None) -> None:
        self.batches += 1
        if rows is None:
            self.malformed += 1
            return
        sender = str(record.sender)
        found = self._judged(sender, rows)
        self.rows += len(rows)
        self._by[sender] += len(rows)
        self.foreign[sender] += found.foreign
        self._false[sender] += found.false
        if self._reports is not None:
            self._reports.append(Report(found.rows))

    def _judged(self, sender: str, rows: FlowRows) -> Judged:
        workload = self._ground.inventory.by_uuid.get(sender)
        return judged(rows, workload.addresses if workload is not None else (), self._ground.spoken_for)

    def liars(self) -> dict[str, int]:
        """Who speaks for others, beyond what clocks and caches explain."""
        least, share = _NOISE
        return {u: n for u, n in self._false.items() if n > least and n > share * self._by[u]}

    def merged(self, part: int) -> tuple[Conversations, Programs, int]:
        """The conversations of one part, the programs at their ends, and of how many rows they are."""
        try:
            reports = self._reports if self._reports is not None else list(self._part(part))
            return *merge(reports, self._ground.leases), sum(len(report.rows) for report in reports)
        except Exception as error:  # as above
            raise _Unmergeable(str(error)) from error

    def _part(self, part: int) -> Iterator[Report]:
        for record, rows in self._read():
            if rows is None:
                continue
            kept = self._judged(str(record.sender), rows).rows
            yield Report(kept.where(_spread(kept) % np.uint64(self.parts) == part))


def _spread(rows: FlowRows) -> NDArray[np.uint64]:
    """A number that is the same for the same ends and service."""
    mixed = rows.source_lo * np.uint64(0x9E3779B97F4A7C15) ^ rows.destination_lo * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed ^= (rows.source_hi ^ rows.destination_hi << np.uint64(1)) + rows.point.astype(np.uint64)
    out: NDArray[np.uint64] = mixed >> np.uint64(17)
    return out
