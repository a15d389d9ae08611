"""How fast flow logs become labelled, merged, directed edges in the store and are decided, beside nfdump.

.venv/bin/python -m bench.bench_ingest [--rows 4000000] [--runs 3] [--json] [--no-peer] [--no-pure] [--folder DIR]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench import flow_day, measure, netflow_peer
from bench.flow_day import Day, Ints, Records
from bench.measure import Figure
from ringfence.catalog import flow_sources
from ringfence.core.engine import Engine
from ringfence.core.flow.conversations import Conversations
from ringfence.core.flow.tally import ImportReport
from ringfence.core.labels.selector import selector_of
from ringfence.core.net.service import parse_service
from ringfence.core.policy.model import Policy, Rule, Workloads
from ringfence.core.world import World
from ringfence.flows.ingest import ingest, read_flows
from ringfence.stores.duckdb import DuckFlowStore

FILES = 12
MILLION = 1e6
LINES_PER_S = 1e6
"""The bar: a million lines a second on two cores, from text to labelled, decided edges."""
CORES = 2
PEER_RATIO = 1.0
PURE_SHARE = 6
"""The fallback reads one file in so many: it is slower, and linear."""


class Timed(NamedTuple):
    """The least wall and CPU seconds of a few runs, and the last result."""

    wall_s: float
    cpu_s: float
    result: Any


def timed(call: Callable[[], Any], *, runs: int) -> Timed:
    wall, cpu, result = [], [], None
    for _ in range(runs):
        started, busy = time.perf_counter(), time.process_time()
        result = call()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - busy)
    return Timed(min(wall), min(cpu), result)


def world_of(day: Day) -> World:
    """The day's inventory under 240 rules between applications."""

    def app(number: int) -> tuple[Workloads]:
        return (Workloads((selector_of(app=f"app{number:03d}"),), f"app{number:03d}"),)

    tcp = parse_service("tcp")
    rules = tuple(Rule(f"r{n}", "allow", app(n), app(n * 7 % 240), tcp, ("tcp",)) for n in range(240))
    return World(day.inventory, (Policy("bench", rules=rules),))


def imported(paths: list[Path], day: Day, folder: Path, *, runs: int, engine: Engine | None = None) -> Timed:
    """From files to the store, into a new store each time; decided on the way where there is an engine."""

    def once() -> ImportReport:
        store_file = folder / "flows.duckdb"
        store_file.unlink(missing_ok=True)
        decide = engine.judge if engine else None
        with DuckFlowStore(store_file) as store:
            return ingest([str(path) for path in paths], day.inventory, store, among=flow_sources(), decide=decide)

    return timed(once, runs=runs)


