"""Conversations as they travel to whoever asks for them: columns as they are in memory, each endpoint once.

    encode(conversations) -> bytes          decode(bytes) -> conversations

INVARIANT: what is decoded equals what was encoded, workloads less their leases: the endpoint says which address was in
use. What does not add up is an error, never part of the columns.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import COLUMNS, DIRECTION_CONFIDENCE, REPORTED, Conversations
from ringfence.core.identity.workload import Workload
from ringfence.core.world import Endpoint

TYPE: Final = "application/vnd.ringfence.conversations+msgpack"
VERSION: Final = 1
_KINDS: Final = {"source": "<i4", "destination": "<i4", "point": "<i4", "reported": "u1", "confidence": "u1"}
_NUMBER: Final = "<i8"
_ADDRESS_BYTES: Final = 16


class _End(msgspec.Struct, frozen=True, array_like=True):
    workload: int | None
    """Index into the workloads."""
    address: bytes | None
    network: str
    name: str | None


class _Document(msgspec.Struct, frozen=True):
    version: int
    workloads: list[Workload]
    ends: list[_End]
    columns: dict[str, bytes]


def encode(conversations: Conversations) -> bytes:
    """Only the endpoints that a row has travel."""
    rows = (conversations.source, conversations.destination)
    used, index = np.unique(np.concatenate(rows), return_inverse=True)
    ends = [conversations.endpoints[number] for number in used.tolist()]
    distinct = {id(end.workload): end.workload for end in ends if end.workload is not None}
    numbers = {key: number for number, key in enumerate(distinct)}
    workloads = [msgspec.structs.replace(one, addresses=()) for one in distinct.values()]
    source, destination = np.split(index, 2)
    columns = {name: getattr(conversations, name) for name in COLUMNS} | {"source": source, "destination": destination}
    packed = {name: column.astype(_KINDS.get(name, _NUMBER)).tobytes() for name, column in columns.items()}
    return msgspec.msgpack.encode(_Document(VERSION, workloads, [_end(end, numbers) for end in ends], packed))


def _end(end: Endpoint, numbers: dict[int, int]) -> _End:
    address = None if end.address is None else end.address.to_bytes(_ADDRESS_BYTES, "big")
    return _End(numbers.get(id(end.workload)), address, end.network, end.name)


def decode(data: bytes) -> Conversations:
    """Raises InputError `bad-conversations`."""
    try:
        told = msgspec.msgpack.decode(data, type=_Document)
        if told.version != VERSION:
            raise ValueError(f"version {told.version} is not {VERSION}")
        ends = tuple(_endpoint(end, told.workloads) for end in told.ends)
        columns = {name: _column(name, told.columns[name]) for name in COLUMNS}
        _check(columns, len(ends))
    except (msgspec.DecodeError, KeyError, ValueError) as error:
        message = f"these are no conversations: {error}"
        raise InputError("bad-conversations", message, help="update the older end") from error
    return Conversations(ends, **columns)


def _endpoint(end: _End, workloads: list[Workload]) -> Endpoint:
    if end.workload is not None and not 0 <= end.workload < len(workloads):
        raise ValueError("an end is of no workload that is told")
    if end.address is not None and len(end.address) != _ADDRESS_BYTES:
        raise ValueError("an address is not 16 bytes long")
    workload = None if end.workload is None else workloads[end.workload]
    address = None if end.address is None else int.from_bytes(end.address, "big")
    return Endpoint(workload, address, end.network, end.name)


def _column(name: str, data: bytes) -> NDArray[Any]:
    kind = np.dtype(_KINDS.get(name, _NUMBER))
    return np.frombuffer(data, kind).astype(kind.newbyteorder("="))


def _check(columns: dict[str, NDArray[Any]], ends: int) -> None:
    if len({len(column) for column in columns.values()}) != 1:
        raise ValueError("the columns are not equally long")
    limits = {"source": ends, "destination": ends, "reported": len(REPORTED), "confidence": len(DIRECTION_CONFIDENCE)}
    for name, limit in limits.items():
        column = columns[name]
        if len(column) and (int(column.min()) < 0 or int(column.max()) >= limit):
            raise ValueError(f"a value of `{name}` means nothing")
