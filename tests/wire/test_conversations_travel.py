"""Conversations on their way to whoever asks: the same at both ends, or an error."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import COLUMNS, Conversations
from ringfence.core.identity.workload import Lease, Workload
from ringfence.core.world import Endpoint
from ringfence.wire.conversations import decode, encode

WEB = Workload("web-1", "0c1d", {"app": "shop"}, (Lease(10),))
ENDS = (
    Endpoint(WEB, 10),
    Endpoint(None, 2**127 + 5, "site-2"),
    Endpoint(WEB, 11),
    Endpoint(None, None, name="a.example"),
)


def some() -> Conversations:
    columns = {name: np.array([1, 2], np.int64) for name in COLUMNS}
    columns |= {"bytes": np.array([2**62, 0], np.int64), "hour": np.array([1_800_000_000, 3600], np.int64)}
    ends = {"source": np.array([2, 0], np.int32), "destination": np.array([1, 3], np.int32)}
    small = {name: np.array([1, 2], np.uint8) for name in ("reported", "confidence")}
    return Conversations(ENDS, **(columns | ends | small | {"point": np.array([6 << 16 | 443, 1], np.int32)}))


def rows(found: Conversations) -> list[tuple[object, ...]]:
    """Each row with its ends themselves; of a workload its leases are left out."""
    ends = [
        msgspec.structs.replace(end, workload=end.workload and msgspec.structs.replace(end.workload, addresses=()))
        for end in found.endpoints
    ]
    plain = zip(*(getattr(found, name).tolist() for name in COLUMNS), strict=True)
    return [(ends[row[0]], ends[row[1]], *row[2:]) for row in plain]


def test_what_arrives_is_what_was_sent() -> None:
    """Every column and every end, of rows that are all of it, a part of it, or none."""
    for sent in (some(), some().where(np.array([1])), some().where(np.zeros(0, np.int64))):
        got = decode(encode(sent))
        assert rows(got) == rows(sent)
        assert [getattr(got, name).dtype for name in COLUMNS] == [getattr(sent, name).dtype for name in COLUMNS]


def test_only_ends_that_talk_travel() -> None:
    """A part of the rows takes its own ends along."""
    assert len(decode(encode(some().where(np.array([1])))).endpoints) == 2


@pytest.mark.parametrize("name", ["source", "destination", "reported", "confidence"])
@pytest.mark.parametrize("value", [-1, 99])
def test_a_value_that_means_nothing_is_refused(name: str, value: int) -> None:
    """Indexes outside what they index."""
    told = msgspec.msgpack.decode(encode(some()))
    width = len(told["columns"][name]) // 2
    told["columns"][name] = (value & 0xFF if width == 1 else value).to_bytes(width, "little", signed=width > 1) * 2
    with pytest.raises(InputError, match="bad-conversations"):
        decode(msgspec.msgpack.encode(told))


def test_what_does_not_add_up_is_refused() -> None:
    """Cut off, of another version, columns of two lengths, an end of nobody."""
    data = encode(some())
    with pytest.raises(InputError, match="bad-conversations"):
        decode(data[:-3])
    told = msgspec.msgpack.decode(data)
    short = told["columns"] | {"packets": told["columns"]["packets"][:8]}
    nobody = [[7, *end[1:]] for end in told["ends"]]
    for broken in ({"version": 2}, {"columns": short}, {"columns": {}}, {"ends": nobody}, {"ends": []}):
        with pytest.raises(InputError, match="bad-conversations"):
            decode(msgspec.msgpack.encode(told | broken))
