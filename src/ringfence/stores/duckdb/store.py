"""The flow store over DuckDB.

INVARIANT: `append` is one transaction of rows and file digests; once it returns, both survive kill -9 (DuckDB's
write-ahead log). One process owns the file; threads share the store, one call at a time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import COLUMNS, REPORTED, Conversations
from ringfence.core.flow.programs import COLUMNS as PROGRAM_COLUMNS
from ringfence.core.flow.programs import Programs
from ringfence.core.flow.series import HOUR_S, Series, hourly
from ringfence.core.flow.tally import FileReport
from ringfence.ports.flow_store import Most, Pruned, Totals
from ringfence.stores.duckdb import endpoints, schema

_DAY_S = 86400
_MOST = 2**63 - 1
_FILE_FIELDS = {
    "digest": "digest", "name": "file", "format": "format", "size_bytes": "size_bytes", "lines": "lines",
    "records": "records", "malformed": "malformed",
}  # fmt: skip
"""Columns of `file` by the FileReport's fields."""
_REMEMBER = "INSERT INTO file BY NAME SELECT * REPLACE (number + (SELECT count(*) FROM file) AS number) FROM incoming"
_SEEN_BEFORE = f"""
  WITH place AS (SELECT id, min(id) OVER (PARTITION BY network, address, has_address, name) AS at FROM endpoint),
  old AS (
    SELECT s.at AS source, d.at AS destination, point, hour, first, last, connections
    FROM conversation c JOIN place s ON s.id = c.source JOIN place d ON d.id = c.destination
    WHERE hour BETWEEN (SELECT min(hour) FROM incoming) AND (SELECT max(hour) FROM incoming)),
  new AS (
    SELECT row_number() OVER () AS n, s.at AS source, d.at AS destination, point, hour, first, last, connections
    FROM incoming i JOIN place s ON s.id = i.source JOIN place d ON d.id = i.destination),
  seen AS (
    SELECT least(any_value(new.connections), sum(old.connections)) AS connections
    FROM new JOIN old USING (source, destination, point, hour)
    WHERE new.first < old.last AND old.first < new.last OR new.first = old.first
    GROUP BY n)
  SELECT least(coalesce(sum(connections), 0), {_MOST})::BIGINT FROM seen"""
"""Connections of `incoming` between the same addresses, on the same service, at a time that a row kept before spans."""
_TOTALS = ("rows", "connections", "packets", "bytes", "first", "last")
_KEY = "source, destination, point, reported"
_PROGRAM = "source, destination, point, side"
_ORDER = "hour, source, destination, point, reported"
"""Whole: the same rows in the same order, each time."""
_JOINED = f"""
  least(sum(connections), {_MOST})::BIGINT connections, least(sum(packets), {_MOST})::BIGINT packets,
  least(sum(bytes), {_MOST})::BIGINT bytes, min(first) AS first, max(last) AS last, max(confidence) confidence"""


