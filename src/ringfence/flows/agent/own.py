"""What an agent may say about traffic: what its own host sent and received; of others, what they cannot say themselves.

    judged(rows, own, spoken_for)  -> the rows to believe, and how many not

Outward rows begin at an address of the sender, inward ones end at one, as of then; what it forwarded is believed only
where neither end has an agent.

INVARIANT: no row makes an end of traffic of a host with an agent but that host's own rows and those of its peer.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringfence.core.identity.workload import Lease, Workload
from ringfence.wire.columns import DIRECTIONS, FlowRows

SLACK_MS: Final = 300_000
"""Clocks differ, and a host has an address before it is leased."""
_IN, _OUT, _THROUGH = map(DIRECTIONS.index, ("in", "out", "through"))
_LOW = (1 << 64) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_FOREVER = 1 << 62

Mask = NDArray[np.bool_]


class Judged(NamedTuple):
    """Rows to believe, how many are not, and how many of those speak for another agent's host."""

    rows: FlowRows
    foreign: int
    false: int


class Addresses:
    """A set of addresses of one network, for looking up many at once."""

    def __init__(self, addresses: Iterable[int]) -> None:
        values = list(set(addresses))
        hi = np.array([value >> 64 for value in values], np.uint64)
        self._keys = np.sort(_keys(hi, np.array([value & _LOW for value in values], np.uint64)))

    @staticmethod
    def of(workloads: Iterable[Workload], network: str = "main") -> Addresses:
        """Those of hosts that have an agent."""
        hosts = (workload for workload in workloads if workload.has_agent)
        return Addresses(lease.address for host in hosts for lease in host.addresses if lease.network == network)

    def has(self, hi: NDArray[np.uint64], lo: NDArray[np.uint64]) -> Mask:
        if not len(self._keys):
            return np.zeros(len(hi), bool)
        wanted = _keys(hi, lo)
        found: Mask = self._keys[np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)] == wanted
        return found


def judged(rows: FlowRows, own: Iterable[Lease], spoken_for: Addresses, network: str = "main") -> Judged:
    """`own`: what the sender held and when; `spoken_for`: the addresses of hosts with agents."""
    leases = [lease for lease in own if lease.network == network]
    source, destination = (rows.source_hi, rows.source_lo), (rows.destination_hi, rows.destination_lo)
    own_source, own_destination = _held(rows, *source, leases), _held(rows, *destination, leases)
    heard_source, heard_destination = spoken_for.has(*source), spoken_for.has(*destination)
    is_out, is_in, is_through = (rows.direction == direction for direction in (_OUT, _IN, _THROUGH))
    fits = (is_out & own_source) | (is_in & own_destination)
    fits |= is_through & ~(heard_source | heard_destination | own_source | own_destination)
    foreign = ~fits & ~is_through
    false = foreign & np.where(is_out, heard_source, heard_destination)
    return Judged(rows if fits.all() else rows.where(fits), int(foreign.sum()), int(false.sum()))


def _held(rows: FlowRows, hi: NDArray[np.uint64], lo: NDArray[np.uint64], leases: Iterable[Lease]) -> Mask:
    """The rows whose end is one of these leases, at their time."""
    held = np.zeros(len(rows), bool)
    for lease in leases:
        start, end = _ms(lease.start, -_FOREVER) - SLACK_MS, _ms(lease.end, _FOREVER) + SLACK_MS
        is_then = (rows.last >= start) & (rows.first <= end)
        held |= is_then & (lo == np.uint64(lease.address & _LOW)) & (hi == np.uint64(lease.address >> 64))
    return held


def _keys(hi: NDArray[np.uint64], lo: NDArray[np.uint64]) -> NDArray[Any]:
    """Each as 16 big-endian bytes, which sort as the numbers do."""
    table = np.empty((len(hi), 2), ">u8")
    table[:, 0], table[:, 1] = hi, lo
    return table.view("V16").ravel()


def _ms(at: datetime | None, unbounded: int) -> int:
    return unbounded if at is None else (at - _EPOCH) // _MS
