"""From what is held to what is in the kernel, one step at a time, and truthfully told.

    enforcer.news()            something was heard: look again (as often as you like; the newest wins)
    await enforcer.run()       until cancelled; leaves the rules where they are

    converge -> read back -> told                     every change, serialised, in a thread of its own
    try -> probes and control channel -> confirm      a policy with a trial; else the one before decides again
    somebody touched the rules -> told -> converge    within `watch_s`

INVARIANT: what is told was read back. A refusal changes nothing but what it is about: the policy before it stays, with
the members and quarantines of now.
INVARIANT: nothing here waits for the network but a trial, which ends without it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from ringfence.agent.breakglass import Disabled
from ringfence.agent.clock import Clock
from ringfence.agent.disk import Disk, Record
from ringfence.agent.held import Held
from ringfence.agent.point import Point
from ringfence.agent.wanted import Wanted, quarantine_of, wanted, widens
from ringfence.core.errors import FindingsError, RingfenceError, TargetError
from ringfence.core.intent.model import Intent, Passage
from ringfence.ports.target import Observed, State
from ringfence.wire.messages import Event, Probe, Realised

_log = logging.getLogger(__name__)
T = TypeVar("T")
Works = Callable[[tuple[Probe, ...]], Awaitable[tuple[str, ...]]]
"""What does not work under the rules of now: the control channel, and these probes."""
RETRY_S: Final = (1.0, 60.0)
TRY_AGAIN_S: Final = 0.5
_STATES: dict[str, State] = {"not-realised": "drifted", "not-permitted": "unreachable", "unreachable": "unreachable"}
CLONED = "another host lives under this identity: nothing is opened until one of the two is enrolled again"


class Timing(NamedTuple):
    """How often the kernel is looked at."""

    watch_s: float = 0.5
    audit_s: float = 300.0


class _Trial:
    """A policy that must prove itself."""

    def __init__(self, revision: int, seconds: float) -> None:
        self.revision = revision
        self.until = time.monotonic() + seconds
        self.problems: tuple[str, ...] = ("it was not tried yet",)
        self.works = False
        self.task: asyncio.Task[None] | None = None

    @property
    def left_s(self) -> float:
        return self.until - time.monotonic()


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
        self.held, self.point, self.disk, self.clock = held, point, disk, clock or Clock()
        self.realised = Realised("pending")
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
        self._works, self._tell, self._on_realised, self._on_intent = works, tell, on_realised, on_intent
        self._timing = timing or Timing()
        self._news = asyncio.Event()
        self._news.set()
        self._thread = ThreadPoolExecutor(1, "rules")
        self._writer = ThreadPoolExecutor(1, "disk")
        self._trial: _Trial | None = None
        self._seen: tuple[State, str] | None = None
        self._turns_at: datetime | None = None
        self._failures = 0
        self._audit_at = self._retry_at = 0.0
        self._is_unsaved = self._is_over = False
        self._disk_problem = ""

    # ---- from outside -----------------------------------------------------------------------------------------------

    def news(self) -> None:
        """What is held, disabled, or known of the way to the controller may have changed."""
        self._is_unsaved = True
        self._retry_at = 0.0
        self._news.set()

    async def run(self) -> None:
        try:
            while True:
                self._news.clear()
                await self.step()
                await self._wait()
        finally:
            self._end_trial()
            self._thread.shutdown(wait=True)
            if self._is_unsaved and not self._is_over:
                self._writer.submit(self.disk.save, self._record())
            self._writer.shutdown(wait=True)

    async def step(self) -> None:
        """Bring the kernel to what is wanted now."""
        if self._is_over or time.monotonic() < self._retry_at:
            return
        self._retry_at = 0.0
        self._end_disabled()
        self._try_refused_again()
        await self._settle_trial()
        found = self.wanted()
        if found is None:
            await self._nothing_held()
        else:
            await self._haste(found)
            if not self._is_held_back(found):
                await self._enforce(found)
        await self._save()

    def wanted(self) -> Wanted | None:
        """What should be in the kernel now; None while nothing is held."""
        return wanted(self.held, self.clock.now(), rejected=self.rejected, channel=self.channel, disabled=self.disabled)

    async def last(self, work: Callable[[], None]) -> None:
        """Something to do with the rules after which they are left alone."""
        self._is_over = True
        self._end_trial()
        await self._in_thread(work)

    @property
    def trial_left_s(self) -> float:
        """How long the policy in force has to prove itself; 0 when it has, or need not."""
        return max(0.0, self._trial.left_s) if self._trial is not None else 0.0

    # ---- waiting ----------------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Until there is something to do."""
        if self._is_over:
            await asyncio.Future()
        while not self._news.is_set():
            try:
                await asyncio.wait_for(self._news.wait(), self._pause_s())
            except TimeoutError:
                if self._is_due() or await self._is_touched():
                    return

    def _pause_s(self) -> float:
        return min(self._timing.watch_s, self._due_in_s())

    def _is_due(self) -> bool:
        return self._due_in_s() == 0.0

    def _due_in_s(self) -> float:
        """How long until the next retry, turn of the policy, audit, end of a trial or of what is disabled."""
        now, clock = time.monotonic(), self.clock
        if self._retry_at:
            return max(0.0, self._retry_at - now)
        left = [self._audit_at - now]
        if self._trial is not None:
            left.append(self._trial.left_s)
        if self.disabled is not None:
            left.append(self.disabled.left_s(clock))
        if self._turns_at is not None:
            left.append((self._turns_at - clock.now()).total_seconds())
        return max(0.0, min(left))

    # ---- tampering --------------------------------------------------------------------------------------------------

    async def _is_touched(self) -> bool:
        """Whether the rules are not those that were read back last. Costs one question while nobody changed any."""
        if self._seen is None or self._is_over:
            return False
        try:
            found = await self._in_thread(self.point.observe)
            if (found.state, found.digest) == self._seen or self._has_ended(found):
                return False
            words = await self._in_thread(self.point.words, self.in_force) if self.in_force is not None else ()
        except RingfenceError as error:
            self._fail(error)
            return False
        self._seen = None
        self._event("tampered", "somebody changed the rules of this host; they are put right", words[:20])
        return True

    def _has_ended(self, found: Observed) -> bool:
        """The kernel ended a trial by itself: nobody touched anything."""
        if self._trial is None or not getattr(found, "is_reverted", False):
            return False
        self._trial.until = time.monotonic()
        self._news.set()
        return True

    # ---- applying ---------------------------------------------------------------------------------------------------

    def _is_held_back(self, found: Wanted) -> bool:
        """While the identity is cloned nothing opens: who is which of the two, nobody here can say."""
        if not self.is_cloned or self.in_force is None or not widens(self.in_force, found.intent):
            return False
        self._audit_at = time.monotonic() + self._timing.audit_s
        self._report(msgspec.structs.replace(self.realised, state="pending", problems=(CLONED,), at=self._at()))
        return True

    async def _haste(self, found: Wanted) -> None:
        """A quarantine does not wait for the policy that comes with it."""
        first = quarantine_of(self.in_force, found.intent) if self.in_force is not None else None
        if first is None:
            return
        left = self._trial.left_s if self._trial else None
        if left is None or left > 0:
            try:
                await self._in_thread(self.point.converge, first, found.how(left))
                self._took(first)
            except RingfenceError as error:
                _log.warning("a quarantine waits for the policy: %s", error)

    async def _enforce(self, found: Wanted) -> None:
        self._audit_at = time.monotonic() + self._timing.audit_s
        trial = self._begin_trial(found)
        try:
            observed = await self._in_thread(
                self.point.converge, found.intent, found.how(trial.left_s if trial else None)
            )
        except FindingsError as error:
            self._refuse(found, error)
            return
        except RingfenceError as error:
            self._fail(error)
            return
        self._failures = 0
        self._took(found.intent)
        await self._look()
        if trial is not None and trial.task is None:
            trial.task = asyncio.get_running_loop().create_task(self._try(trial, found))
        if trial is None and not found.is_reverted and self.disabled is None:
            self._confirm_held(found)
        self._report(self._told(found, observed))

    def _refuse(self, found: Wanted, error: FindingsError) -> None:
        """The policy before it stays, over the members and quarantines of now."""
        problems = tuple(str(finding) for finding in error.findings)
        self._end_trial()
        if found.is_reverted:  # the one before is refused, too: the kernel keeps what it has
            self._fail(error)
            return
        if problems != self.refusal:
            self._event("policy-refused", f"revision {found.assignment.revision} cannot be enforced here", problems)
        self.rejected, self.refusal, self._is_unsaved = found.assignment.revision, problems, True
        self._report(msgspec.structs.replace(self.realised, state="refused", problems=problems, at=self._at()))
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
        self._retry_at = time.monotonic() + pause
        if self._trial is not None:
            self._retry_at = min(self._retry_at, max(self._trial.until, time.monotonic()))
        state: State = "refused" if isinstance(error, FindingsError) else _STATES.get(error.code, "pending")
        if self._failures == 1:
            self._event("not-applied", error.message, (str(error),))
        problems = (f"{error.code}: {error.message}",)
        self._report(msgspec.structs.replace(self.realised, state=state, problems=problems, at=self._at()))

    async def _nothing_held(self) -> None:
        """Nothing was heard yet: whatever is in the kernel stays."""
        self._audit_at = time.monotonic() + self._timing.audit_s
        try:
            found = await self._in_thread(self.point.observe)
        except RingfenceError as error:
            self._fail(error)
            return
        state: State = "absent" if found.state == "absent" else "pending"
        self._report(Realised(state, digest=found.digest, at=self._at()))

    async def _look(self) -> None:
        found = await self._in_thread(self.point.observe)
        self._seen = (found.state, found.digest)

    def _took(self, intent: Intent) -> None:
        self.in_force = intent
        self._on_intent(intent)

    # ---- trials -----------------------------------------------------------------------------------------------------

    def _begin_trial(self, found: Wanted) -> _Trial | None:
        if found.trial is None:
            self._end_trial()
            return None
        if self._trial is None or self._trial.revision != found.assignment.revision:
            self._end_trial()
            self._trial = _Trial(found.assignment.revision, found.trial.seconds)
        return self._trial

    async def _try(self, trial: _Trial, found: Wanted) -> None:
        """Until everything works through the new policy, or the time is over."""
        probes = found.trial.probes if found.trial else ()
        while trial.left_s > 0 and not trial.works:
            trial.problems = await self._works(probes)
            trial.works = not trial.problems and trial.left_s > 0
            if not trial.works:
                await asyncio.sleep(min(TRY_AGAIN_S, max(trial.left_s, 0.0)))
        self._news.set()

    async def _settle_trial(self) -> None:
        """Confirm what works; give up what ran out of time."""
        trial = self._trial
        if trial is None or (not trial.works and trial.left_s > 0):
            return
        if trial.works and trial.left_s > 0:
            try:
                await self._in_thread(self.point.confirm)
                self._seen = None
                self._confirm_trial()
                return
            except TargetError as error:
                trial.problems = (error.message,)
        self._give_up(trial)

    def _confirm_trial(self) -> None:
        self._end_trial()
        self.held.confirm()
        self._is_unsaved = True

    def _give_up(self, trial: _Trial) -> None:
        self._end_trial()
        self.rejected, self.refusal, self._is_unsaved = trial.revision, (), True
        self._event(
            "trial-reverted", f"revision {trial.revision} did not prove itself and is taken back", trial.problems
        )

    def _end_trial(self) -> None:
        trial, self._trial = self._trial, None
        if trial is not None and trial.task is not None:
            trial.task.cancel()

    def _confirm_held(self, found: Wanted) -> None:
        if self.held.confirmed is not found.assignment:
            self.held.confirm()
            self._is_unsaved = True

    def _end_disabled(self) -> None:
        if self.disabled is not None and self.disabled.left_s(self.clock) == 0:
            self.disabled = None
            self._event("enabled", "the time of a break-glass is over; policy is enforced again")

    # ---- telling ----------------------------------------------------------------------------------------------------

    def _told(self, found: Wanted, observed: Observed) -> Realised:
        """Whatever the disguise, the digest of a proven intent is the digest of what the controller meant."""
        is_proven = observed.digest == found.intent.digest and self.disabled is None
        state = observed.state
        problems = tuple(observed.differences)
        if found.is_reverted and self.refusal:
            state, problems = "refused", self.refusal
        return Realised(
            state=state,
            assignment=found.assignment.revision,
            change=self.change,
            isolations=self.held.isolations.revision if self.held.isolations else 0,
            digest=found.policy.digest if is_proven else observed.digest,
            problems=problems,
            on_trial=self._trial is not None,
            is_reverted=found.is_reverted and not self.refusal,
            policy_version=found.assignment.policy_version,
            at=self._at(),
        )

    def _report(self, told: Realised) -> None:
        before, self.realised = self.realised, told
        if msgspec.structs.replace(told, at=0.0) != msgspec.structs.replace(before, at=0.0):
            self._on_realised(told)

    def _event(self, kind: str, message: str, details: tuple[str, ...] = ()) -> None:
        self._tell(Event(self._at(), kind, message, details))

    def _at(self) -> float:
        return self.clock.wall_s()

    # ---- disk -------------------------------------------------------------------------------------------------------

    async def _save(self) -> None:
        """Enforced first, then kept: a full disk delays nothing, and what is lost is asked for again."""
        if not self._is_unsaved or self._is_over:
            return
        self._is_unsaved = False
        problem = await asyncio.get_running_loop().run_in_executor(self._writer, self.disk.save, self._record())
        self._is_unsaved |= bool(problem)
        if problem and not self._disk_problem:
            self._event("disk-refused", f"what this host enforces is kept in memory only: {problem}")
        self._disk_problem = problem

    def _record(self) -> Record:
        return Record(self.held.workload, self.held.snapshot(), self.rejected, self.refusal, self.channel)

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
