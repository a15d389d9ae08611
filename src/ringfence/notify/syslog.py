"""Syslog: RFC 5424 messages over UDP (RFC 5426), TCP with counted octets (RFC 6587 section 3.4.1) or TLS (RFC 5425).

The message is the notice's JSON in ASCII, or CEF. Syslog has no acknowledgement: `send` returns when the transport took
the whole message, and a connection that the other side has closed is noticed before the next one is written.

INVARIANT: a message is never split or cut: what does not fit into a datagram is refused.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Literal

from ringfence import __version__
from ringfence.notify.cef import cef
from ringfence.notify.words import document
from ringfence.ports.notifier import Notice, NotifyError
from ringfence.ports.state import AlertSeverity

Transport = Literal["udp", "tcp", "tls"]
PORTS: dict[Transport, int] = {"udp": 514, "tcp": 601, "tls": 6514}
"""As registered with IANA: `syslog`, `syslog-conn`, `syslog-tls`."""
AUTHPRIV = 10
"""Facility "security/authorization messages" (RFC 5424 table 1)."""
_SEVERITY: dict[AlertSeverity, int] = {"info": 6, "warning": 4, "error": 3, "critical": 2}
_LARGEST_DATAGRAM = 65_507
"""Bytes of payload in one IPv4 UDP datagram."""
_BOM = b"\xef\xbb\xbf"
Body = Callable[[Notice], str]


def json_body(notice: Notice) -> str:
    """The document of a webhook, in ASCII."""
    return json.dumps(document(notice), ensure_ascii=True, separators=(",", ":"))


BODIES: dict[str, Body] = {"json": json_body, "cef": cef}


def message(notice: Notice, text: str, *, hostname: str, process: int) -> bytes:
    """An RFC 5424 message. Text beyond ASCII is marked as UTF-8, as section 6.4 asks."""
    priority = AUTHPRIV * 8 + _SEVERITY[notice.severity]
    fields = (_field(hostname, 255), "ringfence", str(process), _field(notice.kind, 32))
    origin = f'[origin software="ringfence" swVersion="{parameter(__version__)}"]'
    header = f"<{priority}>1 {_timestamp(notice.at)} {' '.join(fields)} {origin} "
    return header.encode("ascii") + (b"" if text.isascii() else _BOM) + text.encode("utf-8")


def parameter(text: str) -> str:
    """A PARAM-VALUE, escaped (section 6.3.3)."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def _field(text: str, longest: int) -> str:
    """Printable US-ASCII without blanks, else `?`; `-` for nothing."""
    return "".join(c if "!" <= c <= "~" else "?" for c in text[:longest]) or "-"


def _timestamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond:06d}Z"


class SyslogNotifier:
    """One receiver. Its connection is kept open, and made anew when it is gone."""

    def __init__(
        self,
        host: str,
        port: int | None = None,
        *,
        transport: Transport = "udp",
        body: Body = json_body,
        tls: ssl.SSLContext | None = None,
        hostname: str | None = None,
    ) -> None:
        self._host, self._port, self._transport, self._body = host, port or PORTS[transport], transport, body
        self._tls = (tls or ssl.create_default_context()) if transport == "tls" else None
        self._hostname = hostname or socket.gethostname()
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._datagrams: socket.socket | None = None

    @property
    def target(self) -> str:
        return f"syslog+{self._transport}://{self._host}:{self._port}"

    async def send(self, notice: Notice) -> None:
        data = message(notice, self._body(notice), hostname=self._hostname, process=os.getpid())
        try:
            await (self._send_datagram(data) if self._transport == "udp" else self._send_counted(data))
        except BaseException as error:
            self._drop()
            if not isinstance(error, OSError):
                raise
            why = error.strerror or str(error) or type(error).__name__
            told = f"{self.target} did not take a notice: {why[:1].lower()}{why[1:]}"
            raise NotifyError("notice-undelivered", told, help="check that it runs and can be reached") from error

    async def close(self) -> None:
        stream = self._stream
        self._drop()
        if stream is not None:
            with suppress(OSError):
                await stream[1].wait_closed()

    async def _send_counted(self, data: bytes) -> None:
        if self._stream is not None and (self._stream[0].at_eof() or self._stream[1].is_closing()):
            self._drop()
        if self._stream is None:
            name = self._host if self._tls is not None else None
            self._stream = await asyncio.open_connection(self._host, self._port, ssl=self._tls, server_hostname=name)
        writer = self._stream[1]
        writer.write(b"%d %b" % (len(data), data))
        await writer.drain()

    async def _send_datagram(self, data: bytes) -> None:
        if len(data) > _LARGEST_DATAGRAM:
            told = f"a notice of {len(data):,} bytes does not fit into a datagram"
            raise NotifyError("notice-too-large", told, help="use syslog over TCP or TLS", is_permanent=True)
        loop = asyncio.get_running_loop()
        if self._datagrams is None:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
            family, kind, protocol, _, address = found[0]
            self._datagrams = socket.socket(family, kind, protocol)
            self._datagrams.setblocking(False)
            await loop.sock_connect(self._datagrams, address)
        await loop.sock_sendall(self._datagrams, data)
        refused = self._datagrams.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if refused:
            raise OSError(refused, os.strerror(refused))

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream[1].close()
        if self._datagrams is not None:
            self._datagrams.close()
        self._stream = self._datagrams = None
