"""How soon a change is enforced on every host of a fleet, beside the bare fan-out of NATS; what joining costs.

The real controller (SQLite, nats-server as its child) and agents on paper: real state, messages, certificates and
heartbeats, over the real bus; what they enforce is compared with the intent compiled whole before and after.

    a label changes      one host becomes another known identity, which the rules of all N name: one address moves
    a label is new       it becomes an identity nobody has: every host gets and fetches another body
    bare                 messages of the same size through the same server to the same connections, published one by
                         one, and one broadcast: nothing is signed, read, compiled or answered
    a workload joins     enrols and says its address, in estates of several sizes; the hosts whose rules name it are as
                         many in each

Controller, nats-server and all agents share this machine, so the time to enforced holds the work of N hosts, which a
real fleet does beside one another; the CPU of each part is told. `bench_agent` measures the kernel's part of a host.

.venv/bin/python -m bench.bench_fleet [--quick] [--agents 100,1000,5000] [--estates 1000,10000,50000] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import msgspec
import numpy as np

from bench.bus_clients import allow_many_files
from bench.fleet_controller import Estate, FleetGround, Followed, Host, fleet
from bench.measure import Figure, show
from bench.paper_agents import BARE, HEARTBEAT_S
from ringfence.controller.access.access import Principal
from ringfence.controller.identity.ca import csr_of, new_key
from ringfence.core.identity.workload import Mode
from ringfence.core.net.address import V4_BASE
from ringfence.wire import subjects
from ringfence.wire.api import Invite, NewProfile, Relabel
from ringfence.wire.envelope import PROTOCOL
from ringfence.wire.join import Request
from ringfence.wire.messages import Heartbeat, Interface, Realised

ROOT: Final = Principal("ann", ("administrator",))
SPAN: Final = 50
"""Hosts of one role of one application: those that must know a workload that joins the other."""
APPS: Final = 20
_BETWEEN_S: Final = 0.5


class Asked(NamedTuple):
    """How much to measure."""

    rounds: int = 7
    joins: int = 20
    idle_s: float = 5.0


FULL: Final = Asked()
QUICK: Final = Asked(rounds=3, joins=5, idle_s=2.0)


# ---- a label --------------------------------------------------------------------------------------------------------


def label_estate(count: int) -> Estate:
    """Applications of web and db hosts, and an identity that the rules of every host name."""
    few = [("mover", "batch"), ("batch", "batch"), ("idle", "idle")]
    hosts = [Host(name, {"fleet": "yes", "app": "ops", "role": role}, n) for n, (name, role) in enumerate(few)]
    for number in range(len(few), count):
        labels = {"fleet": "yes", "app": f"a{number % APPS}", "role": "web" if number // APPS % 2 else "db"}
        hosts.append(Host(f"h{number}", labels, number))
    everywhere = """policy: estate
owner: ops
rules:
  - allow: {from: role=batch, to: fleet=yes, service: tcp/9100}
tests:
  - {from: role=idle, to: fleet=yes, service: tcp/9100, expect: blocked}
"""
    return Estate(tuple(hosts), {"estate.yaml": everywhere, **dict(map(_app_policy, range(APPS)))})


def _app_policy(number: int) -> tuple[str, str]:
    text = f"""policy: a{number}
owner: team
scope: app=a{number}
rules:
  - allow: {{from: role=web, to: role=db, service: tcp/5432}}
