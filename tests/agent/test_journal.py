"""What was heard since the record: appended, said again, and never believed of strangers."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import msgspec
import pytest
from scripted import OTHER, UUID, WEB, Controller, body

from ringfence.agent.held import journal
from ringfence.agent.held.disk import HELD, Disk, Record, replayed
from ringfence.agent.held.held import Held
from ringfence.agent.held.journal import Journal
from ringfence.core.intent.pieces import Isolation
from ringfence.core.net.address import parse_address
from ringfence.wire.messages import Assignment, Isolations, Pieces

FIRST, SECOND = parse_address("10.0.0.1"), parse_address("10.0.0.2")


def pieces(controller: Controller, assignment: Assignment | None = None) -> Pieces:
    """All that the controller would answer."""
    return Pieces(
        assignment, controller.isolations, tuple(controller.bodies.values()), (controller.group,), workload=UUID
    )


def settled(controller: Controller) -> Held:
    """Two members, and a policy."""
    controller.move(added=["10.0.0.1", "10.0.0.2"])
    made = controller.assign(body("tcp/80"))
    held = Held(UUID)
    held.take(made)
    held.take(pieces(controller))
    held.take(pieces(controller))
    assert held.assignment is made
    assert held.wants is None
    return held


def test_what_was_heard_since_the_record_is_held_again(tmp_path: Path) -> None:
    """A member that left and a quarantine: with no record written after them, both are there after a restart."""
    controller, disk, kept = Controller(), Disk(tmp_path), Journal(tmp_path, UUID)
    held = settled(controller)
    disk.save(Record(UUID, held.snapshot()))

    heard = [controller.move(removed=["10.0.0.2"]), controller.isolate(Isolation(OTHER, (FIRST,)))]
    for message in heard:
        held.take(message)
        kept.append([message])
    again = disk.load().held()

    assert again is not None
    assert again.groups[WEB].addresses == {FIRST}
    assert again.isolations == controller.isolations
    assert again.state == held.state


def test_what_the_record_has_is_not_said_twice(tmp_path: Path) -> None:
    """Messages that a later record includes change nothing when they are said again."""
    controller, disk, kept = Controller(), Disk(tmp_path), Journal(tmp_path, UUID)
    held = settled(controller)
    for message in (controller.move(removed=["10.0.0.2"]), controller.move(added=["10.0.0.2"])):
        held.take(message)
        kept.append([message])
    disk.save(Record(UUID, held.snapshot()))

    again = disk.load().held()

    assert again is not None
    assert again.state == held.state
    assert again.groups[WEB].addresses == {FIRST, SECOND}


def test_a_torn_entry_ends_its_segment(tmp_path: Path) -> None:
    """What stands whole before it is used."""
    controller, kept = Controller(), Journal(tmp_path, UUID)
    kept.append([Isolations(2, ("main",)), Isolations(3, ("main",))])
    (segment,) = tmp_path.glob("heard.*")
    segment.write_bytes(segment.read_bytes()[:-2])

    assert [message.revision for message in journal.heard(tmp_path, UUID).messages] == [2]  # type: ignore[union-attr]
    assert controller.isolations.revision == 1


def test_what_could_not_be_appended_leaves_nothing_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk takes half of an entry: it is cut off, and what is appended later is read."""
    kept = Journal(tmp_path, UUID)
    kept.append([Isolations(2, ("main",))])
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, content: write(file, content[: len(content) // 2]))
        with pytest.raises(OSError, match="full"):
            kept.append([Isolations(3, ("main",))])
    kept.append([Isolations(4, ("main",))])

    found = [message.revision for message in journal.heard(tmp_path, UUID).messages]  # type: ignore[union-attr]
    assert found == [2, 4]


def test_a_segment_of_another_identity_is_nobodys(tmp_path: Path) -> None:
    """A host that was enrolled anew does not follow what was said to the one before."""
    Journal(tmp_path, OTHER).append([Isolations(2, ("main",))])

    assert journal.heard(tmp_path, UUID).messages == ()
    assert len(journal.heard(tmp_path, OTHER).messages) == 1


def test_segments_before_a_turn_are_forgotten(tmp_path: Path) -> None:
    """And those from it on stay, in order; the next process goes on behind them."""
    kept = Journal(tmp_path, UUID)
    kept.append([Isolations(2, ("main",))])
    first = kept.turn()
    kept.append([Isolations(3, ("main",))])
    Journal(tmp_path, UUID).append([Isolations(4, ("main",))])

    kept.forget(first)

    found = [message.revision for message in journal.heard(tmp_path, UUID).messages]  # type: ignore[union-attr]
    assert found == [3, 4]


def test_an_assignment_whose_pieces_come_later_is_put_together_again(tmp_path: Path) -> None:
    """It was heard before the record, which knows of no pending one, and its body after."""
    controller, disk, kept = Controller(), Disk(tmp_path), Journal(tmp_path, UUID)
    held = settled(controller)
    made = controller.assign(body("tcp/81"))
    for message in (made, pieces(controller)):
        kept.append([message])
        held.take(message)
        if message is made:
            assert held.pending is made
            disk.save(Record(UUID, held.snapshot()))

    again = disk.load().held()

    assert again is not None
    assert again.assignment == made
    assert again.state == held.state


@pytest.mark.parametrize("name", [HELD, "heard.00000001"])
def test_what_others_could_have_written_is_not_believed(tmp_path: Path, name: str) -> None:
    """A file that is a link, or that its group may write to, says nothing here."""
    controller, disk = Controller(), Disk(tmp_path)
    held = settled(controller)
    disk.save(Record(UUID, held.snapshot()))
    Journal(tmp_path, UUID).append([controller.move(removed=["10.0.0.2"])])
    (tmp_path / name).chmod(0o620)

    loaded = disk.load()

    assert "others than root may write" in loaded.problem
    assert (loaded.record is None) is (name == HELD)
    assert loaded.heard == ()
    (tmp_path / name).rename(tmp_path / "elsewhere")
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    assert disk.load().heard == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_a_record_of_another_user_is_not_believed(tmp_path: Path) -> None:
    """The boot guard runs as root: what somebody else owns could say anything."""
    disk = Disk(tmp_path)
    disk.save(Record(UUID, settled(Controller()).snapshot()))
    os.chown(tmp_path / HELD, 65534, 65534)

    assert disk.load().record is None
    assert "belongs to user 65534" in disk.load().problem


def test_saying_it_again_needs_no_record(tmp_path: Path) -> None:
    """An agent killed before its first record was written holds what it heard."""
    controller, kept = Controller(), Journal(tmp_path, UUID)
    controller.move(added=["10.0.0.1"])
    made = controller.assign(body("tcp/80"))
    kept.append([made, pieces(controller), pieces(controller)])

    again = replayed(Held(UUID), journal.heard(tmp_path, UUID).messages)

    assert again.assignment == made


def test_what_a_later_version_wrote_is_passed_over_and_said(tmp_path: Path) -> None:
    """After a downgrade: what is not understood hides nothing that stands behind it."""
    kept = Journal(tmp_path, UUID)
    kept.append([Isolations(2, ("main",))])
    entry = msgspec.json.encode(["Herald", {"later": True}])
    (segment,) = tmp_path.glob("heard.*")
    with segment.open("ab") as file:
        file.write(struct.pack(">II", len(entry), zlib.crc32(entry)) + entry)
    kept.append([Isolations(3, ("main",))])

    told = journal.heard(tmp_path, UUID)
    assert [message.revision for message in told.messages] == [2, 3]  # type: ignore[union-attr]
    assert "later version" in told.problem


def test_a_segment_of_a_later_format_is_said(tmp_path: Path) -> None:
    """Nothing of it is used, and the ones that are understood are."""
    Journal(tmp_path, UUID).append([Isolations(2, ("main",))])
    later = tmp_path / "heard.00000002"
    later.write_bytes(b"rfj2" + bytes(20))
    later.chmod(0o600)

    told = journal.heard(tmp_path, UUID)
    assert len(told.messages) == 1
    assert "later version" in told.problem


def test_a_head_that_did_not_go_in_whole_is_written_anew(tmp_path: Path) -> None:
    """A short write of a full disk leaves no segment that everything after it is lost in."""
    torn = tmp_path / "heard.00000001"
    kept = Journal(tmp_path, UUID)
    torn.write_bytes(b"rfj1\x24")
    torn.chmod(0o600)
    kept.append([Isolations(2, ("main",))])
    assert len(journal.heard(tmp_path, UUID).messages) == 1
