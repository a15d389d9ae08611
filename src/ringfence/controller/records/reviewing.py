"""The audit log for people: read in pages, checked from the first entry to the last."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from ringfence.controller import audit
from ringfence.ports.state import AuditEntry, AuditHead, State, Where
from ringfence.wire.api import AuditChecked


async def audit_page(
    state: State, *, before: int, limit: int, actor: str = "", action: str = "", subject: str = ""
) -> list[AuditEntry]:
    """Entries, the latest first; those of one actor, action or subject, where one is named."""
    where = [Where("seq", before, "<")] if before else []
    said = {"actor": actor, "action": action, "subject": subject}
    where += [Where(field, value) for field, value in said.items() if value]
    return await state.read(lambda view: view.find(AuditEntry, *where, order="-seq", limit=limit))


async def check_audit(state: State, trusted: Iterable[bytes], head: Path) -> AuditChecked:
    """Whether the log is as it was written, and as the head says that is kept beside the database."""
    keys = tuple(trusted)
    witness = msgspec.json.decode(head.read_bytes(), type=AuditHead) if head.exists() else None
    checked = await state.read(lambda view: audit.verify(view, keys, witness=witness))
    last = checked.last.hash if checked.last is not None else ""
    return AuditChecked(checked.entries, checked.signed, checked.broken is None, last, checked.broken)
