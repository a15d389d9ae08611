"""What is told of the rules: once for each change of what is so, and events that people should know.

INVARIANT: what was told last is what a heartbeat repeats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ringfence.agent.clock import Clock
from ringfence.agent.held import Held
from ringfence.agent.wanted import Wanted
from ringfence.ports.target import Observed
from ringfence.wire.messages import Event, Realised


class Telling:
    """Of one host."""

    def __init__(self, clock: Clock, tell: Callable[[Event], None], on_realised: Callable[[Realised], None]) -> None:
        self.realised = Realised("pending")
        self._clock, self._tell, self._on_realised = clock, tell, on_realised

    def report(self, told: Realised) -> None:
        before, self.realised = self.realised, msgspec.structs.replace(told, at=self._clock.wall_s())
        if msgspec.structs.replace(told, at=0.0) != msgspec.structs.replace(before, at=0.0):
            self._on_realised(self.realised)

    def change(self, **fields: Any) -> None:
        """The same but for these."""
        self.report(msgspec.structs.replace(self.realised, **fields))

    def event(self, kind: str, message: str, details: tuple[str, ...] = ()) -> None:
        self._tell(Event(self._clock.wall_s(), kind, message, details))


def realised_of(
    found: Wanted, observed: Observed, held: Held, *, change: int, refusal: tuple[str, ...], is_disguised: bool
) -> Realised:
    """Of a whole converge; its `on_trial` is for who knows. Whatever the disguise (the way to the controller), the
    digest of a proven intent is the digest of what the controller meant."""
    is_proven = observed.digest == found.intent.digest and not is_disguised
    is_refused = found.is_reverted and bool(refusal)
    return Realised(
        state="refused" if is_refused else observed.state,
        assignment=found.assignment.revision,
        change=change,
        isolations=isolations_of(held),
        digest=found.policy.digest if is_proven else observed.digest,
        problems=refusal if is_refused else tuple(observed.differences),
        is_reverted=found.is_reverted and not refusal,
        policy_version=found.assignment.policy_version,
    )


def isolations_of(held: Held) -> int:
    """The revision of the quarantines that are held."""
    return held.isolations.revision if held.isolations else 0
