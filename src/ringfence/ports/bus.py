"""A bus: messages between the controller and its agents, some of them kept until they were dealt with.

INVARIANT: `keep` returns only when the message survives a crash of anything; a kept message is handed to the consumer
until its handler returned, so twice is possible and lost is not. Everything else is at most once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

Answer = Callable[[str, bytes], Awaitable[bytes | None]]
"""(subject, data) -> the answer, if one was asked for. An error is logged and answers nothing."""
Handler = Callable[[str, bytes], Awaitable[None]]


class BusError(Exception):
    """The bus cannot be reached, or did not answer in time."""


class Bus(Protocol):
    """One connection. Every method raises BusError while there is none."""

    @property
    def is_connected(self) -> bool: ...

    async def publish(self, subject: str, data: bytes) -> None:
        """At most once; returns when the connection has it, not when anybody does."""

    async def request(self, subject: str, data: bytes, *, timeout_s: float = 5.0) -> bytes:
        """The first answer."""

    async def subscribe(self, subject: str, answer: Answer) -> None:
        """Hear a subject (`*` one word, `>` the rest) from now on, across reconnects: messages to one subject one after
        the other, to different ones beside one another. Without a connection it takes effect with the next one."""

    async def keep(self, subject: str, data: bytes, *, id: str) -> None:
        """Store durably. The same `id` on the same subject again within some minutes is the same message."""

    async def consume(self, name: str, subject: str, handler: Handler) -> None:
        """Be given every kept message of a subject, from where the consumer of that name left off, and for good:
        another name may not consume the same subjects. Those to different subjects may be handed over beside one
        another. Without a connection it takes effect with the next one."""

    async def flush(self) -> None:
        """Return when the server has seen what was published."""

    def come_from(self, own: Collection[int]) -> None:
        """These are this host's addresses by now: a connection from any other is dead, and replaced without waiting for
        its silence to tell."""

    async def close(self) -> None: ...
