"""An agent's conversation with its controller: it hears what to enforce, asks for what it lacks, tells what is so.

INVARIANT: nothing that was heard is used before its signature was verified and all of it understood; what is not is
told with its code, and what is held stays.
INVARIANT: losing the controller changes nothing here but what is told: no timer turns silence into a policy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from ringfence.agent.clock import Clock
from ringfence.agent.enforce.enforcer import Enforcer
from ringfence.agent.held.held import Held
from ringfence.agent.held.journal import Heard
from ringfence.agent.observe.spool import Spool
from ringfence.core.errors import InputError
from ringfence.ports.bus import Bus, BusError
from ringfence.wire import subjects
from ringfence.wire.envelope import Reader
from ringfence.wire.messages import (
    Change,
    Down,
    Event,
    Events,
    Expected,
    Fetch,
    Heartbeat,
    Order,
    Pieces,
    Realised,
)

_log = logging.getLogger(__name__)
_ANSWER_S = 5.0
_PAUSES_S = (0.05, 0.5, 2.0, 10.0, 30.0)
"""Before asking again for what did not come."""
_REPEAT_S = 600.0
"""An event of one kind from the bus is told once in so long."""
_ORDERS_KEPT: Final = 256
_ORDER_S: Final = 900.0
"""An order that would be good for longer is none: it could be given again after a restart."""
Orders = Callable[[Order], Awaitable[None]]
Beat = Callable[[], Heartbeat]


class Link:
    """One agent's side of the bus."""

    def __init__(
        self,
        bus: Bus,
        held: Held,
        reader: Reader,
        enforcer: Enforcer,
        spool: Spool,
        *,
        beat: Beat,
        order: Orders,
        clock: Clock,
        heartbeat_s: float = 10.0,
    ) -> None:
        """`beat` gives the heartbeat of now; `order` carries out what is to be done once."""
        self.bus, self.held, self.reader, self.enforcer, self.spool = bus, held, reader, enforcer, spool
        self.uuid = held.workload
        self.answered_at = 0.0
        """When the controller last answered, on the monotonic clock."""
        self._beat, self._order, self._clock, self._heartbeat_s = beat, order, clock, heartbeat_s
        self._asking, self._telling, self._beating = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._kept = asyncio.Event()
        """Something may wait to be sent."""
        self._again = asyncio.Event()
        """There is a connection again: whoever waits before trying once more need not."""
        self._was_connected = False
        self._everything = False
        self._realised: Realised | None = None
        self._told: dict[str, float] = {}
        self._orders: dict[str, None] = {}

    async def run(self) -> None:
        """Until cancelled."""
        await self.bus.subscribe(subjects.down(self.uuid), self._heard)
        await self.bus.subscribe(subjects.ISOLATIONS, self._heard)
        async with asyncio.TaskGroup() as group:
            for work in (self._keep_beating, self._keep_asking, self._keep_telling, self._keep_draining):
                group.create_task(work())

    async def on_connected(self) -> None:
        """A new connection: what was said meanwhile is found by the state in the next heartbeat, so beat now."""
        _log.info("connected to the controller%s", " again" if self._was_connected else "")
        self._was_connected = True
        self._beating.set()
        self._telling.set()
        self._again.set()
        self._kept.set()

    def beat(self) -> None:
        """Tell how this host is, now."""
        self._beating.set()

    # ---- hearing ----------------------------------------------------------------------------------------------------

    async def _heard(self, _: str, data: bytes) -> None:
        message = self._opened(data)
        if message is not None:
            await self.take(message)

    def _opened(self, data: bytes) -> Down | None:
        try:
            return self.reader.open(data)
        except InputError as error:
            self._note(error.code, error.message)
            return None

    async def take(self, message: Down) -> None:
        """A message of the controller's."""
        if isinstance(message, Order):
            await self._carry_out(message)
            return
        if not isinstance(message, Heard):
            return
        is_news = self.held.take(message)
        if isinstance(message, Change):
            self.enforcer.footing.change = max(self.enforcer.footing.change, message.revision)
        if is_news or self.held.pending is not None:
            self.enforcer.heard(message)
        if self.held.wants is not None:
            self._asking.set()

    async def _carry_out(self, order: Order) -> None:
        """Once, by whom it is for, and not when it is too late."""
        now = self._clock.wall_s() + self._clock.offset_s
        is_in_time = now <= order.until <= now + _ORDER_S
        if order.workload != self.uuid or order.id in self._orders or not is_in_time:
            return
        self._orders[order.id] = None
        if len(self._orders) > _ORDERS_KEPT:
            del self._orders[next(iter(self._orders))]
        if order.what == "resync":
            self.resync()
        else:
            await self._order(order)

    # ---- asking -----------------------------------------------------------------------------------------------------

    def resync(self) -> None:
        """Ask for all of it."""
        self._everything = True
        self._asking.set()

    async def _keep_asking(self) -> None:
        tries = 0
        self._asking.set()
        while True:
            await self._asking.wait()
            before = wanted = self._fetch()
            if wanted is None:
                self._asking.clear()
                tries = 0
                continue
            self._again.clear()
            is_answered = await self._ask(wanted)
            tries = tries + 1 if not is_answered or self._fetch() == before else 0
            if tries and await self._rests(_PAUSES_S[min(tries, len(_PAUSES_S)) - 1] * random.uniform(0.5, 1.5)):
                tries = 0

    async def _rests(self, seconds: float) -> bool:
        """Wait so long, or until there is a connection again: whether there is."""
        try:
            async with asyncio.timeout(seconds):
                await self._again.wait()
        except TimeoutError:
            return False
        return True

    def _fetch(self) -> Fetch | None:
        return self.held.everything if self._everything else self.held.wants

    async def _ask(self, fetch: Fetch) -> bool:
        try:
            data = await self.bus.request(
                subjects.up(self.uuid, "ask"), msgspec.json.encode(fetch), timeout_s=_ANSWER_S
            )
        except BusError as error:
            level = logging.INFO if self.bus.is_connected else logging.DEBUG  # the bus says that it is lost, once
            _log.log(level, "no answer to what was asked for: %s", error)
            return False
        message = self._opened(data)
        if not isinstance(message, Pieces):
            return False
        # Once: what nobody has any more stays unknown for as long as the old policy is in force, and the answer brings
        # the assignment that replaces it, whose pieces are to be asked for next.
        self._everything = False
        await self.take(message)
        return True

    # ---- telling ----------------------------------------------------------------------------------------------------

    def tell_realised(self, realised: Realised) -> None:
        """At once, and again when the connection is back."""
        self._realised = realised
        self._telling.set()

    async def _keep_telling(self) -> None:
        while True:
            await self._telling.wait()
            self._telling.clear()
            if self._realised is None:
                continue
            try:
                await self.bus.publish(subjects.up(self.uuid, "done"), msgspec.json.encode(self._realised))
            except BusError as error:
                _log.info("what is enforced is told with the next heartbeat: %s", error)

    async def _keep_beating(self) -> None:
        while True:
            self._beating.clear()
            await self.ask_state()
            pause = self._heartbeat_s * random.uniform(0.8, 1.2)
            try:
                async with asyncio.timeout(pause):
                    await self._beating.wait()
            except TimeoutError:
                continue

    async def ask_state(self) -> bool:
        """One heartbeat: whether the controller answered."""
        sent = msgspec.structs.replace(self._beat(), nonce=secrets.token_hex(8))
        began = self._clock.wall_s()
        try:
            data = await self.bus.request(
                subjects.up(self.uuid, "beat"), msgspec.json.encode(sent), timeout_s=_ANSWER_S
            )
        except BusError as error:
            _log.debug("a heartbeat was not answered: %s", error)
            return False
        expected = self._opened(data)
        if not isinstance(expected, Expected) or (expected.workload, expected.nonce) != (self.uuid, sent.nonce):
            return False
        self.answered_at = time.monotonic()
        if len(self.spool):
            self._kept.set()
        self._compare(expected, sent.state, began)
        return True

    def _compare(self, expected: Expected, state: str, began_s: float) -> None:
        self._clock.note(expected.now, began_s, self._clock.wall_s())
        if self.held.correct(datetime.fromtimestamp(expected.now, UTC)):
            self.enforcer.news()
        if self._clock.is_skewed:
            self._note("clock-skewed", f"this host's clock is {self._clock.offset_s:+.0f} s from the controller's")
        if expected.is_cloned != self.enforcer.is_cloned:
            self.enforcer.is_cloned = expected.is_cloned
            self.enforcer.news()
            if expected.is_cloned:
                self._note("identity-cloned", "another host lives under the same identity")
        if expected.state != state and self.held.state == state:
            self.resync()

    # ---- what is kept -----------------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Durably, whether there is a connection or not."""
        id = self.spool.new_id()
        self.spool.put("events", msgspec.json.encode(Events(id, events=(event,))), id=id)
        self._kept.set()

    def drain(self) -> None:
        """Something was kept: send it."""
        self._kept.set()

    def _note(self, kind: str, message: str) -> None:
        """Once in a while: who can send one bad message can send a thousand."""
        now = time.monotonic()
        if now >= self._told.get(kind, 0.0):
            self._told[kind] = now + _REPEAT_S
            self.tell(Event(self._clock.wall_s(), kind, message))

    async def _keep_draining(self) -> None:
        failures = 0
        self._kept.set()
        while True:
            await self._something_kept(failures)
            failures = 0 if await self._drain() else failures + 1

    async def _something_kept(self, failures: int) -> None:
        """Until there is something to send, or it is time to try again."""
        pause = _PAUSES_S[min(failures + 1, 4)] * random.uniform(0.5, 1.5) if failures else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._kept.wait()
        self._kept.clear()

    async def _drain(self) -> bool:
        """Whether all that waited is safe with the controller."""
        while len(self.spool) and self.bus.is_connected:
            for kept in self.spool.pending(16):
                try:
                    await self.bus.keep(subjects.kept(self.uuid, kept.kind), kept.data, id=kept.id)
                except BusError as error:
                    _log.info("%s wait to be told: %s", kept.kind, error)
                    return False
                self.spool.ack(kept.id)
        return True
