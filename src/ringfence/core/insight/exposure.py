"""Who reaches a segment in one step: now, each host in the mode it is in, and once everything is enforced.

Once enforced is `engine.reach`'s answer. Now is the engine's verdict on one connection of every kind there is: from
every class and mode, to every class and mode of the segment, on every service atom. What no agent blocks reaches.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.core.engine import Engine, ask
from ringfence.core.engine.engine import UNNAMED
from ringfence.core.engine.naming import name_classes
from ringfence.core.engine.prove import present
from ringfence.core.engine.reach import Reachability, Way
from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.workload import Workload
from ringfence.core.net.address import INTERNET_RANGE
from ringfence.core.net.intervals import EMPTY, IntervalSet
from ringfence.core.net.service import ANY
from ringfence.core.policy.model import Workloads
from ringfence.core.world import VERDICTS, Endpoint

_BLOCKED = VERDICTS.index("blocked")
_AT_ONCE = 1 << 19
"""Connections judged together."""


class Reaching(msgspec.Struct, frozen=True):
    """Everybody who reaches a segment, its own members apart."""

    identities: int
    """Distinct sets of labels."""
    workloads: int
    is_open_to_internet: bool


class Exposure(msgspec.Struct, frozen=True):
    """Who reaches a segment."""

    now: Reaching
    enforced: Reaching


class _Kind(msgspec.Struct, frozen=True):
    """Ends that are judged alike: workloads of one class and mode, all with an agent or none, or addresses nobody
    holds."""

    example: Endpoint
    identity: int
    """The class by its labels; -1 for bare addresses."""
    workloads: int
    is_internet: bool
    uuids: frozenset[str] = frozenset()
    ranges: IntervalSet = EMPTY
    """Where bare addresses are."""


class Exposures:
    """Exposure of the segments of one world."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._graph = Reachability(engine)
        self._kinds = (*_workload_kinds(engine), *_bare_kinds(engine))
        self._points = tuple(p for p in ask.points(engine, ANY) if not _is_essential(engine, p))
        self._internet = {name_classes(engine, [c]) for c, r in enumerate(engine.classes.ranges) if r & INTERNET_RANGE}

    def of(self, segment: Workloads) -> Exposure:
        """Who reaches a segment."""
        inventory = self._engine.world.inventory
        members = frozenset(
            w.uuid
            for w in inventory.workloads
            if all(selector.matches(inventory.labels_of(w)) for selector in segment.selectors)
        )
        return Exposure(self.now(members, "to"), self._enforced(segment))

    def now(self, uuids: frozenset[str], way: Way, addresses: IntervalSet = EMPTY) -> Reaching:
        """Who reaches these workloads, and these addresses where nobody holds them, in one step (`to`), or whom they
        reach (`from`), in the modes hosts are in."""
        world = self._engine.world
        held = IntervalSet.of_values(world.inventory.live_addresses(world.at)) if addresses else EMPTY
        asked = addresses - held
        bare = {number for number, kind in enumerate(self._kinds) if kind.ranges & asked}
        numbered = tuple(enumerate(self._kinds))
        inside = [kind for number, kind in numbered if kind.uuids & uuids or number in bare]
        outside = [k for number, k in numbered if number not in bare and not (k.uuids and k.uuids <= uuids)]
        others, members = ([kind.example for kind in some] for some in (outside, inside))
        mask = _reaching(self._engine, others, members, self._points, way)
        found = [kind for kind, is_found in zip(outside, mask, strict=True) if is_found]
        workloads = frozenset[str]().union(*(kind.uuids - uuids for kind in found))
        identities = {kind.identity for kind in found if kind.identity >= 0}
        return Reaching(len(identities), len(workloads), any(kind.is_internet for kind in found))

    def _enforced(self, segment: Workloads) -> Reaching:
        start = present(self._engine, (segment,))
        reached = self._graph.of(start, "to").reached
        classes = [r for r in reached if not r.is_bare]
        is_open = any(r.is_bare and r.who in self._internet for r in reached)
        return Reaching(len({r.who for r in classes}), sum(r.workloads for r in classes), is_open)


