"""nfdump on the same records: sent as NetFlow v5 to nfcapd over loopback, then aggregated by ends, protocol and port.

nfdump neither labels nor merges reports nor tells a direction; it starts from its own binary file. The totals must be
those sent.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.flow_day import START, Records

GROUP_BY = "srcip,dstip,proto,dstport"
_PER_PACKET = 30
_BURST = 24
"""Packets sent before looking at the receiver's queue: they fit the default socket buffer."""
_RECORD = np.dtype(
    [("src", ">u4"), ("dst", ">u4"), ("hop", ">u4"), ("interfaces", ">u4"), ("packets", ">u4"), ("bytes", ">u4"),
     ("first", ">u4"), ("last", ">u4"), ("sport", ">u2"), ("dport", ">u2"), ("pad", "u1"), ("flags", "u1"),
     ("protocol", "u1"), ("tos", "u1"), ("rest", "V8")]
)  # fmt: skip
_HEADER = np.dtype(
    [("version", ">u2"), ("count", ">u2"), ("uptime", ">u4"), ("seconds", ">u4"), ("ns", ">u4"), ("sequence", ">u4"),
     ("rest", "V4")]
)  # fmt: skip
"""A NetFlow v5 packet (Cisco, NetFlow Export Datagram Format)."""


class Totals(NamedTuple):
    flows: int
    packets: int
    bytes: int


class PeerRun(NamedTuple):
    """CPU and wall seconds of collecting and of aggregating, and what nfdump counted before and after."""

    collect_cpu_s: float
    aggregate_cpu_s: float
    aggregate_wall_s: float
    sent: Totals
    stored: Totals
    aggregated: Totals


def is_installed() -> bool:
    return shutil.which("nfcapd") is not None and shutil.which("nfdump") is not None


def run(records: Records, folder: Path, *, runs: int) -> PeerRun:
    """Collect once, aggregate `runs` times (the least counts)."""
    folder.mkdir(parents=True, exist_ok=True)
    collect_cpu_s = _collect(records, folder)
    (stored,) = folder.glob("nfcapd.2*")
    out = folder / "aggregated"
    command = ["nfdump", "-q", "-r", str(stored), "-A", GROUP_BY, "-w", str(out)]
    timed = [_timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)) for _ in range(runs)]
    sent = Totals(len(records.src), int(records.packets.sum()), int(records.bytes.sum()))
    return PeerRun(
        collect_cpu_s, min(cpu for cpu, _ in timed), min(wall for _, wall in timed), sent, _totals(stored), _totals(out)
    )


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    """(CPU of children, wall) in seconds."""
    before, started = os.times(), time.perf_counter()
    call()
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return cpu, time.perf_counter() - started


def _totals(path: Path) -> Totals:
    text = subprocess.run(["nfdump", "-I", "-r", str(path)], check=True, capture_output=True, text=True).stdout
    found = dict(re.findall(r"^(Flows|Packets|Bytes): (\d+)$", text, re.MULTILINE))
    return Totals(int(found["Flows"]), int(found["Packets"]), int(found["Bytes"]))


def _collect(records: Records, folder: Path) -> float:
    """nfcapd's CPU seconds for taking all records in and writing them out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["nfcapd", "-b", "127.0.0.1", "-p", str(port), "-w", str(folder), "-t", "86400"]
    before = os.times()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as nfcapd:
        try:
            _wait(lambda: _queued(port) is not None)
            _send(records, port)
            _wait(lambda: _queued(port) == 0)
        finally:
            nfcapd.send_signal(signal.SIGTERM)
            nfcapd.wait(timeout=60)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def _send(records: Records, port: int) -> None:
    """As fast as the receiver takes them: never more in flight than its buffer holds."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        packets = _packets(records)
        for start in range(0, len(packets), _BURST):
            for packet in packets[start : start + _BURST]:
                sender.send(packet)
            while _queued(port):
                os.sched_yield()


def _packets(records: Records) -> list[bytes]:
    rows = np.zeros(len(records.src), _RECORD)
    for name in ("src", "dst", "packets", "bytes", "sport", "dport", "flags", "protocol"):
        rows[name] = getattr(records, name)
    rows["first"], rows["last"] = (records.start - START) * 1000, (records.end - START) * 1000
    header = np.zeros(1, _HEADER)
    uptime = int(rows["last"].max()) + 1000
    header["version"], header["uptime"], header["seconds"] = 5, uptime, START + uptime // 1000
    out = []
    for at in range(0, len(rows), _PER_PACKET):
        part = rows[at : at + _PER_PACKET]
        header["count"], header["sequence"] = len(part), at
        out.append(header.tobytes() + part.tobytes())
    return out


def _queued(port: int) -> int | None:
    """Bytes waiting at the UDP socket of a local port (proc(5), /proc/net/udp); None when there is none."""
    wanted = f"0100007F:{port:04X}"
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[1] == wanted:
            return int(columns[4].split(":")[1], 16)
    return None


def _wait(is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_done():
        if time.monotonic() > deadline:
            raise TimeoutError("nfcapd does not take part")
        os.sched_yield()
