"""Endpoints and workloads in the store: each distinct one once, by number.

A workload is kept as it was when the traffic was seen, less its leases: the endpoint says which address was in use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ringfence.core.identity.workload import Mode, Workload
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.world import Endpoint
from ringfence.stores.duckdb.schema import NOBODY, WORKLOAD_COLUMNS

_LOW = (1 << 64) - 1
_TWO_64 = 1 << 64
_ENDPOINT_COLUMNS = ("workload", "network", "address", "has_address", "name")
_ADDRESS = f"high::UHUGEINT * {_TWO_64} + low AS address"

_Row = dict[str, Any]


def ids_of(database: duckdb.DuckDBPyConnection, endpoints: Sequence[Endpoint]) -> NDArray[np.int32]:
    """The number of each endpoint; new ones are added. Within the caller's transaction."""
    workloads = {id(end.workload): end.workload for end in endpoints if end.workload is not None}
    numbers = dict(zip(workloads, _workload_ids(database, list(workloads.values())).tolist(), strict=True))
    incoming = pa.table(
        {
            "n": pa.array(range(len(endpoints)), pa.int64()),
            "workload": pa.array([numbers.get(id(end.workload), NOBODY) for end in endpoints], pa.int32()),
            "network": pa.array([end.network for end in endpoints], pa.string()),
            "high": pa.array([(end.address or 0) >> 64 for end in endpoints], pa.uint64()),
            "low": pa.array([(end.address or 0) & _LOW for end in endpoints], pa.uint64()),
            "has_address": pa.array([end.address is not None for end in endpoints], pa.bool_()),
            "name": pa.array([end.name or "" for end in endpoints], pa.string()),
        }
    )
    with registered(database, "endpoint_rows", incoming):
        view = f"(SELECT * EXCLUDE (high, low), {_ADDRESS} FROM endpoint_rows)"
        return _numbered(database, "endpoint", view, _ENDPOINT_COLUMNS, len(endpoints))


def load(database: duckdb.DuckDBPyConnection, ids: NDArray[np.int32]) -> tuple[Endpoint, ...]:
    """The endpoints of these numbers, in their order."""
    with registered(database, "wanted", pa.table({"n": np.arange(len(ids)), "id": ids})):
        rows = database.execute(
            "SELECT workload, network, "
            f"(address // {_TWO_64})::UBIGINT, (address % {_TWO_64})::UBIGINT, has_address, name"
            " FROM wanted JOIN endpoint USING (id) ORDER BY n"
        ).fetchall()
        found = database.execute(
            f"SELECT id, {', '.join(WORKLOAD_COLUMNS)} FROM workload WHERE id IN"
            " (SELECT workload FROM endpoint JOIN wanted USING (id))"
        ).fetchall()
    workloads = {number: _workload(dict(zip(WORKLOAD_COLUMNS, row, strict=True))) for number, *row in found}
    return tuple(
        Endpoint(workloads.get(workload), high << 64 | low if has_address else None, network, name or None)
        for workload, network, high, low, has_address, name in rows
    )


@contextmanager
def registered(database: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> Iterator[None]:
    """An Arrow table as a view of the database, for a while."""
    database.register(name, table)
    try:
        yield
    finally:
        database.unregister(name)


def _workload_ids(database: duckdb.DuckDBPyConnection, workloads: list[Workload]) -> NDArray[np.int32]:
    rows = [_columns(workload) for workload in workloads]
    columns = {name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate(WORKLOAD_COLUMNS)}
    incoming = pa.table({"n": pa.array(range(len(rows)), pa.int64()), **columns})
    with registered(database, "workload_rows", incoming):
        return _numbered(database, "workload", "workload_rows", WORKLOAD_COLUMNS, len(rows))


def _numbered(
    database: duckdb.DuckDBPyConnection, table: str, view: str, columns: Sequence[str], rows: int
) -> NDArray[np.int32]:
    """The id of each row `n` of `view`, after adding those that `table` lacks."""
    names = ", ".join(columns)
    database.execute(
        f"INSERT INTO {table} (id, {names})"
        f" SELECT (SELECT coalesce(max(id), 0) FROM {table}) + row_number() OVER (), {names}"
        f" FROM (SELECT DISTINCT {names} FROM {view}) ANTI JOIN {table} USING ({names})"
    )
    found = database.execute(f"SELECT n, id FROM {view} JOIN {table} USING ({names})").fetchnumpy()
    ids = np.zeros(rows, np.int32)
    ids[np.asarray(found["n"])] = np.asarray(found["id"])
    return ids


def _columns(workload: Workload) -> tuple[str, ...]:
    """In the order of WORKLOAD_COLUMNS."""
    return (
        workload.uuid,
        workload.name,
        msgspec.json.encode(workload.labels, order="sorted").decode(),
        workload.kind,
        workload.origin,
        workload.mode.inbound,
        workload.mode.outbound,
        workload.spiffe or "",
        workload.host or "",
        workload.unit or "",
        msgspec.json.encode(workload.services.ranges).decode(),
    )


def _workload(row: _Row) -> Workload:
    return Workload(
        name=row["name"],
        uuid=row["uuid"],
        labels=msgspec.json.decode(row["labels"], type=dict[str, str]),
        kind=row["kind"],
        mode=Mode(row["inbound"], row["outbound"]),
        origin=row["origin"],
        spiffe=row["spiffe"] or None,
        host=row["host"] or None,
        unit=row["unit"] or None,
        services=IntervalSet(msgspec.json.decode(row["services"], type=tuple[tuple[int, int], ...])),
    )
