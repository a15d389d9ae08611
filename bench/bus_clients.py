"""Many clients of a NATS server in one process: bare protocol readers, so that their cost does not hide the server's.

NATS client protocol (docs.nats.io, "Client Protocol"): `MSG subject sid [reply] size`, payload, CRLF.
"""

from __future__ import annotations

import asyncio
import os
import resource
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from uuid import UUID

AT_ONCE = 100
"""Connections being made at one time."""
_END = b"\r\n"
Heard = Callable[[str, bytes], None]


class BusClient(asyncio.Protocol):
    """One connection: `ready` once its subscriptions are known to the server."""

    def __init__(self, words: Iterable[str], heard: Heard) -> None:
        """`words`: subjects to hear; `heard`: told each message, (subject, payload), as soon as it is there."""
        self._words, self._heard = tuple(words), heard
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.WriteTransport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        subscribed = "".join(f"SUB {word} {number}\r\n" for number, word in enumerate(self._words, 1))
        transport.write(f'CONNECT {{"verbose":false,"protocol":1}}\r\n{subscribed}PING\r\n'.encode())

    def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        if self._transport is not None:
            self._transport.write(f"PUB {subject} {reply} {len(data)}\r\n".encode() + data + _END)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        data, at = self._rest + data, 0
        while (end := data.find(_END, at)) >= 0:
            line = data[at:end]
            if not line.startswith(b"MSG "):
                self._control(line)
                at = end + 2
                continue
            words = line.split()
            start, stop = end + 2, end + 2 + int(words[-1])
            if stop + 2 > len(data):
                break
            self._heard(words[1].decode(), data[start:stop])
            at = stop + 2
        self._rest = data[at:]

    def _control(self, line: bytes) -> None:
        if line == b"PING" and self._transport is not None:
            self._transport.write(b"PONG\r\n")
        elif line == b"PONG" and not self.ready.done():
            self.ready.set_result(None)
        elif line.startswith(b"-ERR") and not self.ready.done():
            self.ready.set_exception(ConnectionError(line.decode()))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if not self.ready.done():
            self.ready.set_exception(error or ConnectionError("closed"))


async def connect(port: int, made: Callable[[], BusClient], context: ssl.SSLContext | None) -> BusClient:
    """A client that is ready. `context`: of mutual TLS; None for plaintext."""
    name = "localhost" if context else None
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(made, "127.0.0.1", port, ssl=context, server_hostname=name)
    await client.ready
    return client


def agent_context(folder: Path, uuid: UUID | str) -> ssl.SSLContext:
    """As an agent presents itself: `roots.pem` and `UUID.pem` (key and certificate) of a folder."""
    context = ssl.create_default_context(cafile=str(folder / "roots.pem"))
    context.load_cert_chain(folder / f"{uuid}.pem")
    return context


def allow_many_files() -> None:
    """As many connections as the system lets this process have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_of(pid: int) -> float:
    """CPU seconds of a process (proc(5), `schedstat` of each thread: nanoseconds)."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def rss_of(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
