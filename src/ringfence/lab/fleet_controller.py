"""A real controller as a process of a lab, asked over a channel.

    python -m ringfence.lab.fleet_controller FD DIRECTORY ADDRESS [SEED]

The channel stands in for people only. Agents reach it as they reach any controller: over TLS, from their own networks,
by its API to enrol and by its bus ever after.

INVARIANT: an answer means what the API's means: what it acknowledges is in the state.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import msgspec

from ringfence.api.serve import Api, listen
from ringfence.controller import audit
from ringfence.controller.access.access import invite, make_profile
from ringfence.controller.controller import ROOT, Controller, Settings
from ringfence.controller.desired.desired import Turning
from ringfence.controller.desired.inputs import Manner
from ringfence.controller.desired.rollout import Progress
from ringfence.controller.publishing.changes import relabel, set_mode
from ringfence.controller.publishing.rollouts import Canary
from ringfence.controller.publishing.versions import Draft
from ringfence.core.engine import Engine
from ringfence.core.errors import InputError
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.compile import IntentCompiler
from ringfence.core.labels.selector import parse_selector
from ringfence.core.net.address import format_address
from ringfence.core.world import World
from ringfence.lab.channel import Done, answer_requests
from ringfence.lab.unruly import UnrulyBus
from ringfence.ports.state import AuditEntry, Change, PairingProfile, WrittenException
from ringfence.wire.messages import Realised

HEARTBEAT_S = 1.0
"""How often a lab's agents say that they are alive."""


class Invite(msgspec.Struct, frozen=True, tag="invite"):
    """A join token for hosts that become this."""

    profile: str
    labels: dict[str, str]
    mode: Mode


class Told(msgspec.Struct, frozen=True):
    """A word in answer."""

    text: str


class Relabel(msgspec.Struct, frozen=True, tag="relabel"):
    host: str
    labels: dict[str, str]


class SetMode(msgspec.Struct, frozen=True, tag="mode"):
    host: str
    mode: Mode


class Retire(msgspec.Struct, frozen=True, tag="retire"):
    """A host that is gone for good."""

    host: str
    why: str


class Publish(msgspec.Struct, frozen=True, tag="publish"):
    """Put policies in force, on the canary first where one is named."""

    files: dict[str, str]
    manner: Manner = Manner()
    canary: str = ""
    """A selector."""


class Published(msgspec.Struct, frozen=True):
    version: int


class Quarantine(msgspec.Struct, frozen=True, tag="quarantine"):
    host: str
    why: str
    allow: tuple[WrittenException, ...] = ()
    seconds: float | None = None


class Release(msgspec.Struct, frozen=True, tag="release"):
    host: str
    why: str


class Look(msgspec.Struct, frozen=True, tag="look"):
    """How the fleet stands."""

    proves: bool = True
    """Whether each host's intent is compiled from nothing but the state, to compare."""


class HostLook(msgspec.Struct, frozen=True):
    """One host, as it says it is and as it should be."""

    name: str
    uuid: str
    addresses: tuple[str, ...]
    is_online: bool
    is_told: bool
    """It heard everything there is for it."""
    realised: Realised | None
    intended: str
    """The digest of what it should enforce, compiled here from nothing but the state."""

    @property
    def is_settled(self) -> bool:
        """What was read back from its kernel is what is meant now."""
        said = self.realised
        return self.is_told and said is not None and said.state == "realised" and said.digest == self.intended


class FleetLook(msgspec.Struct, frozen=True):
    hosts: tuple[HostLook, ...]
    rollout: Progress
    quarantined: tuple[str, ...]
    labels: dict[str, dict[str, str]]
    policy_version: int
    alerts: tuple[AlertLook, ...]
    bus_pid: int | None

    def host(self, name: str) -> HostLook | None:
        return next((one for one in self.hosts if one.name == name), None)


class AlertLook(msgspec.Struct, frozen=True):
    kind: str
    subject: str
    message: str
    count: int
    details: str


class CheckAudit(msgspec.Struct, frozen=True, tag="audit"):
    """Read the whole audit log."""


class AuditChecked(msgspec.Struct, frozen=True):
    entries: int
    problem: str = ""
    actions: tuple[tuple[str, str], ...] = ()
    """(action, subject) of each entry."""


Request = Invite | Relabel | SetMode | Retire | Publish | Quarantine | Release | Look | CheckAudit


