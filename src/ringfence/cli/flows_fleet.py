"""Flow logs sent to a controller: as one archive, read there, and counted here as if they had been read here."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from ringfence.cli.flow_bar import flow_bar
from ringfence.cli.session import CLEAN, FINDINGS, Session
from ringfence.cli.tables import Rows, count
from ringfence.client.archive import Archive, Entry, batched, entries_of
from ringfence.client.client import Client
from ringfence.flows.files import expand
from ringfence.wire.intake import MOST_ARCHIVED, MOST_UPLOAD_BYTES, Job

_ASK_EVERY_S = 0.3


def send(session: Session, client: Client, paths: Iterable[str]) -> int:
    """Files, folders, globs or `-`, imported together where one upload takes them all; how the command ends."""
    with tempfile.TemporaryDirectory(prefix="ringfence-import-") as spool:
        entries = entries_of(expand(paths, Path(spool)))
        batches = batched(entries, most_bytes=MOST_UPLOAD_BYTES, most_files=MOST_ARCHIVED)
        jobs = [_read_there(session, client, _sent(session, client, batch)) for batch in batches]
    findings = tuple(finding for job in jobs for finding in job.findings)
    session.emit({"jobs": jobs, "findings": findings}, *_render(jobs))
    session.show_findings(findings)
    return FINDINGS if any(finding.severity != "info" for finding in findings) else CLEAN


def _sent(session: Session, client: Client, batch: list[Entry]) -> Job:
    total = sum(entry.size for entry in batch)
    with flow_bar(session, "sending") as moved:
        archive = Archive(batch, lambda done: moved(done, total, count(len(batch), "file")))
        return client.explore.import_flows("flows.tar", archive)


def _read_there(session: Session, client: Client, job: Job) -> Job:
    with flow_bar(session, "reading") as moved:
        while not job.is_done:
            time.sleep(_ASK_EVERY_S)
            job = client.explore.job(job.id)
            moved(job.done_bytes, job.total_bytes, count(job.records, "record"))
    return job


def _render(jobs: list[Job]) -> list[RenderableType]:
    table = Rows(("file", "state", "records>", "malformed>"))
    for job in jobs:
        for file in job.files:
            malformed = Text(f"{file.malformed:,}", "bold red" if file.malformed else "")
            table.add(file.name, file.state, f"{file.records:,}", malformed)
    connections, records = (sum(getattr(job, name) for job in jobs) for name in ("connections", "records"))
    return [table, f"{count(connections, 'connection')} from {count(records, 'record')}"]
