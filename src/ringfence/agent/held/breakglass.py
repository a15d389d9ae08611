"""Break-glass: this host's policy is set to observe for a while, by whoever is root on it, and everybody hears of it.

INVARIANT: what others than root could have written breaks no glass (`owned`).
INVARIANT: it ends by itself, at most MOST_S after it began, whatever happens to the clock, the agent or the machine;
a reason is part of it. A quarantine keeps biting unless the person said otherwise.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Final

import msgspec

from ringfence.agent.clock import Clock
from ringfence.agent.owned import read_owned
from ringfence.core.errors import InputError
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.model import Intent
from ringfence.durable import write_secret

FILE: Final = "disabled.json"
MOST_S: Final = 8 * 3600
_UNITS = {"s": 1, "m": 60, "h": 3600}


class Disabled(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One break of the glass."""

    since: float
    """Seconds since the epoch, as `until`."""
    until: float
    boot: str
    """Which boot of the machine it began in."""
    until_boot_s: float
    """When it ends by that boot's own clock, which nobody can set."""
    why: str
    by: str
    even_quarantine: bool = False

    def left_s(self, clock: Clock) -> float:
        """How long it lasts yet; 0 when it is over. A clock that reads a time before it began ends it."""
        if clock.boot() == self.boot:
            return max(0.0, self.until_boot_s - clock.since_boot_s())
        now = clock.wall_s()
        return max(0.0, self.until - now) if self.since <= now else 0.0


def parse_duration(text: str) -> float:
    """`45s`, `30m`, `2h` in seconds. Raises InputError `bad-duration`, `disabled-too-long`."""
    number, unit = text[:-1], text[-1:]
    if not number.isdigit() or unit not in _UNITS or int(number) == 0:
        raise InputError("bad-duration", f"`{text}` is no length of time", help="write it like 45s, 30m or 2h")
    seconds = int(number) * _UNITS[unit]
    if seconds > MOST_S:
        raise InputError("disabled-too-long", f"`{text}` is longer than {MOST_S // 3600}h", help="break it again then")
    return float(seconds)


def disable(folder: Path, clock: Clock, *, for_s: float, why: str, even_quarantine: bool = False) -> Disabled:
    """Write it down. Raises InputError `disabled-without-reason`, `disabled-too-long`."""
    if not why.strip():
        raise InputError("disabled-without-reason", "nobody says why", help="--why 'what happened'")
    if not 0 < for_s <= MOST_S:
        raise InputError("disabled-too-long", f"it may last {MOST_S // 3600}h at most", help="break it again then")
    now = clock.wall_s()
    told = Disabled(now, now + for_s, clock.boot(), clock.since_boot_s() + for_s, why.strip(), who(), even_quarantine)
    write_secret(folder / FILE, msgspec.json.encode(told))
    return told


def end(folder: Path, told: Disabled) -> None:
    """Before its time: it is over from now on, and still to be told."""
    over = msgspec.structs.replace(told, until=told.since, until_boot_s=0.0)
    write_secret(folder / FILE, msgspec.json.encode(over))


def forget(folder: Path) -> None:
    """It is over, and was told."""
    (folder / FILE).unlink(missing_ok=True)


def current(folder: Path, clock: Clock) -> Disabled | None:
    """What is in force now. A file that cannot be read disables nothing."""
    told = last(folder)
    return told if told is not None and told.left_s(clock) > 0 else None


def last(folder: Path) -> Disabled | None:
    """What was written down, be it over or not."""
    try:
        return msgspec.json.decode(read_owned(folder / FILE), type=Disabled)
    except (OSError, ValueError):
        return None


def observing(intent: Intent, *, even_quarantine: bool = False) -> Intent:
    """The same host with nothing blocked but what a quarantine blocks."""
    intent = msgspec.structs.replace(intent, mode=Mode())
    if not even_quarantine:
        return intent
    return msgspec.structs.replace(intent, is_quarantined=False, isolated=(), quarantine_passages=())


def who() -> str:
    """The person behind root, as far as the system knows: sudo's, else the login's, else the user."""
    if name := os.environ.get("SUDO_USER"):
        return name
    try:
        login = int(Path("/proc/self/loginuid").read_text())
        return pwd.getpwuid(login if login != 0xFFFFFFFF else os.getuid()).pw_name
    except (OSError, ValueError, KeyError):
        return str(os.getuid())
