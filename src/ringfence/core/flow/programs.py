"""Programs: which of a host's units was at its end of traffic, as that host saw it; columnar, one row a distinct key.

The key of a row is (source, destination, service point, hour, side, name). Rows stand beside the conversations of the
same ends and service, and count what the host of that side counted itself: they are not merged, and need not add up.

INVARIANT: a name is the word of the host at that side, which whoever holds the host can choose. It is shown to people,
and no decision is made by it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ringfence.core.world import Endpoint

SOURCE, DESTINATION = 0, 1
"""Sides: who opened the connection, and who listened."""
COLUMNS: Final = ("source", "destination", "point", "hour", "side", "name", "connections")


@dataclass(frozen=True)
class Programs:
    """Columns of equal length; `source` and `destination` index `endpoints`, `name` indexes `names`."""

    endpoints: tuple[Endpoint, ...]
    names: tuple[str, ...]
    """systemd units and control groups."""
    source: NDArray[np.int32]
    destination: NDArray[np.int32]
    point: NDArray[np.int32]
    hour: NDArray[np.int64]
    """Start of the hour (s since the epoch) the traffic belongs to."""
    side: NDArray[np.uint8]
    name: NDArray[np.int32]
    connections: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.point)

    def where(self, mask: NDArray[Any]) -> Programs:
        """The rows a boolean mask or index array picks; endpoints and names are shared."""
        columns: dict[str, Any] = {column: getattr(self, column)[mask] for column in COLUMNS}
        return replace(self, **columns)


def no_programs() -> Programs:
    """Nothing is known."""
    none = np.zeros(0, np.int32)
    return Programs((), (), none, none, none, none.astype(np.int64), none.astype(np.uint8), none, none.astype(np.int64))