class DuckFlowStore:
    """One file of conversations. A context manager that closes it."""

    def __init__(self, path: Path | str, *, most: Most | None = None) -> None:
        """Open or create it. `most`: what `read` answers with. Raises InputError `flow-store-locked`,
        `flow-store-damaged`, `flow-store-version`."""
        self._path, self.most = Path(path), most
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self.revision = 0
        self._database = _open(self._path)
        _drop(self._compacting)

    def __enter__(self) -> DuckFlowStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._database.close()

    # ---- writing -----------------------------------------------------------------------------------------------

    def append(
        self, conversations: Conversations, files: Sequence[FileReport] = (), programs: Programs | None = None
    ) -> int:
        with self._transaction() as database:
            self._refuse_known(files)
            if files:
                rows = {name: [getattr(file, field) for file in files] for name, field in _FILE_FIELDS.items()}
                with endpoints.registered(database, "incoming", pa.table(rows | {"number": range(len(files))})):
                    database.execute(_REMEMBER)
            if programs is not None and len(programs):
                self._insert_programs(database, programs)
            return self._insert(database, conversations) if len(conversations) else 0

    def _refuse_known(self, files: Sequence[FileReport]) -> None:
        known = self.known_files([file.digest for file in files])
        names = ", ".join(f"`{file.file}`" for file in files if file.digest in known)
        if names:
            raise InputError("flows-already-imported", f"{names} was imported before", help="nothing was stored")

    def _insert(self, database: duckdb.DuckDBPyConnection, conversations: Conversations) -> int:
        """Add the rows. -> how many of their connections were seen before."""
        ids = endpoints.ids_of(database, conversations.endpoints)
        columns: dict[str, Any] = {name: getattr(conversations, name) for name in COLUMNS}
        columns["source"], columns["destination"] = ids[conversations.source], ids[conversations.destination]
        with endpoints.registered(database, "incoming", pa.table(columns)):
            again = database.execute(_SEEN_BEFORE).fetchone()
            database.execute(
                f"INSERT INTO conversation BY NAME SELECT {', '.join(COLUMNS)} FROM incoming ORDER BY hour"
            )
        assert again is not None
        return int(again[0])

    def _insert_programs(self, database: duckdb.DuckDBPyConnection, programs: Programs) -> None:
        ids = endpoints.ids_of(database, programs.endpoints)
        units = endpoints.unit_ids(database, programs.names)
        columns: dict[str, Any] = {name: getattr(programs, name) for name in PROGRAM_COLUMNS if name != "name"}
        columns["source"], columns["destination"] = ids[programs.source], ids[programs.destination]
        with endpoints.registered(database, "incoming", pa.table(columns | {"unit": units[programs.name]})):
            database.execute("INSERT INTO program BY NAME SELECT * FROM incoming ORDER BY hour")

    # ---- reading -----------------------------------------------------------------------------------------------

    def known_files(self, digests: Collection[str]) -> frozenset[str]:
        with self._lock:
            rows = self._database.execute("SELECT digest FROM file WHERE digest IN (SELECT unnest(?))", [list(digests)])
            return frozenset(digest for (digest,) in rows.fetchall())

    def earlier_imports(self, names: Collection[str]) -> dict[str, str]:
        with self._lock:
            query = "SELECT name, arg_max(digest, number) FROM file WHERE name IN (SELECT unnest(?)) GROUP BY name"
            return dict(self._database.execute(query, [list(names)]).fetchall())

    def read(
        self,
        since: int | None = None,
        until: int | None = None,
        *,
        workloads: Collection[str] | None = None,
        addresses: Collection[int] | None = None,
        by_hour: bool = True,
    ) -> Conversations:
        where, values = _span(since, until)
        with self._lock:
            if workloads is not None or addresses is not None:
                where += " AND (source IN (SELECT id FROM picked) OR destination IN (SELECT id FROM picked))"
                self._pick(workloads or (), addresses or ())
            hour, key = ("hour", f"{_KEY}, hour") if by_hour else ("min(hour) AS hour", _KEY)
            at_most = f"LIMIT {self.most.rows + 1}" if self.most is not None else ""
            rows = f"SELECT {_KEY}, {hour}, {_JOINED} FROM conversation {where} GROUP BY {key} {at_most}"
            found = self._database.execute(f"SELECT * FROM ({rows}) ORDER BY {_ORDER}", values).fetchnumpy()
            used, index = np.unique(np.concatenate([found["source"], found["destination"]]), return_inverse=True)
            self._check(len(found["point"]), len(used), where, values)
            ends = endpoints.load(self._database, used)
        source, destination = np.split(index.astype(np.int32), 2)
        columns = {name: np.asarray(found[name]) for name in COLUMNS} | {"source": source, "destination": destination}
        return Conversations(ends, **columns)

    def programs(
        self, since: int | None = None, until: int | None = None, *, workloads: Collection[str], most: int
    ) -> Programs:
        where, values = _span(since, until)
        with self._lock:
            self._pick(workloads, ())
            query = f"""
              SELECT min(hour) AS hour, {_PROGRAM}, unit, least(sum(connections), {_MOST})::BIGINT AS connections
              FROM program {where} AND (source IN (SELECT id FROM picked) OR destination IN (SELECT id FROM picked))
              GROUP BY {_PROGRAM}, unit ORDER BY connections DESC, {_PROGRAM}, unit LIMIT {most}"""
            found = self._database.execute(query, values).fetchnumpy()
            used, index = np.unique(np.concatenate([found["source"], found["destination"]]), return_inverse=True)
            ends = endpoints.load(self._database, used)
            units, name = np.unique(found["unit"], return_inverse=True)
            named = dict(self._database.execute("SELECT id, name FROM unit").fetchall())
        source, destination = np.split(index.astype(np.int32), 2)
        columns = {column: np.asarray(found[column]) for column in ("hour", "point", "side", "connections")}
        names = tuple(named[unit] for unit in units.tolist())
        return Programs(ends, names, source=source, destination=destination, name=name.astype(np.int32), **columns)

    def _check(self, rows: int, ends: int, where: str, values: list[int]) -> None:
        """Raises InputError `too-much`, with the span that would do."""
        if self.most is None or (rows <= self.most.rows and ends <= self.most.ends):
            return
        what = f"{self.most.rows:,} rows of traffic" if rows > self.most.rows else f"{self.most.ends:,} addresses"
        query = f"SELECT hour, count(*) FROM conversation {where} GROUP BY hour ORDER BY hour DESC"
        hours = self._database.execute(query, values).fetchall()
        most = self.most.rows if rows > self.most.rows else sum(count for _, count in hours) * self.most.ends // ends
        raise InputError("too-much", f"more than {what} are of that span", help=_shorter(hours, most))

    def _pick(self, workloads: Collection[str], addresses: Collection[int]) -> None:
        """The endpoints asked for, as the temporary table `picked`."""
        self._database.execute(
            """CREATE OR REPLACE TEMP TABLE picked AS
               SELECT e.id FROM endpoint e LEFT JOIN workload w ON w.id = e.workload
               WHERE w.document ->> '$.uuid' IN (SELECT unnest(?))
                  OR (e.has_address AND e.address::VARCHAR IN (SELECT unnest(?)))""",
            [list(workloads), [str(address) for address in addresses]],
        )

    def totals(self, since: int | None = None, until: int | None = None) -> Totals:
        where, values = _span(since, until)
        sums = ", ".join(
            f"least(coalesce(sum({name}), 0), {_MOST})::BIGINT" for name in ("connections", "packets", "bytes")
        )
        each = ", ".join(
            f"coalesce(sum(connections) FILTER (reported = {number}), 0)::BIGINT" for number in range(len(REPORTED))
        )
        query = f"SELECT count(*), {sums}, min(first), max(last), {each} FROM conversation {where}"
        with self._lock:
            row = self._database.execute(query, values).fetchone()
        assert row is not None
        return Totals(**dict(zip(_TOTALS, row[:6], strict=True)), by_reported=tuple(row[6:]))

    def series(self, since: int | None = None, until: int | None = None) -> Series:
        where, values = _span(since, until)
        query = f"SELECT hour, reported, {_JOINED} FROM conversation {where} GROUP BY hour, reported ORDER BY hour"
        with self._lock:
            found = self._database.execute(query, values).fetchnumpy()
        none = np.zeros(len(found["hour"]), np.int32)
        columns = {name: np.asarray(found.get(name, none)) for name in COLUMNS}
        return hourly(Conversations((), **columns), columns["reported"], len(REPORTED))

    # ---- forgetting --------------------------------------------------------------------------------------------

    def prune(self, now: int, *, max_days: int | None = None, max_bytes: int | None = None) -> Pruned:
        with self._lock:
            before = None if max_days is None else (now - max_days * _DAY_S) // HOUR_S * HOUR_S
            gone = self._forget(before)
            if gone.rows:
                self._compact()
            while (
                max_bytes is not None
                and self.size_bytes() > max_bytes
                and (cut := self._next_cut(max_bytes)) is not None
            ):
                more = self._forget(cut)
                gone = Pruned(gone.rows + more.rows, gone.hours + more.hours, more.before)
                self._compact()
            return Pruned(gone.rows, gone.hours, gone.before, self.size_bytes())

    def size_bytes(self) -> int:
        """What the store takes on disk, its write-ahead log included."""
        return sum(path.stat().st_size for path in (self._path, _log_of(self._path)) if path.exists())

    def _next_cut(self, max_bytes: int) -> int | None:
        """The hour to forget up to, by the share of rows over the limit, at least one; None when nothing is left."""
        hours = self._database.execute("SELECT hour, count(*) FROM conversation GROUP BY hour ORDER BY hour").fetchall()
        if not hours:
            return None
        excess = sum(count for _, count in hours) * (1 - max_bytes / self.size_bytes())
        for hour, count in hours:
            excess -= count
            if excess <= 0:
                return int(hour) + HOUR_S
        return int(hours[-1][0]) + HOUR_S

    def _forget(self, before: int | None) -> Pruned:
        if before is None:
            return Pruned()
        with self._transaction() as database:
            query = "SELECT count(*), count(DISTINCT hour) FROM conversation WHERE hour < ?"
            rows, hours = database.execute(query, [before]).fetchone() or (0, 0)
            for table in ("conversation", "program"):
                database.execute(f"DELETE FROM {table} WHERE hour < ?", [before])
        return Pruned(rows, hours, before if rows else None)

    def _compact(self) -> None:
        """Write what is left to a new file and put it in the old one's place: DuckDB does not shrink a file.

        INVARIANT: a crash at any point leaves one complete file under the store's name, and no write-ahead log that
        belongs to another file (closing the only connection merges the old one's).
        """
        fresh = self._compacting
        _drop(fresh)
        with _open(fresh):
            pass
        self._database.execute(f"ATTACH '{_quoted(fresh)}' AS fresh")
        for query in schema.KEEP_USED:
            self._database.execute(query)
        self._database.execute("CHECKPOINT fresh")
        self._database.execute("DETACH fresh")
        self._database.close()
        os.replace(fresh, self._path)
        self._database = _open(self._path)

    @property
    def _compacting(self) -> Path:
        """The new file while it is written; one that is there when nobody writes it is what a crash left."""
        return self._path.with_name(self._path.name + ".compacting")

    @contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._lock:
            self._database.execute("BEGIN")
            try:
                yield self._database
                self._database.execute("COMMIT")
                self.revision += 1
            except BaseException:
                self._database.execute("ROLLBACK")
                raise


