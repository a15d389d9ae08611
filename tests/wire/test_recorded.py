"""What earlier versions said, kept as they said it: this version understands it, and is understood by them."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

import msgspec
import pytest
from wire_record import DOWN, KEY, RECORD, RECORDED, UP, UUID

from ringfence.agent.held.disk import HELD, Disk
from ringfence.agent.held.journal import NAME
from ringfence.wire import messages
from ringfence.wire.envelope import Reader, Sealed

SEALED = sorted(RECORDED.glob("*/*.sealed"))
SAID = sorted(RECORDED.glob("*/*.json"))


def name_of(path: Path) -> str:
    return f"{path.parent.name} {path.stem}"


@pytest.mark.parametrize("path", SEALED, ids=name_of)
def test_what_a_controller_said_is_understood_and_said_alike(path: Path) -> None:
    """An agent of this version opens it; a controller of this version says the same in the same words, so an agent of
    that version, which refuses what it does not know, understands it."""
    data = path.read_bytes()
    message = Reader([bytes(KEY.verify_key)]).open(data)
    sealed = msgspec.msgpack.decode(data, type=Sealed)
    payload = zlib.decompress(sealed.payload) if sealed.is_deflated else sealed.payload

    assert type(message).__name__ == path.stem
    assert msgspec.json.decode(msgspec.json.encode(message)) == msgspec.json.decode(payload)


@pytest.mark.parametrize("path", SAID, ids=name_of)
def test_what_an_agent_said_is_understood_and_said_alike(path: Path) -> None:
    """A controller of this version reads all of it, and an agent of this version says the same in the same words."""
    data = path.read_bytes()
    said = msgspec.json.decode(data, type=getattr(messages, path.stem))

    assert msgspec.json.decode(msgspec.json.encode(said)) == msgspec.json.decode(data)


@pytest.mark.parametrize("version", sorted(RECORDED.iterdir()), ids=lambda path: path.name)
def test_what_an_agent_left_on_the_disk_is_taken_up(tmp_path: Path, version: Path) -> None:
    """The record and the journal of that version, as after an update."""
    shutil.copy(version / HELD, tmp_path / HELD)
    shutil.copy(version / "journal", tmp_path / f"{NAME}00000001")
    for path in tmp_path.iterdir():
        path.chmod(0o600)
    loaded = Disk(tmp_path).load()

    assert (loaded.problem, loaded.by) == ("", version.name)
    assert loaded.record is not None
    assert loaded.record.workload == UUID
    assert [type(one).__name__ for one in loaded.heard] == ["Change", "Isolations"]
    assert loaded.held() is not None


def test_nothing_is_left_out_of_what_is_recorded() -> None:
    """Every message, and every field of it with another value than its default: what is added is recorded, too."""
    assert {type(one) for one in DOWN} == set(messages.DOWN)
    assert {type(one) for one in UP} == {messages.Fetch, messages.Realised, messages.Heartbeat, messages.Events}
    for one in (*DOWN, *UP, RECORD.snapshot):
        unsaid = [f.name for f in msgspec.structs.fields(one) if getattr(one, f.name) == f.default]
        assert unsaid == [], f"{type(one).__name__}: {unsaid}"
    assert len(SEALED) >= len(DOWN)
    assert len(SAID) >= len(UP)
