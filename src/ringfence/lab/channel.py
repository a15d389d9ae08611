"""Request and answer between the lab and its processes, over one connected socket.

A message is four bytes of length and msgpack. INVARIANT: one answer a request, in order; an error of the other side
arrives as a `Failed` and is raised here with its own code.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from ringfence.core.errors import RingfenceError

Answer = TypeVar("Answer")
_LENGTH = struct.Struct("!I")


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The other side could not do what was asked."""

    code: str
    message: str
    help: str = ""


class Done(msgspec.Struct, frozen=True, tag="done"):
    """It was done, and there is nothing to tell."""


class Raw(msgspec.Struct, frozen=True, tag="raw"):
    """An encoded answer inside the envelope, decoded by whoever knows its type."""

    body: bytes


_Envelope = Failed | Raw


class Channel:
    """The asking side. Not for use by several threads at once."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def call(self, request: msgspec.Struct, answer: type[Answer], *, timeout_s: float) -> Answer:
        """Ask and wait. Raises RingfenceError: the other side's own, `lab-process-lost` or `lab-process-slow`."""
        self._sock.settimeout(timeout_s)
        try:
            self._sock.sendall(_framed(msgspec.msgpack.encode(request)))
            body = self._exactly(_LENGTH.unpack(self._exactly(_LENGTH.size))[0])
        except TimeoutError as error:
            raise RingfenceError("lab-process-slow", f"a lab process did not answer in {timeout_s:g} s") from error
        except OSError as error:
            raise RingfenceError("lab-process-lost", f"a lab process is gone: {error}".lower()) from error
        reply = msgspec.msgpack.decode(body, type=_Envelope)
        if isinstance(reply, Failed):
            raise RingfenceError(reply.code, reply.message, help=reply.help)
        return msgspec.msgpack.decode(reply.body, type=answer)

    def _exactly(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            part = self._sock.recv(min(size, 1 << 20))
            if not part:
                raise ConnectionResetError("it closed its end")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        self._sock.close()


async def answer_requests(sock: socket.socket, answer: Callable[[bytes], Awaitable[msgspec.Struct]]) -> None:
    """The answering side: serves until the asking side closes."""
    sock.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 26)
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            writer.write(_framed(await _enveloped(answer, await reader.readexactly(size))))
            await writer.drain()


async def _enveloped(answer: Callable[[bytes], Awaitable[msgspec.Struct]], request: bytes) -> bytes:
    reply: _Envelope
    try:
        reply = Raw(msgspec.msgpack.encode(await answer(request)))
    except RingfenceError as error:
        reply = Failed(error.code, error.message, error.as_finding().help)
    except Exception as error:  # a fault here must reach the one who asked, not die with the process
        reply = Failed("lab-process-fault", f"{type(error).__name__}: {error}")
    return msgspec.msgpack.encode(reply)


def _framed(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body
