"""Column types: how values of the core lie in SQLite and PostgreSQL alike.

Times are microseconds since the epoch, addresses 32 hex digits (so that text order is address order), structures
canonical JSON.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Dialect, Text
from sqlalchemy.types import TypeDecorator

from ringfence.core.net.address import LAST

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
UNBOUNDED = -(1 << 62)
"""The start of a lease that has none: a key has no NULL."""
NOWHERE = -1
"""What is read where no address was written: one bad row must not hide the others, and nobody holds this one."""
_HEX = re.compile(r"[0-9a-f]{32}")


class Time(TypeDecorator[datetime]):
    """An aware time."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + timedelta(microseconds=value)


class Start(TypeDecorator[datetime]):
    """An aware time or None for ever before, in a column that is never NULL."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int:
        return UNBOUNDED if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None or value == UNBOUNDED else _EPOCH + timedelta(microseconds=value)


class Address(TypeDecorator[int]):
    """An address as an int of 128 bits."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        if value is not None and not 0 <= value <= LAST:
            raise ValueError(f"{value} is no address")
        return None if value is None else f"{value:032x}"

    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:
        if value is None:
            return None
        return int(value, 16) if _HEX.fullmatch(value) else NOWHERE


class Json(TypeDecorator[Any]):
    """A value of one msgspec type as canonical JSON."""

    impl = Text
    cache_ok = True

    def __init__(self, type_: Any) -> None:
        super().__init__()
        self.type_ = type_
        self._decoder = msgspec.json.Decoder(type_)

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value, order="deterministic").decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else self._decoder.decode(value)
