"""What telemetry costs a host: CPU at 10,000 new connections a second and when idle, memory, bytes a row.

The connections are real: UDP from a peer namespace, each of another source port and service, tracked by the kernel and
told by ctnetlink. The sender is a process of its own, so that the CPU is the observer's alone; beside it is none.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measure import Figure, show
from ringfence.agent.observe import Observer
from ringfence.agent.spool import Spool
from ringfence.targets.nftables import NftablesTarget
from ringfence.wire.columns import decode

RATE, SECONDS, IDLE_S = 10_000, 8, 10
TRACKING = "table inet tracking { chain c { type filter hook input priority -300; ct state new; }; }"
SENDER = """
import socket, sys, time
rate, seconds = int(sys.argv[1]), float(sys.argv[2])
socks = []
for port in range(20000, 20200):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("172.20.0.1", port)); socks.append(s)
begin, sent = time.monotonic(), 0
while (now := time.monotonic() - begin) < seconds:
    while sent < now * rate:
        socks[sent % 200].sendto(b"x", ("172.20.0.2", 1024 + sent // 200 % 50000)); sent += 1
    time.sleep(0.001)
print(sent)
"""


@contextmanager
def ground() -> Iterator[tuple[str, str]]:
    host, peer = (f"rfb{os.getpid()}{end}" for end in "hp")
    try:
        for name in (host, peer):
            ip("netns", "add", name)
        ip("link", "add", "v", "netns", host, "type", "veth", "peer", "name", "v", "netns", peer)
        for name, address in ((host, "172.20.0.2/24"), (peer, "172.20.0.1/24")):
            ip("-n", name, "addr", "add", address, "dev", "v")
            ip("-n", name, "link", "set", "v", "up")
        settings = ("nf_conntrack_acct=1", "nf_conntrack_udp_timeout=1")
        for setting in settings:
            ip("netns", "exec", host, "sysctl", "-qw", f"net.netfilter.{setting}")
        ip("netns", "exec", host, "sysctl", "-qw", "net.ipv4.icmp_ratelimit=1")
        ip("netns", "exec", host, "nft", TRACKING)
        yield host, peer
    finally:
        for name in (host, peer):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=30)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=30)


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measured(host: str, peer: str, folder: Path) -> list[Figure]:
    spool = Spool(folder)
    observer = Observer(NftablesTarget(host), spool, netns=host, interval_s=10)
    running = asyncio.create_task(observer.run())
    await observer.ready.wait()
    await asyncio.sleep(1)
    before = cpu()
    await asyncio.sleep(IDLE_S)
    idle = (cpu() - before) / IDLE_S
    command = ["ip", "netns", "exec", peer, sys.executable, "-c", SENDER, str(RATE), str(SECONDS)]
    before, began = cpu(), time.monotonic()
    sender = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    out, _ = await sender.communicate()
    took = time.monotonic() - began
    busy = (cpu() - before) / took
    sent = int(out)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    stats = observer.stats()
    kept = [decode(one.data) for one in spool.pending(10**6) if one.kind == "flows"]
    size = sum(len(one.data) for one in spool.pending(10**6) if one.kind == "flows")
    counted = sum(int(rows.connections.sum()) for rows in kept)
    rows = sum(map(len, kept))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    each = f"{sent / took:,.0f} connections/s, {stats.events:,} events, {stats.lost:,} lost"
    return [
        Figure("CPU, idle", 100 * idle, "%", 0.5, f"over {IDLE_S} s"),
        Figure("CPU, busy", 100 * busy, "%", 20, each),
        Figure(
            "connections not counted", abs(sent - counted), "", 1 + stats.lost, f"{sent:,} sent, {counted:,} counted"
        ),
        Figure("peak memory", peak, "MB", 100, "with the benchmark's own imports and all batches decoded"),
        Figure("size", size / max(rows, 1), "B/row", 20, f"{rows:,} rows"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with ground() as (host, peer), tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measured(host, peer, Path(folder)))
    show("telemetry of a host", figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
