"""Alerts to people and to disk, in the order that loses nothing.

INVARIANT: a notice is durable in the outbox before its alert is stored as told. A crash in between sends it again with
the same id, by which receivers know it; it never goes missing. What fails is kept, up to a limit
that is counted, and tried at the next step.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from ringfence.controller.alerts.alerts import Alerts
from ringfence.ports.notifier import Notice
from ringfence.ports.state import Alert, State

_MOST = 1000
"""Notices kept in memory while the outbox cannot be written."""
Put = Callable[[Sequence[Notice]], Awaitable[None]]


class Teller:
    """One for each `Alerts`. `step` about once a second, never twice at a time."""

    def __init__(self, alerts: Alerts, state: State, put: Put) -> None:
        self._alerts, self._state, self._put = alerts, state, put
        self._notices: list[Notice] = []
        self.lost = 0
        """Notices given up because the outbox could not be written for long; their alerts are not."""
        self._records: dict[str, Alert] = {}
        self.on_stored: Callable[[Sequence[Alert]], None] = lambda _: None
        """Called with the alerts that are another since the last step: the live view."""

    async def resume(self) -> None:
        """Take up the stored alerts."""
        self._alerts.restore(await self._state.read(lambda view: view.find(Alert)))

    async def step(self, now: datetime) -> tuple[Notice, ...]:
        """Tell and store what there is; what was told. Raises what `put` and the state raise."""
        self._notices += self._alerts.due(now)
        over = max(0, len(self._notices) - _MOST)
        self._notices, self.lost = self._notices[over:], self.lost + over
        for record in self._alerts.changed():
            self._records[record.id] = record
        notices, records = tuple(self._notices), sorted(self._records.values(), key=_closed_first)
        if notices:
            await self._put(notices)
            self._notices = []
        if records:
            await self._state.write(lambda tx: tx.put(*records))
            self._records = {}
            self.on_stored(records)
        return notices


def _closed_first(record: Alert) -> bool:
    """A key is open at most once, at every moment of the transaction."""
    return record.state != "closed"
