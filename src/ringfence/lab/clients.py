"""The connecting side of a lab host: each application path exercised by a real exchange, its answer checked.

An exchange succeeds when the right service of the right host answered with the right bytes; anything else, a refusal,
silence or the wrong answerer, is a failure with its reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import zlib
from collections.abc import AsyncIterator

import msgspec

from ringfence.lab import talk
from ringfence.lab.world import Family, Path, Service, Survey, World

EXCHANGE_TIMEOUT_S = 3.0
_SURVEY_TIMEOUT_S = 1.0
_SURVEY_PARALLEL = 64
_ECHO = struct.Struct("!BBHHH")


class PathCheck(msgspec.Struct, frozen=True):
    """One exchange over one path and family; `problem` is empty when it worked."""

    path: Path
    family: Family
    problem: str = ""

    @property
    def worked(self) -> bool:
        return not self.problem


class Tally(msgspec.Struct):
    """What became of the exchanges of one path and family."""

    path: Path
    family: Family
    worked: int = 0
    failed: int = 0
    last_problem: str = ""

    def count(self, problem: str) -> None:
        self.worked += not problem
        self.failed += bool(problem)
        self.last_problem = problem or self.last_problem


async def check(world: World, path: Path, family: Family) -> PathCheck:
    """One fresh exchange."""
    return PathCheck(path, family, await _attempt(_Line(world, path, family)))


async def keep_talking(world: World, path: Path, family: Family, tally: Tally) -> None:
    """Exchange once a period until cancelled; the first exchange comes within the first second."""
    line = _Line(world, path, family)
    try:
        await asyncio.sleep(_stagger(path, family) * min(path.every_s, 1.0))
        while True:
            tally.count(await _attempt(line))
            await asyncio.sleep(path.every_s)
    finally:
        await line.close()


async def keep_surveying(world: World, survey: Survey) -> None:
    """Knock at every port of every target once a period until cancelled."""
    targets = [
        (address, port) for name in survey.servers for address in world.by_name[name].addresses for port in survey.ports
    ]
    gate = asyncio.Semaphore(_SURVEY_PARALLEL)
    while True:
        await asyncio.gather(*(_knock(gate, address, port) for address, port in targets))
        await asyncio.sleep(survey.every_s)


async def _knock(gate: asyncio.Semaphore, address: str, port: int) -> None:
    async with gate:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_SURVEY_TIMEOUT_S):
                _, writer = await asyncio.open_connection(address, port)
            writer.close()


async def _attempt(line: _Line) -> str:
    """The problem of one exchange; empty when it worked."""
    try:
        async with asyncio.timeout(EXCHANGE_TIMEOUT_S):
            await line.exchange()
    except TimeoutError:
        await line.close()
        return "no answer"
    except OSError as error:
        await line.close()
        return os.strerror(error.errno).lower() if error.errno else str(error).lower()
    except (ValueError, asyncio.IncompleteReadError) as error:
        await line.close()
        return str(error).lower()
    return ""


class _Line:
    """One client's way to one service, with the connection it may hold."""

    def __init__(self, world: World, path: Path, family: Family) -> None:
        service = world.by_name[path.server].service(path.service)
        address = world.by_name[path.server].address(family)
        assert service is not None
        assert address is not None
        self.service: Service = service
        self.address: str = address
        self.family: Family = family
        self.is_held = path.is_held
        self.expected = talk.Identity(path.server, path.service)
        self.server_name = f"{path.server}.{talk.DOMAIN}"
        self.zone = world.by_name[path.server].addresses
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self) -> None:
        """Raises OSError, TimeoutError, ValueError or IncompleteReadError when it does not work."""
        if self.service.transport == "icmp":
            await self._ping()
        elif self.service.transport == "udp":
            await self._datagram()
        else:
            await self._stream()

    async def close(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            with contextlib.suppress(OSError):
                streams[1].close()
                await streams[1].wait_closed()

    async def _stream(self) -> None:
        is_new = self._streams is None
        reader, writer = self._streams or await asyncio.open_connection(self.address, self.service.port)
        self._streams = reader, writer
        if self.service.speaks == "http":
            await self._http(reader, writer)
        elif self.service.speaks == "greeting":
            await self._greeting(reader, writer, is_new=is_new)
        else:
            writer.write(talk.store_request())
            self._check(await reader.readuntil(b"\r\n"), at_least=talk.STORE_BYTES)
        if not self.is_held:
            await self.close()

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(talk.http_request(self.server_name))
        self._check(await reader.read(-1), at_least=len(talk.HTTP_BODY))

    async def _greeting(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_new: bool) -> None:
        if is_new:
            self._check(await reader.readuntil(b"\r\n"))
        writer.write(b"SSH-2.0-client\r\n")
        if await reader.readuntil(b"\r\n") != b"SSH-2.0-client\r\n":
            raise ValueError("the server did not echo what was sent")

    async def _datagram(self) -> None:
        query_id = int.from_bytes(os.urandom(2))
        kind = talk.A if self.family == 4 else talk.AAAA
        requests = {"dns": talk.dns_query(self.server_name, kind, query_id), "ntp": talk.ntp_request()}
        answer = await self._ask(socket.SOCK_DGRAM, 0, self.service.port, requests.get(self.service.speaks, b"echo"))
        self._check(answer)
        if self.service.speaks == "dns" and self.address not in talk.dns_addresses(answer):
            raise ValueError("the resolver gave another address")

    async def _ping(self) -> None:
        """A real echo request through a ping socket; the kernel of the other host answers."""
        payload = os.urandom(16)
        protocol, kind = (socket.IPPROTO_ICMP, 8) if self.family == 4 else (socket.IPPROTO_ICMPV6, 128)
        answer = await self._ask(socket.SOCK_DGRAM, protocol, 0, _ECHO.pack(kind, 0, 0, 0, 1) + payload)
        if not answer.endswith(payload):
            raise ValueError("the echo reply is not ours")

    async def _ask(self, kind: int, protocol: int, port: int, request: bytes) -> bytes:
        async with _socket(self.family, kind, protocol) as sock:
            loop = asyncio.get_running_loop()
            sock.connect((self.address, port))  # of a datagram socket, so it waits for nothing
            await loop.sock_sendall(sock, request)
            return await loop.sock_recv(sock, 4096)

    def _check(self, answer: bytes, *, at_least: int = 0) -> None:
        found = talk.parse_identity(answer)
        if found != self.expected:
            raise ValueError(f"answered by {found.host}/{found.service}" if found else "answered without identity")
        if len(answer) < at_least:
            raise ValueError("the answer is short")


@contextlib.asynccontextmanager
async def _socket(family: Family, kind: int, protocol: int) -> AsyncIterator[socket.socket]:
    with socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind, protocol) as sock:
        sock.setblocking(False)
        yield sock


def _stagger(path: Path, family: Family) -> float:
    """A fraction that differs between paths and is the same in every run, so that clients do not march in step."""
    return zlib.crc32(f"{path} {family}".encode()) / 2**32
