"""Keeps the certificate fresh, and the connection on it.

INVARIANT: an old certificate is out of use soon after it was replaced, not at its end: at a random moment within
SPREAD_S the connection to the bus is made anew with the new one, and the old one is ended after that.
INVARIANT: hosts that were enrolled together neither renew nor connect together.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from ringfence.agent.enrol.enrol import Joined
from ringfence.agent.enrol.keys import Identity
from ringfence.agent.run import Agent
from ringfence.core.errors import RingfenceError
from ringfence.ports.bus import BusError
from ringfence.wire.envelope import Reader
from ringfence.wire.messages import Event

_log = logging.getLogger(__name__)
SPREAD_S: Final = 180.0
_RETRY_S: Final = (30.0, 600.0)


class Renewal:
    """Of one agent's identity."""

    def __init__(
        self,
        agent: Agent,
        identity: Identity,
        renew: Callable[[], Awaitable[Joined]],
        go_over: Callable[[], Awaitable[None]],
        *,
        spread_s: float = SPREAD_S,
    ) -> None:
        """`renew` installs a new certificate; `go_over` makes the connection anew with it. Both raise RingfenceError,
        the latter BusError, too."""
        self._agent, self._identity, self._renew, self._go_over = agent, identity, renew, go_over
        self._spread_s = spread_s
        self._is_fresh = asyncio.Event()
        agent.certificate_until = identity.not_after.timestamp()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep())
            group.create_task(self._follow())

    async def once(self) -> None:
        """A new certificate, now."""
        joined = await self._renew()
        self._identity, self._agent.trust = joined.identity, joined.trust
        self._agent.certificate_until = joined.identity.not_after.timestamp()
        self._agent.link.reader = Reader(joined.trust.message_keys)
        self._is_fresh.set()

    async def _keep(self) -> None:
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
                await asyncio.sleep(_pause_s(failures))

    async def _follow(self) -> None:
        """A connection lost meanwhile comes back with the new certificate by itself."""
        failures = 0
        while True:
            await self._is_fresh.wait()
            self._is_fresh.clear()
            await asyncio.sleep(_pause_s(failures) if failures else random.uniform(0.0, self._spread_s))
            try:
                await self._go_over()
                failures = 0
            except (BusError, RingfenceError) as error:
                failures += 1
                _log.warning("the connection stays on the old certificate: %s", error)
                self._is_fresh.set()


def _pause_s(failures: int) -> float:
    first_s, most_s = _RETRY_S
    return min(most_s, first_s * 2.0 ** min(failures, 16)) * random.uniform(0.5, 1.0)
