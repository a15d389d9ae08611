"""What enforcement costs a connection: ours beside no firewall, connection tracking alone, and linear rules.

Every design has a namespace of its own; one pinned thread is client and server, so a time is all the work there is, and
the designs alternate, so a busy machine blurs all of them alike. A figure is the median of the ratios within a turn,
with its 95 % interval (by ranks, which asks nothing of their distribution). "none again" and "ct again" are what the
method makes of no difference at all.

.venv/bin/python -m bench.bench_nftables [--peers 1000,10000,100000] [--family 4,6] [--turns 60] [--changes] [--json]
"""

from __future__ import annotations

import argparse
import ipaddress
import itertools
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from ringfence.core.identity.workload import Direction, Mode
from ringfence.core.intent.model import Cell, Intent, Part, PeerClass
from ringfence.core.net.address import format_address, parse_address
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.net.service import ANY, TCP, parse_service, point
from ringfence.targets.nftables import NftablesTarget, Ownership
from ringfence.targets.nftables.netlink import in_namespace

CLASSES, USED, PORTS, FIRST_PORT, STRIDE = 50, 4, 8, 8001, 16
"""As in nft_bench.c: source i is of class i % CLASSES and uses USED of the PORTS."""
LINEAR_TURN = {1_000: 200, 10_000: 40, 100_000: 6}
PER_TURN = {"conn": 300, "bulk": 41, "packet": 41}
BARS = {
    ("conn", "exact", "ct"): 1.05,
    ("conn", "ranges+any", "ct"): 1.08,
    ("bulk", "exact", "none"): 1.05,
    ("bulk", "exact", "ct"): 1.02,
    ("packet", "exact", "ct"): 1.02,
}
TRACKING = """table inet ct_only { chain input { type filter hook input priority 0; policy accept;
ct state vmap { established : accept, related : accept, invalid : drop }
}
}"""


class Ratio(NamedTuple):
    """One design's cost over another's: the median over the turns and its 95 % interval."""

    mode: str
    family: int
    peers: int
    design: str
    over: str
    median: float
    lower: float
    upper: float
    us: float
    bar: float | None = None


class Bench:
    """The namespaces of one run: a client, and one server for each design."""

    def __init__(self, designs: Sequence[str]) -> None:
        self.prefix = f"rfb{os.getpid()}"
        self.client = f"{self.prefix}c"
        self.servers = {name: f"{self.prefix}s{i}" for i, name in enumerate(designs)}

    def __enter__(self) -> Bench:
        _run("ip", "netns", "add", self.client)
        self._in(self.client, "ip link set lo up", "sysctl -qw net.ipv6.ip_nonlocal_bind=1")
        for address in ("local 10.0.0.0/8", "local fd00::/64"):
            self._in(self.client, f"ip route add {address} dev lo")
        for index, server in enumerate(self.servers.values()):
            self._connect(index, server)
        return self

    def __exit__(self, *_: object) -> None:
        for name in (self.client, *self.servers.values()):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def address(self, index: int, family: int) -> str:
        return f"172.16.{index}.2" if family == 4 else f"fd01:{index:x}::2"

    def _connect(self, index: int, server: str) -> None:
        _run("ip", "netns", "add", server)
        _run(
            "ip", "link", "add", f"v{index}", "netns", self.client, "type", "veth", "peer", "name", "v", "netns", server
        )
        self._in(server, "ip link set lo up", f"ip addr add 172.16.{index}.2/24 dev v", "ip link set v up")
        self._in(
            server, f"ip addr add fd01:{index:x}::2/64 dev v nodad", f"ip route add 10.0.0.0/8 via 172.16.{index}.1"
        )
        self._in(self.client, f"ip addr add 172.16.{index}.1/24 dev v{index}", f"ip link set v{index} up")
        self._in(self.client, f"ip addr add fd01:{index:x}::1/64 dev v{index} nodad")
        self._in(server, f"ip route add fd00::/64 via fd01:{index:x}::1")

    def _in(self, name: str, *commands: str) -> None:
        for command in commands:
            _run("ip", "netns", "exec", name, *command.split())


def _run(*command: str, text: str | None = None) -> None:
    subprocess.run(command, check=True, input=text, text=True, stdout=subprocess.DEVNULL)


# -- designs ---------------------------------------------------------------------------------------------------------


def sources(peers: int, family: int) -> list[int]:
    first = parse_address("10.0.0.1" if family == 4 else "fd00::1")
    return [first + STRIDE * i for i in range(peers)]


