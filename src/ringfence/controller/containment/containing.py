"""Containment: quarantine in force within a moment, verified on the host and by its peers, ended or released.

INVARIANT: the record and its audit entry are committed before anything is sent: a controller that dies in between sends
it when it starts. Verified means that hosts read their rules back at that revision or a later one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from ringfence.controller import audit
from ringfence.controller.access.access import Principal
from ringfence.controller.containment.replacing import demand_no_weaker, replaced
from ringfence.controller.desired.estate import exception_of, quarantines_of, read_workload
from ringfence.controller.desired.reconcile import Reconciler
from ringfence.controller.identity.joining import unknown_workload
from ringfence.core.errors import InputError
from ringfence.core.identity.workload import Lease, Workload
from ringfence.core.intent.isolate import bound_addresses
from ringfence.ports.state import CONTESTED, Change, LeaseRecord, QuarantineRecord, State, View, Where, WrittenException
from ringfence.wire.api import ContainPlanned, Hit, Replaced
from ringfence.wire.messages import Assignment, Realised

_MOST_HIT = 1000

LEVELS: Mapping[str, tuple[WrittenException, ...]] = {
    "isolate": (),
    "forensics": (WrittenException("role=forensics", "tcp/22", "in"),),
    "patch": (
        WrittenException("role=forensics", "tcp/22", "in"),
        WrittenException("role=mirror", "tcp/443", "out"),
        WrittenException("role=dns", "udp/53", "out"),
    ),
}
"""Staged beforehand: what each level lets pass."""


HostState = Literal["verified", "pending", "unreachable"]


class HostCheck(msgspec.Struct, frozen=True):
    """Whether one host has it in force."""

    uuid: str
    name: str
    state: HostState


Force = Literal["verified", "partly", "pending"]


class Contained(msgspec.Struct, frozen=True):
    """A quarantine and how far it is in force."""

    record: QuarantineRecord
    name: str
    own: HostCheck | None
    """The isolated host itself; None where no agent runs."""
    verified_peers: int
    peers: int
    pending: tuple[HostCheck, ...] = ()
    """The peers that did not read it back: those that are heard and have yet to, then those that are not heard."""

    @property
    def state(self) -> Force:
        """`verified`: read back by the host itself, where an agent runs, and by every peer. `partly`: by all that are
        heard; the unreachable may be as they were. `pending`: somebody who is heard has yet to, or nobody did."""
        states = {one.state for one in self.pending} | ({self.own.state} if self.own is not None else set())
        if "pending" in states or not (self.verified_peers or "verified" in states):
            return "pending"
        return "partly" if "unreachable" in states else "verified"

    @property
    def unreachable(self) -> tuple[HostCheck, ...]:
        """Hosts of which nothing is known, the isolated one first."""
        own = () if self.own is None else (self.own,)
        return tuple(one for one in (*own, *self.pending) if one.state == "unreachable")

    @property
    def is_verified(self) -> bool:
        """Read back by everybody: who is unreachable verified nothing (law 10)."""
        return self.state == "verified"


class Begun(msgspec.Struct, frozen=True):
    """A quarantine that began, and whose place it took."""

    record: QuarantineRecord
    replaces: tuple[Replaced, ...] = ()


class Containing:
    """Quarantines of an estate."""

    def __init__(self, state: State, reconciler: Reconciler, clock: Callable[[], datetime]) -> None:
        self._state, self._reconciler, self._clock = state, reconciler, clock
        self._applying = asyncio.Lock()
        self.on_begun: Callable[[], None] = lambda: None
        """Called when a quarantine began."""

    async def quarantine(
        self,
        workloads: Iterable[str],
        *,
        why: str,
        by: Principal,
        level: str = "isolate",
        allow: tuple[WrittenException, ...] = (),
        lasts: timedelta | None = None,
        replace: bool = False,
    ) -> tuple[Begun, ...]:
        """Isolate workloads (UUIDs), now. One that is isolated already is isolated anew, and only with `replace` for
        shorter or weaker: otherwise all are left as they are.

        Raises AccessError `not-allowed`, `outside-scope`, InputError `no-reason`, `unknown-level`, `unknown-workload`,
        `bad-exception`, `weaker-than`.
        """
        by.demand("quarantine")
        audit.demand_reason(why, "a quarantine")
        exceptions = _exceptions(level, allow)
        now = self._clock()
        until = now + lasts if lasts is not None else None
        wanted = sorted(set(workloads))

        def begin(tx: Change, workload: Workload) -> Begun:
            uuid, held = workload.uuid, _live(tx, now, workload.uuid)
            replaces = tuple(replaced(one, workload.name, exceptions=exceptions, until=until) for one in held)
            bound = bound_addresses(_own(tx, workload), *(one.addresses for one in held))
            _release(tx, uuid, by.name, now)
            record = QuarantineRecord(secrets.token_hex(6), uuid, level, why, by.name, now, exceptions, bound, until)
            details = {"id": record.id, "level": level, "why": why, "until": until, "allow": exceptions}
            told = {**details, "replaces": replaces} if replaces else details
            audit.record(tx, at=now, actor=by.name, action="quarantine.begin", subject=uuid, details=told)
            return Begun(record, replaces)

        def work(tx: Change) -> tuple[Begun, ...]:
            found = [_known(read_workload(tx, uuid), uuid) for uuid in wanted]
            for workload in found:
                by.demand_workload("quarantine", workload.labels)
            begun = tuple(begin(tx, workload) for workload in found)
            if not replace:
                demand_no_weaker([one for each in begun for one in each.replaces])
            tx.add(*(one.record for one in begun))
            return begun

        begun = await self._state.write(work)
        await self._apply()
        self.on_begun()
        return begun

    async def plan(
        self,
        workloads: Iterable[str],
        *,
        level: str = "isolate",
        allow: tuple[WrittenException, ...] = (),
        lasts: timedelta | None = None,
        forwards: Callable[[str], bool] = lambda uuid: False,
    ) -> ContainPlanned:
        """Whom an isolation of workloads (UUIDs) would hit, those that are isolated first: a release goes by them; and
        whose place it would take. Nothing is changed. `forwards`: whether a host passes on traffic of others, which
        ends with its own. Raises InputError `unknown-level`, `bad-exception`."""
        exceptions = _exceptions(level, allow)
        until = self._clock() + lasts if lasts is not None else None
        inputs, hosts = self._reconciler.inputs, self._assignments()
        wanted, live = set(workloads), await self.live()
        isolated = {record.workload for record in live}
        names = {w.uuid: w.name for w in inputs.inventory.workloads if w.uuid in wanted & isolated}
        replaces = sorted(
            (
                replaced(one, names[one.workload], exceptions=exceptions, until=until)
                for one in live
                if one.workload in names
            ),
            key=lambda one: (not one.weaker, one.name),
        )
        found = (w for w in inputs.inventory.workloads if w.uuid in wanted)
        hit = (Hit(w.name, w.has_agent, w.uuid in isolated, forwards(w.uuid)) for w in found)
        named = sorted(hit, key=lambda one: (not one.is_isolated, one.has_agent, one.name))
        return ContainPlanned(
            tuple(named[:_MOST_HIT]),
            len(named),
            len(hosts.keys() - wanted),
            replaces=tuple(replaces[:_MOST_HIT]),
            weakened=sum(bool(one.weaker) for one in replaces),
        )

    def _assignments(self) -> dict[str, Assignment]:
        """By UUID, of those whose host runs an agent: the others never read anything back."""
        by_uuid = self._reconciler.inputs.inventory.by_uuid
        told = dict(self._reconciler.desired.assignments)
        return {uuid: one for uuid, one in told.items() if uuid not in by_uuid or by_uuid[uuid].has_agent}

    async def release(self, workloads: Iterable[str], *, why: str, by: Principal) -> int:
        """End quarantines: how many. Raises AccessError, InputError `no-reason`, `not-quarantined`."""
        by.demand("release")
        audit.demand_reason(why, "the end of a quarantine")
        now, wanted = self._clock(), sorted(set(workloads))

        def work(tx: Change) -> int:
            released = 0
            for uuid in wanted:
                workload = read_workload(tx, uuid)
                if workload is not None:
                    by.demand_workload("release", workload.labels)
                count = _release(tx, uuid, by.name, now)
                if count:
                    audit.record(tx, at=now, actor=by.name, action="quarantine.end", subject=uuid, details={"why": why})
                released += count
            if not released:
                raise InputError("not-quarantined", "none of these is in quarantine", help="see `ringfence quarantine`")
            return released

        released = await self._state.write(work)
        await self._apply()
        return released

    async def _apply(self) -> None:
        async with self._applying:  # one at a time: what was read last is told last
            records = await self.live()
            await self._reconciler.isolate(quarantines_of(records))

    async def live(self) -> tuple[QuarantineRecord, ...]:
        """The quarantines in force."""
        now = self._clock()
        return await self._state.read(lambda view: _live(view, now))

    async def standing(
        self, realised: Callable[[str], Realised | None], is_online: Callable[[str], bool]
    ) -> tuple[Contained, ...]:
        """How far each quarantine is in force. The callables are asked from another thread."""
        records = await self.live()
        return await asyncio.to_thread(self._standing, records, realised, is_online) if records else ()

    def _standing(
        self,
        records: tuple[QuarantineRecord, ...],
        realised: Callable[[str], Realised | None],
        is_online: Callable[[str], bool],
    ) -> tuple[Contained, ...]:
        """Each host is looked at once; what is common to all quarantines is shared by them."""
        by_uuid, assignments = self._reconciler.inputs.inventory.by_uuid, self._assignments()

        def check(uuid: str, state: HostState) -> HostCheck:
            workload = by_uuid.get(uuid)
            return HostCheck(uuid, workload.name if workload else uuid, state)

        wanted = {networks: self._revision(networks) for networks in {one.networks for one in assignments.values()}}
        states = (
            (uuid, _state(realised(uuid), wanted[one.networks], is_heard=is_online(uuid)))
            for uuid, one in assignments.items()
        )
        behind = tuple(sorted((check(*one) for one in states if one[1] != "verified"), key=_by_urgency))
        late = {one.uuid: one for one in behind}
        out = []
        for record in records:
            uuid, has_agent = record.workload, record.workload in assignments
            own = late.get(uuid) or (check(uuid, "verified") if has_agent else None)
            pending = tuple(one for one in behind if one is not own) if uuid in late else behind
            peers, name = len(assignments) - has_agent, by_uuid[uuid].name if uuid in by_uuid else uuid
            out.append(Contained(record, name, own, peers - len(pending), peers, pending))
        return tuple(out)

    def _revision(self, networks: tuple[str, ...]) -> int:
        """What the hosts of some networks must have read back."""
        told = self._reconciler.isolating.of(frozenset(networks))
        return told.revision if told is not None else 0


def _state(said: Realised | None, revision: int, *, is_heard: bool) -> HostState:
    if not is_heard or said is None:
        return "unreachable"
    return "verified" if said.isolations >= revision and said.state in ("realised", "refused") else "pending"


def _by_urgency(check: HostCheck) -> tuple[str, str]:
    """Those that are heard, and have yet to, first."""
    return check.state, check.name


def _exceptions(level: str, allow: tuple[WrittenException, ...]) -> tuple[WrittenException, ...]:
    """What passes. Raises InputError `unknown-level`, `bad-exception`."""
    if level not in LEVELS:
        raise InputError("unknown-level", f"there is no level `{level}`", help=f"levels: {', '.join(LEVELS)}")
    exceptions = (*LEVELS[level], *allow)
    for exception in exceptions:
        exception_of(exception)
    return exceptions


def _live(view: View, now: datetime, *workloads: str) -> tuple[QuarantineRecord, ...]:
    """The quarantines in force, of these workloads or of all."""
    whose = (Where("workload", workloads, "in"),) if workloads else ()
    found = view.find(QuarantineRecord, Where("released_at", None), *whose)
    return tuple(one for one in found if one.until is None or one.until > now)


def _own(view: View, workload: Workload) -> tuple[Lease, ...]:
    """What it holds, less what it merely contests."""
    where = (Where("workload", workload.uuid), Where("end", None), Where("source", CONTESTED))
    contested = {(one.network, one.address) for one in view.find(LeaseRecord, *where)}
    return tuple(lease for lease in workload.addresses if (lease.network, lease.address) not in contested)


def _release(tx: Change, uuid: str, by: str, now: datetime) -> int:
    where = (Where("workload", uuid), Where("released_at", None))
    return tx.update(QuarantineRecord, *where, released_at=now, released_by=by)


def _known(workload: Workload | None, uuid: str) -> Workload:
    if workload is None:
        raise unknown_workload(uuid)
    return workload
