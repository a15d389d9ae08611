"""Bulk throughput of a host that enforces, beside one without a firewall and one that tracks connections only.

iperf3 over veth, each design in a network namespace of its own, in turns; client and server run side by side, as on two
hosts (`bench_nftables` counts the processor time of both ends on one core instead).

.venv/bin/python -m bench.bench_throughput [--peers 100000] [--turns 8] [--seconds 2] [--streams 1,4] [--json]
"""

from __future__ import annotations

import argparse
import subprocess
import time
from statistics import median

import msgspec

from bench.bench_nftables import FIRST_PORT, Bench, install
from bench.measure import Figure, show

DESIGNS = ("none", "ct", "exact")
NAMES = {"ct": "connection tracking alone", "exact": "enforcing with {:,} peers"}
SOURCE = "10.0.0.1"
"""Of the first class, which may use the first port."""
LEAST = 0.95


def throughput(bench: Bench, index: int, server: str, *, seconds: int, streams: int) -> float:
    """Bits per second of one transfer."""
    listening = subprocess.Popen(
        ["ip", "netns", "exec", server, "iperf3", "-s", "-1", "-p", str(FIRST_PORT)], stdout=subprocess.DEVNULL
    )
    time.sleep(0.3)
    try:
        told = subprocess.run(
            [
                *("ip", "netns", "exec", bench.client, "iperf3", "-J", "-B", SOURCE, "-c", bench.address(index, 4)),
                *("-p", str(FIRST_PORT), "-t", str(seconds), "-P", str(streams)),
            ],
            check=True, capture_output=True, timeout=seconds + 30,
        )  # fmt: skip
    finally:
        listening.terminate()
        listening.wait(10)
    return float(msgspec.json.decode(told.stdout)["end"]["sum_received"]["bits_per_second"])


def measured(peers: int, streams: int, *, turns: int, seconds: int) -> list[Figure]:
    """Medians of the ratios within a turn."""
    found: dict[str, list[float]] = {design: [] for design in DESIGNS}
    with Bench(DESIGNS) as bench:
        for name, netns in bench.servers.items():
            install(name, netns, peers, 4)
        for _ in range(turns):
            for index, (name, netns) in enumerate(bench.servers.items()):
                found[name].append(throughput(bench, index, netns, seconds=seconds, streams=streams))
    words = f"{streams} stream{'s' if streams > 1 else ''}"
    out = [Figure(f"{words}: no firewall", median(found["none"]) / 1e9, "Gbit/s")]
    for design, name in NAMES.items():
        ratio = median(none / own for own, none in zip(found[design], found["none"], strict=True))
        note = f"{100 / ratio:.1f} % of no firewall; {median(found[design]) / 1e9:.1f} Gbit/s"
        out.append(Figure(f"{words}: no firewall over {name.format(peers)}", ratio, "x", 1 / LEAST, note))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--streams", default="1,4")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures = [
        figure
        for streams in map(int, asked.streams.split(","))
        for figure in measured(asked.peers, streams, turns=asked.turns, seconds=asked.seconds)
    ]
    show("bulk throughput", figures, as_json=asked.json)


if __name__ == "__main__":
    main()
