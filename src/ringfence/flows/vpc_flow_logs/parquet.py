"""VPC flow logs in Parquet: columns are named as in text, with underscores; numbers are numbers, the rest strings.

A row counts as a line; its number is shown where it is malformed.
https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-s3-path.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ringfence.core.errors import InputError
from ringfence.core.flow import tally as reasons
from ringfence.core.flow.record import FlowBatch, opaque_id
from ringfence.core.flow.tally import SHOWN, Tally
from ringfence.flows import plan as op
from ringfence.flows.settle import Columns, Field, settle
from ringfence.flows.tokens import Reading, address_columns
from ringfence.flows.vpc_flow_logs.fields import check, meanings_of
from ringfence.ports.flow_source import FlowInput

MAGIC = b"PAR1"
_ROWS = 1 << 17
_BROKEN = (pa.ArrowException, OSError, ValueError)


def batches(content: FlowInput, tally: Tally, finish: Callable[[Columns], FlowBatch]) -> Iterator[FlowBatch]:
    """Row group by row group. Raises InputError `parquet-damaged` where nothing can be read."""
    size = content.path.stat().st_size
    try:
        file = pq.ParquetFile(content.path)
    except _BROKEN as error:
        raise InputError(
            "parquet-damaged", "the Parquet file cannot be opened", help=str(error).splitlines()[0]
        ) from error
    with file:
        names = tuple(file.schema_arrow.names)
        spoken = tuple(name.replace("_", "-") for name in names)
        check(spoken)
        meanings = meanings_of(spoken)
        wanted = {name: meanings[said] for name, said in zip(names, spoken, strict=True) if said in meanings}
        total, done = max(file.metadata.num_rows, 1), 0
        for rows in _rows(file, list(wanted), tally):
            columns = _read(rows, wanted, tally)
            ahead = done + rows.num_rows
            content.advanced(size * ahead // total - size * done // total)
            done = ahead
            if len(columns["start"]):
                yield finish(columns)


def _rows(file: pq.ParquetFile, names: list[str], tally: Tally) -> Iterator[pa.RecordBatch]:
    try:
        yield from file.iter_batches(batch_size=_ROWS, columns=names)
    except _BROKEN as error:
        tally.note("parquet-damaged", f"the Parquet file cannot be read further: {str(error).splitlines()[0]}")


def _read(rows: pa.RecordBatch, wanted: dict[str, int], tally: Tally) -> Columns:
    """One batch of rows, counted; the canonical columns of those kept."""
    reason, fault = np.zeros(rows.num_rows, np.uint8), np.full(rows.num_rows, -1, np.int64)
    fields: dict[int, Field] = {}
    for number, (name, meaning) in enumerate(wanted.items()):
        reading, has = _column(rows.column(name), meaning)
        fields[meaning] = Field(reading.value, has, reading.high)
        fails = has & (reading.reason != 0) & (reason == 0)
        reason[fails], fault[fails] = reading.reason[fails], number
    settled = settle(fields, rows.num_rows, is_zeek=False)
    unread = reason != 0
    is_kept = (settled.reason == 0) & ~unread
    reason = np.where(unread, reason, settled.reason)
    _count(reason, fault, list(wanted), tally)
    kept_rows = is_kept[settled.reason == 0]
    columns: Columns = {name: column[kept_rows] for name, column in settled.columns.items()}
    tally.untyped_icmp += int(np.isin(columns["protocol"], (1, 58)).sum())
    return columns


def _count(reason: NDArray[Any], fault: NDArray[np.int64], names: list[str], tally: Tally) -> None:
    is_bad = (reason != 0) & (reason < reasons.NODATA)
    for row in np.flatnonzero(is_bad)[:SHOWN].tolist():
        tally.reject(int(reason[row]), line=tally.lines + row + 1, column=names[fault[row]] if fault[row] >= 0 else "")
    tally.lines += len(reason)
    tally.malformed += int(is_bad.sum())
    tally.nodata += int((reason == reasons.NODATA).sum())
    tally.skipdata += int((reason == reasons.SKIPDATA).sum())
    tally.records += int((reason == 0).sum())


def _column(column: pa.Array, meaning: int) -> tuple[Reading, NDArray[np.bool_]]:
    """The values of one column by its meaning, and where it has one."""
    if meaning in op.LIMITS and pa.types.is_integer(column.type):
        has = np.asarray(column.is_valid())
        return _numbers(np.asarray(column.fill_null(0)), op.LIMITS[meaning]), has
    texts = column.cast(pa.string()).dictionary_encode()
    codes = np.asarray(texts.indices.fill_null(0))
    words = texts.dictionary.to_pylist()
    if not words:
        empty = np.zeros(len(column), np.uint64)
        return Reading(empty, np.zeros(len(column), np.uint8), empty), np.zeros(len(column), dtype=bool)
    has = np.asarray(column.is_valid()) & np.array([word != "-" for word in words])[codes]
    reading = _texts(words, meaning)
    high = None if reading.high is None else reading.high[codes]
    return Reading(reading.value[codes], reading.reason[codes], high), has


def _numbers(values: NDArray[Any], limit: int) -> Reading:
    is_bad = (values < 0) | (values > limit)
    value = np.where(is_bad, 0, values).astype(np.uint64)
    return Reading(value, np.where(is_bad, reasons.RANGE, 0).astype(np.uint8))


def _texts(words: list[str], meaning: int) -> Reading:
    """Distinct texts of one column."""
    texts = [word.encode() for word in words]
    none = np.zeros(len(texts), np.uint8)
    if meaning in op.ADDRESS_OPS:
        value, high, is_sound = address_columns(texts)
        return Reading(value, np.where(is_sound, 0, reasons.ADDRESS).astype(np.uint8), high)
    if meaning in op.WORDS:
        known = op.WORDS[meaning]
        is_known = np.array([text in known for text in texts], dtype=bool)
        reason = np.where(is_known, 0, reasons.WORD).astype(np.uint8)
        return Reading(np.array([known.get(text, 0) for text in texts], np.uint64), reason)
    if meaning in op.LIMITS:
        is_number = np.array([text.isdigit() for text in texts], dtype=bool)
        read = np.array([min(int(t), 2**63 - 1) if ok else 0 for t, ok in zip(texts, is_number, strict=True)], np.int64)
        numbers = _numbers(read, op.LIMITS[meaning])
        return Reading(numbers.value, np.where(is_number, numbers.reason, reasons.NUMBER).astype(np.uint8))
    return Reading(np.array([opaque_id(text) for text in texts], np.uint64), none)
