"""An agent over the real bus: NATS with mutual TLS, the callout, and a kernel."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec
import pytest
from nft_ground import Ground
from scripted import UUID as SCRIPTED
from scripted import Controller, body, until

sys.path.append(str(Path(__file__).parents[1] / "bus"))

from real_bus import A, Fleet, open_fleet

from ringfence.agent.config import Config
from ringfence.agent.enrol import keys
from ringfence.agent.held.disk import Trust
from ringfence.agent.point import NftablesPoint
from ringfence.agent.run import Agent
from ringfence.bus.backoff import Backoff
from ringfence.bus.jetstream import JetStreamBus, options_for_agent
from ringfence.ports.bus import Bus
from ringfence.wire import subjects
from ringfence.wire.envelope import seal

pytestmark = pytest.mark.kernel


class OverNats(Controller):
    """The scripted controller on a bus it is given."""

    def __init__(self, bus: Bus) -> None:
        super().__init__()
        self.bus, self.answers_to = bus, str(A)  # type: ignore[assignment]

    async def assigned(self, *services: str) -> int:
        made = body(*services)
        assignment = self.assign(made)
        station = msgspec.structs.replace(assignment.station, workload=str(A))
        self.assignment = msgspec.structs.replace(assignment, station=station)
        await self.bus.publish(subjects.down(str(A)), seal(self.assignment, self.key))
        return assignment.revision


async def _agent(fleet: Fleet, controller: Controller, folder: Path, netns: str) -> Agent:
    folder.mkdir(exist_ok=True)
    csr = await keys.request(folder)
    issued = fleet.authority.issue_svid(csr, A, now=datetime.now(UTC))
    identity = await keys.install(
        folder, keys.Grant(issued.certificate.decode(), fleet.authority.bundle.decode()), is_enrolment=True
    )
    trust = Trust(str(A), "estate.test", "", (), controller.trust().message_keys)
    agents: list[Agent] = []

    async def connected() -> None:
        await agents[0].link.on_connected()

    options = options_for_agent(
        str(A),
        (fleet.url,),
        partial(keys.context, folder),
        backoff=Backoff(first_s=0.05, most_s=0.2),
        on_connected=connected,
        secret=identity.secret,
    )
    bus = JetStreamBus(options)
    config = Config(directory=folder, socket=folder / "agent.sock", netns=netns, heartbeat_s=0.5)
    agents.append(Agent(config, trust, bus, NftablesPoint(netns)))
    bus.start()
    return agents[0]


def test_a_host_is_enforced_over_the_real_bus(tmp_path: Path) -> None:
    """Certificate, callout, notice, fetch, kernel, report; the server dies and comes back, and the next policy arrives;
    what happened meanwhile is told durably."""

    async def test(netns: str) -> None:
        async with open_fleet(tmp_path) as (fleet, bus):
            controller = OverNats(bus)
            await controller.start()
            agent = await _agent(fleet, controller, tmp_path / "agent", netns)
            running = asyncio.create_task(agent.run())
            try:
                await until(lambda: controller.beats)
                first = await controller.assigned("tcp/80")
                await until(lambda: controller.realised and controller.realised[-1].assignment == first)
                assert controller.realised[-1].state == "realised"
                assert SCRIPTED not in NftablesPoint(netns).target.render(agent.held.intent(agent.clock.now()))  # type: ignore[arg-type]
                await fleet.server.stop()
                await until(lambda: not agent.bus.is_connected)
                assert NftablesPoint(netns).observe().state == "realised"
                await asyncio.to_thread(ground.nft, "flush ruleset")
                await until(lambda: len(agent.spool) and NftablesPoint(netns).observe().state == "realised")
                await fleet.server.start()
                await until(lambda: "tampered" in controller.kinds())
                await until(lambda: bus.is_connected and agent.bus.is_connected)
                second = await controller.assigned("tcp/81")
                await until(lambda: controller.realised[-1].assignment == second)
            finally:
                agent.stop()
                await running
                await agent.bus.close()

    with Ground() as ground:
        asyncio.run(asyncio.wait_for(test(ground.host), 90))
