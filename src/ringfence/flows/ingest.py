"""Import flow logs: detect, read, label, merge, store; every line accounted for.

Files are read by several threads (the C reader runs without the GIL); one merger takes their batches in whatever order
they come. One import is one transaction: all of its files are kept, or none. Reports of one connection are merged
within an import; it keeps no connections for the next one, where the other end's report counts again, and is told.

INVARIANT: lines read = records + malformed + nodata + skipdata + skipped, of every file, or the import fails.
INVARIANT: every file is read to its end, refused with a finding, or the import fails.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from ringfence.core.errors import Finding, InputError, Location, RingfenceError
from ringfence.core.flow.conversations import Conversations
from ringfence.core.flow.leases import LeaseTable
from ringfence.core.flow.record import FlowBatch
from ringfence.core.flow.tally import FileReport, ImportReport, State, Tally
from ringfence.core.identity.inventory import Inventory
from ringfence.flows.detect import detect
from ringfence.flows.files import NOTHING, FlowFile, digest_of, expand
from ringfence.flows.merge import Merger, merger
from ringfence.ports.flow_source import DamagedInput, FlowSource
from ringfence.ports.flow_store import FlowStore

_BATCHES_AHEAD = 4
_TICK_S = 0.1


class Progress(NamedTuple):
    """How far an import is."""

    bytes_done: int
    bytes_total: int
    records: int
    seconds: float

    @property
    def records_per_second(self) -> float:
        return self.records / self.seconds if self.seconds > 0 else 0.0


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Read:
    """What reading gave: conversations, and the account of every file."""

    conversations: Conversations
    report: ImportReport


def ingest(
    paths: Iterable[str],
    inventory: Inventory,
    store: FlowStore,
    progress: OnProgress | None = None,
    *,
    among: Sequence[FlowSource],
    workers: int | None = None,
    decide: Callable[[Conversations], object] | None = None,
) -> ImportReport:
    """Read `paths` (files, folders, globs, `-`) in the formats `among`, label by `inventory`, keep in `store`.

    A file whose content was imported before is reported and left out; one that cannot be read is refused with a finding
    and the others go on. `decide` is handed the conversations before they are kept; what it raises stops the import.
    Raises InputError for a path that is not there, or that fails while it is read.
    """
    with _inputs(paths) as files:
        known = store.known_files([file.digest for file in files])
        read = _read(files, inventory, progress, among, workers, known=known)
    if decide is not None:
        decide(read.conversations)
    report = _warned_of_changes(read.report, store)
    again = store.append(read.conversations, [file for file in report.files if file.state == "imported" and file.lines])
    return _warned_of_overlap(report, again)


def read_flows(
    paths: Iterable[str],
    inventory: Inventory,
    progress: OnProgress | None = None,
    *,
    among: Sequence[FlowSource],
    workers: int | None = None,
) -> Read:
    """As `ingest`, without a store."""
    with _inputs(paths) as files:
        return _read(files, inventory, progress, among, workers)


class _Input:
    """One file to read: its account, and how much of it is read."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path, self.tally = name, path, Tally(name)
        self.size = self.done = 0
        self.digest = ""
        self.state: State = "imported"
        self.is_read = False
        """To its end, or refused."""

    def identify(self) -> None:
        """Its size and digest, or its refusal."""
        try:
            self.size, self.digest = self.path.stat().st_size, digest_of(self.path)
        except OSError as error:
            self.refuse(InputError("flow-unreadable", f"`{self.name}` cannot be read: {error.strerror}"))

    def refuse(self, error: InputError) -> None:
        """Nothing of it counts; unless some was read already, then that is kept and the rest is missing."""
        self.tally.note(error.code, error.message, help=error.help, severity="error")
        self.state = "imported" if self.tally.records else "refused"
        self.is_read = True

    def report(self) -> FileReport:
        return self.tally.report(state=self.state, digest=self.digest, size_bytes=self.size)


@contextmanager
def _inputs(paths: Iterable[str]) -> Iterator[list[_Input]]:
    with tempfile.TemporaryDirectory(prefix="ringfence-import-") as spool:
        files = [_Input(name, path) for name, path in expand(paths, Path(spool))]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(_Input.identify, files):
                pass
        yield files


def _read(
    files: list[_Input],
    inventory: Inventory,
    progress: OnProgress | None,
    among: Sequence[FlowSource],
    workers: int | None,
    *,
    known: frozenset[str] = frozenset(),
) -> Read:
    started = time.perf_counter()
    todo = _left_to_read(files, known)
    with _Reading(todo, among, workers or os.cpu_count() or 1) as reading, merger(LeaseTable.of(inventory)) as merging:
        reading.merge(merging, _Meter(progress, todo, started))
        _check_read(todo)
        merged = merging.finish()
    reports = tuple(file.report() for file in files)
    _check_balanced(reports)
    found = merged.conversations
    report = ImportReport(
        files=reports,
        conversations=len(found),
        connections=int(found.connections.sum()),
        endpoints=len(found.endpoints),
        early_ends=merged.early_ends,
        late_ends=merged.late_ends,
        folded_rows=merged.folded_rows,
        seconds=time.perf_counter() - started,
    )
    return Read(found, report)


