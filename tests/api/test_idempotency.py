"""The same request twice is carried out once, however much else is answered meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ringfence.api import idempotency
from ringfence.api.idempotency import Idempotency


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


async def ask(middleware: Idempotency, app: Answering, path: str, key: str, query: bytes = b"") -> int:
    told: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        told.append(message)

    headers = [(b"idempotency-key", key.encode()), (b"authorization", b"Bearer rf_x")]
    scope: Any = {"type": "http", "method": "POST", "path": path, "query_string": query, "headers": headers}
    await middleware.handle(scope, receive, send, app)
    return int(told[0]["status"])


def test_what_is_underway_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers enough to fill the memory push out neither what is still carried out nor, afterwards, everybody."""
    monkeypatch.setattr(idempotency, "_MOST_BYTES", 3000)

    async def known(_: Any) -> None:
        return None

    monkeypatch.setattr(idempotency, "recognise", known)

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


def test_a_key_is_of_the_whole_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands behind the question mark is part of it."""

    async def known(_: Any) -> None:
        return None

    monkeypatch.setattr(idempotency, "recognise", known)

    async def story() -> None:
        middleware, app = Idempotency(), Answering()
        assert await ask(middleware, app, "/import", "key", b"name=a.log") == 200
        assert await ask(middleware, app, "/import", "key", b"name=b.log") == 422

    asyncio.run(story())
