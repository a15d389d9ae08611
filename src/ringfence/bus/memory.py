"""A bus inside one process: for tests, and for a controller and its agents in one program.

INVARIANT: it keeps the contract of `ports.bus` as JetStream does, but for the crash of the process itself: what is kept
lives in the broker, which connections come and go from. Nobody's rights are checked here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine
from typing import Final

from ringfence.bus.lanes import Lanes
from ringfence.ports.bus import Answer, BusError, Handler

_log = logging.getLogger(__name__)
_PAUSES_S: Final = (0.01, 0.1, 1.0)
"""Before a message that could not be handled is handed out again."""


def is_match(pattern: str, subject: str) -> bool:
    """Whether a subject is among those of a pattern: `*` is one word, a last `>` one or more."""
    wanted, words = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        if len(words) <= len(wanted):
            return False
        words = words[: len(wanted)]
    return len(wanted) == len(words) and all(w in ("*", word) for w, word in zip(wanted, words, strict=True))


class _Kept:
    """A message in the store."""

    def __init__(self, subject: str, data: bytes) -> None:
        self.subject, self.data = subject, data


class MemoryBroker:
    """What a server would be: it may stop and start, and what was kept is still there."""

    def __init__(self) -> None:
        self.is_up = True
        self._hearers: list[_Hearer] = []
        self._kept: list[_Kept] = []
        self._ids: set[tuple[str, str]] = set()
        self._consumers: dict[str, str] = {}
        self._changed = asyncio.Event()

    def stop(self) -> None:
        """Every connection is lost, with all that is not kept."""
        self.is_up = False
        self._wake()

    def start(self) -> None:
        self.is_up = True
        self._wake()

    def hear(self, hearer: _Hearer) -> None:
        self._hearers.append(hearer)

    def forget(self, hearer: _Hearer) -> None:
        self._hearers.remove(hearer)

    def send(self, subject: str, data: bytes, reply: asyncio.Future[bytes] | None = None) -> bool:
        """Whether anybody heard it."""
        hearers = [hearer for hearer in self._hearers if is_match(hearer.pattern, subject)]
        for hearer in hearers:
            hearer.hear(subject, data, reply)
        return bool(hearers)

    def keep(self, subject: str, data: bytes, id: str) -> None:
        if (subject, id) in self._ids:
            return
        self._ids.add((subject, id))
        self._kept.append(_Kept(subject, data))
        self.send(subject, data)
        self._wake()

    def claim(self, name: str, subject: str) -> None:
        """A kept message is one consumer's: two of different names may not want the same."""
        others = [n for n, pattern in self._consumers.items() if n != name and _overlap(pattern, subject)]
        if others:
            raise BusError(f"`{subject}` is consumed by `{others[0]}` already")
        self._consumers[name] = subject

    async def next_kept(self, pattern: str) -> _Kept:
        """The oldest that matches, once there is one."""
        while True:
            found = next((kept for kept in self._kept if is_match(pattern, kept.subject)), None)
            if found and self.is_up:
                return found
            await self._changed.wait()

    def done(self, kept: _Kept) -> None:
        self._kept.remove(kept)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _overlap(a: str, b: str) -> bool:
    first, second = a.split("."), b.split(".")
    for one, other in zip(first, second, strict=False):
        if ">" in (one, other):
            return True
        if one != other and "*" not in (one, other):
            return False
    return len(first) == len(second)


class _Hearer:
    """One subscription."""

    def __init__(self, pattern: str, answer: Answer) -> None:
        self.pattern = pattern
        self._answer, self._lanes = answer, Lanes()
        self._at_work: set[asyncio.Task[None]] = set()

    def hear(self, subject: str, data: bytes, reply: asyncio.Future[bytes] | None) -> None:
        work = self._heard(subject, data, reply, self._lanes.of(subject))
        task = asyncio.get_running_loop().create_task(work)
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)

    async def _heard(self, subject: str, data: bytes, reply: asyncio.Future[bytes] | None, lane: asyncio.Lock) -> None:
        async with lane:
            try:
                answer = await self._answer(subject, data)
            except Exception:
                _log.exception("a message on `%s` could not be answered", subject)
                return
            if reply and answer is not None and not reply.done():
                reply.set_result(answer)

    async def close(self) -> None:
        at_work = self._at_work - {asyncio.current_task()}
        for task in at_work:
            task.cancel()
        await asyncio.gather(*at_work, return_exceptions=True)


class MemoryBus:
    """A connection to a broker."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._is_open = True
        self._hearers: list[_Hearer] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def is_connected(self) -> bool:
        return self._is_open and self._broker.is_up

    async def publish(self, subject: str, data: bytes) -> None:
        self._check()
        self._broker.send(subject, data)

    async def request(self, subject: str, data: bytes, *, timeout_s: float = 5.0) -> bytes:
        self._check()
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if not self._broker.send(subject, data, reply):
            raise BusError(f"nobody answers `{subject}`")
        try:
            async with asyncio.timeout(timeout_s):
                return await reply
        except TimeoutError:
            raise BusError(f"no answer on `{subject}` within {timeout_s:g} s") from None

    async def subscribe(self, subject: str, answer: Answer) -> None:
        hearer = _Hearer(subject, answer)
        self._hearers.append(hearer)
        self._broker.hear(hearer)

    async def keep(self, subject: str, data: bytes, *, id: str) -> None:
        self._check()
        self._broker.keep(subject, data, id)

    async def consume(self, name: str, subject: str, handler: Handler) -> None:
        self._broker.claim(name, subject)
        self._start(self._consume(subject, handler))

    async def flush(self) -> None:
        self._check()
        await asyncio.sleep(0)

    def come_from(self, own: Collection[int]) -> None:
        """It comes from nowhere."""

    async def close(self) -> None:
        self._is_open = False
        for hearer in self._hearers:
            self._broker.forget(hearer)
        await asyncio.gather(*(hearer.close() for hearer in self._hearers))
        self._hearers.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _consume(self, subject: str, handler: Handler) -> None:
        failures = 0
        while True:
            kept = await self._broker.next_kept(subject)
            try:
                await handler(kept.subject, kept.data)
            except Exception:
                _log.exception("a kept message on `%s` could not be handled; it stays", kept.subject)
                await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
                failures += 1
                continue
            failures = 0
            self._broker.done(kept)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    def _check(self) -> None:
        if not self.is_connected:
            raise BusError("there is no connection to the bus")
