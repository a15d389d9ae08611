"""A controller that says what a test tells it to, over a bus in memory, and hears everything an agent says."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from nacl.signing import SigningKey

from ringfence.agent.clock import Clock
from ringfence.agent.config import Config
from ringfence.agent.held.disk import Trust
from ringfence.agent.point import How, Point, Tried
from ringfence.agent.run import Agent
from ringfence.bus.memory import MemoryBroker, MemoryBus
from ringfence.core.errors import Finding, FindingsError, TargetError
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.model import Cell, Intent, Part
from ringfence.core.intent.pieces import Body, ClassPlan, Group, Isolation, Station
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import parse_service
from ringfence.ports.target import Observed
from ringfence.wire import subjects
from ringfence.wire.envelope import seal
from ringfence.wire.messages import (
    Assignment,
    Change,
    Down,
    Event,
    Events,
    Expected,
    Fetch,
    GroupChange,
    GroupState,
    Heartbeat,
    Isolations,
    Pieces,
    Probe,
    Realised,
    Trial,
    digest_of_state,
)

UUID = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
PATIENCE_S = 60.0
OWN = tuple(sorted(map(parse_address, ("172.20.0.2", "172.20.0.3", "fd20::2", "fd20::3"))))
WEB = "web"


def body(*services: str, ranges: tuple[tuple[int, int], ...] = (), out: str = "any") -> Body:
    """The group `web` may come in on these services; everybody may be gone out to on `out`."""
    classes = (ClassPlan(1, WEB, (WEB,), ranges),)
    coming = tuple(Cell(1, parse_service(service), "allow", f"shop/{service}") for service in services)
    going = tuple(Cell(peer, parse_service(out), "allow", "shop/out") for peer in (0, 1)) if out else ()
    return Body(classes, (Part("in", coming), Part("out", going)))


class Controller:
    """What it knows is what the test set; what it hears is kept."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.bus = MemoryBus(self.broker)
        self.key = SigningKey.generate()
        self.bodies: dict[str, Body] = {}
        self.group = GroupState(Group(WEB, ()), 1)
        self.assignment: Assignment | None = None
        self.isolations = Isolations(1, ("main",))
        self.is_cloned = False
        self.offset_s = 0.0
        self.answers = True
        self.gives = True
        """Whether what is fetched is given."""
        self.answers_to = UUID
        self.realised: list[Realised] = []
        self.beats: list[Heartbeat] = []
        self.events: list[Event] = []
        self.evidence: list[bytes] = []
        self.fetches: list[Fetch] = []
        self._revision = 10

    async def start(self) -> None:
        for what, answer in (("beat", self._beat), ("ask", self._ask), ("done", self._done)):
            await self.bus.subscribe(subjects.UP_EVERYONE.format(what), answer)
        await self.bus.consume("events", subjects.kept("*", "events"), self._events)
        await self.bus.consume("evidence", subjects.kept("*", "evidence"), self._evidence)

    def trust(self) -> Trust:
        return Trust(UUID, "estate.test", "", (), (bytes(self.key.verify_key),))

    # ---- saying -----------------------------------------------------------------------------------------------------

    async def say(self, message: Down, *, key: SigningKey | None = None) -> None:
        subject = subjects.ISOLATIONS if isinstance(message, Isolations) else subjects.down(UUID)
        await self.bus.publish(subject, seal(message, key or self.key))

    def assign(self, made: Body, *, mode: str = "enforce", trial: Trial | None = None, **more: object) -> Assignment:
        """A new policy, known to whoever asks."""
        self._revision += 1
        self.bodies[made.digest] = made
        station = Station(UUID, "web-1", Mode.both(mode), OWN, made.digest, revision=self._revision)  # type: ignore[arg-type]
        self.assignment = Assignment(self._revision, station, self._revision - 10, trial=trial, **more)  # type: ignore[arg-type]
        return self.assignment

    def move(self, *, added: Iterable[str] = (), removed: Iterable[str] = ()) -> Change:
        """Addresses come to the group, and leave."""
        self._revision += 1
        came, gone = tuple(map(parse_address, added)), tuple(map(parse_address, removed))
        now = tuple(sorted({*self.group.group.addresses, *came} - {*gone}))
        change = GroupChange(WEB, self.group.version, self._revision, came, gone)
        self.group = GroupState(Group(WEB, now), self._revision)
        return Change(self._revision, (change,))

    def isolate(self, *isolations: Isolation) -> Isolations:
        self._revision += 1
        self.isolations = Isolations(self._revision, ("main",), isolations)
        return self.isolations

    # ---- hearing ----------------------------------------------------------------------------------------------------

    async def _beat(self, _: str, data: bytes) -> bytes | None:
        self.beats.append(msgspec.json.decode(data, type=Heartbeat))
        if not self.answers:
            return None
        revision = self.assignment.revision if self.assignment else 0
        state = digest_of_state(revision, self.isolations.revision, {WEB: self.group.version})
        state = state if self.assignment else ""
        nonce = self.beats[-1].nonce
        expected = Expected(state, time.time() + self.offset_s, self.is_cloned, self.answers_to, nonce)
        return seal(expected, self.key)

    async def _ask(self, _: str, data: bytes) -> bytes | None:
        fetch = msgspec.json.decode(data, type=Fetch)
        self.fetches.append(fetch)
        if not (self.answers and self.gives):
            return None
        pieces = Pieces(
            self.assignment if fetch.assignment else None,
            self.isolations if fetch.isolations else None,
            tuple(self.bodies[digest] for digest in fetch.bodies if digest in self.bodies),
            (self.group,) if WEB in fetch.groups else (),
            workload=self.answers_to,
        )
        return seal(pieces, self.key)

    async def _done(self, _: str, data: bytes) -> None:
        self.realised.append(msgspec.json.decode(data, type=Realised))

    async def _events(self, _: str, data: bytes) -> None:
        self.events += msgspec.json.decode(data, type=Events).events

    async def _evidence(self, _: str, data: bytes) -> None:
        self.evidence.append(data)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


