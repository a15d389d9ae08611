"""Telemetry of a host with real traffic: two network namespaces, a wire, and exact numbers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ringfence.agent.observe.observe import Observer, ObserverStats
from ringfence.agent.observe.spool import Spool
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.model import Cell, Intent, Part, PeerClass
from ringfence.core.net.address import format_address, parse_address
from ringfence.core.net.service import ICMP, ICMPV6, TCP, UDP, parse_service, point
from ringfence.targets.nftables import NftablesTarget
from ringfence.targets.nftables.netlink import in_namespace
from ringfence.wire.columns import VERDICTS, FlowRows, decode
from ringfence.wire.messages import Events, Violation

pytestmark = pytest.mark.kernel

OWN, PEER = "172.20.0.2", "172.20.0.1"
OWN6, PEER6 = "fd20::2", "fd20::1"
TRACKING = "table inet tracking { chain c { type filter hook input priority -300; ct state new; }; }"
PATIENCE_S = 60
_numbers = itertools.count()


class Pair:
    """A host that is observed, and a peer that is everybody else."""

    def __init__(self) -> None:
        prefix = f"rfo{os.getpid()}x{next(_numbers)}"
        self.host, self.peer = f"{prefix}h", f"{prefix}p"
        self.target = NftablesTarget(self.host)

    def __enter__(self) -> Pair:
        for name in (self.host, self.peer):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", "v", "netns", self.host, "type", "veth", "peer", "name", "v", "netns", self.peer)
        for name, four, six in ((self.host, OWN, OWN6), (self.peer, PEER, PEER6)):
            ip("-n", name, "addr", "add", f"{four}/24", "dev", "v")
            ip("-n", name, "addr", "add", f"{six}/64", "dev", "v", "nodad")
            ip("-n", name, "link", "set", "v", "up")
        subprocess.run(
            ["ip", "netns", "exec", self.host, "nft", "-f", "-"], input=TRACKING, text=True, check=True, timeout=30
        )
        return self

    def __exit__(self, *_: object) -> None:
        for name in (self.host, self.peer):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=30)

    def listen(self, name: str, address: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        def opened() -> socket.socket:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = socket.socket(family, kind)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            if kind == socket.SOCK_STREAM:
                sock.listen(4096)
            return sock

        return in_namespace(name, opened)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=30)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as made:
        yield made


class Observed:
    """What an observer put into its spool, read back."""

    def __init__(self, spool: Spool, stats: ObserverStats) -> None:
        kept = spool.pending(10**6)
        self.stats = stats
        self.batches: list[FlowRows] = [decode(one.data) for one in kept if one.kind == "flows"]
        self.events = [msgspec.json.decode(one.data, type=Events) for one in kept if one.kind == "events"]

    @property
    def violations(self) -> list[Violation]:
        return [violation for event in self.events for violation in event.violations]

    def total(self, column: str, service: int, direction: int | None = None, verdict: str = "allowed") -> int:
        """Of a column over the rows of a service."""
        total = 0
        for rows in self.batches:
            fits = (rows.point == service) & (rows.verdict == VERDICTS.index(verdict))
            fits &= (rows.direction == direction) | (direction is None)
            total += int(getattr(rows, column)[fits].sum())
        return total

    def units(self, service: int) -> set[str]:
        return {rows.texts[unit] for rows in self.batches for unit in rows.unit[rows.point == service].tolist()}


Action = Callable[[Observer], Awaitable[None]]


def observe(
    pair: Pair, folder: Path, action: Action, *, intent: Intent | None = None, buffer_bytes: int = 0
) -> Observed:
    """Run an observer on the host while `action` happens."""
    spool = Spool(folder)
    extra = {"buffer_bytes": buffer_bytes} if buffer_bytes else {}

    async def act(observer: Observer) -> None:
        await observer.ready.wait()
        await action(observer)

    async def run() -> ObserverStats:
        observer = Observer(pair.target, spool, netns=pair.host, interval_s=3600, **extra)
        observer.intent = intent
        running = asyncio.create_task(observer.run())
        acting = asyncio.create_task(act(observer))
        await asyncio.wait({running, acting}, return_when="FIRST_COMPLETED")
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await acting
        return observer.stats()

    return Observed(spool, asyncio.run(run()))


async def until(is_so: Callable[[], bool]) -> float:
    """How long it took."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < PATIENCE_S
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def connect(source: str, destination: str, port: int, count: int, size: int = 0) -> None:
    """One connection after the other, each with some bytes from the client."""
    for _ in range(count):
        with socket.create_connection((destination, port), timeout=5, source_address=(source, 0)) as client:
            if size:
                client.sendall(b"x" * size)


