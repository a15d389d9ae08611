"""How long what lasts for a time has to last: a trial, connections that lost their permission. Pure.

The kernel's timers decide; beside them the table says (sealed) until when each was given, on the clock that the timers
run by (CLOCK_MONOTONIC, clock_gettime(2)), so that a timer somebody else set, or took away, is told from one that ran
out.

INVARIANT: `faults` is empty for what `timers` put into the kernel, at any later time.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from ringfence.targets.nftables.generations import FAMILY_KEYS, TRIAL
from ringfence.targets.nftables.layout import Layout, Timers
from ringfence.targets.nftables.marks import mark_of
from ringfence.targets.nftables.render import DEPARTED, LASTING

FOR_GOOD = math.inf
SLACK_S = 1.0
"""The kernel's timers are as fine as its jiffies; a reading is older than the kernel's answer."""
_TRIAL_LINE, _DEPARTED_LINE, _LASTING_LINE = 8, 9, 256
_ENDED = "trial ended"
MOST_DEPARTED = 65_536
"""Beyond so many departed addresses nothing lasts: cutting is exact and cheap."""


class Terms(msgspec.Struct, frozen=True):
    """Points in time are seconds of CLOCK_MONOTONIC."""

    trial_until: float | None = None
    """None: no trial is in force. FOR_GOOD: it was confirmed."""
    lasting: Mapping[int, float] = {}
    """Generation -> until when its connections pass although policy refuses them."""
    departed: Mapping[str, frozenset[bytes]] = {}
    """Set -> addresses whose connections do not last."""

    @property
    def lasting_until(self) -> float:
        return max(self.lasting.values(), default=0.0)

    def at(self, now: float) -> Terms:
        """Without what is over."""
        lasting = {g: until for g, until in self.lasting.items() if until > now}
        until = self.trial_until if self.trial_until is not None and self.trial_until > now else None
        return Terms(until, lasting, self.departed if lasting else {})

    def words(self, *, has_trial: bool) -> dict[int, str]:
        """The lines the table says of them."""
        said = {_LASTING_LINE + g: f"lasting {_point(until)}" for g, until in self.lasting.items()}
        if has_trial:
            said[_TRIAL_LINE] = _ENDED if self.trial_until is None else f"trial {_point(self.trial_until)}"
        if any(self.departed.values()):
            said[_DEPARTED_LINE] = f"departed {_hash_of(self.departed)}"
        return said

    def timers(self, now: float, *, has_trial: bool) -> dict[str, Timers]:
        """What the kernel's sets must hold from now on."""
        mark = {_mark(g): _left(until, now) for g, until in self.lasting.items()}
        found: dict[str, Timers] = {LASTING: mark}
        for suffix in ("4", "6"):
            keys = self.departed.get(DEPARTED + suffix, frozenset())
            found[DEPARTED + suffix] = dict.fromkeys(keys, _left(self.lasting_until, now))
        if has_trial:
            until = self.trial_until
            found[TRIAL] = {} if until is None else dict.fromkeys(FAMILY_KEYS, _left(until, now))
        return found


def _mark(generation: int) -> bytes:
    return struct.pack("=I", mark_of(generation))


def _point(until: float) -> str:
    return "for good" if until == FOR_GOOD else f"until {until:.3f}"


def _left(until: float, now: float) -> float | None:
    return None if until == FOR_GOOD else max(until - now, 0.001)


def _hash_of(departed: Mapping[str, Iterable[bytes]]) -> str:
    return hashlib.sha256(repr(sorted((n, sorted(keys)) for n, keys in departed.items() if keys)).encode()).hexdigest()


def terms_in(said: Mapping[int, str], layout: Layout) -> Terms:
    """The terms the table says it was given; the departed addresses are those in the kernel."""
    lasting = {n - _LASTING_LINE: _read_point(text) for n, text in said.items() if n > _LASTING_LINE}
    trial = said.get(_TRIAL_LINE, _ENDED)
    departed = {n: frozenset(keys) for n, keys in layout.timers.items() if n.startswith(DEPARTED) and keys}
    return Terms(None if trial == _ENDED else _read_point(trial), lasting, departed)


def _read_point(text: str) -> float:
    """The time at the end of a line. What is no time is over long ago."""
    try:
        return FOR_GOOD if text.endswith(" for good") else float(text.rpartition(" ")[2])
    except ValueError:
        return 0.0


def faults(said: Mapping[int, str], layout: Layout, now: float) -> tuple[str, ...]:
    """Which timers are not those the table was given."""
    return tuple(_faults(said, terms_in(said, layout), layout.timers, now))


def _faults(said: Mapping[int, str], terms: Terms, timers: Mapping[str, Timers], now: float) -> Iterator[str]:
    given = {_mark(g): until for g, until in terms.lasting.items()}
    if not _fits(given, timers.get(LASTING, {}), now):
        yield "the connections that may last were changed"
    if TRIAL in timers:
        until = terms.trial_until
        if not _fits({} if until is None else dict.fromkeys(FAMILY_KEYS, until), timers[TRIAL], now):
            yield "the time of the trial was changed"
    stands = terms.lasting_until > now + SLACK_S
    if (stands and said.get(_DEPARTED_LINE, "departed " + _hash_of({})) != f"departed {_hash_of(terms.departed)}") or (
        terms.departed and terms.lasting_until < now - SLACK_S
    ):
        yield "the addresses whose connections do not last were changed"


def _fits(given: Mapping[bytes, float], found: Timers, now: float) -> bool:
    """Whether the timers found are those given, less those that ran out."""
    if not found.keys() <= given.keys():
        return False
    for key, until in given.items():
        left = found.get(key, 0.0)
        if left is None or until == FOR_GOOD:
            if left is not None or until != FOR_GOOD:
                return False
        elif abs(left - max(until - now, 0.0)) > SLACK_S:
            return False
    return True
