"""How a connection to the bus server is made: TLS from the first byte, and given up when the other end falls silent.

INVARIANT: nothing is sent or read outside TLS. The library would speak in plaintext with a server that asks for it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from datetime import UTC, datetime
from typing import Final
from urllib.parse import ParseResult

from nats.aio.client import Client
from nats.aio.transport import TcpTransport

from ringfence.core.net.address import parse_address

SILENCE_MS: Final = 20_000
"""A peer that acknowledges nothing for so long is gone, even in the middle of a write (RFC 5482, tcp(7)). Pings alone
would not tell: behind a full send buffer they wait, too."""
_SHUTDOWN_S = 2.0


def client_over_tls(context: ssl.SSLContext) -> Client:
    """A client for one connection."""
    client = Client()
    client._transport = _TlsTransport(context)  # it makes its own only if it has none
    return client


def local_address(client: Client) -> int | None:
    """Where a connection comes from; None where it is not known."""
    writer = _writer(client)
    name = writer.get_extra_info("sockname") if writer is not None else None
    return parse_address(str(name[0]).partition("%")[0]) if name else None


def certificate_ends(client: Client) -> datetime | None:
    """When the other end's certificate does; None where it is not known."""
    writer = _writer(client)
    found = writer.get_extra_info("peercert") if writer is not None else None
    if not found:
        return None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(found["notAfter"])), UTC)


def abort(client: Client) -> None:
    """End a connection whose other end will not hear of it."""
    if (writer := _writer(client)) is not None:
        writer.transport.abort()


def _writer(client: Client) -> asyncio.StreamWriter | None:
    return getattr(client._transport, "_io_writer", None)


class _TlsTransport(TcpTransport):
    """The library's transport, but for how it comes about."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._context = context

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        async with asyncio.timeout(connect_timeout):
            reader, writer = await asyncio.open_connection(
                uri.hostname,
                uri.port,
                limit=buffer_size,
                ssl=self._context,
                server_hostname=uri.hostname,
                ssl_shutdown_timeout=_SHUTDOWN_S,
            )
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = writer
        raw = writer.get_extra_info("socket")
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MS)

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        """TLS is there already."""

    def __bool__(self) -> bool:
        return True
