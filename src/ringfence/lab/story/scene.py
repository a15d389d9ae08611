"""What the acts of the fleet's story share: the lab, the fleet in it, its controller, and who is who."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import msgspec

from ringfence.client.client import Client
from ringfence.controller.desired.estate import world_in
from ringfence.core.engine import Engine
from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload
from ringfence.core.net.address import parse_address
from ringfence.core.policy.model import Policy
from ringfence.lab.fleet import Fleet
from ringfence.lab.lab import Lab
from ringfence.lab.served import Served
from ringfence.lab.story.steady import Steady
from ringfence.lab.story.telling import Story, Views
from ringfence.wire import api

_POLL_S: Final = 0.1


@dataclass
class Scene:
    """Everything an act needs. What earlier acts found out is here, too."""

    story: Story
    views: Views
    fleet: Fleet
    served: Served
    steady: Steady
    policies: tuple[Policy, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    """The policies as text, by file."""
    _engine: Engine | None = None

    @property
    def lab(self) -> Lab:
        return self.fleet.lab

    @property
    def client(self) -> Client:
        return self.served.client

    @property
    def hosts(self) -> int:
        """How many have an agent."""
        return len(self.lab.world.managed)

    def workloads(self) -> list[api.WorkloadView]:
        return list(self.client.workloads(agents=True))

    def inventory(self) -> Inventory:
        """The workloads as the controller has them."""
        return Inventory(map(_workload, self.workloads()))

    def flows(self) -> Conversations:
        """What the controller has stored."""
        return self.client.conversations()

    def engine(self) -> Engine:
        """What is in force, as the one evaluator has it."""
        world = world_in("", self.inventory(), datetime.now(UTC))
        self._engine = Engine.compile(msgspec.structs.replace(world, policies=self.policies))
        return self._engine

    @property
    def last_engine(self) -> Engine:
        """As it was when somebody asked last: for when there is nobody to ask."""
        return self._engine if self._engine is not None else self.engine()

    def known(self) -> Inventory:
        """The same workloads, and those of the lab that have no agent."""
        devices = (w for w in self.lab.inventory.workloads if not w.is_controlled)
        return Inventory((*self.last_engine.world.inventory.workloads, *devices))


def _workload(view: api.WorkloadView) -> Workload:
    leases = tuple(Lease(parse_address(address)) for address in view.addresses)
    return Workload(view.name, view.uuid, view.labels, leases, view.kind, view.mode, view.origin, view.spiffe)


def await_(holds: Callable[[], bool], *, within_s: float, every_s: float = _POLL_S) -> tuple[bool, float]:
    """(whether it came to hold, after how many seconds)."""
    begin = time.monotonic()
    while not (is_so := holds()) and time.monotonic() - begin < within_s:
        time.sleep(every_s)
    return is_so, time.monotonic() - begin
