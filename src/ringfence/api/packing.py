"""Large answers packed with gzip for whoever takes them so (RFC 9110, 12.5.3): a map of thousands of edges is mostly
names that come again.

INVARIANT: only answers to the right `read` are packed, which hold no secret: how long a packed answer is tells nobody
anything about a token, a proof or an invitation (BREACH). Streams and what is packed already pass as they are.

It works in a thread where there is much to do, which the framework's own way of packing does not.
"""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

_OPEN = "read"
_LEAST = 4096
_THREAD = 128 << 10
"""Bytes that are packed in some milliseconds: no more on the event loop."""
_LEVEL = 3
"""Twice as fast as the usual 6, for some percent more bytes."""


class Packing(ASGIMiddleware):
    """Outside of whatever keeps or tags answers: they do so plain."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if not _takes_gzip(scope):
            await next_app(scope, receive, send)
            return
        start: Any = None

        async def tell(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_packable(scope, message):
                start = message
                return
            if start is not None and message["type"] == "http.response.body":
                begun, start = start, None
                if not message.get("more_body", False) and len(message["body"]) >= _LEAST:
                    await _send_packed(begun, message["body"], send)
                    return
                await send(begun)
            await send(message)

        await next_app(scope, receive, tell)


async def _send_packed(start: Any, body: bytes, send: Send) -> None:
    large = len(body) >= _THREAD
    packed = await asyncio.to_thread(_pack, body) if large else _pack(body)
    headers = [_weak(*one) for one in start["headers"] if one[0].lower() != b"content-length"]
    headers += [
        (b"content-encoding", b"gzip"), (b"vary", b"accept-encoding"), (b"content-length", str(len(packed)).encode()),
    ]  # fmt: skip
    begun: Any = {**start, "headers": headers}
    await send(begun)
    await send({"type": "http.response.body", "body": packed, "more_body": False})


def _pack(body: bytes) -> bytes:
    return gzip.compress(body, _LEVEL, mtime=0)


def _weak(key: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A tag names the bytes of one encoding, unless it is weak (RFC 9110, 8.8.1)."""
    is_tag = key.lower() == b"etag" and not value.startswith(b"W/")
    return (key, b"W/" + value) if is_tag else (key, value)


def _takes_gzip(scope: Any) -> bool:
    said = b",".join(value for key, value in scope["headers"] if key.lower() == b"accept-encoding")
    words = (one.replace(b" ", b"").lower() for one in said.split(b","))
    return any(one.partition(b";")[0] == b"gzip" and not one.endswith((b";q=0", b";q=0.0")) for one in words)


def _is_packable(scope: Any, start: Any) -> bool:
    handler = scope.get("route_handler")
    headers = {key.lower(): value for key, value in start["headers"]}
    is_json = headers.get(b"content-type", b"").startswith(b"application/json") and b"content-encoding" not in headers
    return bool(is_json and handler is not None and handler.opt.get("right") == _OPEN)
