"""Estates for the pages to show: a few hosts that answer, or thousands of workloads of an inventory."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from serving import Host, Serving, eventually, serving

from ringfence.controller import audit
from ringfence.controller.alerts import occurrences
from ringfence.core.identity.workload import NAMESPACE, Mode
from ringfence.core.net.address import parse_address
from ringfence.ports.state import Change, LeaseRecord, WorkloadRecord
from ringfence.wire import api
from ringfence.wire.messages import Violation

POLICY = """\
policy: shop
owner: team-shop
scope: app=shop
segments:
  ledger: {selector: role=db, crown_jewel: true}
rules:
  - name: queries
    allow: {from: role=web, to: role=db, service: tcp/5432}
tests:
  - {from: role=web, to: role=db, service: tcp/5432, expect: allowed}
"""
AT_ONCE = api.How(trial_s=None, live="keep")
_APPS = (
    "shop",
    "pay",
    "search",
    "ledger",
    "mail",
    "crm",
    "ads",
    "video",
    "auth",
    "batch",
    "wiki",
    "build",
    "logs",
    "edge",
)
_ROLES = ("web", "api", "db", "cache", "queue")
_ENVS = ("prod", "stage", "dev")
MODES = ("enforce", "selective", "observe", "observe")


def put_on_file(served: Serving, count: int, *, first: int = 0) -> None:
    """Workloads as an inventory file brings them in, in force."""
    records = [_record(number) for number in range(first, first + count)]

    def work(tx: Change) -> None:
        for record, lease in records:
            tx.add(record, lease)
        audit.record(tx, at=datetime.now(UTC), actor="administrator", action="inventory.import", subject="estate.csv")

    served.run(served.controller.state.write(work))


def _record(number: int) -> tuple[WorkloadRecord, LeaseRecord]:
    role, app, env = _ROLES[number % 5], _APPS[number // 5 % 14], _ENVS[number // 70 % 3]
    name = f"{app}-{role}-{env}-{number}"
    unique = str(uuid.uuid5(NAMESPACE, name))
    labels = {"app": app, "role": role, "env": env, "zone": f"z{number % 3}"}
    mode = MODES[number // 5 % 4]
    now = datetime.now(UTC)
    record = WorkloadRecord(unique, name, labels, now, kind="vm", origin="file", mode_in=mode, mode_out="observe")
    address = parse_address(f"10.{20 + number // 60_000}.{number // 250 % 250}.{1 + number % 250}")
    return record, LeaseRecord("main", address, unique, source="file")


class Shop:
    """Two hosts that answer, five workloads of a file, a policy in force, alerts of attempts."""

    def __init__(self, served: Serving, folder: Path) -> None:
        self.served, self.client = served, served.client()
        self.hosts = [self._host(folder / role, role, f"10.0.0.{n}") for n, role in enumerate(("web", "db"), 1)]
        self.client.apply(api.Apply(api.Draft({"shop.yaml": POLICY}, 0, note="the shop"), AT_ONCE))
        eventually(lambda: self.client.rollout().stage == "done")
        self.web, self.db = (self.name_of(host) for host in self.hosts)

    def _host(self, folder: Path, role: str, address: str) -> Host:
        self.client.make_profile(api.NewProfile(role, {"app": "shop", "role": role}, Mode("enforce", "observe")))
        host = Host(folder, self.served.run, address)
        host.join(self.client.invite(api.Invite(role)).token)
        host.connect()
        return host

    def name_of(self, host: Host) -> str:
        return self.client.workload(host.uuid).name

    def attempt(self, port: int = 22, count: int = 3) -> None:
        """The web host tries to reach the database on a port that no rule opens; the database's host says so."""
        web, db = (host.address for host in self.hosts)
        now = datetime.now(UTC).timestamp()
        told = Violation(now, "in", 6, web, db, 40_000, port, "blocked", "default", count=count, process="/usr/bin/ssh")
        watching = self.served.controller.watching
        self.served.run(watching.note(occurrences.violation(told, self.db, watching.ground)))

    def close(self) -> None:
        for host in self.hosts:
            host.close()
        self.client.close()


@contextmanager
def shop(folder: Path) -> Iterator[Shop]:
    """The state is filled before the controller that serves it starts, as after a restart."""
    with serving(folder / "controller") as first:
        put_on_file(first, 5)
        token = first.token
    with serving(folder / "controller") as served:
        served.token = token
        made = Shop(served, folder / "hosts")
        try:
            yield made
        finally:
            made.close()


@contextmanager
def large(folder: Path, count: int) -> Iterator[Serving]:
    """As many workloads of a file."""
    with serving(folder / "controller") as first:
        put_on_file(first, count)
        token = first.token
    with serving(folder / "controller") as served:
        served.token = token
        yield served
