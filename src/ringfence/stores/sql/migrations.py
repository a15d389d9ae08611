"""How the tables came to be: each step from one schema to the next, in the SQL that SQLite and PostgreSQL share.

INVARIANT: a step, once released, is never edited; a database is brought forward step by step, each in one transaction,
and a backup is restored into the schema it was taken from.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sqlalchemy import Connection, inspect, text

from ringfence.ports.state import StateError

_FIRST = (
    """CREATE TABLE workloads (
         uuid TEXT PRIMARY KEY, name TEXT NOT NULL, labels TEXT NOT NULL, created BIGINT NOT NULL, kind TEXT NOT NULL,
         origin TEXT NOT NULL, mode_in TEXT NOT NULL, mode_out TEXT NOT NULL, host TEXT, unit TEXT,
         services TEXT NOT NULL, spiffe TEXT, last_seen BIGINT, is_stale BOOLEAN NOT NULL,
         profile TEXT NOT NULL, enrolled_from TEXT,
         CONSTRAINT workloads_name UNIQUE (name))""",
    """CREATE TABLE leases (
         network TEXT NOT NULL, address TEXT NOT NULL,
         workload TEXT NOT NULL,
         start BIGINT NOT NULL, "end" BIGINT, source TEXT NOT NULL,
         PRIMARY KEY (network, address, workload, start),
         FOREIGN KEY (workload) REFERENCES workloads (uuid) ON DELETE CASCADE)""",
    "CREATE INDEX leases_workload ON leases (workload)",
    """CREATE TABLE profiles (
         name TEXT PRIMARY KEY, labels TEXT NOT NULL, created BIGINT NOT NULL, created_by TEXT NOT NULL,
         mode TEXT NOT NULL, uses_left BIGINT, expires BIGINT, ranges TEXT NOT NULL)""",
    """CREATE TABLE join_tokens (
         id TEXT PRIMARY KEY, hash TEXT NOT NULL, profile TEXT NOT NULL, created BIGINT NOT NULL,
         created_by TEXT NOT NULL, uses_left BIGINT, expires BIGINT, revoked_at BIGINT,
         FOREIGN KEY (profile) REFERENCES profiles (name) ON DELETE CASCADE)""",
    "CREATE INDEX join_tokens_profile ON join_tokens (profile)",
    """CREATE TABLE certificates (
         serial TEXT PRIMARY KEY, uuid TEXT NOT NULL, fingerprint TEXT NOT NULL, not_before BIGINT NOT NULL,
         not_after BIGINT NOT NULL, revoked_at BIGINT, why TEXT NOT NULL, key TEXT NOT NULL, renewed_by TEXT,
         machine TEXT NOT NULL)""",
    "CREATE INDEX certificates_uuid ON certificates (uuid)",
    """CREATE TABLE api_tokens (
         id TEXT PRIMARY KEY, hash TEXT NOT NULL, name TEXT NOT NULL, roles TEXT NOT NULL, created BIGINT NOT NULL,
         created_by TEXT NOT NULL, scope TEXT, expires BIGINT, revoked_at BIGINT)""",
    """CREATE TABLE versions (
         number BIGINT PRIMARY KEY, at BIGINT NOT NULL, actor TEXT NOT NULL, note TEXT NOT NULL, files TEXT NOT NULL,
         settings TEXT NOT NULL, digest TEXT NOT NULL, parent BIGINT REFERENCES versions (number))""",
    """CREATE TABLE workload_changes (
         revision BIGINT PRIMARY KEY, at BIGINT NOT NULL, actor TEXT NOT NULL, uuid TEXT NOT NULL, what TEXT NOT NULL,
         before TEXT NOT NULL, after TEXT NOT NULL)""",
    "CREATE INDEX workload_changes_uuid ON workload_changes (uuid)",
    """CREATE TABLE quarantines (
         id TEXT PRIMARY KEY, workload TEXT NOT NULL, level TEXT NOT NULL, why TEXT NOT NULL, by TEXT NOT NULL,
         since BIGINT NOT NULL, exceptions TEXT NOT NULL, addresses TEXT NOT NULL, until BIGINT,
         released_at BIGINT, released_by TEXT NOT NULL)""",
    "CREATE INDEX quarantines_workload ON quarantines (workload)",
    """CREATE TABLE rollouts (
         id TEXT PRIMARY KEY, version BIGINT NOT NULL REFERENCES versions (number), state TEXT NOT NULL,
         started BIGINT NOT NULL, canary TEXT NOT NULL, manner TEXT NOT NULL, finished BIGINT,
         problem TEXT NOT NULL)""",
    """CREATE TABLE agents (
         uuid TEXT PRIMARY KEY, seen BIGINT, instance TEXT NOT NULL, version TEXT NOT NULL, heartbeat TEXT NOT NULL,
         realised TEXT NOT NULL, FOREIGN KEY (uuid) REFERENCES workloads (uuid) ON DELETE CASCADE)""",
    """CREATE TABLE alerts (
         id TEXT PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, severity TEXT NOT NULL, state TEXT NOT NULL,
         count BIGINT NOT NULL, first BIGINT NOT NULL, last BIGINT NOT NULL, subject TEXT NOT NULL,
         message TEXT NOT NULL, details TEXT NOT NULL)""",
    "CREATE INDEX alerts_last ON alerts (last)",
    "CREATE UNIQUE INDEX alerts_kind_key ON alerts (kind, key) WHERE state <> 'closed'",
    """CREATE TABLE audit (
         seq BIGINT PRIMARY KEY, at BIGINT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL,
         details TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL,
         CONSTRAINT audit_previous UNIQUE (previous))""",
    """CREATE TABLE group_versions (
         networks TEXT NOT NULL, key TEXT NOT NULL, version BIGINT NOT NULL, PRIMARY KEY (networks, key))""",
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL)",
)
_SECOND = (
    """CREATE TABLE audit_heads (
         seq BIGINT PRIMARY KEY, at BIGINT NOT NULL, hash TEXT NOT NULL, key TEXT NOT NULL, signature TEXT NOT NULL)""",
    """CREATE TABLE proposals (
         id TEXT PRIMARY KEY, at BIGINT NOT NULL, actor TEXT NOT NULL, note TEXT NOT NULL, files TEXT NOT NULL,
         settings TEXT NOT NULL, digest TEXT NOT NULL, base BIGINT, state TEXT NOT NULL, decided_at BIGINT,
         decided_by TEXT NOT NULL, version BIGINT REFERENCES versions (number))""",
)
_THIRD = (
    """CREATE TABLE sessions (
         id TEXT PRIMARY KEY, hash TEXT NOT NULL, name TEXT NOT NULL, opened BIGINT NOT NULL, seen BIGINT NOT NULL,
         ends BIGINT NOT NULL, token TEXT, subject TEXT NOT NULL, powers TEXT NOT NULL,
         FOREIGN KEY (token) REFERENCES api_tokens (id) ON DELETE CASCADE)""",
    "CREATE INDEX sessions_token ON sessions (token)",
)
_FOURTH = (
    "DELETE FROM sessions WHERE token IS NULL",  # what they were opened by is not known: those people sign in again
    "ALTER TABLE sessions RENAME COLUMN powers TO claims",
    "UPDATE sessions SET claims = ''",
    "CREATE INDEX certificates_revoked_at ON certificates (revoked_at)",
    "CREATE INDEX certificates_renewed_by ON certificates (renewed_by)",
)
STEPS: Mapping[int, tuple[str, ...]] = MappingProxyType({1: _FIRST, 2: _SECOND, 3: _THIRD, 4: _FOURTH})
"""Version -> the statements that lead to it."""
NEWEST = max(STEPS)
_APPEND_ONLY = {
    "sqlite": (
        """CREATE TRIGGER IF NOT EXISTS {table}_no_{verb} BEFORE {verb} ON {table}
           BEGIN SELECT RAISE(ABORT, 'append-only'); END""",
    ),
    "postgresql": (
        """CREATE OR REPLACE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'append-only'; END $$""",
        "CREATE OR REPLACE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} EXECUTE FUNCTION append_only()",
    ),
}
"""The database refuses to change what is only ever added to, whoever asks through whatever."""


def version_of(connection: Connection) -> int:
    """The schema a database has; 0 for an empty one."""
    if not inspect(connection).has_table("schema_version"):
        return 0
    return int(connection.execute(text("SELECT max(version) FROM schema_version")).scalar() or 0)


def migrate(connection: Connection, to: int = NEWEST) -> None:
    """Bring a database forward, in the transaction of the connection. Raises StateError `state-version` for a schema
    newer than any known here."""
    version = version_of(connection)
    if version > to:
        message = f"the state has schema {version}, and this version reads no newer than {to}"
        raise StateError("state-version", message, help="use the newer version of ringfence, or restore a backup")
    if version == 0:
        connection.execute(text("CREATE TABLE schema_version (version BIGINT PRIMARY KEY)"))
    for step in range(version + 1, to + 1):
        for statement in STEPS[step]:
            connection.execute(text(statement))
        connection.execute(text("INSERT INTO schema_version (version) VALUES (:step)"), {"step": step})
    _guard(connection)


def _guard(connection: Connection) -> None:
    present = set(inspect(connection).get_table_names()) & {"audit", "audit_heads"}
    for table in sorted(present):
        for verb in ("UPDATE", "DELETE"):
            for statement in _APPEND_ONLY[connection.dialect.name]:
                connection.execute(text(statement.format(table=table, verb=verb)))
