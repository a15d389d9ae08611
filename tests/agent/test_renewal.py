"""A certificate that is replaced goes out of use: over a real NATS server, with the callout."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

sys.path.append(str(Path(__file__).parents[1] / "bus"))

from real_bus import QUICK, A, Fleet, open_fleet
from scripted import Paper, until

from ringfence.agent.config import Config
from ringfence.agent.enrol import keys
from ringfence.agent.enrol.enrol import Joined
from ringfence.agent.held.disk import Trust
from ringfence.agent.renewal import Renewal
from ringfence.agent.run import Agent
from ringfence.bus.jetstream import JetStreamBus, options_for_agent
from ringfence.core.errors import InputError
from ringfence.ports.bus import BusError
from ringfence.wire import subjects


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 90))


class Enrolled:
    """A host with a certificate, and who entered the bus with which."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet, self.folder = fleet, folder
        self.entered: list[str] = []
        judged = fleet.is_revoked

        def noted(serial: str, uuid: UUID) -> bool:
            self.entered.append(serial)
            return judged(serial, uuid)

        fleet.callout._is_revoked = noted

    async def certify(self) -> Joined:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        csr = await keys.request(self.folder)
        issued = self.fleet.authority.issue_svid(csr, A, now=datetime.now(UTC))
        grant = keys.Grant(issued.certificate.decode(), self.fleet.authority.bundle.decode())
        identity = await keys.install(self.folder, grant, is_enrolment=True)
        return Joined(Trust(str(A), "estate.test", "", (self.fleet.url,), ()), identity)

    def bus(self, folder: Path | None = None) -> JetStreamBus:
        context = partial(keys.context, folder or self.folder)
        return JetStreamBus(options_for_agent(str(A), (self.fleet.url,), context, b"secret", backoff=QUICK))


def test_a_replaced_certificate_goes_out_of_use(tmp_path: Path) -> None:
    """After a renewal the connection goes over to the new certificate, with nothing missed on the way; whoever comes
    with the old one, revoked, is refused, and who came with the new one stays."""

    async def test() -> None:
        async with open_fleet(tmp_path) as (fleet, controller):
            host = Enrolled(fleet, tmp_path / "agent")
            first = await host.certify()
            old = tmp_path / "old"
            old.mkdir()
            (old / keys.IDENTITY).write_bytes((host.folder / keys.IDENTITY).read_bytes())
            (old / keys.IDENTITY).chmod(0o600)
            bus = host.bus()
            agent = Agent(Config(directory=host.folder, socket=host.folder / "s"), first.trust, bus, Paper())
            renewal = Renewal(agent, first.identity, host.certify, partial(bus.renew, linger_s=0.2), spread_s=0.2)
            heard: set[bytes] = set()

            async def hear(_: str, data: bytes) -> None:
                heard.add(data)

            bus.start()
            await bus.connected(timeout_s=20)
            await bus.subscribe(subjects.down(str(A)), hear)
            await bus.flush()
            assert host.entered == [first.identity.serial]
            running = asyncio.create_task(renewal.run())
            await renewal.once()
            second = renewal._identity.serial
            said: set[bytes] = set()
            while len(host.entered) < 2 or len(said) < 100:
                said.add(str(len(said)).encode())
                await controller.publish(subjects.down(str(A)), str(len(said) - 1).encode())
                assert bus.is_connected
                await asyncio.sleep(0.005)
            await until(lambda: heard == said)
            assert host.entered == [first.identity.serial, second]
            assert second != first.identity.serial
            await asyncio.sleep(0.5)  # longer than the old one lingers
            fleet.revoked.add((first.identity.serial, A))
            thief = host.bus(old)
            thief.start()
            await until(lambda: "Authorization" in thief.last_error)
            with pytest.raises(BusError):
                await thief.connected(timeout_s=0.5)
            assert bus.is_connected
            await controller.publish(subjects.down(str(A)), b"still")
            await until(lambda: b"still" in heard)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await thief.close()
            await bus.close()
            await agent.enforcer.close()

    run(test())


def test_a_connection_that_cannot_go_over_stays(tmp_path: Path) -> None:
    """The new certificate cannot be used: the old connection goes on, and is made anew when it is lost and it can."""

    async def test() -> None:
        async with open_fleet(tmp_path) as (fleet, controller):
            host = Enrolled(fleet, tmp_path / "agent")
            await host.certify()
            bus = host.bus()
            bus.start()
            await bus.connected(timeout_s=20)
            path = host.folder / keys.IDENTITY
            whole = path.read_bytes()
            path.write_bytes(b"nothing")
            with pytest.raises(InputError, match="identity"):
                await bus.renew()
            assert bus.is_connected
            await bus.flush()
            path.write_bytes(whole)
            await fleet.server.stop()
            with pytest.raises(BusError):
                await bus.publish(subjects.up(str(A), "done"), b"")
            await bus.renew()  # without a connection: nothing to do
            await fleet.server.start()
            await bus.connected(timeout_s=20)
            await until(lambda: bus.is_connected and controller.is_connected)
            await bus.renew(linger_s=0)
            await bus.flush()
            await bus.close()

    run(test())