def used_ports(number: int) -> IntervalSet:
    ports = (FIRST_PORT + (number + n) % PORTS for n in range(USED))
    return IntervalSet.of((point(TCP, p), point(TCP, p)) for p in ports)


def _classes(peers: int, family: int, *, are_ranges: bool) -> tuple[PeerClass, ...]:
    members: list[list[int]] = [[] for _ in range(CLASSES)]
    for index, address in enumerate(sources(peers, family)):
        members[index % CLASSES].append(address)
    if are_ranges:
        sizes = (16, 8, 4)
        blocks = (tuple(_block(a, sizes[i % 3]) for i, a in enumerate(addresses)) for addresses in members)
        return tuple(PeerClass(n, f"cidr {n}", (), ranges) for n, ranges in enumerate(blocks, start=1) if ranges)
    return tuple(PeerClass(n, f"class {n}", tuple(a)) for n, a in enumerate(members, start=1) if a)


def _block(address: int, size: int) -> tuple[int, int]:
    """The prefix of this size around an address."""
    return address & ~(size - 1), address | (size - 1)


def intent(design: str, peers: int, family: int) -> Intent:
    """Enforced both ways: 50 classes, each with its own services in and any TCP out."""
    classes = _classes(peers, family, are_ranges=design == "cidrs")
    ranged = (parse_service("tcp/8000-8100"), ANY)
    cells = [
        Cell(c.id, ranged[c.id % 2] if design == "ranges+any" else used_ports(c.id - 1), "allow", f"bench/{c.id}")
        for c in classes
    ]
    out = [Cell(c.id, parse_service("tcp/443"), "allow", f"bench/{c.id}") for c in classes]
    directions: tuple[tuple[Direction, list[Cell]], ...] = (("in", cells), ("out", out))
    parts = tuple(Part(direction, tuple(found)) for direction, found in directions)
    return Intent("bench", "bench", Mode.both("enforce"), (), classes, parts)


def linear(peers: int, family: int) -> str:
    """One rule for each peer, its services in an anonymous set, as a list of rules is written by hand."""
    word, make = ("ip", ipaddress.IPv4Address) if family == 4 else ("ip6", ipaddress.IPv6Address)
    mask = 0xFFFFFFFF if family == 4 else (1 << 128) - 1
    rules = "\n".join(
        f"{word} saddr {make(a & mask)} tcp dport {FIRST_PORT}-{FIRST_PORT + PORTS} accept"
        for a in sources(peers, family)
    )
    return f"""table inet linear {{ chain input {{ type filter hook input priority 0; policy drop;
ct state vmap {{ established : accept, related : accept, invalid : drop }}
iif lo accept
meta l4proto ipv6-icmp accept
{rules}
}}
}}"""


def install(name: str, netns: str, peers: int, family: int) -> None:
    design = name.removesuffix(AGAIN)
    _run("ip", "netns", "exec", netns, "nft", "flush", "ruleset")
    if design == "ct":
        _run("ip", "netns", "exec", netns, "nft", "-f", "-", text=TRACKING)
    elif design == "linear":
        _run("ip", "netns", "exec", netns, "nft", "-f", "-", text=linear(peers, family))
    elif design != "none":
        NftablesTarget(netns).converge(intent(design, peers, family))


# -- changes ---------------------------------------------------------------------------------------------------------

MEMBERSHIP_BAR_MS = 5.0
REPAIR_BAR_S = 1.0
CHANGES = 40
LAST_BYTES, SOME_BYTES = 9, 1000
FORKS = multiprocessing.get_context("fork")


class Changed(NamedTuple):
    """What changes cost from end to end: planned, applied, read back and proven."""

    peers: int
    boot_s: float
    """From no table to a proven one."""
    again_s: float
    """Converging to what is there."""
    join_ms: float
    """One address more; median."""
    leave_ms: float
    """One address less, so that every connection is judged again; median."""
    isolate_ms: float
    """A peer is quarantined; median."""
    last_byte_ms: float
    """From that command to the last byte that passed of a connection with the peer that never stops; median."""
    repair_s: float
    """Somebody else's element is found, taken out, and proven gone."""


def measure_changes(peers: int) -> Changed:
    netns = f"rfb{os.getpid()}m"
    _run("ip", "netns", "add", netns)
    try:
        with Ownership(netns) as ownership:
            return _changed(NftablesTarget(netns, ownership=ownership), peers)
    finally:
        subprocess.run(["ip", "netns", "del", netns], check=False, capture_output=True)


