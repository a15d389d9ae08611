"""Backup and restore: the whole state and the files beside it (CA, keys) as one file, from either database into either.

    a tar.gz, sealed if there is a passphrase: manifest.json, tables/NAME.jsonl ..., files/FOLDER/PATH ..., digests.json

INVARIANT: a backup is one moment's state. A restore is whole or nothing, into empty places only, and every byte of it
was checked against its digest.
INVARIANT: after a restore no number that agents order news by is one they have seen: counters and group versions go on
`AHEAD` of where they were, because the agents may have lived on after the backup.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, cast

import msgspec
from sqlalchemy import Connection, MetaData, Table, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError

from ringfence.durable import sync_folder
from ringfence.ports.state import Change, StateError
from ringfence.stores.sql import engines
from ringfence.stores.sql.migrations import NEWEST, migrate, version_of
from ringfence.stores.sql.sealing import MAGIC, SealedReader, SealedWriter, locked
from ringfence.stores.sql.store import SqlState
from ringfence.stores.sql.transaction import SqlChange, SqlView

FORMAT = 1
AHEAD = 1 << 32
_AT_ONCE = 2_000
"""Rows that are read and written together."""
_DAMAGE = (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, msgspec.DecodeError, UnicodeDecodeError, KeyError)


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup is of."""

    format: int
    schema: int
    at: datetime
    version: str
    """Of Ringfence."""


# ---- backup ---------------------------------------------------------------------------------------------------------


async def backup(
    state: SqlState, path: Path, *, at: datetime, version: str, folders: Mapping[str, Path], passphrase: str = ""
) -> Manifest:
    """Write a backup of the state and of the folders, by name. Nobody else can read the file.

    Raises StateError `backup-taken` if the file is there, `state-unwritable`.
    """
    manifest = Manifest(FORMAT, NEWEST, at, version)
    await state.read(lambda view: _write(path, cast(SqlView, view), manifest, folders, passphrase))
    return manifest


def _write(path: Path, view: SqlView, manifest: Manifest, folders: Mapping[str, Path], passphrase: str) -> None:
    if path.exists():
        raise StateError("backup-taken", f"`{path}` exists", help="name a new file")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            sealed = SealedWriter(file, passphrase) if passphrase else None
            with tarfile.open(mode="w|gz", fileobj=cast(IO[bytes], sealed or file)) as tar:
                _Packer(tar, path.parent).pack(view.connection, manifest, folders)
            if sealed is not None:
                sealed.close()
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


class _Packer:
    """Members of a backup, with their digests."""

    def __init__(self, tar: tarfile.TarFile, scratch: Path) -> None:
        self._tar, self._scratch = tar, scratch
        self._digests: dict[str, str] = {}

    def pack(self, connection: Connection, manifest: Manifest, folders: Mapping[str, Path]) -> None:
        self._member("manifest.json", io.BytesIO(msgspec.json.encode(manifest)))
        for table in _tables(connection):
            with tempfile.TemporaryFile(dir=self._scratch) as lines:
                _dump(connection, table, lines)
                self._member(f"tables/{table.name}.jsonl", lines)
        for name, folder in folders.items():
            for file in sorted(one for one in folder.rglob("*") if one.is_file() and not one.is_symlink()):
                with file.open("rb") as content:
                    self._member(f"files/{name}/{file.relative_to(folder).as_posix()}", content)
        self._member("digests.json", io.BytesIO(msgspec.json.encode(self._digests)))

    def _member(self, name: str, content: IO[bytes]) -> None:
        content.seek(0)
        self._digests[name] = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
        info = tarfile.TarInfo(name)
        info.size, info.mode = content.seek(0, os.SEEK_END), 0o600
        content.seek(0)
        self._tar.addfile(info, content)


def _tables(connection: Connection) -> list[Table]:
    """As the database has them, what refers behind what is referred to, and nothing decoded."""
    metadata = MetaData()
    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name != "schema_version"]


def _dump(connection: Connection, table: Table, lines: IO[bytes]) -> None:
    """The names of the columns, then the rows by key."""
    encode = msgspec.json.Encoder().encode
    lines.write(encode([str(column.name) for column in table.columns]) + b"\n")
    rows = connection.execution_options(yield_per=_AT_ONCE).execute(select(table).order_by(*table.primary_key.columns))
    for row in rows:
        lines.write(encode(tuple(row)) + b"\n")


# ---- restore --------------------------------------------------------------------------------------------------------


async def restore(
    path: Path,
    place: str | Path,
    *,
    folders: Mapping[str, Path],
    then: Callable[[Change], object],
    passphrase: str = "",
) -> Manifest:
    """Put a backup into an empty database and empty folders. `then` is part of it: it records in the audit log who did
    so. The controller must not run.

    Raises StateError `state-not-empty`, `backup-unreadable`, `backup-locked`, `backup-newer`, and as opening a state.
    """
    return await asyncio.to_thread(_restore, path, place, folders, then, passphrase)


def _restore(
    path: Path, place: str | Path, folders: Mapping[str, Path], then: Callable[[Change], object], passphrase: str
) -> Manifest:
    for folder in folders.values():
        if folder.exists() and any(folder.iterdir()):
            raise _not_empty(f"the folder `{folder}`")
    url = engines.url_of(place)
    with contextlib.ExitStack() as stack:
        partials = {name: _partial(stack, folder) for name, folder in folders.items()}
        content = _content_of(stack, path, passphrase)
        connection = stack.enter_context(_empty_database(stack, url))
        try:
            with tarfile.open(mode="r|gz", fileobj=content) as tar:
                manifest = _unpack(tar, connection, partials)
        except _DAMAGE as error:
            raise unreadable("it is damaged, cut off, or none") from error
        migrate(connection)
        _go_ahead(connection)
        change = SqlChange(connection)
        then(change)
        change.finish()
        for name, folder in folders.items():
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.replace(partials[name], folder)
            sync_folder(folder.parent)
        return manifest


