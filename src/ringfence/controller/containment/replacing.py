"""A quarantine in the place of another: what of it becomes shorter or weaker.

INVARIANT: a containment is never shortened or weakened unless somebody says that it is meant.
Exceptions are compared as they are written: one that is written otherwise counts as one more.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ringfence.core.errors import InputError
from ringfence.ports.state import QuarantineRecord, WrittenException
from ringfence.wire.api import Replaced

_NAMED = 3


def replaced(
    old: QuarantineRecord, name: str, *, exceptions: Sequence[WrittenException], until: datetime | None
) -> Replaced:
    """What a new quarantine with these exceptions and this end makes of one in force."""
    weaker = [f"lets pass {one.peer} {one.service} {one.direction}" for one in exceptions if one not in old.exceptions]
    if until is not None and (old.until is None or until < old.until):
        weaker.insert(0, f"ends {_when(until)}, not {_when(old.until)}")
    return Replaced(old.id, old.workload, name, old.level, old.why, old.by, old.until, tuple(weaker))


def demand_no_weaker(found: Sequence[Replaced]) -> None:
    """Raises InputError `weaker-than`."""
    weaker = [one for one in found if one.weaker]
    if not weaker:
        return
    said = [f"{one.id} of `{one.name}` by {one.by}: {', '.join(one.weaker)}" for one in weaker[:_NAMED]]
    more = f"; and {len(weaker) - _NAMED:,} more" if len(weaker) > _NAMED else ""
    raise InputError(
        "weaker-than",
        f"nothing was changed: it would weaken what is in force: {'; '.join(said)}{more}",
        help="if that is meant, add `--replace` (`replace` in the API), or `ringfence release` it first;"
        " otherwise leave those out, or ask for no less",
    )


def _when(until: datetime | None) -> str:
    return f"at {until:%Y-%m-%d %H:%M:%S}Z" if until is not None else "only when it is released"