def import_figures(day: Day, folder: Path, *, runs: int, is_pure_run: bool) -> Iterator[Figure]:
    plain = flow_day.write(day.records, folder / "plain", files=FILES)
    flagged = flow_day.write(day.records, folder / "flags", files=FILES, with_flags=True)
    packed = flow_day.write(day.records, folder / "gz", files=FILES, compress=True)
    lines = len(day.records.src)
    engine = Engine.compile(world_of(day))
    judged = imported(plain, day, folder, runs=runs, engine=engine)
    yield per_million(
        "text to labelled, decided, stored edges, wall", judged.wall_s, lines, target=MILLION / LINES_PER_S
    )
    yield per_million("  CPU of the same, of two cores", judged.cpu_s, lines, target=CORES * MILLION / LINES_PER_S)
    for name, paths in (("text to stored edges", plain), ("gzip to stored edges", packed)):
        found = imported(paths, day, folder, runs=runs)
        _all_counted(found.result, lines)
        yield per_million(f"{name}, wall", found.wall_s, lines, target=MILLION / LINES_PER_S)
        yield per_million(
            "  CPU of the same, of two cores",
            found.cpu_s,
            lines,
            target=CORES * MILLION / LINES_PER_S,
            note=_size(found.result),
        )
    yield Figure("store, bytes a line", (folder / "flows.duckdb").stat().st_size / lines, "B")
    for name, paths in (("default format", plain), ("with tcp-flags", flagged)):
        wrong = misdirected(
            read_flows([str(path) for path in paths], day.inventory, among=flow_sources()).conversations, day.records
        )
        yield Figure(f"connections turned the wrong way, {name}", wrong * 100, "%", target=1.0)
    if is_pure_run:
        yield from pure_figures(plain[: FILES // PURE_SHARE], day, folder)


def pure_figures(paths: list[Path], day: Day, folder: Path) -> Iterator[Figure]:
    """The same import without the C extension; its conversations must be the same."""
    before = read_flows([str(path) for path in paths], day.inventory, among=flow_sources())
    os.environ["RINGFENCE_PURE"] = "1"
    try:
        found = imported(paths, day, folder, runs=1)
        after = read_flows([str(path) for path in paths], day.inventory, among=flow_sources())
    finally:
        del os.environ["RINGFENCE_PURE"]
    for name in ("connections", "packets", "bytes"):
        assert getattr(before.conversations, name).sum() == getattr(after.conversations, name).sum()
    assert len(before.conversations) == len(after.conversations)
    lines = before.report.total("records")
    yield per_million("without C, text to stored edges, wall", found.wall_s, lines)
    yield per_million("  CPU of the same", found.cpu_s, lines)


def peer_figures(day: Day, folder: Path, *, runs: int) -> Iterator[Figure]:
    """nfdump: collecting and aggregating; ours: reading text, labelling, merging, directing, aggregating."""
    peer = netflow_peer.run(day.records, folder / "nfdump", runs=runs)
    assert peer.sent == peer.stored, (peer.sent, peer.stored)
    assert peer.sent == peer.aggregated, (peer.sent, peer.aggregated)
    paths = [str(path) for path in sorted((folder / "plain").iterdir())]
    ours = timed(lambda: read_flows(paths, day.inventory, among=flow_sources()), runs=runs)
    _all_counted(ours.result.report, peer.sent.flows)
    flows = peer.sent.flows
    yield per_million("text to labelled edges, CPU", ours.cpu_s, flows, note=_size(ours.result.report))
    note = f"by {netflow_peer.GROUP_BY}; unlabelled, not merged; from its binary file"
    yield per_million("nfdump -A of the same records, CPU", peer.aggregate_cpu_s, flows, note=note)
    yield per_million("nfcapd taking them in, CPU", peer.collect_cpu_s, flows)
    both = peer.collect_cpu_s + peer.aggregate_cpu_s
    yield Figure("CPU, ours over nfdump", ours.cpu_s / both, "x", target=PEER_RATIO, note="collect and aggregate")
    yield Figure("CPU, ours with parsing over nfdump -A alone", ours.cpu_s / peer.aggregate_cpu_s, "x")
    yield Figure("wall, ours with parsing over nfdump -A alone", ours.wall_s / peer.aggregate_wall_s, "x")


def _all_counted(report: ImportReport, lines: int) -> None:
    assert (report.total("records"), report.total("malformed")) == (lines, 0)


def _size(report: ImportReport) -> str:
    return f"{report.conversations:,} rows, {report.connections:,} connections, {report.endpoints:,} ends"


def per_million(name: str, seconds: float, lines: int, *, target: float | None = None, note: str = "") -> Figure:
    """Seconds a million lines, with the rate beside it."""
    rate = f"{lines / seconds / MILLION:.2f} M/s"
    return Figure(f"{name}, per million lines", seconds / lines * MILLION, target=target, note=f"{rate} {note}".strip())


def misdirected(found: Conversations, records: Records) -> float:
    """The share of connections whose (client, server, protocol, port) never opened one. ICMP has no port to tell by."""
    opened = records.forward & (records.protocol != 1)
    truth = _key(records.src, records.dst, records.protocol << 16 | records.dport)[opened]
    address = np.array([(end.address or 0) & 0xFFFFFFFF for end in found.endpoints], np.int64)
    told = _key(address[found.source], address[found.destination], found.point.astype(np.int64))
    counted = found.connections * (found.point >> 16 != 1)
    return float(counted[~np.isin(told, np.unique(truth))].sum() / counted.sum())


def _key(source: Ints, destination: Ints, point: Ints) -> NDArray[np.uint64]:
    pair = source.astype(np.uint64) << np.uint64(32) | destination.astype(np.uint64)
    return (pair * np.uint64(0x9E3779B97F4A7C15)) ^ (point.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--no-pure", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the logs are written (default: a temporary directory)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ringfence-bench-") as temporary:
        folder = options.folder or Path(temporary)
        day = flow_day.generate(options.rows)
        figures = list(import_figures(day, folder, runs=options.runs, is_pure_run=not options.no_pure))
        if netflow_peer.is_installed() and not options.no_peer:
            figures += peer_figures(day, folder, runs=options.runs)
        figures.append(Figure("peak memory", measure.peak_rss_mb(), "MB", note="with the generator's arrays"))
    measure.show(f"flow import, {len(day.records.src):,} lines", figures, as_json=options.json)


if __name__ == "__main__":
    main()
