"""A way out of a lab for one conversation: a Unix socket that leads to an address inside a host's network.

Unix sockets belong to no network namespace (unix(7)), so whoever owns the lab can talk to a service in it while no
packet of the lab ever leaves it.

INVARIANT: bytes are carried as they are: what is encrypted stays so from end to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

import msgspec

from ringfence.lab.channel import Done, answer_requests

_PIECE_BYTES = 1 << 16


class RelayTask(msgspec.Struct, frozen=True):
    """Where to listen, and where that leads."""

    path: str
    address: str
    port: int


class Listening(msgspec.Struct, frozen=True, tag="listening"):
    """Answered once the socket is there."""


def serve(sock: socket.socket, argument: bytes) -> None:
    """Carry until the channel closes."""
    asyncio.run(_serve(sock, msgspec.msgpack.decode(argument, type=RelayTask)))


async def _serve(sock: socket.socket, task: RelayTask) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # the end, which asyncio before 3.12 takes for a fault
            await _carry_both(task, reader, writer)

    async def answer(_: bytes) -> msgspec.Struct:
        return Done()

    before = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(accept, task.path)
    finally:
        os.umask(before)
    try:
        await answer_requests(sock, answer)
    finally:
        server.close()


async def _carry_both(task: RelayTask, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, until either end is over."""
    with contextlib.suppress(OSError):
        there, back = await asyncio.open_connection(task.address, task.port)
        ways = [asyncio.create_task(_carry(reader, back)), asyncio.create_task(_carry(there, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        back.close()
    writer.close()


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while piece := await source.read(_PIECE_BYTES):
        sink.write(piece)
        await sink.drain()
