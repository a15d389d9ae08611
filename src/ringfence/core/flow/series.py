"""Time series over conversations: one count an hour and group, for any grouping that is an index a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ringfence.core.flow.conversations import Conversations

HOUR_S = 3600


@dataclass(frozen=True)
class Series:
    """`connections[i, g]` and `bytes[i, g]`: what group g had in the hour from `hour[i]` on; a quiet hour has 0."""

    hour: NDArray[np.int64]
    connections: NDArray[np.int64]
    bytes: NDArray[np.int64]


def hourly(conversations: Conversations, group: NDArray[np.uint8], groups: int) -> Series:
    """Per hour and group; `group` is one index below `groups` a row: a verdict, `reported`, a traffic scope."""
    if not len(conversations):
        return Series(np.zeros(0, np.int64), np.zeros((0, groups), np.int64), np.zeros((0, groups), np.int64))
    first = int(conversations.hour.min())
    index = (conversations.hour - first) // HOUR_S
    shape = (int(index.max()) + 1, groups)
    counts = [np.zeros(shape, np.int64) for _ in range(2)]
    for table, values in zip(counts, (conversations.connections, conversations.bytes), strict=True):
        np.add.at(table, (index, group), values)
    return Series(first + HOUR_S * np.arange(shape[0], dtype=np.int64), *counts)
