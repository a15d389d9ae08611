"""Threads for what people ask: two, and none of those that the fleet itself needs.

INVARIANT: however many long questions are asked, flows are stored, certificates renewed and quarantines told meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
MOST_AT_ONCE: Final = 2
_THREADS = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="questions")


async def think(work: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> T:
    """What the work answers, once one of the threads is free. Raises what it raises."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, partial(work, *arguments, **named))
