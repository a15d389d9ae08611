"""The fleet's flows, to take along."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from serving import Serving, serving

from ringfence.client.errors import Refused
from ringfence.core.flow.conversations import COLUMNS, Conversations
from ringfence.core.identity.workload import Workload
from ringfence.core.world import Endpoint
from ringfence.ports.flow_store import Most
from ringfence.wire.explore import Query
from ringfence.wire.study import AskRecommend, AskSimulate


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


def four_hours(now: int, points: NDArray[np.int64]) -> Conversations:
    """Three connections in each of the last hours."""
    hours = now - 3600 * np.repeat(np.arange(4, dtype=np.int64), 3)
    columns: dict[str, Any] = {name: np.ones(12, np.int64) for name in COLUMNS}
    columns |= {"hour": hours, "first": hours, "last": hours + 9}
    columns |= {"source": np.zeros(12, np.int32), "destination": np.ones(12, np.int32)}
    columns |= {"point": (6 << 16 | points).astype(np.int32)}
    columns |= {name: np.ones(12, np.uint8) for name in ("reported", "confidence")}
    return Conversations((Endpoint(None, 10), Endpoint(None, 11)), **columns)


def test_what_nobody_can_ask_less_of_tells_what_fits(tmp_path: Path) -> None:
    """The home page and the use of rules look at the latest hours that fit, and say how many; nothing is left out of
    those."""
    now = int(datetime.now(UTC).timestamp()) // 3600 * 3600
    with serving(tmp_path / "c") as served, served.client() as admin:
        served.controller.flows.append(four_hours(now, np.arange(12)))
        served.controller.flows.most = Most(rows=8, ends=100)  # type: ignore[misc]
        _, week = admin.explore.posture().coverage
        used = admin.explore.rules(days=7)

    assert (used.days, used.hours, week.hours) == (7, 1, 1)
    assert week.connections == 6


def test_more_than_fits_into_memory_is_refused_with_what_does(served: Serving) -> None:
    """By the route that hands flows out, and by those that study them: the same code, and a span that is answered."""
    now = int(datetime.now(UTC).timestamp()) // 3600 * 3600
    flows = served.controller.flows
    flows.append(four_hours(now, np.tile(np.arange(3), 4)))
    flows.most = Most(rows=8, ends=100)  # type: ignore[misc]
    try:
        with served.client() as admin:
            with pytest.raises(Refused) as refused:
                admin.conversations()
            assert refused.value.code == "too-much"
            fits = datetime.fromtimestamp(now - 3600, UTC)
            assert f"since {fits:%Y-%m-%dT%H:%MZ} would do" in refused.value.help
            assert len(admin.conversations(since=fits)) in (6, 7)
            studying = admin.explore
            with pytest.raises(Refused, match="more than 8 rows"):
                studying.simulate(AskSimulate())
            with pytest.raises(Refused, match="more than 8 rows"):
                studying.recommend(AskRecommend())
            assert sum(edge.connections for edge in studying.map(Query()).edges) >= 12
    finally:
        flows.most = None  # type: ignore[misc]
