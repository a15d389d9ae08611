"""Heartbeats as agents send them, and an estate that hears them without a bus."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from ringfence.controller import audit
from ringfence.controller.controller import Controller, Settings
from ringfence.controller.desired.distribute import Distributor
from ringfence.controller.identity.presence import OFFLINE_AFTER
from ringfence.controller.pacing import Pace
from ringfence.core.net.address import parse_address
from ringfence.ports.state import Change, Record

A, B, C = (f"{digit * 8}-1111-4111-8111-111111111111" for digit in "123")
START = datetime(2026, 3, 3, tzinfo=UTC)


def beat_subject(uuid: str) -> str:
    return f"rf.up.{uuid}.beat"


def addresses(*texts: str) -> tuple[int, ...]:
    return tuple(parse_address(text) for text in texts)


def heartbeat(
    numbers: Iterable[int] = (), instance: str = "one", interface: str = "eth0", *, is_blind: bool = False
) -> bytes:
    """As JSON, which says whatever number one likes."""
    said = {
        "is_blind": is_blind,
        "at": 0.0, "instance": instance, "machine": "m", "version": "1", "protocol": 1, "state": "",
        "realised": {"state": "pending"}, "interfaces": [{"name": interface, "addresses": list(numbers)}],
    }  # fmt: skip
    return json.dumps(said).encode()


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        return self.now.timestamp()

    def pass_(self, **how: float) -> None:
        self.now += timedelta(**how)


class Mute:
    """In place of a voice on the bus."""

    def expected(self, _: str) -> str:
        return ""

    def sealed(self, _: object) -> bytes:
        return b"sealed"


class Ground:
    """A controller without a bus."""

    def __init__(self, controller: Controller, clock: Clock) -> None:
        self.controller, self.clock = controller, clock

    async def beat(self, uuid: str, *texts: str, instance: str = "one") -> None:
        """A heartbeat, and all that follows from it."""
        await self.said(uuid, addresses(*texts), instance=instance)

    async def said(self, uuid: str, numbers: Iterable[int], instance: str = "one") -> None:
        self.clock.pass_(seconds=10)
        await self.controller.presence.beat(beat_subject(uuid), heartbeat(numbers, instance))
        await self.controller.leasing.settle()

    def held(self, uuid: str) -> set[int]:
        """What the hosts are told of a workload's addresses."""
        return {lease.address for lease in self.controller.reconciler.desired.inputs.inventory.by_uuid[uuid].addresses}

    def alerts(self, kind: str = "agent") -> list[str]:
        return [one.message for one in self.controller.watching.alerts if one.kind == kind]

    async def decide(self, *records: Record) -> None:
        def work(tx: Change) -> None:
            tx.put(*records)
            audit.record(tx, at=self.clock(), actor="ann", action="test", subject="it", details={})

        await self.controller.state.write(work)


@asynccontextmanager
async def ground(folder: Path, clock: Clock, *records: Record) -> AsyncIterator[Ground]:
    controller = Controller(Settings(folder, bus_port=0), clock=clock)
    controller.distributor = cast(Distributor, Mute())
    controller.presence.on_addresses, controller.presence.on_clone = controller.leasing.claim, controller._cloned
    controller.presence._clock = clock.seconds
    controller.presence._beats = Pace(clock=clock.seconds)
    controller.leasing.is_live = lambda uuid: (
        uuid in controller.presence.seen
        and (clock.seconds() - controller.presence.seen[uuid].at < OFFLINE_AFTER.total_seconds())
    )
    made = Ground(controller, clock)
    try:
        if records:
            await made.decide(*records)
        await controller._start_desired()
        await controller._recall()
        yield made
    finally:
        await controller._persist()
        await controller.reconciler.close()
        controller.flows.close()
        await controller.state.close()
