"""What is kept: the audit log, evidence, backups."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from litestar import Response, Router, get, post
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import File, Stream
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED

from ringfence.api.common import After, Before, Desk, Limit, Who, needs
from ringfence.api.paging import Asked, at, falling, listed
from ringfence.controller.records.backing_up import back_up
from ringfence.controller.records.reviewing import Asked as Wanted
from ringfence.controller.records.reviewing import audit_csv, audit_page, check_audit
from ringfence.wire.api import AskEvidence, AuditChecked, AuditEntry, BackUp, Done, EvidenceView, Reason

_PIECE_BYTES = 1 << 20
_Word = Annotated[str, QueryParameter(max_length=200)]
_Subject = Annotated[
    str,
    QueryParameter(max_length=200, description="As it stands there; a workload's name, too, the one it had as well."),
]
_Most = Annotated[int, QueryParameter(ge=0, le=2**31 - 1, description="At most so many; 0: all.")]


@get("/audit", opt=needs("audit"), summary="Who did what, the latest first.")
async def audit(
    desk: Desk,
    request: Asked,
    before: Before = 0,
    limit: Limit = 100,
    actor: _Word = "",
    action: _Word = "",
    subject: _Subject = "",
) -> Response[list[AuditEntry]]:
    found = await audit_page(desk.state, Wanted(actor, action, subject), before=before, limit=limit + 1)
    return falling(request, found, lambda one: one.seq, limit=limit)


@get("/audit/csv", opt=needs("audit"), summary="The same as CSV, the latest first.", media_type="text/csv")
async def as_csv(
    desk: Desk,
    before: Before = 0,
    limit: _Most = 0,
    actor: _Word = "",
    action: _Word = "",
    subject: _Subject = "",
) -> Stream:
    """A cell that a spreadsheet would compute begins with an apostrophe."""
    lines = audit_csv(desk.state, Wanted(actor, action, subject), before=before, limit=limit)
    headers = {"Content-Disposition": 'attachment; filename="audit.csv"'}
    return Stream(lines, media_type="text/csv; charset=utf-8", headers=headers)


@get("/audit/verify", opt=needs("audit"), summary="Whether the log is as it was written.")
async def verify(desk: Desk) -> AuditChecked:
    return await check_audit(desk.state, desk.signing.trusted, desk.settings.directory / "audit-head.json")


@get("/evidence", opt=needs("evidence"), summary="Bundles, the latest first.")
async def evidence(desk: Desk, request: Asked, after: After = "", limit: Limit = 1000) -> Response[list[EvidenceView]]:
    found = await asyncio.to_thread(desk.collecting.all)
    return listed(request, found, lambda one: at(one.at, one.id), after=after, limit=limit, is_down=True)


@post("/evidence", opt=needs("evidence"), status_code=HTTP_202_ACCEPTED, summary="Ask a host for a bundle.")
async def ask(desk: Desk, who: Who, data: JSONBody[AskEvidence]) -> EvidenceView:
    return await desk.collecting.ask(data, by=who)


@get("/evidence/{id:str}", opt=needs("evidence"), summary="One bundle (tar.gz).", media_type="application/gzip")
async def bundle(desk: Desk, who: Who, id: FromPath[str]) -> File:
    view, path = await asyncio.to_thread(desk.collecting.path, id)
    desk.collecting.demand(view, who)
    return File(path, filename=f"{view.name}-{view.id}.tar.gz", media_type="application/gzip")


@post("/evidence/{id:str}/delete", opt=needs("erase"), status_code=HTTP_200_OK, summary="Forget one bundle for good.")
async def erase(desk: Desk, who: Who, id: FromPath[str], data: JSONBody[Reason]) -> EvidenceView:
    """The audit log keeps its digest, and who deleted it."""
    return await desk.collecting.delete(id, why=data.why, by=who)


@post(
    "/backup",
    opt=needs("backup"),
    status_code=HTTP_200_OK,
    media_type="application/octet-stream",
    summary="The state, the CA and the keys as one file.",
)
async def backup(desk: Desk, who: Who, data: JSONBody[BackUp]) -> Stream:
    """Whoever has it unsealed has the estate."""
    path = desk.settings.directory / f".backup-{secrets.token_hex(8)}"
    await back_up(desk.state, desk.settings.directory, path, passphrase=data.passphrase, by=who, at=desk.clock())
    return Stream(_pieces(path), media_type="application/octet-stream")


@post(
    "/confirm-restore", opt=needs("backup"), status_code=HTTP_200_OK, summary="What was restored is in force from now."
)
async def confirm_restore(desk: Desk, who: Who) -> Done:
    """Quarantines and revocations made since the backup are not known here: make them again first."""
    await desk.resuming.confirm(by=who)
    return Done(1)


def _pieces(path: Path) -> Iterator[bytes]:
    """The content of a file that is gone already: nobody else ever reads it."""
    file = path.open("rb")
    path.unlink()
    with file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


ROUTES = Router(
    "/", route_handlers=[audit, as_csv, verify, evidence, ask, bundle, erase, backup, confirm_restore], tags=["records"]
)
