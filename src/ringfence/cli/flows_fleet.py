"""Flow logs sent to a controller, several as one archive, and read there.

INVARIANT: what was imported is told, whatever becomes of the rest.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from ringfence.cli.flow_bar import flow_bar
from ringfence.cli.session import CLEAN, FINDINGS, Session
from ringfence.cli.tables import Rows, count
from ringfence.client.archive import Archive, Entry, batched, entries_of
from ringfence.client.client import Client
from ringfence.client.errors import Unreachable
from ringfence.core.errors import InputError, RingfenceError
from ringfence.flows.files import expand
from ringfence.wire.intake import MOST_ARCHIVED, MOST_UPLOAD_BYTES, Job

_ASK_EVERY_S = 0.3
_PATIENCE_S = 60.0
"""A controller that starts anew is back by then."""
_NOTHING_TWICE = "send them again when it is there: what it has imported is not counted twice"


def send(session: Session, client: Client, paths: Iterable[str]) -> int:
    """Files, folders, globs or `-`, imported together where one upload takes them all; how the command ends."""
    jobs: list[Job] = []
    with tempfile.TemporaryDirectory(prefix="ringfence-import-") as spool:
        entries = entries_of(expand(paths, Path(spool)))
        for entry in entries:
            _refuse_too_large(entry)
        batches = batched(entries, most_bytes=MOST_UPLOAD_BYTES, most_files=MOST_ARCHIVED)
        try:
            for batch in batches:
                jobs.append(_read_there(session, client, _sent(session, client, batch)))
        except RingfenceError:
            if jobs:
                session.err.print(*_render(jobs))
                session.show_findings([finding for job in jobs for finding in job.findings])
            raise
    findings = tuple(finding for job in jobs for finding in job.findings)
    session.emit({"jobs": jobs, "findings": findings}, *_render(jobs))
    session.show_findings(findings)
    return FINDINGS if any(finding.severity != "info" for finding in findings) else CLEAN


def _refuse_too_large(entry: Entry) -> None:
    if entry.room > MOST_UPLOAD_BYTES:
        message = f"`{entry.name}` is larger than what a controller takes at once, {MOST_UPLOAD_BYTES >> 30} GiB"
        raise InputError("upload-too-large", message, help="compress or split it; nothing was sent")


def _sent(session: Session, client: Client, batch: Sequence[Entry]) -> Job:
    """Waits while the controller reads others' uploads."""
    total, end = sum(entry.size for entry in batch), time.monotonic() + _PATIENCE_S
    with flow_bar(session, "sending") as moved:
        archive = Archive(batch, lambda done: moved(done, total, count(len(batch), "file")))
        while True:
            try:
                return client.explore.import_flows("flows.tar", archive)
            except InputError as error:
                if error.code != "too-many-jobs" or time.monotonic() > end:
                    raise
                time.sleep(1.0)


def _read_there(session: Session, client: Client, job: Job) -> Job:
    """Raises Unreachable: the controller is gone, or has forgotten what it was at."""
    end = time.monotonic() + _PATIENCE_S
    with flow_bar(session, "reading") as moved:
        while not job.is_done:
            time.sleep(_ASK_EVERY_S)
            try:
                job = client.explore.job(job.id)
                end = time.monotonic() + _PATIENCE_S
            except Unreachable as error:
                if time.monotonic() > end:
                    message = f"the controller went away while it read the logs: {error.message}"
                    raise Unreachable(error.code, message, help=_NOTHING_TWICE) from error
                continue
            except InputError as error:
                message = f"the controller stopped while it read the logs: {error.message}"
                raise Unreachable("controller-unreachable", message, help=_NOTHING_TWICE) from error
            moved(job.done_bytes, job.total_bytes, count(job.records, "record"))
    return job


def _render(jobs: Sequence[Job]) -> list[RenderableType]:
    table = Rows(("file", "state", "records>", "malformed>"))
    for job in jobs:
        for file in job.files:
            malformed = Text(f"{file.malformed:,}", "bold red" if file.malformed else "")
            table.add(file.name, file.state, f"{file.records:,}", malformed)
    connections, records = (sum(getattr(job, name) for job in jobs) for name in ("connections", "records"))
    return [table, f"{count(connections, 'connection')} from {count(records, 'record')}"]
