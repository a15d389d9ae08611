"""A controller with an estate and traffic made up for it, and the same world for the library."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from serving import Serving, serving

from ringfence.client.client import Client
from ringfence.controller import audit
from ringfence.controller.controller import ROOT
from ringfence.controller.publishing.versions import Draft
from ringfence.core.decide import decide
from ringfence.core.engine import Engine
from ringfence.core.flow.conversations import Conversations
from ringfence.core.flow.programs import DESTINATION, SOURCE, Programs
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Mode, Workload, derived_uuid
from ringfence.core.insight.seating import seated
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import TCP, point
from ringfence.core.policy.parse import parse_policies
from ringfence.core.world import Endpoint, Flow, World
from ringfence.ports.state import Change, LeaseRecord, WorkloadRecord

HOUR = 3600
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
START = int(NOW.timestamp()) - 48 * HOUR
PORTS = {"web": 443, "api": 8080, "db": 5432, "cache": 6379}
SHOP = """\
policy: shop
owner: team-shop
scope: app=shop,env=prod
segments:
  web: role=web
  api: role=api
  db: {selector: role=db, crown_jewel: true}
rules:
  - name: visitors
    allow: {from: internet, to: web, service: https}
  - name: calls
    allow: {from: web, to: api, service: tcp/8080}
    because: pages are made of answers
  - name: spare
    allow: {from: api, to: web, service: tcp/9999}
tests:
  - {from: web, to: api, service: tcp/8080, expect: allowed}
  - {from: web, to: db, expect: blocked}
"""
GUARD = """\
policy: guard
owner: security
rules:
  - name: apart
    forbid: {from: env=dev, to: env=prod}
"""
FILES = {"shop.yaml": SHOP, "guard.yaml": GUARD}
QUERIES = "  - name: queries\n    allow: {from: api, to: db, service: tcp/5432}\n"
DRAFTED = SHOP.replace("tests:", f"{QUERIES}tests:")


def estate_of(seed: int = 3) -> Inventory:
    """Two applications in two environments, two workloads a role; modes drawn; no agents where the one is developed;
    one device nobody controls.
    """
    draw = random.Random(seed)
    workloads = []
    for app in ("shop", "crm"):
        for env in ("prod", "dev"):
            for role in PORTS:
                for number in (1, 2):
                    name = f"{app}-{env}-{role}-{number}"
                    mode = Mode.both(draw.choice(("observe", "selective", "enforce")))
                    labels = {"app": app, "env": env, "role": role}
                    address = parse_address(f"10.0.{len(workloads)}.1")
                    origin = "file" if (app, env) == ("crm", "dev") else "agent"
                    workloads.append(
                        Workload(name, derived_uuid(name), labels, (Lease(address),), mode=mode, origin=origin)
                    )
    printer = Workload(
        "printer", derived_uuid("printer"), {"app": "office"}, (Lease(parse_address("10.9.0.1")),), kind="device"
    )
    return Inventory((*workloads, printer))


def is_stopped(world: World, flow: Flow) -> bool:
    """Whether the oracle says that an end with an agent blocks it."""
    ends = decide(world, flow).ends
    return any(end.verdict == "blocked" and world.inventory.by_name[end.workload].has_agent for end in ends)


def traffic_of(inventory: Inventory, rows: int = 600, seed: int = 4) -> Conversations:
    """Anybody to anybody now and then, some of it from the internet and from nobody's private addresses."""
    draw = np.random.default_rng(seed)
    ends = [Endpoint(w, w.addresses[0].address) for w in inventory.workloads]
    ends += [Endpoint(address=parse_address(text)) for text in ("8.8.8.8", "1.1.1.1", "172.16.5.9")]
    known = len(inventory.workloads)
    destination = draw.integers(0, known, rows)
    ports = [PORTS.get(ends[i].workload.labels.get("role", ""), 9100) for i in destination.tolist()]  # type: ignore[union-attr]
    hours = START + HOUR * draw.integers(0, 48, rows)
    key = np.stack([draw.integers(0, len(ends), rows), destination, hours], axis=1)
    _, first = np.unique(key, axis=0, return_index=True)
    first = first[key[first, 0] != key[first, 1]]
    source, destination, hours = key[first].T
    return Conversations(
        tuple(ends),
        source.astype(np.int32),
        destination.astype(np.int32),
        np.array([point(TCP, ports[i]) for i in first.tolist()], np.int32),
        np.ones(len(first), np.uint8),
        hours.astype(np.int64),
        draw.integers(1, 50, len(first)),
        draw.integers(1, 500, len(first)),
        draw.integers(64, 10**6, len(first)),
        hours + 60,
        hours + draw.integers(61, 3000, len(first)),
        np.full(len(first), 3, np.uint8),
    )


