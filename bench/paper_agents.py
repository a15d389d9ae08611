"""Many agents in one process: the real state of an agent (`Held`), its messages and its questions, over the real bus
with its own certificate; only the kernel is paper. What is enforced is the intent that was assembled, with its digest.

    fleet = PaperFleet(Ground(port, folder, keys), uuids)       a process
    await fleet.start()           every agent is connected
    fleet.reports()               what each did since last asked: when it heard, when it enforced

An arrival is stamped before anything is worked out for any agent of the process, so that their number does not hide
the bus. What is enforced waits for the agents of this process before it: on hosts of their own nobody waits.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.bus_clients import AT_ONCE, BusClient, agent_context, allow_many_files, connect, rss_of
from ringfence.agent.held.held import Held
from ringfence.core.intent.model import Intent
from ringfence.wire import subjects
from ringfence.wire.envelope import PROTOCOL, Reader
from ringfence.wire.messages import Change, Expected, Fetch, Heartbeat, Interface, Order, Pieces, Realised

BARE = b"bare"
"""What begins so is no message: its arrival is noted, and nothing else done."""
HEARTBEAT_S = 10.0
_ANSWER_S = 5.0
_ROOT = Path(__file__).resolve().parents[1]


class Ground(NamedTuple):
    """Where the agents find what they need."""

    port: int
    folder: Path
    """`roots.pem`, and `UUID.pem` of each agent."""
    keys: tuple[bytes, ...]
    """That seal messages."""


class Report(NamedTuple):
    """One agent enforces something new. Times are of the monotonic clock, which all processes share."""

    uuid: str
    assignment: int
    change: int
    arrived: float
    enforced: float
    digest: str = ""


class Cost(NamedTuple):
    """Of one process since it began."""

    cpu_s: float
    rss_bytes: int
    worked_s: float
    """CPU inside agents: opening, holding, assembling, telling; without the connections."""
    worked: int
    """Messages dealt with."""
    refused: int
    """Connections that were tried again."""


class PaperAgent:
    """One host."""

    def __init__(self, uuid: str, address: int, process: AgentsProcess) -> None:
        self.uuid, self.held, self._process = uuid, Held(uuid), process
        self.intent: Intent | None = None
        self._interfaces = (Interface("eth0", (address,)),)
        self._realised = Realised("pending")
        self._change = 0
        self._arrived = 0.0
        self._is_asking, self._asked = False, 0
        self._client: BusClient | None = None
        self._ask_subject, self._inbox = subjects.up(uuid, "ask"), subjects.inbox(uuid)
        self._instance = f"paper-{uuid[:8]}"

    async def connect(self, ground: Ground) -> None:
        words = (subjects.down(self.uuid), subjects.ISOLATIONS, f"{self._inbox}.>")
        context = agent_context(ground.folder, self.uuid)
        while self._client is None:
            try:
                self._client = await connect(ground.port, lambda: BusClient(words, self._heard), context)
            except OSError:  # too many at once: the controller did not judge it in time
                self._process.refused += 1
                await asyncio.sleep(random.uniform(0.5, 1.5))
        self._beat()
        self._ask(Fetch(assignment=True, isolations=True))

    # ---- hearing ----------------------------------------------------------------------------------------------------

    def _heard(self, subject: str, data: bytes) -> None:
        now = time.monotonic()
        if data.startswith(BARE):
            self._process.reports.append(Report(self.uuid, 0, 0, now, now))
            return
        self._process.later(self, data, now)

    def take(self, data: bytes, arrived: float) -> None:
        """One sealed message."""
        message = self._process.reader.open(data)
        if isinstance(message, Expected):
            if message.state != self.held.state and not self._is_asking:
                self._ask(self.held.everything)
            return
        if isinstance(message, Order):
            return
        if isinstance(message, Pieces):
            self._is_asking = False
        self._arrived = self._arrived or arrived
        is_news = self.held.take(message)
        if isinstance(message, Change):
            is_news |= message.revision > self._change  # it may have been fetched before it came
            self._change = max(self._change, message.revision)
        if is_news:
            self._enforce()
        wanted = self.held.wants
        if wanted is not None and not self._is_asking:
            self._ask(wanted)

    def _enforce(self) -> None:
        intent, assignment = self.held.intent(datetime.now(UTC)), self.held.assignment
        if intent is None or assignment is None:
            return
        self.held.confirm(assignment)
        self.held.take_news()
        isolations = self.held.isolations.revision if self.held.isolations else 0
        told = Realised(
            "realised", assignment.revision, self._change, isolations, intent.digest,
            policy_version=assignment.policy_version,
        )  # fmt: skip
        self.intent = intent
        if told == msgspec.structs.replace(self._realised, at=0.0):
            return
        enforced, self._realised = time.monotonic(), msgspec.structs.replace(told, at=time.time())
        self._say(subjects.up(self.uuid, "done"), self._realised)
        self._process.reports.append(
            Report(self.uuid, told.assignment, told.change, self._arrived or enforced, enforced, told.digest)
        )
        if self.held.pending is None:
            self._arrived = 0.0

    # ---- saying -----------------------------------------------------------------------------------------------------

    def _ask(self, fetch: Fetch) -> None:
        self._is_asking, self._asked = True, self._asked + 1
        self._say(self._ask_subject, fetch, f"{self._inbox}.ask")
        asyncio.get_running_loop().call_later(_ANSWER_S, self._give_up, self._asked)

    def _give_up(self, number: int) -> None:
        """What was asked for is not answered: ask again."""
        if not self._is_asking or number != self._asked:
            return
        self._is_asking = False
        wanted = self.held.wants
        if wanted is not None:
            self._ask(wanted)

    def _beat(self) -> None:
        heartbeat = Heartbeat(
            time.time(), self._instance, "paper", "0", PROTOCOL, self.held.state, self._realised,
            interfaces=self._interfaces, nonce=os.urandom(8).hex(),
        )  # fmt: skip
        self._say(subjects.up(self.uuid, "beat"), heartbeat, f"{self._inbox}.beat")
        asyncio.get_running_loop().call_later(HEARTBEAT_S * random.uniform(0.8, 1.2), self._beat)

    def _say(self, subject: str, message: msgspec.Struct, reply: str = "") -> None:
        if self._client is not None:
            self._client.publish(subject, msgspec.json.encode(message), reply)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


class AgentsProcess:
    """All agents of this process, and the parent's questions."""

    def __init__(self, ground: Ground, pipe: Connection) -> None:
        self.reader = Reader(ground.keys)
        self.reports: list[Report] = []
        self.refused = 0
        self._ground, self._pipe = ground, pipe
        self._agents: list[PaperAgent] = []
        self._waiting: deque[tuple[PaperAgent, bytes, float]] = deque()
        self._worked_s, self._worked = 0.0, 0
        self._done = asyncio.Event()

    def later(self, agent: PaperAgent, data: bytes, arrived: float) -> None:
        """Deal with a message once nothing more is to be read: one a turn of the loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._work)
        self._waiting.append((agent, data, arrived))

    def _work(self) -> None:
        began = time.thread_time()
        agent, data, arrived = self._waiting.popleft()
        try:
            agent.take(data, arrived)
        finally:
            self._worked_s += time.thread_time() - began
            self._worked += 1
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._work)

    async def run(self, hosts: Sequence[tuple[str, int]]) -> None:
        self._agents = [PaperAgent(uuid, address, self) for uuid, address in hosts]
        gate = asyncio.Semaphore(AT_ONCE)

        async def connected(agent: PaperAgent) -> None:
            async with gate:
                await agent.connect(self._ground)

        await asyncio.gather(*map(connected, self._agents))
        gc.collect()
        gc.freeze()  # what is collected must not be what is measured
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._asked)
        self._pipe.send("ready")
        await self._done.wait()
        for agent in self._agents:
            agent.close()

    def _asked(self) -> None:
        try:
            word = self._pipe.recv()
        except EOFError:
            word = "end"
        if word == "reports":
            self._pipe.send(self.reports)
            self.reports = []
        elif word == "digests":
            self._pipe.send({one.uuid: one.intent.digest for one in self._agents if one.intent is not None})
        elif word == "cost":
            self._pipe.send(Cost(time.process_time(), rss_of(os.getpid()), self._worked_s, self._worked, self.refused))
        elif word == "end":
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            self._done.set()


async def _play(pipe: Connection) -> None:
    ground, hosts = pipe.recv()
    await AgentsProcess(ground, pipe).run(hosts)


class PaperFleet:
    """Processes of agents, as their parent sees them."""

    def __init__(self, ground: Ground, hosts: Sequence[tuple[str, int]], *, processes: int = 2) -> None:
        """`hosts`: (UUID, address) of each."""
        self._ground = ground
        self._shares = [hosts[part::processes] for part in range(processes) if hosts[part::processes]]
        self._parts: list[tuple[subprocess.Popen[bytes], Connection]] = []

    async def start(self) -> None:
        """Return once every agent is connected."""
        for hosts in self._shares:
            ours, theirs = Pipe()
            command = [sys.executable, "-m", "bench.paper_agents", str(theirs.fileno())]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=_ROOT)
            theirs.close()
            ours.send((self._ground, hosts))
            self._parts.append((process, ours))
        for _, pipe in self._parts:
            if await _received(pipe) != "ready":
                raise ConnectionError("agents do not connect")

    async def ask(self, word: str) -> list[Any]:
        """The answer of each process: `reports`, `digests`, `cost`."""
        for _, pipe in self._parts:
            pipe.send(word)
        return [await _received(pipe) for _, pipe in self._parts]

    async def reports(self) -> list[Report]:
        """What was enforced since last asked."""
        return [report for some in await self.ask("reports") for report in some]

    async def digests(self) -> dict[str, str]:
        """What each agent enforces."""
        return {uuid: digest for some in await self.ask("digests") for uuid, digest in some.items()}

    async def cost(self) -> Cost:
        """Of all processes together."""
        costs: list[Cost] = await self.ask("cost")
        return Cost(*map(sum, zip(*costs, strict=True)))

    async def close(self) -> None:
        """Every agent ends."""
        for _, pipe in self._parts:
            with suppress(OSError):
                pipe.send("end")
        for process, _ in self._parts:
            try:
                await asyncio.to_thread(process.wait, 10)
            except subprocess.TimeoutExpired:
                process.kill()


async def _received(pipe: Connection) -> Any:
    return await asyncio.to_thread(pipe.recv)


if __name__ == "__main__":
    from bench.paper_agents import _play as play  # under the name its messages are pickled by

    allow_many_files()
    asyncio.run(play(Connection(int(sys.argv[1]))))
