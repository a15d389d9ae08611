"""What the agent costs a host that opens 10,000 connections a second, beside the same host without it.

Three hosts, each a network namespace on a wire of its own: one without a firewall, one that tracks connections (the
limit of any stateful filter), one with the real agent, which enforces a policy of 10,000 peers and tells every
connection over a real NATS server with mutual TLS. One pinned process is client and server of real TCP connections from
any of the peers, at the same pace in turn to each host; all figures are of the same run, so a busy machine blurs all of
them alike. The kernel forgets closed connections after two seconds, so that a turn pays for its own ends.

    connection processor time of the pinned process: client, server, and the kernel's work for them, which is done in
               their time; what differs between the hosts is tracking, and rules
    machine    processor time of everything, interrupts included (proc(5), stat), over the seconds with connections:
               the difference to the host without an agent is the whole cost, on a machine that does nothing else
    agent      processor time of the agent's processes from the first turn to the last telling, for each connection:
               nothing it puts off is left out
    host       the agent and its rules together, as a share of a core at that pace, over the same host without them

.venv/bin/python -m bench.bench_agent_telemetry [--rate 10000] [--seconds 20] [--rounds 3] [--peers 10000] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from bench.bench_nftables import CLASSES, Bench, install, intent, sources
from bench.bus_clients import cpu_of
from bench.footprint import Giver, Held, Memory, agent, fleet, memory_of
from bench.measure import Figure, show
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.pieces import Body, ClassPlan, Group, Station
from ringfence.core.net.address import parse_address
from ringfence.wire.columns import FlowRows, decode
from ringfence.wire.messages import Assignment

NONE, TRACKING, AGENT = "none", "ct", "agent"
WORDS: Final = {NONE: "no firewall, no agent", TRACKING: "connection tracking alone", AGENT: "agent"}
DESIGNS: Final = tuple(WORDS)
UUID: Final = "aaaaaaaa-0000-4000-8000-000000000001"
TOLD_S: Final = 10.0
"""How often the agent tells flows here: six times as often as it does by itself, so that each turn holds some."""
_ENDED_S: Final = 2
_SETTLED_S: Final = 4.0
_LOOK_S: Final = 0.25
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Asked(NamedTuple):
    rate: int
    seconds: int
    rounds: int
    peers: int


class Machine(NamedTuple):
    """Seconds since it started, of all cores together."""

    busy: float
    interrupts: float

    @classmethod
    def now(cls) -> Machine:
        words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        user, nice, system, _, _, irq, softirq, *_ = (int(word) / _TICKS for word in words)
        return cls(user + nice + system + irq + softirq, irq + softirq)

    def since(self, before: Machine) -> Machine:
        return Machine(self.busy - before.busy, self.interrupts - before.interrupts)


class Turn(NamedTuple):
    """Of one host, one time. Shares of a core in percent, over the seconds that connections came."""

    connections: int
    pair: float
    """Client and server."""
    machine: float
    interrupts: float
    agent: float
    nats: float


class Found(NamedTuple):
    turns: dict[str, list[Turn]]
    agent_s: float
    """Processor time of the agent over the whole run."""
    most: Memory
    """While connections came to it."""
    after: Memory
    batches: list[bytes]
    lost: int


# ---- the hosts ------------------------------------------------------------------------------------------------------


def held(peers: int, address: str) -> Held:
    """What `bench_nftables` enforces, as it travels to an agent."""
    wanted, everybody = intent("exact", peers, 4), sources(peers, 4)
    groups = tuple(Group(f"g{n}", tuple(everybody[n::CLASSES])) for n in range(CLASSES))
    classes = tuple(ClassPlan(n, f"app={n}", (group.key,)) for n, group in enumerate(groups, 1))
    body = Body(classes, wanted.parts)
    station = Station(UUID, "web-1", Mode.both("enforce"), (parse_address(address),), body.digest, revision=11)
    return Held(UUID, body, Assignment(11, station), groups)


def forget_soon(netns: str) -> None:
    setting = f"net.netfilter.nf_conntrack_tcp_timeout_close={_ENDED_S}"
    subprocess.run(["ip", "netns", "exec", netns, "sysctl", "-qw", setting], check=True, timeout=30)


def compiled(folder: Path) -> Path:
    program = folder / "nft_bench"
    source = Path(__file__).with_name("nft_bench.c")
    subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True, timeout=60)
    return program


# ---- what is spent --------------------------------------------------------------------------------------------------


def family(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def cpu_of_all(pid: int) -> float:
    """Seconds of a process and all below it, those that are over included (proc(5), stat: fields 14 to 17)."""
    total = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, words[11:15]))
    return total / _TICKS


def memory_of_all(pid: int) -> Memory:
    found = []
    for one in family(pid):
        with contextlib.suppress(OSError, KeyError):
            found.append(memory_of(one))
    return Memory(*map(sum, zip(*found, strict=True)))


class Watched:
    """The agent's most memory, looked at now and then."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.most = Memory(0, 0, 0)

    async def until(self, over: asyncio.Event) -> None:
        while not over.is_set():
            self.most = Memory(*map(max, zip(self.most, memory_of_all(self._pid), strict=True)))
            await asyncio.sleep(_LOOK_S)


