"""Which of the host's own processes talks: a connection's socket -> its control group -> the systemd unit.

Listeners answer for what comes in, connected sockets for what goes out. A connection that was over before anybody
looked belongs to nobody known: it is counted, never guessed.

INVARIANT: names of units, control groups and programs are all that is read; command lines and environments, where
secrets are, never.
INVARIANT: a name is whatever a user of the host made it: bytes that are no text, ends of lines and the like stop
nothing and pass for nothing (`readable`), and a group that a user made bears no unit of the system's (`unit_of`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringfence.core.net.service import TCP
from ringfence.flows.conntrack.ledger import OUT, THROUGH, mixed
from ringfence.flows.conntrack.sockets import LISTEN, SOCKET, UNCONNECTED
from ringfence.targets.nftables.cgroups import hierarchy
from ringfence.targets.nftables.marks import PICKED_UP

UNKNOWN: Final = 0
"""The number of a process nobody knows."""
_SUFFIXES = (".service", ".scope", ".socket", ".mount", ".swap")
_FRESH_S = 0.25
_SHARE = 50
"""Looking takes at most one part in so many of the time."""
_WALK_S = 5.0
_MOST_UNITS = 1 << 16
_ANY_V4 = 0xFFFF << 32
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""Of the namespace of whoever reads it; for IPv6 too."""


def ports_of_clients() -> range:
    """The local ports that the kernel hands out to clients, in the namespace this runs in. Raises OSError."""
    first, last = map(int, _PORT_RANGE.read_text().split())
    return range(first, last + 1)


class Units:
    """Control groups by their kernel id, and units by number. Number 0 is nobody known; numbers never change."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = root or hierarchy()
        self._by_id: dict[int, int] = {}
        self._numbers = {"": UNKNOWN}
        self._walked = -_WALK_S

    @property
    def names(self) -> tuple[str, ...]:
        """By number."""
        return tuple(self._numbers)

    def numbers_of(self, cgroups: NDArray[np.uint64]) -> NDArray[np.int32]:
        """The unit of each control group; 0 for one that is gone or hidden."""
        ids, inverse = np.unique(cgroups, return_inverse=True)
        known = ids.tolist()
        if any(id not in self._by_id for id in known if id) and time.monotonic() - self._walked >= _WALK_S:
            self._walk()
        return np.array([self._by_id.get(id, UNKNOWN) for id in known], np.int32)[inverse]

    def _walk(self) -> None:
        """The inode of a control group's folder is its id (kernfs)."""
        self._walked = time.monotonic()
        if self._root is None:
            return
        for folder, _, _ in os.walk(self._root):
            try:
                id = os.stat(folder).st_ino
            except OSError:
                continue
            name = unit_of(readable(os.fsencode(os.path.relpath(folder, self._root))))
            if name in self._numbers or len(self._numbers) < _MOST_UNITS:
                self._by_id[id] = self._numbers.setdefault(name, len(self._numbers))


def unit_of(path: str) -> str:
    """The path of a control group below the root -> the system's unit it belongs to, by name; else by its path: up to
    the innermost unit of another manager (a user's own, a container's), or all of it."""
    if path == ".":
        return ""
    steps = path.split("/")
    units = [at for at, step in enumerate(steps) if step.endswith(_SUFFIXES)]
    if not units:
        return f"/{path}"
    is_systems = len(units) == 1 and all(step.endswith(".slice") for step in steps[: units[0]])
    return steps[units[0]] if is_systems else "/" + "/".join(steps[: units[-1] + 1])


def readable(name: bytes) -> str:
    """A name of the kernel's as one word of text, whoever chose it."""
    return "".join(c if c.isprintable() else "\ufffd" for c in name.decode(errors="replace"))


def program_name(process: Path) -> str:
    """Of a process by its folder in /proc: `comm`. Raises OSError."""
    return readable((process / "comm").read_bytes().removesuffix(b"\n"))