def _is_essential(engine: Engine, point: int) -> bool:
    return bool((engine.essential | engine.dhcp) >> engine.atoms.atom(point) & 1)


def _workload_kinds(engine: Engine) -> Iterable[_Kind]:
    inventory, at = engine.world.inventory, engine.world.at
    found: dict[object, tuple[Endpoint, set[str]]] = {}
    for workload in inventory.workloads:
        if workload.kind != "process":
            for end in _ends(workload, at):
                held = workload.mode, inventory.has_agent(workload)
                key = engine.class_of(workload, end.address), held, _is_alone(engine, workload)
                found.setdefault(key, (end, set()))[1].add(workload.uuid)
    identities: dict[frozenset[tuple[str, str]], int] = {}
    for end, uuids in found.values():
        assert end.workload is not None
        labels = frozenset((k, v) for k, v in end.workload.labels.items() if k not in inventory.ignore)
        number = identities.setdefault(labels, len(identities))
        yield _Kind(end, number, len(uuids), is_internet=False, uuids=frozenset(uuids))


def _is_alone(engine: Engine, workload: Workload) -> str:
    """A workload that is judged unlike others of its class: quarantined, or with processes of its own."""
    world = engine.world
    is_own = any(q.workload == workload.uuid for q in world.quarantines) or world.inventory.processes_of(workload.name)
    return workload.uuid if is_own else ""


def _ends(workload: Workload, at: datetime) -> list[Endpoint]:
    live = [Endpoint(workload, lease.address, lease.network) for lease in workload.live_addresses(at)]
    return live or [Endpoint(workload)]


def _bare_kinds(engine: Engine) -> Iterable[_Kind]:
    for number, ranges in enumerate(engine.classes.ranges):
        if ranges and (addresses := engine.bare_addresses(number)):
            yield _Kind(Endpoint(address=addresses[0]), -1, 0, is_internet=bool(ranges & INTERNET_RANGE), ranges=ranges)


def _reaching(
    engine: Engine, others: list[Endpoint], inside: list[Endpoint], points: tuple[int, ...], way: Way
) -> NDArray[np.bool_]:
    """Which others reach somebody inside (way `to`) or are reached from there, on some point. Points that nobody names
    come first: most pass there, or nowhere."""
    out = np.zeros(len(others), np.bool_)
    ordered = sorted(points, key=lambda point: (engine.atoms.atom(point) != engine.atoms.atom(UNNAMED), point))
    ends = (*others, *inside)
    for point in ordered if inside else ():
        left = np.flatnonzero(~out)
        step = max(1, _AT_ONCE // len(inside))
        for begin in range(0, len(left), step):
            some = left[begin : begin + step]
            pairs = np.repeat(some, len(inside)), np.tile(np.arange(len(others), len(ends)), len(some))
            source, destination = pairs if way == "to" else pairs[::-1]
            rows = _connections(ends, source, destination, point, engine.world.at)
            judged = engine.judge(rows)
            passes = (judged.verdict != _BLOCKED) | judged.unheld
            out[some] = passes.reshape(len(some), len(inside)).any(axis=1)
    return out


def _connections(
    ends: tuple[Endpoint, ...], source: NDArray[np.intp], destination: NDArray[np.intp], point: int, at: datetime
) -> Conversations:
    """One connection from each source to its destination."""
    count = len(source)
    ones, times = np.ones(count, np.int64), np.full(count, int(at.timestamp()), np.int64)
    return Conversations(
        ends,
        source.astype(np.int32),
        destination.astype(np.int32),
        np.full(count, point, np.int32),
        np.zeros(count, np.uint8),
        times,
        ones,
        ones,
        ones,
        times,
        times,
        np.zeros(count, np.uint8),
    )
