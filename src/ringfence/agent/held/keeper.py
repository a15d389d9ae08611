"""Keeps on the disk what was heard and what became of it, off the event loop.

    keeper.heard(message)       appended to the journal, at the cost of the message
    keeper.save()               the whole record, when more than messages changed
    await keeper.written()      what was heard outlives this process from here on      (before it is enforced)
    await keeper.kept()         ... and this host's next crash                         (before it is told as enforced)

INVARIANT: what was asked for last is what is on the disk in the end; what takes a permission away is there before
anybody is told that it is gone (a restart would give it back).
INVARIANT: a disk that is full, slow or dead delays a rule by WRITTEN_S once, at most, and is told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from ringfence.agent.held.disk import Disk, Record
from ringfence.agent.held.held import Held
from ringfence.agent.held.journal import Heard, Journal, size_of

WRITTEN_S: Final = 0.1
KEPT_S: Final = 5.0
"""After this what is enforced is told, though the disk has not taken it: that it has not is told, too."""
_MOST_BYTES: Final = 1 << 18
"""Of the journal; a record takes its place then."""
_SLOW: Final = "the disk is too slow"


class Keeper:
    """One agent's record and journal."""

    def __init__(self, disk: Disk, held: Held, record: Callable[[], Record], noted: Callable[[str], None]) -> None:
        """`record`: of now; asked for on the event loop. `noted` hears why the disk took nothing; an empty word when it
        took all of it again."""
        self._disk, self._held, self._record, self._noted = disk, held, record, noted
        self._journal = Journal(disk.folder, held.workload)
        self._floor = 0
        """The segment that began with the last record: what the one kept beside it lacks is from there on."""
        self._entries: list[Heard] = []
        self._is_unsaved = self._is_slow = False
        self._is_carrying = self._has_failed = False
        self._carried_bytes = 0
        self._problem = ""
        self._saving: asyncio.Task[None] | None = None
        self._appending: asyncio.Task[None] | None = None
        self._are_written = asyncio.Event()
        self._are_written.set()

    @property
    def is_behind(self) -> bool:
        """The disk took nothing when last asked."""
        return bool(self._problem)

    @property
    def is_kept(self) -> bool:
        """There is nothing to wait for."""
        return not self._at_work()

    # ---- asking -----------------------------------------------------------------------------------------------------

    def heard(self, message: Heard) -> None:
        """After it was taken in; in the order of these calls."""
        self._entries.append(message)
        self._are_written.clear()
        if _is_over(self._appending):
            self._appending = asyncio.get_running_loop().create_task(self._append())

    def save(self) -> None:
        """As it is now, or newer."""
        self._is_unsaved = True
        if _is_over(self._saving):
            self._saving = asyncio.get_running_loop().create_task(self._save())

    async def written(self) -> None:
        """What was heard is out of this process's hands. A disk that once took too long is not waited for again until
        it has caught up."""
        if not self._is_slow and not self._are_written.is_set():
            self._is_slow = not await _within(WRITTEN_S, self._are_written.wait())

    async def kept(self) -> None:
        """What was asked for by now is on the disk, or the disk took nothing, or it is too slow."""
        at_work = self._at_work()
        if at_work and not await _within(KEPT_S, asyncio.wait(at_work)):
            self._note(_SLOW)

    async def close(self) -> None:
        await self.kept()
        self._journal.close()

    def _at_work(self) -> list[asyncio.Task[None]]:
        return [task for task in (self._appending, self._saving) if task is not None and not task.done()]

    # ---- doing ------------------------------------------------------------------------------------------------------

    async def _append(self) -> None:
        while self._entries:
            entries, self._entries = self._entries, []
            try:
                await asyncio.to_thread(self._journal.append, entries)
                if not self._entries:
                    self._are_written.set()
                await asyncio.to_thread(self._journal.sync)
            except OSError as error:
                self._note(error.strerror or str(error))
                self._has_failed = True
                if not self._is_carrying:
                    self.save()  # has all of it
        self._are_written.set()
        self._is_slow = False
        if self._journal.size_bytes - self._carried_bytes > _MOST_BYTES:
            self.save()

    async def _save(self) -> None:
        while self._is_unsaved:
            self._is_unsaved = False
            first, carried = self._journal.turn(), self._held.carried
            self._note(await asyncio.to_thread(self._disk.save, self._record()))
            if not self._problem and await self._carry(carried):
                with contextlib.suppress(OSError):  # what stays is said again, and changes nothing
                    await asyncio.to_thread(self._journal.forget, self._floor)
                self._floor = first

    async def _carry(self, messages: tuple[Heard, ...]) -> bool:
        """Say again, behind a new record, what it lacks; whether that is kept. INVARIANT: what the record and these
        have is in no older segment alone, however long an assignment waits for its pieces."""
        self._carried_bytes = await asyncio.to_thread(size_of, messages)
        if not messages:
            return True
        self._is_carrying, self._has_failed = True, False
        self._entries[:0] = messages
        self._are_written.clear()
        if self._appending is None or self._appending.done():
            self._appending = asyncio.get_running_loop().create_task(self._append())
        await asyncio.wait([self._appending])
        self._is_carrying = False
        return not self._has_failed

    def _note(self, problem: str) -> None:
        before, self._problem = self._problem, problem
        if problem != before:
            self._noted(problem)


def _is_over(task: asyncio.Task[None] | None) -> bool:
    return task is None or task.done()


async def _within(seconds: float, waiting: Awaitable[object]) -> bool:
    """Whether it came in time."""
    try:
        async with asyncio.timeout(seconds):
            await waiting
    except TimeoutError:
        return False
    return True
