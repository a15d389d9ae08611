"""Delivers notices: each sink on its own, in order, again and again until it took them or it was tried often enough.

INVARIANT: a sink that is slow, hangs or is gone delays no other. At least once: a notice whose delivery was not seen to
succeed is sent again, with its id. What is given up is counted, and the sink is told how many when it is back.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

import msgspec

from ringfence.core.errors import RingfenceError
from ringfence.notify.outbox import Outbox, Waiting
from ringfence.ports.notifier import Notice, Notifier, NotifyError

T = TypeVar("T")
Wants = Callable[[Notice], bool]


class Patience(msgspec.Struct, frozen=True):
    """How long and how often a sink is tried."""

    tries: int = 12
    """With these pauses about half an hour for each notice."""
    first_s: float = 1.0
    most_s: float = 300.0
    attempt_s: float = 30.0
    """One attempt at most."""

    def pause_s(self, failures: int) -> float:
        """Full jitter: a uniform part of a doubling limit, but no less than a tenth of it."""
        limit = min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 32))
        return random.uniform(limit / 10, limit)


class Route(NamedTuple):
    """A notifier, and what it is for."""

    notifier: Notifier
    wants: Wants = lambda notice: True


class Health(msgspec.Struct):
    """How a sink does."""

    target: str
    delivered: int = 0
    failures: int = 0
    """In a row."""
    lost: int = 0
    waiting: int = 0
    problem: str = ""
    """Why it failed last; empty when it works."""


class Dispatcher:
    """`start`, `put` whenever there are notices, `close`. Raises RingfenceError `outbox-unusable` from `put`."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        outbox: Outbox,
        *,
        patience: Patience | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._routes, self._outbox, self._now = dict(routes), outbox, now
        self._patience, self._sleep = patience or Patience(), sleep
        self._wake = {name: asyncio.Event() for name in routes}
        self._health = {name: Health(route.notifier.target) for name, route in routes.items()}
        self._thread = ThreadPoolExecutor(1, "outbox")
        """The outbox belongs to one thread: disks are slow, and the loop has others to serve."""
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Go on with what waits since before."""
        await self._do(lambda: self._outbox.keep_only(self._routes))
        self._tasks = [asyncio.create_task(self._serve(name), name=f"notify {name}") for name in self._routes]

    async def put(self, notices: Iterable[Notice]) -> None:
        """Return when the notices are durable; delivery follows."""
        some = list(notices)
        wanted = {name: [n for n in some if route.wants(n)] for name, route in self._routes.items()}
        wanted = {name: these for name, these in wanted.items() if these}
        if not wanted:
            return
        await self._do(lambda: self._outbox.put(wanted))
        for name in wanted:
            self._wake[name].set()

    async def health(self) -> dict[str, Health]:
        """How each sink does."""
        for name, health in self._health.items():
            health.lost = await self._do(lambda name=name: self._outbox.lost(name))  # type: ignore[misc]
            health.waiting = await self._do(lambda name=name: self._outbox.waiting(name))  # type: ignore[misc]
        return dict(self._health)

    async def close(self) -> None:
        """Stop. What waits is on disk and goes on at the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for route in self._routes.values():
            with suppress(Exception):  # a sink that cannot even be closed keeps nobody from stopping
                await route.notifier.close()
        await self._do(self._outbox.close)
        self._thread.shutdown()

    async def _serve(self, name: str) -> None:
        while True:
            try:
                await self._step(name)
            except RingfenceError as error:
                self._note_failure(name, error)
                await self._sleep(self._patience.pause_s(self._health[name].failures))

    async def _step(self, name: str) -> None:
        """The next notice of a sink, once."""
        self._wake[name].clear()
        first = await self._do(lambda: self._outbox.first(name))
        if first is None:
            await self._wake[name].wait()
            return
        try:
            await self._attempt(name, first.notice)
        except NotifyError as error:
            self._note_failure(name, error)
            await self._failed(name, first, error)
            return
        await self._do(lambda: self._outbox.delivered(first.seq))
        health = self._health[name]
        health.delivered, health.failures, health.problem = health.delivered + 1, 0, ""
        await self._own_up(name)

    async def _attempt(self, name: str, notice: Notice) -> None:
        notifier = self._routes[name].notifier
        try:
            async with asyncio.timeout(self._patience.attempt_s):
                await notifier.send(notice)
        except TimeoutError as error:
            told = f"{notifier.target} did not take a notice in {self._patience.attempt_s:g} s"
            raise NotifyError("notice-undelivered", told, help="check that it runs and can be reached") from error
        except NotifyError:
            raise
        except Exception as error:  # a third party's plugin may raise anything; that must not end the sink's task
            told = f"{notifier.target} failed: {type(error).__name__}"
            raise NotifyError("notice-undelivered", told, help="check its configuration") from error

    async def _failed(self, name: str, first: Waiting, error: NotifyError) -> None:
        if error.is_permanent or first.tries + 1 >= self._patience.tries:
            await self._do(lambda: self._outbox.drop(name, first.seq))
            if error.is_permanent:
                return
        else:
            await self._do(lambda: self._outbox.failed(first.seq))
        await self._sleep(max(self._patience.pause_s(self._health[name].failures), error.retry_after_s or 0.0))

    async def _own_up(self, name: str) -> None:
        """Tell a sink that works again what it missed; if that fails, after the next success."""
        untold = await self._do(lambda: self._outbox.untold(name))
        if not untold:
            return
        at = self._now()
        notice = Notice(
            id=f"lost-{at:%Y%m%dT%H%M%S%f}",
            at=at,
            news="summary",
            kind="summary",
            severity="warning",
            message=f"{untold} notices could not be delivered here and are lost",
            count=untold,
            more=untold,
            commands=("ringfence alerts",),
        )
        with suppress(NotifyError):
            await self._attempt(name, notice)
            await self._do(lambda: self._outbox.told(name, untold))

    def _note_failure(self, name: str, error: RingfenceError) -> None:
        health = self._health[name]
        health.failures, health.problem = health.failures + 1, str(error)

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
