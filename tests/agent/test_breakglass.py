"""Break-glass: bounded, reasoned, over by itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringfence.agent.clock import Clock
from ringfence.agent.held import breakglass
from ringfence.agent.held.breakglass import current, disable, end, last, observing, parse_duration
from ringfence.core.errors import InputError
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.model import Intent


class Set(Clock):
    """A clock a test sets."""

    def __init__(self, wall: float = 1e9, boot: float = 100.0, id: str = "a") -> None:
        super().__init__()
        self.wall, self.since, self.id = wall, boot, id

    def wall_s(self) -> float:
        return self.wall

    def since_boot_s(self) -> float:
        return self.since

    def boot(self) -> str:
        return self.id


def test_it_lasts_as_long_as_was_said_whatever_the_wall_clock_does(tmp_path: Path) -> None:
    """Within one boot only the boot's own clock counts."""
    disable(tmp_path, Set(), for_s=60, why="x")

    assert current(tmp_path, Set(wall=0, boot=159))
    assert current(tmp_path, Set(wall=2e9, boot=159))
    assert current(tmp_path, Set(wall=1e9, boot=160)) is None


def test_it_outlives_a_reboot_but_not_its_time(tmp_path: Path) -> None:
    """After a reboot the wall clock counts, and one that reads a time before it began ends it."""
    disable(tmp_path, Set(), for_s=60, why="x")

    assert current(tmp_path, Set(wall=1e9 + 30, boot=1, id="b"))
    assert current(tmp_path, Set(wall=1e9 + 61, boot=1, id="b")) is None
    assert current(tmp_path, Set(wall=1e9 - 1, boot=1, id="b")) is None


@pytest.mark.parametrize("how", ["writable", "link", "of somebody else"])
def test_what_others_could_have_written_disables_nothing(tmp_path: Path, how: str) -> None:
    """As with all that says what this host enforces: a link, or a file that others own or may write to, is not read."""
    disable(tmp_path, Set(), for_s=60, why="x")
    path = tmp_path / breakglass.FILE
    if how == "writable":
        path.chmod(0o622)
    elif how == "link":
        path.symlink_to(path.rename(tmp_path / "elsewhere"))
    elif os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    else:
        pytest.skip("gives a file to somebody else")

    assert current(tmp_path, Set()) is None
    assert last(tmp_path) is None


def test_it_can_be_ended_before_its_time_and_that_is_known(tmp_path: Path) -> None:
    """What was ended is over in this boot and the next, and still there to be told."""
    told = disable(tmp_path, Set(), for_s=60, why="x")
    end(tmp_path, told)

    assert current(tmp_path, Set()) is None
    assert current(tmp_path, Set(wall=1e9 + 1, id="b")) is None
    assert last(tmp_path) is not None


@pytest.mark.parametrize(
    ("for_s", "why", "code"),
    [(60, " ", "disabled-without-reason"), (8 * 3600 + 1, "x", "disabled-too-long"), (0, "x", "disabled-too-long")],
)
def test_it_needs_a_reason_and_an_end(tmp_path: Path, for_s: float, why: str, code: str) -> None:
    """Nobody disables a host without saying why, or for ever."""
    with pytest.raises(InputError) as refused:
        disable(tmp_path, Set(), for_s=for_s, why=why)

    assert refused.value.code == code
    assert last(tmp_path) is None


@pytest.mark.parametrize(("text", "seconds"), [("45s", 45), ("30m", 1800), ("8h", 28800)])
def test_lengths_of_time(text: str, seconds: float) -> None:
    """Seconds, minutes and hours are read."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "0m", "-3m", "1d", "1.5h", "9h", "30"])
def test_lengths_of_time_that_are_none(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(InputError):
        parse_duration(text)


def test_a_damaged_file_disables_nothing(tmp_path: Path) -> None:
    """It fails closed."""
    (tmp_path / breakglass.FILE).write_bytes(b"{")

    assert current(tmp_path, Set()) is None


def test_quarantine_is_lifted_only_by_word() -> None:
    """Observing drops nothing but what is quarantined, unless the person said so."""
    intent = Intent("u", "n", Mode.both("enforce"), (1,), is_quarantined=True, isolated=(2,))

    assert observing(intent) == Intent("u", "n", Mode(), (1,), is_quarantined=True, isolated=(2,))
    assert observing(intent, even_quarantine=True) == Intent("u", "n", Mode(), (1,))
