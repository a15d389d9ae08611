"""From the state to what every host must enforce, kept up as the state changes.

    state (workloads, policies, rollout, quarantines) -> Desired, Isolating -> News -> the bus

INVARIANT: a revision is taken from the state before it is used, in blocks, so that none is used twice whatever crashes.
INVARIANT: quarantine waits for nothing: it is worked out beside whatever is being compiled.
INVARIANT: what is remembered for a restart is gone from the disk before anything newer is told. What became as it was
again would else keep its old revision after a crash, and who heard of the change between would never take it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from ringfence.bus.secrets import read_secret, remove_secret, write_secret
from ringfence.controller.desired import Desired, Inputs, News, Remembered
from ringfence.controller.isolating import Isolating
from ringfence.core.identity.workload import Workload
from ringfence.core.world import Quarantine
from ringfence.ports.state import Change, State
from ringfence.wire.messages import Isolations

_log = logging.getLogger(__name__)
REVISIONS, ISOLATIONS = "revision", "isolations"
"""Counters of the state."""
BLOCK = 10_000
_REMEMBER_S = 10.0
T = TypeVar("T")


class Reconciler:
    """Owns the desired state. All methods are for one event loop."""

    def __init__(self, state: State, memory: Path, clock: Callable[[], datetime]) -> None:
        """`memory`: a file for what lets agents be after a restart; without it they ask again, no more."""
        self._state, self._memory, self._clock = state, memory, clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compiler")
        self._turn = asyncio.Lock()
        self._limit = 0
        self._is_dirty = False
        self._is_remembered = True
        self._changes = 0
        self.desired: Desired
        self.isolating: Isolating
        self.inputs: Inputs
        self.quarantines: tuple[Quarantine, ...] = ()
        self.on_news: Callable[[News], Awaitable[None]] = _nobody
        self.on_isolations: Callable[[Iterable[Isolations]], Awaitable[None]] = _nobody

    async def start(self, inputs: Inputs, quarantines: tuple[Quarantine, ...]) -> None:
        """Compile what is; tell nobody: agents that have it hear nothing, the others ask."""
        self.inputs, self.quarantines = inputs, quarantines
        revision, isolations = await self._state.write(_new_blocks)
        self._limit = revision + BLOCK
        remembered = await asyncio.to_thread(self._recall)
        remembered = msgspec.structs.replace(remembered, revision=revision)
        self.desired = await self._in_thread(lambda: Desired(inputs, remembered))
        self.isolating = Isolating(isolations, remembered.isolations)
        self.isolating.follow(quarantines, inputs.inventory, inputs.at, self._everywhere)
        self._is_dirty = True
        await self._forget()
        await self.remember()

    async def close(self) -> None:
        await self.remember()
        self._thread.shutdown()

    # ---- changes ----------------------------------------------------------------------------------------------------

    async def put_workload(self, workload: Workload) -> None:
        """A workload that came or changed, as the state has it."""
        before = self.inputs.inventory.by_uuid.get(workload.uuid)
        self._hold(self.inputs.inventory.replacing(before, workload))
        await self._follow(lambda: self.desired.put_workload(workload))

    async def remove_workload(self, uuid: str) -> None:
        before = self.inputs.inventory.by_uuid.get(uuid)
        if before is None:
            return
        self._hold(self.inputs.inventory.replacing(before, None))
        await self._follow(lambda: self.desired.remove_workload(uuid))

    async def change(self, edit: Callable[[Inputs], Inputs]) -> None:
        """Anything but the inventory: policies, rollout, failsafe, names."""
        self.inputs = edit(self.inputs)

        def follow() -> News:
            inventory = self.desired.inputs.inventory  # every workload's change before this one was followed
            return self.desired.follow(msgspec.structs.replace(edit(self.desired.inputs), inventory=inventory))

        await self._follow(follow)

    async def isolate(self, quarantines: tuple[Quarantine, ...]) -> tuple[Isolations, ...]:
        """The quarantines there are from now on. At once."""
        self.quarantines = quarantines
        return await self._isolate()

    async def turn(self) -> None:
        """Time went by."""
        now = self._clock()
        await self._isolate(at=now)
        turns = self.desired.turns_at
        if turns is not None and turns <= now:
            await self.change(lambda inputs: msgspec.structs.replace(inputs, at=now))

    async def keep_turning(self) -> None:
        """Until cancelled: follow the time, and remember."""
        while True:
            await asyncio.sleep(self._pause())
            try:
                await self.turn()
                await self.remember()
            except Exception:
                _log.exception("what time changes was not followed; it is tried again")

    def _pause(self) -> float:
        now = self._clock()
        turns = (self.desired.turns_at, self.isolating.turns_at(self.quarantines, now))
        waits = [(turn - now).total_seconds() for turn in turns if turn is not None]
        return max(0.05, min((*waits, _REMEMBER_S)))

    # ---- one change at a time ---------------------------------------------------------------------------------------

    def _hold(self, inventory: object) -> None:
        self.inputs = msgspec.structs.replace(self.inputs, inventory=inventory)

    async def _follow(self, work: Callable[[], News]) -> None:
        """Work out what a change means, and tell it. In the order of the changes."""
        async with self._turn:
            await self._keep_ahead()
            news = await self._in_thread(work)
            if not news.is_empty:
                await self._forget()
            await self.on_news(news)
        await self._isolate()

    async def _keep_ahead(self) -> None:
        if self.desired.revision + 2 >= self._limit:
            self._limit = BLOCK + await self._state.write(lambda tx: _block(tx, REVISIONS))
            self.desired.revision = max(self.desired.revision, self._limit - BLOCK)

    async def _isolate(self, at: datetime | None = None) -> tuple[Isolations, ...]:
        inputs = self.inputs
        news = self.isolating.follow(self.quarantines, inputs.inventory, at or self._clock(), self._everywhere)
        if news:
            await self._forget()
            await self.on_isolations(news)
        return news

    @property
    def _everywhere(self) -> set[frozenset[str]]:
        return self.desired.everywhere

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # ---- restarts ---------------------------------------------------------------------------------------------------

    async def remember(self) -> None:
        """Write down what lets agents be after a restart."""
        if not self._is_dirty:
            return
        changes = self._changes
        async with self._turn:
            remembered = await self._in_thread(self.desired.remember)
        remembered = msgspec.structs.replace(remembered, isolations=self.isolating.remember())
        fresh = self._memory.with_suffix(".next")
        await asyncio.to_thread(write_secret, fresh, msgspec.json.encode(remembered))
        if changes == self._changes:  # else it is old already; nothing can happen between this and the next line
            fresh.replace(self._memory)
            self._is_dirty, self._is_remembered = False, True

    async def _forget(self) -> None:
        """Before anything is told that is not remembered."""
        self._changes += 1
        self._is_dirty = True
        if self._is_remembered:
            self._is_remembered = False
            await asyncio.to_thread(remove_secret, self._memory)

    def _recall(self) -> Remembered:
        content = read_secret(self._memory)
        try:
            return msgspec.json.decode(content, type=Remembered) if content else Remembered()
        except ValueError:
            _log.warning("`%s` cannot be read; every agent will ask again", self._memory)
            return Remembered()


def _block(tx: Change, counter: str) -> int:
    """The first of a block of numbers nobody used."""
    return tx.next(counter, BLOCK) - BLOCK


def _new_blocks(tx: Change) -> tuple[int, int]:
    return _block(tx, REVISIONS), _block(tx, ISOLATIONS)


async def _nobody(_: object) -> None:
    """Nobody is told."""
