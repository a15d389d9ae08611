"""The process that is one lab host: it serves its services and, when told to, runs its clients.

Runs inside the host's namespace, one event loop, no thread, controlled over a channel.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

import msgspec

from ringfence.lab.channel import Done, answer_requests
from ringfence.lab.clients import PathCheck, Tally, check, keep_surveying, keep_talking
from ringfence.lab.services import Services
from ringfence.lab.world import Path, World


class HostTask(msgspec.Struct, frozen=True):
    """What a host process is started with."""

    world: World
    host: str


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Answered once every socket listens."""


class StartClients(msgspec.Struct, frozen=True, tag="start"):
    """Begin every client path and survey of this host."""


class StopClients(msgspec.Struct, frozen=True, tag="stop"):
    """End them and tell what became of each path."""


class CountClients(msgspec.Struct, frozen=True, tag="count"):
    """Tell what became of each path until now; the clients go on."""


class CheckPaths(msgspec.Struct, frozen=True, tag="check"):
    """One fresh exchange over each of this host's paths and families, at once."""


class Tallies(msgspec.Struct, frozen=True):
    tallies: tuple[Tally, ...]


class Checks(msgspec.Struct, frozen=True):
    checks: tuple[PathCheck, ...]


Request = Ready | StartClients | StopClients | CountClients | CheckPaths


def serve(sock: socket.socket, argument: bytes) -> None:
    """Be the host until the channel closes."""
    task = msgspec.msgpack.decode(argument, type=HostTask)
    asyncio.run(_Host(task.world, task.host).serve(sock))


class _Host:
    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._services = Services(world, world.by_name[name])
        self._paths: list[Path] = [path for path in world.paths if path.client == name]
        self._surveys = [survey for survey in world.surveys if survey.client == name]
        self._running: list[asyncio.Task[None]] = []
        self._tallies: list[Tally] = []

    async def serve(self, sock: socket.socket) -> None:
        await self._services.listen()
        await answer_requests(sock, self._answer)

    async def _answer(self, body: bytes) -> msgspec.Struct:
        request = msgspec.msgpack.decode(body, type=Request)
        if isinstance(request, StartClients):
            return self._start()
        if isinstance(request, StopClients):
            return await self._stop()
        if isinstance(request, CountClients):
            return Tallies(tuple(self._tallies))
        return await self._check() if isinstance(request, CheckPaths) else Done()

    def _start(self) -> Done:
        self._tallies = [Tally(path, family) for path in self._paths for family in self._world.families(path)]
        talking = [keep_talking(self._world, tally.path, tally.family, tally) for tally in self._tallies]
        surveying = [keep_surveying(self._world, survey) for survey in self._surveys]
        self._running = [asyncio.create_task(work) for work in (*talking, *surveying)]
        return Done()

    async def _stop(self) -> Tallies:
        running, self._running = self._running, []
        for task in running:
            task.cancel()
        for task in running:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return Tallies(tuple(self._tallies))

    async def _check(self) -> Checks:
        pairs = [(path, family) for path in self._paths for family in self._world.families(path)]
        return Checks(tuple(await asyncio.gather(*(check(self._world, path, family) for path, family in pairs))))
