"""Flow logs of a command line, sent to a controller: the archive is what tar reads, and the count is that of an import
here."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import Serving, eventually, flow_lines

from ringfence.client.archive import Archive, Entry, batched, entries_of
from ringfence.core.errors import InputError
from ringfence.wire.intake import Job

NAMES = st.lists(
    st.sampled_from(("a.log", "/var/log/a.log", "../a.log", ".hidden/.a", "-", "a\nb", "x" * 150, "ü/" + "y" * 90)),
    max_size=8,
)


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
    found = unpacked(packed)
    assert list(found.values()) == contents
    assert len(packed) <= sum(entry.room for entry in entries) + 2 * tarfile.BLOCKSIZE
    for name in found:
        assert not any(part.startswith((".", "/")) or not part for part in name.split("/"))
        assert name.isprintable()


def test_archives_are_as_few_as_can_be() -> None:
    """By bytes and by files; what is too large for any is alone, for the controller to refuse."""
    entries = [Entry(str(index), Path("x"), size) for index, size in enumerate((100, 100, 9000, 100, 100, 100))]
    sizes = [[entry.size for entry in one] for one in batched(entries, most_bytes=8704, most_files=9)]
    assert sizes == [[100, 100], [9000], [100, 100, 100]]
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
