"""Notices that the control groups of an intent's processes are others by now: a unit that was restarted, or started.

A rule about a process matches the number of its control group, and systemd makes a new group at each start. While no
rule is about a process this costs nothing.

INVARIANT: it only says that something changed; what a unit is here is for the target to look up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from ringfence.targets.nftables.areas import CgroupRef
from ringfence.targets.nftables.cgroups import hierarchy, resolve_units

LOOK_S: Final = 1.0
_SEARCH_EVERY: Final = 5
"""Looking for a unit that is nowhere goes through all control groups, so it is done each so many looks."""
_BASE = Path("/sys/fs/cgroup")


class Units:
    """The processes of what is in force."""

    def __init__(self, changed: Callable[[], None], *, root: Path | None = None) -> None:
        self._changed, self._root = changed, root
        self._units: frozenset[str] = frozenset()
        self._groups: dict[str, CgroupRef] = {}
        self._any = asyncio.Event()

    def follow(self, units: Collection[str]) -> None:
        """These, from now on, as they are now."""
        if frozenset(units) == self._units:
            return
        self._units = frozenset(units)
        self._groups = self._resolved()
        (self._any.set if self._units else self._any.clear)()

    async def run(self) -> None:
        """Until cancelled."""
        looks = 0
        while True:
            await self._any.wait()
            await asyncio.sleep(LOOK_S)
            looks += 1
            is_search = self._units != self._groups.keys() and looks % _SEARCH_EVERY == 0
            if not is_search and all(map(self._is_there, self._groups.values())):
                continue
            before, self._groups = self._groups, await asyncio.to_thread(self._resolved)
            if self._groups != before:
                self._changed()

    def _resolved(self) -> dict[str, CgroupRef]:
        return resolve_units(sorted(self._units), self._root)[0] if self._units else {}

    def _is_there(self, group: CgroupRef) -> bool:
        """By its number, which is the inode of its folder (kernfs)."""
        root = self._root or hierarchy() or _BASE
        below = _BASE if _BASE in (root, *root.parents) else root
        try:
            return (below / group.path).stat().st_ino == group.id
        except OSError:
            return False
