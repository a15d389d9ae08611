"""What is computed over conversations: folding, traffic scopes, time series, the account of lines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.core.flow.conversations import COLUMNS, Conversations
from ringfence.core.flow.fold import FAN_IN, HIGH_PORT, HIGH_PORTS_KEPT, PORTS_KEPT, Ports, folded
from ringfence.core.flow.scope import TRAFFIC_SCOPES, classify
from ringfence.core.flow.series import HOUR_S, hourly
from ringfence.core.flow.tally import SHOWN, Tally
from ringfence.core.identity.workload import Workload
from ringfence.core.net.address import parse_address
from ringfence.core.world import Endpoint

HELD = Workload("web", "u")


def conversations(endpoints: tuple[Endpoint, ...], rows: list[tuple[int, int]], **columns: list[int]) -> Conversations:
    none = {name: np.zeros(len(rows), np.int64) for name in COLUMNS}
    given_ = {name: np.array(values, np.int64) for name, values in columns.items()}
    ends = {"source": np.array([s for s, _ in rows], np.int32), "destination": np.array([d for _, d in rows], np.int32)}
    return Conversations(endpoints, **(none | given_ | ends))


@pytest.mark.parametrize(
    ("source", "destination", "scope"),
    [
        (Endpoint(HELD, parse_address("10.0.0.1")), Endpoint(None, parse_address("10.0.0.2")), "east-west"),
        (Endpoint(HELD, parse_address("8.8.4.4")), Endpoint(None, parse_address("fd00::1")), "east-west"),
        (Endpoint(HELD, parse_address("10.0.0.1")), Endpoint(None, parse_address("8.8.8.8")), "north-south"),
        (Endpoint(None, parse_address("2001:db8::1")), Endpoint(HELD, parse_address("fd00::1")), "north-south"),
        (Endpoint(HELD, parse_address("10.0.0.1")), Endpoint(None, None, name="example.com"), "north-south"),
        (Endpoint(HELD, parse_address("10.0.0.1")), Endpoint(None, parse_address("224.0.0.251")), "other"),
        (Endpoint(None, parse_address("8.8.8.8")), Endpoint(None, parse_address("1.1.1.1")), "other"),
        (Endpoint(None, parse_address("127.0.0.1")), Endpoint(None, parse_address("127.0.0.1")), "other"),
    ],
)
def test_traffic_scopes(source: Endpoint, destination: Endpoint, scope: str) -> None:
    """Inside is whoever is a workload or has a private address; one end on the internet is north-south."""
    for row in ((0, 1), (1, 0)):
        found = classify(conversations((source, destination), [row]))
        assert [TRAFFIC_SCOPES[s] for s in found] == [scope]


def test_a_series_has_every_hour() -> None:
    """Hours without traffic are there, with zeros; sums are kept."""
    rows = conversations((), [(0, 0)] * 3, hour=[7200, 7200, 18000], connections=[1, 2, 4], bytes=[10, 20, 40])
    found = hourly(rows, np.array([0, 1, 1], np.uint8), 2)
    assert found.hour.tolist() == [7200, 7200 + HOUR_S, 7200 + 2 * HOUR_S, 18000]
    assert found.connections.tolist() == [[1, 2], [0, 0], [0, 0], [0, 4]]
    assert found.bytes.tolist() == [[10, 20], [0, 0], [0, 0], [0, 40]]
    assert len(hourly(conversations((), []), np.zeros(0, np.uint8), 2).hour) == 0


ports = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 1),
        st.integers(HIGH_PORT - 9, HIGH_PORT + 30),
        st.integers(1, 3),
        st.integers(0, 4),
    ),
    max_size=80,
    unique_by=lambda row: row[:3],
)


def fold_naively(rows: list[tuple[int, int, int, int, int]]) -> list[bool]:
    out = [False] * len(rows)
    for kept, is_noise in ((HIGH_PORTS_KEPT, True), (PORTS_KEPT, False)):
        pairs: dict[tuple[int, int], list[int]] = {}
        for i, (a, b, port, _, fan) in enumerate(rows):
            if not out[i] and (not is_noise or (port >= HIGH_PORT and fan < FAN_IN)):
                pairs.setdefault((a, b), []).append(i)
        for members in pairs.values():
            for i in sorted(members, key=lambda i: (-rows[i][3], rows[i][2]))[kept:]:
                out[i] = True
    return out


@given(ports)
def test_the_busiest_ports_stay(rows: list[tuple[int, int, int, int, int]]) -> None:
    """Of every pair the rows with most connections stay (at a tie the lower port), as a slow reading says."""
    columns = [np.array([row[at] for row in rows]) for at in range(5)]
    pair = (columns[0].astype(np.uint64), columns[1].astype(np.uint64))
    found = folded(Ports(pair, columns[2].astype(np.int64), columns[3].astype(np.int64), columns[4].astype(np.uint8)))
    assert found.tolist() == fold_naively(rows)


def test_a_tally_shows_the_first_and_counts_all() -> None:
    """The first malformed lines are findings with file, line, text and reason; the account must balance."""
    tally = Tally("a.log", lines=100, malformed=100)
    for line in range(1, 101):
        tally.reject(3, line=line, text=b"\xff" + b"x" * 1000, column="srcport")
    report = tally.report()
    assert len(report.findings) == SHOWN
    shown = report.findings[0]
    assert (shown.code, str(shown.where), shown.text[:4]) == ("line-number", "a.log:1", "\\xff")
    assert "`srcport`" in shown.message
    assert len(shown.text) < 300
    assert report.is_balanced
    assert not Tally("a.log", lines=2, records=1).report().is_balanced
