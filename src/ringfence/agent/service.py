"""The agent as a service: its parts put together with the real bus, the real kernel and the real clock."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from functools import partial

from ringfence.agent import farewell, uninstall
from ringfence.agent.config import Config
from ringfence.agent.enrol import keys
from ringfence.agent.enrol.enrol import renew
from ringfence.agent.held.disk import Disk
from ringfence.agent.observe.observe import Observer
from ringfence.agent.point import nftables
from ringfence.agent.renewal import Renewal
from ringfence.agent.run import Agent
from ringfence.bus.jetstream import JetStreamBus, options_for_agent
from ringfence.core.errors import InputError
from ringfence.ports.bus import BusError
from ringfence.targets.nftables import NftablesTarget

_log = logging.getLogger(__name__)


def serve(config: Config) -> int:
    """Until a signal. Raises InputError `identity-missing`, `identity-damaged`."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    asyncio.run(_serve(config))
    return 0


async def _serve(config: Config) -> None:
    disk = Disk(config.directory)
    trust = disk.load_trust()
    identity = await keys.describe(config.directory)
    if identity is None or str(identity.uuid) != trust.workload:
        raise InputError("identity-missing", "this host is not enrolled", help="`ringfence-agent enrol --token T`")
    agents: list[Agent] = []

    async def connected() -> None:
        await agents[0].link.on_connected()

    context = partial(keys.context, config.directory)
    options = options_for_agent(trust.workload, trust.nats, context, secret=identity.secret, on_connected=connected)
    bus, point = JetStreamBus(options), nftables(config.netns)
    agent = Agent(config, trust, bus, point)
    agents.append(agent)
    reading = NftablesTarget(config.netns)  # a socket of its own: the one that owns the table is the enforcer's
    agent.observer = Observer(
        reading, agent.spool, netns=config.netns, interval_s=config.flows_s, on_told=agent.link.drain
    )
    renewal = Renewal(agent, identity, partial(renew, disk), bus.renew)
    agent.renew, agent.renew_now = renewal.run, renewal.once
    agent.uninstall = partial(_uninstall, agent)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, agent.stop)
    bus.start()
    try:
        await agent.run()
    finally:
        await bus.close()


async def _uninstall(agent: Agent, argument: str) -> None:
    """By order of the controller: the word it said, nothing else."""
    how = uninstall.leave(argument)
    await asyncio.to_thread(uninstall.disable_units)
    event = farewell.words(how, why="", by="the controller's order", at_s=agent.clock.wall_s())
    try:
        await farewell.say(agent.bus, agent.trust.workload, event)
    except BusError as error:
        _log.warning("the controller was not told that this agent is removed: %s", error)
    await agent.enforcer.last(partial(uninstall.rules, agent.disk, agent.point, how))
    uninstall.forget(agent.disk)
