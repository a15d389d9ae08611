"""What a real agent costs its host: the program itself, over a real NATS server with mutual TLS, enforcing in a network
namespace, some time after its policy of 50 rules was realised and nothing happens any more.

The limit beside it: a bare interpreter that is connected to the same server by nats-py, over the same TLS.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import msgspec
from nacl.signing import SigningKey

from bench.bench_agent import CLASSES, FIRST, policy
from bench.bus_clients import cpu_of
from ringfence.agent.enrol import keys
from ringfence.agent.held.disk import Disk, Trust
from ringfence.bus.jetstream import JetStreamBus
from ringfence.core.intent.pieces import Body, Group
from ringfence.wire import subjects
from ringfence.wire.envelope import seal
from ringfence.wire.messages import (
    Assignment,
    Expected,
    Fetch,
    GroupState,
    Heartbeat,
    Isolations,
    Pieces,
    Realised,
    digest_of_state,
)

ROOT = Path(__file__).resolve().parents[1]
_UUID = "aaaaaaaa-0000-4000-8000-000000000001"
ARENAS = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072", "OPENBLAS_NUM_THREADS": "1"}
"""As the unit sets them (packaging/systemd)."""
_BARE = """
import asyncio, ssl, sys, nats
async def main(url, identity):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=open(identity).read().partition("# roots\\n")[2])
    context.load_cert_chain(identity)
    await nats.connect(url, tls=context, tls_handshake_first=True)
    print("connected", flush=True)
    await asyncio.Future()
