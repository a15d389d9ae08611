"""Notices on their way, on disk: what was put here is delivered or counted as lost, also across a crash.

INVARIANT: `put` returns when the notices are durable. Each sink's are in order; a sink holds at most `most`, and the
oldest go first, counted. Not for several threads at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from ringfence.core.errors import RingfenceError
from ringfence.ports.notifier import Notice

_SCHEMA = """
CREATE TABLE IF NOT EXISTS waiting (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL, notice BLOB NOT NULL, tries INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS waiting_sink ON waiting (sink, seq);
CREATE TABLE IF NOT EXISTS lost (sink TEXT PRIMARY KEY, count INTEGER NOT NULL, untold INTEGER NOT NULL);
"""


class Waiting(NamedTuple):
    """The first notice of a sink."""

    seq: int
    notice: Notice
    tries: int


class Outbox:
    """Raises RingfenceError `outbox-unusable` from each method."""

    def __init__(self, path: Path | None, *, most: int = 1000) -> None:
        """`path` None keeps it in memory."""
        self._most = most
        with _mapped():
            self._database = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_SCHEMA)

    def put(self, notices: Mapping[str, Iterable[Notice]]) -> None:
        """Add notices by sink, all or none."""
        with self._transaction():
            for sink, some in notices.items():
                rows = [(sink, msgspec.json.encode(notice)) for notice in some]
                self._database.executemany("INSERT INTO waiting (sink, notice) VALUES (?, ?)", rows)
                over = self.waiting(sink) - self._most
                if over > 0:
                    oldest = "SELECT seq FROM waiting WHERE sink = ? ORDER BY seq LIMIT ?"
                    self._database.execute(f"DELETE FROM waiting WHERE seq IN ({oldest})", (sink, over))
                    self._lose(sink, over)

    def first(self, sink: str) -> Waiting | None:
        with _mapped():
            row = self._database.execute(
                "SELECT seq, notice, tries FROM waiting WHERE sink = ? ORDER BY seq LIMIT 1", (sink,)
            ).fetchone()
        return Waiting(row[0], msgspec.json.decode(row[1], type=Notice), row[2]) if row else None

    def delivered(self, seq: int) -> None:
        with self._transaction():
            self._database.execute("DELETE FROM waiting WHERE seq = ?", (seq,))

    def failed(self, seq: int) -> None:
        """One more try was in vain."""
        with self._transaction():
            self._database.execute("UPDATE waiting SET tries = tries + 1 WHERE seq = ?", (seq,))

    def drop(self, sink: str, seq: int) -> None:
        """Give up on one, and count it."""
        with self._transaction():
            if self._database.execute("DELETE FROM waiting WHERE seq = ?", (seq,)).rowcount:
                self._lose(sink, 1)

    def keep_only(self, sinks: Iterable[str]) -> int:
        """Forget what waits for sinks that are no longer configured; how many notices that were."""
        names = list(sinks)
        with self._transaction():
            marks = ",".join("?" * len(names))
            return self._database.execute(f"DELETE FROM waiting WHERE sink NOT IN ({marks})", names).rowcount

    def waiting(self, sink: str) -> int:
        with _mapped():
            return int(self._database.execute("SELECT count(*) FROM waiting WHERE sink = ?", (sink,)).fetchone()[0])

    def lost(self, sink: str) -> int:
        """How many were ever dropped."""
        return self._lost(sink)[0]

    def untold(self, sink: str) -> int:
        """How many were dropped since the sink was last told that some were."""
        return self._lost(sink)[1]

    def told(self, sink: str, count: int) -> None:
        with self._transaction():
            self._database.execute("UPDATE lost SET untold = untold - ? WHERE sink = ?", (count, sink))

    def close(self) -> None:
        self._database.close()

    def _lose(self, sink: str, count: int) -> None:
        self._database.execute(
            "INSERT INTO lost VALUES (?, ?, ?) ON CONFLICT (sink) DO UPDATE "
            "SET count = count + excluded.count, untold = untold + excluded.untold",
            (sink, count, count),
        )

    def _lost(self, sink: str) -> tuple[int, int]:
        with _mapped():
            row = self._database.execute("SELECT count, untold FROM lost WHERE sink = ?", (sink,)).fetchone()
        return (int(row[0]), int(row[1])) if row else (0, 0)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _mapped():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        told = f"notices that wait cannot be read or written: {str(error).lower()}"
        raise RingfenceError("outbox-unusable", told, help="check path, permissions and space") from error
