"""What outlives the agent."""

from __future__ import annotations

import errno
import zlib
from pathlib import Path

import msgspec
import pytest
from scripted import UUID, Controller, body

from ringfence import __version__
from ringfence.agent.held.disk import BEFORE, HELD, PREVIOUS, Disk, Record, Trust
from ringfence.agent.held.held import Held, Snapshot
from ringfence.core.errors import InputError


def record(number: int) -> Record:
    return Record(UUID, Snapshot(), rejected=number)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """Everything held comes back equal."""
    controller = Controller()
    held = Held(UUID)
    made = controller.assign(body("tcp/80"))
    held._bodies[made.station.body] = body("tcp/80")
    held.take(made)
    disk = Disk(tmp_path)

    assert disk.save(Record(UUID, held.snapshot(), 3, ("why",))) == ""
    loaded = disk.load()

    assert loaded.problem == ""
    assert loaded.record == Record(UUID, held.snapshot(), 3, ("why",))


@pytest.mark.parametrize("damage", [b"", b"rfh1", b"rfh1\0\0\0\0nonsense", None], ids=["empty", "short", "sum", "torn"])
def test_a_damaged_record_gives_way_to_the_one_before(tmp_path: Path, damage: bytes | None) -> None:
    """Whatever a crash or a bad disk made of the newest: the one before is used whole, and that is said."""
    disk = Disk(tmp_path)
    disk.save(record(1))
    disk.save(record(2))
    content = (tmp_path / HELD).read_bytes()
    (tmp_path / HELD).write_bytes(content[:-3] if damage is None else damage)

    loaded = disk.load()

    assert loaded.record == record(1)
    assert "damaged" in loaded.problem


def test_a_crash_between_two_renames_loses_nothing(tmp_path: Path) -> None:
    """The record is under its previous name only: it is found there."""
    disk = Disk(tmp_path)
    disk.save(record(1))
    (tmp_path / HELD).rename(tmp_path / PREVIOUS)

    assert disk.load().record == record(1)


def test_a_full_disk_is_said_and_the_old_record_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`save` gives the reason; nothing is raised into enforcement, nothing is torn."""
    disk = Disk(tmp_path)
    disk.save(record(1))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ringfence.agent.held.disk.os.fsync", full)

    assert disk.save(record(2)) == "No space left on device"
    assert disk.load().record == record(1)


def test_only_the_owner_reads_what_is_kept(tmp_path: Path) -> None:
    """Policy and trust tell an attacker where to go."""
    disk = Disk(tmp_path)
    disk.save(record(1))
    disk.save_trust(Trust(UUID, "estate.test", "https://c", ("tls://c",), (bytes(32),)))

    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
    assert disk.load_trust().controller == "https://c"


def test_a_host_that_is_not_enrolled_is_told_so(tmp_path: Path) -> None:
    """No trust is `identity-missing`, damaged trust is `identity-damaged`."""
    disk = Disk(tmp_path)
    with pytest.raises(InputError) as missing:
        disk.load_trust()
    (tmp_path / "trust.json").touch(mode=0o600)
    with pytest.raises(InputError) as damaged:
        disk.load_trust()

    assert (missing.value.code, damaged.value.code) == ("identity-missing", "identity-damaged")


def saved_by(disk: Disk, version: str, number: int, monkeypatch: pytest.MonkeyPatch, *, adds: bytes = b"") -> None:
    """A record as another version writes it; `adds`: what this one has no word for."""
    with monkeypatch.context() as patch:
        patch.setattr("ringfence.agent.held.disk.__version__", version)
        disk.save(record(number))
    if adds:
        path = disk.folder / HELD
        text = zlib.compress(zlib.decompress(path.read_bytes()[8:])[:-1] + b"," + adds + b"}", 1)
        path.write_bytes(b"rfh1" + zlib.crc32(text).to_bytes(4, "big") + text)


def test_a_host_that_goes_back_finds_what_its_version_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version after writes what this one does not understand, twice: what this one held when the other began is
    there, whole, and it is said."""
    disk = Disk(tmp_path)
    disk.save(record(1))
    with monkeypatch.context() as patch:
        patch.setattr("ringfence.agent.held.disk.__version__", "99.0")
        disk.keep_before(disk.load())
    for number in (2, 3):
        saved_by(disk, "99.0", number, monkeypatch, adds=b'"pace":7')

    loaded = disk.load()

    assert loaded.record == record(1)
    assert "of a later version" in loaded.problem


def test_who_wrote_a_record_is_nothing_that_an_older_version_stumbles_over(tmp_path: Path) -> None:
    """Versions from before it was written down refuse a record with a word they do not know, as this one does."""
    disk = Disk(tmp_path)
    disk.save(record(1))

    text = zlib.decompressobj().decompress((tmp_path / HELD).read_bytes()[8:])

    assert text == msgspec.json.encode(record(1))
    assert disk.load().by == __version__


def test_what_the_version_after_wrote_is_used_while_it_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest first, whoever wrote it; a start of the same version keeps nothing aside."""
    disk = Disk(tmp_path)
    disk.save(record(1))
    disk.keep_before(disk.load())
    assert not (tmp_path / BEFORE).exists()
    saved_by(disk, "99.0", 2, monkeypatch)

    loaded = disk.load()
    assert (loaded.record, loaded.by, loaded.problem) == (record(2), "99.0", "")
    disk.keep_before(loaded)
    assert (tmp_path / BEFORE).stat().st_mode & 0o777 == 0o600


def test_trust_of_a_later_version_is_trust(tmp_path: Path) -> None:
    """A host that goes back to the version before is still itself."""
    disk = Disk(tmp_path)
    trust = Trust(UUID, "ringfence.internal", "https://c:8443", ("tls://c:4222",), (b"k" * 32,))
    disk.save_trust(trust)
    path = tmp_path / "trust.json"
    path.write_bytes(path.read_bytes()[:-1] + b',"colour":"blue"}')

    assert disk.load_trust() == trust