asyncio.run(main(*sys.argv[1:]))
"""


class Footprint(msgspec.Struct):
    """Megabytes of 10^6 bytes; seconds of processor time in a minute."""

    what: str
    rss_mb: float
    pss_mb: float
    private_mb: float
    cpu_s_per_min: float


class Memory(NamedTuple):
    """Of one process, in megabytes of 10^6 bytes (proc(5), smaps_rollup)."""

    rss_mb: float
    pss_mb: float
    private_mb: float


class Held(NamedTuple):
    """All that a host enforces."""

    uuid: str
    body: Body
    assignment: Assignment
    groups: tuple[Group, ...]


async def measured(peers: list[int], idle_s: float) -> list[Footprint]:
    return [await _bare(idle_s), *[await _agent(number, idle_s) for number in peers]]


async def _bare(idle_s: float) -> Footprint:
    with tempfile.TemporaryDirectory() as place:
        async with fleet(Path(place), held(0)) as given:
            command = [sys.executable, "-c", _BARE, given.url, str(given.folder / "identity.pem")]
            with subprocess.Popen(command, env=os.environ | ARENAS, stdout=subprocess.PIPE) as child:
                assert child.stdout is not None
                await asyncio.to_thread(child.stdout.readline)
                try:
                    return await _idle("python + nats-py", child.pid, idle_s)
                finally:
                    child.kill()


async def _agent(peers: int, idle_s: float) -> Footprint:
    netns = f"rff{os.getpid()}"
    subprocess.run(["ip", "netns", "add", netns], check=True)
    try:
        with tempfile.TemporaryDirectory() as place:
            async with fleet(Path(place), held(peers)) as given:
                with agent(given.folder, netns) as child:
                    await given.realised()
                    return await _idle(f"agent, {peers:,} peers", child.pid, idle_s)
    finally:
        subprocess.run(["ip", "netns", "del", netns], check=True)


def held(peers: int) -> Held:
    """The policy that `bench_agent` measures."""
    body, assignment = policy(_UUID)
    addresses = {key: range(FIRST + int(key[1:]), FIRST + peers, CLASSES) for key in body.groups}
    return Held(_UUID, body, assignment, tuple(Group(key, tuple(some)) for key, some in addresses.items()))


@contextmanager
def agent(folder: Path, netns: str, **settings: float) -> Iterator[subprocess.Popen[bytes]]:
    """The program, as its unit starts it."""
    config = folder / "agent.toml"
    lines = (f"{name} = {value}\n" for name, value in settings.items())
    config.write_text(f'directory = "{folder}"\nsocket = "{folder}/agent.sock"\nnetns = "{netns}"\n' + "".join(lines))
    command = [sys.executable, "-m", "ringfence.agent.main", "run", "--config", str(config)]
    with subprocess.Popen(command, env=os.environ | ARENAS, stderr=subprocess.DEVNULL) as child:
        try:
            yield child
        finally:
            child.terminate()


@asynccontextmanager
async def fleet(place: Path, held: Held) -> AsyncIterator[Giver]:
    """A server, the state folder of an agent that is enrolled, and its controller."""
    sys.path.append(str(ROOT / "tests" / "bus"))
    from real_bus import open_fleet

    async with open_fleet(place) as (made, bus):
        folder = place / "agent"
        folder.mkdir(mode=0o700)
        csr = await keys.request(folder)
        issued = made.authority.issue_svid(csr, UUID(held.uuid), now=datetime.now(UTC))
        grant = keys.Grant(issued.certificate.decode(), made.authority.bundle.decode())
        await keys.install(folder, grant, is_enrolment=True)
        assert made.server.pid is not None
        given = Giver(bus, held, folder, made.url, made.server.pid)
        await given.start()
        Disk(folder).save_trust(Trust(held.uuid, "estate.test", "", (given.url,), (given.message_key,)))
        yield given


class Giver:
    """A controller with one policy for one host: it tells what it should hold, and answers what it asks for."""

    def __init__(self, bus: JetStreamBus, held: Held, folder: Path, url: str, server: int) -> None:
        """`folder`: the agent's. `server`: the process that is the bus."""
        self.bus, self.folder, self.url, self.server = bus, folder, url, server
        self._held, self._key = held, SigningKey.generate()
        self._isolations = Isolations(1, ("main",))
        self._groups = {group.key: GroupState(group, 1) for group in held.groups}
        versions = dict.fromkeys(self._groups, 1)
        self._state = digest_of_state(held.assignment.revision, self._isolations.revision, versions)
        self._is_realised = asyncio.Event()
        self.lost = 0
        """Telemetry that the agent's last heartbeat called lost."""

    async def realised(self) -> None:
        """Raises TimeoutError."""
        async with asyncio.timeout(60):
            await self._is_realised.wait()

    async def start(self) -> None:
        for what, answer in (("beat", self._beat), ("ask", self._ask), ("done", self._done)):
            await self.bus.subscribe(subjects.UP_EVERYONE.format(what), answer)
        await self.bus.flush()

    @property
    def message_key(self) -> bytes:
        return bytes(self._key.verify_key)

    async def _beat(self, _: str, data: bytes) -> bytes:
        beat = msgspec.json.decode(data, type=Heartbeat)
        self.lost = beat.lost
        return seal(Expected(self._state, time.time(), workload=self._held.uuid, nonce=beat.nonce), self._key)

    async def _ask(self, _: str, data: bytes) -> bytes:
        fetch = msgspec.json.decode(data, type=Fetch)
        pieces = Pieces(
            self._held.assignment if fetch.assignment else None,
            self._isolations if fetch.isolations else None,
            (self._held.body,) if fetch.bodies else (),
            tuple(self._groups[key] for key in fetch.groups),
            workload=self._held.uuid,
        )
        return seal(pieces, self._key)

    async def _done(self, _: str, data: bytes) -> None:
        told = msgspec.json.decode(data, type=Realised)
        if (told.state, told.assignment) == ("realised", self._held.assignment.revision):
            self._is_realised.set()


async def _idle(what: str, pid: int, idle_s: float) -> Footprint:
    await asyncio.sleep(3)
    before = cpu_of(pid)
    await asyncio.sleep(idle_s)
    return Footprint(what, *memory_of(pid), round((cpu_of(pid) - before) * 60 / idle_s, 3))


def memory_of(pid: int) -> Memory:
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    kb = {words[0].rstrip(":"): int(words[1]) for words in lines}
    sizes = (kb["Rss"], kb["Pss"], kb["Private_Clean"] + kb["Private_Dirty"])
    return Memory(*(round(number * 1024 / 1e6, 1) for number in sizes))
