"""The same request twice is carried out once, however much else is answered meanwhile."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx
import pytest
from serving import PATIENCE_S, Serving

from ringfence.api import idempotency
from ringfence.api.idempotency import Idempotency
from ringfence.api.limits import Buckets
from ringfence.client.client import _context
from ringfence.wire.api import Grant


class Answering:
    """In place of the application: counts what it carries out."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.gate = asyncio.Event()

    async def __call__(self, scope: Any, _: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await self.gate.wait()
        self.done.append(f"{scope['path']}?{scope['query_string'].decode()}")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": False})


async def known(*_: Any) -> None:
    """In place of the guard: everybody may ask."""


async def ask(middleware: Idempotency, app: Answering, path: str, key: str, query: bytes = b"") -> int:
    told: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        told.append(message)

    headers = [(b"idempotency-key", key.encode()), (b"authorization", b"Bearer rf_x")]
    scope: Any = {"type": "http", "method": "POST", "path": path, "query_string": query, "headers": headers}
    scope["route_handler"] = None
    await middleware.handle(scope, receive, send, app)
    return int(told[0]["status"])


def test_what_is_underway_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers enough to fill the memory push out neither what is still carried out nor, afterwards, everybody."""
    monkeypatch.setattr(idempotency, "_MOST_BYTES", 3000)

    monkeypatch.setattr(idempotency, "guard", known)

    async def story() -> None:
        middleware, app = Idempotency(), Answering()
        slow = [asyncio.create_task(ask(middleware, app, "/slow", f"slow-{n}")) for n in range(5)]
        await asyncio.sleep(0)
        for number in range(10):
            assert await ask(middleware, app, "/swift", f"swift-{number}") == 200
        again = asyncio.create_task(ask(middleware, app, "/slow", "slow-0"))
        await asyncio.sleep(0)
        app.gate.set()
        assert await asyncio.gather(*slow, again) == [200] * 6
        assert app.done.count("/slow?") == 5
        assert await ask(middleware, app, "/swift", "later") == 200

    asyncio.run(story())


@pytest.mark.parametrize(("who", "status", "code"), [("rf_x_y", 401, "token-refused"), ("viewer", 403, "not-allowed")])
def test_nothing_is_read_of_who_may_not_ask(served: Serving, who: str, status: int, code: str) -> None:
    """Though there is a key, the answer comes before a byte of the body was sent."""
    token = served.client().grant(Grant("eve", ("viewer",))) if who == "viewer" else who
    host, port = "localhost", served.controller.settings.port
    told = [
        "POST /v1/profiles HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {token}", "Idempotency-Key: k",
        "Content-Type: application/json", "Content-Length: 1000000", "", "",
    ]  # fmt: skip
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE_S) as plain,
        _context(served.ca).wrap_socket(plain, server_hostname=host) as secure,
    ):
        secure.sendall("\r\n".join(told).encode())
        answer = ""
        while code not in answer and (piece := secure.recv(65536)):
            answer += piece.decode()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert code in answer


def test_a_key_counts_once(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request is one against the limit, though it is looked at before its body is read."""
    taken: list[bytes] = []
    take = Buckets.take

    def counted(self: Buckets, key: bytes) -> None:
        taken.append(key)
        take(self, key)

    monkeypatch.setattr(Buckets, "take", counted)
    headers = {"Authorization": f"Bearer {served.token}", "Idempotency-Key": "once"}
    answer = httpx.post(
        f"{served.controller.settings.url}/v1/profiles",
        json={"name": "once", "labels": {}}, headers=headers, verify=_context(served.ca),
    )  # fmt: skip
    assert (answer.status_code, len(taken)) == (201, 1)


def test_a_key_is_of_the_whole_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands behind the question mark is part of it."""

    monkeypatch.setattr(idempotency, "guard", known)

    async def story() -> None:
        middleware, app = Idempotency(), Answering()
        assert await ask(middleware, app, "/import", "key", b"name=a.log") == 200
        assert await ask(middleware, app, "/import", "key", b"name=b.log") == 422

    asyncio.run(story())
