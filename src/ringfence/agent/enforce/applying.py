"""A whole intent to the kernel: converged, read back, and told; refused, or to be tried again later.

INVARIANT: what is told was read back. A refusal changes nothing but what it is about: the policy before it stays, with
the members and quarantines of now.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Final

import msgspec

from ringfence.agent.enforce.footing import Footing
from ringfence.agent.enforce.settling import Settling
from ringfence.agent.enforce.severing import Severing
from ringfence.agent.enforce.swift import Ground
from ringfence.agent.enforce.telling import realised_of
from ringfence.agent.held.wanted import Wanted, quarantine_of
from ringfence.core.errors import FindingsError, RingfenceError
from ringfence.core.intent.model import Intent
from ringfence.ports.target import Observed, State
from ringfence.wire.messages import Assignment, Realised

_log = logging.getLogger(__name__)
RETRY_S: Final = (1.0, 60.0)
_STATES: Final[dict[str, State]] = {
    "not-realised": "drifted", "not-permitted": "unreachable", "unreachable": "unreachable"
}  # fmt: skip


class Applying:
    """What is applied as a whole, and what became of it."""

    def __init__(
        self,
        footing: Footing,
        settling: Settling,
        *,
        on_intent: Callable[[Intent], None],
        news: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        """`on_intent` hears what is in force. `news`: look again at once; `wake`: when it is not time to wait."""
        self._footing, self._settling = footing, settling
        self._on_intent, self._news, self._wake = on_intent, news, wake
        self.severing = Severing()
        self.retry_at = 0.0
        """On the monotonic clock; 0: nothing failed."""
        self._failures = 0

    async def haste(self, found: Wanted) -> None:
        """A quarantine does not wait for the policy that comes with it."""
        footing = self._footing
        first = quarantine_of(footing.in_force, found.intent) if footing.in_force is not None else None
        if first is None or self._settling.left_s == 0:
            return
        try:
            self.took(first, await footing.in_thread(footing.point.isolate, first))
        except RingfenceError as error:
            _log.warning("a quarantine waits for the policy: %s", error)

    async def enforce(self, found: Wanted) -> Ground | None:
        """What swift changes may start from, where there is such a ground now."""
        footing, settling = self._footing, self._settling
        if settling.trial is None or settling.trial.assignment is not found.assignment:
            footing.held.applying = found.assignment
        try:
            if not await settling.begin(found):
                return None
            observed = await footing.in_thread(footing.point.converge, found.intent, found.how(settling.left_s))
        except FindingsError as error:
            self._refuse(found, error)
            return None
        except RingfenceError as error:
            self._fail(error)
            return None
        self._failures = 0
        self.took(found.intent, observed, found.assignment)
        settling.proceed(found, self._news)
        return self._told(found, observed)

    def _told(self, found: Wanted, observed: Observed) -> Ground | None:
        footing, on_trial = self._footing, self._settling.trial is not None
        is_disguised = found.disabled is not None  # as it was applied: the host may have other words by now
        taken = footing.taken
        if found.disabled is not None and found.disabled.even_quarantine:
            taken = taken._replace(isolations=0)  # none of them is in force here
        told = realised_of(found, observed, footing.rejection, **taken._asdict(), is_disguised=is_disguised)
        footing.telling.report(msgspec.structs.replace(told, on_trial=on_trial))
        if not on_trial and not is_disguised and told.state == "realised":
            footing.telling.note(found)
        if on_trial or is_disguised or found.is_reverted or told.state != "realised":
            return None
        return Ground(found.name, footing.channel, found.policy, found.intent)

    async def look(self) -> None:
        """Nothing was heard yet: whatever is in the kernel stays."""
        footing = self._footing
        try:
            found = await footing.in_thread(footing.point.observe)
        except RingfenceError as error:
            self._fail(error)
            return
        state: State = "absent" if found.state == "absent" else "pending"
        footing.telling.report(Realised(state, digest=found.digest))

    async def sever(self) -> None:
        """Where it is time for that."""
        if not self.severing.take():
            return
        try:
            await self._footing.in_thread(self._footing.point.sever)
        except RingfenceError as error:
            _log.info("programs learn of cut connections by their own timeouts: %s", error)

    def took(self, intent: Intent, observed: Observed, by: Assignment | None = None) -> None:
        """`by`: whose word says what becomes of live connections; else they were cut."""
        self.severing.note(observed, grace_s=by.grace_s if by is not None and by.live == "drain" else 0.0)
        footing = self._footing
        footing.in_force = intent
        self._on_intent(intent)
        self._note_isolated()

    def _note_isolated(self) -> None:
        footing, held = self._footing, self._footing.held.isolations
        if held is not None and held.revision != footing.taken.isolations:
            return  # heard meanwhile: the next step has it
        bites = footing.disabled is None or not footing.disabled.even_quarantine
        isolated = (one.workload for one in held.isolations) if held is not None and bites else ()
        footing.telling.note_isolated(isolated, footing.held.workload)

    def _refuse(self, found: Wanted, error: FindingsError) -> None:
        """The policy before it stays, over the members and quarantines of now."""
        footing, problems = self._footing, tuple(str(finding) for finding in error.findings)
        self._settling.end()
        if found.is_reverted:  # the one before is refused, too: the kernel keeps what it has
            self._fail(error)
            return
        revision = found.assignment.revision
        if problems != footing.refusal:
            footing.telling.event("policy-refused", f"revision {revision} cannot be enforced here", problems)
        footing.reject(revision, refusal=problems)
        footing.telling.change(state="refused", problems=problems, rejected=revision)
        self._wake()

    def _fail(self, error: RingfenceError) -> None:
        """The old rules are in force. Try again, later each time."""
        first_s, most_s = RETRY_S
        pause = min(most_s, first_s * 2.0 ** min(self._failures, 16)) * random.uniform(0.5, 1.0)
        self._failures += 1
        if self._settling.trial is not None:
            pause = min(pause, self._settling.trial.left_s)
        self.retry_at = time.monotonic() + pause
        state: State = "refused" if isinstance(error, FindingsError) else _STATES.get(error.code, "pending")
        if self._failures == 1:
            self._footing.telling.event("not-applied", error.message, (str(error),))
        self._footing.telling.change(state=state, problems=(f"{error.code}: {error.message}",))
