"""Flow rows as they travel: a batch of one host's aggregated traffic, columnar, a few bytes a row.

    encode(rows)  -> bytes          decode(bytes) -> rows

Layout: magic and version, a fixed header with every count, the width of every column, then one deflated body
(RFC 1950): addresses once (16 bytes each), texts once, columns as planes of bytes (all lowest bytes, then all next...).
A column of one value only takes no room in the body.

INVARIANT: the header says how large the body is, and the decoder inflates not a byte more; every number is checked
against its limit before it is used. What does not add up is an error, never part of a batch.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringfence.core.errors import InputError

VERSION: Final = 1
MAX_ROWS: Final = 1 << 16
MAX_BYTES: Final = 1 << 20
"""What a batch may take on the bus (the default `max_payload` of NATS)."""
MAX_TEXT_BYTES: Final = 1 << 18
LAST_MS: Final = 4294967295 * 1000 + 999
DIRECTIONS = ("in", "out", "through")
"""Which end the reporting host is: the destination, the source, neither (forwarded, multicast)."""
VERDICTS = ("allowed", "blocked", "would-block")
STEPS = ("", "quarantine", "forbid", "deny", "default")
_MAGIC = b"RFf" + bytes((VERSION,))
_HEADER = struct.Struct("<4sIIIqqQ")
_CONSTANT = struct.Struct("<Q")
_WIDTHS = (0, 1, 2, 4, 8)
_RATIO = 1040
"""More than deflate can shrink anything (zlib.h: 1032)."""
_MOST = (1 << 63) - 1
_LOW64 = (1 << 64) - 1

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class FlowRows:
    """Traffic of one window, one row a distinct key; columns of equal length. The source is the client.

    The key is (source, destination, point, direction, verdict, step, rule, unit).
    """

    from_ms: int
    """The window: milliseconds since the epoch, by the host's clock."""
    until_ms: int
    lost: int
    """Kernel events of this window that were not delivered: the rows may lack that many connections."""
    texts: tuple[str, ...]
    """What `rule` and `unit` index; the first one is empty."""
    source_hi: NDArray[np.uint64]
    source_lo: NDArray[np.uint64]
    destination_hi: NDArray[np.uint64]
    destination_lo: NDArray[np.uint64]
    point: Numbers
    """Service points (`core.net.service`)."""
    direction: Numbers
    verdict: Numbers
    step: Numbers
    """What blocked, or would have: index into STEPS."""
    rule: Numbers
    unit: Numbers
    """The host's own process at this end: its systemd unit or control group; empty where unknown."""
    connections: Numbers
    packets: Numbers
    bytes: Numbers
    reply_packets: Numbers
    reply_bytes: Numbers
    first: Numbers
    """Milliseconds since the epoch."""
    last: Numbers

    def __len__(self) -> int:
        return len(self.point)

    def where(self, mask: NDArray[Any] | slice) -> FlowRows:
        """The rows a boolean mask, an index array or a slice picks."""
        columns: dict[str, Any] = {name: getattr(self, name)[mask] for name in (*ADDRESS_COLUMNS, *NUMBER_COLUMNS)}
        return replace(self, **columns)


ADDRESS_COLUMNS = ("source_hi", "source_lo", "destination_hi", "destination_lo")
NUMBER_COLUMNS = (
    "point", "direction", "verdict", "step", "rule", "unit", "connections", "packets", "bytes", "reply_packets",
    "reply_bytes", "first", "last",
)  # fmt: skip
_COLUMNS = ("source", "destination", *NUMBER_COLUMNS)
"""In the order they are written. `first` is since the window's begin, zigzagged; `last` since `first`."""
_PREFIX = _HEADER.size + len(_COLUMNS) * (1 + _CONSTANT.size)