def _changed(target: NftablesTarget, peers: int) -> Changed:
    wanted, newcomer = intent("exact", peers, 4), parse_address("192.168.7.1")
    boot, again = (_timed(lambda: target.converge(wanted)) for _ in range(2))
    joins, leaves = [], []
    for _ in range(CHANGES):
        joins.append(_timed(lambda: target.apply_membership({1: [newcomer]})))
        leaves.append(_timed(lambda: target.apply_membership({}, [newcomer])))
    quarantined = msgspec.structs.replace(wanted, isolated=(wanted.peers[0].addresses[0],))
    isolations = []
    for _ in range(CHANGES):
        isolations.append(_timed(lambda: target.apply_isolation(quarantined)))
        target.apply_isolation(wanted)
    medians = (1000 * float(np.median(found)) for found in (joins, leaves, isolations))
    return Changed(peers, boot, again, *medians, _last_byte_ms(peers), _repair_s(peers))


def _repair_s(peers: int) -> float:
    """Nobody owns the table here, so that somebody else can write to it."""
    netns = f"rfb{os.getpid()}r"
    _run("ip", "netns", "add", netns)
    try:
        target, wanted = NftablesTarget(netns), intent("exact", peers, 4)
        target.converge(wanted)
        _run("ip", "netns", "exec", netns, "nft", "add element inet ringfence peer4 { 192.168.9.9 : 0:1 }")
        return _timed(lambda: target.converge(wanted))
    finally:
        subprocess.run(["ip", "netns", "del", netns], check=False, capture_output=True)


def _last_byte_ms(peers: int) -> float:
    """A client that sends all the time, over a wire between two namespaces."""
    with Bench(("exact",)) as bench:
        netns, wanted = bench.servers["exact"], intent("exact", peers, 4)
        peer = wanted.peers[0].addresses[0]
        target = NftablesTarget(netns)
        target.converge(wanted)
        return 1000 * float(np.median([_last_byte_s(bench, target, wanted, peer) for _ in range(LAST_BYTES)]))


