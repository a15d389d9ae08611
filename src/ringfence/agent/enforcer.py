"""From what is held to what is in the kernel, one step at a time, and truthfully told.

    enforcer.news()            something was heard: look again (as often as you like; the newest wins)
    await enforcer.run()       until cancelled; leaves the rules where they are

    move, isolate -> read back -> told                members and quarantines: at the cost of the change
    converge -> read back -> told                     every other change, serialised, in a thread of its own
    try -> probes and control channel -> confirm      a policy with a trial; else the one before decides again
    somebody touched the rules -> told -> converge    as soon as the kernel says so

INVARIANT: what is told was read back. A refusal changes nothing but what it is about: the policy before it stays, with
the members and quarantines of now.
INVARIANT: nothing here waits for the network but a trial, which ends without it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from ringfence.agent.breakglass import Disabled
from ringfence.agent.clock import Clock
from ringfence.agent.disk import Disk, Record
from ringfence.agent.held import Held, News
from ringfence.agent.keeper import Keeper
from ringfence.agent.point import Point
from ringfence.agent.severing import Severing
from ringfence.agent.swift import Ground, Swift
from ringfence.agent.tampering import Tampering
from ringfence.agent.telling import Telling, isolations_of, realised_of
from ringfence.agent.trial import Trial, Works
from ringfence.agent.wanted import Wanted, quarantine_of, wanted
from ringfence.core.errors import FindingsError, RingfenceError, TargetError
from ringfence.core.intent.model import Intent, Passage
from ringfence.ports.target import Observed, State
from ringfence.wire.messages import Assignment, Event, Realised

_log = logging.getLogger(__name__)
T = TypeVar("T")
RETRY_S: Final = (1.0, 60.0)
UNWATCHED_AUDIT_S: Final = 10.0
_STATES: dict[str, State] = {"not-realised": "drifted", "not-permitted": "unreachable", "unreachable": "unreachable"}
UNCONFIRMED = ("nobody confirmed it in time: no agent ran",)


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
        self.held, self.point, self.clock = held, point, clock or Clock()
        self._telling = Telling(self.clock, tell, on_realised)
        self.disabled: Disabled | None = None
        self.is_cloned = False
        self.change = 0
        """The revision of the last Change that was heard."""
        self.rejected = record.rejected if record else 0
        """The revision of an assignment that is not enforced: it failed its trial, or was refused."""
        self.refusal: tuple[str, ...] = record.refusal if record else ()
        """Why it was refused; empty where it failed its trial."""
        self.channel: tuple[Passage, ...] = record.channel if record else ()
        self.in_force: Intent | None = None
        """As last read back; None: nothing was yet."""
        self._works, self._on_intent = works, on_intent
        self._timing = timing or Timing()
        self._news = asyncio.Event()
        self._news.set()
        self._thread = ThreadPoolExecutor(1, "rules")
        self._keeper = Keeper(disk, self._record, self._disk_refused)
        self._tampering = Tampering(point, self._hear)
        self._severing = Severing()
        self._swift = Swift(held, point, self._in_thread, self._took)
        self._trial: Trial | None = None
        self._ground: Ground | None = None
        self._turns_at: datetime | None = None
        self._failures = 0
        self._audit_at = self._retry_at = self._calm_at = 0.0
        self._is_over = self._insists = False

    # ---- from outside -----------------------------------------------------------------------------------------------

    def news(self) -> None:
        """What is held, disabled, or known of the way to the controller may have changed."""
        self._retry_at = 0.0
        self._news.set()

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
            self._end_trial()
            self._tampering.close()

    async def close(self) -> None:
        """Keep what is to be kept, and let go of the rules."""
        await self._keeper.close()
        await self._in_thread(self.point.close)
        self._thread.shutdown(wait=True)

    async def step(self) -> None:
        """Bring the kernel to what is wanted now."""
        if self._is_over or time.monotonic() < self._retry_at:
            return
        self._retry_at = 0.0
        self._tampering.open()
        self._end_disabled()
        news = self.held.take_news()
        if not await self._follow(news):
            await self._whole()
        if news.is_any or self._keeper.is_behind:
            self._save()
        if self._severing.take():
            await self._sever()

    async def _sever(self) -> None:
        try:
            await self._in_thread(self.point.sever)
        except RingfenceError as error:
            _log.info("programs learn of cut connections by their own timeouts: %s", error)

    async def _whole(self) -> None:
        self._insists = False
        self._try_refused_again()
        await self._tell_tampering()
        await self._settle_trial()
        found = self.wanted()
        if self._turns_at is not None and self._turns_at <= self.clock.now():
            self._save()  # what the time closed stays closed after a restart, whatever the clock says then
        self._turns_at = self.held.turns_at(self.clock.now())
        if found is None:
            await self._nothing_held()
            return
        await self._haste(found)
        await self._enforce(found)

    def wanted(self) -> Wanted | None:
        """What should be in the kernel now; None while nothing is held."""
        return wanted(self.held, self.clock.now(), rejected=self.rejected, channel=self.channel, disabled=self.disabled)

    async def last(self, work: Callable[[], None]) -> None:
        """Something to do with the rules after which they are left alone."""
        self._is_over = True
        self._end_trial()
        await self._in_thread(work)

    @property
    def realised(self) -> Realised:
        """As told last."""
        return self._telling.realised

    @property
    def trial_left_s(self) -> float:
        """How long the policy in force has to prove itself; 0 when it has, or need not."""
        return self._trial.left_s if self._trial is not None else 0.0

    # ---- waiting ----------------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Until there is something to do."""
        if self._is_over:
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
        if self._retry_at:
            return max(0.0, self._retry_at - now)
        left = [self._audit_at - now]
        if self._severing.next_at is not None:
            left.append(self._severing.next_at - now)
        if self._trial is not None:
            left.append(self._trial.left_s)
        if self.disabled is not None:
            left.append(self.disabled.left_s(clock))
        if self._turns_at is not None:
            left.append((self._turns_at - clock.now()).total_seconds())
        return max(0.0, min(left))

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
        if self.disabled is not None or not ground.stands(self.held, now, self.channel):
            return False
        after = self._ground = await self._swift.step(ground, news, now)
        if after is None:
            return False
        digest = self.realised.digest if after is ground else after.policy.digest
        self._telling.change(change=self.change, isolations=isolations_of(self.held), digest=digest)
        return True

    def _is_due(self) -> bool:
        turns = self._turns_at is not None and self._turns_at <= self.clock.now()
        return turns or self._audit_at <= time.monotonic()

    # ---- tampering --------------------------------------------------------------------------------------------------

    async def _tell_tampering(self) -> None:
        """What was heard; when it is time, what everything read anew says, too."""
        words = self._tampering.take()
        if self.in_force is not None and self._audit_at <= time.monotonic() and self._trial is None:
            self._begin_audit()
            try:
                words = words or await self._in_thread(self.point.audit, self.in_force)
            except RingfenceError as error:
                _log.info("the rules were not audited: %s", error)
        if words:
            self._calm_at = time.monotonic() + self._timing.watch_s
            self._telling.event("tampered", "somebody changed the rules of this host; they are put right", words)

    # ---- applying ---------------------------------------------------------------------------------------------------

    async def _haste(self, found: Wanted) -> None:
        """A quarantine does not wait for the policy that comes with it."""
        first = quarantine_of(self.in_force, found.intent) if self.in_force is not None else None
        left = self._trial.left_s if self._trial else None
        if first is None or left == 0:
            return
        try:
            self._took(first, await self._in_thread(self.point.isolate, first))
        except RingfenceError as error:
            _log.warning("a quarantine waits for the policy: %s", error)

    async def _enforce(self, found: Wanted) -> None:
        self._begin_audit()
        if self._trial is None or self._trial.assignment is not found.assignment:
            self.held.applying = found.assignment
        try:
            if not await self._begin_trial(found):
                return
            how = found.how(self._trial.left_s if self._trial else None)
            observed = await self._in_thread(self.point.converge, found.intent, how)
        except FindingsError as error:
            self._refuse(found, error)
            return
        except RingfenceError as error:
            self._fail(error)
            return
        self._failures = 0
        self._took(found.intent, observed, found.assignment)
        if self._trial is not None:
            self._trial.start(self._works, found.trial.probes if found.trial else (), self.news)
        elif not found.is_reverted and self.disabled is None:
            self._confirm_held(found)
        told = realised_of(
            found, observed, self.held, change=self.change, refusal=self.refusal, is_disguised=self.disabled is not None
        )
        self._telling.report(msgspec.structs.replace(told, on_trial=self._trial is not None))
        is_itself = self._trial is None and self.disabled is None and not found.is_reverted
        if is_itself and self.realised.state == "realised":
            self._ground = Ground(found.name, self.channel, found.policy, found.intent)

    def _refuse(self, found: Wanted, error: FindingsError) -> None:
        """The policy before it stays, over the members and quarantines of now."""
        problems = tuple(str(finding) for finding in error.findings)
        self._end_trial()
        if found.is_reverted:  # the one before is refused, too: the kernel keeps what it has
            self._fail(error)
            return
        if problems != self.refusal:
            self._telling.event(
                "policy-refused", f"revision {found.assignment.revision} cannot be enforced here", problems
            )
        self.rejected, self.refusal = found.assignment.revision, problems
        self._save()
        self._telling.change(state="refused", problems=problems)
        self._news.set()

    def _try_refused_again(self) -> None:
        """What a host refuses may become possible: a unit starts, a module is loaded."""
        if self.refusal and time.monotonic() >= self._audit_at:
            self.rejected = 0

    def _fail(self, error: RingfenceError) -> None:
        """The old rules are in force. Try again, later each time."""
        first_s, most_s = RETRY_S
        pause = min(most_s, first_s * 2.0 ** min(self._failures, 16)) * random.uniform(0.5, 1.0)
        self._failures += 1
        if self._trial is not None:
            pause = min(pause, self._trial.left_s)
        self._retry_at = time.monotonic() + pause
        state: State = "refused" if isinstance(error, FindingsError) else _STATES.get(error.code, "pending")
        if self._failures == 1:
            self._telling.event("not-applied", error.message, (str(error),))
        problems = (f"{error.code}: {error.message}",)
        self._telling.change(state=state, problems=problems)

    async def _nothing_held(self) -> None:
        """Nothing was heard yet: whatever is in the kernel stays."""
        self._begin_audit()
        try:
            found = await self._in_thread(self.point.observe)
        except RingfenceError as error:
            self._fail(error)
            return
        state: State = "absent" if found.state == "absent" else "pending"
        self._telling.report(Realised(state, digest=found.digest))

    def _took(self, intent: Intent, observed: Observed, by: Assignment | None = None) -> None:
        """`by`: whose word says what becomes of live connections; else they were cut."""
        self._severing.note(observed, grace_s=by.grace_s if by is not None and by.live == "drain" else 0.0)
        self.in_force = intent
        self._on_intent(intent)

    # ---- trials -----------------------------------------------------------------------------------------------------

    async def _begin_trial(self, found: Wanted) -> bool:
        """False where it was tried before, and the kernel took it back."""
        if found.trial is None:
            self._end_trial()
            return True
        if self._trial is not None and self._trial.revision == found.assignment.revision:
            return True
        self._end_trial()
        tried, seconds = await self._in_thread(self.point.tried), float(found.trial.seconds)
        if tried is not None and tried.policy == found.name:
            seconds = min(seconds, tried.left_s)
        if seconds == 0:
            self._give_up(found.assignment.revision, UNCONFIRMED)
            self._news.set()
            return False
        self._trial = Trial(found.assignment, seconds)
        return True

    async def _settle_trial(self) -> None:
        """Confirm what works; give up what ran out of time."""
        trial = self._trial
        if trial is None or not trial.is_decided:
            return
        problems = trial.problems
        if trial.works and trial.left_s > 0:
            try:
                await self._in_thread(self.point.confirm)
                self._end_trial()
                self.held.confirm(trial.assignment)
                self._save()
                return
            except TargetError as error:
                problems = (error.message,)
        self._give_up(trial.revision, problems)

    def _give_up(self, revision: int, problems: tuple[str, ...]) -> None:
        self._end_trial()
        self.rejected, self.refusal = revision, ()
        self._save()
        self._telling.event("trial-reverted", f"revision {revision} did not prove itself and is taken back", problems)

    def _end_trial(self) -> None:
        trial, self._trial = self._trial, None
        if trial is not None:
            trial.end()

    def _confirm_held(self, found: Wanted) -> None:
        if self.held.confirmed is not found.assignment:
            self.held.confirm(found.assignment)
            self._save()

    def _end_disabled(self) -> None:
        if self.disabled is not None and self.disabled.left_s(self.clock) == 0:
            self.disabled = None
            self._telling.event("enabled", "the time of a break-glass is over; policy is enforced again")

    # ---- disk -------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Enforced first, then kept: a full disk delays nothing, and what is lost is asked for again."""
        if not self._is_over:
            self._keeper.save()

    def _disk_refused(self, why: str) -> None:
        self._telling.event("disk-refused", f"what this host enforces is kept in memory only: {why}")

    def _record(self) -> Record:
        return Record(self.held.workload, self.held.snapshot(), self.rejected, self.refusal, self.channel)

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
