"""What an agent costs its host, and how soon news is enforced: in a network namespace, on the real kernel.

    joins, leaves, quarantine   from the bus to the report, everything read back; medians of `--turns`
    boot                        `ringfence-agent boot` as a process, table made from nothing
    size                        memory of a process that holds and enforces so many peers
    idle                        share of a core while nothing happens, by `--idle` seconds
    footprint                   the program itself over a real NATS server, idle: memory by smaps, and processor time
                                (`bench.footprint`), beside a bare interpreter that is connected by nats-py

Limits: 10 ms for an address at 10,000 peers, 0.5 s for the boot guard, 60 MB, 0.1 % of a core.

.venv/bin/python -m bench.bench_agent [--only speed|footprint] [--peers 10000,100000] [--turns 30] [--idle 30] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import msgspec

from ringfence.core.identity.workload import Mode
from ringfence.core.intent.model import Cell, Part
from ringfence.core.intent.pieces import Body, ClassPlan, Group, Isolation, Station
from ringfence.core.net.service import parse_service
from ringfence.wire.messages import Assignment, Change, Down, GroupChange, GroupState, Isolations, Pieces

ROOT = Path(__file__).resolve().parents[1]
FIRST = 0xFFFF0A000001
CLASSES = 50


class Figures(msgspec.Struct):
    """Of one number of peers; milliseconds, megabytes of 10^6 bytes, percent of a core."""

    peers: int
    join_ms: float
    leave_ms: float
    isolate_ms: float
    release_ms: float
    boot_ms: float
    rss_mb: float
    idle_percent: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("speed", "footprint"))
    parser.add_argument("--peers", default="100,10000,100000")
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--idle", type=float, default=30.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("NETNS", "DIR"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(msgspec.json.encode(asyncio.run(_measured(*options.child, options))).decode())
        return
    peers = [int(number) for number in options.peers.split(",")]
    if options.only != "footprint":
        for number in peers:
            _show(_one(number, options), options)
    if options.only != "speed":
        from bench.footprint import measured

        for found in asyncio.run(measured(peers, options.idle)):
            _show(found, options)


def _show(figures: msgspec.Struct, options: argparse.Namespace) -> None:
    if options.json:
        print(msgspec.json.encode(figures).decode())
    else:
        print("  ".join(f"{name} {value}" for name, value in msgspec.structs.asdict(figures).items()), flush=True)


def policy(uuid: str) -> tuple[Body, Assignment]:
    """50 rules over as many classes, whose members come apart from it."""
    keys = tuple(f"g{number}" for number in range(CLASSES))
    classes = tuple(ClassPlan(number, f"app={number}", (key,)) for number, key in enumerate(keys, 1))
    cells = tuple(
        Cell(one.id, parse_service(f"tcp/{8000 + one.id % 8}"), "allow", f"bench/{one.id}") for one in classes
    )
    body = Body(classes, (Part("in", cells), Part("out")))
    return body, Assignment(11, Station(uuid, "web-1", Mode.both("enforce"), (FIRST - 1,), body.digest, revision=11))


def _one(peers: int, options: argparse.Namespace) -> Figures:
    """Each number in a process of its own, whose memory is nobody else's."""
    netns = f"rfa{os.getpid()}"
    subprocess.run(["ip", "netns", "add", netns], check=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            shown = ["--peers", str(peers), "--turns", str(options.turns), "--idle", str(options.idle)]
            command = [sys.executable, "-m", "bench.bench_agent", *shown, "--child", netns, folder]
            path = os.pathsep.join([str(ROOT / "tests" / "agent"), *sys.path])
            said = subprocess.run(
                command, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE
            )
            figures = msgspec.json.decode(said.stdout, type=Figures)
            return msgspec.structs.replace(figures, boot_ms=_boot_ms(netns, Path(folder), options.turns))
    finally:
        subprocess.run(["ip", "netns", "del", netns], check=True)


def _boot_ms(netns: str, folder: Path, turns: int) -> float:
    config = folder / "agent.toml"
    config.write_text(f'directory = "{folder}"\nnetns = "{netns}"\n')
    taken = []
    for _ in range(min(turns, 10)):
        subprocess.run(["ip", "netns", "exec", netns, "nft", "flush", "ruleset"], check=True)
        began = time.perf_counter()
        command = [sys.executable, "-m", "ringfence.agent.main", "boot", "--config", str(config)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        taken.append((time.perf_counter() - began) * 1e3)
    return round(median(taken), 1)


async def _measured(netns: str, folder: str, options: argparse.Namespace) -> Figures:
    from scripted import OTHER, UUID, Controller, Host, until  # tests/agent

    from ringfence.agent import host
    from ringfence.agent.point import nftables

    peers = int(options.peers)
    body, assignment = policy(UUID)
    told = asyncio.Event()

    class Listening(Controller):
        async def _done(self, subject: str, data: bytes) -> None:
            await super()._done(subject, data)
            told.set()

    controller = Listening()
    await controller.start()
    async with Host(controller, Path(folder), nftables(netns), netns=netns, heartbeat_s=10.0) as agent:
        await until(lambda: controller.beats)
        controller.answers = False
        for at, key in enumerate(sorted(body.groups, key=lambda key: int(key[1:]))):
            group = Group(key, tuple(range(FIRST + at, FIRST + peers, CLASSES)))
            isolations = Isolations(1, ("main",))
            await controller.say(Pieces(assignment, isolations, (body,), workload=UUID))
            await controller.say(Pieces(None, isolations, (body,), (GroupState(group, 1),), workload=UUID))
        await until(lambda: controller.realised and controller.realised[-1].assignment == 11)
        state = {"version": 1, "revision": 20}

        async def taken_ms(message: Down, revision: int) -> float:
            began = time.perf_counter()
            await controller.say(message)
            while revision not in (controller.realised[-1].change, controller.realised[-1].isolations):
                told.clear()  # a loop that asks again and again would keep the agent from the interpreter
                await told.wait()
            assert controller.realised[-1].state == "realised", controller.realised[-1]
            taken = (time.perf_counter() - began) * 1e3
            await asyncio.sleep(0.3)
            return taken

        def change(*, added: tuple[int, ...] = (), removed: tuple[int, ...] = ()) -> tuple[Change, int]:
            state["revision"] += 1
            state["version"] += 1
            moved = GroupChange("g0", state["version"] - 1, state["version"], added, removed)
            return Change(state["revision"], (moved,)), state["revision"]

        def isolate(*addresses: int) -> tuple[Isolations, int]:
            state["revision"] += 1
            some = (Isolation(OTHER, addresses),) if addresses else ()
            return Isolations(state["revision"], ("main",), some), state["revision"]

        joins, leaves, isolates, releases = [], [], [], []
        for turn in range(options.turns):
            address = FIRST + peers + 7 + turn
            joins.append(await taken_ms(*change(added=(address,))))
            leaves.append(await taken_ms(*change(removed=(address,))))
            isolates.append(await taken_ms(*isolate(FIRST + turn)))
            releases.append(await taken_ms(*isolate()))
        await asyncio.sleep(3)
        before, began = host.cpu_s(), time.monotonic()
        await asyncio.sleep(options.idle)
        idle = (host.cpu_s() - before) / (time.monotonic() - began) * 100
        rss = agent.heartbeat().rss_bytes / 1e6
    await controller.bus.close()
    shown = [round(median(some), 2) for some in (joins, leaves, isolates, releases)]
    return Figures(peers, *shown, 0.0, round(rss, 1), round(idle, 3))


if __name__ == "__main__":
    main()
