"""Flow logs of a command line, sent to a controller: the archive is what tar reads, and the count is that of an import
here."""

from __future__ import annotations

import io
import json
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import Serving, eventually, flow_lines
from typer.testing import CliRunner, Result

from ringfence.cli import flows_fleet
from ringfence.cli.main import app
from ringfence.client.archive import Archive, Entry, batched, entries_of
from ringfence.client.client import Client, _context
from ringfence.client.errors import Unreachable
from ringfence.client.explore import Explore
from ringfence.client.http import httpx
from ringfence.client.login import Login
from ringfence.controller.intake import jobs
from ringfence.core.errors import InputError
from ringfence.wire.intake import Job

TEXTS = (
    "a.log", "/var/log/a.log", "//var/log/a.log", "../a.log", ".hidden/.a", "-", "-/x", "a\nb", "x" * 150,
    "ü/" + "y" * 90, "a", "a/a", "2/a", "2", "a/" * 700 + "z", "/", "..",
)  # fmt: skip
NAMES = st.lists(st.sampled_from(TEXTS), max_size=8)


def unpacked(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


@given(names=NAMES, sizes=st.lists(st.integers(0, 1500), min_size=8, max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_what_is_packed_is_unpacked(tmp_path: Path, names: list[str], sizes: list[int]) -> None:
    """Each file once, whole and in order, under a name of its own that leads nowhere and hides from nobody; twice the
    same, and no longer than was said."""
    contents = [bytes([index]) * size for index, (_, size) in enumerate(zip(names, sizes, strict=False))]
    files = []
    for index, (name, content) in enumerate(zip(names, contents, strict=True)):
        path = tmp_path / str(index)
        path.write_bytes(content)
        files.append((name, path))
    entries = entries_of(files)
    archive = Archive(entries)
    packed = b"".join(archive)
    assert b"".join(archive) == packed
    kept = [PurePosixPath(entry.name) for entry in entries]
    assert not set(kept) & {folder for path in kept for folder in path.parents}
    found = unpacked(packed)
    assert list(found.values()) == contents
    assert len(packed) <= sum(entry.room for entry in entries) + 2 * tarfile.BLOCKSIZE
    for name in found:
        assert not any(part.startswith((".", "/")) or not part for part in name.split("/"))
        assert name.isprintable()


def test_archives_are_as_few_as_can_be() -> None:
    """By bytes and by files; what is too large for any is alone, for the controller to refuse."""
    entries = [Entry(str(index), Path("x"), size) for index, size in enumerate((100, 100, 12_000, 100, 100, 100))]
    sizes = [[entry.size for entry in one] for one in batched(entries, most_bytes=12_000, most_files=9)]
    assert sizes == [[100, 100], [12_000], [100, 100, 100]]
    assert [len(one) for one in batched(entries, most_bytes=1 << 30, most_files=4)] == [4, 2]
    assert batched([], most_bytes=1, most_files=1) == []


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(b"less"), lambda path: path.unlink()])
def test_a_log_that_goes_while_it_is_sent(fresh: Serving, tmp_path: Path, change: Callable[[Path], object]) -> None:
    """It is told, the controller takes nothing and keeps nothing; one that grows is sent as it was."""
    path = tmp_path / "a.log"
    path.write_bytes(flow_lines(50))
    entries = entries_of([("a.log", path)])
    with path.open("ab") as log:
        log.write(flow_lines(10))
    assert len(unpacked(b"".join(Archive(entries)))["a.log"]) == entries[0].size
    change(path)
    with fresh.client() as client:
        with pytest.raises(InputError) as refused:
            client.explore.import_flows("flows.tar", Archive(entries))
        assert refused.value.code == "flow-unreadable"
        uploads = fresh.controller.settings.directory / "uploads"
        eventually(lambda: not uploads.exists() or not list(uploads.iterdir()))
        assert fresh.controller.flows.totals().connections == 0


def test_both_ends_sent_together_count_once(fresh: Serving, tmp_path: Path) -> None:
    """A folder of each end, as `ringfence flows import --fleet` sends it; how much is sent is told as it goes."""
    for eni in ("eni-1", "eni-2"):
        (tmp_path / eni).mkdir()
        (tmp_path / eni / "a.log").write_bytes(flow_lines(50).replace(b"eni-1", eni.encode()))
    told: list[int] = []
    entries = entries_of((str(path), path) for path in sorted(tmp_path.rglob("*.log")))
    with fresh.client() as client:
        begun = client.explore.import_flows("flows.tar", Archive(entries, told.append))
        done: list[Job] = []
        eventually(lambda: done.append(client.explore.job(begun.id)) or done[-1].is_done)
    assert (done[-1].state, done[-1].records, done[-1].connections) == ("done", 100, 50), done[-1].findings
    assert told == sorted(told)
    assert told[-1] == sum(entry.size for entry in entries)


def test_an_upload_is_sent_once(fresh: Serving, tmp_path: Path) -> None:
    """Where the answer is lost, the second try would be told of files that were imported already, as if nothing had
    been wrong with them: who sent it hears that the controller cannot be reached."""
    (tmp_path / "a.log").write_bytes(flow_lines(20))
    sent: list[httpx.Request] = []

    class Deaf(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            sent.append(request)
            super().handle_request(request).read()
            raise httpx.ReadError("the connection is gone")

    login = Login(fresh.controller.settings.url, fresh.token, fresh.ca)
    entries = entries_of([("a.log", tmp_path / "a.log")])
    with Client(login, transport=Deaf(verify=_context(fresh.ca))) as client, pytest.raises(Unreachable):
        client.explore.import_flows("flows.tar", Archive(entries))
    assert len(sent) == 1


def sends(served: Serving, folder: Path, *paths: str) -> Result:
    words = ["flows", "import", *(str(folder / path) for path in paths), "--server", served.controller.settings.url]
    (folder / "ca.pem").write_text(served.ca)
    env = {"RINGFENCE_TOKEN": served.token, "RINGFENCE_CA": str(folder / "ca.pem"), "COLUMNS": "200"}
    return CliRunner().invoke(app, words, env=env, catch_exceptions=False)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Three logs, the first with a line that cannot be read."""
    for number, name in enumerate(("a.log", "b.log", "c.log")):
        (tmp_path / name).write_bytes(flow_lines(20).replace(b"10.0.0.1", f"10.0.{number}.9".encode()))
    with (tmp_path / "a.log").open("ab") as log:
        log.write(b"2 1 eni-1 what is this\n")
    return tmp_path


def test_what_was_imported_is_told_whatever_becomes_of_the_rest(
    fresh: Serving, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log too large is named before anything is sent; where a later upload fails, the first is told with its finding,
    and the command ends as that failure does."""
    monkeypatch.setattr(flows_fleet, "MOST_ARCHIVED", 1)
    with monkeypatch.context() as patch:
        patch.setattr(flows_fleet, "MOST_UPLOAD_BYTES", 3000)
        large = sends(fresh, logs, "a.log", "b.log")
        assert (large.exit_code, "a.log` is larger than" in large.stderr) == (2, True)
        assert fresh.controller.studies.jobs.all() == []
    real = Archive.__iter__

    def fails(archive: Archive) -> Iterator[bytes]:
        if archive.entries[0].name.endswith("b.log"):
            raise InputError("flow-unreadable", "the disk is gone")
        return real(archive)

    monkeypatch.setattr(Archive, "__iter__", fails)
    done = sends(fresh, logs, "a.log", "b.log", "c.log")
    assert done.exit_code == 2
    assert "error[flow-unreadable]" in done.stderr
    assert re.search(r"a\.log +imported +20 +1", done.stderr), done.stderr
    assert "line-columns" in done.stderr
    assert len(fresh.controller.studies.jobs.all()) == 1


def test_a_controller_that_stops_while_it_reads(fresh: Serving, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """3: nothing is wrong with what was sent; it says that sending again does no harm. One that is away for a moment is
    waited for; one that reads others' uploads, too."""
    told = fresh.controller.studies.jobs

    def forgotten(id_: str) -> Job:
        raise InputError("unknown-job", f"there is no job `{id_}`")

    with monkeypatch.context() as patch:
        patch.setattr(told, "get", forgotten)
        done = sends(fresh, logs, "b.log")
        assert done.exit_code == 3
        assert "not counted twice" in done.stderr
    with monkeypatch.context() as patch:
        asked: list[str] = []
        real = Explore.job

        def away(explore: Explore, id: str) -> Job:
            asked.append(id)
            if len(asked) < 3:
                raise Unreachable("controller-unreachable", "connection refused")
            return real(explore, id)

        patch.setattr(Explore, "job", away)
        assert sends(fresh, logs, "c.log").exit_code == 0
    told._arriving = jobs.MOST_WAITING
    threading.Timer(1.5, lambda: setattr(told, "_arriving", 0)).start()
    assert sends(fresh, logs, "a.log").exit_code == 1


def test_a_fault_while_it_reads_keeps_nothing(fresh: Serving, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is refused then, none is running for ever."""

    def fault(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(jobs, "ingest", fault)
    done = sends(fresh, logs, "b.log")
    assert done.exit_code == 1
    assert "error[internal-error]" in done.stderr
    assert "refused" in done.stdout
    assert "running" not in done.stdout


def test_standard_input_is_read_once(fresh: Serving, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(fresh.ca)
    env = {"RINGFENCE_TOKEN": fresh.token, "RINGFENCE_CA": str(tmp_path / "ca.pem")}
    words = ["flows", "import", "-", "-", "--server", fresh.controller.settings.url, "--json"]
    done = CliRunner().invoke(app, words, input=flow_lines(20), env=env, catch_exceptions=False)
    assert [job["records"] for job in json.loads(done.stdout)["jobs"]] == [20]
