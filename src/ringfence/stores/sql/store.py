"""The state in a database, safe to use from asyncio: one thread writes, a few read.

INVARIANT: a caller is answered after the commit that holds its change. Writes that wait for each other share one
commit, each in a savepoint of its own: one that fails undoes itself only, a commit that fails fails all of them.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from ringfence.ports.state import Change, StateError, View
from ringfence.stores.sql import engines
from ringfence.stores.sql.migrations import migrate
from ringfence.stores.sql.transaction import SqlChange, SqlView

T = TypeVar("T")
MOST_AT_ONCE = 256
"""Writes that share a commit."""


class _Job:
    """One write, and who waits for it."""

    def __init__(self, work: Callable[[Change], Any]) -> None:
        self.work = work
        self.answer: Future[Any] = Future()
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self, failure: BaseException | None = None) -> None:
        error = self.error or failure
        if error is not None:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(self.result)


class SqlState:
    """`ports.state.State` in SQLite (a path) or PostgreSQL (a URL)."""

    def __init__(self, place: str | Path) -> None:
        """Opens the database, makes or migrates its tables. Raises StateError `state-in-use`, `state-version`,
        `state-damaged`, `state-unreachable`, `state-unwritable`, `state-url`, `missing-extra`."""
        url, claim = engines.url_of(place), engines.Claim()
        self.place = engines.place_of(url)
        """Where it is, for people."""
        self._lock = engines.lock_of(url)
        self._writer = self._reader = None
        try:
            self._writer, self._reader = engines.writer(url, claim), engines.reader(url)
            with engines.translated(), self._writer.begin() as connection:
                migrate(connection)
                claim.stake(connection)
        except BaseException:
            self._let_go()
            raise
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, name="state-writer", daemon=True)
        self._thread.start()
        self._pool = ThreadPoolExecutor(engines.READERS, thread_name_prefix="state-reader")

    async def read(self, work: Callable[[View], T]) -> T:
        """What the work answers, over one moment's state."""
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._look, work)

    async def write(self, work: Callable[[Change], T]) -> T:
        """What the work answers, once what it did is on disk. A write that was begun is finished, even if nobody waits
        for it any more."""
        job = _Job(work)
        with self._closing:
            self._check_open()
            self._jobs.put(job)
        answer: T = await asyncio.wrap_future(job.answer)
        return answer

    async def close(self) -> None:
        """Finish what was begun, and let go of the database."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._pool.shutdown)
        self._let_go()

    def _check_open(self) -> None:
        if self._is_closed:
            raise StateError("state-closed", "the state is closed", help="the controller is stopping")

    def _let_go(self) -> None:
        for engine in (self._writer, self._reader):
            if engine is not None:
                engine.dispose()
        if self._lock is not None:
            self._lock.release()

    def _look(self, work: Callable[[View], T]) -> T:
        assert self._reader is not None
        with engines.translated(), self._reader.begin() as connection:
            return work(SqlView(connection))

    # ---- the writing thread ----------------------------------------------------------------------------------------

    def _serve(self) -> None:
        assert self._writer is not None
        while (job := self._jobs.get()) is not None:
            batch, is_last = self._gather(job)
            begun = [one for one in batch if one.answer.set_running_or_notify_cancel()]
            failure = _commit(self._writer, begun)
            for one in begun:
                one.settle(failure)
            if is_last:
                return

    def _gather(self, first: _Job) -> tuple[list[_Job], bool]:
        """What waits now, and whether the end was among it."""
        batch = [first]
        while len(batch) < MOST_AT_ONCE:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return batch, True
            batch.append(job)
        return batch, False


def _commit(engine: Engine, batch: list[_Job]) -> BaseException | None:
    """Run the jobs and commit; the error that befell all of them, if any."""
    if not batch:
        return None
    try:
        with engines.translated(), engine.begin() as connection:
            for job in batch:
                _run(connection, job)
    except Exception as error:
        return error
    return None


def _run(connection: Connection, job: _Job) -> None:
    """One job in its own savepoint."""
    connection.exec_driver_sql("SAVEPOINT job")
    try:
        change = SqlChange(connection)
        with engines.translated():
            job.result = job.work(change)
            change.finish()
    except Exception as error:
        job.error = error
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT job")
    connection.exec_driver_sql("RELEASE SAVEPOINT job")
