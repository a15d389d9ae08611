"""Real connections, many a second, from one host to others for as long as a test lasts: what passed, and when.

A TCP probe is a connection of its own; it passed when the handshake was over, and it passed cleanly when the kernel had
to send nothing twice (tcp(7), TCP_INFO), so that a gap shorter than a retransmission shows. A UDP probe is a datagram
from a port of its own, and its answer. A held probe is one connection, or one pair of UDP ports, that goes on for as
long as it lives; then another is begun.

INVARIANT: times are of CLOCK_MONOTONIC, which all processes of a machine share; a probe's span contains the moment at
which its packets were judged.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from typing import Final, Literal

import msgspec

from ringfence.lab import talk
from ringfence.lab.channel import answer_requests

Kind = Literal["tcp", "udp", "held-tcp", "held-udp"]
_TCP_INFO_RETRANSMITTED: Final = 100
"""Where `tcpi_total_retrans` is in struct tcp_info (linux/tcp.h)."""


class Aim(msgspec.Struct, frozen=True):
    """What to try, over and over."""

    kind: Kind
    address: str
    port: int
    every_s: float = 0.05
    timeout_s: float = 0.25
    source: str = ""
    """The address to come from; empty: the kernel's choice."""


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """One attempt."""

    aim: int
    """Which of the task's aims."""
    began: float
    ended: float
    passed: bool
    is_clean: bool = True
    """Nothing had to be sent twice."""
    answer: bytes = b""
    """What a UDP service said: who it is."""


class ProbingTask(msgspec.Struct, frozen=True):
    aims: tuple[Aim, ...]


class Take(msgspec.Struct, frozen=True, tag="take"):
    """Give what there is since the last time."""


class Outcomes(msgspec.Struct, frozen=True):
    outcomes: tuple[Outcome, ...]


def serve(sock: socket.socket, argument: bytes) -> None:
    """Probe until the channel closes."""
    task = msgspec.msgpack.decode(argument, type=ProbingTask)
    asyncio.run(_Probing(task.aims).serve(sock))


class _Probing:
    def __init__(self, aims: tuple[Aim, ...]) -> None:
        self._aims = aims
        self._outcomes: list[Outcome] = []

    async def serve(self, sock: socket.socket) -> None:
        tasks = [asyncio.create_task(self._keep(number, aim)) for number, aim in enumerate(self._aims)]
        try:
            await answer_requests(sock, self._answer)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, body: bytes) -> msgspec.Struct:
        msgspec.msgpack.decode(body, type=Take)
        taken, self._outcomes = self._outcomes, []
        return Outcomes(tuple(taken))

    async def _keep(self, number: int, aim: Aim) -> None:
        if aim.kind in ("held-tcp", "held-udp"):
            while True:
                await self._hold(number, aim)
                await asyncio.sleep(aim.every_s)
        attempt = _shake if aim.kind == "tcp" else _exchange
        while True:
            began = time.monotonic()
            passed, is_clean, answer = await attempt(aim)
            self._outcomes.append(Outcome(number, began, time.monotonic(), passed, is_clean, answer))
            await asyncio.sleep(max(0.0, began + aim.every_s - time.monotonic()))

    async def _hold(self, number: int, aim: Aim) -> None:
        """One connection, until an echo does not come; each echo is an outcome."""
        is_stream = aim.kind == "held-tcp"
        with socket.socket(_family(aim), socket.SOCK_STREAM if is_stream else socket.SOCK_DGRAM) as sock:
            loop, began = asyncio.get_running_loop(), time.monotonic()
            try:
                _prepare(sock, aim)
                async with asyncio.timeout(aim.timeout_s):
                    await loop.sock_connect(sock, (aim.address, aim.port))
                while True:
                    began = time.monotonic()
                    async with asyncio.timeout(aim.timeout_s):
                        await _echo(sock)
                    self._outcomes.append(Outcome(number, began, time.monotonic(), True))
                    await asyncio.sleep(aim.every_s)
            except (OSError, TimeoutError):
                self._outcomes.append(Outcome(number, began, time.monotonic(), False))


async def _shake(aim: Aim) -> tuple[bool, bool, bytes]:
    with socket.socket(_family(aim), socket.SOCK_STREAM) as sock:
        # A reset at the end: nothing is left waiting in the client's kernel, however often this is done.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            _prepare(sock, aim)
            async with asyncio.timeout(aim.timeout_s):
                await asyncio.get_running_loop().sock_connect(sock, (aim.address, aim.port))
        except (OSError, TimeoutError):
            return False, True, b""
        return True, _retransmitted(sock) == 0, b""


async def _exchange(aim: Aim) -> tuple[bool, bool, bytes]:
    loop = asyncio.get_running_loop()
    with socket.socket(_family(aim), socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError, TimeoutError):
        _prepare(sock, aim)
        sock.connect((aim.address, aim.port))
        await loop.sock_sendall(sock, talk.PROBE)
        async with asyncio.timeout(aim.timeout_s):
            return True, True, await loop.sock_recv(sock, 2048)
    return False, True, b""


async def _echo(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, b"still there?\n")
    if not await loop.sock_recv(sock, 4096):
        raise ConnectionResetError("the other end closed")


def _family(aim: Aim) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in aim.address else socket.AF_INET


def _prepare(sock: socket.socket, aim: Aim) -> None:
    """Raises OSError while the host does not have the address to come from."""
    sock.setblocking(False)
    if aim.source:
        sock.bind((aim.source, 0))


def _retransmitted(sock: socket.socket) -> int:
    told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
    return int(struct.unpack_from("=I", told, _TCP_INFO_RETRANSMITTED)[0])
