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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from nacl.signing import SigningKey

from bench.bench_agent import CLASSES, FIRST, policy
from ringfence.agent import keys
from ringfence.agent.disk import Disk, Trust
from ringfence.bus.jetstream import JetStreamBus
from ringfence.core.intent.pieces import Group
from ringfence.wire import subjects
from ringfence.wire.envelope import seal
from ringfence.wire.messages import (
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


async def measured(peers: list[int], idle_s: float) -> list[Footprint]:
    sys.path.append(str(ROOT / "tests" / "bus"))
    return [await _bare(idle_s), *[await _agent(number, idle_s) for number in peers]]


async def _bare(idle_s: float) -> Footprint:
    with tempfile.TemporaryDirectory() as place:
        async with _fleet(Path(place)) as (url, folder, _):
            command = [sys.executable, "-c", _BARE, url, str(folder / "identity.pem")]
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
            async with _fleet(Path(place), peers) as (_, folder, controller):
                config = folder / "agent.toml"
                config.write_text(f'directory = "{folder}"\nsocket = "{folder}/agent.sock"\nnetns = "{netns}"\n')
                command = [sys.executable, "-m", "ringfence.agent.main", "run", "--config", str(config)]
                with subprocess.Popen(command, env=os.environ | ARENAS, stderr=subprocess.DEVNULL) as child:
                    try:
                        async with asyncio.timeout(60):
                            await controller.is_realised.wait()
                        return await _idle(f"agent, {peers:,} peers", child.pid, idle_s)
                    finally:
                        child.terminate()
    finally:
        subprocess.run(["ip", "netns", "del", netns], check=True)


@asynccontextmanager
async def _fleet(place: Path, peers: int = 0) -> AsyncIterator[tuple[str, Path, _Giver]]:
    """A server, the state folder of an agent that is enrolled, and its controller."""
    from real_bus import A, open_fleet  # tests/bus

    async with open_fleet(place) as (fleet, bus):
        folder = place / "agent"
        folder.mkdir(mode=0o700)
        csr = await keys.request(folder)
        issued = fleet.authority.issue_svid(csr, A, now=datetime.now(UTC))
        grant = keys.Grant(issued.certificate.decode(), fleet.authority.bundle.decode())
        await keys.install(folder, grant, is_enrolment=True)
        controller = _Giver(bus, str(A), peers)
        await controller.start()
        trust = Trust(str(A), "estate.test", "", (fleet.url,), (controller.message_key,))
        Disk(folder).save_trust(trust)
        yield fleet.url, folder, controller


class _Giver:
    """A controller with one policy for one host: it tells what it should hold, and answers what it asks for."""

    def __init__(self, bus: JetStreamBus, uuid: str, peers: int) -> None:
        self._bus, self._uuid, self._key = bus, uuid, SigningKey.generate()
        self._body, self._assignment = policy(uuid)
        self._isolations = Isolations(1, ("main",))
        self._groups = {
            key: GroupState(Group(key, tuple(range(FIRST + int(key[1:]), FIRST + peers, CLASSES))), 1)
            for key in self._body.groups
        }
        versions = dict.fromkeys(self._groups, 1)
        self._state = digest_of_state(self._assignment.revision, self._isolations.revision, versions)
        self.is_realised = asyncio.Event()

    async def start(self) -> None:
        for what, answer in (("beat", self._beat), ("ask", self._ask), ("done", self._done)):
            await self._bus.subscribe(subjects.UP_EVERYONE.format(what), answer)
        await self._bus.flush()

    @property
    def message_key(self) -> bytes:
        return bytes(self._key.verify_key)

    async def _beat(self, _: str, data: bytes) -> bytes:
        beat = msgspec.json.decode(data, type=Heartbeat)
        return seal(Expected(self._state, time.time(), workload=self._uuid, nonce=beat.nonce), self._key)

    async def _ask(self, _: str, data: bytes) -> bytes:
        fetch = msgspec.json.decode(data, type=Fetch)
        pieces = Pieces(
            self._assignment if fetch.assignment else None,
            self._isolations if fetch.isolations else None,
            (self._body,) if fetch.bodies else (),
            tuple(self._groups[key] for key in fetch.groups),
            workload=self._uuid,
        )
        return seal(pieces, self._key)

    async def _done(self, _: str, data: bytes) -> None:
        told = msgspec.json.decode(data, type=Realised)
        if (told.state, told.assignment) == ("realised", self._assignment.revision):
            self.is_realised.set()


async def _idle(what: str, pid: int, idle_s: float) -> Footprint:
    await asyncio.sleep(3)
    before = _cpu_s(pid)
    await asyncio.sleep(idle_s)
    cpu = (_cpu_s(pid) - before) * 60 / idle_s
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    kb = {words[0].rstrip(":"): int(words[1]) for words in lines}
    private = kb["Private_Clean"] + kb["Private_Dirty"]
    sizes = [round(number * 1024 / 1e6, 1) for number in (kb["Rss"], kb["Pss"], private)]
    return Footprint(what, *sizes, round(cpu, 3))


def _cpu_s(pid: int) -> float:
    """By the scheduler's own count, which is exact (proc(5), schedstat: nanoseconds), of all threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
