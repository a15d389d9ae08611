"""The same request twice is carried out once: `Idempotency-Key`, on every POST that carries one.

The answer to the first is the answer to the second, for a day. Answers hold secrets (tokens told once), so they are
kept in memory only: after a restart what must not happen twice is refused by what it changes (a version's base, a
name).

INVARIANT: nothing of a request is read before its sender was found to be somebody who may ask that.
INVARIANT: a key belongs to one token or session and one request; it is asked about again before an old answer is given.
INVARIANT: what is being carried out is not forgotten, however much is kept: it would be carried out again.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from typing import Any

from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from ringfence.api.guards import credential_of, guard
from ringfence.api.problems import answer_to
from ringfence.core.errors import InputError
from ringfence.wire.api import MAX_BODY_BYTES

HEADER = "idempotency-key"
_KEPT_S = 86_400.0
_MOST = 10_000
_MOST_BYTES = 64 << 20
_LARGEST = 1 << 20
_LONGEST_KEY = 200


class _Kept:
    """One request, and its answer once there is one."""

    def __init__(self, request: bytes) -> None:
        self.request, self.at = request, time.monotonic()
        self.done = asyncio.Event()
        self.answer: list[Message] | None = None
        self.size = 0


class Idempotency(ASGIMiddleware):
    """Remembers answers, the latest of them."""

    scopes = (ScopeType.HTTP,)

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._bytes = 0

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        connection: ASGIConnection[Any, Any, Any, Any] = ASGIConnection(scope, receive)
        key = connection.headers.get(HEADER, "")
        credential = credential_of(connection)
        if scope.get("method") != "POST" or not key or not credential:
            await next_app(scope, receive, send)
            return
        if len(key) > _LONGEST_KEY:
            help_ = f"at most {_LONGEST_KEY} characters"
            error = InputError("bad-request", "the idempotency key is too long", help=help_)
            await answer_to(error, send)
            return
        await guard(connection, scope["route_handler"])
        body = await _body_of(receive)
        if body is None:
            error = InputError("body-too-large", "the request says more than is read", help="send less at once")
            await answer_to(error, send)
            return
        asked = scope["path"].encode() + b"?" + scope["query_string"] + b"\n"
        request = hashlib.sha256(asked + body).digest()
        place = hashlib.sha256(f"{credential}\n{key}".encode()).digest()
        known = self._kept.get(place)
        if known is not None and time.monotonic() - known.at < _KEPT_S:
            await self._again(known, request, send)
            return
        await self._first(place, request, body, scope, send, next_app)

    async def _first(
        self, place: bytes, request: bytes, body: bytes, scope: Scope, send: Send, next_app: ASGIApp
    ) -> None:
        if (expired := self._kept.pop(place, None)) is not None:
            self._bytes -= expired.size
        kept = self._kept[place] = _Kept(request)
        told: list[Message] = []

        async def tell(message: Message) -> None:
            if _size_of(told) <= _LARGEST:
                told.append(message)
            await send(message)

        try:
            await next_app(scope, _once(body), tell)
        finally:
            self._keep(place, kept, told)

    def _keep(self, place: bytes, kept: _Kept, told: list[Message]) -> None:
        """Only what changed something, and is whole, is worth keeping."""
        status = told[0].get("status", 500) if told else 500
        size = _size_of(told)
        is_whole = bool(told) and told[-1]["type"] == "http.response.body" and not told[-1].get("more_body", False)
        if int(status) < 300 and is_whole and size <= _LARGEST:  # type: ignore[call-overload]
            kept.answer, kept.size = told, size
            self._bytes += size
        else:
            self._kept.pop(place, None)
        kept.done.set()
        while len(self._kept) > _MOST or self._bytes > _MOST_BYTES:
            oldest = next((place for place, one in self._kept.items() if one.done.is_set()), None)
            if oldest is None:
                return
            self._bytes -= self._kept.pop(oldest).size

    async def _again(
        self,
        known: _Kept,
        request: bytes,
        send: Send,
    ) -> None:
        if known.request != request:
            help_ = "use a new key for each request"
            error = InputError("key-reused", "the idempotency key was used for another request", help=help_)
            await answer_to(error, send)
            return
        await known.done.wait()
        if known.answer is None:
            error = InputError("request-underway", "the same request was just refused", help="look why, then ask again")
            await answer_to(error, send)
            return
        for message in known.answer:
            await send(message)


def _size_of(told: list[Any]) -> int:
    return sum(len(message.get("body", b"")) for message in told)


async def _body_of(receive: Receive) -> bytes | None:
    """All of it; None if it is more than is read."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)
        parts.append(message["body"])
        size += len(message["body"])
        if size > MAX_BODY_BYTES:
            return None
        if not message["more_body"]:
            return b"".join(parts)


def _once(body: bytes) -> Receive:
    """A body that was read already, to be read again."""
    waiting = [body]

    async def receive() -> Any:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    return receive
