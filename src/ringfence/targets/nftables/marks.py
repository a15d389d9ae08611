"""What a connection remembers of its judgement: one byte of the conntrack mark, and the codes of a verdict.

    bit 31      the connection was picked up in mid-stream: which side began it is not known
    bits 24-30  the policy generation, 1..127, under which it was last let pass; 0: never judged

A connection whose generation is not the current one is judged again at its next packet, whichever side sends it.
That is all the memory enforcement has, and it needs no per-packet lookup: a quarantine or a withdrawal is a new
generation.

INVARIANT: we read and write only `MASK`; the other 24 bits of the mark belong to others (kube-proxy 0xc000, Istio
0x539, Tailscale 0xff0000, AWS VPC CNI 0x80) and are kept. Before a generation number is used again, no connection
bears it: `conntrack.forget` clears the half of the numbers that come next. A connection that lost its
permission to a `keep` or a `drain` is told by the older generation it bears: the set `lasting` holds those that still
pass, and for how long.
"""

from __future__ import annotations

from collections.abc import Iterable

from ringfence.core.policy.model import Action

MASK = 0xFF000000
PICKED_UP = 0x80000000
GENERATIONS = 0x7F000000
_SHIFT = 24
LAST_GENERATION = 127
_HALF = 64

ALLOW_CODE, DENY_CODE, FORBID_CODE = 0xFFFF0001, 0xFFFF0002, 0xFFFF0003
CODES: dict[Action, int] = {"allow": ALLOW_CODE, "deny": DENY_CODE, "forbid": FORBID_CODE}
"""What a verdict map holds. INVARIANT: no class has such a number, so a class left in the register is never an allow.
"""
ACTIONS: dict[int, Action] = {code: action for action, code in CODES.items()}
LAST_CLASS = 0xFFFEFFFF
"""The greatest class id; beyond it are the codes."""


def mark_of(generation: int) -> int:
    return generation << _SHIFT


def generation_of(mark: int) -> int:
    return (mark & GENERATIONS) >> _SHIFT


def next_generation(current: int) -> int:
    return current % LAST_GENERATION + 1


def fresh_generations(latest: int, count: int, taken: Iterable[int] = ()) -> tuple[int, ...]:
    """The next numbers after the one given out last, less those that still mean something."""
    avoided, found = {*taken}, list[int]()
    while len(found) < count:
        latest = next_generation(latest)
        found += [latest] if latest not in avoided else []
    return tuple(found)


def reused_generations(generation: int) -> range | None:
    """The numbers that must be forgotten before this generation is begun; None when none need be.

    At 1 the lower half is about to be used again, at 64 the upper; all connections that bear them are stale by then.
    """
    if generation == 1:
        return range(1, _HALF)
    return range(_HALF, LAST_GENERATION + 1) if generation == _HALF else None
