"""The two buses under one contract: whatever holds for one must hold for the other."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

from real_bus import A, Fleet, connection, open_fleet

from ringfence.bus.memory import MemoryBroker, MemoryBus
from ringfence.ports.bus import Bus


class Fabric(Protocol):
    """A controller's connection, an agent's, and a server that can be killed."""

    controller: Bus
    agent: Bus

    async def kill(self) -> None: ...

    async def revive(self) -> None: ...


class MemoryFabric:
    def __init__(self) -> None:
        self._broker = MemoryBroker()
        self.controller: Bus = MemoryBus(self._broker)
        self.agent: Bus = MemoryBus(self._broker)

    async def kill(self) -> None:
        self._broker.stop()

    async def revive(self) -> None:
        self._broker.start()


class NatsFabric:
    def __init__(self, fleet: Fleet, controller: Bus, agent: Bus) -> None:
        self._fleet = fleet
        self.controller = controller
        self.agent = agent

    async def kill(self) -> None:
        """With -9, in the middle of whatever it does. Its keeper starts it again."""
        pid = self._fleet.server.pid
        assert pid
        os.kill(pid, signal.SIGKILL)

    async def revive(self) -> None:
        """It comes back by itself."""


@asynccontextmanager
async def memory(_: Path) -> AsyncIterator[Fabric]:
    fabric = MemoryFabric()
    try:
        yield fabric
    finally:
        await fabric.agent.close()
        await fabric.controller.close()


@asynccontextmanager
async def jetstream(folder: Path) -> AsyncIterator[Fabric]:
    async with AsyncExitStack() as stack:
        fleet, controller = await stack.enter_async_context(open_fleet(folder))
        agent = await stack.enter_async_context(connection(fleet.agent(A)))
        yield NatsFabric(fleet, controller, agent)


FABRICS: dict[str, Callable[[Path], AbstractAsyncContextManager[Fabric]]] = {"memory": memory, "jetstream": jetstream}