def encode(rows: FlowRows) -> bytes:
    """Raises InputError `flows-too-large` for more than MAX_ROWS rows or MAX_BYTES bytes: send fewer at once."""
    if len(rows) > MAX_ROWS:
        raise _too_large()
    rows = rows.where(np.lexsort((rows.point, rows.destination_lo, rows.source_lo)))
    addresses, source, destination = _dictionary(rows)
    texts = "\0".join(rows.texts).encode("utf-8", "replace")
    columns = [_narrow(column) for column in (source, destination, *_written(rows))]
    head = _HEADER.pack(_MAGIC, len(rows), len(addresses), len(texts), rows.from_ms, rows.until_ms, rows.lost)
    widths = b"".join(bytes((width,)) + _CONSTANT.pack(constant) for width, constant, _ in columns)
    body = [_planes(addresses.view(np.uint8).reshape(-1, 16)), texts, *(plane for _, _, plane in columns)]
    out = head + widths + zlib.compress(b"".join(body), 6)
    if len(out) > MAX_BYTES or len(texts) > MAX_TEXT_BYTES:
        raise _too_large()
    return out


def decode(data: bytes) -> FlowRows:
    """Raises InputError `message-malformed`, and `message-not-understood` for another version of the format."""
    head = _head(data)
    body = _inflated(memoryview(data)[_PREFIX:], head.body_bytes)
    addresses, texts, columns = _split(body, head)
    hi, lo = addresses[:, 0], addresses[:, 1]
    source, destination = (_indexes(columns[name], head.addresses) for name in ("source", "destination"))
    numbers = _checked(columns, head, len(texts))
    return FlowRows(
        head.from_ms, head.until_ms, head.lost, texts,
        hi[source], lo[source], hi[destination], lo[destination], *(numbers[name] for name in NUMBER_COLUMNS),
    )  # fmt: skip


def rows_in(data: bytes) -> int:
    """How many rows a batch says it has, without reading them. Raises as `decode`."""
    return _head(data).rows


# ---- writing --------------------------------------------------------------------------------------------------------


def _dictionary(rows: FlowRows) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Every address once, big-endian and sorted, and the index of each row's two."""
    both = np.empty((2 * len(rows), 2), ">u8")
    both[:, 0] = np.r_[rows.source_hi, rows.destination_hi]
    both[:, 1] = np.r_[rows.source_lo, rows.destination_lo]
    keys = both.view("V16").ravel()
    unique, index = np.unique(keys, return_inverse=True)
    return unique, index[: len(rows)].astype(np.uint64), index[len(rows) :].astype(np.uint64)


def _written(rows: FlowRows) -> list[NDArray[np.uint64]]:
    columns = {name: getattr(rows, name).astype(np.int64) for name in NUMBER_COLUMNS}
    since = columns["first"] - rows.from_ms
    columns["last"] = columns["last"] - columns["first"]
    columns["first"] = since << 1 ^ since >> 63
    return [columns[name].astype(np.uint64) for name in NUMBER_COLUMNS]


def _narrow(column: NDArray[np.uint64]) -> tuple[int, int, bytes]:
    """(width, the constant where the width is 0, planes)."""
    most = int(column.max(initial=0))
    if not len(column) or (column == column[0]).all():
        return 0, most, b""
    width = next(w for w in _WIDTHS[1:] if most < 1 << 8 * w)
    return width, 0, _planes(column.astype(f"<u{width}").view(np.uint8).reshape(-1, width))


def _planes(table: NDArray[np.uint8]) -> bytes:
    return np.ascontiguousarray(table.T).tobytes()


def _too_large() -> InputError:
    return InputError("flows-too-large", "a batch of flows is too large for one message", help="send it in parts")


# ---- reading --------------------------------------------------------------------------------------------------------


class _Head(NamedTuple):
    rows: int
    addresses: int
    text_bytes: int
    from_ms: int
    until_ms: int
    lost: int
    columns: tuple[tuple[int, int], ...]
    """(width, constant) of each."""

    @property
    def body_bytes(self) -> int:
        return 16 * self.addresses + self.text_bytes + sum(width * self.rows for width, _ in self.columns)


