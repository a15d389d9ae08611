"""The API and the web UI on the controller's own event loop, over TLS 1.3.

INVARIANT: a stop takes seconds, whoever is connected: event streams end at once, answers under way have a grace, and
what outstays it is cut off. So whoever asked knows: an answer cut off is never taken for a whole one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn

from ringfence.api.app import app_of
from ringfence.api.web import Web
from ringfence.controller.controller import Controller
from ringfence.core.errors import RingfenceError

_GRACE_S = 1.5
"""For answers under way, and for clients to say goodbye."""
_FORCED_S = 3
"""uvicorn's own limit, which is reached by what takes no cancelling only."""
_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A socket that holds the port from now on; 0: a free one. Raises RingfenceError `api-port-taken`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        help_ = "stop who has it, or choose another with --port"
        raise RingfenceError("api-port-taken", f"cannot listen on `{host}` port {port}: {why}", help=help_) from error
    # connections inherit it; asyncio sets it only where the socket says its protocol, and without it the second half of
    # each answer waits 40 ms for the acknowledgement of the first (RFC 9293, 3.7.4, and 3.8.6.3)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def context_of(own: Path) -> ssl.SSLContext:
    """TLS 1.3 with the controller's own certificate (a file with its key)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(own)
    return context


class _Server(uvicorn.Server):
    """Signals are the command's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Requests:
    """The requests under way, as ASGI 3.0 tells of them."""

    def __init__(self, answers: Web) -> None:
        self._answers = answers
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_over = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._answers(scope, receive, send)
        except asyncio.CancelledError:
            if not self._is_over:
                raise
        finally:
            self._tasks.discard(task)

    def end(self) -> None:
        """Those that are left, without a word: their connections are gone."""
        self._is_over = True
        for task in tuple(self._tasks):
            task.cancel()


class Api:
    """The HTTP server of one controller."""

    def __init__(self, controller: Controller, listening: socket.socket) -> None:
        self._listening = listening
        self._context = context_of(controller.fabric.own)
        self._own = controller.fabric.own
        controller.on_certificate = self._renewed
        self._end_streams = controller.attending.end
        self._requests = _Requests(Web(app_of(controller)))
        config = uvicorn.Config(
            self._requests,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=_FORCED_S,
            ssl_context_factory=lambda *_: self._context,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        port: int = self._listening.getsockname()[1]
        return port

    def _renewed(self) -> None:
        """Connections to come get the new certificate."""
        self._context.load_cert_chain(self._own)

    async def start(self) -> None:
        """Return once requests are answered."""
        self._task = asyncio.create_task(self._server.serve([self._listening]))
        while not self._server.started:
            if self._task.done():
                await self._task
                raise RingfenceError("api-not-started", "the API does not start", help="the log says why")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Finish what was begun, for a moment."""
        self._end_streams()
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_GRACE_S)
            await self._cut()
            await self._task
        self._listening.close()

    async def _cut(self) -> None:
        """Connections first: an answer that ends with its connection is not taken for a whole one."""
        for connection in tuple(self._server.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        await asyncio.sleep(0)  # they hear of it
        await asyncio.sleep(0)
        self._requests.end()