def _left_to_read(files: list[_Input], known: frozenset[str]) -> list[_Input]:
    """Files that can be read and whose content is new, here and in the store."""
    seen: dict[str, str] = {}
    for file in files:
        if file.state == "imported" and (file.digest in known or file.digest in seen):
            file.state = "already-imported"
            where = f" as `{seen[file.digest]}`" if file.digest in seen else ""
            message = f"`{file.name}` was imported before{where}; it is not counted again"
            file.tally.note("flow-file-known", message, severity="info")
        if file.digest != NOTHING:
            seen.setdefault(file.digest, file.name)
    return [file for file in files if file.state == "imported"]


def _check_read(files: Iterable[_Input]) -> None:
    unread = [f"`{file.name}`" for file in files if not file.is_read]
    if unread:
        message = f"{', '.join(unread)}: not read to the end"
        raise RingfenceError("import-unfinished", message, help="nothing was stored; report this with the file")


def _check_balanced(reports: Iterable[FileReport]) -> None:
    for report in reports:
        if not report.is_balanced:
            message = f"`{report.file}`: {report.lines} lines were read, but not all of them are accounted for"
            raise RingfenceError("import-unbalanced", message, help="nothing was stored; report this with the file")


def _warned_of_overlap(report: ImportReport, again: int) -> ImportReport:
    """A finding on connections that an earlier import seems to have counted already."""
    if not again:
        return report
    message = (
        f"up to {again:,} of these connections were counted by an earlier import too: it saw the same ends on the same"
        " service at the same time"
    )
    help_ = "import the logs of all reporters of one time together: then both ends' reports count once"
    finding = Finding("flows-counted-again", message, "warning", help=help_)
    return msgspec.structs.replace(report, findings=(*report.findings, finding))


def _warned_of_changes(report: ImportReport, store: FlowStore) -> ImportReport:
    """A finding on files whose name was imported with other content: the lines both have count twice."""
    earlier = store.earlier_imports([file.file for file in report.files])
    files = tuple(_changed(file) if file.file in earlier else file for file in report.files)
    return msgspec.structs.replace(report, files=files)


def _changed(file: FileReport) -> FileReport:
    if file.state != "imported":
        return file
    message = f"`{file.file}` was imported before with other content; lines in both count twice"
    finding = Finding("flow-file-changed", message, "warning", Location(file.file))
    return msgspec.structs.replace(file, findings=(*file.findings, finding))


class _Meter:
    """Tells the caller how far it is, at most every tenth of a second and at the end."""

    def __init__(self, on_progress: OnProgress | None, files: list[_Input], started: float) -> None:
        self._on_progress, self._files, self._started = on_progress, files, started
        self._total = sum(file.size for file in files)
        self._next = 0.0

    def tick(self, *, is_last: bool = False) -> None:
        elapsed = time.perf_counter() - self._started
        if self._on_progress is None or (elapsed < self._next and not is_last):
            return
        self._next = elapsed + _TICK_S
        done, records = sum(f.done for f in self._files), sum(f.tally.records for f in self._files)
        self._on_progress(Progress(done, self._total, records, elapsed))


class _Reading:
    """Threads that read files, from entering to leaving; whoever entered merges what they read."""

    def __init__(self, files: list[_Input], among: Sequence[FlowSource], workers: int) -> None:
        self._among = among
        self._files = deque(sorted(files, key=lambda file: -file.size))
        self._batches: queue.Queue[FlowBatch | BaseException | None] = queue.Queue(_BATCHES_AHEAD)
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(workers, len(files)))]

    def __enter__(self) -> _Reading:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def merge(self, merging: Merger, meter: _Meter) -> None:
        """Returns when every file is read and merged. Raises what a reader raised."""
        running = len(self._threads)
        while running:
            got = self._batches.get()
            if got is None:
                running -= 1
            elif isinstance(got, BaseException):
                raise got
            else:
                merging.add(got)
                meter.tick()
        meter.tick(is_last=True)

    def _work(self) -> None:
        try:
            while not self._is_over.is_set() and (file := self._next()) is not None:
                self._read_file(file)
        except BaseException as error:
            self._put(error)
        self._put(None)

    def _next(self) -> _Input | None:
        try:
            return self._files.popleft()
        except IndexError:
            return None

    def _read_file(self, file: _Input) -> None:
        def advanced(size_bytes: int) -> None:
            file.done += size_bytes

        content = FlowFile(file.path, advanced)
        try:
            head = content.head()
            if not head:
                _note_empty(content, file.tally)
                file.is_read = True
                return
            source = detect(head, file.name, self._among)
            for batch in source.batches(content, file.tally):
                if not self._put(batch):
                    return
            file.is_read = True
        except InputError as error:
            file.refuse(error)
        except OSError as error:
            raise InputError("flow-unreadable", f"`{file.name}` cannot be read: {error.strerror}") from error
        finally:
            file.done = file.size

    def _put(self, item: FlowBatch | BaseException | None) -> bool:
        """Wait for room; False when the import is over."""
        while not self._is_over.is_set():
            try:
                self._batches.put(item, timeout=_TICK_S)
                return True
            except queue.Full:
                continue
        return False


def _note_empty(content: FlowFile, tally: Tally) -> None:
    try:
        for _ in content.blocks():
            pass
    except DamagedInput as damage:
        tally.note(damage.code, damage.message, help="fetch the file again")
        return
    tally.note("flow-file-empty", "the file is empty")