def _open(path: Path) -> duckdb.DuckDBPyConnection:
    """The only connection to the file: in this process DuckDB would share one, unless asked to open it another way."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    try:
        if path.exists():
            duckdb.connect(str(path), read_only=True).close()
        database = duckdb.connect(str(path), config=settings)
    except duckdb.ConnectionException as error:
        raise _locked(path) from error
    except duckdb.Error as error:
        text = str(error)
        if "lock" in text.lower():
            raise _locked(path) from error
        message = f"`{path}` cannot be opened as a flow store"
        raise InputError("flow-store-damaged", message, help=text.splitlines()[0]) from error
    try:
        schema.prepare(database, str(path))
    except BaseException:
        database.close()
        raise
    return database


def _locked(path: Path) -> InputError:
    return InputError("flow-store-locked", f"`{path}` is in use", help="one process owns the store: ask it, or stop it")


def _drop(path: Path) -> None:
    for leftover in (path, _log_of(path)):
        leftover.unlink(missing_ok=True)


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + ".wal")


def _shorter(hours: Sequence[tuple[int, int]], most: int) -> str:
    """What span would do: so many rows of each hour, the latest first."""
    first, rows = None, 0
    for hour, count in hours:
        rows += count
        if rows > most:
            break
        first = hour
    if first is None:
        return "name a shorter span (`since`, `until`), or give the controller more memory"
    return f"name a shorter span: since {datetime.fromtimestamp(first, UTC):%Y-%m-%dT%H:%MZ} would do"


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _span(since: int | None, until: int | None) -> tuple[str, list[int]]:
    """A WHERE clause for every hour the span touches, and its values."""
    since = None if since is None else since // HOUR_S * HOUR_S
    terms = [(term, value) for term, value in (("hour >= ?", since), ("hour < ?", until)) if value is not None]
    return "WHERE " + " AND ".join(["true", *(term for term, _ in terms)]), [value for _, value in terms]
