"""`ETag` on what is read as JSON, and 304 for whoever has it already: a page that asks again moves no estate.

INVARIANT: a tag is the digest of the answer itself, so it never says "as you have it" of anything else. Streams and
files pass through as they are.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import msgspec
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.params import HeaderParameter
from litestar.types import ASGIApp, Message, Receive, Scope, Send

_CACHING = b"private, no-cache"
"""Kept by the browser that asked, and asked again each time."""
_OF_CONTENT = frozenset({b"content-type", b"content-length"})
IfMatch = Annotated[
    str,
    HeaderParameter(
        name="If-Match",
        max_length=1000,
        description="The `ETag` of what was looked at: refused if it is another by now.",
    ),
]
"""Of a change (RFC 9110, 13.1.1). Without it, whatever there is is changed."""


def tag_of(content: bytes) -> str:
    """The entity tag of an answer."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def is_meant(said: str, value: object) -> bool:
    """Whether `If-Match` names what a value is answered as; it does where it says nothing. The tag of an answer that is
    packed is a weak one by its form alone: the same content is in it."""
    wanted = {one.strip().removeprefix("W/") for one in said.split(",") if one.strip()}
    return not wanted or "*" in wanted or tag_of(msgspec.json.encode(value)) in wanted


class Conditional(ASGIMiddleware):
    """For GET."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if scope.get("method") != "GET":
            await next_app(scope, receive, send)
            return
        answer = _Answer(_asked(scope), send)
        await next_app(scope, receive, answer.tell)


class _Answer:
    """One answer, held back until it is known whole."""

    def __init__(self, known: frozenset[bytes], send: Send) -> None:
        self._known, self._send = known, send
        self._start: Any = None
        self._parts: list[bytes] = []

    async def tell(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_json(message):
            self._start = message
        elif self._start is None or message["type"] != "http.response.body":
            await self._send(message)
        else:
            self._parts.append(message["body"])
            if not message["more_body"]:
                await self._finish(b"".join(self._parts))

    async def _finish(self, body: bytes) -> None:
        tag = tag_of(body).encode()
        headers = [one for one in self._start["headers"] if one[0].lower() not in (b"cache-control", b"etag")]
        headers += [(b"etag", tag), (b"cache-control", _CACHING)]
        if tag in self._known or b"*" in self._known:
            headers = [one for one in headers if one[0].lower() not in _OF_CONTENT]
            self._start["status"], body = 304, b""
        self._start["headers"] = headers
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def _asked(scope: Scope) -> frozenset[bytes]:
    """Tags of what whoever asks has (RFC 9110, 13.1.2: compared weakly)."""
    said = b",".join(value for key, value in scope["headers"] if key.lower() == b"if-none-match")
    return frozenset(one.strip().removeprefix(b"W/") for one in said.split(b",") if one.strip())


def _is_json(message: Any) -> bool:
    kind = next((value for key, value in message["headers"] if key.lower() == b"content-type"), b"")
    return bool(message["status"] == 200 and kind.startswith(b"application/json"))
