"""What may pass at a moment, of a fleet that is changed and broken all the time, by the engine's answer.

Each change that is asked for begins an epoch. A host enforces some epoch between the newest it said it read back and
the newest there is; what passes must be allowed by each end in one of the epochs it may be in. Quarantines stand apart
from policy and labels and are told apart, so a host may be in one epoch of theirs and in another of the rest.

While it is not known which of several things is so (a version that a canary has and others do not, an address that is
changing hands), an epoch lets pass what any of them would; an address that two hosts hold, what both would.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from ringfence.core.engine import Engine
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Mode, Workload
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import TCP, UDP, point
from ringfence.core.policy.parse import parse_policies
from ringfence.core.world import Endpoint, Flow, World
from ringfence.lab.probing import Outcome


class Try(NamedTuple):
    """One path that is tried all the time."""

    source: str
    destination: str
    transport: str
    port: int
    is_floating: bool = False
    """From the address that changes hands."""


class Estate(NamedTuple):
    """What people asked for, as of some moment."""

    labels: Mapping[str, Mapping[str, str]]
    policies: Mapping[str, str]
    quarantined: frozenset[str] = frozenset()
    also: tuple[Mapping[str, str], ...] = ()
    """Policies that some hosts may have instead."""
    holders: tuple[frozenset[str], ...] = (frozenset(),)
    """Who may be known to hold the floating address: one of these."""


class _Epoch(NamedTuple):
    begins: float
    lets: dict[Try, tuple[bool, bool]]
    """(the source's end, the destination's end), but for quarantine."""
    quarantined: frozenset[str]

    def is_free(self, one: Try) -> bool:
        return not self.quarantined & {one.source, one.destination}


class Model:
    """Every epoch there was, and how far each host was known to be, when."""

    def __init__(
        self, tries: Iterable[Try], addresses: Mapping[str, str], uuids: Mapping[str, str], floating: str
    ) -> None:
        self.tries, self._addresses, self._uuids = tuple(tries), addresses, uuids
        self._floating = parse_address(floating)
        self._epochs: list[_Epoch] = []
        self._floors: dict[str, list[tuple[float, int]]] = {name: [(0.0, 0)] for name in uuids}
        self._opened: dict[str, list[list[float]]] = {name: [] for name in uuids}
        """When somebody with root on the host had opened it, from and to."""

    @property
    def hosts(self) -> frozenset[str]:
        return frozenset(self._floors)

    @property
    def epoch(self) -> int:
        return len(self._epochs) - 1

    def begin(self, estate: Estate) -> None:
        """Before it is asked for: from now on it may be in force anywhere."""
        self._epochs.append(_Epoch(time.monotonic(), self._judge(estate), estate.quarantined))

    def _judge(self, estate: Estate) -> dict[Try, tuple[bool, bool]]:
        every = [self._judge_one(estate, policies) for policies in (estate.policies, *estate.also)]
        return {one: tuple(map(any, zip(*(lets[one] for lets in every), strict=True))) for one in self.tries}  # type: ignore[misc]

    def _judge_one(self, estate: Estate, policies: Mapping[str, str]) -> dict[Try, tuple[bool, bool]]:
        workloads = {name: self._workload(name, labels) for name, labels in estate.labels.items()}
        parsed = parse_policies(dict(policies)).raise_if_errors()
        engine = Engine.compile(World(Inventory(workloads.values()), parsed, at=datetime.now(UTC)))
        return {one: self._float(engine, workloads, one, estate.holders) if one.is_floating
                else self._ends(engine, workloads, one, one.source) for one in self.tries}  # fmt: skip

    def _float(
        self, engine: Engine, workloads: Mapping[str, Workload], one: Try, holders: Iterable[frozenset[str]]
    ) -> tuple[bool, bool]:
        """The source judges as itself, the destination as if the address were all of its holders."""
        sends = self._ends(engine, workloads, one, one.source)[0]
        taken = (some and all(self._ends(engine, workloads, one, name)[1] for name in some) for some in holders)
        return sends, any(taken)

    def _workload(self, name: str, labels: Mapping[str, str]) -> Workload:
        address = parse_address(self._addresses[name])
        return Workload(
            name=name, uuid=self._uuids[name], labels=dict(labels), addresses=(Lease(address), Lease(self._floating)),
            mode=Mode.both("enforce"),
        )  # fmt: skip

    def _ends(self, engine: Engine, workloads: Mapping[str, Workload], one: Try, source: str) -> tuple[bool, bool]:
        from_ = self._floating if one.is_floating else parse_address(self._addresses[source])
        to = Endpoint(workloads[one.destination], parse_address(self._addresses[one.destination]))
        service = point(TCP if one.transport == "tcp" else UDP, one.port)
        verdict = engine.decide(Flow(Endpoint(workloads[source], from_), to, service))
        said = {end.end: end.verdict == "allowed" for end in verdict.ends}
        return said["source"], said["destination"]

    def opened(self, host: str) -> None:
        """Somebody with root there let everything in and out."""
        self._opened[host].append([time.monotonic(), float("inf")])

    def closed(self, host: str) -> None:
        """What was opened is taken out."""
        self._opened[host][-1][1] = time.monotonic()

    def settled(self, host: str, epoch: int) -> None:
        """The host said that it read back what is meant as of this epoch: it goes back to none before."""
        if self._floors[host][-1][1] < epoch:
            self._floors[host].append((time.monotonic(), epoch))

    def lets(self, one: Try) -> bool:
        """Whether it passes now, when everybody has everything."""
        return self._epochs[-1].is_free(one) and all(self._epochs[-1].lets[one])

    def is_legal(self, one: Try, outcome: Outcome) -> bool:
        """Whether what passed may have."""
        newest = bisect.bisect_right([epoch.begins for epoch in self._epochs], outcome.ended) - 1
        for end, host in enumerate((one.source, one.destination)):
            if any(since <= outcome.ended and outcome.began <= until for since, until in self._opened[host]):
                continue
            some = self._epochs[self._floor(host, outcome.began) : newest + 1]
            if not any(epoch.lets[one][end] for epoch in some) or not any(epoch.is_free(one) for epoch in some):
                return False
        return True

    def _floor(self, host: str, at: float) -> int:
        known = self._floors[host]
        return known[bisect.bisect_right([when for when, _ in known], at) - 1][1]

    def words(self, one: Try, outcome: Outcome) -> str:
        floors = [self._floor(host, outcome.began) for host in (one.source, one.destination)]
        return f"{one} passed at {outcome.began:.3f}; its ends were at epoch {floors} or later, of {self.epoch}"
