"""Rollouts driven: what hosts say moves each one on, and every step is in the state before anybody hears of it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from datetime import datetime

import msgspec

from ringfence.controller import audit
from ringfence.controller.access.access import Principal
from ringfence.controller.desired.estate import UNDERWAY, inputs_of, read_estate
from ringfence.controller.desired.inputs import Manner, Version
from ringfence.controller.desired.reconcile import Reconciler
from ringfence.controller.desired.rollout import Progress, Standing, ahead_in, choose, next_stage, standing
from ringfence.controller.publishing.versions import demand_changed
from ringfence.core.errors import InputError
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Workload
from ringfence.core.labels.selector import Selector
from ringfence.ports.state import Change, PolicyVersion, Rollout, State, View, Where
from ringfence.wire.messages import Realised

_log = logging.getLogger(__name__)


class Canary(msgspec.Struct, frozen=True):
    """Who goes first. Nobody in particular: everybody at once."""

    percent: float = 0.0
    selector: Selector | None = None


class Rollouts:
    """The rollout under way, if any."""

    def __init__(
        self,
        state: State,
        reconciler: Reconciler,
        clock: Callable[[], datetime],
        realised: Callable[[str], Realised | None],
        is_online: Callable[[str], bool],
    ) -> None:
        self._state, self._reconciler, self._clock = state, reconciler, clock
        self._realised, self._is_online = realised, is_online
        self._hosts: tuple[Inventory, list[Workload], frozenset[str]] | None = None
        self.current: Rollout | None = None
        self._well_since: datetime | None = None
        self._loading = asyncio.Lock()

    async def begin(self, version: PolicyVersion, manner: Manner, canary: Canary, *, by: Principal) -> Rollout:
        """Start to bring a version to the hosts; one under way ends. Raises InputError `unmatched`, `bad-canary`."""
        by.demand("rollout")
        chosen: tuple[str, ...] = ()
        if canary.percent or canary.selector is not None:
            chosen = choose(self.hosts, percent=canary.percent, selector=canary.selector)
        stage = "canary" if chosen else "spreading"
        now = self._clock()
        text = msgspec.json.encode(manner).decode()
        rollout = Rollout(secrets.token_hex(6), version.number, stage, now, chosen, text)

        def work(tx: Change) -> None:
            tx.update(Rollout, Where("state", "spreading"), state="passed", finished=now)
            tx.update(Rollout, Where("state", UNDERWAY, "in"), state="superseded", finished=now)
            tx.add(rollout)
            details = {"version": version.number, "canary": len(chosen), "manner": manner}
            audit.record(tx, at=now, actor=by.name, action="rollout.begin", subject=rollout.id, details=details)

        await self._state.write(work)
        await self.load()
        return rollout

    async def load(self) -> None:
        """Follow what the state says is under way. One at a time: what was read last is followed last."""
        async with self._loading:
            await self._load()

    async def _load(self) -> None:
        held = await self._state.read(read_estate)
        self.current, self._well_since = held.underway, None
        ahead = self._ahead(held.underway)
        inputs = inputs_of(held, self._clock(), ahead)
        await self._reconciler.change(
            lambda known: msgspec.structs.replace(inputs, inventory=known.inventory, at=known.at, is_held=known.is_held)
        )

    def _ahead(self, rollout: Rollout | None) -> frozenset[str]:
        if rollout is None:
            return frozenset()
        return ahead_in(rollout.state, rollout.canary, {w.uuid for w in self.hosts})

    async def advance(self) -> None:
        """Whatever follows from what the hosts said. Call it every second or so."""
        rollout = self.current
        if rollout is None or rollout.state == "stopped":
            return
        standings = self.standings()
        chosen = [one for one in standings if one.uuid in rollout.canary]
        now = self._clock()
        is_well = bool(chosen) and all(one.state in ("confirmed", "offline") for one in chosen)
        self._well_since = (self._well_since or now) if is_well else None
        stage, problem = next_stage(rollout.state, standings, rollout.canary, self._well_since, now)  # type: ignore[arg-type]
        if stage != rollout.state:
            await self._enter(rollout, stage, problem, by="controller")
        elif stage == "spreading" and self._ahead(rollout) != self._reconciler.inputs.ahead:
            await self.load()  # hosts that joined meanwhile

    async def _enter(self, rollout: Rollout, stage: str, problem: str, *, by: str) -> None:
        now = self._clock()
        finished = now if stage in ("done", "stopped") else None

        def work(tx: Change) -> None:
            tx.update(Rollout, Where("id", rollout.id), state=stage, problem=problem, finished=finished)
            details = {"version": rollout.version, "from": rollout.state, "to": stage, "problem": problem}
            audit.record(tx, at=now, actor=by, action="rollout.step", subject=rollout.id, details=details)

        await self._state.write(work)
        _log.info("rollout of version %d is %s%s", rollout.version, stage, f": {problem}" if problem else "")
        await self.load()

    async def go_on(self, *, by: Principal) -> None:
        """Everybody, though the canary is not done or stopped it. Raises InputError `no-rollout`, AccessError
        `outside-scope` for who may not change all that comes with it."""
        by.demand("rollout")
        if self.current is None:
            raise InputError("no-rollout", "no rollout is under way", help="apply a version first")
        self._demand_scope(by)
        await self._enter(self.current, "spreading", "", by=by.name)

    async def stop(self, why: str, *, by: Principal) -> None:
        """Every host back to the version before, now. Raises InputError `no-rollout`, AccessError `outside-scope`."""
        by.demand("rollout")
        if self.current is None or self.current.state == "stopped":
            raise InputError("no-rollout", "no rollout is under way", help="roll back to a version that was good")
        self._demand_scope(by)
        await self._enter(self.current, "stopped", f"stopped by {by.name}" + (f": {why}" if why else ""), by=by.name)

    def _demand_scope(self, by: Principal) -> None:
        """The right over all that the version under way changes. Raises AccessError."""
        base, coming = self._reconciler.inputs.base, self._reconciler.inputs.next
        if coming is None:
            return
        demand_changed("rollout", base.policies, coming.policies, by)
        settings = (base.failsafe, base.names, base.ignore) != (coming.failsafe, coming.names, coming.ignore)
        if settings or base.problem or coming.problem:
            by.demand_scope("rollout", None, "the settings")

    @property
    def hosts(self) -> list[Workload]:
        """Who can have a version: workloads that a file knows of have no agent to tell it to."""
        return self._known_hosts[1]

    @property
    def _known_hosts(self) -> tuple[Inventory, list[Workload], frozenset[str]]:
        """Kept as long as the inventory is the same: whoever asks about the world asks this."""
        inventory = self._reconciler.inputs.inventory
        held = self._hosts  # other threads ask, too
        if held is None or held[0] is not inventory:
            known = inventory.workloads
            hosts = [w for w in known if w.has_agent and w.is_host]
            held = self._hosts = inventory, hosts, frozenset(host.uuid for host in hosts)
        return held

    @property
    def running(self) -> Version:
        """The version that most hosts have: the one under way only when more than half of them said so."""
        inputs = self._reconciler.inputs
        coming = inputs.next
        if coming is None or coming.problem:
            return inputs.base
        _, _, hosts = self._known_hosts
        have = sum(
            (said := self._realised(uuid)) is not None and said.policy_version == coming.number
            for uuid in inputs.ahead
            if uuid in hosts
        )
        return coming if 2 * have > len(hosts) else inputs.base

    def standings(self) -> tuple[Standing, ...]:
        """Where each host is, in the version that should be its own."""
        assignments, current = self._reconciler.desired.assignments, self.current
        version = current.version if current is not None else self._reconciler.inputs.base.number
        return tuple(
            standing(
                host,
                version,
                self._realised(host.uuid),
                assignments.get(host.uuid),
                stage=current.state if current is not None else "done",  # type: ignore[arg-type]
                is_online=self._is_online(host.uuid),
            )
            for host in self.hosts
        )

    async def progress(self) -> Progress:
        """The rollout as it stands; the last one, where none is under way."""
        rollout = self.current or await self._state.read(_last)
        version = rollout.version if rollout is not None else 0
        stage = rollout.state if rollout is not None else "done"
        problem, canary = (rollout.problem, rollout.canary) if rollout is not None else ("", ())
        standings, chosen = self.standings(), frozenset(canary)
        first = tuple(one for one in standings if one.uuid in chosen)
        well_since = self._well_since if stage == "canary" else None
        return Progress(version, stage, standings, problem, len(canary), first, well_since)  # type: ignore[arg-type]


def _last(view: View) -> Rollout | None:
    return next(iter(view.find(Rollout, order="-started", limit=1)), None)
