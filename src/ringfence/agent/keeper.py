"""Keeps on the disk what is enforced: after it is enforced, off the event loop, one at a time.

INVARIANT: what was asked for last is what is on the disk in the end; a full disk delays no rule and is told once.
INVARIANT: many changes in a row cost a small share of the time: after each writing there is a pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from ringfence.agent.disk import Disk, Record

_PAUSE_SHARE, _MOST_PAUSE_S = 5.0, 2.0


class Keeper:
    """One agent's record."""

    def __init__(self, disk: Disk, record: Callable[[], Record], refused: Callable[[str], None]) -> None:
        """`record`: of now; asked for on the event loop. `refused` hears why the disk took nothing."""
        self._disk, self._record, self._refused = disk, record, refused
        self._is_unsaved = False
        self._problem = ""
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    @property
    def is_behind(self) -> bool:
        """The disk took nothing when last asked."""
        return bool(self._problem)

    def save(self) -> None:
        """As it is now, or newer."""
        self._is_unsaved = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._save())

    async def close(self) -> None:
        """When all of it is kept, or the disk took nothing."""
        self._closing.set()
        if self._task is not None:
            await self._task

    async def _save(self) -> None:
        while self._is_unsaved:
            self._is_unsaved = False
            began = time.monotonic()
            problem = await asyncio.to_thread(self._disk.save, self._record())
            if problem and problem != self._problem:
                self._refused(problem)
            self._problem = problem
            await self._rest(min(_MOST_PAUSE_S, _PAUSE_SHARE * (time.monotonic() - began)))

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