def _head(data: bytes) -> _Head:
    if data[:3] == _MAGIC[:3] and data[3:4] and data[3] != VERSION:
        raise InputError("message-not-understood", f"a batch of flows is of version {data[3]}", help="update this end")
    if len(data) < _PREFIX or len(data) > MAX_BYTES or data[:4] != _MAGIC:
        raise _malformed("is none, or is cut")
    _, rows, addresses, text_bytes, from_ms, until_ms, lost = _HEADER.unpack_from(data)
    at = range(_HEADER.size, _PREFIX, 1 + _CONSTANT.size)
    columns = tuple((data[i], _CONSTANT.unpack_from(data, i + 1)[0]) for i in at)
    head = _Head(rows, addresses, text_bytes, from_ms, until_ms, lost, columns)
    if rows > MAX_ROWS or addresses > 2 * rows or text_bytes > MAX_TEXT_BYTES:
        raise _malformed("is larger than any may be")
    if any(width not in _WIDTHS or constant > _MOST for width, constant in columns):
        raise _malformed("has a column of no known width")
    if not 0 <= from_ms <= until_ms <= LAST_MS or lost > _MOST:
        raise _malformed("is of no time there is")
    if head.body_bytes > _RATIO * len(data):
        raise _malformed("says it holds more than it can")
    return head


def _inflated(data: memoryview, size: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(data, size + 1)
    except zlib.error as error:
        raise _malformed(f"cannot be inflated: {error}") from error
    if len(body) != size or not inflater.eof or inflater.unused_data:
        raise _malformed("is not as long as it says")
    return body


def _split(body: bytes, head: _Head) -> tuple[NDArray[np.uint64], tuple[str, ...], dict[str, Numbers]]:
    table = _unplaned(body[: 16 * head.addresses], head.addresses, 16)
    addresses = table.view(">u8").astype(np.uint64).reshape(-1, 2)
    at = 16 * head.addresses + head.text_bytes
    try:
        texts = tuple(body[16 * head.addresses : at].decode().split("\0"))
    except UnicodeDecodeError as error:
        raise _malformed("has texts that are none") from error
    columns: dict[str, Numbers] = {}
    for name, (width, constant) in zip(_COLUMNS, head.columns, strict=True):
        columns[name] = _column(body[at : at + width * head.rows], head.rows, width, constant)
        at += width * head.rows
    return addresses, texts, columns


def _column(data: bytes, rows: int, width: int, constant: int) -> Numbers:
    if not width:
        return np.full(rows, constant, np.int64)
    values = _unplaned(data, rows, width).view(f"<u{width}").ravel().astype(np.uint64)
    if (values > _MOST).any():
        raise _malformed("has a number beyond 63 bits")
    return values.astype(np.int64)


def _unplaned(data: bytes, rows: int, width: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(width, rows).T)


def _indexes(column: Numbers, count: int) -> Numbers:
    if (column >= count).any():
        raise _malformed("has an index beyond its table")
    return column


def _checked(columns: dict[str, Numbers], head: _Head, texts: int) -> dict[str, Numbers]:
    limits = {"point": 1 << 24, "direction": len(DIRECTIONS), "verdict": len(VERDICTS), "step": len(STEPS),
              "rule": texts, "unit": texts}  # fmt: skip
    for name, count in limits.items():
        _indexes(columns[name], count)
    zigzag, length = columns["first"], columns["last"]
    if (zigzag > LAST_MS << 2).any() or (length > LAST_MS).any():
        raise _malformed("is of no time there is")
    first = (zigzag >> 1 ^ -(zigzag & 1)) + head.from_ms
    if (first < 0).any() or (first + length > LAST_MS).any():
        raise _malformed("is of no time there is")
    return columns | {"first": first, "last": first + length}


def _malformed(why: str) -> InputError:
    return InputError("message-malformed", f"a batch of flows {why}", help="drop it; its sender is at fault")
