"""The controller, put together: one directory, one database, one bus, and the services people and agents use.

    controller = Controller(Settings(directory))
    await controller.start()      -> state, bus, desired state, alerts: in this order, each on top of the one before
    await controller.close()

INVARIANT: what is acknowledged is in the state; everything else (desired state, presence, alerts in memory) is derived
and made again at a start.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from ringfence import __version__
from ringfence.controller import audit
from ringfence.controller.access.access import Principal, grant
from ringfence.controller.access.granting import Granting
from ringfence.controller.access.group_roles import Oidc
from ringfence.controller.access.oidc import Provider
from ringfence.controller.access.rates import Rates
from ringfence.controller.access.sessions import IDLE, LONGEST, Sessions
from ringfence.controller.alerts import occurrences
from ringfence.controller.alerts.attending import Attending
from ringfence.controller.alerts.watching import Watching
from ringfence.controller.bounds import memory_bytes, most_of
from ringfence.controller.bus.fabric import SWEEP_S, Fabric
from ringfence.controller.bus.hearing import Hearing
from ringfence.controller.containment.collecting import Collecting, Keep
from ringfence.controller.containment.containing import Containing
from ringfence.controller.desired.distribute import Distributor
from ringfence.controller.desired.estate import (
    ahead_of,
    inputs_of,
    quarantines_of,
    read_estate,
    read_workload,
    read_workloads,
    settings_of,
    world_in,
)
from ringfence.controller.desired.reconcile import Reconciler
from ringfence.controller.desired.restored import is_restored
from ringfence.controller.identity import holding
from ringfence.controller.identity.ca import Authority, Issued
from ringfence.controller.identity.claims import Refusal, describe
from ringfence.controller.identity.joining import Joining, Revoked
from ringfence.controller.identity.leasing import Leasing
from ringfence.controller.identity.presence import OFFLINE_AFTER, STALE_AFTER, Presence, Seen
from ringfence.controller.identity.signing import SigningKeys
from ringfence.controller.intake.incoming import STRETCH_S, Incoming
from ringfence.controller.looping import Loops
from ringfence.controller.metrics import Metrics
from ringfence.controller.publishing.applying import Applying
from ringfence.controller.publishing.rollouts import Rollouts
from ringfence.controller.publishing.versions import Versions
from ringfence.controller.publishing.workloads import Workloads
from ringfence.controller.records.backing_up import STATE
from ringfence.controller.records.resuming import Resuming
from ringfence.controller.study.studies import Studies
from ringfence.core.errors import RingfenceError
from ringfence.core.net.address import HOLDABLE, LAST, format_address
from ringfence.core.world import World
from ringfence.notify.dispatcher import Dispatcher
from ringfence.notify.outbox import Outbox
from ringfence.notify.sinks import Sink, routes_of
from ringfence.ports.flow_store import FlowStore
from ringfence.ports.state import (
    CONTESTED,
    AgentRecord,
    ApiToken,
    AuditHead,
    Change,
    LeaseRecord,
    PolicyVersion,
    StateError,
    View,
    Where,
    WorkloadRecord,
)
from ringfence.stores.duckdb import DuckFlowStore
from ringfence.stores.sql import SqlState
from ringfence.wire import subjects
from ringfence.wire.api import Draft, RefusedClaim
from ringfence.wire.join import Admission, Request
from ringfence.wire.messages import Event, Order, Realised

_log = logging.getLogger(__name__)
_PERSIST_S = 5.0
_CHECK_S = 5.0
_TOLD = 8
_HEARING = timedelta(minutes=5)
"""So long after the bus came every agent that lives has come back to it, and been heard."""
_FEW = 16
"""Workloads that are followed one by one; more are followed in one step, which costs as much as all there are."""
ROOT = Principal("controller", ("administrator",))


class Settings(msgspec.Struct, frozen=True):
    """How to run."""

    directory: Path
    database: str = ""
    """URL; SQLite in the directory where none is given."""
    nats: str = ""
    """URL of a server that runs already; a child process where none is given."""
    names: tuple[str, ...] = ("localhost",)
    """DNS names and addresses agents and people reach this controller by; the first is told to agents."""
    port: int = 8443
    bus_port: int = 4222
    host: str = "0.0.0.0"
    trust_domain: str = "ringfence.internal"
    sinks: tuple[Sink, ...] = ()
    needs_approval: bool = False
    evidence_count: int = Keep().bundles
    evidence_bytes: int = Keep().size_bytes
    public_url: str = ""
    """Where browsers reach this controller, if not at the first of its names and its port."""
    session_s: int = int(LONGEST.total_seconds())
    """A session of a browser lasts no longer."""
    session_idle_s: int = int(IDLE.total_seconds())
    """It ends when nobody used it for so long."""
    oidc: Oidc | None = None
    """Who else says who people are."""
    limits: Rates = Rates()
    """How many requests the API takes."""
    flows_s: int = STRETCH_S
    """Agents tell their flows this often; they are stored as soon as all of a stretch are in."""

    @property
    def url(self) -> str:
        name = self.names[0]
        return f"https://{f'[{name}]' if ':' in name else name}:{self.port}"


def utcnow() -> datetime:
    return datetime.now(UTC)


class Controller:
    """One running controller."""

    def __init__(self, settings: Settings, *, clock: Callable[[], datetime] = utcnow) -> None:
        """Makes what the directory lacks. Raises RingfenceError for what cannot be opened."""
        self.settings, self.clock = settings, clock
        self.started = clock()
        folder = settings.directory
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.authority = Authority.open(folder / "ca.json", trust_domain=settings.trust_domain, now=clock())
        self.signing = SigningKeys.open(folder / "signing.json")
        self.state = SqlState(settings.database or folder / STATE)
        self.revoked = Revoked()
        self.fabric = Fabric(
            folder / "bus",
            self.authority,
            self.revoked,
            names=settings.names,
            url=settings.nats,
            host=settings.host,
            port=settings.bus_port,
        )
        self.flows: FlowStore = DuckFlowStore(folder / "flows.duckdb", most=most_of(memory_bytes()))
        self.incoming = Incoming(folder / "incoming", time.time, stretch_s=settings.flows_s)
        self.reconciler = Reconciler(self.state, folder / "remembered.json", clock)
        self.joining = Joining(self.state, self.authority, self.revoked, clock)
        self.containing = Containing(self.state, self.reconciler, clock)
        self.dispatcher = Dispatcher(routes_of(settings.sinks), Outbox(folder / "outbox.sqlite"))
        self.versions = Versions(self.state, self._world_of, needs_approval=settings.needs_approval)
        self.presence = Presence(self._expected, lambda message: self.distributor.sealed(message))
        self.rollouts = Rollouts(self.state, self.reconciler, clock, self.realised, self.is_online)
        self.metrics = Metrics()
        self.watching = Watching(self.state, self.reconciler, self.presence, self.dispatcher, self.metrics, clock)
        self.granting = Granting(self.state, settings.url, lambda: self.authority.fingerprints[0], clock)
        self.provider = Provider(settings.oidc, clock) if settings.oidc is not None else None
        self.sessions = Sessions(
            self.state,
            clock,
            idle=timedelta(seconds=settings.session_idle_s),
            longest=timedelta(seconds=settings.session_s),
            worth=lambda subject, said: self.provider.worth(subject, said) if self.provider is not None else (),
        )
        self.workloads = Workloads(
            self.state,
            self.reconciler,
            self.presence,
            clock=clock,
            is_online=self.is_online,
            refresh=self.refresh_all,
            world=self.world,
            foresee=lambda world, days, as_mode: self.applying.foresee(world, days, as_mode),
            refused=self._claims_refused,
        )
        self.applying = Applying(
            self.versions, self.rollouts, self.reconciler, self.flows, self._world_of, self.world, clock
        )
        self.applying.on_published = self._published
        self.resuming = Resuming(self.state, self.reconciler, clock, self._heard, self._tell)
        self.attending = Attending(self.state, self.watching, clock, lambda: self.reconciler.inputs.inventory)
        self.collecting = Collecting(
            folder / "evidence",
            self.state,
            self.workloads,
            self.order,
            clock,
            keep=Keep(settings.evidence_count, settings.evidence_bytes),
        )
        self.reconciler.on_bound = self._bound
        self.studies = Studies(self)
        self.distributor: Distributor
        self.leasing = Leasing(
            self.state, lambda: self.reconciler.desired.inputs.inventory, self.refresh, self._refused, clock
        )
        self.leasing.is_live = self._may_live
        self.reconciler.contested, self.containing.on_begun = self.leasing.contested, self.leasing.reconsider
        self._signer = audit.Signer()
        self._refreshing = asyncio.Lock()
        self._told = 0
        """Messages to agents that the metrics have."""
        self._listening_since: datetime | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.loops = Loops()
        self.on_taken: Callable[[StateError], None] = lambda error: None
        """Called when another controller wrote to the state while this one could not."""
        self.on_certificate: Callable[[], None] = lambda: None
        """Called when the controller's own certificate is another."""

    # ---- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> str | None:
        """Serve the fleet. The administrator's first token, when this is the first start that succeeds."""
        await self.state.read(self.revoked.load)
        await self._start_desired()
        await self._recall()
        await self.fabric.start()
        self.fabric.exit.add(map(UUID, self.revoked.workloads))
        bus = Hearing(self.fabric.bus, self.revoked.is_gone)
        self.distributor = Distributor(
            bus, lambda: self.signing.current, self.reconciler.desired, self.reconciler.isolating
        )
        self.reconciler.on_news, self.reconciler.on_isolations = self.distributor.tell, self.distributor.isolate
        self.presence.on_addresses, self.presence.on_clone = self.leasing.claim, self._cloned
        self.presence.on_unread = self._unread
        self.joining.on_fork = self._forked
        await self.distributor.serve()
        await bus.subscribe(subjects.UP_EVERYONE.format("beat"), self._beat)
        await bus.subscribe(subjects.UP_EVERYONE.format("done"), self._done)
        await bus.consume("flows", "rf.keep.*.flows", self._keep_flows)
        await self.dispatcher.start()
        await self.watching.start(bus)
        await self.collecting.start(bus)
        await self.studies.start()
        for work in (
            self.reconciler.keep_turning,
            self.watching.keep_telling,
            self.leasing.keep_leasing,
            lambda: self.loops.every("writing the state", _CHECK_S, self._check_state),
            lambda: self.loops.every("agents", _PERSIST_S, self._persist),
            lambda: self.loops.every("revisions", 5.0, self.resuming.advance),
            lambda: self.loops.every("rollout", 1.0, self.rollouts.advance),
            lambda: self.loops.every("flows", self.settings.flows_s / 4, self._store_flows),
            lambda: self.loops.every("silence", 5.0, self._silence),
            lambda: self.loops.every("claims", 30.0, self._reconsider),
            lambda: self.loops.every("revoked hosts", SWEEP_S, self._show_out),
            lambda: self.loops.every("bus servers", 60.0, self.fabric.prove_others),
            lambda: self.loops.every("retention", 3600.0, self._retain),
            lambda: self.loops.every("audit", audit.LOOK_S, self._sign_soon),
            lambda: self.loops.every("certificate", 3600.0, self._certify),
            lambda: self.loops.every("metrics", 5.0, self._measure),
            lambda: self.loops.every("sessions", 600.0, self.sessions.forget),
            lambda: self.loops.every("standing", 3600.0, self.studies.look),
        ):
            self._tasks.append(asyncio.create_task(_run(work)))
        return await self.state.write(self._first_token)

    async def _start_desired(self) -> None:
        held = await self.state.read(read_estate)
        self.rollouts.current = held.underway
        is_held = await self.state.read(is_restored)
        inputs = msgspec.structs.replace(inputs_of(held, self.clock(), ahead_of(held)), is_held=is_held)
        await self.reconciler.start(inputs, quarantines_of(held.quarantines))

    async def close(self) -> None:
        """Finish what was begun. Hosts stay as they are."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self._persist()
        except StateError as error:
            _log.warning("what agents said last is not kept: %s", error.message)
        await self._sign_last()
        await self.studies.close()
        await self.reconciler.close()
        await self.dispatcher.close()
        await self.fabric.stop()
        self.flows.close()
        await self.state.close()

    async def _check_state(self) -> None:
        """Whether the state takes writes. INVARIANT: a controller that was overtaken by another ends."""
        try:
            await self.state.write(lambda tx: None)
        except StateError as error:
            if error.code == "state-taken":
                self.on_taken(error)
            raise

    def _first_token(self, tx: Change) -> str | None:
        if tx.count(ApiToken):
            return None
        return grant(tx, "administrator", ["administrator"], by="controller", at=self.clock())

    async def new_administrator(self) -> str:
        """One more administrator's token, for who may start the controller: the first was lost."""
        now = self.clock()
        return await self.state.write(lambda tx: grant(tx, "administrator", ["administrator"], by="controller", at=now))

    # ---- what agents say --------------------------------------------------------------------------------------------

    def _expected(self, uuid: str) -> str:
        return self.distributor.expected(uuid)

    def realised(self, uuid: str) -> Realised | None:
        """What a host said last about what it enforces."""
        seen = self.presence.seen.get(uuid)
        return seen.realised if seen is not None else None

    def _heard(self) -> dict[str, Realised]:
        """What every agent realised, as far as it was heard."""
        return {uuid: seen.realised for uuid, seen in self.presence.seen.items()}

    def is_online(self, uuid: str) -> bool:
        seen = self.presence.seen.get(uuid)
        return seen is not None and time.time() - seen.at < OFFLINE_AFTER.total_seconds()

    def forwards(self, uuid: str) -> bool:
        """Whether a host said last that it passes on traffic of others."""
        seen = self.presence.seen.get(uuid)
        return seen is not None and seen.heartbeat.forwards

    def _may_live(self, uuid: str) -> bool:
        """INVARIANT: silence while nobody could be heard is no silence of a host: until all that live had the time to
        be heard again, nobody is taken for gone."""
        since = self._listening_since
        return self.is_online(uuid) or since is None or self.clock() - since < OFFLINE_AFTER

    async def _beat(self, subject: str, data: bytes) -> bytes | None:
        answer = await self.presence.beat(subject, data)
        self.metrics.message(is_up=True, is_refused=answer is None)
        self.metrics.heartbeats(int(answer is not None))
        return answer

    async def _done(self, subject: str, data: bytes) -> None:
        realised = await self.presence.done(subject, data)
        self.metrics.message(is_up=True, is_refused=realised is None)
        if realised is not None and realised.state in ("realised", "refused"):
            self.metrics.acknowledged(self.distributor.took(max(realised.change, realised.assignment)))

    async def _measure(self) -> None:
        seen = self.presence.seen
        online = {uuid for uuid in seen if self.is_online(uuid)}
        self.metrics.agents(Counter(seen[uuid].realised.state for uuid in online), offline=len(seen) - len(online))
        self.metrics.alerts(self.watching.alerts.open_by_kind())
        told, self._told = self.distributor.messages - self._told, self.distributor.messages
        self.metrics.message(is_up=False, count=told)
        self.metrics.bus(is_up=self.fabric.bus.is_connected, connections=len(online))
        for name, health in (await self.dispatcher.health()).items():
            self.metrics.sink(name, waiting=health.waiting, lost=health.lost)

    def _refused(self, uuid: str, refused: tuple[Refusal, ...]) -> None:
        """What a host claims and does not get is told, with the names of both."""
        by_uuid = self.reconciler.inputs.inventory.by_uuid
        names = {one.holder: by_uuid[one.holder].name for one in refused if one.holder in by_uuid}
        whys = {one.why for one in refused}
        kind = next((f"addresses-{one}" for one in ("lie", "contested") if one in whys), "addresses-refused")
        self._tell(uuid, kind, describe(refused, names))

    def _claims_refused(self, uuid: str) -> tuple[RefusedClaim, ...]:
        by_uuid = self.reconciler.inputs.inventory.by_uuid
        return tuple(
            RefusedClaim(
                format_address(one.address) if 0 <= one.address <= LAST else "no address",
                one.why,
                by_uuid[one.holder].name if one.holder in by_uuid else one.holder,
            )
            for one in self.leasing.refused.get(uuid, ())
        )

    def _bound(self, uuid: str, addresses: tuple[str, ...]) -> None:
        """An isolated host came to addresses: what else it can reach from is worth a look."""
        told = ", ".join(addresses[:_TOLD]) + (" ..." if len(addresses) > _TOLD else "")
        self._tell(uuid, "quarantine-bound", f"it came to {told} while isolated; they are isolated with it")

    def _tell(self, uuid: str, kind: str, message: str) -> None:
        workload = self.reconciler.inputs.inventory.by_uuid.get(uuid)
        now, ground = self.clock(), self.watching.ground
        told = Event(now.timestamp(), kind, message)
        self.watching.alerts.note(occurrences.event(told, workload.name if workload is not None else uuid, ground), now)

    def _unread(self, uuid: str, why: str) -> None:
        """INVARIANT: an agent that is too old or too new to be understood is told of, not only missed."""
        message = f"its heartbeats are not understood by this controller ({__version__}): {why}; update one of the two"
        self._tell(uuid, "message-not-understood", message)

    async def _recall(self) -> None:
        """Who was there before this start, and holds addresses still: their silence goes on counting."""
        now = self.clock()
        records, leases = await self.state.read(_agents)
        known = {record.uuid: record for record in records}
        for uuid in {lease.workload for lease in leases if lease.address not in HOLDABLE}:
            self._tell(
                uuid, "addresses-unreadable", "the state has addresses of it that no host can have; they are skipped"
            )
        began = {
            lease.workload: lease.start or self.started for lease in leases if lease.source in ("agent", CONTESTED)
        }
        for uuid in known.keys() | began.keys():
            record = known.get(uuid, AgentRecord(uuid))
            at = record.seen or began.get(uuid)
            if at is not None and (uuid in began or now - at < STALE_AFTER):
                self.presence.recall(record, at)

    async def refresh(self, uuid: str) -> None:
        """Follow what the state says of a workload now. One at a time: what was read last is followed last."""
        async with self._refreshing:
            workload = await self.state.read(lambda view: read_workload(view, uuid))
            if workload is None:
                await self.reconciler.remove_workload(uuid)
            else:
                await self.reconciler.put_workload(workload)

    async def refresh_all(self, uuids: Collection[str]) -> None:
        """As `refresh`, of many: a change of thousands costs one step, not thousands."""
        if len(uuids) <= _FEW:
            for uuid in uuids:
                await self.refresh(uuid)
            return
        wanted = frozenset(uuids)
        async with self._refreshing:
            found = [w for w in await self.state.read(lambda view: list(read_workloads(view))) if w.uuid in wanted]
            await self.reconciler.put_workloads(found)
            for uuid in wanted - {workload.uuid for workload in found}:
                await self.reconciler.remove_workload(uuid)

    async def _cloned(self, uuid: str, instances: tuple[str, ...]) -> None:
        workload = self.reconciler.inputs.inventory.by_uuid.get(uuid)
        name = workload.name if workload is not None else uuid
        await self.watching.note(occurrences.clone(name, self.clock(), instances, self.watching.ground))

    async def _forked(self, uuid: str, serial: str) -> None:
        workload = self.reconciler.inputs.inventory.by_uuid.get(uuid)
        name = workload.name if workload is not None else uuid
        await self.watching.note(occurrences.forked(name, self.clock(), serial, self.watching.ground))

    async def _published(self, version: PolicyVersion) -> None:
        await self.watching.note(occurrences.policy_change(version))

    async def _silence(self) -> None:
        """Hosts nobody heard for long: their addresses are nobody's any more."""
        self._lapse(self.clock(), is_listening=self.fabric.bus.is_connected)

    def _lapse(self, now: datetime, *, is_listening: bool) -> None:
        """INVARIANT: silence while nobody could be heard is no silence of a host: who has not been listened to since
        the bus came, or this controller, keeps what it holds."""
        if not is_listening:
            self._listening_since = None
            return
        self._listening_since = self._listening_since or now
        if now - self._listening_since < _HEARING:
            return
        for uuid in self.presence.silent(now, STALE_AFTER):
            self.leasing.lapse(uuid)
            del self.presence.seen[uuid]

    async def _reconsider(self) -> None:
        self.leasing.reconsider()

    async def _persist(self) -> None:
        """What agents said last, for the next start and for everybody who asks the state."""
        dirty, self.presence.dirty = self.presence.dirty, set()
        seen = {uuid: self.presence.seen[uuid] for uuid in dirty & self.presence.seen.keys()}
        records = [_record(uuid, one) for uuid, one in seen.items()]

        def work(tx: Change) -> None:
            wanted = [record.uuid for record in records]
            known = {record.uuid for record in tx.find(WorkloadRecord, Where("uuid", wanted, "in"))}
            tx.put(*(record for record in records if record.uuid in known))

        try:
            if records:
                await self.state.write(work)
            for uuid, one in seen.items():
                if uuid in self.presence.seen:
                    self.presence.seen[uuid].kept_at = one.at
        except BaseException:
            self.presence.dirty |= dirty
            raise

    async def _store_flows(self) -> None:
        if not self.incoming.has_settled():
            return
        now, ground = self.clock(), self.watching.ground
        held = await self.state.read(lambda view: holding.history(view, now - holding.HORIZON))
        inventory = await asyncio.to_thread(holding.with_history, self.reconciler.inputs.inventory, held)
        taken = await asyncio.to_thread(self.incoming.take, inventory, self.flows)
        names = {workload.uuid: workload.name for workload in inventory.workloads}
        for uuid, rows in taken.false.items():
            self.watching.alerts.note(occurrences.false_flows(names.get(uuid, uuid), now, rows, ground), now)
        for uuid, rows in taken.lost.items():
            self.watching.alerts.note(occurrences.lost_flows(names.get(uuid, uuid), now, rows, ground), now)
        self.metrics.flows(taken.rows)
        self.metrics.lost(sum(taken.lost.values()))

    async def _keep_flows(self, subject: str, data: bytes) -> None:
        await self.incoming.keep(UUID(subjects.sender(subject)), data)

    async def _certify(self) -> None:
        """A new certificate in time. Those who are connected keep what they have."""
        if not await asyncio.to_thread(self.fabric.certify):
            return
        self.on_certificate()
        if self.fabric.server is not None:
            self.fabric.server.reload()

    async def _retain(self) -> None:
        """Evidence and flows past what the settings keep."""
        version = await self.versions.current()
        flows = settings_of(version).flows
        now = int(self.clock().timestamp())
        await self.collecting.retain()
        await self.joining.forget()
        await asyncio.to_thread(self.flows.prune, now, max_days=flows.max_days, max_bytes=flows.max_bytes)

    async def _sign_soon(self) -> None:
        if await self.state.read(self._signer.is_due):
            await self._sign_audit()

    async def _sign_last(self) -> None:
        """Before a stop; what cannot be signed is at the next start."""
        try:
            await self._sign_audit()
        except (StateError, OSError) as error:
            _log.warning("the end of the audit log is not signed: %s", getattr(error, "message", "") or str(error))

    async def _sign_audit(self) -> None:
        def work(tx: Change) -> tuple[AuditHead | None, int]:
            head, last = audit.sign_head(tx, self.signing.current, self.clock()), audit.last_entry(tx)
            return head, last.seq if last is not None else 0

        head, end = await self.state.write(work)
        self._signer.signed(end)
        if head is not None:
            path = self.settings.directory / "audit-head.json"
            await asyncio.to_thread(path.write_bytes, msgspec.json.encode(head))

    # ---- what people do, where it takes more than one part ----------------------------------------------------------

    def _world_of(self, settings: str) -> World:
        """Settings as text -> the world they make of the estate as it is."""
        read = world_in(settings, self.reconciler.inputs.inventory, self.clock())
        return msgspec.structs.replace(read, quarantines=self.reconciler.quarantines)

    def world(self) -> World:
        """What is in force now: the version that most hosts have."""
        inputs = self.reconciler.inputs
        world = self.rollouts.running.world(inputs.inventory, self.clock())
        return msgspec.structs.replace(world, quarantines=self.reconciler.quarantines)

    def world_under(self, draft: Draft | None) -> World:
        """What is in force now; with a draft, what its settings make of it, whose policies are still to be read."""
        return self.world() if draft is None else self._world_of(draft.settings)

    async def enrol(self, asked: Request, *, source: int | None = None) -> Admission:
        """Let a host in that has a join token. `source`: the address it asks from. Raises as `Joining.enrol`."""
        uuid, issued = await self.joining.enrol(asked.token, asked.csr, asked.hostname, asked.machine, source=source)
        await self.refresh(uuid)
        return self._admission(uuid, issued)

    async def renew(self, asked: Request) -> Admission:
        """A new certificate for a host that has one. Raises as `Joining.renew`."""
        uuid, issued = await self.joining.renew(asked.certificate, asked.csr, asked.signature)
        return self._admission(uuid, issued)

    def _admission(self, uuid: str, issued: Issued) -> Admission:
        return Admission(
            uuid,
            issued.certificate.decode(),
            self.authority.bundle.decode(),
            self.signing.trusted,
            self.fabric.urls,
            self.authority.trust_domain,
        )

    async def retire(self, uuid: str, *, why: str, by: Principal) -> None:
        """A workload is gone, and its agent is shown out. Raises as `changes.retire`, and InputError `no-reason`."""
        audit.demand_reason(why, "retiring a workload")
        await self.workloads.retire(uuid, self.revoked, why=why, by=by)
        self.leasing.forget(uuid)
        await self.fabric.exit.show_out(UUID(uuid))

    async def revoke(self, uuid: str, *, why: str, by: Principal) -> int:
        """A host may not speak to us any more: how many connections were ended, all there were. Raises RingfenceError
        `still-connected` where that is not known: it is refused all the same; InputError `no-reason`."""
        by.demand("certificates")
        audit.demand_reason(why, "revoking a host")
        await self.joining.revoke(uuid, why=why, by=by.name)
        shown = await self.fabric.exit.show_out(UUID(uuid))
        if shown.is_out:
            return shown.ended
        message = f"`{uuid}` is refused and not heard any more, but may still be connected"
        raise RingfenceError("still-connected", message, help="it is tried every few seconds; `ringfence status` tells")

    async def _show_out(self) -> None:
        await self.fabric.exit.sweep()

    async def order(self, uuid: str, order: Order) -> None:
        """Something a host is to do once, now. Raises BusError."""
        await self.distributor.order(uuid, order)


def _agents(view: View) -> tuple[list[AgentRecord], list[LeaseRecord]]:
    return view.find(AgentRecord), view.find(LeaseRecord, Where("end", None))


def _record(uuid: str, seen: Seen) -> AgentRecord:
    said = (msgspec.json.encode(seen.heartbeat).decode(), msgspec.json.encode(seen.realised).decode())
    instance, version = (occurrences.plain(text, 100) for text in (seen.heartbeat.instance, seen.heartbeat.version))
    return AgentRecord(uuid, datetime.fromtimestamp(seen.at, UTC), instance, version, *said)


async def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await work()
