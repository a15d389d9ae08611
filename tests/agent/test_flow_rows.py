"""What a host tells of its traffic, and what it keeps to itself."""

from __future__ import annotations

import numpy as np

from ringfence.agent.held.wanted import passages_to
from ringfence.agent.observe.flow_rows import without
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import TCP, UDP, point
from ringfence.wire.columns import ADDRESS_COLUMNS, DIRECTIONS, NUMBER_COLUMNS, FlowRows

HOST, CONTROLLER = parse_address("10.0.0.5"), parse_address("2001:db8::1")


def row(source: int, destination: int, service: int, direction: str) -> dict[str, int]:
    ends = {f"{end}_hi": address >> 64 for end, address in (("source", source), ("destination", destination))}
    ends |= {
        f"{end}_lo": address & (1 << 64) - 1 for end, address in (("source", source), ("destination", destination))
    }
    return {**ends, "point": service, "direction": DIRECTIONS.index(direction), "connections": 1}


def test_the_agents_own_way_to_its_controller_is_no_traffic_of_the_host() -> None:
    """Only what goes out to exactly that address and port is left out: other ports there, the same port elsewhere, and
    whatever comes in, are told."""
    bus = point(TCP, 4222)
    table = [
        row(HOST, CONTROLLER, bus, "out"),
        row(HOST, CONTROLLER, point(TCP, 443), "out"),
        row(HOST, CONTROLLER, point(UDP, 4222), "out"),
        row(HOST, parse_address("2001:db8::2"), bus, "out"),
        row(CONTROLLER, HOST, bus, "in"),
        row(HOST, CONTROLLER, bus, "in"),
    ]
    columns = {name: np.array([one.get(name, 0) for one in table], np.uint64) for name in ADDRESS_COLUMNS}
    columns |= {name: np.array([one.get(name, 0) for one in table], np.int64) for name in NUMBER_COLUMNS}
    rows = FlowRows(0, 1, 3, ("",), **columns)
    left = without(rows, passages_to([(CONTROLLER, 4222)]))
    assert len(left) == 5
    assert (left.destination_lo[0], left.point[0]) == (rows.destination_lo[1], rows.point[1])
    assert left.lost == 3
    assert without(rows, ()) is rows