"""
    return f"a{number}.yaml", text


async def labels(count: int, folder: Path, asked: Asked = FULL) -> list[Figure]:
    """All that is measured on so many agents."""
    estate = label_estate(count)
    async with fleet(estate, folder, estate.hosts) as ground:
        name = f"{count:,} agents"
        out = [await _made(name, ground), await _idle(f"{name}: controller just after", ground, asked.idle_s)]
        _progress(name, "made")
        known = await _rounds(ground, asked.rounds, lambda n: {"role": "idle" if n % 2 == 0 else "batch"})
        size = known[0].size_bytes // max(1, known[0].messages)
        alone, broadcast = await bare(ground, size, asked.rounds)
        _progress(name, "known labels and bare messages measured")
        new = await _rounds(ground, max(2, asked.rounds // 2), lambda n: {"role": "batch", "wave": f"w{n}"})
        await ground.settled()
        rest = await _idle(f"{name}: controller at rest", ground, asked.idle_s)
        limit = float(np.percentile(alone, 99))
        out += _label_figures(f"{name}: a label changes", known, count, limit)
        out += _bare_figures(name, size, alone, broadcast)
        out += _label_figures(f"{name}: a label is new", new, count, limit)
        return [*out, rest, _size(name, ground)]


def _progress(name: str, word: str) -> None:
    sys.stderr.write(f"{name}: {word}\n")


async def _made(name: str, ground: FleetGround) -> Figure:
    cost, refused = await ground.spent(), (await ground.cost()).refused
    note = f"CPU: controller {cost.controller:.1f} s, nats {cost.nats:.1f} s, agents {cost.agents:.1f} s"
    note += f"; {refused} connections refused at first"
    return Figure(f"{name}: made, connected, all enforcing", ground.made_s, "s", note=note)


async def _idle(what: str, ground: FleetGround, seconds: float) -> Figure:
    """Heartbeats; and just after the start of many, the leases and reports that are still being written."""
    before, began = await ground.spent(), time.monotonic()
    await asyncio.sleep(seconds)
    spent, took = (await ground.spent()).since(before), time.monotonic() - began
    beats = f"{len(ground.connected) / HEARTBEAT_S:,.0f} heartbeats/s"
    note = f"of a core, {beats}; nats {100 * spent.nats / took:.1f} %, agents {100 * spent.agents / took:.1f} %"
    return Figure(what, 100 * spent.controller / took, "%", note=note)


async def _rounds(ground: FleetGround, rounds: int, labels: Callable[[int], dict[str, str]]) -> list[Followed]:
    """The mover is relabelled over and over; the first time, which warms up, does not count."""
    out = []
    for number in range(rounds + 1):
        asked = Relabel(("mover",), labels(number), why="measured")
        out.append(await ground.followed(lambda asked=asked: ground.controller.workloads.relabel(asked, by=ROOT)))  # type: ignore[misc]
        await asyncio.sleep(_BETWEEN_S)
    return out[1:]


async def bare(ground: FleetGround, size: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds to each connection: published to one after the other; published once to all."""
    own = [subjects.down(host.uuid) for host in ground.connected]
    data, out = BARE.ljust(size, b"x"), ([], [])  # type: tuple[bytes, tuple[list[float], list[float]]]
    client = ground.controller.fabric.bus._client
    assert client is not None
    for _ in range(rounds):
        for subjects_, times in ((own, out[0]), ([subjects.ISOLATIONS], out[1])):
            await ground.paper.reports()
            began = time.monotonic()
            for subject in subjects_:
                await client.publish(subject, data)
            await client.flush()
            times += [at - began for at in await _arrivals(ground)]
    return out


async def _arrivals(ground: FleetGround) -> list[float]:
    found: list[float] = []
    while len(found) < len(ground.connected):
        await asyncio.sleep(0.05)
        found += [report.arrived for report in await ground.paper.reports() if not report.assignment]
    return found


def _bare_figures(name: str, size: int, alone: list[float], broadcast: list[float]) -> list[Figure]:
    return [
        Figure(
            f"{name}: bare, {what}, p99",
            float(np.percentile(times, 99)),
            note=f"{size} bytes; p50 {1e3 * median(times):.0f} ms, max {1e3 * max(times):.0f} ms",
        )
        for what, times in (("published to each", alone), ("one broadcast", broadcast))
    ]


