"""What a large change used is given back to the host when it is over: an agent is small while nothing happens.

glibc keeps freed memory for the next time (malloc_trim(3)); without glibc this does nothing.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
from typing import Final

CALM_S: Final = 3.0
"""After the last change."""
PAUSE_S: Final = 15.0
"""Between two times: it stops the process for some milliseconds."""


class Memory:
    """Of this process."""

    def __init__(self) -> None:
        self._used = asyncio.Event()
        self._used.set()  # by what starting took

    def used(self) -> None:
        """Something was done that may have taken much."""
        self._used.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._used.wait()
            while self._used.is_set():
                self._used.clear()
                await asyncio.sleep(CALM_S)
            await asyncio.to_thread(give_back)
            await asyncio.sleep(PAUSE_S)


def give_back() -> None:
    """Now. INVARIANT: what lives since the start is looked through once, and never again."""
    gc.collect()
    if not gc.get_freeze_count():
        gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
