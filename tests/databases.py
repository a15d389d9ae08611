"""Real databases for tests: SQLite in a file, and PostgreSQL as Debian has it, in a folder of its own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from ringfence.stores.sql import SqlState

NewState = Callable[[], str | Path]
PDEATHSIG = 1


def _binaries() -> Path | None:
    """The newest PostgreSQL server here."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def _runs_as() -> dict[str, object]:
    """PostgreSQL refuses to run as root: whom to run it as."""
    if os.getuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Postgres:
    """A server that listens on a socket in its own folder only."""

    def __init__(self, binaries: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rfpg-"))
        self._as = _runs_as()
        if self._as:
            os.chown(self.folder, int(str(self._as["user"])), int(str(self._as["group"])))
        data = self.folder / "data"
        initdb = [binaries / "initdb", "-D", data, "-U", "ringfence", "--auth=trust", "-E", "UTF8", "--locale=C", "-N"]
        subprocess.run(initdb, check=True, capture_output=True, timeout=120, cwd="/", **self._as)  # type: ignore[call-overload]
        settings = {
            "listen_addresses": "", "unix_socket_directories": self.folder, "fsync": "off", "max_connections": "60",
            "shared_buffers": "16MB", "autovacuum": "off", "log_min_messages": "fatal",
        }  # fmt: skip
        self._command = [binaries / "postgres", "-D", data, *(f"--{name}={value}" for name, value in settings.items())]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Call it in the main thread: the server dies with the thread that started it (prctl(2))."""
        libc = ctypes.CDLL(None)
        self._process = subprocess.Popen(  # type: ignore[call-overload]
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            preexec_fn=lambda: libc.prctl(PDEATHSIG, signal.SIGINT), **self._as,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgresql://ringfence@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """The URL of an empty one."""
        name = f"t{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def drop(self, url: str) -> None:
        name = url.rsplit("/", maxsplit=1)[-1] if "?" not in url else url.split("?")[0].rsplit("/", 1)[-1]
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; skips where there is none to be had."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (scripts/setup --system installs it)")
    server = Postgres(binaries)
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewState]:
    """Makes places for new, empty databases of one kind."""
    if request.param == "sqlite":
        yield lambda: tmp_path / f"state-{uuid.uuid4().hex[:8]}.db"
        return
    server: Postgres = request.getfixturevalue("postgres")
    made: list[str] = []

    def make() -> str:
        made.append(server.new_database())
        return made[-1]

    yield make
    for url in made:
        server.drop(url)


@pytest.fixture
def place(new_state: NewState) -> str | Path:
    """Where one new, empty database is."""
    return new_state()


@contextlib.asynccontextmanager
async def opened(place: str | Path):  # type: ignore[no-untyped-def]
    """A state, closed in the end."""
    state = SqlState(place)
    try:
        yield state
    finally:
        await state.close()
