"""From files to stored conversations: every line accounted for, every file once, nothing half done."""

from __future__ import annotations

import functools
import gzip
import io
import itertools
import os
import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_samples import T0_S, rows_of, workload

from ringfence.catalog import flow_sources
from ringfence.core.errors import InputError, RingfenceError
from ringfence.core.flow.record import FlowBatch
from ringfence.core.flow.tally import FileReport, Tally
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease
from ringfence.core.net.address import parse_address
from ringfence.flows import ingest as ingest_
from ringfence.flows.files import digest_of
from ringfence.flows.ingest import Progress
from ringfence.flows.parse import flowcore
from ringfence.flows.vpc_flow_logs import VpcFlowLogs
from ringfence.flows.vpc_flow_logs.fields import DEFAULT
from ringfence.ports.flow_source import FlowInput
from ringfence.stores.duckdb import DuckFlowStore

ingest = functools.partial(ingest_.ingest, among=flow_sources())
read_flows = functools.partial(ingest_.read_flows, among=flow_sources())
HEADER = " ".join(DEFAULT) + "\n"
WORKLOADS = Inventory([workload(f"w{n}", Lease(parse_address(f"10.0.0.{n}"))) for n in range(1, 5)])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckFlowStore]:
    with DuckFlowStore(tmp_path / "store" / "flows.duckdb") as opened:
        yield opened


def log(rng: random.Random, lines: int, *, header: bool = True) -> str:
    """A log of a few workloads and strangers."""
    hosts = [f"10.0.0.{n}" for n in range(1, 6)] + ["203.0.113.7"]
    out = []
    for _ in range(lines):
        src, dst = rng.sample(hosts, 2)
        start = T0_S + rng.randrange(7200)
        ports = rng.choice([(50000 + rng.randrange(9), 443), (443, 50000 + rng.randrange(9)), (123, 123)])
        size = rng.randrange(1, 5000)
        action = rng.choice(["ACCEPT", "ACCEPT", "REJECT"])
        out.append(
            f"2 1 eni-{rng.randrange(3)} {src} {dst} {ports[0]} {ports[1]} {rng.choice([6, 17])} {size % 9 + 1} {size}"
            f" {start} {start + 9} {action} OK\n"
        )
    return HEADER * header + "".join(out)


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def states(files: tuple[FileReport, ...]) -> dict[str, str]:
    return {Path(file.file).name: file.state for file in files}


def codes(files: tuple[FileReport, ...]) -> dict[str, list[str]]:
    return {Path(file.file).name: [finding.code for finding in file.findings] for file in files}


def test_a_folder_of_everything(tmp_path: Path, store: DuckFlowStore) -> None:
    """Good, compressed, empty, foreign, damaged and repeated files in one folder: each says what became of it."""
    rng = random.Random(1)
    logs = tmp_path / "logs"
    first = put(logs, "a.log", log(rng, 50))
    put(logs, "deep/b.log.gz", gzip.compress(log(rng, 50).encode()))
    put(logs, "copy.log", first.read_bytes())
    put(logs, "empty.log", b"")
    put(logs, "empty.gz", gzip.compress(b""))
    put(logs, "notes.txt", "not a flow log\n")
    put(logs, "picture.zst", b"\x28\xb5\x2f\xfd....")
    put(logs, ".hidden", log(rng, 5))
    put(logs, "cut.gz", gzip.compress(b"")[:4])
    report = ingest([str(logs)], WORKLOADS, store)
    assert states(report.files) == {
        "a.log": "imported", "b.log.gz": "imported", "copy.log": "already-imported", "empty.log": "imported",
        "empty.gz": "imported", "notes.txt": "refused", "picture.zst": "refused", "cut.gz": "imported",
    }  # fmt: skip
    assert codes(report.files) == {
        "a.log": [], "b.log.gz": [], "copy.log": ["flow-file-known"], "empty.log": ["flow-file-empty"],
        "empty.gz": ["flow-file-empty"], "notes.txt": ["flow-format-unknown"], "picture.zst": ["flow-compression"],
        "cut.gz": ["gzip-truncated"],
    }  # fmt: skip
    assert (report.total("records"), report.total("lines")) == (100, 102)
    assert report.connections == store.totals().connections


