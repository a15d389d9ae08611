"""Connections to SQLite and PostgreSQL: one that writes, some that read, and what the databases' errors mean.

INVARIANT: one process writes. A second one is told `state-in-use` (SQLite: a lock on a file beside the database;
PostgreSQL: an advisory lock that lives and dies with the writing connection). Where the connection was lost and another
process wrote meanwhile, the first one never writes again: `state-taken`.

A commit is on disk before it is acknowledged: SQLite WAL with `synchronous=FULL` (sqlite.org/pragma.html),
PostgreSQL `synchronous_commit=on`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    StatementError,
)
from sqlalchemy.pool import QueuePool

from ringfence.ports.state import StateError

READERS = 2
LOCK = ".lock"
"""Of the file beside an SQLite file."""
_WRITER_LOCK = 0x52_46_53_54
"""The advisory lock of the writer ("RFST")."""
_PATIENCE_MS = 2_000
"""The server may notice only then that the writer before is gone."""
_LOCK_NOT_AVAILABLE = "55P03"
"""PostgreSQL, appendix A."""
_PATIENT: dict[str, object] = {
    "application_name": "ringfence",
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""A server that fell silent is given up, and not waited for by the hour (PostgreSQL manual, 32.1.2)."""
_NOTICED = ("tcp_keepalives_idle = 10", "tcp_keepalives_interval = 5", "tcp_keepalives_count = 3")
"""The server, too, gives up a writer that fell silent, with its lock: else nobody writes for hours, this process
included, after a network was away (PostgreSQL manual, 20.3.2). Without a meaning on a local socket."""
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000")


def url_of(place: str | Path) -> str:
    """A path to an SQLite file or a database URL -> an SQLAlchemy URL. Raises StateError `state-url`."""
    if isinstance(place, Path) or "://" not in place:
        return f"sqlite:///{Path(place).absolute()}"
    try:
        url = make_url(place)
    except ArgumentError as error:
        raise _bad_url("it cannot be read") from error
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise _bad_url(f"`{url.drivername}` is not a database this works with")
    if url.drivername == "sqlite" and not url.database:
        raise _bad_url("it names no file, and a state in memory would be lost")
    return url.render_as_string(hide_password=False)


def _bad_url(why: str) -> StateError:
    help_ = "write a path, or postgresql://USER@HOST/DATABASE"
    return StateError("state-url", f"the address of the database is not usable: {why}", help=help_)


def file_of(url: str) -> Path | None:
    """Where an SQLite state lies."""
    parts = make_url(url)
    return Path(parts.database) if parts.drivername == "sqlite" and parts.database else None


class Lock:
    """The right to write to an SQLite file."""

    def __init__(self, database: Path) -> None:
        """Raises StateError `state-in-use`."""
        path = database.with_name(database.name + LOCK)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path).st_ino != os.fstat(self._file).st_ino:  # who held it took it away: a restore that failed
                raise OSError("the lock is another file now")
        except OSError as error:
            os.close(self._file)
            raise in_use() from error

    def release(self) -> None:
        os.close(self._file)


def taken() -> StateError:
    help_ = "this one must end: start it again once the other one is stopped"
    return StateError("state-taken", "another process wrote to this state while the database was away", help=help_)


def in_use() -> StateError:
    help_ = "one controller writes at a time: stop the other one"
    return StateError("state-in-use", "another process writes to this state", help=help_)


def lock_of(url: str) -> Lock | None:
    """The lock of an SQLite file, which is made if it is not there, for its owner's eyes only."""
    database = file_of(url)
    if database is None:
        return None
    try:
        lock = Lock(database)
        os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        help_ = "check the path, permissions and free space"
        message = f"cannot open the state: {(error.strerror or str(error)).lower()}"
        raise StateError("state-unwritable", message, help=help_) from error
    return lock


def place_of(url: str) -> str:
    """Where a state is, for people: no password in it."""
    parts = make_url(url)
    if parts.drivername == "sqlite":
        return f"SQLite in {parts.database}"
    host = parts.host or parts.query.get("host") or "the local socket"
    return f"PostgreSQL, database `{parts.database}` on `{host}`"


