"""No question takes all memory: what does not fit is refused, with the narrower question that does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringfence.controller.bounds import memory_bytes, most_of
from ringfence.controller.study.grounds import Kept
from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import COLUMNS, Conversations
from ringfence.core.world import Endpoint
from ringfence.ports.flow_store import Most
from ringfence.stores.duckdb import DuckFlowStore

BEGIN = 1_772_496_000  # 2026-03-03T00:00Z
HOUR = 3600


def traffic(hours: int, pairs: int) -> Conversations:
    """Each of the pairs of addresses once an hour, from BEGIN on."""
    ends = tuple(Endpoint(None, 1000 + number) for number in range(2 * pairs))
    number, at = (a.ravel() for a in np.meshgrid(np.arange(pairs), BEGIN + HOUR * np.arange(hours)))
    columns: dict[str, Any] = {name: np.ones(len(number), np.int64) for name in COLUMNS}
    columns |= {"hour": at, "first": at, "last": at + 9}
    columns |= {"source": number.astype(np.int32), "destination": (number + pairs).astype(np.int32)}
    columns |= {"point": np.full(len(number), 6 << 16 | 443, np.int32)}
    columns |= {name: np.ones(len(number), np.uint8) for name in ("reported", "confidence")}
    return Conversations(ends, **columns)


def store(folder: Path, most: Most | None, hours: int = 10, pairs: int = 5) -> DuckFlowStore:
    made = DuckFlowStore(folder / "flows.duckdb", most=most)
    made.append(traffic(hours, pairs))
    return made


def test_more_rows_than_fit_are_refused_with_the_span_that_does(tmp_path: Path) -> None:
    """Exactly what fits is answered whole, one row more is not; the span that the help names is answered."""
    with store(tmp_path, Most(rows=32, ends=1000)) as flows:
        with pytest.raises(InputError, match="more than 32 rows of traffic") as refused:
            flows.read()
        assert refused.value.code == "too-much"
        assert refused.value.help == "name a shorter span: since 2026-03-03T04:00Z would do"
        assert len(flows.read(BEGIN + 4 * HOUR)) == 30
        assert len(flows.read(BEGIN, BEGIN + 6 * HOUR)) == 30
        with pytest.raises(InputError):
            flows.read(BEGIN, BEGIN + 7 * HOUR)
    with store(tmp_path / "exact", Most(rows=50, ends=10)) as flows:
        assert len(flows.read()) == 50


def test_more_ends_than_fit_are_refused(tmp_path: Path) -> None:
    """A scan of many addresses is few rows each, and as heavy."""
    with store(tmp_path, Most(rows=1000, ends=9)) as flows:
        with pytest.raises(InputError, match="more than 9 addresses") as refused:
            flows.read()
        assert refused.value.code == "too-much"
        assert "since" in refused.value.help


def test_an_hour_that_does_not_fit_alone_says_what_is_left_to_do(tmp_path: Path) -> None:
    with store(tmp_path, Most(rows=4, ends=1000)) as flows, pytest.raises(InputError) as refused:
        flows.read()
    assert "more memory" in refused.value.help


def test_the_hours_together_are_one_row_each(tmp_path: Path) -> None:
    """Where hours do not matter, time costs nothing: the sums are the same, the rows a tenth."""
    with store(tmp_path, Most(rows=5, ends=1000)) as flows:
        folded = flows.read(by_hour=False)
        assert len(folded) == 5
        assert folded.connections.tolist() == [10] * 5
        assert folded.first.tolist() == [BEGIN] * 5
        assert folded.last.tolist() == [BEGIN + 9 * HOUR + 9] * 5
        assert folded.hour.tolist() == [BEGIN] * 5


def test_a_store_without_a_bound_answers_everything(tmp_path: Path) -> None:
    """On the command line somebody asks on their own machine."""
    with store(tmp_path, None) as flows:
        assert len(flows.read()) == 50


def test_what_is_kept_is_bounded_by_weight() -> None:
    """The oldest answers go first; one that is too heavy alone is kept until the next."""
    made: list[int] = []

    def make(size: int) -> bytes:
        made.append(size)
        return b"x" * size

    kept: Kept[bytes] = Kept(10, weigh=len, heaviest=100)
    for size in (40, 50, 40, 50, 30, 50, 40):
        assert len(kept.get(size, lambda size=size: make(size))) == size  # type: ignore[misc]
    assert made == [40, 50, 30, 40]
    kept.get(500, lambda: make(500))
    kept.get(500, lambda: make(500))
    kept.get(1, lambda: make(1))
    kept.get(40, lambda: make(40))
    assert made == [40, 50, 30, 40, 500, 1, 40]


def test_the_bound_is_a_share_of_the_machine_or_container(tmp_path: Path) -> None:
    """Half of a small machine's memory holds two questions and what is kept; a container's limit counts."""
    limit = tmp_path / "memory.max"
    limit.write_text("2147483648\n")
    assert memory_bytes(limit) == 2 << 30
    limit.write_text("max\n")
    assert memory_bytes(limit) == memory_bytes(tmp_path / "none") > 0
    assert most_of(16 << 30).rows == 6_710_886
    assert most_of(1 << 20) == Most(500_000, 125_000)