def test_what_is_stored_is_what_was_read(tmp_path: Path, store: DuckFlowStore) -> None:
    """The store gives back the very conversations, labels of the time included."""
    path = put(tmp_path, "a.log", log(random.Random(2), 300))
    read = read_flows([str(path)], WORKLOADS)
    report = ingest([str(path)], WORKLOADS, store)
    assert rows_of(store.read()) == rows_of(read.conversations)
    assert report.conversations == len(read.conversations)
    assert {e.workload.name for e in store.read().endpoints if e.workload} == {"w1", "w2", "w3", "w4"}


def test_a_file_counts_once(tmp_path: Path, store: DuckFlowStore) -> None:
    """The same content again, under whatever name, changes nothing and is reported."""
    path = put(tmp_path, "a.log", log(random.Random(3), 100))
    ingest([str(path)], WORKLOADS, store)
    before = rows_of(store.read())
    again = put(tmp_path, "again.log", path.read_bytes())
    report = ingest([str(path), str(again)], WORKLOADS, store)
    assert set(states(report.files).values()) == {"already-imported"}
    assert (report.conversations, rows_of(store.read())) == (0, before)


def test_a_log_and_its_gzip_are_one(tmp_path: Path, store: DuckFlowStore) -> None:
    """Compressed or not, in one import or a later one, the same lines count once; empty files are no copies."""
    text = log(random.Random(3), 100).encode()
    plain = put(tmp_path, "a.log", text)
    once = rows_of(read_flows([str(plain)], WORKLOADS).conversations)
    packed = put(tmp_path, "a.log.gz", gzip.compress(text))
    halves = put(tmp_path, "b.gz", gzip.compress(text[:999], 1) + gzip.compress(text[999:]))
    ingest([str(plain), str(packed)], WORKLOADS, store)
    report = ingest([str(halves)], WORKLOADS, store)
    assert (states(report.files), rows_of(store.read())) == ({"b.gz": "already-imported"}, once)


def test_a_connection_that_two_imports_report_is_told(tmp_path: Path, store: DuckFlowStore) -> None:
    """Both ends' reports count once together; apart they count twice, and the second import says so."""

    def reported_by(interface: int, start: int = T0_S) -> str:
        return f"{HEADER}2 1 eni-{interface} 10.0.0.1 10.0.0.2 50000 443 6 9 900 {start} {start + 9} ACCEPT OK\n"

    paths = [str(put(tmp_path, f"{n}.log", reported_by(n))) for n in (1, 2)]
    assert read_flows(paths, WORKLOADS).report.connections == 1
    first, second = (ingest([path], WORKLOADS, store) for path in paths)
    later = ingest([str(put(tmp_path, "3.log", reported_by(1, T0_S + 60)))], WORKLOADS, store)
    told = [[f.code for f in report.findings] for report in (first, second, later)]
    assert told == [[], ["flows-counted-again"], []]
    assert second.findings[0].message.startswith("up to 1 of these connections")


def test_a_file_that_grew_is_warned_of(tmp_path: Path, store: DuckFlowStore) -> None:
    """The same name with other content is imported, with a warning that common lines count twice."""
    text = log(random.Random(4), 100)
    path = put(tmp_path, "a.log", text)
    ingest([str(path)], WORKLOADS, store)
    path.write_text(text + log(random.Random(5), 1, header=False))
    report = ingest([str(path)], WORKLOADS, store)
    assert codes(report.files) == {"a.log": ["flow-file-changed"]}


