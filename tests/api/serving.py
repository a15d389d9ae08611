"""A real controller with its API on free ports, in a thread of its own; clients and a scripted host around it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ringfence.agent.enrol import keys
from ringfence.agent.enrol.enrol import enrol, renew
from ringfence.agent.held.disk import Disk
from ringfence.agent.host import machine
from ringfence.api.serve import Api, listen
from ringfence.bus.jetstream import JetStreamBus, options_for_agent
from ringfence.client.client import Client
from ringfence.client.login import Login
from ringfence.controller.controller import Controller, Settings
from ringfence.core.errors import InputError
from ringfence.core.identity.workload import Mode
from ringfence.core.net.address import parse_address
from ringfence.ports.bus import BusError
from ringfence.wire import subjects
from ringfence.wire.envelope import Reader
from ringfence.wire.evidence import split
from ringfence.wire.messages import (
    Assignment,
    Event,
    Events,
    Expected,
    Fetch,
    Heartbeat,
    Interface,
    Isolations,
    Order,
    Pieces,
    Realised,
)

PATIENCE_S = 60.0
_BEAT_S = 10.0
"""As the agent's own: a host that is not heard is offline, however busy the machine is."""
VPC_FIELDS = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action"
    " log-status\n"
)
T = TypeVar("T")


class Loop:
    """An event loop in a thread, and what runs in it as calls."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
        self.loop.close()


class Serving:
    """One controller that serves."""

    def __init__(self, directory: Path, run: Loop, **settings: Any) -> None:
        self.run = run
        listening = listen("127.0.0.1", 0)
        port = listening.getsockname()[1]
        self.controller = Controller(Settings(directory, host="127.0.0.1", port=port, bus_port=0, **settings))
        self.token = run(self._start(listening)) or ""

    async def _start(self, listening: Any) -> str | None:
        token = await self.controller.start()
        self.api = Api(self.controller, listening)
        await self.api.start()
        return token

    def stop(self) -> None:
        self.run(self._stop())

    async def _stop(self) -> None:
        await self.api.stop()
        await self.controller.close()

    @property
    def ca(self) -> str:
        return self.controller.authority.bundle.decode()

    def client(self, token: str | None = None) -> Client:
        return Client(Login(self.controller.settings.url, self.token if token is None else token, self.ca))


@contextmanager
def serving(directory: Path, **settings: Any) -> Iterator[Serving]:
    run = Loop()
    made = Serving(directory, run, **settings)
    try:
        yield made
    finally:
        made.stop()
        run.close()


class Host:
    """A host that says at once that it realised whatever it is told. It enforces nothing."""

    def __init__(self, folder: Path, run: Loop, address: str) -> None:
        self.folder, self.run, self.address = folder, run, parse_address(address)
        self.assignment, self.isolations = 0, 0
        self.assigned: Assignment | None = None
        self.realised: Realised | None = None
        """What it says; none: that it has what it was told."""
        self.isolated: Isolations | None = None
        self.orders: list[Order] = []
        self.asked: list[Expected] = []

    def join(self, token: str) -> str:
        self.joined = self.run(enrol(Disk(self.folder), token))
        self.uuid = self.joined.trust.workload
        return self.uuid

    def renew(self) -> None:
        self.joined = self.run(renew(Disk(self.folder)))

    def connect(self) -> None:
        self.run(self._connect())

    async def _connect(self) -> None:
        self._reader = Reader(self.joined.trust.message_keys)
        secret = self.joined.identity.secret
        options = options_for_agent(self.uuid, self.joined.trust.nats, lambda: keys.context(self.folder), secret)
        self.bus = JetStreamBus(options)
        self.bus.start()
        await self.bus.connected(timeout_s=PATIENCE_S)
        for subject in (subjects.down(self.uuid), subjects.ISOLATIONS):
            await self.bus.subscribe(subject, self._heard)
        await self.bus.flush()
        await self.ask()
        self._beating = asyncio.create_task(self._keep_beating())

    async def ask(self) -> None:
        fetch = msgspec.json.encode(Fetch(assignment=True, isolations=True))
        pieces = self._reader.open(await self.bus.request(subjects.up(self.uuid, "ask"), fetch, timeout_s=PATIENCE_S))
        assert isinstance(pieces, Pieces)
        for message in (pieces.assignment, pieces.isolations):
            if message is not None:
                self._take(message)
        await self.beat()

    async def _heard(self, _: str, data: bytes) -> None:
        message = self._reader.open(data)
        parts = (message.assignment, message.isolations) if isinstance(message, Pieces) else (message,)
        for part in parts:
            self._take(part)
        if any(isinstance(part, Assignment | Isolations) for part in parts):
            await self.beat()

    def _take(self, message: Any) -> None:
        if isinstance(message, Assignment) and message.revision > self.assignment:
            self.assignment, self.assigned = message.revision, message
        if isinstance(message, Isolations) and message.revision > self.isolations:
            self.isolations, self.isolated = message.revision, message
        if isinstance(message, Order):
            self.orders.append(message)

    async def beat(self) -> None:
        version = self.assigned.policy_version if self.assigned else 0
        realised = Realised("realised", self.assignment, 0, self.isolations, policy_version=version, at=time.time())
        realised = self.realised or realised
        heartbeat = Heartbeat(
            time.time(), "boot", machine(), "1.0", 1, "", realised, Mode(), (Interface("eth0", (self.address,)),)
        )
        data = msgspec.json.encode(heartbeat)
        self.asked.append(self._reader.open(await self.bus.request(subjects.up(self.uuid, "beat"), data)))

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            with suppress(BusError):  # the controller is away
                await self.beat()

    def say(self, event: Event) -> None:
        events = Events(f"{event.kind}-{event.at}", events=(event,))
        work = self.bus.keep(subjects.kept(self.uuid, "events"), msgspec.json.encode(events), id=events.sequence)
        self.run(work)

    def send_evidence(self, bundle: bytes, id: str) -> None:
        for number, part in enumerate(split(bundle, id)):
            self.run(self.bus.keep(subjects.kept(self.uuid, "evidence"), part, id=f"{id}-{number}"))

    def close(self) -> None:
        self.run(self._close())

    async def _close(self) -> None:
        self._beating.cancel()
        await self.bus.close()


def eventually(claim: Callable[[], T], *, within_s: float = PATIENCE_S) -> T:
    """What becomes true, once it is."""
    end = time.monotonic() + within_s
    while True:
        found = claim()
        if found or time.monotonic() > end:
            assert found
            return found
        time.sleep(0.05)


def refused(work: Callable[[], object]) -> str:
    """The code something is refused with."""
    try:
        work()
    except InputError as error:
        return error.code
    raise AssertionError("it was not refused")


SHOP = """\
policy: shop
owner: team-shop
scope: app=shop
rules:
  - name: queries
    allow: {from: role=web, to: role=db, service: tcp/5432}
tests:
  - {from: role=web, to: role=db, service: tcp/5432, expect: allowed}
"""


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def flow_lines(count: int) -> bytes:
    """A VPC flow log of an interface `eni-1`, a connection each line."""
    lines = (
        f"2 1 eni-1 10.0.0.1 10.0.1.1 {40_000 + n} 8080 6 10 840 {1_790_000_000 + n} {1_790_000_010 + n} ACCEPT OK\n"
        for n in range(count)
    )
    return (VPC_FIELDS + "".join(lines)).encode()
