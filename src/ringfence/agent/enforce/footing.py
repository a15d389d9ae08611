"""Where one host stands: what became of what it was told, and the way to change, tell and keep it.

The enforcer's parts share it: `applying` and `settling` change it, everything on the event loop.

INVARIANT: the rules are touched in one thread, one thing after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from ringfence.agent.clock import Clock
from ringfence.agent.enforce.telling import Rejection, Telling
from ringfence.agent.enforce.witness import Witness
from ringfence.agent.held.breakglass import Disabled
from ringfence.agent.held.disk import Disk, Record
from ringfence.agent.held.held import Held, News
from ringfence.agent.held.keeper import Keeper
from ringfence.agent.held.wanted import Wanted, wanted
from ringfence.core.intent.model import Intent, Passage

T = TypeVar("T")


class Taken(NamedTuple):
    """Up to where the step of now took the news: what it may tell as done. What comes meanwhile is the next one's."""

    change: int = 0
    isolations: int = 0


class Footing:
    """Of one host."""

    def __init__(
        self, held: Held, point: Witness, disk: Disk, *, clock: Clock, telling: Telling, record: Record | None
    ) -> None:
        """`record`: what was on the disk."""
        self.held, self.point, self.clock, self.telling = held, point, clock, telling
        self.disabled: Disabled | None = None
        self.rejected = record.rejected if record else 0
        """The revision of an assignment that is not enforced: it failed its trial, or was refused."""
        self.refusal: tuple[str, ...] = record.refusal if record else ()
        """Why it was refused; empty where it failed its trial."""
        self.failure: tuple[str, ...] = ()
        """Why it failed its trial, as long as this agent runs."""
        self.channel: tuple[Passage, ...] = record.channel if record else ()
        self.change = 0
        """The revision of the last Change that was heard."""
        self.taken = Taken()
        self.in_force: Intent | None = None
        """As last read back; None: nothing was yet."""
        self.is_over = False
        """The rules are left alone from now on."""
        self.keeper = telling.keeper = Keeper(disk, held, self._record, self._disk_said)
        self._thread = ThreadPoolExecutor(1, "rules")

    @property
    def rejection(self) -> Rejection:
        return Rejection(self.rejected, self.refusal, self.failure)

    def wanted(self) -> Wanted | None:
        """What should be in the kernel now; None while nothing is held."""
        return wanted(self.held, self.clock.now(), rejected=self.rejected, channel=self.channel, disabled=self.disabled)

    def take_news(self) -> News:
        self.taken = Taken(self.change, self.held.isolations.revision if self.held.isolations else 0)
        return self.held.take_news()

    def save(self) -> None:
        """All of it."""
        if not self.is_over:
            self.keeper.save()

    def reject(self, revision: int, *, refusal: tuple[str, ...] = (), failure: tuple[str, ...] = ()) -> None:
        """It is not enforced: it is refused because of these, or failed its trial because of those."""
        self.rejected, self.refusal, self.failure = revision, refusal, failure
        self.save()

    async def in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def close(self) -> None:
        await self.keeper.close()
        await self.telling.close()
        await self.in_thread(self.point.close)
        self._thread.shutdown(wait=True)

    def _disk_said(self, why: str) -> None:
        if not why:
            self.telling.event("disk-recovered", "what this host enforces is on the disk again")
            return
        self.telling.event("disk-refused", f"what this host enforces is kept in memory only: {why}")

    def _record(self) -> Record:
        return Record(self.held.workload, self.held.snapshot(), self.rejected, self.refusal, self.channel)
