"""The spool: nothing kept is lost by a crash, nothing grows without bound, nothing lost is uncounted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.agent.observe.spool import Spool

WRITER = """
import sys
from pathlib import Path
from ringfence.agent.observe.spool import Spool
spool = Spool(Path(sys.argv[1]))
number = 0
while True:
    kind = "events" if number % 2 else "flows"
    spool.put(kind, b"%d " % number * 500)
    print(number, flush=True)
    number += 1
"""


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True, timeout=10)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=10)


def numbers(spool: Spool) -> list[int]:
    return [int(kept.data.split()[0]) for kept in spool.pending(10**6)]


def test_messages_come_back_in_order_until_they_are_acknowledged(tmp_path: Path) -> None:
    """Pending repeats itself until an ack, over restarts; events come before flows."""
    spool = Spool(tmp_path)
    first, event = spool.put("flows", b"1"), spool.put("events", b"2")
    spool.put("flows", b"3")

    assert numbers(spool) == [2, 1, 3]
    spool.ack(event)
    spool.ack(event)

    assert numbers(Spool(tmp_path)) == [1, 3]
    spool.ack(first)
    assert numbers(Spool(tmp_path)) == [3]


def test_an_id_is_never_given_twice(tmp_path: Path) -> None:
    """Ids rise over restarts, of an emptied spool, too."""
    given = []
    for _ in range(5):
        spool = Spool(tmp_path)
        given += [spool.put("flows", b"x") for _ in range(3)]
        for kept in spool.pending():
            spool.ack(kept.id)

    assert given == sorted(set(given))


@pytest.mark.parametrize("messages", [1, 7, 40])
def test_a_killed_process_loses_nothing_that_put_returned_from(tmp_path: Path, messages: int) -> None:
    """After kill -9 every message whose `put` returned is there, whole."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(messages)]
        os.kill(writer.pid, signal.SIGKILL)
        said += [int(line) for line in writer.stdout.read().split()]
    spool = Spool(tmp_path)

    assert set(said) <= set(numbers(spool))
    assert all(kept.data == (kept.data.split()[0] + b" ") * 500 for kept in spool.pending(10**6))
    assert sum(spool.stats().lost.values()) == 0


@pytest.mark.parametrize("cut", [0, 3, 8, 100])
def test_a_torn_message_is_dropped_and_counted(tmp_path: Path, cut: int) -> None:
    """What a power cut tore is no message, and the others are untouched."""
    spool = Spool(tmp_path)
    torn = spool.put("flows", b"1 " * 100)
    spool.put("flows", b"2 ")
    os.truncate(tmp_path / f"{torn}.flows", cut)
    again = Spool(tmp_path)

    assert numbers(again) == [2]
    assert again.stats().lost["flows"] == 1
    assert numbers(Spool(tmp_path)) == [2]


def test_a_message_that_was_being_written_is_none(tmp_path: Path) -> None:
    """A file under its temporary name is removed."""
    (tmp_path / "0000.flows.new").write_bytes(b"half")

    assert numbers(Spool(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_flows_go_first_and_events_last(tmp_path: Path) -> None:
    """Within its bytes the spool keeps all events while there is a flow to give up, and counts every loss."""
    spool = Spool(tmp_path, max_bytes=10 * 4096)
    for number in range(8):
        spool.put("events", b"%d " % number)
    for number in range(8, 16):
        spool.put("flows", b"%d " % number)

    assert numbers(spool) == [*range(8), 14, 15]
    for number in range(16, 22):
        spool.put("events", b"%d " % number)
    assert numbers(spool) == [4, 5, 6, 7, *range(16, 22)]
    assert spool.stats().lost == {"events": 4, "evidence": 0, "flows": 8}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10 * 4096


@pytest.mark.kernel
def test_a_full_disk_never_raises_and_every_loss_is_counted(tiny_disk: Path) -> None:
    """On ENOSPC messages wait in bounded memory, the newest and the events survive, and what is gone is counted."""
    spool = Spool(tiny_disk / "spool", memory_bytes=30_000)
    put = 200
    for number in range(put):
        spool.put("events" if number % 20 == 0 else "flows", b"%03d " % number * 1000)
    stats = spool.stats()

    assert not stats.is_on_disk
    assert "No space" in stats.why
    assert stats.memory_bytes <= 30_000
    assert len(spool) + sum(stats.lost.values()) == put
    assert len(numbers(spool)) == len(spool)


@pytest.mark.kernel
def test_what_waits_in_memory_goes_to_the_disk_when_there_is_room(tiny_disk: Path) -> None:
    """A disk that was full and is not any more takes what was kept meanwhile."""
    folder, ballast = tiny_disk / "spool", tiny_disk / "ballast"
    folder.mkdir()
    ballast.write_bytes(bytes(60 << 10))
    spool = Spool(folder)
    spool.put("events", b"1 " * 3000)
    assert spool.stats().memory_bytes
    ballast.unlink()
    spool.put("events", b"2 ")

    assert spool.stats().memory_bytes == 0
    assert numbers(Spool(folder)) == [1, 2]


def test_a_folder_that_cannot_be_made_is_a_full_disk(tmp_path: Path) -> None:
    """Where there is no folder messages wait in memory."""
    (tmp_path / "file").write_text("in the way")
    spool = Spool(tmp_path / "file" / "spool")
    spool.put("events", b"1")

    assert numbers(spool) == [1]
    assert not spool.stats().is_on_disk
