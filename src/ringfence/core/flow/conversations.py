"""Conversations: observed traffic aggregated to who talked to whom on what, columnar, one row a distinct key.

The key of a row is (source, destination, service point, reported verdict, hour). Source is the client, the end
that opened the connection; both reports of one connection are already merged. Labelling and deciding run once a
row, never once a line.

INVARIANT: all columns have equal length; `source` and `destination` index `endpoints`, whose workload is who held the
address when the traffic was seen, not who holds it now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringfence.core.world import Endpoint

REPORTED = ("unknown", "allowed", "blocked", "would-block")
"""What the reporter said happened: the values of the `reported` column by index."""

DIRECTION_CONFIDENCE = ("port-order", "fan-in", "flags", "originator")
"""How the client was told from the server, weakest first: the values of `confidence` by index."""


@dataclass(frozen=True)
class Conversations:
    """Columns of equal length; times are seconds since the epoch, UTC."""

    endpoints: tuple[Endpoint, ...]
    source: NDArray[np.int32]
    destination: NDArray[np.int32]
    point: NDArray[np.int32]
    reported: NDArray[np.uint8]
    hour: NDArray[np.int64]
    """Start of the hour the traffic belongs to."""
    connections: NDArray[np.int64]
    packets: NDArray[np.int64]
    bytes: NDArray[np.int64]
    """Both directions together."""
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    confidence: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.point)

    def where(self, mask: NDArray[Any]) -> Conversations:
        """The rows a boolean mask or index array picks; endpoints are shared."""
        columns = {name: getattr(self, name)[mask] for name in COLUMNS}
        return Conversations(self.endpoints, **columns)


COLUMNS = (
    "source", "destination", "point", "reported", "hour", "connections", "packets", "bytes", "first", "last",
    "confidence",
)  # fmt: skip
