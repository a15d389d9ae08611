"""The audit log for people: read in pages, as CSV, checked from the first entry to the last.

INVARIANT: an entry is shown as it is stored, so that whoever has it can compute its hash; what is added is beside it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

import msgspec

from ringfence.controller import audit
from ringfence.ports.state import AuditEntry, AuditHead, State, View, Where, WorkloadRecord
from ringfence.wire import api

COLUMNS = ("seq", "at", "actor", "action", "subject", "name", "details", "previous", "hash", "actor_name")
"""Of the CSV."""
_NAMING = ("agent.enrol", "workload.retire")
"""What tells the name of a workload that is gone."""
_PAGE = 1000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would compute (OWASP, CSV Injection)."""


class Asked(msgspec.Struct, frozen=True):
    """Which entries; of each kind, empty is all."""

    actor: str = ""
    action: str = ""
    subject: str = ""
    """As it stands in the entry; of a workload its name as well, the one it has or the one it had."""


class _Named(msgspec.Struct):
    """Of the details of an entry that names a workload."""

    name: str = ""


async def audit_page(state: State, asked: Asked, *, before: int, limit: int) -> list[api.AuditEntry]:
    """Entries, the latest first; `before`: only those with smaller numbers."""
    return await state.read(lambda view: _page(view, asked, before, limit))


def _page(view: View, asked: Asked, before: int, limit: int) -> list[api.AuditEntry]:
    where = [Where("seq", before, "<")] if before else []
    where += [Where(field, value) for field in ("actor", "action") if (value := getattr(asked, field))]
    if asked.subject:
        where.append(Where("subject", (asked.subject, *_uuids_of(view, asked.subject)), "in"))
    found = view.find(AuditEntry, *where, order="-seq", limit=limit)
    names = _names_of(view, {said for one in found for said in (one.actor, one.subject)})
    return [_shown(one, names) for one in found]


def _shown(entry: AuditEntry, names: Mapping[str, str]) -> api.AuditEntry:
    name, actor_name = (names.get(said) or msgspec.UNSET for said in (entry.subject, entry.actor))
    return api.AuditEntry(**msgspec.structs.asdict(entry), name=name, actor_name=actor_name)


def _uuids_of(view: View, name: str) -> set[str]:
    """Every workload that has or had a name."""
    found = {one.uuid for one in view.find(WorkloadRecord, Where("name", name))}
    return found | {one.subject for one in view.find(AuditEntry, Where("action", _NAMING, "in")) if _said(one) == name}


def _names_of(view: View, uuids: set[str]) -> dict[str, str]:
    """The name each has, else the one it had last; what is no workload is left out."""
    now = {one.uuid: one.name for one in view.find(WorkloadRecord, Where("uuid", uuids, "in"))}
    gone = (Where("subject", uuids - now.keys(), "in"), Where("action", _NAMING, "in"))
    return {one.subject: _said(one) for one in view.find(AuditEntry, *gone, order="seq")} | now


def _said(entry: AuditEntry) -> str:
    return msgspec.json.decode(entry.details, type=_Named).name


async def audit_csv(state: State, asked: Asked, *, before: int = 0, limit: int = 0) -> AsyncIterator[str]:
    """The same as lines of CSV (RFC 4180) under their names, page by page; `limit` 0: all there are."""
    yield _line(COLUMNS)
    left = limit
    while True:
        many = min(_PAGE, left) if limit else _PAGE
        found = await audit_page(state, asked, before=before, limit=many)
        yield "".join(_line(_cells(one)) for one in found)
        before, left = found[-1].seq if found else 0, left - len(found)
        if len(found) < many or (limit and not left) or before <= 1:
            return


def _cells(one: api.AuditEntry) -> Iterable[str]:
    said = msgspec.to_builtins(one)
    for name in COLUMNS:
        text = str(said.get(name, ""))
        yield f"'{text}" if text.startswith(_FORMULA) else text


def _line(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue()


async def check_audit(state: State, trusted: Iterable[bytes], head: Path) -> api.AuditChecked:
    """Whether the log is as it was written, and as the head says that is kept beside the database."""
    keys = tuple(trusted)
    witness = msgspec.json.decode(head.read_bytes(), type=AuditHead) if head.exists() else None
    checked = await state.read(lambda view: audit.verify(view, keys, witness=witness))
    last = checked.last.hash if checked.last is not None else ""
    return api.AuditChecked(checked.entries, checked.signed, checked.broken is None, last, checked.broken)
