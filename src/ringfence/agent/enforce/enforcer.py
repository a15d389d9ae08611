"""From what is held to what is in the kernel, one step at a time, and truthfully told.

    enforcer.heard(message)    something was heard: keep it, and look again
    enforcer.news()            something else changed: look again (as often as you like; the newest wins)
    await enforcer.run()       until cancelled; leaves the rules where they are

    move, isolate -> read back -> told                members and quarantines: at the cost of the change
    converge -> read back -> told                     every other change, serialised, in a thread (`applying`)
    try -> probes and control channel -> confirm      a policy with a trial; else the one before decides (`settling`)
    somebody touched the rules -> told -> converge    as soon as the kernel says so

INVARIANT: what is told was read back, and is on the disk. What takes a permission away is written before it is
enforced, so that an agent killed at any moment comes back to nothing wider.
INVARIANT: nothing here waits for the network but a trial, which ends without it, nor for the disk but a moment.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final, NamedTuple

from ringfence.agent.clock import Clock
from ringfence.agent.enforce.applying import Applying
from ringfence.agent.enforce.footing import Footing
from ringfence.agent.enforce.settling import Settling
from ringfence.agent.enforce.swift import Ground, Swift
from ringfence.agent.enforce.tampering import Tampering
from ringfence.agent.enforce.telling import Telling
from ringfence.agent.enforce.trial import Works
from ringfence.agent.enforce.witness import Witness
from ringfence.agent.held.disk import Disk, Record
from ringfence.agent.held.held import Held, News
from ringfence.agent.held.journal import Heard
from ringfence.agent.held.wanted import Wanted
from ringfence.agent.point import Point
from ringfence.core.errors import RingfenceError
from ringfence.core.intent.model import Intent, Passage
from ringfence.wire.messages import Event, Realised

_log = logging.getLogger(__name__)
UNWATCHED_AUDIT_S: Final = 10.0
_LOOK_S: Final = 10.0
"""How often to look at the clock while a turn is ahead: somebody may set it."""
_DISK_S: Final = 10.0
"""How often a disk that took nothing is asked again."""
NOW: Final = "somebody changed the rules of this host; they are put right"
MEANWHILE: Final = "the rules of this host were changed while no agent ran; they are put right"


class Timing(NamedTuple):
    """How often the kernel is looked at."""

    watch_s: float = 0.5
    """Between two repairs of what somebody keeps changing; the first is at once."""
    audit_s: float = 300.0


class Enforcer:
    """One host's rules. Everything but the kernel's work happens on the event loop."""

    def __init__(
        self,
        held: Held,
        point: Point,
        disk: Disk,
        *,
        works: Works,
        tell: Callable[[Event], None],
        on_realised: Callable[[Realised], None] = lambda _: None,
        on_intent: Callable[[Intent], None] = lambda _: None,
        clock: Clock | None = None,
        record: Record | None = None,
        timing: Timing | None = None,
    ) -> None:
        """`record`: what was on the disk. `on_intent` hears what is in force."""
        self.held, self.clock = held, clock or Clock()
        self.point = Witness(point, disk.folder, self.clock)
        self.is_cloned = False
        telling = Telling(self.clock, tell, on_realised)
        self.footing = Footing(held, self.point, disk, clock=self.clock, telling=telling, record=record)
        self._timing = timing or Timing()
        self._news = asyncio.Event()
        self._news.set()
        self._tampering = Tampering(point, self._hear)
        self._settling = Settling(self.footing, works, self._news.set)
        self._applying = Applying(
            self.footing, self._settling, on_intent=on_intent, news=self.news, wake=self._news.set
        )
        self._swift = Swift(held, self.point, self.footing.in_thread, self._applying.took)
        self._ground: Ground | None = None
        self._turns_at: datetime | None = None
        self._audit_at = self._calm_at = self._disk_at = 0.0
        self._insists, self._is_first = False, True

    # ---- from outside -----------------------------------------------------------------------------------------------

    def heard(self, message: Heard) -> None:
        """It was taken in."""
        if not self.footing.is_over:
            self.footing.keeper.heard(message)
        self.news()

    def news(self) -> None:
        """What is held, disabled, or known of the way to the controller may have changed."""
        self._applying.retry_at = 0.0
        self._news.set()

    def follow(self, channel: tuple[Passage, ...]) -> None:
        """The way to the controller leads here by now."""
        if channel != self.footing.channel:
            self.footing.channel = channel
            self.footing.save()
            self.news()

    def again(self) -> None:
        """What is in the kernel may say something else by now, though nobody wrote to it: compare all of it."""
        self._insists = True
        self.news()

    async def run(self) -> None:
        try:
            while True:
                self._news.clear()
                await self.step()
                await self._wait()
        finally:
            self._settling.end()
            self._tampering.close()

    async def close(self) -> None:
        """Keep what is to be kept, and let go of the rules."""
        await self.footing.close()

    async def step(self) -> None:
        """Bring the kernel to what is wanted now."""
        if self.footing.is_over or time.monotonic() < self._applying.retry_at:
            return
        self._applying.retry_at = 0.0
        self._tampering.open()
        self._end_disabled()
        news = self.footing.take_news()
        if news.moved is None or self.footing.keeper.is_behind:
            self._disk_at = time.monotonic() + _DISK_S
            self.footing.save()
        await self.footing.keeper.written()
        if not await self._follow(news):
            await self._whole()
        await self._applying.sever()

    async def _whole(self) -> None:
        self._insists = False
        self._try_refused_again()
        await self._tell_tampering()
        await self._settling.settle()
        found = self.footing.wanted()
        if self.held.is_turned:
            self.footing.save()  # what the time closed stays closed after a restart, whatever the clock says then
        self._turns_at = self.held.turns_at(self.clock.now())
        self._begin_audit()
        if found is None:
            await self._applying.look()
            return
        await self._tell_meanwhile(found)
        await self._applying.haste(found)
        self._ground = await self._applying.enforce(found)

    async def last(self, work: Callable[[], None]) -> None:
        """Something to do with the rules after which they are left alone."""
        self.footing.is_over = True
        self._settling.end()
        await self.footing.in_thread(work)

    @property
    def realised(self) -> Realised:
        """As told last."""
        return self.footing.telling.told

    @property
    def trial_left_s(self) -> float:
        """How long the policy in force has to prove itself; 0 when it has, or need not."""
        return self._settling.left_s or 0.0

    # ---- waiting ----------------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Until there is something to do."""
        if self.footing.is_over:
            await asyncio.Future()
        while not self._news.is_set() and self._due_in_s():
            try:
                async with asyncio.timeout(self._due_in_s()):
                    await self._news.wait()
            except TimeoutError:
                return

    def _hear(self) -> None:
        """Put right at once what somebody changed, but not over and over."""
        asyncio.get_running_loop().call_later(max(0.0, self._calm_at - time.monotonic()), self._news.set)

    def _due_in_s(self) -> float:
        """How long until the next retry, turn of the policy, audit, end of a trial or of what is disabled."""
        now, clock = time.monotonic(), self.clock
        if self._applying.retry_at:
            return max(0.0, self._applying.retry_at - now)
        left = [self._audit_at - now]
        if self._applying.severing.next_at is not None:
            left.append(self._applying.severing.next_at - now)
        if self._settling.left_s is not None:
            left.append(self._settling.left_s)
        if self.footing.keeper.is_behind:
            left.append(self._disk_at - now)
        if self.footing.disabled is not None:
            left.append(self.footing.disabled.left_s(clock))
        if self._turns_at is not None:
            left.append(min(_LOOK_S, (self._turns_at - clock.now()).total_seconds()))
        return max(0.0, min(left))

    def _is_turning(self) -> bool:
        return self._turns_at is not None and self._turns_at <= self.clock.now()

    def _is_due(self) -> bool:
        return self._is_turning() or self._audit_at <= time.monotonic()

    def _begin_audit(self) -> None:
        """INVARIANT: hosts that started together do not audit together."""
        most_s = self._timing.audit_s if self._tampering.is_open else min(self._timing.audit_s, UNWATCHED_AUDIT_S)
        self._audit_at = time.monotonic() + most_s * random.uniform(0.8, 1.0)

    # ---- the swift way ----------------------------------------------------------------------------------------------

    async def _follow(self, news: News) -> bool:
        """Whether nothing is left to do but what was done: members and quarantines that changed."""
        ground, now = self._ground, self.clock.now()
        self._ground = None  # whatever fails from here on, the next step goes the whole way
        if ground is None or news.moved is None or self._insists or self._tampering or self._is_due():
            return False
        if self.footing.disabled is not None or not ground.stands(self.held, now, self.footing.channel):
            return False
        after = self._ground = await self._swift.step(ground, news, now)
        if after is None:
            return False
        telling = self.footing.telling
        digest = telling.newest.digest if after is ground else after.policy.digest
        telling.change(**self.footing.taken._asdict(), digest=digest)
        return True

    # ---- what others do ---------------------------------------------------------------------------------------------

    async def _tell_tampering(self) -> None:
        """What was heard; when it is time, what everything read anew says, too."""
        words, intent = self._tampering.take(), self.footing.in_force
        if intent is not None and self._audit_at <= time.monotonic() and self._settling.trial is None:
            self._begin_audit()
            try:
                words = words or await self.footing.in_thread(self.point.audit, intent)
            except RingfenceError as error:
                _log.info("the rules were not audited: %s", error)
        if words:
            self._calm_at = time.monotonic() + self._timing.watch_s
            self.footing.telling.event("tampered", NOW, words)

    async def _tell_meanwhile(self, found: Wanted) -> None:
        """Once, before anything is put right: what became of the rules that an agent before this one left."""
        if not self._is_first:
            return
        try:
            words = await self.footing.in_thread(self.point.changed, found.intent)
        except RingfenceError as error:
            _log.info("what happened while no agent ran is not known: %s", error)
            return
        self._is_first = False
        if words:
            self.footing.telling.event("tampered", MEANWHILE, words)

    def _try_refused_again(self) -> None:
        """What a host refuses may become possible: a unit starts, a module is loaded."""
        if self.footing.refusal and time.monotonic() >= self._audit_at:
            self.footing.rejected = 0

    def _end_disabled(self) -> None:
        footing = self.footing
        if footing.disabled is not None and footing.disabled.left_s(self.clock) == 0:
            footing.disabled = None
            footing.telling.event("enabled", "the time of a break-glass is over; policy is enforced again")
