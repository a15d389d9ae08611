"""Record a world's traffic as a small estate: `inventory/` and `flows/`, for where no lab can run.

    sudo python -m ringfence.lab.record DIR [WORLD] [SECONDS]

The recording that ships with Ringfence (`recorded_estate`) was made so, with the shop and 45 seconds. What it holds
is what the kernel of each managed host saw, as VPC flow logs and Zeek connection logs; nothing is edited.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
from importlib import resources
from pathlib import Path

import msgspec
import yaml

from ringfence.core.errors import InputError
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode
from ringfence.core.net.address import format_address
from ringfence.lab.lab import Lab
from ringfence.lab.world import World

SECONDS = 45.0


class Recording(msgspec.Struct, frozen=True):
    """What was recorded and what was missed."""

    records: int
    size_bytes: int
    dropped: int
    """Telemetry messages that the kernel could not deliver; 0 means the recording is complete."""


def recorded_estate(world: str = "shop") -> Path:
    """The recording that ships with Ringfence. Raises InputError `lab-recording-missing`."""
    folder = Path(str(resources.files("ringfence.lab") / "recorded" / world))
    if not (folder / "flows").is_dir():
        help_ = "make one as root: python -m ringfence.lab.record"
        raise InputError("lab-recording-missing", f"there is no recording of `{world}`", help=help_)
    return folder


def record(world: World | str, folder: Path, *, seconds: float = SECONDS) -> Recording:
    """Run a lab for a while and write its estate. Raises what `Lab.up` raises."""
    with tempfile.TemporaryDirectory() as scratch, Lab.up(world, flows_dir=Path(scratch)) as lab:
        lab.run(seconds)
        write_inventory(lab.inventory, folder / "inventory" / "workloads.yaml")
        logs = sorted(lab.flows_dir.glob("*/*.log"))
        sizes = [_compress(path, folder / "flows" / path.parent.name) for path in logs]
        return Recording(lab.record_count, sum(sizes), lab.dropped)


def write_inventory(inventory: Inventory, path: Path) -> None:
    """An inventory file that `ringfence.inventory.files` reads back as these workloads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [
        {
            "name": workload.name,
            "kind": workload.kind,
            "labels": dict(workload.labels),
            "addresses": [format_address(lease.address) for lease in workload.addresses],
            **({"mode": workload.mode.inbound} if workload.mode != Mode() else {}),
        }
        for workload in inventory.workloads
    ]
    path.write_text(yaml.safe_dump(entries, sort_keys=False, default_flow_style=None, width=110), encoding="utf-8")


def _compress(path: Path, folder: Path) -> int:
    """The same bytes always make the same file: no name and no time in it."""
    folder.mkdir(parents=True, exist_ok=True)
    packed = gzip.compress(path.read_bytes(), compresslevel=9, mtime=0)
    (folder / f"{path.name}.gz").write_bytes(packed)
    return len(packed)


def main(arguments: list[str]) -> None:
    folder, world, seconds = (*arguments, *["", "shop", str(SECONDS)][len(arguments) :])
    if not folder:
        raise SystemExit("usage: python -m ringfence.lab.record DIR [WORLD] [SECONDS]")
    done = record(world, Path(folder), seconds=float(seconds))
    print(f"{done.records} records, {done.size_bytes} bytes compressed, {done.dropped} telemetry messages lost")


if __name__ == "__main__":
    main(sys.argv[1:])
