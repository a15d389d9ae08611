"""`ringfence up`: one controller with its API, from a directory, until it is told to stop.

INVARIANT: one controller per directory: the lock is taken before anything is opened, and the kernel gives it back
whatever becomes of the process. The port is held before agents are told of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from ringfence.api.serve import Api, listen
from ringfence.controller.controller import Controller, Settings
from ringfence.core.errors import RingfenceError

_log = logging.getLogger(__name__)
LOCK = "controller.lock"
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Up(NamedTuple):
    """A controller that serves."""

    url: str
    bus: tuple[str, ...]
    ca_fingerprint: str
    token: str | None
    """The administrator's, at the first start."""


async def run(settings: Settings, tell: Callable[[Up], None], *, new_token: bool = False) -> None:
    """Serve until SIGTERM or SIGINT. `tell` is called once everything answers; `new_token`: one more administrator's
    token, because the first was lost. Raises RingfenceError `controller-running`, `api-port-taken`, and as starting a
    controller does."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.set)
    settings.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(settings.directory), listen(settings.host, settings.port) as listening:
        controller = Controller(msgspec.structs.replace(settings, port=listening.getsockname()[1]))
        await _serve(controller, listening, tell, stop, new_token=new_token)


async def _serve(
    controller: Controller,
    listening: socket.socket,
    tell: Callable[[Up], None],
    stop: asyncio.Event,
    *,
    new_token: bool,
) -> None:
    api = None
    overtaken: list[RingfenceError] = []

    def end(error: RingfenceError) -> None:
        overtaken.append(error)
        stop.set()

    controller.on_taken = end
    try:
        token = await controller.start()
        api = Api(controller, listening)
        await api.start()
        if new_token and token is None:
            token = await controller.new_administrator()
        tell(Up(controller.settings.url, controller.fabric.urls, controller.authority.fingerprints[0], token))
        notify("READY=1")
        await stop.wait()
        notify("STOPPING=1")
        if overtaken:
            raise overtaken[0]
        _log.info("stopping; hosts stay as they are")
    finally:
        if api is not None:
            await api.stop()
        await controller.close()


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Raises RingfenceError `controller-running`."""
    file = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            help_ = "stop the other one, or name another directory"
            message = f"a controller runs in `{directory}` already"
            raise RingfenceError("controller-running", message, help=help_) from error
        yield
    finally:
        os.close(file)


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)); nothing where nobody listens."""
    where = os.environ.get("NOTIFY_SOCKET")
    if not where:
        return
    address = "\0" + where[1:] if where.startswith("@") else where
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out, contextlib.suppress(OSError):
        out.sendto(state.encode(), address)