def accepting(server: socket.socket, count: int) -> None:
    for _ in range(count):
        accepted, _ = server.accept()
        while accepted.recv(65536):
            pass
        accepted.close()


@pytest.mark.parametrize("address", [(OWN, PEER), (OWN6, PEER6)], ids=["v4", "v6"])
def test_a_thousand_connections_are_a_thousand(pair: Pair, tmp_path: Path, address: tuple[str, str]) -> None:
    """1,000 connections in and 300 out are counted to the one, with nothing lost, in IPv4 and in IPv6."""
    own, peer = address
    with pair.listen(pair.host, own, 80) as inside, pair.listen(pair.peer, peer, 443) as outside:

        async def traffic(observer: Observer) -> None:
            work = [
                (pair.host, lambda: accepting(inside, 1000)), (pair.peer, lambda: connect(peer, own, 80, 1000, 100)),
                (pair.peer, lambda: accepting(outside, 300)), (pair.host, lambda: connect(own, peer, 443, 300)),
            ]  # fmt: skip
            await asyncio.gather(*(asyncio.to_thread(in_namespace, name, act) for name, act in work))

        seen = observe(pair, tmp_path, traffic)
    assert seen.total("connections", point(TCP, 80), 0) == 1000
    assert seen.total("connections", point(TCP, 443), 1) == 300
    assert seen.stats.lost == 0
    assert seen.stats.unfinished == 0
    assert seen.total("bytes", point(TCP, 80)) >= 1000 * 100
    assert all(
        {int(v) for v in rows.destination_lo[rows.point == point(TCP, 80)]} <= {parse_address(own) & (2**64 - 1)}
        for rows in seen.batches
    )


def test_datagrams_and_pings_of_both_families_count(pair: Pair, tmp_path: Path) -> None:
    """UDP and ICMP echo are connections by their own service, whichever family."""

    def send() -> None:
        for own, family in ((OWN, socket.AF_INET), (OWN6, socket.AF_INET6)):
            for port in range(20_000, 20_050):  # one that the kernel picks may come twice
                with socket.socket(family, socket.SOCK_DGRAM) as sock:
                    sock.bind(("", port))
                    sock.sendto(b"query", (own, 53))

    async def traffic(observer: Observer) -> None:
        servers = [pair.listen(pair.host, own, 53, socket.SOCK_DGRAM) for own in (OWN, OWN6)]
        await asyncio.to_thread(in_namespace, pair.peer, send)
        for address in (OWN, OWN6):
            for _ in range(3):
                await asyncio.to_thread(ip, "netns", "exec", pair.peer, "ping", "-qc1", address)
        for server in servers:
            server.close()

    seen = observe(pair, tmp_path, traffic)
    assert seen.total("connections", point(UDP, 53), 0) == 100
    assert seen.total("packets", point(UDP, 53), 0) == 100
    assert seen.total("connections", point(ICMP, 8), 0) == 3
    assert seen.total("connections", point(ICMPV6, 128), 0) == 3
    assert seen.total("reply_packets", point(ICMP, 8), 0) == 3