class Note(NamedTuple):
    """Somebody's commit."""

    text: str
    is_tampering: bool = True

    def __str__(self) -> str:
        return self.text


class Watched:
    """A subscription that a test writes to."""

    def __init__(self) -> None:
        self._handle = os.eventfd(0, os.EFD_NONBLOCK)
        self._notes: list[Note] = []

    def tell(self, text: str) -> None:
        self._notes.append(Note(text))
        os.eventfd_write(self._handle, 1)

    def fileno(self) -> int:
        return self._handle

    def read(self) -> list[Note]:
        os.eventfd_read(self._handle)
        notes, self._notes = self._notes, []
        return notes

    def close(self) -> None:
        os.close(self._handle)


class Paper:
    """An enforcement point on paper: what is applied is what is there, unless a test says otherwise."""

    def __init__(self) -> None:
        self.intent: Intent | None = None
        self.applied: list[tuple[Intent, How]] = []
        self.refusing: Callable[[Intent], bool] = lambda _: False
        self.failing = 0
        """How often the kernel says no yet."""
        self.state = "realised"
        self.confirmed = 0
        self.moved: list[tuple[dict[int, list[int]], list[int]]] = []
        self.isolations: list[Intent] = []
        self.on_trial: Tried | None = None
        self.severed = 0
        self.generation = 1
        self._watches: list[Watched] = []

    def converge(self, intent: Intent, how: How) -> Observed:
        if self.refusing(intent):
            raise FindingsError([Finding("unsupported-condition", "no host can do that")])
        if self.failing:
            self.failing -= 1
            raise TargetError("kernel-refused", "the kernel refused it")
        self.applied.append((intent, how))
        self.intent, self.state = intent, "realised"
        return self.observe()

    def move(self, added: Mapping[int, Collection[int]], removed: Collection[int]) -> Observed:
        """Address by address, as the kernel does it."""
        assert self.intent is not None
        if self.failing:
            self.failing -= 1
            raise TargetError("kernel-refused", "the kernel refused it")
        goes = {*removed, *(address for some in added.values() for address in some)}
        assert {*added} <= {peer.id for peer in self.intent.peers}
        peers = tuple(
            msgspec.structs.replace(peer, addresses=tuple(sorted({*peer.addresses} - goes | {*added.get(peer.id, ())})))
            for peer in self.intent.peers
        )
        self.moved.append(({number: sorted(some) for number, some in added.items()}, sorted(removed)))
        self.intent = msgspec.structs.replace(self.intent, peers=peers)
        return self.observe()

    def isolate(self, intent: Intent) -> Observed:
        assert self.intent is not None
        fields = ("is_quarantined", "isolated", "quarantine_passages")
        now = msgspec.structs.replace(self.intent, **{field: getattr(intent, field) for field in fields})
        assert now == intent, "more than quarantine changed"
        self.isolations.append(intent)
        self.intent = intent
        return self.observe()

    def tamper(self) -> None:
        """Somebody changes the rules."""
        self.state = "drifted"
        for watch in self._watches:
            watch.tell("nft (pid 7): rule added to input")

    def audit(self, intent: Intent) -> tuple[str, ...]:
        return () if self.state == "realised" and self.intent == intent else ("a rule was added",)

    def tried(self) -> Tried | None:
        return self.on_trial

    def sever(self) -> int:
        self.severed += 1
        return 0

    def watch(self) -> Watched:
        self._watches.append(Watched())
        return self._watches[-1]

    def close(self) -> None:
        pass

    def observe(self) -> Observed:
        if self.intent is None:
            return Observed("absent")
        return Observed(self.state, self.intent, self.intent.digest if self.state == "realised" else "")  # type: ignore[arg-type]

    def confirm(self) -> None:
        self.confirmed += 1

    def text(self, intent: Intent) -> str:
        return f"table of {intent.name}"

    def remove(self) -> None:
        self.intent = None


class Host:
    """An agent that runs for the length of a `with`."""

    def __init__(
        self, controller: Controller, folder: Path, point: Point, *, clock: Clock | None = None, **options: object
    ) -> None:
        settings = {"heartbeat_s": 0.2, "watch_s": 0.05, **options}
        config = Config(directory=folder, socket=folder / "agent.sock", **settings)  # type: ignore[arg-type]
        self.agent = Agent(config, controller.trust(), MemoryBus(controller.broker), point, clock=clock)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Agent:
        self._task = asyncio.create_task(self.agent.run())
        return self.agent

    async def __aexit__(self, *_: object) -> None:
        self.agent.stop()
        assert self._task is not None
        await self._task
        await self.agent.bus.close()


async def until(holds: Callable[[], object]) -> None:
    """Returns when it comes to hold; fails when only a broken build would wait longer."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        await asyncio.sleep(0.01)


def trial(seconds: int = 60, *probes: Probe) -> Trial:
    return Trial(seconds, probes)