class _Answering:
    """The controller, and what people ask of it."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    async def answer(self, body: bytes) -> msgspec.Struct:
        request = msgspec.msgpack.decode(body, type=Request)
        if isinstance(request, Invite):
            return await self._invite(request)
        if isinstance(request, Relabel | SetMode):
            return await self._change(request)
        if isinstance(request, Retire):
            await self._controller.retire(self._uuid(request.host), why=request.why, by=ROOT)
            return Done()
        if isinstance(request, Publish):
            return await self._publish(request)
        if isinstance(request, Quarantine | Release):
            return await self._contain(request)
        return await self._look(request) if isinstance(request, Look) else await self._check_audit()

    async def _invite(self, request: Invite) -> Told:
        controller, now = self._controller, self._controller.clock()

        def work(tx: Change) -> str:
            made = PairingProfile(request.profile, request.labels, now, ROOT.name, request.mode)
            make_profile(tx, made)
            ca = controller.authority.fingerprints[0]
            return invite(tx, request.profile, url=controller.settings.url, ca=ca, by=ROOT.name, at=now)

        return Told(await controller.state.write(work))

    async def _change(self, request: Relabel | SetMode) -> Done:
        controller, uuid, now = self._controller, self._uuid(request.host), self._controller.clock()
        if isinstance(request, Relabel):
            await controller.state.write(lambda tx: relabel(tx, uuid, request.labels, by=ROOT, at=now))
        else:
            await controller.state.write(lambda tx: set_mode(tx, uuid, request.mode, by=ROOT, at=now))
        await controller.refresh(uuid)
        return Done()

    async def _publish(self, request: Publish) -> Published:
        controller = self._controller
        current = await controller.versions.current()
        draft = Draft(request.files, current.number if current else 0)
        published = await controller.versions.publish(draft, by=ROOT)
        canary = Canary(selector=parse_selector(request.canary) if request.canary else None)
        await controller.rollouts.begin(published.version, request.manner, canary, by=ROOT)
        return Published(published.version.number)

    async def _contain(self, request: Quarantine | Release) -> Done:
        containing, uuid = self._controller.containing, self._uuid(request.host)
        if isinstance(request, Release):
            await containing.release([uuid], why=request.why, by=ROOT)
            return Done()
        lasts = timedelta(seconds=request.seconds) if request.seconds is not None else None
        await containing.quarantine([uuid], why=request.why, by=ROOT, allow=request.allow, lasts=lasts)
        return Done()

    def _uuid(self, name: str) -> str:
        found = self._controller.reconciler.inputs.inventory.by_name.get(name)
        if found is None:
            raise InputError("unknown-workload", f"there is no workload `{name}`", help="join it first")
        return found.uuid

    # ---- looking ----------------------------------------------------------------------------------------------------

    async def _look(self, request: Look) -> FleetLook:
        controller = self._controller
        inventory = controller.reconciler.inputs.inventory
        names = {w.uuid: w.name for w in inventory.workloads}
        intended = await asyncio.to_thread(self._intended) if request.proves else {}
        progress, live = await controller.rollouts.progress(), await controller.containing.live()
        current = await controller.versions.current()
        alerts = (AlertLook(a.kind, a.subject, a.message, a.count, a.details) for a in controller.watching.alerts)
        server = controller.fabric.server
        return FleetLook(
            hosts=tuple(self._host(uuid, name, intended) for uuid, name in sorted(names.items(), key=lambda n: n[1])),
            rollout=progress,
            quarantined=tuple(sorted(names.get(one.workload, one.workload) for one in live)),
            labels={w.name: w.labels for w in inventory.workloads},
            policy_version=current.number if current else 0,
            alerts=tuple(alerts),
            bus_pid=server.pid if server else None,
        )

    def _host(self, uuid: str, name: str, intended: Mapping[str, str]) -> HostLook:
        controller = self._controller
        seen = controller.presence.seen.get(uuid)
        is_told = seen is not None and self._is_all(uuid, seen.heartbeat.state)
        realised = controller.realised(uuid)
        leases = controller.reconciler.inputs.inventory.by_uuid[uuid].addresses
        addresses = tuple(format_address(lease.address) for lease in leases)
        return HostLook(name, uuid, addresses, controller.is_online(uuid), is_told, realised, intended.get(uuid, ""))

    def _is_all(self, uuid: str, state: str) -> bool:
        """Whether an agent has all there is for it; in the middle of a change nobody has."""
        try:
            return state == self._controller.distributor.expected(uuid)
        except Turning:
            return False

    def _intended(self) -> dict[str, str]:
        """What each host should enforce, by UUID: compiled anew, by no way that news travel."""
        inputs, quarantines = self._controller.reconciler.inputs, self._controller.reconciler.quarantines
        inventory = Inventory(inputs.inventory.workloads)
        at = self._controller.clock()
        engines: dict[int, IntentCompiler] = {}
        bare = World(inventory, (), quarantines, at=at)
        isolating, digests = IntentCompiler(Engine.compile(bare)), {}
        for host in inventory.workloads:
            version = inputs.version_of(host.uuid)
            if version.number not in engines:
                engines[version.number] = IntentCompiler(Engine.compile(version.world(inventory, at)))
            intent, isolated = engines[version.number].compile(host), isolating.compile(host)
            parts = ("is_quarantined", "isolated", "quarantine_passages")
            intent = msgspec.structs.replace(intent, **{part: getattr(isolated, part) for part in parts})
            digests[host.uuid] = intent.digest
        return digests

    async def _check_audit(self) -> AuditChecked:
        controller = self._controller
        found = await controller.state.read(lambda view: audit.verify(view, controller.signing.trusted))
        entries = await controller.state.read(lambda view: view.find(AuditEntry, order="seq"))
        problem = str(found.broken) if found.broken is not None else ""
        return AuditChecked(len(entries), problem, tuple((one.action, one.subject) for one in entries))


async def serve(sock: socket.socket, folder: Path, address: str, unruly: int | None) -> None:
    """Be the controller until the channel closes. `unruly`: the seed of a bus that loses, repeats and reorders."""
    controller = Controller(Settings(folder, names=(address,)))
    if unruly is not None:
        controller.fabric.bus = UnrulyBus(controller.fabric.bus, unruly)  # type: ignore[assignment]
    listening = listen("0.0.0.0", controller.settings.port)
    await controller.start()
    api = Api(controller, listening)
    await api.start()
    try:
        await answer_requests(sock, _Answering(controller).answer)
    finally:
        await api.stop()
        await controller.close()


def main() -> None:
    fd, folder, address, *unruly = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(serve(socket.socket(fileno=int(fd)), Path(folder), address, int(unruly[0]) if unruly else None))


if __name__ == "__main__":
    main()
