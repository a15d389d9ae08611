"""What is told of the rules: once for each change of what is so, and events that people should know.

INVARIANT: what was told last is what a heartbeat repeats.
INVARIANT: nothing is told as enforced before what was heard of it is on the disk: a restart cannot give back what was
told as taken away. Enforcing does not wait for that; only telling does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import msgspec

from ringfence.agent.clock import Clock
from ringfence.agent.held.keeper import Keeper
from ringfence.agent.held.wanted import Wanted
from ringfence.ports.target import Observed
from ringfence.wire.messages import Event, Realised

_log = logging.getLogger(__name__)
_DIGEST: Final = 12
"""Of a digest, enough to tell it from another."""

_FEW: Final = 16
"""Quarantines that are named one by one."""


class Telling:
    """Of one host."""

    def __init__(self, clock: Clock, tell: Callable[[Event], None], on_realised: Callable[[Realised], None]) -> None:
        self.told = Realised("pending")
        self.newest = self.told
        """What is so; told when the disk has it."""
        self.keeper: Keeper | None = None
        self._clock, self._tell, self._on_realised = clock, tell, on_realised
        self._waiting: asyncio.Task[None] | None = None
        self._logged: tuple[object, ...] = ()
        self._isolated: frozenset[str] = frozenset()

    def report(self, found: Realised) -> None:
        before, self.newest = self.newest, msgspec.structs.replace(found, at=self._clock.wall_s())
        is_news = msgspec.structs.replace(found, at=0.0) != msgspec.structs.replace(before, at=0.0)
        if self._waiting is not None and not self._waiting.done():
            return  # told with what is told next
        if not is_news:
            self.told = self.newest
        elif self.keeper is None or self.keeper.is_kept:
            self._say()
        else:
            self._waiting = asyncio.get_running_loop().create_task(self._say_when_kept(self.keeper))

    def change(self, **fields: Any) -> None:
        """The same but for these."""
        self.report(msgspec.structs.replace(self.newest, **fields))

    def event(self, kind: str, message: str, details: tuple[str, ...] = ()) -> None:
        self._tell(Event(self._clock.wall_s(), kind, message, details))

    def note(self, found: Wanted) -> None:
        """A policy was read back: one line in the log for each version and mode, none for who is a member of what."""
        version, mode = found.assignment.policy_version, found.policy.mode
        key = (version, mode, found.is_reverted)
        if key == self._logged:
            return
        self._logged = key
        words = f"in {mode.inbound}, out {mode.outbound}"
        again = "; it is the one before what failed" if found.is_reverted else ""
        _log.info("version %d is in force: %s, digest %s%s", version, words, found.policy.digest[:_DIGEST], again)

    def note_isolated(self, workloads: Iterable[str], own: str) -> None:
        """Quarantines were read back: one line for each that began or ended; one for all of many."""
        before, self._isolated = self._isolated, frozenset(workloads)
        for words, some in (("is in force", self._isolated - before), ("ended", before - self._isolated)):
            named = sorted(some) if len(some) <= _FEW else sorted(some & {own})
            for uuid in named:
                _log.info("a quarantine %s: of %s", words, "this host" if uuid == own else uuid)
            if len(named) < len(some):
                _log.info("quarantines of %d other hosts: %s", len(some) - len(named), words.removeprefix("is "))

    async def close(self) -> None:
        """When all was told."""
        if self._waiting is not None:
            await self._waiting

    async def _say_when_kept(self, keeper: Keeper) -> None:
        while self.told is not self.newest:
            newest = self.newest
            await keeper.kept()
            self._say(newest)

    def _say(self, newest: Realised | None = None) -> None:
        self.told = newest or self.newest
        self._on_realised(self.told)


class Rejection(NamedTuple):
    """What is not enforced, and why: it was refused, or failed its trial."""

    revision: int
    refusal: tuple[str, ...]
    failure: tuple[str, ...]


def realised_of(
    found: Wanted, observed: Observed, rejection: Rejection, *, change: int, isolations: int, is_disguised: bool
) -> Realised:
    """Of a whole converge; its `on_trial` is for who knows. Whatever the disguise (the way to the controller), the
    digest of a proven intent is the digest of what the controller meant."""
    is_proven = observed.digest == found.intent.digest and not is_disguised
    differences = tuple(observed.differences)
    is_refused = found.is_reverted and bool(rejection.refusal)
    is_reverted = found.is_reverted and not is_refused
    return Realised(
        state="refused" if is_refused else observed.state,
        assignment=found.assignment.revision,
        change=change,
        isolations=isolations,
        digest=found.policy.digest if is_proven else observed.digest,
        problems=rejection.refusal if is_refused else differences or (rejection.failure if is_reverted else ()),
        is_reverted=is_reverted,
        rejected=rejection.revision if found.is_reverted else 0,
        policy_version=found.assignment.policy_version,
    )
