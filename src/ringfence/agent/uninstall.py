"""The end of an agent on its host, and what stays behind: by word, never by accident.

    open       our table is removed: nothing of ours decides any more
    closed     everything but the essential and the failsafe is blocked
    enforced   the rules stay as they are until the host reboots; nobody follows changes any more

INVARIANT: the rules come first and the identity last: a failure in between leaves an agent that can be started again.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import Literal, get_args

from ringfence.agent.enrol import keys
from ringfence.agent.held import breakglass
from ringfence.agent.held.disk import Disk
from ringfence.agent.point import How, Point
from ringfence.core.errors import InputError
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.model import Intent

Leave = Literal["open", "closed", "enforced"]
LEAVES: tuple[Leave, ...] = get_args(Leave)
UNITS = ("ringfence-agent.service", "ringfence-boot.service")


def leave(word: str) -> Leave:
    """Raises InputError `bad-leave`."""
    for known in LEAVES:
        if word == known:
            return known
    raise InputError("bad-leave", f"`{word}` is no way to leave a host", help=f"one of {', '.join(LEAVES)}")


def rules(disk: Disk, point: Point, how: Leave) -> None:
    """What stays in the kernel. Raises what the target raises; then nothing has changed."""
    if how == "open":
        point.remove()
    elif how == "closed":
        point.converge(_closed(disk), How())


def forget(disk: Disk) -> None:
    """Identity, policy and what waits to be told."""
    disk.forget()
    breakglass.forget(disk.folder)
    for name in (keys.IDENTITY, keys.NEXT_KEY):
        (disk.folder / name).unlink(missing_ok=True)
    shutil.rmtree(disk.folder / "spool", ignore_errors=True)


def disable_units() -> None:
    """So that nothing is started again; where there is no systemd there is nothing to do."""
    if shutil.which("systemctl"):
        subprocess.run(["systemctl", "disable", *UNITS], check=False, capture_output=True, timeout=30)


def _closed(disk: Disk) -> Intent:
    """This host with no permission at all. Raises InputError `nothing-held`: who it is was never told."""
    held = disk.load().held()
    assignment = held.assignment if held else None
    if held is None or assignment is None:
        raise InputError("nothing-held", "this host was told nothing yet, so it cannot say what its failsafe is",
                         help="leave it `open`, or wait for its first policy")  # fmt: skip
    station = assignment.station
    isolations = held.isolations.isolations if held.isolations else ()
    isolated = {a for one in isolations if one.workload != station.workload for a in one.addresses}
    return Intent(
        workload=held.workload,
        name=station.name,
        mode=Mode.both("enforce"),
        own=station.own,
        failsafe=station.failsafe,
        is_quarantined=any(one.workload == station.workload for one in isolations),
        isolated=tuple(sorted(isolated)),
    )
