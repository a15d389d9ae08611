"""What a host should enforce now, of all it holds: which policy, on trial or not, disabled or not. Pure.

INVARIANT: a quarantine stands apart: whichever policy is chosen, the isolations of now are part of it.
INVARIANT: the way to the controller is essential (it precedes quarantine and policy), so that what is wrong can be
taken back.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from ringfence.agent.held.breakglass import Disabled, observing
from ringfence.agent.held.held import Held
from ringfence.agent.point import How
from ringfence.core.intent.model import Intent, Passage
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.net.service import TCP, point
from ringfence.wire.messages import Assignment, Trial


class Wanted(msgspec.Struct, frozen=True):
    """What to apply, and how."""

    assignment: Assignment
    """The one whose policy it is."""
    policy: Intent
    """What the controller means, to the letter: its digest is what is told."""
    intent: Intent
    """With the way to the controller, and with what is disabled."""
    name: str = ""
    """What the policy goes by in the kernel."""
    fallback: Intent | None = None
    trial: Trial | None = None
    """It may stay only if it proves itself."""
    is_reverted: bool = False
    """A newer assignment failed its trial or was refused, and this is the one before."""
    disabled: Disabled | None = None
    """What of it somebody at the host does not want for a while."""

    def how(self, left_s: float | None) -> How:
        """`left_s`: of the trial."""
        fallback = self.fallback if left_s else None
        return How(self.assignment.live, float(self.assignment.grace_s), left_s, fallback, self.name)


def wanted(
    held: Held,
    now: datetime,
    *,
    rejected: int = 0,
    channel: tuple[Passage, ...] = (),
    disabled: Disabled | None = None,
) -> Wanted | None:
    """None while nothing complete is held. `rejected`: the revision that failed."""
    assignment, policy = held.assignment, held.intent(now)
    if assignment is None or policy is None:
        return None
    before = held.fallback(now)
    if assignment.revision == rejected:
        confirmed = held.confirmed if before is not None else None
        policy = before if before is not None else _nothing(policy)
        intent = _dressed(policy, channel, disabled)
        name = held.policy(confirmed, now) if confirmed is not None else ""
        return Wanted(confirmed or assignment, policy, intent, name, is_reverted=True, disabled=disabled)
    intent, name = _dressed(policy, channel, disabled), held.policy(assignment, now)
    if disabled is not None or assignment.trial is None or not _is_new(assignment, held.confirmed):
        return Wanted(assignment, policy, intent, name, disabled=disabled)
    ground = _dressed(before if before is not None else _nothing(policy), channel, None)
    return Wanted(assignment, policy, intent, name, ground, assignment.trial)


def at_boot(
    held: Held, now: datetime, *, rejected: int, channel: tuple[Passage, ...], disabled: Disabled | None
) -> Wanted | None:
    """The same, before there is anybody to try anything: what has not proven itself waits for the agent."""
    found = wanted(held, now, rejected=rejected, channel=channel, disabled=disabled)
    if found is None or found.trial is None:
        return found
    return wanted(held, now, rejected=found.assignment.revision, channel=channel, disabled=disabled)


def passages_to(ends: Iterable[tuple[int, int]]) -> tuple[Passage, ...]:
    """Out to (address, TCP port) each."""
    return tuple(
        Passage("out", IntervalSet.single(address), IntervalSet.single(point(TCP, port)))
        for address, port in sorted(set(ends))
    )


def quarantine_of(before: Intent, now: Intent) -> Intent | None:
    """The rules of before with the quarantines of now; None where that is no haste: nothing new is isolated."""
    isolates = now.is_quarantined > before.is_quarantined or not set(now.isolated) <= set(before.isolated)
    if not isolates or before.policy_digest == now.policy_digest:
        return None
    return msgspec.structs.replace(
        before,
        is_quarantined=now.is_quarantined,
        isolated=now.isolated,
        quarantine_passages=now.quarantine_passages,
    )


def _is_new(assignment: Assignment, confirmed: Assignment | None) -> bool:
    """Whether the policy is another than the one that proved itself. Who is a member of what is no policy; cells of a
    class that nobody is in yet are."""
    if confirmed is None:
        return True
    return assignment.revision != confirmed.revision and _policy(assignment) != _policy(confirmed)


def _policy(assignment: Assignment) -> tuple[object, ...]:
    station = assignment.station
    return station.body, station.mode, station.failsafe, assignment.schedule


def _nothing(policy: Intent) -> Intent:
    """No policy yet: only quarantines bite."""
    return msgspec.structs.replace(observing(policy), peers=(), parts=(), refusals=())


def _dressed(policy: Intent, channel: tuple[Passage, ...], disabled: Disabled | None) -> Intent:
    intent = msgspec.structs.replace(policy, failsafe=(*policy.failsafe, *channel))
    return intent if disabled is None else observing(intent, even_quarantine=disabled.even_quarantine)
