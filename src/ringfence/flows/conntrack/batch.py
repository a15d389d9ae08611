"""Many ctnetlink messages at once: columns of what they say, by the shape of the message instead of one by one.

The kernel writes all messages of one kind, family and protocol alike: same attributes, same order, same places. So the
places are worked out once for a shape (`_Shape`), and of every further message it is checked, vectorised, that each
attribute header stands where the shape has it; then the values are columns of one table. A message of another shape is
worked out for itself.

INVARIANT: a value is taken only from under its own attribute header. What cannot be read is counted, never guessed.

Source of the numbers: linux/netfilter/nfnetlink_conntrack.h and nfnetlink.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringfence.core.net.address import V4_BASE
from ringfence.flows.conntrack import netlink

TRACKED: Final = np.dtype(
    [("kind", "u2"), ("protocol", "u1"), ("id", "u4"),
     ("source_hi", "u8"), ("source_lo", "u8"), ("destination_hi", "u8"), ("destination_lo", "u8"),
     ("source_port", "u2"), ("destination_port", "u2"), ("icmp_id", "u2"), ("icmp_type", "u1"),
     ("packets", "i8"), ("bytes", "i8"), ("reply_packets", "i8"), ("reply_bytes", "i8"), ("start_ns", "i8"),
     ("event_ns", "i8"), ("mark", "u4")]
)  # fmt: skip
"""One message about one connection, in its original direction: the source is the client.

Ports are 0 where the protocol has none; packets and bytes where the kernel keeps no account (`nf_conntrack_acct`);
`start_ns` where it keeps no times, and `event_ns`, when it happened, where it does not say (kernels before 6.14).
"""
NEW, DESTROY = 0x100, 0x102
_ENTRY = 0x100
"""What a dump calls an entry; the same as NEW."""

_NESTED: dict[tuple[int, ...], set[int]] = {(): {1, 9, 10, 20}, (1,): {1, 2}}
"""Path of an attribute -> those inside it that hold others: CTA_TUPLE_ORIG, both counters, the times; IP and PROTO."""
_FIELDS: dict[tuple[int, ...], tuple[str, int]] = {
    (8,): ("mark", 4), (12,): ("id", 4),
    (1, 1, 1): ("source4", 4), (1, 1, 2): ("destination4", 4),
    (1, 1, 3): ("source6", 16), (1, 1, 4): ("destination6", 16),
    (1, 2, 1): ("protocol", 1), (1, 2, 2): ("source_port", 2), (1, 2, 3): ("destination_port", 2),
    (1, 2, 4): ("icmp_id", 2), (1, 2, 5): ("icmp_type", 1), (1, 2, 7): ("icmp_id", 2), (1, 2, 8): ("icmp_type", 1),
    (9, 1): ("packets", 8), (9, 2): ("bytes", 8), (10, 1): ("reply_packets", 8), (10, 2): ("reply_bytes", 8),
    (20, 1): ("start_ns", 8), (27,): ("event_ns", 8),
}  # fmt: skip
"""Where a value stands -> its name and size in bytes; all are big-endian."""
_NEEDED = frozenset({"id", "protocol"})
_V4_HIGH = np.uint64(V4_BASE & ((1 << 64) - 1))
_TYPE = 0x3FFF
_HEADER_BYTES = 20
"""nlmsghdr and nfgenmsg."""


class _Shape(NamedTuple):
    """Where everything stands in messages of one kind."""

    places: NDArray[np.intp]
    """Words (4 bytes) that hold attribute headers, and the message's own kind."""
    words: NDArray[np.uint32]
    """What must stand there."""
    fields: tuple[tuple[str, int, int], ...]
    """(name, place in bytes, size)."""


