"""The agent as a service: its parts put together with the real bus, the real kernel and the real clock."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sys
from datetime import UTC, datetime
from functools import partial

from ringfence.agent import keys, uninstall
from ringfence.agent.config import Config
from ringfence.agent.disk import Disk
from ringfence.agent.enrol import Joined, renew
from ringfence.agent.observe import Observer
from ringfence.agent.point import nftables
from ringfence.agent.run import Agent
from ringfence.bus.jetstream import JetStreamBus, options_for_agent
from ringfence.core.errors import InputError, RingfenceError
from ringfence.targets.nftables import NftablesTarget
from ringfence.wire.envelope import Reader
from ringfence.wire.messages import Event

_log = logging.getLogger(__name__)
_RETRY_S = (30.0, 600.0)


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
    renewal = _Renewal(agent, identity)
    agent.renew, agent.renew_now = renewal.keep, renewal.once
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
    await agent.enforcer.last(partial(uninstall.rules, agent.disk, agent.point, how))
    uninstall.forget(agent.disk)


class _Renewal:
    """Keeps the certificate fresh."""

    def __init__(self, agent: Agent, identity: keys.Identity) -> None:
        self._agent, self._identity = agent, identity
        agent.certificate_until = identity.not_after.timestamp()

    async def keep(self) -> None:
        failures = 0
        while True:
            left = self._identity.renew_in(datetime.now(UTC)).total_seconds()
            if left > 0:
                await asyncio.sleep(min(left * random.uniform(0.9, 1.0) + 1.0, 3600.0))
                continue
            try:
                await self.once()
                failures = 0
            except RingfenceError as error:
                failures += 1
                _log.warning("the certificate is not renewed: %s", error)
                if self._identity.is_expired(datetime.now(UTC)) and failures == 1:
                    self._agent.tell(Event(self._agent.clock.wall_s(), "certificate-expired", error.message))
                await asyncio.sleep(min(_RETRY_S[1], _RETRY_S[0] * 2.0**failures) * random.uniform(0.5, 1.0))

    async def once(self) -> None:
        joined: Joined = await renew(self._agent.disk)
        self._identity, self._agent.trust = joined.identity, joined.trust
        self._agent.certificate_until = joined.identity.not_after.timestamp()
        self._agent.link.reader = Reader(joined.trust.message_keys)
