"""A builder of small estates and their traffic, for the tests of insight."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import numpy as np

from ringfence.core.flow.conversations import DIRECTION_CONFIDENCE, REPORTED, Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload, derived_uuid
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import parse_service
from ringfence.core.world import Endpoint

START = int(datetime(2026, 9, 7, tzinfo=UTC).timestamp())
"""A Monday."""
HOUR, DAY = 3600, 86_400


def workload(name: str, address: str, kind: str = "host", **labels: str) -> Workload:
    return Workload(name, derived_uuid(name), labels, (Lease(parse_address(address)),), kind=kind)  # type: ignore[arg-type]


def app(name: str, env: str, net: str, **roles: int) -> list[Workload]:
    """`app("shop", "prod", "10.1.0", web=2, db=1)`: so many workloads of each role, addressed one after another."""
    out: list[Workload] = []
    for role, count in roles.items():
        for i in range(count):
            out.append(workload(f"{name}-{env}-{role}-{i}", f"{net}.{len(out) + 10}", app=name, env=env, role=role))
    return out


class Traffic:
    """Collects rows; an end is a workload's name, an address, or a DNS name."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self._numbers: dict[str, int] = {}
        self._endpoints: list[Endpoint] = []
        self._rows: list[tuple[int, ...]] = []

    def add(
        self,
        source: str,
        destination: str,
        service: str,
        *,
        times: int = 10,
        hours: Iterable[int] = (0,),
        reported: str = "unknown",
        confidence: str = "originator",
        packets: int = 10,
    ) -> Traffic:
        """`times` connections in each of these hours after START, `packets` each."""
        ends = self._number(source), self._number(destination)
        point = parse_service(service).ranges[0][0]
        for hour in hours:
            at = START + hour * HOUR
            fixed = (REPORTED.index(reported), at, times, times * packets, times * packets * 100, at, at + 60)
            self._rows.append((*ends, point, *fixed, DIRECTION_CONFIDENCE.index(confidence)))
        return self

    def build(self) -> Conversations:
        columns = list(zip(*self._rows, strict=True)) if self._rows else [()] * 11
        kinds = (np.int32, np.int32, np.int32, np.uint8, *(np.int64,) * 6, np.uint8)
        arrays = [np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)]
        return Conversations(tuple(self._endpoints), *arrays)

    def _number(self, text: str) -> int:
        if text not in self._numbers:
            self._numbers[text] = len(self._numbers)
            self._endpoints.append(self._endpoint(text))
        return self._numbers[text]

    def _endpoint(self, text: str) -> Endpoint:
        found = self.inventory.by_name.get(text)
        if found is not None:
            return Endpoint(found, found.addresses[0].address if found.addresses else None)
        if text[0].isdigit() or ":" in text:
            return Endpoint(address=parse_address(text))
        return Endpoint(name=text)


MONTH = range(0, 24 * 30, 5)
"""Every fifth hour of thirty days: each hour of the day and day of the week comes up."""


def shop_inventory() -> Inventory:
    """Three applications, one of them also in dev, with the platform's DNS, monitoring and jump host."""
    return Inventory(
        [
            *app("shop", "prod", "10.1.0", web=2, api=2, db=1),
            *app("shop", "dev", "10.2.0", web=1, api=1, db=1),
            *app("billing", "prod", "10.3.0", api=2, db=1),
            *app("crm", "prod", "10.4.0", web=1, db=1),
            *app("dns", "prod", "10.9.0", dns=2),
            *app("prom", "prod", "10.9.1", monitoring=1),
            *app("bastion", "prod", "10.9.2", jump=1),
            workload("mystery", "10.8.0.9"),
        ]
    )


def shop_traffic(inventory: Inventory) -> Traffic:
    """A month of it: the applications' own traffic, what the platform does to all, a scanner, and some oddities."""
    traffic = Traffic(inventory)
    names = [w.name for w in inventory.workloads]

    def of(prefix: str) -> list[str]:
        return [name for name in names if name.startswith(prefix)]

    def all_pairs(sources: str, destinations: str, service: str) -> None:
        for source in of(sources):
            for destination in of(destinations):
                traffic.add(source, destination, service, hours=MONTH)

    for env in ("prod", "dev"):
        all_pairs(f"shop-{env}-web", f"shop-{env}-api", "tcp/8080")
        all_pairs(f"shop-{env}-api", f"shop-{env}-db", "tcp/5432")
    all_pairs("billing-prod-api", "shop-prod-db", "tcp/5432")
    all_pairs("billing-prod-api", "billing-prod-db", "tcp/3306")
    all_pairs("crm-prod-web", "crm-prod-db", "tcp/3306")
    for web in of("shop-prod-web"):
        for i in range(30):
            traffic.add(f"198.51.100.{i}", web, "tcp/443", times=4, hours=range(i, 700, 50))
    for i in range(5):
        traffic.add(f"10.77.1.{20 + i}", "crm-prod-web-0", "tcp/443", hours=MONTH)
    for source in of("billing-prod-api"):
        traffic.add(source, "203.0.113.9", "tcp/443", hours=MONTH)
    for name in names[:-1]:
        if not name.startswith("dns"):
            for server in of("dns"):
                traffic.add(name, server, "udp/53", hours=MONTH)
        if not name.startswith("prom"):
            traffic.add("prom-prod-monitoring-0", name, "tcp/9100", hours=MONTH)
        if "-prod-" in name and not name.startswith("bastion"):
            traffic.add("bastion-prod-jump-0", name, "tcp/22", times=2, hours=MONTH)
    for name in names[:9]:
        for port in (21, 22, 23, 80, 443, 445):
            traffic.add("10.66.0.6", name, f"tcp/{port}", times=1, packets=2)
    traffic.add("mystery", "shop-prod-db-0", "tcp/5432")
    traffic.add("shop-prod-api-0", "billing-prod-db-0", "tcp/3306", times=1)
    return traffic