def test_a_connection_older_than_the_observer_counts_once_with_what_it_carries(pair: Pair, tmp_path: Path) -> None:
    """A long connection is found by the first dump, its bytes are told while it lives, and never twice."""
    in_namespace(pair.host, lambda: Path("/proc/sys/net/netfilter/nf_conntrack_acct").write_text("1"))
    with pair.listen(pair.host, OWN, 80) as server:
        client = in_namespace(pair.peer, lambda: socket.create_connection((OWN, 80)))
        accepted, _ = server.accept()

        async def traffic(observer: Observer) -> None:
            assert observer._opened is not None
            for _ in range(5):
                client.sendall(b"y" * 10_000)
                await asyncio.to_thread(lambda: accepted.recv(10_000, socket.MSG_WAITALL))
                await observer._dump(observer._opened)

        seen = observe(pair, tmp_path, traffic)
        client.close()
        accepted.close()
    assert seen.total("connections", point(TCP, 80), 0) == 1
    assert 50_000 <= seen.total("bytes", point(TCP, 80), 0) < 55_000


def test_a_host_talking_to_itself_is_no_traffic(pair: Pair, tmp_path: Path) -> None:
    """Loopback and own addresses make no rows."""

    async def traffic(observer: Observer) -> None:
        with pair.listen(pair.host, "0.0.0.0", 80) as server:
            for address in ("127.0.0.1", "127.9.9.9", OWN):
                work = asyncio.to_thread(accepting, server, 1)
                client = asyncio.to_thread(in_namespace, pair.host, lambda a=address: connect("", a, 80, 1))
                await asyncio.gather(work, client)

    assert observe(pair, tmp_path, traffic).total("connections", point(TCP, 80)) == 0


def an_intent(mode: Mode) -> Intent:
    """tcp/80 is allowed to everybody, tcp/23 is denied to the peer by a rule, the rest is the default."""
    peer = PeerClass(1, "peer", tuple(sorted((parse_address(PEER), parse_address(PEER6)))))
    cells = (
        Cell(1, parse_service("tcp/80"), "allow", "shop/web"), Cell(1, parse_service("tcp/23"), "deny", "guard/telnet"),
    )  # fmt: skip
    return Intent("w", "host", mode, tuple(sorted((parse_address(OWN), parse_address(OWN6)))), (peer,),
                  (Part("in", cells), Part("out", cells)))  # fmt: skip


