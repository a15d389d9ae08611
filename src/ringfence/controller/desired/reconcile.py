"""From the state to what every host must enforce, kept up as the state changes.

    state (workloads, policies, rollout, quarantines) -> Desired, Isolating -> News -> the bus

INVARIANT: a revision is taken from the state before it is used, in blocks, so that none is used twice whatever crashes.
INVARIANT: quarantine waits for nothing: it is worked out in a thread of its own, beside whatever is being compiled, and
an address an isolated workload came to is isolated before anything it might be granted is told. No thread it needs is
shared with what people ask.
INVARIANT: a quarantine binds every address its workload held since it began. They are written down, so that neither
the isolated host nor a restart sheds one.
INVARIANT: what is remembered for a restart is gone from the disk before anything newer is told. What became as it was
again would else keep its old revision after a crash, and who heard of the change between would never take it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from ringfence.controller import audit
from ringfence.controller.desired.desired import Desired, News, Remembered
from ringfence.controller.desired.inputs import Inputs
from ringfence.controller.desired.isolating import Isolating
from ringfence.controller.desired.restored import since_restore
from ringfence.controller.looping import tell_failure
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload
from ringfence.core.intent.isolate import bound_addresses, live_quarantines
from ringfence.core.net.address import format_address
from ringfence.core.world import Quarantine
from ringfence.durable import read_secret, remove_secret, write_secret
from ringfence.ports.state import Change, QuarantineRecord, State, StateError, Where
from ringfence.wire.messages import Assignment, Isolations

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
        self._isolator = ThreadPoolExecutor(1, thread_name_prefix="isolator")
        self._rememberer = ThreadPoolExecutor(2, thread_name_prefix="rememberer")  # forgetting waits for no writing
        self._turn = asyncio.Lock()
        self._limit = 0
        self._is_dirty = False
        self._is_remembered = True
        self._changes = 0
        self._everywhere: frozenset[frozenset[str]] = frozenset()
        """Every set of networks that some host is in, or was."""
        self._written: dict[str, tuple[Lease, ...]] = {}
        """The addresses bound by quarantines, by workload, as the state has them."""
        self.desired: Desired
        self.isolating: Isolating
        self.inputs: Inputs
        self.quarantines: tuple[Quarantine, ...] = ()
        self.on_news: Callable[[News], Awaitable[None]] = _nobody
        self.contested: Callable[[str], frozenset[int]] = lambda uuid: frozenset()
        """The addresses that a workload holds together with another, which had them first."""
        self.on_bound: Callable[[str, tuple[str, ...]], None] = lambda uuid, addresses: None
        """A workload in quarantine came to addresses, which are bound with it."""
        self.on_isolations: Callable[[Iterable[Isolations]], Awaitable[None]] = _nobody

    async def start(self, inputs: Inputs, quarantines: tuple[Quarantine, ...]) -> None:
        """Compile what is; tell nobody: agents that have it hear nothing, the others ask."""
        self.inputs = inputs
        self._take(quarantines)
        revision, isolations = await self._state.write(_new_blocks)
        self._limit = revision + BLOCK
        remembered = await asyncio.to_thread(self._recall)
        remembered = msgspec.structs.replace(remembered, revision=revision)
        self.desired = await self._in_thread(lambda: Desired(inputs, remembered))
        self.isolating = Isolating(isolations, remembered.isolations)
        if inputs.is_held:
            self.isolating.since = await self._state.read(since_restore)
        self._everywhere = frozenset(self.desired.everywhere)
        await self._resolve(inputs.at)
        self._is_dirty = True
        await self._forget()
        await self.remember()
        await self._write_bound()

    async def close(self) -> None:
        await self.remember()
        self._thread.shutdown()
        self._isolator.shutdown()
        self._rememberer.shutdown()

    # ---- changes ----------------------------------------------------------------------------------------------------

    async def put_workload(self, workload: Workload) -> None:
        """A workload that came or changed, as the state has it."""
        before = self.inputs.inventory.by_uuid.get(workload.uuid)
        self._hold(self.inputs.inventory.replacing(before, workload))
        await self._follow(lambda: self.desired.put_workload(workload))

    async def put_workloads(self, workloads: Collection[Workload]) -> None:
        """Many that came or changed, as the state has them: followed in one step."""
        self._hold(self.inputs.inventory.replacing_all(workloads))
        await self._follow(lambda: self.desired.put_workloads(workloads))

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
        self._take(quarantines)
        if self.isolating.since is not None:
            self.isolating.since = await self._state.read(since_restore)
        news = await self._isolate()
        await self._write_bound()
        return news

    async def reveal(self) -> None:
        """What was withheld of quarantines is told: hosts hold these and no others."""
        self.isolating.since = None
        await self._isolate()

    @property
    def revisions(self) -> tuple[int, int]:
        """The last that were given, of the desired state and of quarantines."""
        return self.desired.revision, self.isolating.revision

    async def leap(self, revision: int, isolations: int) -> None:
        """Step past revisions that a controller in another time gave, and tell everything anew."""
        async with self._turn:
            ours = self.revisions

            def work(tx: Change) -> tuple[int, int]:
                return (
                    _block_past(tx, REVISIONS, max(revision, ours[0])),
                    _block_past(tx, ISOLATIONS, max(isolations, ours[1])),
                )

            self.desired.revision, isolations = await self._state.write(work)
            self._limit = self.desired.revision + BLOCK
        await self._isolate_anew(isolations)
        await self._follow(self.desired.renumber)

    async def _isolate_anew(self, revision: int) -> None:
        loop = asyncio.get_running_loop()
        news = await loop.run_in_executor(self._isolator, self.isolating.anew, revision)
        if news:
            await self._forget()
            await self.on_isolations(news)

    async def turn(self) -> None:
        """Time went by."""
        now = self._clock()
        await self._isolate(at=now)
        await self._write_bound()
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
            except Exception as error:
                tell_failure(_log, "what time changes was not followed", error)

    def _pause(self) -> float:
        now = self._clock()
        turns = (self.desired.turns_at, self.isolating.turns_at(self.quarantines, now))
        waits = [(turn - now).total_seconds() for turn in turns if turn is not None]
        return max(0.05, min((*waits, _REMEMBER_S)))

    # ---- one change at a time ---------------------------------------------------------------------------------------

    def _hold(self, inventory: Inventory) -> None:
        self.inputs = msgspec.structs.replace(self.inputs, inventory=inventory)
        self.quarantines = tuple(map(self._binding, self.quarantines))

    def _take(self, quarantines: Iterable[Quarantine]) -> None:
        """What the state has, with what was bound since it was read."""
        bound = {one.workload: one.addresses for one in live_quarantines(self.quarantines, self._clock())}
        taken = tuple(quarantines)
        self._written = {one.workload: one.addresses for one in taken}
        self.quarantines = tuple(self._binding(one, bound.get(one.workload, ())) for one in taken)

    def _binding(self, quarantine: Quarantine, besides: tuple[Lease, ...] = ()) -> Quarantine:
        """A quarantine that binds what its workload holds now, too; one that ended binds no more. What it contests is
        isolated for as long as it does, and not bound: isolating a liar must not cut off whom it lied about."""
        now = self._clock()
        if not live_quarantines((quarantine,), now):
            return quarantine
        workload = self.inputs.inventory.by_uuid.get(quarantine.workload)
        contested = self.contested(quarantine.workload)
        live = workload.live_addresses(now) if workload is not None else ()
        held = (lease for lease in live if lease.address not in contested)
        addresses = bound_addresses(quarantine.addresses, besides, held)
        if addresses == quarantine.addresses:
            return quarantine
        return msgspec.structs.replace(quarantine, addresses=addresses)

    async def _follow(self, work: Callable[[], News]) -> None:
        """Work out what a change means, and tell it. In the order of the changes."""
        isolated = asyncio.ensure_future(self._isolate())  # at once, whatever is being compiled
        async with self._turn:
            await isolated
            await self._keep_ahead()
            news = await self._in_thread(work)
            self._everywhere |= _networks_of(news.assignments)
            if not news.is_empty:
                await self._forget()
            await self.on_news(news)
        await self._isolate()
        await self._write_bound()

    async def _keep_ahead(self) -> None:
        if self.desired.revision + 2 >= self._limit:
            self._limit = BLOCK + await self._state.write(lambda tx: _block(tx, REVISIONS))
            self.desired.revision = max(self.desired.revision, self._limit - BLOCK)

    async def _isolate(self, at: datetime | None = None) -> tuple[Isolations, ...]:
        news = await self._resolve(at or self._clock())
        if news:
            await self._forget()
            await self.on_isolations(news)
        return news

    async def _resolve(self, at: datetime) -> tuple[Isolations, ...]:
        """What is news of quarantines. Asked for in order, it is worked out in order."""
        what = (self.quarantines, self.inputs.inventory, at, self._everywhere)
        return await asyncio.get_running_loop().run_in_executor(self._isolator, self.isolating.follow, *what)

    async def _write_bound(self) -> None:
        """What quarantines bind that the state does not have yet. What cannot be written is told all the same, and
        written at the next turn."""
        now = self._clock()
        fresh = {q.workload: q.addresses for q in self.quarantines if q.addresses != self._written.get(q.workload)}
        if not fresh:
            return
        try:
            bound = await self._state.write(lambda tx: _bind(tx, fresh, now))
        except StateError:
            _log.exception("the addresses that quarantines bind are not written; it is tried again")
            return
        self._written |= {uuid: addresses for uuid, addresses in fresh.items() if uuid in self._written}
        for uuid, came in bound.items():
            self.on_bound(uuid, came)

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
        content = msgspec.json.encode(remembered)
        await self._on_disk(lambda: write_secret(fresh, content))
        if changes == self._changes:  # else it is old already; nothing can happen between this and the next line
            fresh.replace(self._memory)
            self._is_dirty, self._is_remembered = False, True

    async def _forget(self) -> None:
        """Before anything is told that is not remembered."""
        self._changes += 1
        self._is_dirty = True
        if self._is_remembered:
            self._is_remembered = False
            await self._on_disk(lambda: remove_secret(self._memory))

    async def _on_disk(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._rememberer, work)

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


def _block_past(tx: Change, counter: str, past: int) -> int:
    """The first of a block of numbers beyond one."""
    first = _block(tx, counter)
    return first if first > past else tx.next(counter, past - first + 1) - BLOCK


def _new_blocks(tx: Change) -> tuple[int, int]:
    return _block(tx, REVISIONS), _block(tx, ISOLATIONS)


def _networks_of(assignments: Mapping[str, Assignment]) -> frozenset[frozenset[str]]:
    return frozenset(map(frozenset, {one.networks for one in tuple(assignments.values())}))


def _bind(tx: Change, fresh: Mapping[str, tuple[Lease, ...]], now: datetime) -> dict[str, tuple[str, ...]]:
    """Add addresses to the quarantines in force: what the state has was bound already, and stays. Which are new."""
    came: dict[str, tuple[str, ...]] = {}
    for uuid, addresses in fresh.items():
        for record in tx.find(QuarantineRecord, Where("workload", uuid), Where("released_at", None)):
            bound = bound_addresses(record.addresses, addresses)
            if bound == record.addresses:
                continue
            tx.update(QuarantineRecord, Where("id", record.id), addresses=bound)
            new = [f"{one.network} {format_address(one.address)}" for one in bound if one not in record.addresses]
            came[uuid] = tuple(new)
            details = {"id": record.id, "addresses": new}
            audit.record(tx, at=now, actor="controller", action="quarantine.bind", subject=uuid, details=details)
    return came


async def _nobody(_: object) -> None:
    """Nobody is told."""
