"""The agent: one process, one event loop, every part kept running by itself.

    agent = Agent(config, trust, bus, point)         agent.observer = Observer(...) where there is a kernel to observe
    await agent.run()

INVARIANT: a part that fails is told and started again; the rules in the kernel are nobody's to take down.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import msgspec

from ringfence import __version__
from ringfence.agent import host, metrics
from ringfence.agent.clock import Clock
from ringfence.agent.config import Config
from ringfence.agent.control import Answer, Question, Status, serve
from ringfence.agent.enforce import probes
from ringfence.agent.enforce.addresses import Addresses
from ringfence.agent.enforce.enforcer import Enforcer, Timing
from ringfence.agent.enforce.units import Units
from ringfence.agent.held import breakglass, journal
from ringfence.agent.held.disk import Disk, Trust, replayed
from ringfence.agent.held.held import Held
from ringfence.agent.held.wanted import passages_to
from ringfence.agent.link import Link
from ringfence.agent.memory import Memory
from ringfence.agent.observe import evidence
from ringfence.agent.observe.observe import Observer
from ringfence.agent.observe.spool import Spool
from ringfence.agent.point import Point
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.model import Intent
from ringfence.core.net.address import parse_address
from ringfence.ports.bus import Bus
from ringfence.wire.envelope import PROTOCOL, Reader
from ringfence.wire.evidence import split
from ringfence.wire.messages import Event, Heartbeat, Interface, Order, Probe, Realised

_log = logging.getLogger(__name__)
_RESTART_S: Final = (1.0, 30.0)
_RESOLVE_S: Final = 300.0
Renew = Callable[[], Awaitable[None]]
Uninstall = Callable[[str], Awaitable[None]]


class Agent:
    """One host."""

    def __init__(self, config: Config, trust: Trust, bus: Bus, point: Point, *, clock: Clock | None = None) -> None:
        self.config, self.trust, self.bus, self.point = config, trust, bus, point
        self.clock = clock or Clock()
        self.disk = Disk(config.directory)
        self.spool = Spool(config.directory / "spool", max_bytes=config.spool_bytes)
        self.observer: Observer | None = None
        self.renew: Renew | None = None
        """Keeps the certificate fresh; runs as long as the agent."""
        self.renew_now: Renew | None = None
        self.uninstall: Uninstall | None = None
        self.certificate_until = 0.0
        self.instance = secrets.token_hex(8)
        self._machine = host.machine()
        self._memory = Memory()
        self._units = Units(lambda: self.enforcer.again())
        self._faults: dict[str, str] = {}
        self._done = asyncio.Event()
        self._build()

    def _build(self) -> None:
        uuid, loaded = self.trust.workload, self.disk.load()
        is_ours = loaded.record is not None and loaded.record.workload == uuid
        record, held = (loaded.record, loaded.held()) if is_ours else (None, None)
        if is_ours:
            self.disk.keep_before(loaded)
        self.held = held or replayed(Held(uuid), journal.heard(self.config.directory, uuid).messages)
        self.enforcer = Enforcer(
            self.held, self.point, self.disk, works=self.works, tell=self.tell, on_realised=self._on_realised,
            on_intent=self._on_intent, clock=self.clock, record=record,
            timing=Timing(self.config.watch_s, self.config.audit_s),
        )  # fmt: skip
        self.footing = self.enforcer.footing
        self.link = Link(
            self.bus, self.held, Reader(self.trust.message_keys), self.enforcer, self.spool,
            beat=self.heartbeat, order=self._carry_out, clock=self.clock, heartbeat_s=self.config.heartbeat_s,
        )  # fmt: skip
        if loaded.problem:
            self.tell(Event(self.clock.wall_s(), "disk-damaged", loaded.problem))
        self.reload()

    async def run(self) -> None:
        """Until cancelled, or told to stop. The rules stay."""
        server = await self._listen()
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "enforcer": self.enforcer.run, "link": self.link.run, "channel": self._keep_channel,
            "watchdog": self._keep_watchdog, "units": self._units.run, "memory": self._memory.run,
            "addresses": Addresses(self.config.netns, self._readdressed).run,
        }  # fmt: skip
        if self.observer is not None:
            parts["observer"] = self.observer.run
        if self.config.metrics_file is not None:
            parts["metrics"] = partial(metrics.keep, self.config.metrics_file, self.heartbeat)
        if self.renew is not None:
            parts["renewal"] = self.renew
        tasks = [asyncio.create_task(self._keep(name, part), name=name) for name, part in parts.items()]
        notify("READY=1")
        try:
            await self._done.wait()
        finally:
            notify("STOPPING=1")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.enforcer.close()
            if server is not None:
                server.close()
                self.config.socket.unlink(missing_ok=True)

    async def _listen(self) -> asyncio.Server | None:
        """For whoever asks on this host; None where its folder takes nothing: rules are kept all the same."""
        try:
            return await serve(self.config.socket, self.respond)
        except OSError as error:
            why = error.strerror or str(error)
            self.tell(Event(self.clock.wall_s(), "control-refused", f"nobody on this host can ask the agent: {why}"))
            return None

    def stop(self) -> None:
        self._done.set()

    async def _keep(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        """Run it again whenever it ends."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                await part()
                why = "it ended"
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                _log.exception("the %s failed", name)
            failures = 0 if time.monotonic() - began > _RESTART_S[1] else failures + 1
            if failures == 1:
                self.tell(Event(self.clock.wall_s(), "part-failed", f"the {name} of the agent failed", (why,)))
            self._faults[name] = why
            await asyncio.sleep(min(_RESTART_S[1], _RESTART_S[0] * 2.0**failures) * random.uniform(0.5, 1.0))

    # ---- the way to the controller ----------------------------------------------------------------------------------

    async def works(self, wanted: tuple[Probe, ...]) -> tuple[str, ...]:
        """What does not, under the rules of now: the controller's answer, a new connection to it, the probes."""
        ways = [Probe(*end) for end in self._servers()]
        answers, blocked, failed = await asyncio.gather(
            self.link.ask_state(),
            probes.failures(ways, netns=self.config.netns),
            probes.failures(wanted, netns=self.config.netns),
        )
        problems = [] if answers else ["the controller does not answer"]
        if ways and len(blocked) == len(ways):
            problems += blocked
        return (*problems, *failed)

    def _servers(self) -> list[tuple[str, int]]:
        parts = [urlsplit(url) for url in self.trust.nats]
        return [(part.hostname, part.port or 4222) for part in parts if part.hostname]

    async def _keep_channel(self) -> None:
        """Follow the addresses of the controller; a name that does not resolve now keeps those it had."""
        while True:
            api = urlsplit(self.trust.controller)
            ends = [*self._servers(), *([(api.hostname, api.port or 443)] if api.hostname else [])]
            found = await asyncio.gather(*(asyncio.to_thread(_resolved, name, port) for name, port in ends))
            channel = passages_to(end for some in found for end in some)
            if ends and all(found):
                self.enforcer.follow(channel)
            self._show_channel()
            await asyncio.sleep(_RESOLVE_S)

    def _readdressed(self, interfaces: tuple[Interface, ...]) -> None:
        """Tell it at once, over a connection that does not come from an address that is gone."""
        self.bus.come_from({address for one in interfaces for address in one.addresses})
        self.link.beat()

    # ---- telling ----------------------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        self.link.tell(event)

    def _on_realised(self, realised: Realised) -> None:
        notify(f"STATUS={realised.state}, revision {realised.assignment}")
        self.link.tell_realised(realised)

    def _on_intent(self, intent: Intent) -> None:
        self._memory.used()
        self._units.follow({part.unit for part in intent.parts if part.unit})
        if self.observer is not None:
            self.observer.intent = intent

    def _show_channel(self) -> None:
        if self.observer is not None:
            self.observer.channel = self.enforcer.footing.channel

    def heartbeat(self) -> Heartbeat:
        used, most = host.conntrack_fill(self.config.netns)
        interfaces = host.interfaces(self.config.netns)
        stats, disabled, policy = self.spool.stats(), self.footing.disabled, self.footing.in_force
        return Heartbeat(
            at=self.clock.wall_s(), instance=self.instance, machine=self._machine, version=__version__,
            protocol=PROTOCOL, state=self.held.state, realised=self.enforcer.realised,
            interfaces=interfaces or (), is_blind=interfaces is None, conntrack_used=used, conntrack_max=most,
            rss_bytes=host.rss_bytes(), cpu_s=host.cpu_s(), spool_bytes=stats.disk_bytes + stats.memory_bytes,
            lost=self._lost(), disabled_until=disabled.until if disabled else 0.0,
            mode=policy.mode if policy is not None else Mode(), forwards=host.forwards(self.config.netns),
        )  # fmt: skip

    def _lost(self) -> int:
        seen = self.observer.stats().lost if self.observer is not None else 0
        return sum(self.spool.stats().lost.values()) + seen

    # ---- orders and questions ---------------------------------------------------------------------------------------

    async def _carry_out(self, order: Order) -> None:
        if order.what == "evidence":
            await self.collect(order.id, with_command_lines=order.argument == evidence.WITH_COMMAND_LINES)
        elif order.what == "renew" and self.renew_now is not None:
            await self.renew_now()
        elif order.what == "uninstall" and self.uninstall is not None:
            await self.uninstall(order.argument)
            self.stop()

    async def collect(self, id: str, *, with_command_lines: bool = False) -> bytes:
        """A bundle, on its way in parts."""
        bundle = await asyncio.to_thread(evidence.bundle, self._evidence(with_command_lines), self.clock.wall_s())
        for part in split(bundle, id):
            self.spool.put("evidence", part)
        self.link.drain()
        return bundle

    def _evidence(self, with_command_lines: bool) -> evidence.Parts:
        snapshot, realised, policy = self.held.snapshot(), self.enforcer.realised, self.footing.in_force
        return {
            **evidence.of_host(netns=self.config.netns, with_command_lines=with_command_lines),
            **evidence.of_spool(self.spool),
            "held.json": lambda: msgspec.json.encode(snapshot),
            "realised.json": lambda: msgspec.json.encode(realised),
            "rules.nft": lambda: self.point.text(policy).encode() if policy is not None else b"",
        }

    async def respond(self, question: Question) -> Answer:
        """What root on this host asks."""
        if question.do == "evidence":
            bundle = await self.collect(f"local-{secrets.token_hex(4)}", with_command_lines=bool(question.argument))
            return Answer(evidence=bundle)
        if question.do == "metrics":
            return Answer(metrics=metrics.exposition(metrics.metrics_of(self.heartbeat())))
        if question.do == "reload":
            self.reload()
        if question.do == "stop":
            self.stop()
        return Answer(status=self.status())

    def reload(self) -> None:
        """Read again whether policy is disabled here, and tell it."""
        found, before = breakglass.last(self.disk.folder), self.footing.disabled
        is_on = found is not None and found.left_s(self.clock) > 0
        if found is not None and found != before:
            details = (
                f"for {found.until - found.since:.0f} s",
                f"by {found.by}",
                f"even quarantine: {found.even_quarantine}",
            )
            self.tell(Event(self.clock.wall_s(), "disabled", found.why, details))
        if (before is not None or found is not None) and not is_on:
            self.tell(Event(self.clock.wall_s(), "enabled", "policy is enforced again on this host"))
            breakglass.forget(self.disk.folder)
        self.footing.disabled = found if is_on else None
        self.enforcer.news()

    def status(self) -> Status:
        enforcer, policy, spooled = self.enforcer, self.footing.in_force, self.spool.stats()
        newest = self.held.pending or self.held.assignment
        disabled = self.footing.disabled
        answered = self.link.answered_at
        return Status(
            workload=self.held.workload, realised=enforcer.realised, name=policy.name if policy else "",
            mode={"in": policy.mode.inbound, "out": policy.mode.outbound} if policy else {},
            held_revision=newest.revision if newest else 0, groups=len(self.held.groups),
            peers=sum(len(peer.addresses) for peer in policy.peers) if policy else 0,
            trial_left_s=enforcer.trial_left_s, rejected=self.footing.rejected, is_cloned=enforcer.is_cloned,
            is_connected=self.bus.is_connected, why_not=str(getattr(self.bus, "last_error", "")),
            answered_ago_s=time.monotonic() - answered if answered else None,
            disabled_until=disabled.until if disabled else 0.0, disabled_why=disabled.why if disabled else "",
            clock_offset_s=self.clock.offset_s, certificate_until=self.certificate_until,
            waiting_messages=spooled.messages, waiting_bytes=spooled.disk_bytes + spooled.memory_bytes,
            lost=self._lost(), rss_bytes=host.rss_bytes(), cpu_s=host.cpu_s(),
            faults=(*(f"{name}: {why}" for name, why in self._faults.items()), *self._observer_faults()),
        )  # fmt: skip

    def _observer_faults(self) -> tuple[str, ...]:
        return self.observer.stats().faults if self.observer is not None else ()

    # ---- systemd ----------------------------------------------------------------------------------------------------

    async def _keep_watchdog(self) -> None:
        """Tell systemd that the loop turns (sd_notify(3), WATCHDOG_USEC)."""
        pause = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
        while True:
            notify("WATCHDOG=1")
            await asyncio.sleep(pause or 3600.0)


def notify(text: str) -> None:
    """A word to systemd, where it runs this."""
    where = os.environ.get("NOTIFY_SOCKET")
    if not where:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(text.encode(), "\0" + where[1:] if where[0] == "@" else where)
        except OSError as error:
            _log.debug("systemd does not listen: %s", error)


def _resolved(name: str, port: int) -> list[tuple[int, int]]:
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [(parse_address(str(where[0]).partition("%")[0]), port) for *_, where in found]
