"""News to the hosts it is for: sealed once however many hear it, and whatever an agent asks for answered.

INVARIANT: an agent is answered only about itself: the UUID is the one in the subject, which the bus made sure of.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

import msgspec
from nacl.signing import SigningKey

from ringfence.controller.desired.desired import Desired, News, Turning
from ringfence.controller.desired.isolating import Isolating
from ringfence.controller.pacing import Pace
from ringfence.ports.bus import Bus, BusError
from ringfence.wire import subjects
from ringfence.wire.envelope import seal
from ringfence.wire.messages import Change, Down, Fetch, Isolations, Order, Pieces

_log = logging.getLogger(__name__)
_REMEMBERED = 1000
_BREATH = 32
"""Messages told in a row before whatever else there is to do."""
_TURN_S = 0.02
"""Before a question is looked at again that came in the middle of a change."""
_ASKS = 50.0
"""A host that has nothing yet asks this often without a pause: an answer holds only so much."""


class Distributor:
    """The controller's voice on the bus."""

    def __init__(self, bus: Bus, key: Callable[[], SigningKey], desired: Desired, isolating: Isolating) -> None:
        self._bus, self._key, self._desired, self._isolating = bus, key, desired, isolating
        self._sent: OrderedDict[int, float] = OrderedDict()
        self._pace = Pace(burst=_ASKS)
        self._is_telling = False
        """What an agent should have may not be told yet: comparing would have it ask for what is on its way."""
        self.messages = 0
        """Told to single hosts since the start."""
        self.bytes = 0

    async def serve(self) -> None:
        """Answer what agents ask from now on."""
        await self._bus.subscribe(subjects.UP_EVERYONE.format("ask"), self._answer)

    async def tell(self, news: News) -> None:
        """Each host its part. What does not arrive is found by the next heartbeat and asked for."""
        sent = self._sent[news.revision] = time.time()
        if len(self._sent) > _REMEMBERED:
            self._sent.popitem(last=False)
        self._is_telling = True
        try:
            for hosts, message in news.messages:
                timed = msgspec.structs.replace(message, sent=sent) if isinstance(message, Change) else message
                await self._send(hosts, timed)
        finally:
            self._is_telling = False

    def took(self, revision: int) -> tuple[float, ...]:
        """Seconds since a revision was told, if it was told lately."""
        sent = self._sent.get(revision)
        return () if sent is None else (time.time() - sent,)

    async def isolate(self, news: Iterable[Isolations]) -> None:
        """Quarantine, to every agent."""
        for isolations in news:
            await self._publish(subjects.ISOLATIONS, self.sealed(isolations))
        await self._flush()

    async def order(self, uuid: str, order: Order) -> None:
        """Something to be done once. Raises BusError."""
        await self._bus.publish(subjects.down(uuid), self.sealed(order))
        await self._bus.flush()

    def sealed(self, message: Down) -> bytes:
        return seal(message, self._key())

    async def _send(self, hosts: Iterable[str], message: Down) -> None:
        data = self.sealed(message)
        for uuid in hosts:
            await self._publish(subjects.down(uuid), data)
            if self.messages % _BREATH == 0:
                await asyncio.sleep(0)  # a quarantine does not wait for the rest

    async def _publish(self, subject: str, data: bytes) -> None:
        self.messages += 1
        self.bytes += len(data)
        try:
            await self._bus.publish(subject, data)
        except BusError as error:
            _log.warning("`%s` is not told now, and will ask: %s", subject, error)

    async def _flush(self) -> None:
        try:
            await self._bus.flush()
        except BusError as error:
            _log.warning("the bus does not answer: %s", error)

    async def _answer(self, subject: str, data: bytes) -> bytes | None:
        uuid = subjects.sender(subject)
        if not self._pace.admits(uuid):
            return None
        try:
            fetch = msgspec.json.decode(data, type=Fetch)
        except ValueError as error:
            _log.warning("what `%s` asks cannot be read: %s", uuid, error)
            return None
        return self.sealed(await self._steady(uuid, fetch))

    async def _steady(self, uuid: str, fetch: Fetch) -> Pieces:
        """The pieces of one state, once there is one."""
        while True:
            try:
                return self.pieces(uuid, fetch)
            except Turning:
                await asyncio.sleep(_TURN_S)

    def pieces(self, uuid: str, fetch: Fetch) -> Pieces:
        """What a host asked for, as far as it is its business. Raises Turning."""
        pieces = self._desired.answer(uuid, fetch)
        networks = self._desired.networks_of(uuid)
        if not fetch.isolations or networks is None:
            return pieces
        return msgspec.structs.replace(pieces, isolations=self._isolating.of(networks))

    def expected(self, uuid: str) -> str:
        """The digest of state of an agent that heard everything. Raises Turning."""
        if self._is_telling:
            raise Turning
        assignment = self._desired.assignments.get(uuid)
        if assignment is None:
            return ""
        isolations = self._isolating.of(frozenset(assignment.networks))
        return self._desired.expected_state(uuid, isolations.revision if isolations else 0)
