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
            out.append(
                workload(f"{name}-{env}-{role}-{i}", f"{net}.{len(out) + 10}", app=name, env=env, role=role)
            )
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
