"""The listening side of a lab host: a real socket for each service and address family, real answers on it.

A service binds the wildcard address, as servers do; each answer carries the identity of `ringfence.lab.talk`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from ringfence.lab import talk
from ringfence.lab.world import Family, Host, Service, World

_IDLE_S = 300.0
_LINE_LIMIT = 1 << 16


class Services:
    """Everything one host listens to."""

    def __init__(self, world: World, host: Host) -> None:
        self._host = host
        self._zone = {f"{other.name}.{talk.DOMAIN}": other.addresses for other in world.hosts}
        self._servers: list[asyncio.Server] = []
        self._transports: list[asyncio.BaseTransport] = []

    async def listen(self) -> None:
        """Bind every service on every family the host has. Raises OSError when a port cannot be bound."""
        for service in self._host.services:
            for family in self._host.families:
                await self._bind(service, family)

    async def _bind(self, service: Service, family: Family) -> None:
        identity = talk.Identity(self._host.name, service.name)
        sock = _wildcard(service, family)
        if service.transport == "udp":
            reply = _datagram_reply(service, identity, self._zone)
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(partial(_Datagrams, reply), sock=sock)
            self._transports.append(transport)
            return
        serve = partial(_SPEAKERS[service.speaks], identity)
        self._servers.append(
            await asyncio.start_server(partial(_guarded, serve), sock=sock, backlog=512, limit=_LINE_LIMIT)
        )


def _wildcard(service: Service, family: Family) -> socket.socket:
    kind = socket.SOCK_STREAM if service.transport == "tcp" else socket.SOCK_DGRAM
    sock = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind)
    if family == 6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("0.0.0.0" if family == 4 else "::", service.port))
    return sock


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def _guarded(serve: Serve, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A client that leaves early, talks nonsense or says nothing ends its own connection only."""
    errors = (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError)
    with contextlib.suppress(*errors, asyncio.CancelledError):  # asyncio 3.11 prints a traceback of who is cancelled
        async with asyncio.timeout(_IDLE_S):
            await serve(reader, writer)
    with contextlib.suppress(OSError, asyncio.CancelledError):
        writer.close()
        await writer.wait_closed()


async def _http(identity: talk.Identity, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while (await reader.readline()).strip():
        pass
    writer.write(talk.http_answer(identity))
    await writer.drain()


async def _greeting(identity: talk.Identity, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(talk.greeting(identity))
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()


async def _store(identity: talk.Identity, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while request := await reader.readline():
        writer.write(talk.store_answer(identity, request))
        await writer.drain()


_SPEAKERS = {"http": _http, "greeting": _greeting, "store": _store}


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, reply: Callable[[bytes], bytes]) -> None:
        self._reply = reply
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        if self._transport is not None:
            self._transport.sendto(self._reply(data), addr)


def _datagram_reply(
    service: Service, identity: talk.Identity, zone: Mapping[str, Sequence[str]]
) -> Callable[[bytes], bytes]:
    def reply(data: bytes) -> bytes:
        if data == talk.PROBE:
            return bytes(identity)
        if service.speaks == "dns":
            return talk.dns_answer(identity, zone, data)
        return talk.ntp_answer(identity, data) if service.speaks == "ntp" else bytes(identity) + data

    return reply
