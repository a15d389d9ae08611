"""Who can reach a segment, or what it can reach, on which services, in one hop and in many.

Judged as if every controlled end were in `enforce`. A hop is a connection to a class whose set meets the services
asked for; the answer at hop n is everything first reached there (breadth first over the class graph).
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.core.engine import matrix
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.naming import describe_labels, name_classes
from ringfence.core.engine.prove import canvas_of
from ringfence.core.engine.rules import Facts
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.net.service import ANY

Way = Literal["to", "from"]


class Reached(msgspec.Struct, frozen=True):
    """One class first reached at a hop."""

    hop: int
    who: str
    workloads: int
    """Live workloads in it; 0 for a range of bare addresses."""
    services: tuple[str, ...]
    """On what it can connect onward (way `to`) or be connected to (way `from`) on this hop."""
    via: str
    """A neighbour on the hop before."""
    is_bare: bool


class Reach(msgspec.Struct, frozen=True):
    """All that was reached, nearest first, the largest classes first."""

    way: Way
    of: str
    reached: tuple[Reached, ...]

    def workloads_at(self, hop: int) -> int:
        return sum(r.workloads for r in self.reached if r.hop == hop)


class Reachability:
    """The class graph of one engine, for as many questions as asked."""

    def __init__(self, engine: Engine, services: IntervalSet = ANY) -> None:
        self.engine = engine
        self._ids = np.array(
            [c for c in range(len(engine.classes)) if engine.classes.workloads[c] or engine.classes.ranges[c]]
        )
        self._canvas = canvas_of(engine, self._ids, self._ids, Facts(engine.world.at))
        self._wanted = engine.mask_of(services) & ~engine.essential
        self._numbers = matrix.passed(self._canvas)
        self._edges: NDArray[np.bool_] = self._canvas.interner.flags(self._wanted)[self._numbers]
        self._is_bare = np.array([engine.classes.labels[c] is None for c in self._ids.tolist()], dtype=bool)

    def of(self, start: NDArray[np.intp], way: Way, *, hops: int = 1) -> Reach:
        """From the classes `start` (engine class numbers), `hops` steps along or against the connections.

        A range of bare addresses is an end, not a stepping stone: nothing is known of what lies behind it.
        """
        edges = self._edges if way == "from" else self._edges.T
        frontier = np.isin(self._ids, start)
        seen = frontier.copy()
        found: list[Reached] = []
        for hop in range(1, hops + 1):
            stepping = frontier & ~self._is_bare if hop > 1 else frontier
            new = edges[stepping].any(axis=0) & ~seen if stepping.any() else np.zeros_like(seen)
            if not new.any():
                break
            found += self._describe(np.flatnonzero(new), np.flatnonzero(stepping), hop, way)
            seen |= new
            frontier = new
        return Reach(way, name_classes(self.engine, start.tolist()), tuple(found))

    def _describe(self, new: NDArray[np.intp], before: NDArray[np.intp], hop: int, way: Way) -> list[Reached]:
        rows = [self._one(int(position), before, hop, way) for position in new]
        return sorted(rows, key=lambda r: (-r.workloads, r.who))

    def _one(self, position: int, before: NDArray[np.intp], hop: int, way: Way) -> Reached:
        numbers = self._numbers[before, position] if way == "from" else self._numbers[position, before]
        atoms = 0
        for number in np.unique(numbers).tolist():
            atoms |= self._canvas.interner.sets[number] & self._wanted
        neighbour = before[self._canvas.interner.flags(self._wanted)[numbers]][0]
        engine, class_ = self.engine, int(self._ids[position])
        services = engine.say_services(atoms)
        return Reached(
            hop, self._say(class_), engine.classes.workloads[class_], services, self._say(int(self._ids[neighbour])),
            bool(self._is_bare[position]),
        )  # fmt: skip

    def _say(self, class_: int) -> str:
        if self.engine.classes.labels[class_] is None:
            return name_classes(self.engine, [class_])
        return describe_labels(self.engine.classes, class_)