def _label_figures(what: str, followed: Sequence[Followed], count: int, limit: float) -> list[Figure]:
    """Over all hosts and rounds."""
    assert all(len(one.acknowledged) == count for one in followed), "not everybody was concerned"
    rows = (
        ("arrived", [one.arrived for one in followed], None),
        ("enforced", [one.enforced for one in followed], 1.0),
        ("acknowledged", [one.acknowledged for one in followed], None),
    )
    out = [_stages(what, followed)]
    for word, some, target in rows:
        times = [at for round_ in some for at in round_.values()]
        p50, p99, most = (*np.percentile(times, (50, 99)), max(times))
        note = f"p50 {1e3 * p50:.0f} ms, max {1e3 * most:.0f} ms; {p99 / limit:.1f} x bare"
        out.append(Figure(f"{what}: {word}, p99", float(p99), "s", target, note))
    return [*out, _shares(what, followed, count)]


def _stages(what: str, followed: Sequence[Followed]) -> Figure:
    compiled, answered = (median(t) for t in zip(*((o.compiled_s, o.answered_s) for o in followed), strict=True))
    note = f"median; stored and compiled after {1e3 * compiled:.0f} ms; {followed[0].messages:,} messages"
    return Figure(f"{what}: the caller is answered", answered, "s", note=note)


def _shares(what: str, followed: Sequence[Followed], count: int) -> Figure:
    mean = [sum(part) / len(followed) for part in zip(*(one.spent for one in followed), strict=True)]
    words = ", ".join(f"{word} {part:.2f} s" for word, part in zip(("controller", "nats", "agents"), mean, strict=True))
    note = f"{words}; heartbeats of the time included; an agent {1e3 * mean[2] / count:.2f} ms"
    return Figure(f"{what}: CPU, all parts", sum(mean), "s", note=note)


def _size(name: str, ground: FleetGround) -> Figure:
    own, nats = ground.rss_mb()
    return Figure(f"{name}: memory of the controller", own, "MB", note=f"nats-server {nats:.0f} MB")


# ---- a joining workload ---------------------------------------------------------------------------------------------


class Joined(NamedTuple):
    """One workload that came."""

    enrol_ms: float
    """CPU of the controller: token, certificate, state, the first assignment."""
    known_ms: float
    """CPU of the controller: address claimed, leased, compiled, told, acknowledged."""
    enrol_s: float
    everywhere_s: float
    """From the heartbeat that says the address to the last host of the span that enforces it."""
    messages: int
    bytes_per_message: float


class JoinsFound(NamedTuple):
    """In one estate."""

    each: list[Joined]
    made_s: float
    rss_mb: float


