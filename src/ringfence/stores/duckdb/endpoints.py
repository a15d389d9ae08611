"""Endpoints, workloads and names of units in the store: each distinct one once, by number.

A workload is kept as it was when the traffic was seen, less its leases: the endpoint says which address was in use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ringfence.core.identity.workload import Workload
from ringfence.core.world import Endpoint
from ringfence.stores.duckdb.schema import NOBODY

_LOW = (1 << 64) - 1
_TWO_64 = 1 << 64
_ENDPOINT_COLUMNS = ("workload", "network", "address", "has_address", "name")
_ADDRESS = f"high::UHUGEINT * {_TWO_64} + low AS address"


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
        ends = database.execute(
            "SELECT workload, network, has_address, name, "
            f"(address // {_TWO_64})::UBIGINT AS high, (address % {_TWO_64})::UBIGINT AS low"
            " FROM wanted JOIN endpoint USING (id) ORDER BY n"
        ).fetchnumpy()
        documents = database.execute(
            "SELECT id, document FROM workload WHERE id IN (SELECT workload FROM endpoint JOIN wanted USING (id))"
        ).fetchall()
    decode = msgspec.json.Decoder(Workload).decode
    workloads = {number: decode(document) for number, document in documents}
    columns = ("workload", "network", "has_address", "name", "high", "low")
    return tuple(
        Endpoint(workloads.get(workload), high << 64 | low if has_address else None, network, name or None)
        for workload, network, has_address, name, high, low in zip(*(ends[c].tolist() for c in columns), strict=True)
    )


def unit_ids(database: duckdb.DuckDBPyConnection, names: Sequence[str]) -> NDArray[np.int32]:
    """The number of each name of a unit; new ones are added. Within the caller's transaction."""
    incoming = pa.table({"n": np.arange(len(names)), "name": pa.array(names, pa.string())})
    with registered(database, "unit_rows", incoming):
        return _numbered(database, "unit", "unit_rows", ("name",), len(names))


@contextmanager
def registered(database: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> Iterator[None]:
    """An Arrow table as a view of the database, for a while."""
    database.register(name, table)
    try:
        yield
    finally:
        database.unregister(name)


def _workload_ids(database: duckdb.DuckDBPyConnection, workloads: list[Workload]) -> NDArray[np.int32]:
    encode = msgspec.json.Encoder(order="deterministic").encode
    bare = (msgspec.structs.replace(workload, addresses=()) for workload in workloads)
    documents = pa.array([encode(workload) for workload in bare], pa.binary()).cast(pa.string())
    with registered(database, "workload_rows", pa.table({"n": np.arange(len(workloads)), "document": documents})):
        return _numbered(database, "workload", "workload_rows", ("document",), len(workloads))


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
