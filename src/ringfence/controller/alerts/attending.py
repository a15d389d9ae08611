"""People and alerts: listed, followed as they come, acknowledged, resolved.

INVARIANT: what somebody does about an alert is in the audit log; a listener that does not keep up loses events, is told
how many, and holds up nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import msgspec

from ringfence.controller import audit
from ringfence.controller.access.access import Principal
from ringfence.controller.alerts.occurrences import Occurrence
from ringfence.controller.alerts.watching import Watching
from ringfence.core.errors import InputError
from ringfence.core.identity.inventory import Inventory
from ringfence.ports.notifier import SEVERITIES
from ringfence.ports.state import Alert, State
from ringfence.wire.api import Event, Page
from ringfence.wire.messages import Violation

_WAITING = 1000
_BEAT_S = 15.0


class Listener:
    """One who follows."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue(_WAITING)
        self._lost = 0

    def put(self, event: Event) -> None:
        try:
            self._queue.put_nowait(msgspec.structs.replace(event, lost=self._lost))
            self._lost = 0
        except asyncio.QueueFull:
            self._lost += 1

    def end(self) -> None:
        """Nothing more comes, and what waits is not waited for."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def next(self) -> Event | None:
        """The next event; that nothing happened, after a while; None: no more come."""
        try:
            async with asyncio.timeout(_BEAT_S):
                return await self._queue.get()
        except TimeoutError:
            return Event("still-here", lost=self._lost)


class Attending:
    """The alerts of one estate, for people."""

    def __init__(
        self,
        state: State,
        watching: Watching,
        clock: Callable[[], datetime],
        inventory: Callable[[], Inventory],
    ) -> None:
        self._state, self._watching, self._clock, self._inventory = state, watching, clock, inventory
        self._listeners: set[Listener] = set()
        self._is_over = False
        watching.listeners.add(self._on_violation)
        watching.teller.on_stored = self._on_alerts

    def page(self, *, is_all: bool = False, after: str = "", limit: int = 200) -> Page[Alert]:
        """Alerts, the most severe first, then the latest; `is_all`: closed ones, too, as far as they are remembered."""
        found = [one for one in self._watching.alerts if is_all or one.state != "closed"]
        found.sort(key=lambda one: (-SEVERITIES.index(one.severity), -one.last.timestamp(), one.id))
        start = next((n + 1 for n, one in enumerate(found) if one.id == after), 0) if after else 0
        items = tuple(found[start : start + limit])
        return Page(items, items[-1].id if start + limit < len(found) else "")

    def get(self, id_: str) -> Alert:
        """Raises InputError `unknown-alert`."""
        found = next((one for one in self._watching.alerts if one.id == id_), None)
        if found is None:
            raise InputError("unknown-alert", f"there is no alert `{id_}`", help="`ringfence alerts` lists them")
        return found

    async def acknowledge(self, id_: str, *, why: str, by: Principal) -> Alert:
        """Somebody looks after it. Raises AccessError `not-allowed`, `outside-scope`, InputError
        `unknown-alert`, `alert-closed`."""
        self._demand(id_, by)
        if self.get(id_).state == "closed":
            raise InputError("alert-closed", f"alert `{id_}` is closed", help="it opens again when it comes back")
        now = self._clock()
        await self._record("alert.acknowledge", id_, why, by, now)
        self._watching.alerts.acknowledge(id_, by.name, now, why=why)
        return await self._stored(id_)

    async def resolve(self, id_: str, *, why: str, by: Principal) -> Alert:
        """Somebody says it is over. Raises AccessError `not-allowed`, `outside-scope`, InputError `unknown-alert`."""
        self._demand(id_, by)
        now = self._clock()
        await self._record("alert.resolve", id_, why, by, now)
        self._watching.alerts.resolve(id_, by.name, now, why=why)
        return await self._stored(id_)

    def _demand(self, id_: str, by: Principal) -> None:
        """The right over the workload an alert is about; over all of the estate, if it is about none. Raises
        AccessError `not-allowed`, `outside-scope`, InputError `unknown-alert`."""
        by.demand("alerts")
        about = self._inventory().by_name.get(self.get(id_).subject)
        if about is None:
            by.demand_scope("alerts", None, "the alert")
        else:
            by.demand_workload("alerts", about.labels)

    async def _record(self, action: str, id_: str, why: str, by: Principal, now: datetime) -> None:
        await self._state.write(
            lambda tx: audit.record(tx, at=now, actor=by.name, action=action, subject=id_, details={"why": why})
        )

    async def _stored(self, id_: str) -> Alert:
        """The alert as it is now, which is also what a restart will know."""
        alert = self.get(id_)
        await self._state.write(lambda tx: tx.put(alert))
        return alert

    # ---- as it happens ----------------------------------------------------------------------------------------------

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """Hear everything from now on, until the end of the block."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    async def follow(self) -> AsyncIterator[Event]:
        """Every event, for as long as somebody asks for the next, and until the controller stops."""
        with self.listening() as listener:
            while not self._is_over and (event := await listener.next()) is not None:
                yield event

    def end(self) -> None:
        """The controller stops: who follows is told no more, now."""
        self._is_over = True
        for listener in tuple(self._listeners):
            listener.end()

    def _on_violation(self, violation: Violation, occurrence: Occurrence) -> None:
        if self._listeners:
            self._tell(Event("violation", occurrence.message, occurrence.subject, violation=violation))

    def _on_alerts(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts if self._listeners else ():
            self._tell(Event("alert", alert.message, alert.subject, alert))

    def _tell(self, event: Event) -> None:
        for listener in tuple(self._listeners):
            listener.put(event)
