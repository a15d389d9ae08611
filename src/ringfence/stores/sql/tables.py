"""The tables: one per kind of record, a column per field.

INVARIANT: what these say and what the migrations make are the same (tests/stores), and so are columns and fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, MetaData, Table, Text, UniqueConstraint, text
from sqlalchemy.types import TypeEngine

from ringfence.ports import state as s
from ringfence.stores.sql.columns import Address, Json, Start, Time

METADATA = MetaData()
SCHEMA_VERSION = Table("schema_version", METADATA, Column("version", BigInteger, primary_key=True, autoincrement=False))
_SPECIAL: Mapping[tuple[type[s.Record], str], TypeEngine[Any]] = {
    (s.LeaseRecord, "address"): Address(),
    (s.WorkloadRecord, "enrolled_from"): Address(),
    (s.LeaseRecord, "start"): Start(),
}
_WORKLOAD = {"references": "workloads.uuid", "ondelete": "CASCADE"}
_VERSION = {"references": "versions.number"}


def _table(
    kind: type[s.Record], name: str, *key: str, refer: Mapping[str, Mapping[str, str]] | None = None, **unique: str
) -> Table:
    """A table with a column for each field of the record; `unique`: constraint name -> its column."""
    columns = [_column(kind, field, key, (refer or {}).get(field.name)) for field in msgspec.structs.fields(kind)]
    return Table(name, METADATA, *columns, *(UniqueConstraint(column, name=n) for n, column in unique.items()))


def _column(
    kind: type[s.Record], field: msgspec.structs.FieldInfo, key: tuple[str, ...], refers: Mapping[str, str] | None
) -> Column[Any]:
    type_, is_nullable = _type_of(get_type_hints(kind)[field.name])
    special = _SPECIAL.get((kind, field.name))
    foreign = [ForeignKey(refers["references"], ondelete=refers.get("ondelete"))] if refers else []
    return Column(
        field.name,
        special or type_,
        *foreign,
        primary_key=field.name in key,
        autoincrement=False,
        nullable=is_nullable and not isinstance(special, Start),
    )


def _type_of(hint: Any) -> tuple[TypeEngine[Any], bool]:
    """The column type of a field's type, and whether it may be None."""
    is_nullable = get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint)
    plain = next(one for one in get_args(hint) if one is not NoneType) if is_nullable else hint
    if plain is bool:
        return Boolean(), is_nullable
    if plain is int:
        return BigInteger(), is_nullable
    if plain is datetime:
        return Time(), is_nullable
    is_text = plain is str or all(isinstance(choice, str) for choice in get_args(plain) or (None,))
    return (Text() if is_text else Json(plain)), is_nullable


TABLES: Mapping[type[s.Record], Table] = MappingProxyType(
    {
        s.WorkloadRecord: _table(s.WorkloadRecord, "workloads", "uuid", workloads_name="name"),
        s.LeaseRecord: _table(
            s.LeaseRecord, "leases", "network", "address", "workload", "start", refer={"workload": _WORKLOAD}
        ),
        s.PairingProfile: _table(s.PairingProfile, "profiles", "name"),
        s.JoinTokenRecord: _table(
            s.JoinTokenRecord,
            "join_tokens",
            "id",
            refer={"profile": {"references": "profiles.name", "ondelete": "CASCADE"}},
        ),
        s.Certificate: _table(s.Certificate, "certificates", "serial"),
        s.ApiToken: _table(s.ApiToken, "api_tokens", "id"),
        s.Session: _table(
            s.Session, "sessions", "id", refer={"token": {"references": "api_tokens.id", "ondelete": "CASCADE"}}
        ),
        s.PolicyVersion: _table(s.PolicyVersion, "versions", "number", refer={"parent": _VERSION}),
        s.Proposal: _table(s.Proposal, "proposals", "id", refer={"version": _VERSION}),
        s.WorkloadChange: _table(s.WorkloadChange, "workload_changes", "revision"),
        s.QuarantineRecord: _table(s.QuarantineRecord, "quarantines", "id"),
        s.Rollout: _table(s.Rollout, "rollouts", "id", refer={"version": _VERSION}),
        s.AgentRecord: _table(s.AgentRecord, "agents", "uuid", refer={"uuid": _WORKLOAD}),
        s.Alert: _table(s.Alert, "alerts", "id"),
        s.AuditEntry: _table(s.AuditEntry, "audit", "seq", audit_previous="previous"),
        s.AuditHead: _table(s.AuditHead, "audit_heads", "seq"),
        s.GroupVersion: _table(s.GroupVersion, "group_versions", "networks", "key"),
        s.Counter: _table(s.Counter, "counters", "name"),
    }
)
GROWING: Mapping[type[s.Record], str] = MappingProxyType({s.GroupVersion: "version", s.Counter: "value"})
"""Kinds whose records only ever grow, and the field that does."""


def _index(kind: type[s.Record], *columns: str, only: str | None = None) -> None:
    table = TABLES[kind]
    name = f"{table.name}_{'_'.join(columns)}"
    condition = text(only) if only else None
    Index(
        name,
        *(table.c[column] for column in columns),
        unique=only is not None,
        sqlite_where=condition,
        postgresql_where=condition,
    )


_index(s.LeaseRecord, "workload")
_index(s.JoinTokenRecord, "profile")
_index(s.Certificate, "uuid")
_index(s.Certificate, "revoked_at")
_index(s.Certificate, "renewed_by")
_index(s.Session, "token")
_index(s.WorkloadChange, "uuid")
_index(s.QuarantineRecord, "workload")
_index(s.Alert, "last")
_index(s.Alert, "kind", "key", only="state <> 'closed'")
