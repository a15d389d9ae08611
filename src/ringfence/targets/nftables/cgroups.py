"""A process part's unit -> the control group nftables can match (`socket cgroupv2`).

INVARIANT: a unit resolves to exactly one existing group or not at all; never to a parent, or to the root of them all.
INVARIANT: a name finds only what the system's own manager may have made. Below units, and in folders given to others,
anybody may make a group of any name (`systemctl --user`, containers): those are reached by their whole path alone.
Knows cgroup v2 only: nftables has no match for an executable's path.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ringfence.core.errors import Finding
from ringfence.targets.nftables.areas import CgroupRef

_MOUNTS = Path("/proc/self/mounts")
_BASE = Path("/sys/fs/cgroup")
_LEAVES = (".service", ".scope", ".socket", ".mount", ".swap")
"""Of units that have no other units of the same manager below them."""
_UNIT_SUFFIXES = (".slice", *_LEAVES)


def hierarchy() -> Path | None:
    """Where cgroup v2 is mounted: `/sys/fs/cgroup`, its `unified` in a hybrid set-up, or elsewhere; None when it is
    not.
    """
    mounts = [line.split()[1:3] for line in _MOUNTS.read_text().splitlines()]
    found = [Path(where) for where, kind in mounts if kind == "cgroup2"]
    return min(found, key=lambda path: (_BASE not in (path, *path.parents), len(path.parts)), default=None)


def lineages(root: Path | None = None) -> dict[int, tuple[int, ...]]:
    """Every control group there is by its kernel id: its ancestors' ids from level 1 down, its own last."""
    root = root or hierarchy()
    if root is None:
        return {}
    found: dict[int, tuple[int, ...]] = {root.stat().st_ino: ()}
    waiting: list[tuple[Path, tuple[int, ...]]] = [(root, ())]
    while waiting:
        folder, above = waiting.pop()
        for below in _folders(folder):
            lineage = (*above, below.inode())
            found[below.inode()] = lineage
            waiting.append((Path(below.path), lineage))
    return found


def _folders(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:  # the group has ended meanwhile
        return []


def named_units(units: Iterable[str]) -> tuple[dict[str, CgroupRef], tuple[Finding, ...]]:
    """Every unit by its own name or path, for a table that is shown and not applied, whatever machine this is.

    Its kernel id is not known. Refuses only what names no group on any host.
    """
    groups: dict[str, CgroupRef] = {}
    findings: list[Finding] = []
    for unit in units:
        names = _names_of(unit)
        if names is None:
            findings.append(_not_a_name(unit))
        else:
            groups[unit] = CgroupRef("/".join(names), len(names), 0)
    return groups, tuple(findings)


def resolve_units(units: Iterable[str], root: Path | None = None) -> tuple[dict[str, CgroupRef], tuple[Finding, ...]]:
    """Every unit's control group, and a refusal for every one that has none."""
    root = root or hierarchy()
    groups: dict[str, CgroupRef] = {}
    findings: list[Finding] = []
    for unit in units:
        found = _resolve(unit, root)
        if isinstance(found, CgroupRef):
            groups[unit] = found
        else:
            findings.append(found)
    return groups, tuple(findings)


def _resolve(unit: str, root: Path | None) -> CgroupRef | Finding:
    if root is None:
        return _refusal("process-cgroup-missing", unit, "cgroup v2 is not mounted", "mount it at /sys/fs/cgroup")
    names = _names_of(unit)
    if names is None:
        return _not_a_name(unit)
    direct = root.joinpath(*names)
    if direct.is_dir():
        return _reference(direct, root)
    if unit.startswith("/") and not unit.endswith(_UNIT_SUFFIXES):
        help_ = "name the systemd unit or the control group the program runs in"
        return _refusal("process-path-unsupported", unit, "nftables cannot match the path of a program", help_)
    named = list(_named(unit, root)) if "/" not in unit else []
    if len(named) == 1:
        return _reference(named[0], root)
    if named:
        help_ = "give the path of the control group: " + ", ".join(str(p.relative_to(root)) for p in named)
        return _refusal("process-cgroup-ambiguous", unit, "more than one control group has this name", help_)
    help_ = "start the unit, then apply again"
    return _refusal("process-cgroup-missing", unit, "no control group has this name", help_)


def _named(unit: str, root: Path) -> Iterator[Path]:
    """The groups of this name that are the system's own. Its units stand in slices only (systemd.slice(5)); a group
    given to another user belongs to that user (systemd.resource-control(5), Delegate)."""
    owner, is_unit = root.stat().st_uid, unit.endswith(_UNIT_SUFFIXES)
    for top, below, _ in os.walk(root):
        if unit in below:
            yield Path(top) / unit
        below[:] = [name for name in below if _may_hold(Path(top) / name, owner, is_unit=is_unit)]


def _may_hold(group: Path, owner: int, *, is_unit: bool) -> bool:
    if group.name.endswith(_LEAVES) or (is_unit and group.suffix != ".slice"):
        return False
    try:
        return group.stat().st_uid == owner
    except OSError:  # it has ended meanwhile
        return False


def _names_of(unit: str) -> list[str] | None:
    """The steps of a path below the root of all control groups; None for what is no such path."""
    names = [name for name in unit.split("/") if name]
    return None if not names or {".", ".."} & {*names} or "\0" in unit else names


def _not_a_name(unit: str) -> Finding:
    help_ = "name the systemd unit, or its path below the root of all control groups"
    return _refusal("process-path-unsupported", unit, "this is not the name of one control group", help_)


def _reference(group: Path, root: Path) -> CgroupRef:
    """The inode number of a cgroup directory is its kernel id (kernfs, 64-bit)."""
    relative = group.relative_to(root)
    shown = group.relative_to(_BASE) if _BASE in group.parents else relative
    return CgroupRef(str(shown), len(relative.parts), group.stat().st_ino)


def _refusal(code: str, unit: str, why: str, help_: str) -> Finding:
    return Finding(code, f"process `{unit}` cannot be enforced here: {why}", help=help_, subject=unit)
