"""Who can reach a segment, or what it can reach, on which services, in one hop and in many.

Judged as if every controlled end were in `enforce`, and as if every condition of an allow held: exposure is never
understated. A hop is a connection to a class whose set meets the services asked for; the answer at hop n is
everything first reached there (breadth first over the class graph).
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.core.engine import matrix
from ringfence.core.engine.bits import Ids
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.naming import describe_labels, name_classes
from ringfence.core.engine.prove import canvas_of, own_ways
from ringfence.core.engine.rules import Facts
from ringfence.core.net.address import format_address
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
    example: str = ""
    """Of bare addresses one of them."""


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
        self._ids = np.array([c for c in range(len(engine.classes)) if engine.is_present(c)], dtype=np.intp)
        canvas = canvas_of(engine, self._ids, self._ids, Facts(engine.world.at, holds_all=True))
        self._wanted = engine.mask_of(services) & ~engine.essential
        self._numbers = matrix.passed(canvas)
        self._sets = canvas.interner.sets
        self._edges: NDArray[np.bool_] = canvas.interner.flags(self._wanted)[self._numbers]
        self._edges[own_ways(engine, self._ids, self._ids)] = False
        self._is_bare = np.array([engine.classes.labels[c] is None for c in self._ids.tolist()], dtype=bool)
        self._said: dict[int, tuple[str, ...]] = {}

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

    def _describe(self, new: Ids, before: Ids, hop: int, way: Way) -> list[Reached]:
        """The classes first reached at a hop, from all of the hop before that connect to each."""
        block = np.ix_(before, new) if way == "from" else np.ix_(new, before)
        edges, numbers = (m[block] if way == "from" else m[block].T for m in (self._edges, self._numbers))
        origin, reached = np.nonzero(edges)
        _, first = np.unique(reached, return_index=True)
        atoms = [0] * len(new)
        for pair in np.unique(reached << 32 | numbers[origin, reached]).tolist():
            atoms[pair >> 32] |= self._sets[pair & 0xFFFFFFFF] & self._wanted
        via = before[origin[first]]
        rows = [self._one(p, v, a, hop) for p, v, a in zip(new.tolist(), via.tolist(), atoms, strict=True)]
        return sorted(rows, key=lambda r: (-r.workloads, r.who))

    def _one(self, position: int, via: int, atoms: int, hop: int) -> Reached:
        class_ = int(self._ids[position])
        workloads, is_bare = self.engine.classes.workloads[class_], bool(self._is_bare[position])
        who, neighbour = self._say(class_), self._say(int(self._ids[via]))
        bare = self.engine.bare_addresses(class_) if is_bare else ()
        example = format_address(bare[0]) if bare else ""
        return Reached(hop, who, workloads, self._services(atoms), neighbour, is_bare, example)

    def _services(self, atoms: int) -> tuple[str, ...]:
        if atoms not in self._said:
            self._said[atoms] = self.engine.say_services(atoms)
        return self._said[atoms]

    def _say(self, class_: int) -> str:
        if self.engine.classes.labels[class_] is None:
            return name_classes(self.engine, [class_])
        return describe_labels(self.engine.classes, class_)
