"""Flow rows on the wire: what goes in comes out, in few bytes, and nothing hostile gets through."""

from __future__ import annotations

import dataclasses
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.core.errors import InputError
from ringfence.core.net.address import V4_BASE
from ringfence.wire import columns
from ringfence.wire.columns import FlowRows, decode, encode

START = 1_790_000_000_000
_LOW = (1 << 64) - 1


def rows_of(table: list[dict[str, int]], texts: tuple[str, ...] = ("",), lost: int = 0) -> FlowRows:
    numbers = {name: np.array([row.get(name, 0) for row in table], np.int64) for name in columns.NUMBER_COLUMNS}
    ends = {}
    for end in ("source", "destination"):
        ends[f"{end}_hi"] = np.array([row[end] >> 64 for row in table], np.uint64)
        ends[f"{end}_lo"] = np.array([row[end] & _LOW for row in table], np.uint64)
    return FlowRows(START, START + 60_000, lost, texts, **ends, **numbers)


def as_set(rows: FlowRows) -> list[tuple[int, ...]]:
    names = (*columns.ADDRESS_COLUMNS, *columns.NUMBER_COLUMNS)
    return sorted(zip(*(getattr(rows, name).tolist() for name in names), strict=True))


def typical(count: int) -> FlowRows:
    """A busy host's minute: an inbound service, a few servers it calls, addresses of a /16."""
    random = np.random.default_rng(7)
    own = V4_BASE | 0x0A000005
    table = []
    for _ in range(count):
        remote = V4_BASE | 0x0A000000 | int(random.integers(0, 1 << 16))
        is_in = bool(random.random() < 0.7)
        port = int(random.choice([443, 8080, 5432, 53, 9092, int(random.integers(1024, 65536))]))
        connections = int(random.geometric(0.3))
        packets = connections * int(random.integers(5, 40))
        first = START + int(random.integers(0, 59_000))
        table.append({
            "source": remote if is_in else own, "destination": own if is_in else remote, "point": 6 << 16 | port,
            "direction": 0 if is_in else 1, "unit": int(random.integers(0, 4)), "connections": connections,
            "packets": packets, "bytes": packets * int(random.integers(60, 900)), "reply_packets": packets,
            "reply_bytes": packets * int(random.integers(60, 1400)), "first": first,
            "last": first + int(random.integers(0, 1000)),
        })  # fmt: skip
    return rows_of(table, ("", "nginx.service", "postgresql.service", "ssh.service"))


_address = st.one_of(st.integers(0, (1 << 128) - 1), st.integers(V4_BASE, V4_BASE + 255))
_count = st.integers(0, (1 << 63) - 1)
_row = st.fixed_dictionaries({
    "source": _address, "destination": _address, "point": st.integers(0, (1 << 24) - 1),
    "direction": st.integers(0, 2), "verdict": st.integers(0, 2), "step": st.integers(0, 4),
    "rule": st.integers(0, 2), "unit": st.integers(0, 2), "connections": _count, "packets": _count, "bytes": _count,
    "reply_packets": _count, "reply_bytes": _count, "first": st.integers(START - 10**9, START + 10**9),
})  # fmt: skip


@given(st.lists(_row, max_size=40), st.integers(0, 10**6), st.integers(0, 10**9))
def test_what_goes_in_comes_out(table: list[dict[str, int]], lost: int, length: int) -> None:
    """Decoding gives the same rows, in another order, with their window, texts and losses."""
    rows = rows_of([row | {"last": row["first"] + length} for row in table], ("", "shop/öffnen", "a.service"), lost)
    again = decode(encode(rows))

    assert as_set(again) == as_set(rows)
    assert (again.from_ms, again.until_ms, again.lost, again.texts) == (
        rows.from_ms, rows.until_ms, rows.lost, rows.texts
    )  # fmt: skip


def test_a_row_takes_at_most_twenty_bytes() -> None:
    """2,000 rows of a typical minute take no more than 20 bytes each."""
    assert len(encode(typical(2000))) <= 20 * 2000


@given(st.binary(max_size=400))
def test_noise_is_an_error_with_a_code(data: bytes) -> None:
    """No bytes whatever raise anything but a coded error."""
    for candidate in (data, b"RFf\x01" + data):
        with pytest.raises(InputError) as caught:
            decode(candidate)
        assert caught.value.code in ("message-malformed", "message-not-understood")


SAMPLE = encode(typical(50))


@settings(max_examples=400)
@given(st.integers(0, len(SAMPLE) - 1), st.integers(1, 255), st.integers(0, 60))
def test_a_changed_batch_is_refused_or_keeps_every_bound(at: int, flip: int, cut: int) -> None:
    """One changed byte or a cut end: an error, or rows all of whose indexes and times are in bounds."""
    data = bytearray(SAMPLE)
    data[at] ^= flip
    try:
        rows = decode(bytes(data[: len(data) - cut]))
    except InputError:
        return
    assert len(rows) <= columns.MAX_ROWS
    for name, count in (("rule", len(rows.texts)), ("unit", len(rows.texts)), ("point", 1 << 24), ("verdict", 3)):
        assert ((getattr(rows, name) >= 0) & (getattr(rows, name) < count)).all()
    assert ((rows.first >= 0) & (rows.first <= rows.last) & (rows.last <= columns.LAST_MS)).all()


def with_body(head: dict[int, int], body: bytes) -> bytes:
    """The sample with some of its header words replaced, and another body."""
    data = bytearray(SAMPLE[: columns._PREFIX])
    for at, value in head.items():
        struct.pack_into("<I", data, at, value)
    return bytes(data) + zlib.compress(body, 9)


@pytest.mark.parametrize(
    "data",
    [
        with_body({}, bytes(64 << 20)),
        with_body({4: columns.MAX_ROWS}, bytes(1 << 20)),
        with_body({4: columns.MAX_ROWS + 1}, b""),
        with_body({8: 1 << 30}, b""),
        with_body({12: 1 << 31}, b""),
        SAMPLE + b"more",
        SAMPLE[:-1],
        b"",
    ],
    ids=["bomb", "rows", "too many rows", "addresses", "texts", "tail", "cut", "empty"],
)
def test_a_batch_that_claims_more_than_it_holds_is_refused(data: bytes) -> None:
    """A bomb is not inflated beyond what its header says, and a header that lies is refused."""
    with pytest.raises(InputError, match="message-malformed"):
        decode(data)


def test_another_version_is_not_understood() -> None:
    """A batch of a version to come is refused as such, not as damage."""
    with pytest.raises(InputError, match="message-not-understood"):
        decode(SAMPLE[:3] + b"\x02" + SAMPLE[4:])


def test_too_much_for_one_message_is_refused_by_the_sender() -> None:
    """The sender is told to send less; nothing is cut off."""
    rows = typical(3)
    many = rows.where(np.zeros(columns.MAX_ROWS + 1, np.int64))
    for unsent in (many, dataclasses.replace(rows, texts=("x" * (columns.MAX_TEXT_BYTES + 1),))):
        with pytest.raises(InputError, match="flows-too-large"):
            encode(unsent)