def _partial(stack: contextlib.ExitStack, folder: Path) -> Path:
    """A folder beside the one to be, which is gone in the end unless it took its place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    stack.callback(shutil.rmtree, partial, ignore_errors=True)
    return partial


@contextlib.contextmanager
def _empty_database(stack: contextlib.ExitStack, url: str) -> Iterator[Connection]:
    """A transaction in a database that has no tables; a file made for it goes again when it fails."""
    made = None if (file := engines.file_of(url)) is None or file.exists() else file
    lock = engines.lock_of(url)
    if lock is not None:
        stack.callback(lock.release)
    if made is not None:
        stack.push(lambda kind, *_: _forget(made) if kind is not None else None)
    engine = engines.writer(url)
    stack.callback(engine.dispose)
    with engines.translated(), engine.begin() as connection:
        if version_of(connection) or inspect(connection).get_table_names():
            raise _not_empty("the database")
        yield connection


def _forget(database: Path) -> None:
    """An empty state left behind would be taken for a controller's."""
    for suffix in ("", "-wal", "-shm", engines.LOCK):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def _content_of(stack: contextlib.ExitStack, path: Path, passphrase: str) -> IO[bytes]:
    """A backup, unsealed."""
    try:
        file = stack.enter_context(path.open("rb"))
    except OSError as error:
        message = f"cannot read `{path}`: {(error.strerror or '').lower()}"
        raise StateError("backup-unreadable", message, help="check the path and its permissions") from error
    is_sealed = file.read(len(MAGIC)) == MAGIC
    file.seek(0)
    if is_sealed and not passphrase:
        raise StateError("backup-locked", "the backup is sealed with a passphrase", help="give the passphrase")
    if passphrase and not is_sealed:
        raise locked()
    return cast(IO[bytes], SealedReader(file, passphrase)) if is_sealed else file


def _unpack(tar: tarfile.TarFile, connection: Connection, folders: Mapping[str, Path]) -> Manifest:
    members = iter(tar)
    digests: dict[str, str] = {}
    first = next(members, None)
    if first is None or first.name != "manifest.json":
        raise unreadable("it does not begin with a manifest")
    manifest = msgspec.json.decode(_content(tar, first, digests).read(), type=Manifest)
    if manifest.format > FORMAT or manifest.schema > NEWEST:
        message = f"ringfence {manifest.version} made the backup, and this version is older"
        raise StateError("backup-newer", message, help="use that version, or a later one")
    migrate(connection, to=manifest.schema)
    tables = {f"tables/{table.name}.jsonl": table for table in _tables(connection)}
    for member in members:
        if member.name == "digests.json":
            told = msgspec.json.decode(_read(tar, member), type=dict[str, str])
            if told != digests or not tables.keys() <= digests.keys():
                raise unreadable("a part of it is not as it was written")
            return manifest
        content = _content(tar, member, digests)
        if member.name in tables:
            _load(connection, tables[member.name], content)
        else:
            _put_file(member.name, content, folders)
    raise unreadable("it ends too early")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, digests: dict[str, str]) -> IO[bytes]:
    """A member's content in a file without a name, its digest noted."""
    source = tar.extractfile(member) if member.isfile() else None
    if source is None or member.name in digests:
        raise unreadable(f"`{member.name}` is not what a backup holds")
    copy = tempfile.SpooledTemporaryFile(max_size=1 << 20)  # noqa: SIM115, it lives as long as the caller holds it
    shutil.copyfileobj(source, copy)
    copy.seek(0)
    digests[member.name] = hashlib.file_digest(copy, "sha256").hexdigest()
    copy.seek(0)
    return cast(IO[bytes], copy)


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    return _content(tar, member, {}).read()


def _load(connection: Connection, table: Table, lines: IO[bytes]) -> None:
    columns = msgspec.json.decode(next(lines, b"[]"), type=list[str])
    if set(columns) != set(table.columns.keys()):
        raise unreadable(f"the table `{table.name}` has other columns than it must")
    decode = msgspec.json.Decoder(list[str | int | bool | None]).decode
    rows = (dict(zip(columns, decode(line), strict=True)) for line in lines)
    try:
        while some := list(islice(rows, _AT_ONCE)):
            connection.execute(insert(table), some)
    except (DBAPIError, ValueError) as error:
        raise unreadable(f"the table `{table.name}` holds what it may not") from error


def _put_file(name: str, content: IO[bytes], folders: Mapping[str, Path]) -> None:
    parts = PurePosixPath(name).parts
    if len(parts) < 3 or parts[0] != "files" or parts[1] not in folders or ".." in parts:
        raise unreadable(f"`{name}` has no place here")
    path = folders[parts[1]].joinpath(*parts[2:])
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        shutil.copyfileobj(content, file)
        file.flush()
        os.fsync(file.fileno())


def _go_ahead(connection: Connection) -> None:
    connection.execute(text("UPDATE counters SET value = value + :ahead"), {"ahead": AHEAD})
    connection.execute(text("UPDATE group_versions SET version = version + :ahead"), {"ahead": AHEAD})


def unreadable(why: str) -> StateError:
    return StateError("backup-unreadable", f"this is no backup that can be restored: {why}", help="use another backup")


def _not_empty(what: str) -> StateError:
    help_ = "a backup is restored into an empty directory and database only"
    return StateError("state-not-empty", f"{what} is not empty", help=help_)


def _unwritable(path: Path, error: OSError) -> StateError:
    message = f"cannot write `{path}`: {(error.strerror or str(error)).lower()}"
    return StateError("state-unwritable", message, help="check the path, permissions and free space")
