"""Which rules this host's own programs left in the kernel, so that whoever comes next knows what others did meanwhile.

    point = Witness(nftables(None), folder, clock)      a point that writes down what it put in force
    point.changed(intent)                               in words: what somebody else changed since, in this boot

It outlives the program that wrote it, killed at any moment, and nothing more: a reboot leaves no rules to compare.

INVARIANT: nobody is accused on a guess. Killed in the middle of a change, nothing is known, and nothing is said.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from ringfence.agent.clock import Clock
from ringfence.agent.held.disk import IN_FORCE
from ringfence.agent.owned import read_owned
from ringfence.agent.point import How, Point, Tried, Watching
from ringfence.core.intent.model import Intent
from ringfence.ports.target import Observed


class Mark(msgspec.Struct, frozen=True):
    """What was left."""

    boot: str
    """In which boot of the machine."""
    digests: tuple[str, ...] = ()
    """What may be there; a trial ends by itself. Empty: not known."""


class Witness:
    """A point, and a mark of what was done through it."""

    def __init__(self, point: Point, folder: Path, clock: Clock) -> None:
        self._point, self._path, self._clock = point, folder / IN_FORCE, clock
        self._is_trial = False

    def changed(self, intent: Intent) -> tuple[str, ...]:
        """What differs from what was left, though no program of ours did it. Raises TargetError."""
        mark = _read(self._path)
        if mark is None or mark.boot != self._clock.boot() or not mark.digests:
            return ()
        found = self._point.observe()
        if found.state == "realised" and found.digest in mark.digests:
            return ()
        return self._point.audit(intent)

    # ---- what changes the rules -------------------------------------------------------------------------------------

    def converge(self, intent: Intent, how: How) -> Observed:
        self._is_trial = how.trial_s is not None
        fallback = (how.fallback.digest,) if how.fallback is not None else ()
        return self._marked(lambda: self._point.converge(intent, how), fallback)

    def move(self, added: Mapping[int, Collection[int]], removed: Collection[int]) -> Observed:
        return self._marked(lambda: self._point.move(added, removed))

    def isolate(self, intent: Intent) -> Observed:
        return self._marked(lambda: self._point.isolate(intent))

    def confirm(self) -> None:
        self._write()
        self._point.confirm()
        self._is_trial = False

    def remove(self) -> None:
        self._write()
        self._point.remove()

    # ---- what does not ----------------------------------------------------------------------------------------------

    def observe(self) -> Observed:
        return self._point.observe()

    def audit(self, intent: Intent) -> tuple[str, ...]:
        return self._point.audit(intent)

    def tried(self) -> Tried | None:
        return self._point.tried()

    def sever(self) -> int:
        return self._point.sever()

    def watch(self) -> Watching:
        return self._point.watch()

    def text(self, intent: Intent) -> str:
        return self._point.text(intent)

    def close(self) -> None:
        self._point.close()

    # ---- the mark ---------------------------------------------------------------------------------------------------

    def _marked(self, change: Callable[[], Observed], fallback: tuple[str, ...] = ()) -> Observed:
        self._write()
        observed = change()
        is_known = observed.state == "realised" and (fallback or not self._is_trial)
        self._write((observed.digest, *fallback) if is_known else ())
        return observed

    def _write(self, digests: tuple[str, ...] = ()) -> None:
        """Not flushed: it need not survive a crash of the host. A disk that refuses leaves nobody to accuse."""
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_bytes(msgspec.json.encode(Mark(self._clock.boot(), digests)))
            fresh.chmod(0o600)
            os.replace(fresh, self._path)
        except OSError:
            with suppress(OSError):
                self._path.unlink()


def _read(path: Path) -> Mark | None:
    try:
        return msgspec.json.decode(read_owned(path), type=Mark)
    except (OSError, ValueError):
        return None
