"""What the bus costs: connections that enter through the callout, and news to many agents, beside a bare nats-server.

The bare one speaks plaintext and asks nobody: the limit of fan-out on this machine. Agents are bare protocol readers in
a process of their own, so that their cost does not hide the server's. Times are wall clock to the last reader; the
server's own CPU is beside them, because readers and server share the machine.

.venv/bin/python -m bench.bench_bus [--agents 100,1000,5000] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

from nats.aio.client import Client

from bench.bus_clients import AT_ONCE, BusClient, agent_context, allow_many_files, connect, cpu_of, rss_of
from bench.measure import Figure, show
from ringfence.bus.accounts import open_seeds
from ringfence.bus.jetstream import CONTROLLER_INBOX, JetStreamBus, Options
from ringfence.bus.server import BusServer, Settings, Tls
from ringfence.controller.bus.callout import Callout
from ringfence.controller.identity.ca import Authority, csr_of, key_pem, new_key
from ringfence.durable import write_secret
from ringfence.wire import subjects

SIZE = 1024
ROUNDS = 5


class Agents(NamedTuple):
    """Whom the readers' process plays."""

    port: int
    uuids: tuple[UUID, ...]
    folder: Path | None
    """With their certificates; None for plaintext."""


class Tally:
    """Tells the parent when everybody has heard."""

    def __init__(self, pipe: Connection, total: int) -> None:
        self._pipe, self._total, self._count = pipe, total, 0

    def add(self, count: int) -> None:
        self._count += count
        if self._count == self._total:
            self._count = 0
            self._pipe.send(time.monotonic())


async def _connect(agents: Agents, uuid: UUID, tally: Tally, gate: asyncio.Semaphore) -> BusClient:
    context = agent_context(agents.folder, uuid) if agents.folder else None
    words = (subjects.down(str(uuid)), subjects.ISOLATIONS)
    async with gate:
        return await connect(agents.port, lambda: BusClient(words, lambda subject, data: tally.add(1)), context)


async def _play(agents: Agents, pipe: Connection) -> None:
    tally, gate = Tally(pipe, len(agents.uuids)), asyncio.Semaphore(AT_ONCE)
    start = time.monotonic()
    readers = await asyncio.gather(*(_connect(agents, uuid, tally, gate) for uuid in agents.uuids))
    pipe.send(time.monotonic() - start)
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    assert len(readers) == len(agents.uuids)


def play(agents: Agents, pipe: Connection) -> None:
    """The readers' process: tells how long connecting took, then when all have heard; ends when it is told."""
    allow_many_files()
    asyncio.run(_play(agents, pipe))


class Bench:
    """One server with one set of agents."""

    def __init__(self, name: str, pid: int, publisher: Client, agents: Agents) -> None:
        self.name, self.pid, self.publisher, self.agents = name, pid, publisher, agents

    async def run(self) -> list[Figure]:
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        before_rss, before_cpu, before_own = rss_of(self.pid), cpu_of(self.pid), time.process_time()
        process = multiprocessing.get_context("spawn").Process(target=play, args=(self.agents, theirs))
        process.start()
        try:
            connecting_s = await self._told(ours)
            count = len(self.agents.uuids)
            cpu_ms = (cpu_of(self.pid) - before_cpu) / count * 1e3
            callout_ms = (time.process_time() - before_own) / count * 1e3
            figures = [
                Figure(
                    self._label("connects per second"),
                    count / connecting_s,
                    "/s",
                    note=f"server {cpu_ms:.2f} ms, callout {callout_ms:.2f} ms CPU each",
                ),
                Figure(
                    self._label("server memory per connection"), (rss_of(self.pid) - before_rss) / count / 1e3, "kB"
                ),
            ]
            own = [subjects.down(str(uuid)) for uuid in self.agents.uuids]
            figures.append(await self._fan_out("one message each, own subject", own, ours))
            figures.append(await self._fan_out("one broadcast", [subjects.ISOLATIONS], ours))
            ours.send(None)
        finally:
            await asyncio.get_running_loop().run_in_executor(None, process.join, 10)
            if process.is_alive():
                process.kill()
        return figures

    async def _fan_out(self, what: str, to: list[str], pipe: Connection) -> Figure:
        data, best, before = b"x" * SIZE, float("inf"), cpu_of(self.pid)
        for _ in range(ROUNDS):
            start = time.monotonic()
            for subject in to:
                await self.publisher.publish(subject, data)
            await self.publisher.flush()
            best = min(best, await self._told(pipe) - start)
        cpu_ms = (cpu_of(self.pid) - before) / ROUNDS * 1e3
        return Figure(self._label(what), best, "s", note=f"server {cpu_ms:.0f} ms CPU")

    async def _told(self, pipe: Connection) -> float:
        said: float = await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        return said

    def _label(self, what: str) -> str:
        return f"{self.name}, {len(self.agents.uuids)} agents: {what}"


@asynccontextmanager
async def bare(uuids: tuple[UUID, ...]) -> AsyncIterator[Bench]:
    """nats-server as it comes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).parent / "nats-server"

    async def not_yet(error: Exception) -> None:
        """It is starting."""

    with subprocess.Popen([program, "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL) as server:
        client = Client()
        try:
            await client.connect(f"nats://127.0.0.1:{port}", error_cb=not_yet, reconnect_time_wait=1)
            yield Bench("bare", server.pid, client, Agents(port, uuids, None))
            await client.close()
        finally:
            server.terminate()


@asynccontextmanager
async def ours(uuids: tuple[UUID, ...]) -> AsyncIterator[Bench]:
    """The product's bus: mutual TLS, the callout, rights for every agent."""
    with tempfile.TemporaryDirectory() as name:
        folder, now = Path(name), datetime.now(UTC)
        authority = Authority.open(folder / "ca.json", trust_domain="bench.test", now=now)
        seeds, key = open_seeds(folder / "bus.json"), new_key()
        own = authority.issue_server(csr_of(key), ["localhost", "127.0.0.1"], now=now)
        write_secret(folder / "own.pem", key_pem(key) + own.certificate)
        write_secret(folder / "roots.pem", authority.bundle)
        for uuid in uuids:
            key = new_key()
            pem = key_pem(key) + authority.issue_svid(csr_of(key), uuid, now=now).certificate
            (folder / f"{uuid}.pem").write_bytes(pem)
        tls = Tls(folder / "own.pem", folder / "own.pem", folder / "roots.pem")
        server = BusServer(Settings(folder / "nats", tls, seeds.public, "127.0.0.1", 0))
        await server.start()

        def context() -> ssl.SSLContext:
            made = ssl.create_default_context(cafile=str(folder / "roots.pem"))
            made.load_cert_chain(folder / "own.pem")
            return made

        options = Options((f"tls://localhost:{server.port}",), context, CONTROLLER_INBOX, nkey_seed=seeds.controller)
        bus = JetStreamBus(options)
        try:
            bus.start()
            await bus.connected(timeout_s=20)
            await Callout(seeds.issuer, authority, lambda serial, uuid: False).serve(bus)
            assert server.pid
            assert bus._client
            yield Bench("ours", server.pid, bus._client, Agents(server.port, uuids, folder))
        finally:
            await bus.close()
            await server.stop()


async def measured(counts: list[int]) -> list[Figure]:
    figures = []
    for count in counts:
        uuids = tuple(uuid4() for _ in range(count))
        for made in (bare, ours):
            async with made(uuids) as bench:
                figures += await bench.run()
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", default="100,1000,5000")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    counts = [int(word) for word in arguments.agents.split(",")]
    show("the bus", asyncio.run(measured(counts)), as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
