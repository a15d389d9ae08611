"""What is told by agents, certificates and people -> alerts -> notices, in the state and out to the sinks.

INVARIANT: a message an agent kept durably is counted, stored and told before the bus forgets it; one that is handed out
again because that failed is counted once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final

import msgspec

from ringfence.controller import audit
from ringfence.controller.alerts import occurrences
from ringfence.controller.alerts.alerts import Alerts
from ringfence.controller.alerts.occurrences import BEAT_KINDS, Ground, Kind, Occurrence
from ringfence.controller.alerts.telling import Teller
from ringfence.controller.desired.reconcile import Reconciler
from ringfence.controller.identity.presence import Presence
from ringfence.controller.looping import tell_failure
from ringfence.controller.metrics import Metrics
from ringfence.notify.dispatcher import Dispatcher
from ringfence.ports.bus import Bus
from ringfence.ports.state import AuditEntry, Certificate, Change, QuarantineRecord, State, View, Where
from ringfence.wire import subjects
from ringfence.wire.messages import Event, Events, Violation

_log = logging.getLogger(__name__)
_STEP_S: Final = 1.0
_FRESH_S: Final = 15.0
"""Whoever was heard within so long is not silent yet: two heartbeats did not pass."""
_SLOW_S: Final = 30.0
_REMEMBERED: Final = 50_000
_DETAILS: Final = 8
"""Of an event, that are kept in the audit log."""
_MACHINES: Final = 8
_LIVES_S: Final = 90.0
"""Machines heard within so long both live."""


class Watching:
    """The alerts of one estate, kept up."""

    def __init__(
        self,
        state: State,
        reconciler: Reconciler,
        presence: Presence,
        dispatcher: Dispatcher,
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._state, self._reconciler, self._presence = state, reconciler, presence
        self.metrics, self._clock, self._turn = metrics, clock, asyncio.Lock()
        self._telling: asyncio.Task[None] | None = None
        self.alerts = Alerts()
        self.teller = Teller(self.alerts, state, dispatcher.put)
        self._since = clock()
        self._seen: OrderedDict[str, bool] = OrderedDict()
        """Messages that were counted, and whether what they said is stored and told."""
        self._machines = Machines()
        self.listeners: set[Callable[[Violation, Occurrence], None]] = set()
        """Called with each violation, as it comes: the live view."""

    async def start(self, bus: Bus) -> None:
        """Go on where the state left off, and hear what agents kept."""
        await self.teller.resume()
        await bus.consume("events", "rf.keep.*.events", self._take)

    async def keep_telling(self) -> None:
        """Until cancelled."""
        steps = 0
        while True:
            try:
                await self._step(is_slow=steps % int(_SLOW_S / _STEP_S) == 0)
            except Exception as error:
                tell_failure(_log, "alerts were not brought up to date", error)
            steps += 1
            await asyncio.sleep(_STEP_S)

    async def _step(self, *, is_slow: bool) -> None:
        now, ground = self._clock(), self.ground
        self._present(now, ground)
        if is_slow:
            certificates, isolations = await self._state.read(_slow)
            names = {w.uuid: w.name for w in self._reconciler.inputs.inventory.workloads}
            held = {names[uuid]: one for uuid, one in certificates.items() if uuid in names}
            for found in self._machines.moved({u: one.machine for u, one in certificates.items()}, now, ground, names):
                self.alerts.note(found, now)
            self.alerts.present("certificate", occurrences.certificates(held, now, ground), now)
            self.alerts.present("quarantine", occurrences.quarantines(isolations, now, ground), now)
        await self._tell()

    async def _tell(self) -> None:
        """Tell and store all that was noted until now. Whoever waits meanwhile shares the next step."""
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell_once())
        await asyncio.shield(self._telling)

    async def _tell_once(self) -> None:
        async with self._turn:
            self._telling = None  # what is noted from here on needs another step
            self.metrics.told(await self.teller.step(self._clock()))

    def _present(self, now: datetime, ground: Ground) -> None:
        """The conditions: what heartbeats say, and whose do not come."""
        heard: dict[str, datetime] = {}
        left: dict[str, str] = {}
        found: dict[Kind, list[Occurrence]] = {kind: [] for kind in BEAT_KINDS}
        by_uuid, now_s = self._reconciler.inputs.inventory.by_uuid, now.timestamp()
        for uuid, seen in self._presence.seen.items():
            workload = by_uuid.get(uuid)
            if workload is None:
                continue
            if now_s - seen.at > _FRESH_S:
                heard[workload.name] = occurrences.moment(seen.at)
            self._machines.hear(uuid, seen.heartbeat.machine, seen.at)
            if occurrences.is_removed(seen.realised):
                left[workload.name] = seen.realised.problems[0]
                continue
            if occurrences.is_well(seen.heartbeat, seen.realised, now_s):
                continue
            told = msgspec.structs.replace(seen.heartbeat, realised=seen.realised)
            for one in occurrences.beat(told, workload.name, now, ground):
                found[one.kind].append(one)
        for kind, some in found.items():
            self.alerts.present(kind, some, now)
        silent = occurrences.offline(heard, now, ground, listening_since=self._since, left=left)
        self.alerts.present("offline", silent, now)

    @property
    def ground(self) -> Ground:
        """What occurrences are read against."""
        inputs = self._reconciler.inputs
        policies = [policy for version in inputs.versions for policy in version.policies]
        return Ground(inputs.inventory.ignoring(inputs.base.ignore), occurrences.jewels_of(policies))

    async def note(self, occurrence: Occurrence) -> None:
        """Something happened here: a policy change, a clone."""
        self.alerts.note(occurrence, self._clock())

    async def _take(self, subject: str, data: bytes) -> None:
        """What an agent kept: counted, and on disk when this returns."""
        uuid = subjects.sender(subject)
        try:
            events = msgspec.json.decode(data, type=Events)
        except ValueError as error:
            _log.warning("events of `%s` cannot be read, and are lost: %s", uuid, error)
            return
        if not occurrences.can_be(events):  # handed out again it would be no better, and keep others waiting
            _log.warning("events of `%s` cannot have been, and are lost", uuid)
            return
        name = f"{uuid} {events.sequence}"
        if self._seen.get(name):
            return
        if name not in self._seen:
            self._count(uuid, events, self._clock())
            self._mark(name, is_told=False)
        await self._tell()
        await self._record(uuid, events)
        self._mark(name, is_told=True)

    async def _record(self, uuid: str, events: Events) -> None:
        """What somebody did on the host with its agent, in the audit log; the same message twice is one entry."""
        acts = {found.action: (found, one) for one in events.events if (found := occurrences.act(one)) is not None}
        if not acts:
            return
        workload = self._reconciler.inputs.inventory.by_uuid.get(uuid)
        name, now = workload.name if workload is not None else uuid, self._clock()

        def work(tx: Change) -> None:
            for action, (found, told) in acts.items():
                details = {
                    "name": name,
                    "message": occurrences.plain(told.message),
                    "details": [occurrences.plain(one) for one in told.details[:_DETAILS]],
                    "at": occurrences.moment(told.at).isoformat(),
                    "sequence": occurrences.plain(events.sequence, 100),
                }
                if not _is_recorded(tx, uuid, action, details):
                    actor = f"{found.by} on {name}" if found.by else name
                    audit.record(tx, at=now, actor=actor, action=action, subject=uuid, details=details)

        await self._state.write(work)

    def _count(self, uuid: str, events: Events, now: datetime) -> None:
        ground = self.ground
        workload = self._reconciler.inputs.inventory.by_uuid.get(uuid)
        host = workload.name if workload is not None else uuid
        for violation in events.violations:
            found = occurrences.violation(violation, host, ground)
            self.alerts.note(found, now)
            self.metrics.occurred("violation", violation.count)
            for listener in tuple(self.listeners):
                listener(violation, found)
        for event in events.events:
            told = occurrences.event(event, host, ground)
            self.alerts.note(told, now)
            self.metrics.occurred(told.kind)
            self._believe(uuid, event)
        self.metrics.lost(0, suppressed=events.suppressed)

    def _believe(self, uuid: str, event: Event) -> None:
        """An agent that is removed enforces no more what it said last, from now on; unless it has been heard since."""
        found, seen = occurrences.removed(event), self._presence.seen.get(uuid)
        if found is None or seen is None or seen.heartbeat.at > event.at:
            return
        seen.realised = found
        self._presence.dirty.add(uuid)

    def _mark(self, name: str, *, is_told: bool) -> None:
        self._seen[name] = is_told
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)


class Machines:
    """Which machines answered as each workload lately."""

    def __init__(self) -> None:
        self._heard: dict[str, dict[str, float]] = {}
        """UUID -> machine -> seconds since the epoch."""
        self._told: dict[str, tuple[str, bool]] = {}

    def hear(self, uuid: str, machine: str, at_s: float) -> None:
        heard = self._heard.setdefault(uuid, {})
        heard[machine] = at_s
        if len(heard) > _MACHINES:
            del heard[min(heard, key=heard.__getitem__)]

    def moved(
        self, enrolled: Mapping[str, str], now: datetime, ground: Ground, names: Mapping[str, str]
    ) -> Iterator[Occurrence]:
        """Workloads (by UUID, with the machine that enrolled) that answer from another one; each state told once."""
        line = now.timestamp() - _LIVES_S
        for uuid in self._heard.keys() - names.keys():
            del self._heard[uuid]
            self._told.pop(uuid, None)
        for uuid, heard in self._heard.items():
            first = enrolled.get(uuid, "")
            others = [machine for machine, at_s in heard.items() if machine not in ("", first) and at_s >= line]
            if not first or not others:
                self._told.pop(uuid, None)
                continue
            state = (min(others), heard.get(first, 0.0) >= line)
            if self._told.get(uuid) != state:
                self._told[uuid] = state
                yield occurrences.moved(names[uuid], now, ground, other_lives=state[1])


def _is_recorded(view: View, uuid: str, action: str, details: Mapping[str, object]) -> bool:
    """Whether the last that was written of it is this."""
    where = Where("subject", uuid), Where("action", action)
    last = next(iter(view.find(AuditEntry, *where, order="-seq", limit=1)), None)
    return last is not None and bool(msgspec.json.decode(last.details) == details)


def _slow(view: View) -> tuple[Mapping[str, Certificate], list[QuarantineRecord]]:
    """Each workload's newest certificate, and the quarantines that were not released."""
    certificates = view.find(Certificate, Where("renewed_by", None), Where("revoked_at", None), order="not_after")
    return {one.uuid: one for one in certificates}, view.find(QuarantineRecord, Where("released_at", None))