def test_how_files_are_cut_does_not_matter(tmp_path: Path) -> None:
    """One file, the same lines in five, read by one thread or four, in C or without: the same conversations."""
    lines = log(random.Random(6), 500, header=False).splitlines(keepends=True)
    put(tmp_path, "one/a.log", HEADER + "".join(lines))
    for n in range(5):
        put(tmp_path, f"five/{n}.log", HEADER + "".join(lines[n::5]))
    expected = rows_of(read_flows([str(tmp_path / "one")], WORKLOADS, workers=1).conversations)
    assert expected
    for workers in (1, 4):
        found = read_flows([str(tmp_path / "five")], WORKLOADS, workers=workers)
        assert rows_of(found.conversations) == expected


@pytest.mark.skipif(flowcore() is None, reason="not built")
def test_without_c_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With RINGFENCE_PURE=1 the whole import gives the same conversations and the same account."""
    content = log(random.Random(7), 400) + "junk\n" + HEADER + "2 1 eni-1 - - - - - - - 1 2 - NODATA\n"
    path = put(tmp_path, "a.log", content)
    in_c = read_flows([str(path)], WORKLOADS)
    monkeypatch.setenv("RINGFENCE_PURE", "1")
    pure = read_flows([str(path)], WORKLOADS)
    assert rows_of(pure.conversations) == rows_of(in_c.conversations)
    assert pure.report.files == in_c.report.files
    assert (in_c.report.files[0].malformed, in_c.report.files[0].nodata) == (1, 1)


def test_globs_and_standard_input(tmp_path: Path, store: DuckFlowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A glob picks files; `-` is standard input, compressed or not."""
    rng = random.Random(8)
    put(tmp_path, "x1.log", log(rng, 10))
    put(tmp_path, "x2.log", log(rng, 10))
    put(tmp_path, "y.log", log(rng, 10))
    report = ingest([str(tmp_path / "x*.log")], WORKLOADS, store)
    assert sorted(states(report.files)) == ["x1.log", "x2.log"]
    data = gzip.compress(log(rng, 10).encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    report = ingest(["-"], WORKLOADS, store)
    assert (report.files[0].file, report.files[0].records) == ("-", 10)


def test_a_pipe_is_read_once(tmp_path: Path, store: DuckFlowStore) -> None:
    """A named pipe, as shells make them for `<(...)`, is a file like any other."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = log(random.Random(13), 10).encode()
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    report = ingest([str(pipe)], WORKLOADS, store)
    writer.join()
    assert (report.files[0].file, report.files[0].records) == (str(pipe), 10)


@pytest.mark.parametrize(
    ("path", "code"), [("nowhere", "flow-path-missing"), ("no*", "flow-path-missing"), ("", "flow-path-empty")]
)
def test_paths_that_are_not_there(tmp_path: Path, store: DuckFlowStore, path: str, code: str) -> None:
    """A path that is not there, or holds nothing, is an error and not an empty import."""
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(InputError) as refused:
        ingest([str(folder / path)], WORKLOADS, store)
    assert refused.value.code == code


def test_progress_ends_at_the_end(tmp_path: Path, store: DuckFlowStore) -> None:
    """The last progress says all bytes are done, whatever became of the files, and how many records there were."""
    rng = random.Random(9)
    put(tmp_path, "in/a.log", log(rng, 100))
    put(tmp_path, "in/b.log.gz", gzip.compress(log(rng, 100).encode()))
    put(tmp_path, "in/c.txt", "no flow log")
    seen: list[Progress] = []
    ingest([str(tmp_path / "in")], WORKLOADS, store, seen.append)
    assert seen[-1].bytes_done == seen[-1].bytes_total == sum(p.stat().st_size for p in (tmp_path / "in").iterdir())
    assert seen[-1].records == 200
    assert all(a.bytes_done <= b.bytes_done for a, b in itertools.pairwise(seen))


class Failing:
    """A source that gives one batch and then fails in a way nobody foresaw."""

    name = "failing"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def sniff(self, head: bytes, name: str) -> bool:
        return True

    def batches(self, content: FlowInput, tally: Tally) -> Iterator[FlowBatch]:
        raise self.error
        yield


class Unfinished(Failing):
    """A source that fails on its second record in a way that once meant there are no more files."""

    def batches(self, content: FlowInput, tally: Tally) -> Iterator[FlowBatch]:
        for batch in VpcFlowLogs({}).batches(content, tally):
            yield batch
            raise IndexError("list index out of range")


def test_a_file_not_read_to_its_end_fails_the_import(tmp_path: Path, store: DuckFlowStore) -> None:
    """Whatever a reader raises, the file never counts as imported."""
    path = put(tmp_path, "a.log", log(random.Random(10), 10))
    with pytest.raises(IndexError):
        ingest([str(path)], WORKLOADS, store, among=[Unfinished(IndexError())])
    assert (store.totals().rows, store.known_files([digest_of(path)])) == (0, frozenset())


@pytest.mark.parametrize(
    "error", [ValueError("bug"), IndexError("bug"), OSError(5, "Input/output error"), MemoryError()]
)
def test_a_failure_keeps_nothing(tmp_path: Path, store: DuckFlowStore, error: BaseException) -> None:
    """A failure nobody foresaw stops the import, keeps nothing, remembers no file, and leaves no thread."""
    path = put(tmp_path, "a.log", log(random.Random(10), 10))
    threads = threading.active_count()
    with pytest.raises((type(error), InputError)):
        ingest([str(path)], WORKLOADS, store, among=[Failing(error)])
    assert threading.active_count() == threads
    assert store.totals().rows == 0
    assert states(ingest([str(path)], WORKLOADS, store).files) == {"a.log": "imported"}


def test_a_decision_that_fails_keeps_nothing(tmp_path: Path, store: DuckFlowStore) -> None:
    """`decide` sees the conversations before they are kept, and may refuse them."""
    path = put(tmp_path, "a.log", log(random.Random(11), 10))
    seen = []

    def refuse(conversations: object) -> None:
        seen.append(conversations)
        raise RingfenceError("no", "not these")

    with pytest.raises(RingfenceError):
        ingest([str(path)], WORKLOADS, store, decide=refuse)
    assert (len(seen), store.totals().rows) == (1, 0)


class Miscounting(Failing):
    def batches(self, content: FlowInput, tally: Tally) -> Iterator[FlowBatch]:
        tally.lines += 1
        yield from ()


def test_a_lost_line_fails_the_import(tmp_path: Path, store: DuckFlowStore) -> None:
    """A source that loses a line silently fails the import instead."""
    path = put(tmp_path, "a.log", "x\n")
    with pytest.raises(RingfenceError) as failed:
        ingest([str(path)], WORKLOADS, store, among=[Miscounting(ValueError())])
    assert failed.value.code == "import-unbalanced"
    assert store.totals().rows == 0


@pytest.mark.parametrize("seed", range(12))
def test_damaged_files_never_lose_a_line(tmp_path: Path, seed: int) -> None:
    """Whatever bytes change in a log, plain or gzip, the import succeeds and its account balances."""
    rng = random.Random(seed)
    for number in range(6):
        data = bytearray(log(rng, 60).encode())
        if rng.random() < 0.5:
            data = bytearray(gzip.compress(bytes(data)))
        for _ in range(rng.randrange(5)):
            at = rng.randrange(20, len(data))
            data[at : at + rng.randrange(1, 4)] = rng.randbytes(rng.randrange(4))
        if rng.random() < 0.3:
            del data[rng.randrange(20, len(data)) :]
        put(tmp_path, f"{number}.log", bytes(data))
    report = read_flows([str(tmp_path)], WORKLOADS).report
    assert all(file.is_balanced for file in report.files)
    assert {file.state for file in report.files} <= {"imported", "refused", "already-imported"}
    assert report.total("records") > 0


def test_a_file_nobody_may_read_is_refused(tmp_path: Path, store: DuckFlowStore) -> None:
    """A dangling link is no file; what cannot be opened is refused and the rest goes on."""
    put(tmp_path, "in/a.log", log(random.Random(12), 10))
    loop = tmp_path / "in" / "gone.log"
    loop.symlink_to(tmp_path / "nowhere")
    assert states(ingest([str(tmp_path / "in")], WORKLOADS, store).files) == {"a.log": "imported"}
