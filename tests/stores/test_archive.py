"""A backup holds one moment's state whole, opens for whoever may, and is restored whole or not at all, anywhere."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from databases import NewState, Postgres, opened
from sqlalchemy import create_engine
from test_sql_state import EVERYTHING, decided, look, run

from ringfence.controller import audit
from ringfence.controller.records.backing_up import restore_into
from ringfence.ports import state as s
from ringfence.ports.state import Change, StateError
from ringfence.stores.sql import Manifest, backup, engines, migrations, restore
from ringfence.stores.sql.archive import AHEAD, FORMAT

NOW = datetime(2026, 3, 3, tzinfo=UTC)
KEYS = {"ca.pem": b"certificate", "deep/er/key": bytes(range(256)) * 1000, "empty": b""}


def make_keys(folder: Path) -> Path:
    for name, content in KEYS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def everything(place: str | Path) -> list[s.Record]:
    return look(place, lambda view: [one for kind in s.RECORDS for one in view.find(kind)])


def back_up(place: str | Path, path: Path, passphrase: str = "") -> Manifest:
    keys = make_keys(path.parent / "keys")

    async def go() -> Manifest:
        async with opened(place) as state:
            return await backup(state, path, at=NOW, version="1", folders={"keys": keys}, passphrase=passphrase)

    return asyncio.run(go())


def told(tx: Change) -> None:
    audit.record(tx, at=NOW, actor="root", action="restore")


def put_back(path: Path, place: str | Path, passphrase: str = "", folder: Path | None = None) -> Manifest:
    folders = {"keys": folder or path.parent / "restored"}
    return asyncio.run(restore(path, place, folders=folders, then=told, passphrase=passphrase))


def code_of(*args: Any) -> str:
    with pytest.raises(StateError) as raised:
        put_back(*args)
    return raised.value.code


@pytest.mark.parametrize(("into", "passphrase"), [("same", ""), ("other", "korrekt häst")], ids=["plain", "sealed"])
def test_a_backup_restores_everything_into_either_database(
    new_state: NewState, postgres: Postgres, tmp_path: Path, passphrase: str, into: str
) -> None:
    """Every record and file comes back as it was, from SQLite into PostgreSQL and the other way; the audit chain goes
    on unbroken, and what orders news goes on ahead."""
    source, path = new_state(), tmp_path / "backup"
    run(source, decided(*EVERYTHING))
    before = everything(source)
    sqlite = tmp_path / "other.db"
    target = new_state() if into == "same" else postgres.new_database() if isinstance(source, Path) else sqlite

    made = back_up(source, path, passphrase)

    assert put_back(path, target, passphrase) == made == Manifest(FORMAT, migrations.NEWEST, NOW, "1")
    after = everything(target)
    assert [one for one in after if isinstance(one, s.Counter)] == [s.Counter("revision", 9 + AHEAD)]
    assert [one.version for one in after if isinstance(one, s.GroupVersion)] == [4 + AHEAD]
    same = [one for one in after if not isinstance(one, s.Counter | s.GroupVersion)]
    assert same[:-2] + same[-1:] == [one for one in before if not isinstance(one, s.Counter | s.GroupVersion)]
    assert (same[-2].action, same[-2].actor) == ("restore", "root")  # type: ignore[attr-defined]
    checked = look(target, lambda view: audit.verify(_Headless(view), ()))
    assert (checked.broken, checked.entries) == (None, 2)
    restored = tmp_path / "restored"
    assert {name: (restored / name).read_bytes() for name in KEYS} == KEYS
    assert {one.stat().st_mode & 0o077 for one in (path, *(restored / name for name in KEYS))} == {0}
    if not isinstance(target, Path) and into == "other":
        postgres.drop(target)


class _Headless:
    """A view without the made-up head of the samples."""

    def __init__(self, view: s.View) -> None:
        self._view = view

    def find(self, kind: type[Any], *where: s.Where, **how: Any) -> list[Any]:
        return [] if kind is s.AuditHead else self._view.find(kind, *where, **how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)


def test_a_backup_of_many_rows_is_whole(tmp_path: Path) -> None:
    """More rows than are handled at once, in their order."""
    place, path, target = tmp_path / "a.db", tmp_path / "backup", tmp_path / "b.db"
    rows = [s.WorkloadRecord(f"u{n:05}", f"w{n}", {"n": str(n)}, NOW) for n in range(4_500)]
    run(place, decided(*rows))

    back_up(place, path)
    put_back(path, target)

    assert look(target, lambda view: view.find(s.WorkloadRecord)) == rows


def test_a_backup_is_of_one_moment(tmp_path: Path) -> None:
    """What is written while it is made is in it whole or not at all."""
    place, path, target = tmp_path / "a.db", tmp_path / "backup", tmp_path / "b.db"

    async def go() -> None:
        async with opened(place) as state:
            await state.write(decided(*(s.WorkloadRecord(f"u{n}", f"w{n}", {}, NOW) for n in range(3_000))))

            async def write() -> None:
                for n in range(3_000, 3_060, 2):
                    pair = (s.WorkloadRecord(f"u{n + k}", f"w{n + k}", {}, NOW) for k in range(2))
                    await state.write(decided(*pair, s.LeaseRecord("main", n, f"u{n}")))

            await asyncio.gather(backup(state, path, at=NOW, version="1", folders={}), write())

    asyncio.run(go())
    asyncio.run(restore(path, target, folders={}, then=told))

    counts = look(target, lambda v: tuple(v.count(kind) for kind in (s.WorkloadRecord, s.LeaseRecord, s.AuditEntry)))
    assert counts[0] == 3_000 + 2 * counts[1]
    assert counts[2] == 1 + counts[1] + 1


def test_a_sealed_backup_opens_for_its_passphrase_only(tmp_path: Path) -> None:
    """Another passphrase, none, or one where none was: nothing is restored, and nothing in it can be read."""
    place, sealed, plain = tmp_path / "a.db", tmp_path / "sealed", tmp_path / "plain"
    run(place, decided(s.WorkloadRecord("u", "a-name-to-look-for", {}, NOW)))
    back_up(place, sealed, "right")
    back_up(place, plain)
    target = tmp_path / "b.db"

    assert code_of(sealed, target, "wrong") == "backup-locked"
    assert code_of(sealed, target) == "backup-locked"
    assert code_of(plain, target, "right") == "backup-locked"
    assert b"RINGFENCE-SEALED" in sealed.read_bytes()[:20]
    put_back(sealed, target, "right")


def damaged(good: bytes) -> dict[str, bytes]:
    middle = len(good) // 2
    flipped = good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
    return {
        "nothing": b"", "something else": b"not a backup" * 99, "a changed byte": flipped,
        "cut in half": good[:middle], "the end cut off": good[:-300], "its beginning only": good[:30],
    }  # fmt: skip


@pytest.mark.parametrize("passphrase", ["", "secret"], ids=["plain", "sealed"])
@pytest.mark.parametrize("how", damaged(b"xxxx"))
def test_a_damaged_backup_is_refused_whole(
    request: pytest.FixtureRequest, tmp_path: Path, how: str, passphrase: str
) -> None:
    """A byte changed or missing anywhere: an error with a code, no row and no file; the place can be used again."""
    source, path = tmp_path / "a.db", tmp_path / "backup"
    target = tmp_path / "b.db" if passphrase else request.getfixturevalue("postgres").new_database()
    run(source, decided(*EVERYTHING))
    back_up(source, path, passphrase)
    bad = tmp_path / "bad"
    bad.write_bytes(damaged(path.read_bytes())[how])

    assert code_of(bad, target, passphrase) in ("backup-unreadable", "backup-locked")
    assert not (tmp_path / "restored").exists()
    assert not list(tmp_path.glob(".restored*"))
    put_back(path, target, passphrase)
    assert look(target, lambda view: view.count(s.PolicyVersion)) == 2


def repacked(path: Path, change: Any) -> Path:
    """The backup with its members changed by somebody who knows the format."""
    with tarfile.open(path) as tar:
        members = [(one.name, tar.extractfile(one).read()) for one in tar]  # type: ignore[union-attr]
    out = path.with_name("repacked")
    with tarfile.open(out, "w:gz") as tar:
        for name, content in change(members):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out


HOSTILE = {
    "a path out of the folder": lambda m: [*m[:-1], ("files/keys/../../../evil", b"x"), m[-1]],
    "an absolute path": lambda m: [*m[:-1], ("/etc/evil", b"x"), m[-1]],
    "a folder nobody asked for": lambda m: [*m[:-1], ("files/other/evil", b"x"), m[-1]],
    "a table left out": lambda m: [one for one in m if one[0] != "tables/quarantines.jsonl"],
    "a table twice": lambda m: [*m[:3], m[2], *m[3:]],
    "an unknown table": lambda m: [*m[:-1], ("tables/schema_version.jsonl", b'["version"]\n[9]\n'), m[-1]],
    "no manifest": lambda m: m[1:],
    "no digests": lambda m: m[:-1],
    "a row put in": lambda m: [(n, c + b'["x",99]\n' if n == "tables/counters.jsonl" else c) for n, c in m],
    "another column": lambda m: [(n, c.replace(b'"value"', b'"price"')) for n, c in m],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_backup_puts_nothing_anywhere(tmp_path: Path, what: str) -> None:
    """Members that are not what a backup holds are refused, all of it with them."""
    source, path = tmp_path / "a.db", tmp_path / "backup"
    run(source, decided(*EVERYTHING))
    back_up(source, path)

    assert code_of(repacked(path, HOSTILE[what]), tmp_path / "b.db") == "backup-unreadable"
    assert not list(tmp_path.rglob("*evil*"))
    assert not (tmp_path / "restored").exists()


def test_an_older_backup_is_brought_forward(new_state: NewState, tmp_path: Path) -> None:
    """A backup of the first schema is restored into it and migrated, as a database would be."""
    source, path, target = tmp_path / "a.db", tmp_path / "backup", new_state()
    run(source, decided(*EVERYTHING))
    back_up(source, path)
    later = ("tables/proposals.jsonl", "tables/audit_heads.jsonl", "tables/sessions.jsonl")

    def older(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        kept = [one for one in members[1:-1] if one[0] not in later]
        manifest = ("manifest.json", msgspec.json.encode(Manifest(FORMAT, 1, NOW, "0")))
        return [manifest, *kept, ("digests.json", _digests([manifest, *kept]))]

    assert put_back(repacked(path, older), target).schema == 1

    assert look(target, lambda view: view.count(s.WorkloadRecord)) == 2
    assert look(target, lambda view: view.count(s.Proposal)) == 0


def _digests(members: list[tuple[str, bytes]]) -> bytes:
    return msgspec.json.encode({name: hashlib.sha256(content).hexdigest() for name, content in members})


def test_a_newer_backup_is_left_alone(tmp_path: Path) -> None:
    """What a later version wrote is refused with its name, not guessed at."""
    path = tmp_path / "backup"
    run(tmp_path / "a.db", decided(*EVERYTHING))
    back_up(tmp_path / "a.db", path)
    manifest = msgspec.json.encode(Manifest(FORMAT, migrations.NEWEST + 1, NOW, "9.9"))

    assert code_of(repacked(path, lambda m: [("manifest.json", manifest), *m[1:]]), tmp_path / "b.db") == "backup-newer"


def test_nothing_is_restored_over_something(new_state: NewState, tmp_path: Path) -> None:
    """A database with tables, of ours or others, or a folder with a file in it, is left as it is."""
    source, path = new_state(), tmp_path / "backup"
    run(source, decided(*EVERYTHING))
    back_up(source, path)
    foreign = new_state()
    engine = create_engine(engines.url_of(foreign))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE somebodys (x INTEGER)")
    engine.dispose()
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()

    assert code_of(path, source) == "state-not-empty"
    assert code_of(path, foreign) == "state-not-empty"
    assert code_of(path, new_state(), "", full) == "state-not-empty"
    assert list(full.iterdir()) == [full / "file"]


def test_a_restore_leaves_a_trace(tmp_path: Path) -> None:
    """What goes with a restore is part of it: where it fails nothing is restored."""
    path = tmp_path / "backup"
    run(tmp_path / "a.db", decided(*EVERYTHING))
    back_up(tmp_path / "a.db", path)

    def fail(tx: Change) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(restore(path, tmp_path / "b.db", folders={"keys": tmp_path / "restored"}, then=fail))

    assert not (tmp_path / "restored").exists()
    put_back(path, tmp_path / "b.db")


def test_a_backup_is_not_written_over_a_file(tmp_path: Path) -> None:
    """A file that is there stays, and nothing half-written is left beside it."""
    path = tmp_path / "backup"
    path.write_text("somebody's")

    with pytest.raises(StateError) as raised:
        back_up(tmp_path / "a.db", path)

    assert raised.value.code == "backup-taken"
    assert path.read_text() == "somebody's"
    assert not list(tmp_path.glob(".backup*"))


def test_a_failed_restore_leaves_nothing_behind(tmp_path: Path) -> None:
    """What cannot be read is refused, and the right backup can be restored to the same place then."""
    bad, directory = tmp_path / "bad.tar", tmp_path / "controller"
    bad.write_bytes(b"no backup")
    for _ in range(2):
        with pytest.raises(StateError) as refused:
            asyncio.run(restore_into(bad, directory, clock=lambda: NOW))
        assert refused.value.code == "backup-unreadable"
        assert list(directory.iterdir()) == []