class Claim:
    """That one process is who writes to a PostgreSQL state, for as long as nobody else has begun to.

    Whoever opens the state touches the one table that is never touched otherwise; its rows carry the number of the
    transaction that did so (PostgreSQL manual, 5.6, `xmin`).
    """

    def __init__(self) -> None:
        self._number = ""

    def stake(self, connection: Connection) -> None:
        """Within the transaction that opens the state."""
        if connection.dialect.name != "postgresql":
            return
        connection.exec_driver_sql("UPDATE schema_version SET version = version")
        self._number = str(connection.exec_driver_sql("SELECT pg_current_xact_id()::xid::text").scalar_one())

    def check(self, connection: Any) -> None:
        """Over a new connection of the driver. Raises StateError `state-taken`."""
        if not self._number:
            return
        others = "SELECT count(*) FROM schema_version WHERE xmin::text <> %s"
        if connection.execute(others, (self._number,)).fetchone()[0]:
            raise taken()


def writer(url: str, claim: Claim | None = None) -> Engine:
    """For one connection, whose transactions are alone."""
    if url.startswith("sqlite"):
        engine = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0)
        _set_up_sqlite(engine, _PRAGMAS, begin="BEGIN IMMEDIATE")
        return engine
    engine = _postgres(url, pool_size=1)

    @event.listens_for(engine, "connect")
    def lock(connection: Any, _: object) -> None:
        try:
            for setting in (*_NOTICED, f"lock_timeout = {_PATIENCE_MS}"):
                connection.execute(f"SET {setting}")
            connection.execute("SELECT pg_advisory_lock(%s)", (_WRITER_LOCK,))
        except connection.Error as error:
            connection.close()
            if getattr(error, "sqlstate", "") != _LOCK_NOT_AVAILABLE:
                raise
            raise in_use() from error
        if claim is not None:
            _or_close(connection, claim)
        connection.execute("SET lock_timeout = 0")
        connection.execute("SET synchronous_commit = on")
        connection.commit()

    return engine


def _or_close(connection: Any, claim: Claim) -> None:
    try:
        claim.check(connection)
    except BaseException:
        connection.close()
        raise


def reader(url: str) -> Engine:
    """For connections whose transactions each see one moment, and change nothing."""
    if url.startswith("sqlite"):
        engine = create_engine(url, poolclass=QueuePool, pool_size=READERS, max_overflow=0)
        _set_up_sqlite(engine, (*_PRAGMAS[2:], "query_only=ON"), begin="BEGIN")
        return engine
    return _postgres(url, READERS, isolation_level="REPEATABLE READ", execution_options={"postgresql_readonly": True})


def _postgres(url: str, pool_size: int, **options: Any) -> Engine:
    said = make_url(url).query
    patient = {name: value for name, value in _PATIENT.items() if name not in said}
    try:
        return create_engine(
            url, pool_size=pool_size, max_overflow=0, pool_pre_ping=True, connect_args=patient, **options
        )
    except ImportError as error:
        help_ = "pip install 'ringfence[postgres]'"
        raise StateError("missing-extra", "PostgreSQL needs a package that is not installed", help=help_) from error


def _set_up_sqlite(engine: Engine, pragmas: tuple[str, ...], *, begin: str) -> None:
    """Transactions as SQLAlchemy begins them, not as Python's driver guesses (SQLAlchemy docs, "Pysqlite")."""

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def start(connection: Any) -> None:
        connection.exec_driver_sql(begin)


@contextmanager
def translated() -> Iterator[None]:
    """Errors of the databases -> StateError."""
    try:
        yield
    except DBAPIError as error:
        raise meaning_of(error) from error
    except StatementError as error:
        if isinstance(error.orig, StateError):
            raise error.orig from None
        raise


def meaning_of(error: DBAPIError) -> StateError:
    """What a person should know about an error of a database."""
    said = str(error.orig).strip().splitlines()[0].lower() if str(error.orig).strip() else "no reason given"
    if isinstance(error, IntegrityError):
        if "foreign key" in said:
            return StateError("record-missing", "what a record refers to is not there, or is still referred to")
        return StateError("record-exists", f"there is such a record already ({said})")
    if "append-only" in said:
        return StateError("append-only", "the audit log can only be added to")
    if any(word in said for word in ("not a database", "malformed", "corrupt")):
        return StateError("state-damaged", f"the state is damaged: {said}", help="restore it from a backup")
    if any(word in said for word in ("readonly", "disk is full", "disk i/o", "no space", "unable to open")):
        help_ = "check the path, permissions and free space"
        return StateError("state-unwritable", f"the state cannot be written: {said}", help=help_)
    if isinstance(error, OperationalError | InterfaceError):
        help_ = "check that the database runs and can be reached"
        return StateError("state-unreachable", f"the database does not answer: {said}", help=help_)
    assert isinstance(error, DatabaseError)
    return StateError("state-refused", f"the database refused: {said}", help="report it: this is a fault in Ringfence")
