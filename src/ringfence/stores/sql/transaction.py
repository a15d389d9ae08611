"""Records read and changed through one connection, for as long as one transaction lasts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, Insert, Select, Table, bindparam, false, func, insert, select
from sqlalchemy import delete as sql_delete
from sqlalchemy import update as sql_update
from sqlalchemy.dialects import postgresql, sqlite

from ringfence.ports import state as s
from ringfence.ports.state import R, StateError, Where
from ringfence.stores.sql.tables import GROWING, TABLES

_FAULT = "report it: this is a fault in Ringfence"


class SqlView:
    """`ports.state.View` over a connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def get(self, kind: type[R], *key: object) -> R | None:
        table = TABLES[kind]
        columns = list(table.primary_key.columns)
        if len(columns) != len(key):
            raise ValueError(f"the key of `{table.name}` is {', '.join(c.name for c in columns)}")
        values = {f"key_{column.name}": value for column, value in zip(columns, key, strict=True)}
        row = self.connection.execute(_by_key(table), values).first()
        return None if row is None else kind(*row)

    def find(self, kind: type[R], *where: Where, order: str = "", limit: int | None = None) -> list[R]:
        table = TABLES[kind]
        query: Select[Any] = select(table).where(*conditions(table, where)).order_by(*_ordering(table, order))
        if limit is not None:
            query = query.limit(limit)
        return [kind(*row) for row in self.connection.execute(query)]

    def count(self, kind: type[s.Record], *where: Where) -> int:
        table = TABLES[kind]
        query = select(func.count()).select_from(table).where(*conditions(table, where))
        return int(self.connection.execute(query).scalar_one())


class SqlChange(SqlView):
    """`ports.state.Change` over a connection: what one `write` does."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._unaudited: set[str] = set()
        """Tables of decided records that were changed."""
        self._is_audited = False

    def add(self, *records: s.Record) -> None:
        for kind, group in _by_kind(records):
            self._touch(kind)
            self._is_audited |= kind is s.AuditEntry
            self.connection.execute(insert(TABLES[kind]), [msgspec.structs.asdict(record) for record in group])

    def put(self, *records: s.Record) -> None:
        for kind, group in _by_kind(records):
            self._touch(kind)
            self._refuse_appended(kind)
            statement = _upsert(TABLES[kind], self.connection.dialect.name, GROWING.get(kind))
            self.connection.execute(statement, [msgspec.structs.asdict(record) for record in group])

    def update(self, kind: type[s.Record], *where: Where, **values: object) -> int:
        self._refuse_appended(kind)
        if not (kind is s.WorkloadRecord and values.keys() <= s.OBSERVED_FIELDS):
            self._touch(kind)
        table = TABLES[kind]
        statement = sql_update(table).where(*conditions(table, where)).values(_named(table, values))
        return self.connection.execute(statement).rowcount

    def remove(self, kind: type[s.Record], *where: Where) -> int:
        if not where:
            raise ValueError("which records to remove must be said")
        self._refuse_appended(kind)
        self._touch(kind)
        table = TABLES[kind]
        return self.connection.execute(sql_delete(table).where(*conditions(table, where))).rowcount

    def next(self, counter: str, by: int = 1) -> int:
        if by < 1:
            raise ValueError("a counter only grows")
        known = self.get(s.Counter, counter)
        value = (known.value if known else 0) + by
        self.put(s.Counter(counter, value))
        return value

    def finish(self) -> None:
        """Raises StateError `unaudited-change`: nobody may decide anything without leaving a trace."""
        if self._unaudited and not self._is_audited:
            tables = ", ".join(sorted(self._unaudited))
            raise StateError("unaudited-change", f"a change of `{tables}` has no audit entry", help=_FAULT)

    def _touch(self, kind: type[s.Record]) -> None:
        if kind in s.DECIDED:
            self._unaudited.add(TABLES[kind].name)

    def _refuse_appended(self, kind: type[s.Record]) -> None:
        if kind in s.APPENDED:
            raise StateError("append-only", "the audit log can only be added to", help=_FAULT)


def _by_kind(records: Iterable[s.Record]) -> Iterator[tuple[type[s.Record], list[s.Record]]]:
    """Runs of one kind, in order: what refers to another comes after it, as the caller said."""
    for kind, group in groupby(records, type):
        yield kind, list(group)


def conditions(table: Table, where: Iterable[Where]) -> list[ColumnElement[bool]]:
    return [_condition(_column(table, one.field), one) for one in where]


def _condition(column: Column[Any], where: Where) -> ColumnElement[bool]:
    value = where.value
    if where.op == "in":
        values = list(value)
        return column.in_(values) if values else false()
    if where.op == "!=":  # IS NOT NULL, unlike IS DISTINCT FROM NULL, is found by an index
        return column.is_not(None) if value is None else column.is_distinct_from(value)
    if where.op == "=":
        return column.is_(None) if value is None and column.nullable else column == value
    if value is None:
        raise ValueError(f"`{where.field}` is compared with nothing")
    return column.op(where.op, is_comparison=True)(value)


def _column(table: Table, name: str) -> Column[Any]:
    if name not in table.c:
        raise ValueError(f"`{table.name}` has no field `{name}`")
    return table.c[name]


def _named(table: Table, values: Mapping[str, object]) -> dict[str, object]:
    return {_column(table, name).name: value for name, value in values.items()}


def _ordering(table: Table, order: str) -> list[ColumnElement[Any]]:
    """The field asked for, then the key, so that equal ones have one order."""
    keys: list[ColumnElement[Any]] = list(table.primary_key.columns)
    if not order:
        return keys
    column = _column(table, order.removeprefix("-"))
    return [column.desc() if order.startswith("-") else column.asc(), *keys]


@cache
def _by_key(table: Table) -> Select[Any]:
    return select(table).where(*(c == bindparam(f"key_{c.name}", type_=c.type) for c in table.primary_key.columns))


@cache
def _upsert(table: Table, dialect: str, growing: str | None) -> Insert:
    """Insert, or replace what has the key; for what only grows, if it is greater."""
    statement = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(table)
    keys = [column.name for column in table.primary_key.columns]
    others = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in keys}
    only = statement.excluded[growing] > table.c[growing] if growing else None
    if not others:
        return statement.on_conflict_do_nothing(index_elements=keys)
    return statement.on_conflict_do_update(index_elements=keys, set_=others, where=only)
