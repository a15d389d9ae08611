"""How the controller and its fleet are: each part asked by itself, so that one that fails hides no other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509

from ringfence import __version__
from ringfence.controller.bus.fabric import RENEW_BEFORE
from ringfence.controller.publishing.applying import rollout_view
from ringfence.controller.publishing.workloads import tally
from ringfence.core.errors import RingfenceError
from ringfence.core.intent.isolate import live_quarantines
from ringfence.ports.bus import BusError
from ringfence.wire.api import Part, PartState, RolloutView, Status

if TYPE_CHECKING:
    from ringfence.controller.controller import Controller

T = TypeVar("T")
_ASK_S = 3.0
_SOON = timedelta(days=30)


async def status_of(controller: Controller) -> Status:
    """Everything in numbers. Raises nothing that a part could be blamed for."""
    hosts = [w for w in controller.workloads.inventory.workloads if w.has_agent]
    contained = await _or(controller.containing.standing(controller.realised, controller.is_online), None)
    progress = await _or(controller.rollouts.progress(), None)
    severities: dict[str, int] = {}
    for (_, severity), number in controller.watching.alerts.open_by_kind().items():
        severities[severity] = severities.get(severity, 0) + number
    inputs = controller.reconciler.inputs
    version = (inputs.next or inputs.base).number
    return Status(
        version=__version__,
        name=controller.settings.names[0],
        started=controller.started,
        trust_domain=controller.authority.trust_domain,
        ca_fingerprint=controller.authority.fingerprints[0],
        parts=tuple(await parts(controller)),
        workloads=len(controller.workloads.inventory.workloads),
        agents=dict(tally(controller.workloads.state_of(w) for w in hosts)),
        policy_version=version,
        needs_approval=controller.settings.needs_approval,
        rollout=rollout_view(progress) if progress is not None else RolloutView(version, "unknown", "", 0, 0),
        quarantines=len(contained) if contained is not None else _held(controller),
        quarantines_verified=sum(one.is_verified for one in contained or ()),
        alerts=severities,
    )


async def parts(controller: Controller) -> list[Part]:
    """Each part, and how it is."""
    asked: dict[str, Callable[[], Awaitable[Part]]] = {
        "state": lambda: _state(controller),
        "flow store": lambda: _flows(controller),
    }
    found = [await _answered(name, ask) for name, ask in asked.items()]
    found += [*_bus(controller), *_loops(controller), *_certificates(controller), _incoming(controller)]
    found += _policies(controller)
    found += await _servers(controller)
    found += await _sinks(controller)
    return found


async def _answered(name: str, ask: Callable[[], Awaitable[Part]]) -> Part:
    try:
        async with asyncio.timeout(_ASK_S):
            return await ask()
    except TimeoutError:
        return Part(name, "failed", f"no answer within {_ASK_S:g} s")
    except (RingfenceError, BusError, OSError) as error:
        return Part(name, "failed", getattr(error, "message", None) or str(error))


async def _or(asked: Awaitable[T], otherwise: T) -> T:
    """What somebody answers in time; the other where the state does not answer them."""
    try:
        async with asyncio.timeout(_ASK_S):
            return await asked
    except (RingfenceError, TimeoutError):
        return otherwise


def _held(controller: Controller) -> int:
    """Quarantines that hosts were told of, as this process remembers them."""
    return len(live_quarantines(controller.reconciler.quarantines, controller.clock()))


async def _state(controller: Controller) -> Part:
    await controller.state.write(lambda tx: None)
    await controller.state.read(lambda view: None)
    return Part("state", "ok", controller.state.place)


async def _flows(controller: Controller) -> Part:
    totals = await asyncio.to_thread(controller.flows.totals)
    return Part("flow store", "ok", f"{totals.connections:,} connections")


def _policies(controller: Controller) -> Iterator[Part]:
    """Versions in use that cannot be read, and a restore that nobody confirmed."""
    inputs = controller.reconciler.inputs
    if controller.resuming.is_waiting:
        message = "restored from a backup: hosts keep what they have, and quarantines and revocations made since are"
        yield Part("restore", "degraded", f"{message} not known; make them again, then `ringfence confirm-restore`")
    for version in (inputs.base, inputs.next):
        if version is not None and version.problem:
            message = f"version {version.number} cannot be read, and its hosts keep what they have: {version.problem}"
            yield Part("policies", "failed", message)


def _bus(controller: Controller) -> Iterator[Part]:
    server = controller.fabric.server
    if server is not None:
        told = f"started again {server.restarts} times" if server.restarts else ""
        yield Part("bus server", "ok" if server.is_up else "failed", told if server.is_up else f"see {server.log}")
    up = controller.fabric.bus.is_connected
    yield Part("bus connection", "ok" if up else "failed", "" if up else "not connected; agents keep their last policy")


async def _servers(controller: Controller) -> list[Part]:
    """Of somebody else's bus: how many answer, and how long their certificates are good."""
    try:
        counted = await controller.fabric.servers()
    except BusError as error:
        return [Part("bus servers", "failed", str(error))]
    if counted is None:
        return []
    up, of = counted
    out = [Part("bus servers", "ok" if up >= of else "degraded", f"{up} of {of} answer")]
    ends = controller.fabric.bus_certificate_ends()
    if ends is not None:
        state = _ending(ends, controller.clock(), soon=_SOON)
        out.append(Part("bus certificate", state, f"until {ends:%Y-%m-%d}; `ringfence nats-config` renews it"))
    return out


def _loops(controller: Controller) -> Iterator[Part]:
    """What goes on in the background, and fails."""
    for name, problem in sorted(controller.loops.problems.items()):
        yield Part(name, "failed", problem)
    revision = controller.reconciler.desired.revision
    yield Part("compiler", "ok", f"revision {revision}, {len(controller.reconciler.desired.assignments)} hosts")


def _certificates(controller: Controller) -> Iterator[Part]:
    now = controller.clock()
    own = x509.load_pem_x509_certificates(_certificates_in(controller.fabric.own.read_bytes()))[0]
    for name, certificate in (("certificate", own), ("root certificate", controller.authority.roots[0])):
        ends = certificate.not_valid_after_utc
        soon = RENEW_BEFORE / 2 if name == "certificate" else _SOON
        yield Part(name, _ending(ends, now, soon=soon), f"until {ends:%Y-%m-%d}")


def _ending(ends: datetime, now: datetime, *, soon: timedelta) -> PartState:
    if ends <= now:
        return "failed"
    return "degraded" if ends - soon <= now else "ok"


def _certificates_in(content: bytes) -> bytes:
    """The certificates of a file that begins with a key."""
    return content[content.index(b"-----BEGIN CERTIFICATE") :]


def _incoming(controller: Controller) -> Part:
    incoming = controller.incoming
    faults = {
        "malformed": incoming.malformed,
        "lost (too many)": incoming.lost,
        "stretches set aside": incoming.parked,
        "rows of others dropped": incoming.foreign,
    }
    told = [f"{incoming.batches:,} batches since the start", *(f"{n:,} {word}" for word, n in faults.items() if n)]
    is_well = not (incoming.malformed or incoming.lost or incoming.parked)
    return Part("flows of agents", "ok" if is_well else "degraded", ", ".join(told))


async def _sinks(controller: Controller) -> list[Part]:
    out = []
    for name, health in (await controller.dispatcher.health()).items():
        told = f"{health.delivered:,} delivered, {health.waiting:,} waiting, {health.lost:,} lost"
        state: PartState = "ok" if not health.problem else "degraded"
        out.append(Part(f"notify {name}", state, f"{health.problem}; {told}" if health.problem else told))
    return out