def _last_byte_s(bench: Bench, target: NftablesTarget, wanted: Intent, peer: int) -> float:
    port = FIRST_PORT
    listening = in_namespace(bench.servers["exact"], lambda: socket.create_server((bench.address(0, 4), port)))
    calling = in_namespace(bench.client, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    with listening, calling:
        calling.bind((format_address(peer), 0))
        calling.connect((bench.address(0, 4), port))
        with listening.accept()[0] as answering:
            told, tells = FORKS.Pipe(duplex=False)
            child = FORKS.Process(target=_talk, args=(calling, answering, tells))
            child.start()
            told.recv()
            begun = time.perf_counter()
            target.apply_isolation(msgspec.structs.replace(wanted, isolated=(peer,)), severs=True)
            last = told.recv()
            child.join()
    target.apply_isolation(wanted)
    return max(last - begun, 0.0)


def _talk(calling: socket.socket, answering: socket.socket, tells: Connection) -> None:
    """A process of its own sends byte after byte until the connection is ended, and tells when the last one came."""
    last = time.perf_counter()
    answering.settimeout(1.0)
    for index in itertools.count():
        try:
            calling.send(b"x")
            if not answering.recv(4096):
                break
        except OSError:
            break
        last = time.perf_counter()
        if index == SOME_BYTES:
            tells.send(None)
    tells.send(last)


def _timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def show_changes(found: Sequence[Changed]) -> None:
    heads = ("peers", "boot s", "again s", "join ms", "leave ms", "isolate ms", "last byte ms", "repair s", "bar")
    table = Table(*heads, title="nftables: changes, proven by read-back")
    for c in found:
        is_kept = max(c.join_ms, c.leave_ms) <= MEMBERSHIP_BAR_MS and c.repair_s <= REPAIR_BAR_S
        times = (c.join_ms, c.leave_ms, c.isolate_ms, c.last_byte_ms)
        cells = (f"{c.boot_s:.2f}", f"{c.again_s:.2f}", *(f"{ms:.1f}" for ms in times), f"{c.repair_s:.2f}")
        bar = f"≤ {MEMBERSHIP_BAR_MS:.0f} ms, {REPAIR_BAR_S:.0f} s" + ("" if is_kept else " MISSED")
        table.add_row(f"{c.peers:,}", *cells, bar)
    Console(width=120).print(table)


# -- measuring -------------------------------------------------------------------------------------------------------

AGAIN = " again"
"""The same design once more: what differs between the two is noise."""
ALL = ("none", "ct", "exact", "ranges+any", "cidrs", "none again", "ct again")


def measure(program: Path, mode: str, family: int, peers: int, turns: int, designs: Sequence[str]) -> Iterator[Ratio]:
    per_turn = LINEAR_TURN.get(peers, 6) if "linear" in designs else PER_TURN[mode]
    with Bench(designs) as bench:
        targets = []
        for index, (name, netns) in enumerate(bench.servers.items()):
            install(name, netns, peers, family)
            targets.append(f"{name},{netns},{bench.address(index, family)}")
        command = [str(program), mode, str(family), bench.client, str(per_turn), str(turns), str(peers), *targets]
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if found.returncode:
        raise SystemExit(f"nft_bench: {found.stderr}")
    table = np.array([_turn(line) for line in found.stdout.splitlines()])
    yield from _ratios(mode, family, peers, designs, table)


def _turn(line: str) -> list[float]:
    words = line.split()
    return [us for _, us in sorted((int(n), float(us)) for n, us in zip(words[::2], words[1::2], strict=True))]


def _ratios(mode: str, family: int, peers: int, designs: Sequence[str], table: np.ndarray) -> Iterator[Ratio]:
    for index, design in enumerate(designs):
        for over in ("none", "ct"):
            if over == design or over not in designs:
                continue
            ratios = np.sort(table[:, index] / table[:, designs.index(over)])
            median, (lower, upper) = np.median(ratios), _interval(ratios)
            us = float(np.median(table[:, index]))
            bar = BARS.get((mode, design, over))
            yield Ratio(mode, family, peers, design, over, float(median), float(lower), float(upper), us, bar)


def _interval(ordered: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the median, by ranks (the binomial's normal limit; Conover, Practical Nonparametric
    Statistics, section 3.2)."""
    n = len(ordered)
    reach = 0.98 * np.sqrt(n)
    first, last = max(int(np.floor(n / 2 - reach)), 0), min(int(np.ceil(n / 2 + reach)), n - 1)
    return float(ordered[first]), float(ordered[last])


def show(ratios: Sequence[Ratio]) -> None:
    table = Table("operation", "IP", "peers", "design", "µs", "over", "ratio", "95 % interval", "bar", title="nftables")
    for r in ratios:
        bar = "" if r.bar is None else f"≤ {r.bar:.2f}" + ("" if r.median <= r.bar else " MISSED")
        interval = f"{r.lower:.3f}..{r.upper:.3f}"
        table.add_row(
            r.mode, str(r.family), f"{r.peers:,}", r.design, f"{r.us:.2f}", r.over, f"{r.median:.3f}", interval, bar
        )
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default="1000,10000,100000")
    parser.add_argument("--family", default="4,6")
    parser.add_argument("--modes", default="conn,bulk,packet")
    parser.add_argument("--designs", default=",".join(ALL))
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--linear", action="store_true", help="one rule per peer too (slow to load)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--changes", action="store_true", help="only what changes cost, not packets")
    asked = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("nft") is None or shutil.which("cc") is None:
        raise SystemExit("this benchmark needs root, nft and a C compiler")
    changed = [measure_changes(peers) for peers in map(int, asked.peers.split(","))]
    if asked.changes:
        if asked.json:
            sys.stdout.write(msgspec.json.encode([c._asdict() for c in changed]).decode() + "\n")
        else:
            show_changes(changed)
        return
    found: list[Ratio] = []
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "nft_bench"
        _run("cc", "-O2", "-o", str(program), str(Path(__file__).with_name("nft_bench.c")))
        for mode in asked.modes.split(","):
            for family in map(int, asked.family.split(",")):
                for peers in map(int, asked.peers.split(",")):
                    found += measure(program, mode, family, peers, asked.turns, asked.designs.split(","))
                    if asked.linear and mode == "conn":
                        found += measure(program, mode, family, peers, 12, ("ct", "linear"))
    if asked.json:
        sys.stdout.write(msgspec.json.encode([r._asdict() for r in (*found, *changed)]).decode() + "\n")
    else:
        show(found)
        show_changes(changed)


if __name__ == "__main__":
    main()
