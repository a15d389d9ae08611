"""Trials from their begin to their end: begun over the policy before, confirmed when they work, given up when not.

INVARIANT: what failed is not tried again, by this process or the next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from ringfence.agent.enforce.footing import Footing
from ringfence.agent.enforce.trial import Trial, Works
from ringfence.agent.held.wanted import Wanted
from ringfence.core.errors import TargetError

_log = logging.getLogger(__name__)
UNCONFIRMED: Final = ("nobody confirmed it in time: no agent ran",)


class Settling:
    """The trial of now, if any."""

    def __init__(self, footing: Footing, works: Works, wake: Callable[[], None]) -> None:
        """`wake`: there is something to do."""
        self._footing, self._works, self._wake = footing, works, wake
        self.trial: Trial | None = None

    @property
    def left_s(self) -> float | None:
        return self.trial.left_s if self.trial is not None else None

    async def begin(self, found: Wanted) -> bool:
        """False where it was tried before, and the kernel took it back."""
        if found.trial is None:
            self.end()
            return True
        if self.trial is not None and self.trial.revision == found.assignment.revision:
            return True
        self.end()
        footing, seconds = self._footing, float(found.trial.seconds)
        tried = await footing.in_thread(footing.point.tried)
        if tried is not None and tried.policy == found.name:
            seconds = min(seconds, tried.left_s)
        if seconds == 0:
            self._give_up(found.assignment.revision, UNCONFIRMED)
            self._wake()
            return False
        self.trial = Trial(found.assignment, seconds)
        _log.info("version %d is on trial for %.0f s", found.assignment.policy_version, seconds)
        return True

    def proceed(self, found: Wanted, news: Callable[[], None]) -> None:
        """It is in force: try it; what needs no trial is confirmed."""
        if self.trial is not None:
            self.trial.start(self._works, found.trial.probes if found.trial else (), news)
        elif not found.is_reverted and self._footing.disabled is None:
            self._confirm_held(found)

    async def settle(self) -> None:
        """Confirm what works; give up what ran out of time."""
        trial, footing = self.trial, self._footing
        if trial is None or not trial.is_decided:
            return
        problems = trial.problems
        if trial.works and trial.left_s > 0:
            try:
                await footing.in_thread(footing.point.confirm)
                self.end()
                footing.held.confirm(trial.assignment)
                footing.save()
                _log.info("version %d proved itself and stays", trial.assignment.policy_version)
                return
            except TargetError as error:
                problems = (error.message,)
        self._give_up(trial.revision, problems)

    def end(self) -> None:
        trial, self.trial = self.trial, None
        if trial is not None:
            trial.end()

    def _give_up(self, revision: int, problems: tuple[str, ...]) -> None:
        self.end()
        self._footing.reject(revision, failure=problems)
        message = f"revision {revision} did not prove itself and is taken back"
        _log.warning("%s: %s", message, "; ".join(problems))
        self._footing.telling.event("trial-reverted", message, problems)

    def _confirm_held(self, found: Wanted) -> None:
        if self._footing.held.confirmed is not found.assignment:
            self._footing.held.confirm(found.assignment)
            self._footing.save()
