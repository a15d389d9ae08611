"""The fleet's flows, to take along."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from serving import Serving

from ringfence.core.flow.conversations import COLUMNS, Conversations
from ringfence.core.identity.workload import Workload
from ringfence.core.world import Endpoint


def test_stored_flows_come_as_they_are(served: Serving) -> None:
    """All rows of the span, whole; the last seven days where none is named."""
    now = int(datetime.now(UTC).timestamp())
    hours = np.array([now // 3600 * 3600, (now - 30 * 86_400) // 3600 * 3600], np.int64)
    ends = (Endpoint(Workload("web-1", "0c1d", {"app": "shop"}), 10), Endpoint(None, 2**100))
    columns = {name: np.array([3, 4], np.int64) for name in COLUMNS} | {
        "hour": hours,
        "first": hours,
        "last": hours + 9,
    }
    columns |= {"source": np.array([0, 0], np.int32), "destination": np.array([1, 1], np.int32)}
    columns |= {"point": np.array([6 << 16 | 443] * 2, np.int32)}
    columns |= {name: np.array([1, 1], np.uint8) for name in ("reported", "confidence")}
    served.controller.flows.append(Conversations(ends, **columns))

    with served.client() as admin:
        recent = admin.conversations()
        everything = admin.conversations(since=datetime.now(UTC) - timedelta(days=60))
        earlier = admin.conversations(
            since=datetime.now(UTC) - timedelta(days=60), until=datetime.now(UTC) - timedelta(days=9)
        )

    assert recent.first.tolist() == [hours[0]]
    assert recent.connections.tolist() == [3]
    assert sorted(everything.connections.tolist()) == [3, 4]
    assert earlier.connections.tolist() == [4]
    assert {end.workload and end.workload.name for end in recent.endpoints} == {"web-1", None}
    assert {end.address for end in recent.endpoints} == {10, 2**100}
