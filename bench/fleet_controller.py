"""A real controller with an estate and its agents: state written as enrolment writes it, agents on paper.

async with fleet(estate, folder, agents=...) as ground:
    ground.controller      started; SQLite, nats-server as its child
    await ground.followed(work)     do something that is news, and wait until every host said that it has it
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from bench.bus_clients import cpu_of, rss_of
from bench.paper_agents import Cost, Ground, PaperFleet, Report
from ringfence.controller import audit
from ringfence.controller.controller import Controller, Settings
from ringfence.controller.desired.desired import News
from ringfence.controller.identity.ca import csr_of, key_pem, new_key
from ringfence.core.identity.workload import derived_uuid
from ringfence.core.net.address import V4_BASE
from ringfence.ports.state import Certificate, Change, LeaseRecord, PolicyVersion, Rollout, WorkloadRecord
from ringfence.wire import subjects
from ringfence.wire.messages import Realised

_PATIENCE_S: Final = 180.0
_LOOK_S: Final = 0.002
ANN: Final = "ann"


class Host(NamedTuple):
    """A workload with an agent."""

    name: str
    labels: dict[str, str]
    number: int
    """Which address it has, in 10.0.0.0/8."""

    @property
    def uuid(self) -> str:
        return derived_uuid(self.name)

    @property
    def address(self) -> int:
        return V4_BASE + (10 << 24) + 256 + self.number


class Estate(NamedTuple):
    """Hosts, and the policies in force among them."""

    hosts: tuple[Host, ...]
    policies: dict[str, str]


class Spent(NamedTuple):
    """CPU seconds of each part."""

    controller: float
    nats: float
    agents: float

    def since(self, before: Spent) -> Spent:
        return Spent(*(now - then for now, then in zip(self, before, strict=True)))

    @property
    def total(self) -> float:
        return sum(self)


class Followed(NamedTuple):
    """One change on its way. Seconds from the call, by host."""

    revision: int
    answered_s: float
    """The call returned: stored, compiled, told."""
    compiled_s: float
    arrived: Mapping[str, float]
    enforced: Mapping[str, float]
    acknowledged: Mapping[str, float]
    """The controller heard from each that it enforces it."""
    spent: Spent
    messages: int
    size_bytes: int


class _Listening(Controller):
    """Stamps what agents acknowledge, and what is told."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.acknowledged: list[tuple[str, Realised, float]] = []
        self.news: list[tuple[News, float]] = []

    async def start(self) -> str | None:
        token = await super().start()
        tell = self.reconciler.on_news

        async def noted(news: News) -> None:
            if not news.is_empty:
                self.news.append((news, time.monotonic()))
            await tell(news)

        self.reconciler.on_news = noted
        return token

    async def _done(self, subject: str, data: bytes) -> None:
        now = time.monotonic()
        await super()._done(subject, data)
        self.acknowledged.append((subjects.sender(subject), msgspec.json.decode(data, type=Realised), now))


class _Awaited:
    """Who has to say what for one change to be everywhere."""

    def __init__(self, connected: frozenset[str]) -> None:
        self._connected = connected
        self.changes: dict[str, int] = {}
        self.assignments: dict[str, int] = {}
        self.hosts: set[str] = set()
        self.told = 0

    def add(self, news: News) -> None:
        for hosts, change in news.changes:
            self.changes |= dict.fromkeys(self._connected.intersection(hosts), change.revision)
        for uuid, assignment in news.assignments.items():
            if uuid in self._connected:
                self.assignments[uuid] = assignment.revision
        self.hosts |= self.changes.keys() | self.assignments.keys()

    def is_it(self, uuid: str, *, assignment: int, change: int) -> bool:
        return change >= self.changes.get(uuid, 0) and assignment >= self.assignments.get(uuid, 0)


