"""East-west or north-south: whether a conversation stays inside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ringfence.core.flow.conversations import Conversations
from ringfence.core.net.address import INTERNET_RANGE, PRIVATE
from ringfence.core.world import Endpoint

TRAFFIC_SCOPES = ("east-west", "north-south", "other")
"""Both ends inside; one end on the internet; anything else (multicast, loopback, transit): what `classify` indexes."""

_INSIDE, _INTERNET, _ELSEWHERE = range(3)
_BY_ENDS = np.array([[0, 1, 2], [1, 2, 2], [2, 2, 2]], np.uint8)


def classify(conversations: Conversations) -> NDArray[np.uint8]:
    """Index into TRAFFIC_SCOPES a row. Inside are workloads, whatever their address, and unheld private addresses."""
    places = np.array([_place(end) for end in conversations.endpoints], np.uint8)
    result: NDArray[np.uint8] = _BY_ENDS[places[conversations.source], places[conversations.destination]]
    return result


def _place(end: Endpoint) -> int:
    if end.workload is not None or (end.address is not None and end.address in PRIVATE):
        return _INSIDE
    return _INTERNET if end.name is not None or (end.address or 0) in INTERNET_RANGE else _ELSEWHERE