class Reader:
    """Turns messages into rows; remembers the shapes it has seen."""

    def __init__(self) -> None:
        self._shapes: dict[int, list[_Shape]] = {}
        self.unreadable = 0
        """Messages about connections that could not be read."""

    def datagrams(self, table: NDArray[np.uint8], sizes: NDArray[np.int64]) -> NDArray[Any]:
        """Rows of datagrams of one message each, one a line of `table`, in the order they came."""
        order: list[NDArray[np.intp]] = []
        rows: list[NDArray[Any]] = []
        lengths = np.minimum(sizes, table.shape[1])
        for size in np.unique(lengths).tolist():
            which = np.flatnonzero(lengths == size)
            got, read = self._alike(np.ascontiguousarray(table[which, : size & ~3]).view(np.uint32))
            rows.append(got)
            order.append(which[read])
        if not rows:
            return np.zeros(0, TRACKED)
        return np.concatenate(rows)[np.argsort(np.concatenate(order), kind="stable")]

    def dumped(self, data: bytes) -> NDArray[Any]:
        """Rows of one datagram of a dump, which holds many messages; in no order."""
        found: dict[int, list[int]] = {}
        for kind, _, start, end in netlink.messages(data):
            if kind == _ENTRY:
                found.setdefault(end - start + 16, []).append(start - 16)
        words = np.frombuffer(data[: len(data) & ~3], np.uint32)
        rows = [self._alike(words[np.array(at)[:, None] // 4 + np.arange(size // 4)])[0] for size, at in found.items()]
        return np.concatenate(rows) if rows else np.zeros(0, TRACKED)

    def _alike(self, words: NDArray[np.uint32]) -> tuple[NDArray[Any], NDArray[np.intp]]:
        """Messages of one length -> (rows, which messages they are)."""
        rows: list[NDArray[Any]] = []
        read: list[NDArray[np.intp]] = []
        left = np.arange(len(words))
        shapes = self._shapes.setdefault(words.shape[1], [])
        known = iter(tuple(shapes))
        while len(left):
            shape = next(known, None) or self._learn(words[left[0]], shapes)
            if shape is None:
                left = left[1:]
                continue
            fits = (words[np.ix_(left, shape.places)] == shape.words).all(axis=1)
            if fits.any():
                rows.append(_rows(words[left[fits]].view(np.uint8), shape))
                read.append(left[fits])
            left = left[~fits]
        return (np.concatenate(rows), np.concatenate(read)) if rows else (np.zeros(0, TRACKED), left)

    def _learn(self, words: NDArray[np.uint32], shapes: list[_Shape]) -> _Shape | None:
        """The shape of a message no known one fits; None, and counted, for what is no readable connection."""
        shape = _shape(words.tobytes())
        if shape is None:
            self.unreadable += 1
            return None
        shapes.append(shape)
        del shapes[:-_MOST_SHAPES]
        return shape


_MOST_SHAPES = 64
"""Of one length: families, protocols and states make about ten."""


def _shape(data: bytes) -> _Shape | None:
    if len(data) < _HEADER_BYTES:
        return None
    kind = struct.unpack_from("=H", data, 4)[0]
    if kind not in (NEW, DESTROY):
        return None
    places, fields = [], []
    for path, at, size in _attributes(data, _HEADER_BYTES, len(data), ()):
        places.append(at // 4)
        known = _FIELDS.get(path)
        if known and known[1] == size:
            fields.append((known[0], at + 4, size))
    names = {name for name, _, _ in fields}
    if not names >= _NEEDED or not ({"source4", "destination4"} <= names or {"source6", "destination6"} <= names):
        return None
    where = np.array([0, *places], np.intp)
    words = np.frombuffer(data, np.uint32)[where]
    return _Shape(np.r_[where, 1], np.r_[words, np.frombuffer(data, np.uint32)[1]], tuple(fields))


def _attributes(data: bytes, start: int, end: int, path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """(path, place of the header, bytes of the value) of every attribute, into those that are nested."""
    while start + 4 <= end:
        length, kind = struct.unpack_from("=HH", data, start)
        if length < 4 or start + length > end:
            return
        here = (*path, kind & _TYPE)
        yield here, start, length - 4
        if here[-1] in _NESTED.get(path, ()):
            yield from _attributes(data, start + 4, start + length, here)
        start += length + 3 & ~3


def _rows(table: NDArray[np.uint8], shape: _Shape) -> NDArray[Any]:
    rows = np.zeros(len(table), TRACKED)
    rows["kind"] = np.ascontiguousarray(table[:, 4:6]).view(np.uint16)[:, 0]
    for name, at, size in shape.fields:
        value = np.ascontiguousarray(table[:, at : at + size])
        if name in ("source4", "destination4"):
            rows[f"{name[:-1]}_lo"] = value.view(">u4")[:, 0] + _V4_HIGH
        elif name in ("source6", "destination6"):
            halves = value.view(">u8")
            rows[f"{name[:-1]}_hi"], rows[f"{name[:-1]}_lo"] = halves[:, 0], halves[:, 1]
        else:
            rows[name] = value.view(f">u{size}")[:, 0]
    return rows
