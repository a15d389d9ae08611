"""Fold port noise: a pair of ends that meets on too many ports in one hour keeps its busiest, the rest become one row.

A port scan or a protocol that makes up a high port for each call would otherwise cost a row a port. What is folded
keeps its counts, takes the lowest folded port, and its direction counts as a guess, so that no policy is written from
it.

INVARIANT: connections, packets and bytes summed over the rows never change.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PORTS_KEPT = 256
"""Ports a (source, destination, protocol, reported, hour) keeps."""
HIGH_PORTS_KEPT = 8
"""Of them, at most this many from HIGH_PORT up that fewer than FAN_IN connections, in all, go to."""
HIGH_PORT = 32768
"""Where Linux starts its ephemeral ports (ip_local_port_range); IANA's and Windows' start higher."""
FAN_IN = 3


_BUCKET_BITS = 20
_MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


class Ports(NamedTuple):
    """What folding asks of a row: the pair it belongs to, its port, and how busy it is."""

    pair: tuple[NDArray[np.uint64], NDArray[np.uint64]]
    """Equal for rows that may be folded together."""
    port: NDArray[np.int64]
    connections: NDArray[np.int64]
    fan: NDArray[np.uint8]
    """Connections to the server's socket in the whole import, saturated."""


def folded(rows: Ports) -> NDArray[np.bool_]:
    """Which rows are to be folded. The busiest stay; at a tie the lower port."""
    is_noise = (rows.port >= HIGH_PORT) & (rows.fan < FAN_IN)
    out = np.zeros(len(rows.port), dtype=bool)
    out |= _beyond(rows, np.flatnonzero(is_noise), HIGH_PORTS_KEPT)
    out |= _beyond(rows, np.flatnonzero(~out), PORTS_KEPT)
    return out


def _beyond(rows: Ports, which: NDArray[np.intp], kept: int) -> NDArray[np.bool_]:
    """Of the rows `which`, those past the first `kept` of their pair."""
    out = np.zeros(len(rows.port), dtype=bool)
    crowded = which[_may_exceed(rows.pair[0][which], rows.pair[1][which], kept)]
    if not len(crowded):
        return out
    first, second = (column[crowded] for column in rows.pair)
    order = np.lexsort((rows.port[crowded], -rows.connections[crowded], second, first))
    first, second = first[order], second[order]
    start = np.flatnonzero(np.r_[True, (first[1:] != first[:-1]) | (second[1:] != second[:-1])])
    rank = np.arange(len(order)) - np.repeat(start, np.diff(np.r_[start, len(order)]))
    out[crowded[order[rank >= kept]]] = True
    return out


def _may_exceed(first: NDArray[np.uint64], second: NDArray[np.uint64], kept: int) -> NDArray[np.bool_]:
    """Rows whose pair may have more than `kept`: counted by hash bucket, so never too few."""
    mixed = (first * _MIX[0] ^ second) * _MIX[1]
    bucket = (mixed >> np.uint64(64 - _BUCKET_BITS)).astype(np.int64)
    result: NDArray[np.bool_] = (np.bincount(bucket, minlength=1) > kept)[bucket]
    return result
