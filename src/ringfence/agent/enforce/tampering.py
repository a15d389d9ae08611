"""Who else writes to the rules: heard from the kernel as it happens, told in words, and put right.

INVARIANT: what is heard wakes the enforcer whatever it is about; whether the rules are as they should be is for it to
read. A subscription that fails is told, and the enforcer audits all the more often (`is_open`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from ringfence.agent.point import Point, Watching
from ringfence.core.errors import RingfenceError

_log = logging.getLogger(__name__)
_MOST: Final = 20


class Tampering:
    """What was heard and not yet told."""

    def __init__(self, point: Point, heard: Callable[[], None]) -> None:
        self._point, self._heard = point, heard
        self._watch: Watching | None = None
        self._words: list[str] = []
        self._more = 0

    @property
    def is_open(self) -> bool:
        return self._watch is not None

    def open(self) -> None:
        """Listen, unless that is so already. On the event loop."""
        if self._watch is not None:
            return
        try:
            self._watch = self._point.watch()
        except RingfenceError as error:
            _log.warning("nobody says who changes the rules: %s", error)
            return
        asyncio.get_running_loop().add_reader(self._watch.fileno(), self._read)

    def close(self) -> None:
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None

    def __bool__(self) -> bool:
        return bool(self._words)

    def take(self) -> tuple[str, ...]:
        """What changed and by whom, since last asked."""
        words, more = self._words, self._more
        self._words, self._more = [], 0
        return (*words, f"and {more} more") if more else tuple(words)

    def _read(self) -> None:
        assert self._watch is not None
        try:
            found = [str(commit) for commit in self._watch.read() if commit.is_tampering]
        except RingfenceError as error:
            _log.warning("nobody says who changes the rules: %s", error)
            self.close()
            found = [error.message]
        room = _MOST - len(self._words)
        self._words += found[:room]
        self._more += len(found[room:])
        if found:
            self._heard()