# ---- measuring ------------------------------------------------------------------------------------------------------


class Ground(NamedTuple):
    bench: Bench
    program: Path
    asked: Asked
    given: Giver
    pid: int
    """The agent."""

    async def turn(self, design: str) -> Turn:
        machine, before = Machine.now(), self._spent()
        connections = await self._connect(design)
        everything = Machine.now().since(machine)
        await asyncio.sleep(_SETTLED_S)
        pair, own, nats = (after - then for after, then in zip(self._spent(), before, strict=True))
        return Turn(connections, *(100 * one / self.asked.seconds for one in (pair, *everything, own, nats)))

    def _spent(self) -> tuple[float, float, float]:
        """Seconds of processor time: of client and server, the agent, the bus."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime + ended.ru_stime, cpu_of_all(self.pid), cpu_of(self.given.server)

    async def _connect(self, design: str) -> int:
        """How many connections came."""
        index, netns = DESIGNS.index(design), self.bench.servers[design]
        target = f"{design},{netns},{self.bench.address(index, 4)}"
        numbers = (self.asked.rate, self.asked.seconds, self.asked.peers)
        command = ["paced", "4", self.bench.client, *map(str, numbers), target]
        made = await asyncio.create_subprocess_exec(self.program, *command, stdout=asyncio.subprocess.PIPE)
        said, _ = await made.communicate()
        if made.returncode:
            raise SystemExit(f"no connection to the host of `{design}`")
        return int(said)


async def measured(bench: Bench, program: Path, folder: Path, asked: Asked) -> Found:
    netns, own = bench.servers[AGENT], bench.address(DESIGNS.index(AGENT), 4)
    batches: list[bytes] = []

    async def kept(_: str, data: bytes) -> None:
        batches.append(data)

    async with fleet(folder, held(asked.peers, own)) as given:
        await given.bus.consume("flows", "rf.keep.*.flows", kept)
        with agent(given.folder, netns, flows_s=TOLD_S) as child:
            await given.realised()
            await asyncio.sleep(_SETTLED_S)
            ground, watched, over = Ground(bench, program, asked, given, child.pid), Watched(child.pid), asyncio.Event()
            watching, began = asyncio.create_task(watched.until(over)), cpu_of_all(child.pid)
            turns = await _rounds(ground)
            over.set()
            await watching
            await _told(lambda: len(batches))
            spent = cpu_of_all(child.pid) - began
            return Found(turns, spent, watched.most, memory_of_all(child.pid), batches, given.lost)


async def _rounds(ground: Ground) -> dict[str, list[Turn]]:
    """Each host once a round, each time another one first; the first round, which warms up, does not count."""
    turns: dict[str, list[Turn]] = {design: [] for design in DESIGNS}
    for number in range(ground.asked.rounds + 1):
        for at in range(len(DESIGNS)):
            design = DESIGNS[(number + at) % len(DESIGNS)]
            turns[design].append(await ground.turn(design))
    return turns


async def _told(count: Callable[[], int]) -> None:
    """Wait until the agent tells nothing any more."""
    before = -1
    while count() != before:
        before = count()
        await asyncio.sleep(1.5 * TOLD_S)


# ---- figures --------------------------------------------------------------------------------------------------------


def figures(found: Found, asked: Asked) -> list[Figure]:
    rows = [decode(batch) for batch in found.batches]
    return [*_connection(found, asked), *_machine(found), *_agent(found, asked), *_telling(found, rows)]


def _connection(found: Found, asked: Asked) -> list[Figure]:
    """Each beside tracking alone in the same round; and what the agent and its rules come to together."""
    each = {
        design: [1e4 * asked.seconds * turn.pair / turn.connections for turn in turns[1:]]
        for design, turns in found.turns.items()
    }
    out = []
    for design, word in WORDS.items():
        ratios = [own / limit for own, limit in zip(each[design], each[TRACKING], strict=True)]
        note = f"client, server, kernel; {median(ratios):.2f} x tracking alone ({min(ratios):.2f}..{max(ratios):.2f})"
        out.append(Figure(f"a connection, {word}", median(each[design]), "µs", note=note))
    for other, word in ((NONE, "no agent"), (TRACKING, "tracking alone")):
        rules = median(own - limit for own, limit in zip(each[AGENT], each[other], strict=True)) * asked.rate / 1e4
        share = _share(found, asked)
        note = f"of a core at {asked.rate:,} connections/s: the agent {share:.1f} %, in the kernel {rules:.1f} %"
        out.append(Figure(f"host, agent over {word}", share + rules, "%", note=note))
    return out


def _share(found: Found, asked: Asked) -> float:
    """Of a core, that the agent takes while connections come at the pace that was asked for."""
    return 100 * asked.rate * found.agent_s / sum(turn.connections for turn in found.turns[AGENT])


def _machine(found: Found) -> list[Figure]:
    """Of a core: 200 % is both cores of two."""
    counted = {design: turns[1:] for design, turns in found.turns.items()}
    out = []
    for design, word in WORDS.items():
        busy, soft = (median(getattr(t, name) for t in counted[design]) for name in ("machine", "interrupts"))
        spread = f"{min(t.machine for t in counted[design]):.0f}..{max(t.machine for t in counted[design]):.0f}"
        out.append(Figure(f"machine, {word}", busy, "%", note=f"of a core, {spread}; in interrupts {soft:.0f} %"))
    for other, word in ((NONE, "no agent"), (TRACKING, "tracking alone")):
        paid = [with_.machine - without.machine for with_, without in zip(counted[AGENT], counted[other], strict=True)]
        note = f"of a core, {min(paid):.0f}..{max(paid):.0f} by round; agent, NATS and rules together"
        out.append(Figure(f"machine, agent over {word}", median(paid), "%", note=note))
    return out


def _agent(found: Found, asked: Asked) -> list[Figure]:
    turns = found.turns[AGENT]
    made = sum(turn.connections for turn in turns)
    each = 1e6 * found.agent_s / made
    pace = median(turn.connections for turn in turns) / asked.seconds
    busiest = max(turn.agent for turn in turns)
    nats = median(turn.nats for turn in turns)
    return [
        Figure("connections a second, reached", pace, "", note=f"{made:,} in {len(turns)} turns of {asked.seconds} s"),
        Figure(
            "agent, processor time",
            _share(found, asked),
            "%",
            20.0,
            f"of a core, busiest turn {busiest:.0f}; NATS {nats:.1f} %",
        ),
        Figure("agent, processor time a connection", each, "µs", note="told, attributed, summed up, sent"),
        Figure("agent, most RSS", found.most.rss_mb, "MB", 60.0, f"afterwards {found.after.rss_mb:.1f} MB"),
        Figure("agent, most PSS", found.most.pss_mb, "MB", note=f"afterwards {found.after.pss_mb:.1f} MB"),
    ]


def _telling(found: Found, rows: list[FlowRows]) -> list[Figure]:
    made = sum(turn.connections for turn in found.turns[AGENT])
    counted, number = sum(int(some.connections.sum()) for some in rows), sum(map(len, rows))
    size = sum(map(len, found.batches))
    told = sum(some.lost for some in rows)
    note = f"{made:,} made, {counted:,} counted; told as lost: {told:,} by flows, {found.lost:,} by heartbeat"
    return [
        Figure("connections not counted", abs(made - counted), "", 1 + told, note),
        Figure("size of a row", size / max(number, 1), "B", 20, f"{number:,} rows in {len(rows)} messages"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    asked = Asked(options.rate, options.seconds, options.rounds, options.peers)
    began = time.monotonic()
    with Bench(DESIGNS) as bench, tempfile.TemporaryDirectory() as folder:
        program = compiled(Path(folder))
        install("ct", bench.servers[TRACKING], asked.peers, 4)
        for design in (TRACKING, AGENT):
            forget_soon(bench.servers[design])
        found = asyncio.run(measured(bench, program, Path(folder), asked))
    title = f"a host with {asked.rate:,} new connections a second, {time.monotonic() - began:.0f} s"
    show(title, figures(found, asked), as_json=options.json)


if __name__ == "__main__":
    main()
