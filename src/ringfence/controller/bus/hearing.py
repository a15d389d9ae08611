"""The bus as this controller hears it: without those who are revoked.

INVARIANT: nothing that a revoked workload says is answered, counted or kept, from the moment its revocation is stored,
whether or not its connection has ended: what it had sent before and is delivered after is dropped, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from ringfence.ports.bus import Answer, Bus, Handler
from ringfence.wire import subjects


class Hearing:
    """`ports.bus.Bus` for subjects that agents send on."""

    def __init__(self, bus: Bus, is_gone: Callable[[str], bool]) -> None:
        """`is_gone`: whether a UUID is not to be heard any more."""
        self._bus, self._is_gone = bus, is_gone
        self.dropped = 0
        """Messages of those who are gone."""

    @property
    def is_connected(self) -> bool:
        return self._bus.is_connected

    async def publish(self, subject: str, data: bytes) -> None:
        await self._bus.publish(subject, data)

    async def request(self, subject: str, data: bytes, *, timeout_s: float = 5.0) -> bytes:
        return await self._bus.request(subject, data, timeout_s=timeout_s)

    async def subscribe(self, subject: str, answer: Answer) -> None:
        async def heard(subject: str, data: bytes) -> bytes | None:
            return await answer(subject, data) if self._is_heard(subject) else None

        await self._bus.subscribe(subject, heard)

    async def keep(self, subject: str, data: bytes, *, id: str) -> None:
        await self._bus.keep(subject, data, id=id)

    async def consume(self, name: str, subject: str, handler: Handler) -> None:
        async def heard(subject: str, data: bytes) -> None:
            if self._is_heard(subject):
                await handler(subject, data)

        await self._bus.consume(name, subject, heard)

    async def flush(self) -> None:
        await self._bus.flush()

    def come_from(self, own: Collection[int]) -> None:
        self._bus.come_from(own)

    async def close(self) -> None:
        await self._bus.close()

    def _is_heard(self, subject: str) -> bool:
        is_gone = self._is_gone(subjects.sender(subject))
        self.dropped += is_gone
        return not is_gone
