"""Flow logs that somebody uploads, read beside everything else; how far each is can be asked.

An upload is one file, or several in one tar archive (`name.tar`): those are one import, in which two reports of one
connection count once.

INVARIANT: one upload is read at a time, and a few are on the disk, those included that are still on their way; what a
crash left there goes with the next start. What is known of jobs is kept in memory: a restart ends them, and the file
can be sent again, because one that was imported is not imported twice.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tarfile
import tempfile
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath

import msgspec

from ringfence.catalog import flow_sources
from ringfence.controller import audit
from ringfence.controller.access.access import Principal
from ringfence.core.errors import Finding, InputError, RingfenceError
from ringfence.core.flow.tally import FileReport, ImportReport
from ringfence.core.identity.inventory import Inventory
from ringfence.flows.ingest import Progress, ingest
from ringfence.ports.flow_store import FlowStore
from ringfence.ports.state import State
from ringfence.wire.intake import MOST_ARCHIVED, MOST_UPLOAD_BYTES, Job, JobFile

ARCHIVE = ".tar"
MOST_JOBS = 100
MOST_WAITING = 4


class Jobs:
    """Uploads and what became of them."""

    def __init__(
        self,
        folder: Path,
        state: State,
        flows: FlowStore,
        inventory: Callable[[], Inventory],
        clock: Callable[[], datetime],
    ) -> None:
        """`folder`: where uploads are kept until they are read."""
        self._folder, self._state, self._flows = folder, state, flows
        self._inventory, self._clock = inventory, clock
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._arriving = 0

    async def start(self) -> None:
        """Before the first upload."""
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def get(self, id_: str) -> Job:
        """Raises InputError `unknown-job`."""
        found = self._jobs.get(id_)
        if found is None:
            raise InputError("unknown-job", f"there is no job `{id_}`", help="a restart forgets jobs; send it again")
        return found

    def all(self) -> list[Job]:
        """The latest first."""
        return list(reversed(self._jobs.values()))

    async def import_flows(self, name: str, content: AsyncIterator[bytes], *, by: Principal) -> Job:
        """Take an upload, and begin to read it. Raises AccessError, InputError `upload-too-large`, `too-many-jobs`,
        `bad-file-name`, `bad-archive`."""
        by.demand("enrol")
        if self._arriving + sum(not job.is_done for job in self._jobs.values()) >= MOST_WAITING:
            raise InputError("too-many-jobs", "uploads are still being read", help="wait until one is done")
        if len(_parts(name)) != 1:
            raise _no_name(name)
        self._arriving += 1
        try:
            return await self._take(name, content, by)
        finally:
            self._arriving -= 1

    async def _take(self, name: str, content: AsyncIterator[bytes], by: Principal) -> Job:
        scratch = await asyncio.to_thread(self._scratch)
        try:
            size = await _receive(scratch / name, content)
            names = await asyncio.to_thread(_unpacked, scratch, name) if name.endswith(ARCHIVE) else (name,)
            now, details = self._clock(), {"bytes": size, **({"files": names} if name.endswith(ARCHIVE) else {})}
            await self._state.write(
                lambda tx: audit.record(tx, at=now, actor=by.name, action="flows.import", subject=name, details=details)
            )
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
            raise
        files = tuple(JobFile(one, "running") for one in names)
        job = Job(secrets.token_hex(8), "flows-import", "running", by.name, now, total_bytes=size, files=files)
        self._put(job)
        task = asyncio.create_task(self._read(job.id, scratch, names))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    def _scratch(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Path(tempfile.mkdtemp(dir=self._folder))

    def _put(self, job: Job) -> None:
        self._jobs[job.id] = job
        finished = (one.id for one in self._jobs.values() if one.is_done)
        while len(self._jobs) > MOST_JOBS and (oldest := next(finished, None)) is not None:
            del self._jobs[oldest]

    def _note(self, id_: str, **values: object) -> None:
        self._jobs[id_] = msgspec.structs.replace(self._jobs[id_], **values)

    async def _read(self, id_: str, scratch: Path, names: Sequence[str]) -> None:
        try:
            async with self._turn:
                report = await asyncio.to_thread(self._ingest, id_, [str(scratch / name) for name in names])
            findings = (_plain(finding, scratch) for finding in report.all_findings)
            is_done = any(file.state != "refused" for file in report.files)
            self._note(
                id_, state="done" if is_done else "failed", finished=self._clock(), findings=tuple(findings),
                records=report.total("records"), malformed=report.total("malformed"), connections=report.connections,
                done_bytes=self._jobs[id_].total_bytes, files=tuple(_file(one, scratch) for one in report.files),
            )  # fmt: skip
        except RingfenceError as error:
            self._failed(id_, _plain(error.as_finding(), scratch))
        except Exception:
            self._failed(id_, Finding("internal-error", "this is a fault in Ringfence", help="report it with the log"))
            raise
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    def _failed(self, id_: str, why: Finding) -> None:
        """One import is one transaction: nothing of any file is kept."""
        files = tuple(JobFile(file.name, "refused") for file in self._jobs[id_].files)
        self._note(id_, state="failed", finished=self._clock(), findings=(why,), files=files)

    def _ingest(self, id_: str, paths: list[str]) -> ImportReport:
        def progress(now: Progress) -> None:
            self._note(id_, done_bytes=now.bytes_done, records=now.records)

        return ingest(paths, self._inventory(), self._flows, progress, among=flow_sources(), workers=1)

    async def close(self) -> None:
        """Wait for what is being read."""
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _plain(found: Finding, scratch: Path) -> Finding:
    """The finding without where the upload was kept."""
    where = msgspec.structs.replace(found.where, file=found.where.file.replace(f"{scratch}/", ""))
    message, subject = (text.replace(f"{scratch}/", "") for text in (found.message, found.subject))
    return msgspec.structs.replace(found, where=where, message=message, subject=subject)


def _file(report: FileReport, scratch: Path) -> JobFile:
    return JobFile(report.file.removeprefix(f"{scratch}/"), report.state, report.records, report.malformed)


def _parts(name: str) -> tuple[str, ...]:
    """Of a name that stays below a folder. Raises InputError `bad-file-name`."""
    parts = PurePosixPath(name).parts
    is_whole = bool(parts) and "/".join(parts) == name and name.isprintable()
    if not is_whole or any(part.startswith((".", "/")) for part in parts):
        raise _no_name(name)
    return parts


def _no_name(name: str) -> InputError:
    return InputError("bad-file-name", f"`{name}` is no name of a file", help="name it like `flows.log.gz`")


def _unpacked(scratch: Path, archive: str) -> tuple[str, ...]:
    """The files of an archive beside it, by name; the archive is gone then. They take no more room than it took.

    Raises InputError `bad-archive`, `bad-file-name`.
    """
    names: list[str] = []
    path = scratch / archive
    packed = path.rename(scratch / ".packed")
    try:
        with tarfile.open(packed, "r:", encoding="utf-8") as tar:
            for member in tar:
                if member.isdir():
                    continue
                names.append(_unpack(tar, member, scratch, len(names)))
    except OSError as error:
        raise _bad_archive(f"cannot be unpacked: {error.strerror}") from error
    except (tarfile.TarError, EOFError) as error:
        raise _bad_archive(f"cannot be read: {error}") from error
    packed.unlink()
    if not names:
        raise _bad_archive("holds no file")
    return tuple(names)


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, scratch: Path, count: int) -> str:
    parts = _parts(member.name.removeprefix("./"))
    if not member.isreg() or member.issparse():
        raise _bad_archive(f"holds `{member.name}`, which is no plain file")
    if count >= MOST_ARCHIVED:
        raise _bad_archive(f"holds more than {MOST_ARCHIVED:,} files")
    target = scratch.joinpath(*parts)
    if target.exists():
        raise _bad_archive(f"holds `{member.name}` twice")
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    content = tar.extractfile(member)
    assert content is not None  # a plain file has a content
    with content, target.open("xb") as file:
        shutil.copyfileobj(content, file)
    return "/".join(parts)


def _bad_archive(what: str) -> InputError:
    help_ = "send flow logs as a plain tar archive: `tar -cf flows.tar LOGS`; the files in it may be compressed"
    return InputError("bad-archive", f"the archive {what}", help=help_)


async def _receive(path: Path, content: AsyncIterator[bytes]) -> int:
    """Raises InputError `upload-too-large`, `empty-upload`."""
    size = 0
    with path.open("wb") as file:
        async for piece in content:
            size += len(piece)
            if size > MOST_UPLOAD_BYTES:
                help_ = f"send it in parts of {MOST_UPLOAD_BYTES >> 30} GiB"
                raise InputError("upload-too-large", "the upload is too large", help=help_)
            await asyncio.to_thread(file.write, piece)
    if not size:
        raise InputError("empty-upload", "the upload is empty", help="send a flow log as the body")
    return size