def programs_of(traffic: Conversations, seed: int = 7) -> Programs:
    """Hosts with an agent name one or two of their units at each of their ends; some say nothing."""
    draw = np.random.default_rng(seed)
    names = ("", *(f"{name}.service" for name in ("nginx", "cron", "backup", "postgresql", "redis")))
    rows: list[tuple[int, ...]] = []
    for i in range(len(traffic)):
        key = tuple(int(column[i]) for column in (traffic.source, traffic.destination, traffic.point, traffic.hour))
        for side in (SOURCE, DESTINATION):
            workload = traffic.endpoints[key[side]].workload
            if workload is None or not workload.has_agent or draw.random() < 0.2:
                continue
            left = int(traffic.connections[i])
            for name in draw.choice(np.arange(1, len(names)), draw.integers(1, 3), replace=False).tolist():
                count = int(draw.integers(0, left + 1))
                left -= count
                rows.append((*key, side, name, count))
    source, destination, service, hour, side_of, name_of, counts = np.array(rows).T
    return Programs(
        traffic.endpoints, names, source.astype(np.int32), destination.astype(np.int32), service.astype(np.int32),
        hour, side_of.astype(np.uint8), name_of.astype(np.int32), counts,
    )  # fmt: skip


@dataclass
class Explored:
    """The controller, and what the library knows of the same estate."""

    served: Serving
    client: Client
    inventory: Inventory
    traffic: Conversations
    programs: Programs

    def world(self, files: dict[str, str] | None = None) -> World:
        """What is in force, or what files would put in force."""
        world = self.served.controller.world()
        if files is None:
            return world
        return World(world.inventory, parse_policies(files).raise_if_errors(), at=world.at)

    def engine(self, files: dict[str, str] | None = None) -> Engine:
        return Engine.compile(self.world(files))

    def rows(self) -> Conversations:
        """What the store holds, ends as they are now."""
        return seated(self.served.controller.flows.read(), self.world().inventory)

    def post(self, path: str, **said: Any) -> Any:
        return self.client.post(path, said, Any)

    def get(self, path: str, **said: Any) -> Any:
        return self.client.get(path, Any, **said)


def _put(tx: Change, inventory: Inventory) -> None:
    for workload in inventory.workloads:
        tx.add(WorkloadRecord.of(workload, NOW))
        tx.add(*(LeaseRecord(lease.network, lease.address, workload.uuid) for lease in workload.addresses))
    audit.record(tx, at=NOW, actor="test", action="workload.make", subject="all", details={})


@contextmanager
def explored(folder: Path) -> Iterator[Explored]:
    """With the policies of FILES in force everywhere."""
    with serving(folder) as served:
        controller, inventory = served.controller, estate_of()
        served.run(controller.state.write(lambda tx: _put(tx, inventory)))
        for workload in inventory.workloads:
            served.run(controller.refresh(workload.uuid))
        traffic = traffic_of(inventory)
        programs = programs_of(traffic)
        controller.flows.append(traffic, (), programs)
        with served.client() as client:
            served.run(controller.versions.publish(Draft(FILES, 0), by=ROOT))
            served.run(controller.rollouts.load())
            yield Explored(served, client, inventory, traffic, programs)