class _Table(NamedTuple):
    """What is known of sockets by the hash of their ends; ends that several units share are nobody's."""

    keys: NDArray[np.uint64]
    units: NDArray[np.int32]

    @staticmethod
    def of(keys: NDArray[np.uint64], units: NDArray[np.int32]) -> _Table:
        order = np.lexsort((units, keys))
        keys, units = keys[order], units[order]
        unique, first = np.unique(keys, return_index=True)
        last = np.append(first, len(keys))[1:] - 1
        return _Table(unique, np.where(units[first] == units[last], units[first], UNKNOWN).astype(np.int32))

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        if not len(self.keys):
            return np.full(len(keys), UNKNOWN, np.int32)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[place] == keys, self.units[place], UNKNOWN).astype(np.int32)


class Processes:
    """Attributes connections by a picture of the host's sockets, taken anew when it is old."""

    def __init__(self, look: Callable[[], NDArray[Any]], units: Units, *, fresh_s: float = _FRESH_S) -> None:
        """`look` gives SOCKET rows; where it raises OSError nobody is known, and `failures` counts it."""
        self._look, self.units, self._fresh_s = look, units, fresh_s
        self.client_ports = range(0)
        """Those that the kernel hands out to the host's own clients."""
        self.sockets = np.zeros(0, SOCKET)
        self._due = 0.0
        self._seed = np.uint64(int.from_bytes(os.urandom(8), "big"))
        self._bound = self._connected = _Table.of(np.zeros(0, np.uint64), np.zeros(0, np.int32))
        self.attributed = self.unknown = self.failures = 0

    def attribute(self, rows: NDArray[Any], direction: NDArray[np.uint8]) -> NDArray[np.int32]:
        """TRACKED rows -> the number of each one's own unit."""
        out = np.zeros(len(rows), np.int32)
        mine = np.flatnonzero(direction != THROUGH)
        if len(mine):
            self.refresh()
            out[mine] = self._find(rows[mine], direction[mine] == OUT)
            known = int((out[mine] != UNKNOWN).sum())
            self.attributed += known
            self.unknown += len(mine) - known
        return out

    def answers(self, rows: NDArray[Any], direction: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which TRACKED rows are told the wrong way round: picked up in mid-stream by whoever spoke next.

        The host began a connection if its port is one that clients are handed, and nobody listens there; in any other
        case it is a connection to the host. So says `targets.nftables.sockets`, too.
        """
        out = np.zeros(len(rows), bool)
        is_doubtful = (rows["mark"] & PICKED_UP != 0) & (rows["protocol"] == TCP) & (direction != THROUGH)
        doubtful = np.flatnonzero(is_doubtful)
        if len(doubtful):
            self.refresh()
            is_out, found = direction[doubtful] == OUT, rows[doubtful]
            port = np.where(is_out, found["source_port"], found["destination_port"])
            listens = self.sockets[(self.sockets["state"] == LISTEN) & (self.sockets["protocol"] == TCP)]["local_port"]
            is_handed_out = (port >= self.client_ports.start) & (port < self.client_ports.stop)
            out[doubtful] = is_out == (~is_handed_out | np.isin(port, listens))
        return out

    def refresh(self) -> None:
        """Take another picture, unless the last one is fresh."""
        began = time.monotonic()
        if began < self._due:
            return
        try:
            self.sockets = self._look()
        except OSError:
            self.failures += 1
            self.sockets = np.zeros(0, SOCKET)
        found, units = self.sockets, self.units.numbers_of(self.sockets["cgroup"])
        is_bound = np.isin(found["state"], (LISTEN, UNCONNECTED))
        ends = [found[f"{end}_{part}"] for end in ("local", "remote") for part in ("hi", "lo")]
        ports = found["local_port"], found["remote_port"]
        connected = self._connection(ends, found["protocol"], *ports)
        bound = self._listener(ends[:2], found["protocol"], ports[0])
        self._bound = _Table.of(bound[is_bound], units[is_bound])
        self._connected = _Table.of(connected[~is_bound], units[~is_bound])
        self._due = time.monotonic() + max(self._fresh_s, (time.monotonic() - began) * _SHARE)

    def _find(self, rows: NDArray[Any], is_client: NDArray[np.bool_]) -> NDArray[np.int32]:
        """The listener of what comes in; the connected socket of what goes out, else the one bound to its port."""
        source, destination = ([rows[f"{end}_{part}"] for part in ("hi", "lo")] for end in ("source", "destination"))
        local = [np.where(is_client, s, d) for s, d in zip(source, destination, strict=True)]
        remote = [np.where(is_client, d, s) for s, d in zip(source, destination, strict=True)]
        ports = rows["source_port"], rows["destination_port"]
        here, there = np.where(is_client, *ports), np.where(is_client, *ports[::-1])
        connected = self._connected.find(self._connection([*local, *remote], rows["protocol"], here, there))
        bound = self._listening(local, rows["protocol"], here)
        first, second = np.where(is_client, connected, bound), np.where(is_client, bound, connected)
        return np.where(first != UNKNOWN, first, second).astype(np.int32)

    def _listening(self, local: list[NDArray[Any]], protocol: NDArray[Any], port: NDArray[Any]) -> NDArray[np.int32]:
        """Bound to the address itself, else to every IPv4 address, else to every address."""
        found = self._bound.find(self._listener(local, protocol, port))
        is_v4 = (local[0] == 0) & (local[1] >> np.uint64(32) == 0xFFFF)
        nothing = np.zeros(len(port), np.uint64)
        for anywhere, fits in ((_ANY_V4, is_v4), (0, np.ones(len(port), bool))):
            everywhere = self._bound.find(self._listener([nothing, nothing + np.uint64(anywhere)], protocol, port))
            found = np.where((found == UNKNOWN) & fits, everywhere, found).astype(np.int32)
        return found

    def _connection(self, ends: list[NDArray[Any]], protocol: Any, here: Any, there: Any) -> NDArray[np.uint64]:
        ports = protocol.astype(np.uint64) << np.uint64(32) | here.astype(np.uint64) << np.uint64(16)
        return mixed((*ends, ports | there.astype(np.uint64)), self._seed, len(protocol))

    def _listener(self, local: list[NDArray[Any]], protocol: Any, port: Any) -> NDArray[np.uint64]:
        bound = protocol.astype(np.uint64) << np.uint64(16) | port.astype(np.uint64)
        return mixed((*local, bound), self._seed, len(protocol))

    def inode_of(self, row: Any, *, is_client: bool) -> int:
        """The socket at the host's end of one TRACKED row, by the last picture; 0 where there is none."""
        here, there = ("source", "destination") if is_client else ("destination", "source")
        found = self.sockets
        mine = (found["protocol"] == row["protocol"]) & (found["local_port"] == row[f"{here}_port"])
        is_bound = np.isin(found["state"], (LISTEN, UNCONNECTED))
        is_peer = (found["remote_lo"] == row[f"{there}_lo"]) & (found["remote_port"] == row[f"{there}_port"])
        fits = np.flatnonzero(mine & (is_bound | is_peer))
        return int(found["inode"][fits[0]]) if len(fits) else 0


def program_of(inode: int, *, proc: Path = Path("/proc")) -> str:
    """The name of a program that holds a socket (`comm`, at most 15 characters); empty where none is found.

    Looks through every process's open files: for violations, not for every connection.
    """
    wanted = f"socket:[{inode}]"
    for process in proc.iterdir():
        if process.name.isdigit() and _holds(process / "fd", wanted):
            try:
                return program_name(process)
            except OSError:
                return ""
    return ""


def _holds(folder: Path, wanted: str) -> bool:
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    for name in names:
        try:
            if os.readlink(folder / name) == wanted:
                return True
        except OSError:
            continue
    return False
