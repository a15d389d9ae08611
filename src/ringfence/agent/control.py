"""The agent's own door on its host: one question a connection, over a unix socket that only root can open.

    answer = ask(path, Question("status"))
    curl --unix-socket PATH http://agent/metrics        the same figures for Prometheus, in its own words

INVARIANT: nothing can be asked here that is not told upwards as well.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from ringfence.agent.metrics import CONTENT_TYPE
from ringfence.core.errors import RingfenceError
from ringfence.wire.messages import Realised

_MAX_BYTES: Final = 64 << 20
_TIMEOUT_S: Final = 20.0
_CREDENTIALS = struct.Struct("3i")
_METRICS: Final = b'{"do":"metrics"}'


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    do: Literal["status", "metrics", "reload", "evidence", "stop"]
    """`reload`: read again what is disabled. `stop`: end, leaving the rules."""
    argument: str = ""


class Status(msgspec.Struct, frozen=True):
    """Everything about a running agent."""

    workload: str
    realised: Realised
    is_running: bool = True
    name: str = ""
    mode: dict[str, str] = {}
    held_revision: int = 0
    groups: int = 0
    peers: int = 0
    """Addresses of peers that are told apart."""
    trial_left_s: float = 0.0
    rejected: int = 0
    is_cloned: bool = False
    is_connected: bool = False
    answered_ago_s: float | None = None
    why_not: str = ""
    """Why there is no connection."""
    disabled_until: float = 0.0
    disabled_why: str = ""
    clock_offset_s: float = 0.0
    certificate_until: float = 0.0
    waiting_messages: int = 0
    waiting_bytes: int = 0
    lost: int = 0
    rss_bytes: int = 0
    cpu_s: float = 0.0
    faults: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    status: Status | None = None
    evidence: bytes = b""
    metrics: str = ""
    error: str = ""


Respond = Callable[[Question], Awaitable[Answer]]


async def serve(path: Path, respond: Respond) -> asyncio.Server:
    """Listen there; what an earlier process left is replaced."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(lambda r, w: _serve_one(r, w, respond), str(path))
    finally:
        os.umask(before)


async def _serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, respond: Respond) -> None:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            line = await reader.readline()
            if line.startswith(b"GET "):
                while (await reader.readline()).strip():  # its headers say nothing that matters here
                    pass
                writer.write(_http(await _answer(_METRICS, writer, respond), line))
            else:
                writer.write(msgspec.json.encode(await _answer(line, writer, respond)))
            await writer.drain()
    except (OSError, TimeoutError, ValueError):
        pass  # whoever asked has left
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _answer(line: bytes, writer: asyncio.StreamWriter, respond: Respond) -> Answer:
    if _user_of(writer.get_extra_info("socket")) not in (0, os.getuid()):
        return Answer(error="only root may ask")
    try:
        return await respond(msgspec.json.decode(line, type=Question))
    except ValueError as error:
        return Answer(error=f"not understood: {error}")
    except RingfenceError as error:
        return Answer(error=str(error))


def _http(answer: Answer, line: bytes) -> bytes:
    """The metrics, to whoever speaks HTTP here (RFC 9112); there is nothing else to get."""
    is_there = line.split(b" ")[1] == b"/metrics"
    status = "403 Forbidden" if answer.error else "200 OK" if is_there else "404 Not Found"
    body = (answer.error or (answer.metrics if is_there else "there is /metrics")).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def _user_of(peer: socket.socket) -> int:
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])


def ask(path: Path, question: Question) -> Answer | None:
    """None where no agent listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_TIMEOUT_S)
        try:
            sock.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        sock.sendall(msgspec.json.encode(question) + b"\n")
        content = b""
        while len(content) < _MAX_BYTES and (data := sock.recv(1 << 16)):
            content += data
    return msgspec.json.decode(content, type=Answer) if content else None  # it ended as it was asked
