"""Workloads and traffic that no agent tells of: inventory files, flow logs, the recorded demo estate.

A workload of a file has no enforcement point until an agent joins there: whatever kind the file gives it, it is kept as
a `device` (or a `service`), so that nothing is shown as protected that is not.

INVARIANT: labels change as label changes do: planned, with the tests, recorded one by one. A plan is applied only if it
is still the plan that was shown: from the same labels and addresses to the same, with the same connections opened and
closed and the same tests failing. That the labels and addresses are those is asked in the transaction that changes
them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from importlib import resources
from pathlib import Path

import msgspec

from ringfence.catalog import flow_sources
from ringfence.controller import audit
from ringfence.controller.access.access import Principal, check_labels
from ringfence.controller.publishing import changes
from ringfence.controller.publishing.foreseeing import digest_of
from ringfence.controller.publishing.relabelling import broken_tests, relabelled, world_after
from ringfence.core.errors import Finding, FindingsError, InputError
from ringfence.core.flow.conversations import Conversations
from ringfence.core.flow.series import HOUR_S
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Kind, Mode, Workload
from ringfence.core.net.address import format_address
from ringfence.core.world import World
from ringfence.flows.ingest import read_flows
from ringfence.inventory.files import load_paths, load_workloads
from ringfence.ports.flow_store import FlowStore
from ringfence.ports.state import Change, LeaseRecord, PolicyVersion, State, View, Where, WorkloadRecord
from ringfence.wire.api import DiffView
from ringfence.wire.intake import DemoLoaded, ImportInventory, InventoryPlanned, LabelChange

MOST_NAMED = 200
MOST_WORKLOADS = 20_000
_RECORDED = ("lab", "recorded")
"""Where the recordings lie that ship with Ringfence, below the package."""


class _Change(msgspec.Struct, frozen=True):
    """What a file means for the estate."""

    new: tuple[Workload, ...]
    labels: dict[str, dict[str, str]]
    """By UUID: those that change."""
    addresses: dict[str, Workload]
    """By UUID: workloads of files with other addresses."""
    unchanged: int
    findings: tuple[Finding, ...]


class Importing:
    """Files into the estate."""

    def __init__(
        self,
        state: State,
        flows: FlowStore,
        world: Callable[[], World],
        refresh: Callable[[Collection[str]], Awaitable[None]],
        clock: Callable[[], datetime],
    ) -> None:
        """`world`: what is in force; `refresh`: follow what the state says of some workloads."""
        self._state, self._flows, self._world, self._refresh, self._clock = state, flows, world, refresh, clock

    # ---- inventory --------------------------------------------------------------------------------------------------

    async def inventory(self, asked: ImportInventory, *, by: Principal) -> InventoryPlanned:
        """Plan it, or apply the plan that was shown. Raises FindingsError (the file, failing tests), AccessError,
        InputError `plan-changed`, `too-broad`."""
        by.demand("label")
        world = self._world()
        change = await asyncio.to_thread(_change, asked, world.inventory)
        planned = await asyncio.to_thread(_planned, change, world)
        if not asked.apply:
            return planned
        if asked.apply != planned.digest:
            raise _changed()
        failing = [finding for finding in planned.findings if finding.code in ("test-failed", "test-unmatched")]
        if failing and not asked.accept_failing:
            raise FindingsError(failing)
        await self._apply(change, world.inventory, by, asked.why)
        return msgspec.structs.replace(planned, is_applied=True)

    async def _apply(self, change: _Change, known: Inventory, by: Principal, why: str) -> None:
        now = self._clock()
        if change.new:
            by.demand("enrol")
        for workload in change.new:
            by.demand_workload("enrol", workload.labels)
            check_labels(workload.labels)
        for uuid, labels in change.labels.items():
            by.demand_workload("label", known.by_uuid[uuid].labels, labels)
        for uuid in change.addresses:  # whoever holds an address is met as who it says
            by.demand_workload("enrol", known.by_uuid[uuid].labels)

        def work(tx: Change) -> None:
            _check_before(tx, change, known)
            _add(tx, change.new, now)
            for uuid, labels in change.labels.items():
                changes.relabel(tx, uuid, labels, by=by, at=now)
            for uuid, workload in change.addresses.items():
                tx.update(LeaseRecord, Where("workload", uuid), Where("end", None), end=now)
                tx.add(*_leases(workload, now))
            details = {"new": len(change.new), "relabelled": len(change.labels), "why": why}
            audit.record(tx, at=now, actor=by.name, action="inventory.import", subject="inventory", details=details)

        await self._state.write(work)
        await self._refresh({*(w.uuid for w in change.new), *change.labels, *change.addresses})

    # ---- the demo estate --------------------------------------------------------------------------------------------

    async def demo(self, estate: str, *, by: Principal) -> DemoLoaded:
        """The recorded estate, for looking around. Raises AccessError, InputError `not-empty`: only where nothing is
        yet."""
        by.demand("enrol")
        folder = Path(str(resources.files("ringfence").joinpath(*_RECORDED, estate)))
        loaded = await asyncio.to_thread(lambda: load_paths([folder / "inventory"]).raise_if_errors())
        inventory = Inventory(map(_without_agent, loaded.workloads))
        found = await asyncio.to_thread(read_flows, [str(folder / "flows")], inventory, among=flow_sources())
        now = self._clock()

        def work(tx: Change) -> None:
            if tx.count(WorkloadRecord) or tx.count(PolicyVersion):
                help_ = "load it into a controller that has nothing in it yet"
                raise InputError("not-empty", "there are workloads or policies here already", help=help_)
            _add(tx, inventory.workloads, now)
            audit.record(tx, at=now, actor=by.name, action="demo.load", subject=estate, details={})

        await self._state.write(work)
        await self._refresh([workload.uuid for workload in inventory.workloads])
        rows = _until(found.conversations, int(now.timestamp()))
        await asyncio.to_thread(self._flows.append, rows)
        return DemoLoaded(len(inventory.workloads), len(rows))


def _changed() -> InputError:
    return InputError("plan-changed", "the plan is not any more what was shown", help="look at it again")


def _check_before(view: View, change: _Change, known: Inventory) -> None:
    """Raises InputError `plan-changed`: somebody changed one of them meanwhile."""
    for uuid in {*change.labels, *change.addresses}:
        record = view.get(WorkloadRecord, uuid)
        if record is None or record.labels != known.by_uuid[uuid].labels:
            raise _changed()
    for uuid in change.addresses:
        live = view.find(LeaseRecord, Where("workload", uuid), Where("end", None))
        if frozenset((one.network, one.address) for one in live) != _held(known.by_uuid[uuid]):
            raise _changed()


def _until(rows: Conversations, now: int) -> Conversations:
    """The same traffic, moved by whole hours so that the last of it was in the last hour."""
    shift = (now - int(rows.last.max(initial=0))) // HOUR_S * HOUR_S if len(rows) else 0
    return replace(rows, hour=rows.hour + shift, first=rows.first + shift, last=rows.last + shift)


def _add(tx: Change, workloads: Iterable[Workload], now: datetime) -> None:
    for workload in workloads:
        tx.add(WorkloadRecord.of(workload, now))
        tx.add(*_leases(workload, now))


def _leases(workload: Workload, now: datetime) -> list[LeaseRecord]:
    return [
        LeaseRecord(one.network, one.address, workload.uuid, one.start or now, None, "file")
        for one in workload.addresses
    ]


# ---- what a file means ----------------------------------------------------------------------------------------------


def _change(asked: ImportInventory, known: Inventory) -> _Change:
    """Raises FindingsError (what cannot be read), InputError `too-broad`."""
    loaded = load_workloads(asked.text, asked.name).raise_if_errors()
    if len(loaded.workloads) > MOST_WORKLOADS:
        help_ = f"import {MOST_WORKLOADS:,} at a time"
        raise InputError("too-broad", f"the file names {len(loaded.workloads):,} workloads", help=help_)
    new, labels, addresses, unchanged = [], dict[str, dict[str, str]](), dict[str, Workload](), 0
    for workload in loaded.workloads:
        before = known.by_uuid.get(workload.uuid) or known.find(workload.name)
        if before is None:
            new.append(_without_agent(workload))
            continue
        if before.labels != workload.labels:
            labels[before.uuid] = workload.labels
        if before.origin == "file" and workload.addresses and _held(before) != _held(workload):
            addresses[before.uuid] = msgspec.structs.replace(workload, uuid=before.uuid)
        unchanged += before.uuid not in labels and before.uuid not in addresses
    return _Change(tuple(new), labels, addresses, unchanged, loaded.findings)


def _held(workload: Workload) -> frozenset[tuple[str, int]]:
    return frozenset((lease.network, lease.address) for lease in workload.addresses)


def _without_agent(workload: Workload) -> Workload:
    """What would be blocked there is told (`would-block`), and nothing claimed: it observes until an agent joins."""
    kind: Kind = "device" if workload.kind == "process" else workload.kind
    return msgspec.structs.replace(workload, kind=kind, mode=Mode(), origin="file", host=None, unit=None)


def _planned(change: _Change, world: World) -> InventoryPlanned:
    after = _after(change, world)
    known = world.inventory.by_uuid
    moves = tuple(LabelChange(known[uuid].name, known[uuid].labels, labels) for uuid, labels in change.labels.items())
    diff = relabelled(world, change.labels) if change.labels else DiffView(0, 0)
    _, broken = broken_tests(world, after)
    conflicts = after.inventory.conflicts(world.at)
    findings = (*change.findings, *(f for f in conflicts if f not in world.inventory.conflicts(world.at)), *broken)
    return InventoryPlanned(
        digest=digest_of(diff, _said(change, world.inventory), [(f.code, f.subject, f.message) for f in findings]),
        new=tuple(w.name for w in change.new[:MOST_NAMED]),
        new_count=len(change.new),
        relabelled=moves[:MOST_NAMED],
        relabelled_count=len(moves),
        readdressed=len(change.addresses),
        unchanged=change.unchanged,
        findings=findings,
        diff=diff,
        is_applied=False,
    )


def _after(change: _Change, world: World) -> World:
    labelled = world_after(world, change.labels)
    known: Mapping[str, Workload] = change.addresses
    every = (
        msgspec.structs.replace(w, addresses=known[w.uuid].addresses) if w.uuid in known else w
        for w in labelled.inventory.workloads
    )
    inventory = Inventory((*every, *change.new), ignore=world.inventory.ignore)
    return msgspec.structs.replace(world, inventory=inventory)


def _said(change: _Change, known: Inventory) -> tuple[object, ...]:
    """What would change, from what to what."""

    def held(workload: Workload) -> list[tuple[str, str]]:
        return sorted((network, format_address(address)) for network, address in _held(workload))

    return (
        [(w.uuid, w.name, w.labels, held(w)) for w in change.new],
        {uuid: (known.by_uuid[uuid].labels, labels) for uuid, labels in change.labels.items()},
        {uuid: (held(known.by_uuid[uuid]), held(w)) for uuid, w in change.addresses.items()},
    )
