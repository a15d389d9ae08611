"""The canonical flow record: what one reporter saw of one connection in one window, columnar, a batch at a time.

Every source of flow records decodes to this and nothing else; labelling, direction and merging never ask where a record
came from. One row is unidirectional (source to destination); a source that sees both directions fills `rev_packets` and
`rev_bytes`.

INVARIANT: columns are contiguous and of equal length; `0 <= start <= end` in milliseconds; ICMP carries the *request's*
type in both ports (a reply is turned round), protocols without ports carry 0; both addresses are of one family.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEFAULT_NETWORK = "main"
LAST_MS = 4294967295 * 1000 + 999
"""The latest time a record may carry: 32-bit seconds, 2106."""
HASH_FACTOR, HASHED_CHARS = 0x9E3779B97F4A7C15, 64


@dataclass(frozen=True)
class FlowBatch:
    """Some records of one source. Addresses are the halves of the 128-bit ints of `core.net.address`."""

    start: NDArray[np.int64]
    """Milliseconds since the epoch: when the reporter saw the first packet of this record."""
    end: NDArray[np.int64]
    packets: NDArray[np.int64]
    bytes: NDArray[np.int64]
    src_hi: NDArray[np.uint64]
    src_lo: NDArray[np.uint64]
    dst_hi: NDArray[np.uint64]
    dst_lo: NDArray[np.uint64]
    reporter: NDArray[np.uint64]
    """An opaque number for who reported (an ENI, a sensor): `opaque_id` of its name."""
    src_port: NDArray[np.uint16]
    dst_port: NDArray[np.uint16]
    protocol: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    """TCP flags OR-ed over the window; 0 where unreported."""
    reported: NDArray[np.uint8]
    """Index into `conversations.REPORTED`."""
    hint: NDArray[np.int8]
    """1: the source opened the connection; -1: the destination did; 0: the reporter does not know."""
    network: NDArray[np.uint32]
    """Index into `networks`."""
    networks: tuple[str, ...] = (DEFAULT_NETWORK,)
    rev_packets: NDArray[np.int64] | None = None
    rev_bytes: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.start)

    def where(self, mask: NDArray[Any]) -> FlowBatch:
        """The rows a boolean mask or index array picks."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        return FlowBatch(**{k: v if k == "networks" or v is None else v[mask] for k, v in columns.items()})


def opaque_id(name: bytes) -> int:
    """The number a reporter's or network's name is compared by: a hash of its length and first 64 bytes."""
    value = len(name)
    for at in range(0, min(len(name), HASHED_CHARS), 8):
        word = int.from_bytes(name[at : min(at + 8, HASHED_CHARS)], "little")
        value = ((value ^ word) * HASH_FACTOR) & 0xFFFFFFFFFFFFFFFF
        value ^= value >> 32
    return value