class FleetGround:
    """One controller and its agents."""

    def __init__(self, controller: _Listening, paper: PaperFleet, connected: tuple[Host, ...], made_s: float) -> None:
        self.controller, self.paper, self.connected, self.made_s = controller, paper, connected, made_s
        self._uuids = frozenset(host.uuid for host in connected)

    @property
    def nats(self) -> int:
        """Its process."""
        server = self.controller.fabric.server
        assert server is not None
        assert server.pid is not None
        return server.pid

    async def spent(self) -> Spent:
        cost = await self.paper.cost()
        return Spent(time.process_time(), cpu_of(self.nats), cost.cpu_s)

    async def cost(self) -> Cost:
        return await self.paper.cost()

    def rss_mb(self) -> tuple[float, float]:
        """Of the controller and of nats-server."""
        own = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
        return own / 1e6, rss_of(self.nats) / 1e6

    async def followed(self, work: Callable[[], Awaitable[object]]) -> Followed:
        """Do it, and wait until every connected host that it concerns said that it enforces it."""
        await self.paper.reports()
        before, told, size = await self.spent(), self.controller.distributor.messages, self.controller.distributor.bytes
        self.controller.acknowledged.clear()
        self.controller.news.clear()
        began = time.monotonic()
        await work()
        answered = time.monotonic()
        awaited = await self._everywhere()
        spent = (await self.spent()).since(before)
        compiled = self.controller.news[-1][1]
        times = _times(await self.paper.reports(), awaited, began)
        said = ((u, Report(u, r.assignment, r.change, at, at)) for u, r, at in self.controller.acknowledged)
        acknowledged = {u: r.enforced for u, r in _first((r for _, r in said), awaited).items()}
        return Followed(
            self.controller.news[-1][0].revision,
            answered - began,
            compiled - began,
            {uuid: arrived for uuid, (arrived, _) in times.items()},
            {uuid: enforced for uuid, (_, enforced) in times.items()},
            {uuid: at - began for uuid, at in acknowledged.items()},
            spent,
            self.controller.distributor.messages - told,
            self.controller.distributor.bytes - size,
        )

    async def _everywhere(self) -> _Awaited:
        """Raises TimeoutError."""
        deadline, heard, counted = time.monotonic() + _PATIENCE_S, 0, 0
        awaited, done = _Awaited(self._uuids), set[str]()
        while time.monotonic() < deadline:
            while counted < len(self.controller.news):
                awaited.add(self.controller.news[counted][0])
                counted, heard, done = counted + 1, 0, set()
            while heard < len(self.controller.acknowledged):
                uuid, said, _ = self.controller.acknowledged[heard]
                heard += 1
                if awaited.is_it(uuid, assignment=said.assignment, change=said.change):
                    done.add(uuid)
            if counted and done >= awaited.hosts:
                return awaited
            await asyncio.sleep(_LOOK_S)
        raise TimeoutError(f"{len(awaited.hosts - done)} hosts do not enforce it")

    async def settled(self) -> None:
        """Return once every agent enforces exactly what the controller compiled for it. Raises TimeoutError."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            found = await self.paper.digests()
            if len(found) == len(self.connected) and not await asyncio.to_thread(self._wrong, found):
                return
            await asyncio.sleep(0.2)
        raise TimeoutError(f"{len(self.connected) - len(found)} agents have nothing, or not what is intended")

    def _wrong(self, digests: Mapping[str, str], most: int = 400) -> list[str]:
        """Of some hosts (all, where there are few), those whose intent is not the one compiled whole."""
        desired = self.controller.reconciler.desired
        step = max(1, len(self.connected) // most)
        wrong = []
        for host in self.connected[::step]:
            compiler = desired._compiled_for(host.uuid).compiler
            wanted = compiler.compile(desired.inputs.inventory.by_uuid[host.uuid])
            if wanted.digest != digests[host.uuid]:
                wrong.append(host.uuid)
        return wrong


def _first(reports: object, awaited: _Awaited) -> dict[str, Report]:
    first: dict[str, Report] = {}
    for report in reports:  # type: ignore[attr-defined]
        if report.uuid in awaited.hosts and awaited.is_it(
            report.uuid, assignment=report.assignment, change=report.change
        ):
            first.setdefault(report.uuid, report)
    return first


def _times(reports: list[Report], awaited: _Awaited, began: float) -> dict[str, tuple[float, float]]:
    """(heard first, enforced all of it) of each host."""
    heard: dict[str, float] = {}
    for report in reports:
        heard.setdefault(report.uuid, report.arrived)
    done = _first(reports, awaited)
    return {uuid: (heard[uuid] - began, report.enforced - began) for uuid, report in done.items()}


@asynccontextmanager
async def fleet(
    estate: Estate, folder: Path, connected: tuple[Host, ...], *, processes: int = 2
) -> AsyncIterator[FleetGround]:
    """`connected`: the hosts whose agents run."""
    began = time.monotonic()
    settings = Settings(folder / "controller", bus_port=0, host="127.0.0.1")
    controller = _Listening(settings)
    await _write(controller, estate, connected, folder)
    await controller.start()
    server = controller.fabric.server
    assert server is not None
    keys = tuple(controller.signing.trusted)
    ground = Ground(server.port, folder, keys)
    paper = PaperFleet(ground, [(host.uuid, host.address) for host in connected], processes=processes)
    try:
        await paper.start()
        made = FleetGround(controller, paper, connected, 0.0)
        await made.settled()
        made.made_s = time.monotonic() - began
        yield made
    finally:
        await paper.close()
        await controller.close()


async def _write(controller: Controller, estate: Estate, connected: tuple[Host, ...], folder: Path) -> None:
    """The state after everybody enrolled, was published for, and said their addresses; keys of those who connect."""
    now = datetime.now(UTC)
    certificates = [_certified(controller, host, folder, now) for host in connected]
    (folder / "roots.pem").write_bytes(controller.authority.bundle)

    def work(tx: Change) -> None:
        tx.add(*(_record(host, now) for host in estate.hosts))
        tx.add(*(LeaseRecord("main", host.address, host.uuid, now, None, "agent") for host in estate.hosts))
        tx.add(*certificates)
        tx.add(PolicyVersion(1, now, ANN, "", estate.policies, "", "bench"), Rollout("r1", 1, "done", now))
        audit.record(tx, at=now, actor=ANN, action="bench", subject="estate")

    await controller.state.write(work)


def _record(host: Host, now: datetime) -> WorkloadRecord:
    return WorkloadRecord(host.uuid, host.name, host.labels, now, mode_in="enforce", mode_out="enforce", last_seen=now)


def _certified(controller: Controller, host: Host, folder: Path, now: datetime) -> Certificate:
    key = new_key()
    issued = controller.authority.issue_svid(csr_of(key), UUID(host.uuid), now=now)
    (folder / f"{host.uuid}.pem").write_bytes(key_pem(key) + issued.certificate)
    return Certificate(issued.serial, host.uuid, issued.fingerprint, issued.not_before, issued.not_after)
