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
from ringfence.controller.access import Principal
from ringfence.controller.estate import exception_of, quarantines_of, read_workload
from ringfence.controller.reconcile import Reconciler
from ringfence.core.errors import InputError
from ringfence.core.identity.workload import Workload
from ringfence.ports.state import Change, QuarantineRecord, State, Where, WrittenException
from ringfence.wire.messages import Realised

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


class HostCheck(msgspec.Struct, frozen=True):
    """Whether one host has it in force."""

    uuid: str
    name: str
    state: Literal["verified", "pending", "unreachable"]


class Contained(msgspec.Struct, frozen=True):
    """A quarantine and how far it is in force."""

    record: QuarantineRecord
    name: str
    own: HostCheck | None
    """The isolated host itself; None where no agent runs."""
    verified_peers: int
    peers: int
    pending: tuple[HostCheck, ...] = ()

    @property
    def is_verified(self) -> bool:
        """Read back on the host itself, where an agent runs, and by every peer that is heard; by somebody at all."""
        own = self.verified_peers > 0 if self.own is None else self.own.state == "verified"
        return own and not any(one.state == "pending" for one in self.pending)


class Containing:
    """Quarantines of an estate."""

    def __init__(self, state: State, reconciler: Reconciler, clock: Callable[[], datetime]) -> None:
        self._state, self._reconciler, self._clock = state, reconciler, clock
        self._applying = asyncio.Lock()

    async def quarantine(
        self,
        workloads: Iterable[str],
        *,
        why: str,
        by: Principal,
        level: str = "isolate",
        allow: tuple[WrittenException, ...] = (),
        lasts: timedelta | None = None,
    ) -> tuple[QuarantineRecord, ...]:
        """Isolate workloads (UUIDs), now. One that is isolated already is isolated anew.

        Raises AccessError `not-allowed`, `outside-scope`, InputError `no-reason`, `unknown-level`, `unknown-workload`,
        `bad-exception`.
        """
        by.demand("quarantine")
        if not why.strip():
            raise InputError("no-reason", "a quarantine needs a reason", help="say it with --why")
        if level not in LEVELS:
            raise InputError("unknown-level", f"there is no level `{level}`", help=f"levels: {', '.join(LEVELS)}")
        exceptions = (*LEVELS[level], *allow)
        for exception in exceptions:
            exception_of(exception)
        now = self._clock()
        until = now + lasts if lasts is not None else None
        wanted = sorted(set(workloads))

        def work(tx: Change) -> list[QuarantineRecord]:
            records = []
            for uuid in wanted:
                workload = _known(read_workload(tx, uuid), uuid)
                by.demand_workload("quarantine", workload.labels)
                _release(tx, uuid, by.name, now)
                records.append(
                    QuarantineRecord(secrets.token_hex(6), uuid, level, why, by.name, now, exceptions, until=until)
                )
                details = {"id": records[-1].id, "level": level, "why": why, "until": until, "allow": exceptions}
                audit.record(tx, at=now, actor=by.name, action="quarantine.begin", subject=uuid, details=details)
            tx.add(*records)
            return records

        records = await self._state.write(work)
        await self._apply()
        return tuple(records)

    async def release(self, workloads: Iterable[str], *, why: str, by: Principal) -> int:
        """End quarantines: how many. Raises AccessError, InputError `not-quarantined`."""
        by.demand("release")
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
                raise InputError("not-quarantined", "none of these is in quarantine", help="see `ringfence status`")
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
        found = await self._state.read(lambda view: view.find(QuarantineRecord, Where("released_at", None)))
        return tuple(one for one in found if one.until is None or one.until > now)

    async def standing(
        self, realised: Callable[[str], Realised | None], is_online: Callable[[str], bool]
    ) -> tuple[Contained, ...]:
        """How far each quarantine is in force."""
        records = await self.live()
        inventory = self._reconciler.inputs.inventory
        checks = {uuid: self._check(uuid, realised, is_online) for uuid in self._reconciler.desired.assignments}
        out = []
        for record in records:
            workload = inventory.by_uuid.get(record.workload)
            others = [check for uuid, check in checks.items() if uuid != record.workload]
            pending = tuple(check for check in others if check.state != "verified")
            own, name = checks.get(record.workload), workload.name if workload else record.workload
            out.append(Contained(record, name, own, len(others) - len(pending), len(others), pending))
        return tuple(out)

    def _check(
        self, uuid: str, realised: Callable[[str], Realised | None], is_online: Callable[[str], bool]
    ) -> HostCheck:
        networks = frozenset(self._reconciler.desired.assignments[uuid].networks)
        told = self._reconciler.isolating.of(networks)
        workload = self._reconciler.inputs.inventory.by_uuid.get(uuid)
        name = workload.name if workload else uuid
        said = realised(uuid)
        if not is_online(uuid) or said is None:
            return HostCheck(uuid, name, "unreachable")
        is_there = told is None or said.isolations >= told.revision
        return HostCheck(uuid, name, "verified" if is_there and said.state in ("realised", "refused") else "pending")


def _release(tx: Change, uuid: str, by: str, now: datetime) -> int:
    where = (Where("workload", uuid), Where("released_at", None))
    return tx.update(QuarantineRecord, *where, released_at=now, released_by=by)


def _known(workload: Workload | None, uuid: str) -> Workload:
    if workload is None:
        raise InputError("unknown-workload", f"there is no workload `{uuid}`", help="look at the list of workloads")
    return workload
