"""What must never break while a story is told: every application path, and some of them many times a second.

The clients exchange real requests over every path and family and check each answer. The probes open connections far
more often, and notice a packet that had to be sent twice, which an application would not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from ringfence.lab.clients import Tally
from ringfence.lab.fleet import Fleet, Prober
from ringfence.lab.probing import Aim
from ringfence.lab.world import Path, Service, World

_EVERY_S: Final = 0.05
_TIMEOUT_S: Final = 2.5
_EVERYWHERE: Final = frozenset({"ssh", "node-exporter"})
_MOST_LATE: Final = 100
"""At most one in so many; a rule that holds packets back for 50 ms is seen by more."""
_CLIENTS: Final = 6
"""So many hosts probe one of their paths each."""


class Kept(msgspec.Struct, frozen=True):
    """What went on, and what did not."""

    exchanges: int
    failed: int
    probes: int
    lost: int
    """Probes that did not come through."""
    late: int
    """Probes that came through with a packet sent twice: a rule was in the way for a moment, or a busy machine was."""
    problems: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        works = self.exchanges > 0 and self.probes > 0 and not self.failed and not self.lost
        return works and self.late * _MOST_LATE <= self.probes

    def __str__(self) -> str:
        late = f", {self.late} sent twice" if self.late else ""
        return f"{self.exchanges:,} exchanges, {self.failed} failed; {self.probes:,} probes, {self.lost} lost{late}"


class Steady:
    """All applications of a lab, talking."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet, self._world = fleet, fleet.lab.world
        self._paths = tuple(_probed(self._world))
        self._probers: list[tuple[Path, Prober]] = []
        self._counted: dict[tuple[Path, int], tuple[int, int]] = {}

    def start(self) -> None:
        self._fleet.lab.start_clients()

    def start_probing(self) -> None:
        """What was before is not counted."""
        for path in self._paths:
            self._probers.append((path, self._fleet.probe(path.client, [_aim(self._world, path)])))
        self.kept()

    def kept(self, *, without: str = "") -> Kept:
        """What became of everything since this was last asked, `without` the paths that a host has a part in."""
        return msgspec.structs.replace(self._exchanged(self._fleet.lab.tallies(), without), **self._probed(without))

    def _exchanged(self, tallies: Iterable[Tally], without: str) -> Kept:
        worked = failed = 0
        problems = []
        for tally in tallies:
            key = tally.path, tally.family
            before = self._counted.get(key, (0, 0))
            self._counted[key] = tally.worked, tally.failed
            if without in (tally.path.client, tally.path.server):
                continue
            worked += tally.worked - before[0]
            failed += tally.failed - before[1]
            if tally.failed > before[1]:
                problems.append(f"{tally.path} over IPv{tally.family}: {tally.last_problem}")
        return Kept(worked, failed, 0, 0, 0, tuple(problems))

    def _probed(self, without: str) -> dict[str, int]:
        probes = lost = late = 0
        for path, prober in self._probers:
            outcomes = prober.take()
            if without not in (path.client, path.server):
                probes += len(outcomes)
                lost += sum(not one.passed for one in outcomes)
                late += sum(one.passed and not one.is_clean for one in outcomes)
        return {"probes": probes, "lost": lost, "late": late}

    def close(self) -> None:
        for _, prober in self._probers:
            prober.close()


def _probed(world: World) -> Iterator[Path]:
    """One path of some clients each, each to another server where there is one."""
    taken: set[str] = set()
    clients: set[str] = set()
    for path in world.paths:
        service = world.by_name[path.server].service(path.service)
        is_new = path.client not in clients and path.server not in taken
        if is_new and _is_probed(service) and len(clients) < _CLIENTS:
            taken.add(path.server)
            clients.add(path.client)
            yield path


def _is_probed(service: Service | None) -> bool:
    return service is not None and service.transport == "tcp" and service.name not in _EVERYWHERE


def _aim(world: World, path: Path) -> Aim:
    server = world.by_name[path.server]
    service = server.service(path.service)
    assert service is not None
    return Aim("tcp", server.addresses[0], service.port, every_s=_EVERY_S, timeout_s=_TIMEOUT_S)
