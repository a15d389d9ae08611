"""Messages of one subject one after the other, those of different subjects beside one another.

INVARIANT: whoever takes long, or is taken long with, keeps only itself waiting. A subject names one agent.
"""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class Lanes:
    """The lanes of one subscription. A lane that nobody is in, or waits for, takes no room."""

    def __init__(self) -> None:
        self._lanes: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, subject: str) -> asyncio.Lock:
        """First come, first served. The caller keeps it for as long as it waits or works."""
        lane = self._lanes.get(subject)
        if lane is None:
            lane = self._lanes[subject] = asyncio.Lock()
        return lane

    def __len__(self) -> int:
        return len(self._lanes)
