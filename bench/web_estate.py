"""A controller that serves the web UI over a large estate: 10,000 workloads, 1,000 groups, 10,000 edges.

Five environments of forty applications of five roles, ten workloads each. Most traffic is within an application, or
from one application to another of its environment; some crosses environments, some comes from the internet. Half of the
applications have a policy, and modes differ, so all verdicts occur.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ringfence.api.serve import Api, listen
from ringfence.controller import audit
from ringfence.controller.controller import ROOT, Controller, Settings
from ringfence.controller.publishing.versions import Draft
from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.workload import Lease, Mode, ModeName, Workload, derived_uuid
from ringfence.core.net.address import V4_BASE, parse_address
from ringfence.core.net.service import TCP, point
from ringfence.core.world import Endpoint
from ringfence.ports.state import Change, LeaseRecord, WorkloadRecord

ENVS, APPS, ROLES = ("dev", "prod", "qa", "stage", "dr"), 40, ("web", "api", "db", "cache", "queue")
PORTS = {"web": 443, "api": 8080, "db": 5432, "cache": 6379, "queue": 5672}
GROUPS = len(ENVS) * APPS * len(ROLES)
_MODES: tuple[ModeName, ...] = ("enforce", "selective", "observe", "observe")
T = TypeVar("T")


def workloads(count: int) -> list[Workload]:
    """Dealt round the groups; of group `g` are those whose number is `g` modulo GROUPS."""
    made = []
    for number in range(count):
        group = number % GROUPS
        env, app, role = ENVS[group // (APPS * 5)], f"app{group // 5 % APPS:02d}", ROLES[group % 5]
        name = f"{env}-{app}-{role}-{number // GROUPS}"
        mode = Mode.both(_MODES[group // 5 % 4])
        labels = {"env": env, "app": app, "role": role}
        lease = Lease(V4_BASE + (10 << 24) + number)
        made.append(Workload(name, derived_uuid(name), labels, (lease,), mode=mode, origin="agent"))
    return made


def pairs(edges: int, seed: int = 5) -> NDArray[np.int64]:
    """Distinct pairs of groups: source, destination. Source GROUPS is the internet."""
    draw = np.random.default_rng(seed)
    found: dict[tuple[int, int], None] = {}
    while len(found) < edges:
        source = int(draw.integers(0, GROUPS))
        kind, role = draw.random(), int(draw.integers(0, 5))
        app, env = source // 5 % APPS, source // (5 * APPS)
        if kind < 0.35:
            pair = source, env * APPS * 5 + app * 5 + role
        elif kind < 0.93:
            pair = source, env * APPS * 5 + int(app * 7 + draw.integers(1, 14)) % APPS * 5 + role
        elif kind < 0.97:
            pair = source, int(draw.integers(0, len(ENVS))) * APPS * 5 + app * 5 + role
        else:
            pair = GROUPS, source - source % 5
        if pair[0] != pair[1]:
            found[pair] = None
    return np.array(list(found), np.int64)


def traffic(people: list[Workload], edges: int) -> Conversations:
    """Two conversations an edge, in the last day."""
    ends = [Endpoint(one, one.addresses[0].address) for one in people]
    ends.append(Endpoint(address=parse_address("8.8.8.8")))
    draw, both = np.random.default_rng(6), np.repeat(pairs(edges), 2, axis=0)
    rows, each = len(both), len(people) // GROUPS
    picks = draw.integers(0, each, (rows, 2)) * GROUPS + both
    source = np.where(both[:, 0] == GROUPS, len(people), picks[:, 0])
    hours = int(datetime.now(UTC).timestamp()) // 3600 * 3600 - 3600 * draw.integers(1, 20, rows)
    ports = np.array([point(TCP, PORTS[role]) for role in ROLES], np.int32)
    connections = (draw.pareto(1.1, rows) * 20 + 1).astype(np.int64)
    return Conversations(
        tuple(ends), source.astype(np.int32), picks[:, 1].astype(np.int32), ports[both[:, 1] % 5],
        np.ones(rows, np.uint8),
        hours.astype(np.int64), connections, connections * 12, connections * 4000, hours + 60, hours + 3000,
        np.full(rows, 3, np.uint8),
    )  # fmt: skip


def policies() -> dict[str, str]:
    """One for every other application."""
    names = (f"app{number:02d}" for number in range(0, APPS, 2))
    return {f"{name}.yaml": _POLICY.format(app=name) for name in names}


_POLICY = """\
policy: {app}
owner: team-{app}
scope: app={app}
rules:
  - name: visitors
    allow: {{from: internet, to: role=web, service: https}}
  - name: calls
    allow: {{from: role=web, to: role=api, service: tcp/8080}}
  - name: data
    allow: {{from: "role in (api,queue)", to: "role in (db,cache)", service: [tcp/5432, tcp/6379]}}
  - name: apart
    deny: {{from: role=web, to: role=db}}
"""


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(120)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@contextmanager
def serving(folder: Path, *, count: int, edges: int) -> Iterator[tuple[str, str]]:
    """URL and an administrator's token. The state is filled before the controller that serves starts."""
    run, people = Loop(), workloads(count)

    def put(tx: Change) -> None:
        now = datetime.now(UTC)
        for one in people:
            tx.add(WorkloadRecord.of(one, now))
            tx.add(*(LeaseRecord(lease.network, lease.address, one.uuid) for lease in one.addresses))
        audit.record(tx, at=now, actor="bench", action="workload.make", subject="all", details={})

    async def fill() -> str:
        controller = Controller(Settings(folder, host="127.0.0.1", port=1, bus_port=0))
        token = await controller.start()
        await controller.state.write(put)
        controller.flows.append(traffic(people, edges))
        await controller.versions.publish(Draft(policies(), 0), by=ROOT)
        await controller.close()
        return token or ""

    async def serve() -> tuple[Controller, Api]:
        listening = listen("127.0.0.1", 0)
        controller = Controller(Settings(folder, host="127.0.0.1", port=listening.getsockname()[1], bus_port=0))
        await controller.start()
        api = Api(controller, listening)
        await api.start()
        return controller, api

    token = run(fill())
    controller, api = run(serve())
    try:
        yield controller.settings.url, token
    finally:
        run(api.stop())
        run(controller.close())
        run.close()
