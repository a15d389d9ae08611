"""What a controller does in the background, over and over.

INVARIANT: what fails is tried again, and said once: when it begins to fail, when it fails otherwise, and when it goes
on. Only a fault of our own is told with where it happened.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from ringfence.core.errors import RingfenceError
from ringfence.ports.bus import BusError

_log = logging.getLogger(__name__)


def tell_failure(log: logging.Logger, what: str, error: Exception) -> None:
    """What failed and is tried again, in a loop that keeps itself: one line, but for a fault of our own."""
    if isinstance(error, RingfenceError | BusError):
        log.warning("%s; it is tried again: %s", what, getattr(error, "message", "") or str(error))
    else:
        log.error("%s; it is tried again", what, exc_info=error)


class Loops:
    """The works by name. `problems`: those that fail, and why."""

    def __init__(self) -> None:
        self.problems: dict[str, str] = {}

    async def every(self, name: str, pause_s: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Until cancelled."""
        while True:
            try:
                await work()
                self._went_well(name)
            except (RingfenceError, BusError) as error:
                self._failed(name, getattr(error, "message", "") or str(error))
            except Exception as error:
                _log.exception("`%s` failed; it is tried again", name)
                self.problems[name] = str(error) or type(error).__name__
            await asyncio.sleep(pause_s)

    def _went_well(self, name: str) -> None:
        if self.problems.pop(name, None) is not None:
            _log.info("`%s` goes on", name)

    def _failed(self, name: str, why: str) -> None:
        if self.problems.get(name) != why:
            _log.warning("`%s` waits: %s; it is tried again", name, why)
        self.problems[name] = why