def syn(address: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        sock.connect_ex((address, port))


@pytest.mark.parametrize("own", [OWN, OWN6])
def test_a_blocked_attempt_is_told_with_its_rule(pair: Pair, tmp_path: Path, own: str) -> None:
    """A refused connection becomes an event with who, what, step and rule, without waiting for the flows' interval."""
    intent = an_intent(Mode.both("enforce"))
    pair.target.converge(intent)

    async def traffic(observer: Observer) -> None:
        spool = observer._spool
        for number, port in enumerate((23, 9999), 1):
            await asyncio.to_thread(in_namespace, pair.peer, lambda port=port: syn(own, port))
            await until(lambda number=number: len([k for k in spool.pending(99) if k.kind == "events"]) >= number)

    seen = observe(pair, tmp_path, traffic, intent=intent)
    told = {(v.port, v.verdict, v.step, v.rule, v.direction, format_address(v.destination)) for v in seen.violations}
    assert told == {
        (23, "blocked", "deny", "guard/telnet", "in", own), (9999, "blocked", "default", "", "in", own),
    }  # fmt: skip
    for port in (23, 9999):
        assert seen.total("connections", point(TCP, port), 0, "blocked") == 1
        assert seen.total("connections", point(TCP, port)) == 0


def test_what_would_be_blocked_is_one_connection(pair: Pair, tmp_path: Path) -> None:
    """In observe a connection passes and is told as a violation; in the flows it is one row, would-block."""
    intent = an_intent(Mode())
    pair.target.converge(intent)
    with pair.listen(pair.host, OWN, 23) as server:

        async def traffic(observer: Observer) -> None:
            work = asyncio.to_thread(accepting, server, 20)
            await asyncio.gather(work, asyncio.to_thread(in_namespace, pair.peer, lambda: connect(PEER, OWN, 23, 20)))
            await until(lambda: bool(len(observer._spool)))

        seen = observe(pair, tmp_path, traffic, intent=intent)
    assert seen.total("connections", point(TCP, 23), 0, "would-block") == 20
    assert seen.total("connections", point(TCP, 23), 0, "allowed") == 0
    assert {(v.verdict, v.step, v.rule) for v in seen.violations} == {("would-block", "deny", "guard/telnet")}
    assert sum(v.count for v in seen.violations) == 20


def test_every_refused_packet_is_described_or_counted_as_suppressed(pair: Pair, tmp_path: Path) -> None:
    """A flood beyond the rules' log limit: what the kernel counted is what was told plus what is `suppressed`."""
    intent = an_intent(Mode.both("enforce"))
    pair.target.converge(intent)

    def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for number in range(5000):
                sock.sendto(b"x", (OWN, 1000 + number))

    def counted() -> int:
        return sum(total.packets for total in pair.target.totals() if total.step.endswith("_blocked"))

    async def traffic(observer: Observer) -> None:
        await asyncio.to_thread(in_namespace, pair.peer, flood)
        seen = [-1, 0]
        while seen[-1] != seen[-2]:  # the wire may still hold some, and a full one drops them
            seen.append(counted())
            await asyncio.sleep(0.1)

    seen = observe(pair, tmp_path, traffic, intent=intent)
    suppressed = sum(event.suppressed for event in seen.events)
    assert sum(v.count for v in seen.violations) + suppressed == counted()
    assert suppressed > 0
    assert seen.stats.suppressed == suppressed


def test_what_the_kernel_could_not_deliver_is_counted(pair: Pair, tmp_path: Path) -> None:
    """With a tiny buffer events are lost: each is counted, the batch says so, and the table is read again."""

    def send() -> None:
        for port in range(1, 3001):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"x", (OWN, port))

    async def traffic(observer: Observer) -> None:
        before = observer.stats().dumps
        await asyncio.to_thread(in_namespace, pair.peer, send)
        await until(lambda: observer.stats().lost > 0)
        await until(lambda: observer.stats().dumps > before)

    with pair.listen(pair.host, OWN, 1, socket.SOCK_DGRAM):
        seen = observe(pair, tmp_path, traffic, buffer_bytes=8192)
    ports = [point(UDP, port) for port in range(1, 3001)]
    assert seen.stats.lost > 0
    assert sum(rows.lost for rows in seen.batches) == seen.stats.lost
    assert sum(int(rows.connections[np.isin(rows.point, ports)].sum()) for rows in seen.batches) == 3000


def test_a_program_in_a_unit_is_named(pair: Pair, tmp_path: Path) -> None:
    """Connections to a listener and from a client in a control group bear the name of its unit."""
    root = Path("/sys/fs/cgroup") if Path("/sys/fs/cgroup/cgroup.procs").exists() else Path("/sys/fs/cgroup/unified")
    unit = root / f"rfo{os.getpid()}.service"
    if not (root / "cgroup.procs").exists():
        pytest.skip("cgroup v2 is not mounted")
    unit.mkdir()
    program = (
        f"import socket,time;"
        f"s=socket.create_server(('{OWN}',80));c=socket.create_connection(('{PEER}',443));print('up',flush=True);"
        f"a=s.accept();time.sleep(60)"
    )
    try:
        with pair.listen(pair.peer, PEER, 443):

            async def traffic(observer: Observer) -> None:
                shell = f'echo $$ > {unit}/cgroup.procs; exec ip netns exec {pair.host} python3 -c "{program}"'
                process = await asyncio.create_subprocess_exec("sh", "-c", shell, stdout=subprocess.PIPE)
                assert process.stdout is not None
                await process.stdout.readline()
                client = in_namespace(pair.peer, lambda: socket.create_connection((OWN, 80)))
                await until(lambda: observer.stats().attributed >= 2)
                process.kill()
                await process.wait()
                client.close()

            seen = observe(pair, tmp_path, traffic)
    finally:
        unit.rmdir()
    assert seen.units(point(TCP, 80)) == {unit.name}
    assert seen.units(point(TCP, 443)) == {unit.name}
