"""The tables of the flow store, and how to get from one version of them to the next.

A row of `conversation` is what one import saw; equal keys of several imports are joined when read. Endpoints and
workloads are kept once; a workload whose labels changed is another workload row, so that traffic keeps the labels of
its time. A row of `program` is what the host at one side of a conversation said of its own units.
"""

from __future__ import annotations

import duckdb

from ringfence.core.errors import InputError

VERSION = 1

_CREATE = """
CREATE TABLE meta (version INTEGER NOT NULL);
CREATE TABLE workload (id INTEGER NOT NULL, document VARCHAR NOT NULL);
CREATE TABLE endpoint (
  id INTEGER NOT NULL, workload INTEGER NOT NULL, network VARCHAR NOT NULL,
  address UHUGEINT NOT NULL, has_address BOOLEAN NOT NULL, name VARCHAR NOT NULL);
CREATE TABLE conversation (
  hour BIGINT NOT NULL, source INTEGER NOT NULL, destination INTEGER NOT NULL, point INTEGER NOT NULL,
  reported UTINYINT NOT NULL, connections BIGINT NOT NULL, packets BIGINT NOT NULL, bytes BIGINT NOT NULL, first BIGINT
  NOT NULL, last BIGINT NOT NULL, confidence UTINYINT NOT NULL);
CREATE TABLE file (
  digest VARCHAR PRIMARY KEY, name VARCHAR NOT NULL, format VARCHAR NOT NULL, size_bytes BIGINT NOT NULL, lines BIGINT
  NOT NULL, records BIGINT NOT NULL, malformed BIGINT NOT NULL, number BIGINT NOT NULL);
"""

_CREATE_BESIDE = """
CREATE TABLE IF NOT EXISTS unit (id INTEGER NOT NULL, name VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS program (
  hour BIGINT NOT NULL, source INTEGER NOT NULL, destination INTEGER NOT NULL, point INTEGER NOT NULL,
  side UTINYINT NOT NULL, unit INTEGER NOT NULL, connections BIGINT NOT NULL);
"""
"""What an earlier Ringfence does not know, and leaves alone: no other version for it."""

KEEP_USED = (
    "INSERT INTO fresh.conversation SELECT * FROM conversation ORDER BY hour",
    "INSERT INTO fresh.program SELECT * FROM program ORDER BY hour",
    """INSERT INTO fresh.endpoint SELECT * FROM endpoint WHERE id IN (
         SELECT source FROM conversation UNION SELECT destination FROM conversation
         UNION SELECT source FROM program UNION SELECT destination FROM program)""",
    "INSERT INTO fresh.unit SELECT * FROM unit WHERE id IN (SELECT unit FROM program)",
    "INSERT INTO fresh.workload SELECT * FROM workload WHERE id IN (SELECT workload FROM fresh.endpoint)",
    "INSERT INTO fresh.file SELECT * FROM file",
)
"""Everything that is still of use, into the attached empty store `fresh`. Files are remembered for good."""
NOBODY = 0
"""`endpoint.workload` of an address nobody held."""


def prepare(database: duckdb.DuckDBPyConnection, path: str) -> None:
    """Create the tables in an empty file. Raises InputError `flow-store-version` for a file of another version."""
    present = database.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'meta'").fetchone()
    if present == (0,):
        database.execute("BEGIN")
        database.execute(_CREATE)
        database.execute("INSERT INTO meta VALUES (?)", [VERSION])
        database.execute(_CREATE_BESIDE)
        database.execute("COMMIT")
        return
    found = database.execute("SELECT max(version) FROM meta").fetchone()
    if found != (VERSION,):
        message = f"`{path}` is a flow store of version {found[0] if found else None}, not {VERSION}"
        raise InputError(
            "flow-store-version", message, help="use the Ringfence that wrote it, or import into a new store"
        )
    database.execute(_CREATE_BESIDE)
