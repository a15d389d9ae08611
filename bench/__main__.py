"""`make bench`: every benchmark after the other, each with its peer or physical limit beside it.

python -m bench [NAME ...]     names: engine policy ingest mine map isolate api bus fleet agent agent_telemetry nftables
                               throughput web
docs/explanation/measured.md says which promise each of them is about.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

BENCHES = {
    "engine": (),
    "policy": (),
    "ingest": ("nfdump",),
    "mine": (),
    "map": (),
    "isolate": (),
    "api": ("wrk",),
    "bus": (),
    "fleet": (),
    "agent": ("nft", "ip"),
    "agent_telemetry": ("nft", "ip", "cc"),
    "nftables": ("nft", "ip", "cc"),
    "throughput": ("nft", "ip", "iperf3"),
    "web": ("chromium",),
}
"""Each with the programs it needs beside Ringfence."""
AS_ROOT = {"agent", "agent_telemetry", "nftables", "throughput"}


def main(names: list[str]) -> int:
    """Run them; one that cannot run here says why. Returns the worst exit code."""
    unknown = set(names) - set(BENCHES)
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    worst = 0
    for name in names or BENCHES:
        print(f"\n==== {name} " + "=" * (60 - len(name)), flush=True)
        why = _missing(name)
        if why:
            print(f"skipped: {why}")
            continue
        worst = max(worst, subprocess.run([sys.executable, "-m", f"bench.bench_{name}"], check=False).returncode)
    return worst


def _missing(name: str) -> str:
    absent = [program for program in BENCHES[name] if shutil.which(program) is None]
    if absent:
        return f"needs {', '.join(absent)}"
    return "needs root for network namespaces" if name in AS_ROOT and os.geteuid() != 0 else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