def join_estate(count: int) -> Estate:
    """Applications of 50 web and 50 db hosts each, and monitors that may reach everybody."""
    hosts = [Host(f"monitor{n}", {"role": "monitor", "app": "ops"}, n) for n in range(2)]
    for number in range(len(hosts), count):
        app, role = number // (2 * SPAN), "web" if number % 2 else "db"
        hosts.append(Host(f"h{number}", {"app": f"a{app}", "role": role}, number))
    apps = range(-(-count // (2 * SPAN)))
    everywhere = """policy: estate
owner: ops
rules:
  - allow: {from: role=monitor, to: "role in (web,db)", service: tcp/9100}
"""
    return Estate(tuple(hosts), {"estate.yaml": everywhere, **dict(map(_app_policy, apps))})


async def joins(count: int, folder: Path, asked: Asked = FULL) -> JoinsFound:
    """Workloads that join an estate one after the other."""
    estate = join_estate(count)
    span = tuple(host for host in estate.hosts if host.labels == {"app": "a1", "role": "db"})
    async with fleet(estate, folder, span, processes=1) as ground:
        granting = ground.controller.granting
        await granting.make_profile(NewProfile("web", {"app": "a1", "role": "web"}, Mode.both("enforce")), by=ROOT)
        token = (await granting.invite(Invite("web", uses=None), by=ROOT)).token
        out = [await _join(ground, token, count + number) for number in range(asked.joins + 2)]
        await ground.settled()
        return JoinsFound(out[2:], ground.made_s, ground.rss_mb()[0])


async def _join(ground: FleetGround, token: str, number: int) -> Joined:
    controller = ground.controller
    request = Request(csr_of(new_key()).decode(), token, f"machine{number}", f"joined{number}")
    before, began = time.process_time(), time.monotonic()
    admission = await controller.enrol(request)
    enrol_ms, enrol_s = 1e3 * (time.process_time() - before), time.monotonic() - began
    await asyncio.sleep(0.1)
    address = V4_BASE + (10 << 24) + (200 << 16) + number
    heartbeat = Heartbeat(
        time.time(),
        f"i{number}",
        "m",
        "0",
        PROTOCOL,
        "",
        Realised("pending"),
        interfaces=(Interface("eth0", (address,)),),
    )
    subject, data = subjects.up(admission.workload, "beat"), msgspec.json.encode(heartbeat)
    found = await ground.followed(lambda: controller._beat(subject, data))
    assert len(found.acknowledged) == len(ground.connected)
    await asyncio.sleep(0.1)
    per = found.size_bytes / found.messages
    return Joined(enrol_ms, 1e3 * found.spent.controller, enrol_s, max(found.enforced.values()), found.messages, per)


def join_figures(found: dict[int, JoinsFound]) -> list[Figure]:
    """By size of the estate; and the largest beside the smallest, which is to be flat."""
    out, flat = [], []
    for field, unit, what in (
        ("known_ms", "ms", "controller CPU from address to everywhere"),
        ("everywhere_s", "s", "from address said to enforced by all who need it"),
        ("enrol_ms", "ms", "controller CPU to enrol"),
        ("enrol_s", "s", "to enrol"),
        ("messages", "", "messages"),
        ("bytes_per_message", "B", "bytes a message"),
    ):
        values = {count: median(getattr(one, field) for one in some.each) for count, some in found.items()}
        for count, value in values.items():
            out.append(Figure(f"one joins {count:,}: {what}", value, unit))
        small, large = values[min(values)], values[max(values)]
        flat.append(Figure(f"{what}, largest over smallest estate", large / small, "x", 1.2))
    made = (f"{n:,}: {some.made_s:.0f} s, controller {some.rss_mb:.0f} MB" for n, some in found.items())
    out.append(Figure("estates made", len(found), "", note="; ".join(made)))
    return out + flat


# ---- all of it ------------------------------------------------------------------------------------------------------


WORKS: Final[dict[str, Callable[[int, Path, Asked], Awaitable[object]]]] = {"labels": labels, "joins": joins}


def one(work: str, count: int, asked: Asked) -> bytes:
    """What one of them found, as JSON."""
    allow_many_files()
    with tempfile.TemporaryDirectory() as folder:
        return msgspec.json.encode(asyncio.run(WORKS[work](count, Path(folder), asked)))  # type: ignore[arg-type]


def apart(work: str, count: int, *, is_quick: bool) -> bytes:
    """The same in a process of its own, whose memory and garbage is nobody else's."""
    command = [sys.executable, "-m", "bench.bench_fleet", "--one", work, str(count), *["--quick"] * is_quick]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", default="100,1000,5000")
    parser.add_argument("--estates", default="1000,10000,50000")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("WORK", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.buffer.write(one(options.one[0], int(options.one[1]), QUICK if options.quick else FULL))
        return 0
    agents, estates = ([int(n) for n in said.split(",") if n] for said in (options.agents, options.estates))
    if options.quick:
        agents, estates = [100], [300, 1000]
    for count in agents:
        found = msgspec.json.decode(apart("labels", count, is_quick=options.quick), type=list[Figure])
        show("a change of labels", found, as_json=options.json)
    joined = {n: msgspec.json.decode(apart("joins", n, is_quick=options.quick), type=JoinsFound) for n in estates}
    if joined:
        show("one joining workload", join_figures(joined), as_json=options.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
