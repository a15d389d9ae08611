"""The boot guard: from the disk to the kernel before the network is up, without network, controller or agent.

INVARIANT: what the host enforced before it went down is enforced before its first packet; a policy that had not proven
itself by then waits for the agent, and the one before it holds.
INVARIANT: what time closed while the host was off is written down as closed: a clock that steps back before the agent
starts, or before the next boot, reopens nothing. A disk that takes nothing keeps no rule from being enforced.
INVARIANT: nothing here imports what a connection needs: it has to be over in a fraction of a second.
"""

from __future__ import annotations

import msgspec

from ringfence.agent.clock import Clock
from ringfence.agent.enforce.witness import Witness
from ringfence.agent.held import breakglass
from ringfence.agent.held.disk import Disk, Record
from ringfence.agent.held.held import Held
from ringfence.agent.held.wanted import Wanted, at_boot
from ringfence.agent.point import Point
from ringfence.core.errors import FindingsError, InputError
from ringfence.ports.target import Observed


def guard(disk: Disk, point: Point, clock: Clock) -> Observed:
    """Put in force what is on the disk. Raises InputError `nothing-held`, and what the target refuses with."""
    point, found = Witness(point, disk.folder, clock), disk.load()
    if found.record is None:
        why = found.problem or "this host was told nothing yet"
        raise InputError("nothing-held", f"there is no policy to put in force: {why}", help="start the agent")
    held = found.held()
    first = _wanted(held, found.record, disk, clock, found.record.rejected) if held is not None else None
    if held is None or first is None:
        raise InputError("nothing-held", "this host was told nothing yet", help="start the agent")
    try:
        observed = point.converge(first.intent, first.how(None))
    except FindingsError:
        before = _wanted(held, found.record, disk, clock, first.assignment.revision)
        if before is None or before.intent == first.intent:
            raise
        observed = point.converge(before.intent, before.how(None))
    if held.is_turned:  # the journal stays: what a snapshot lacks is in it
        disk.save(msgspec.structs.replace(found.record, snapshot=held.snapshot()))
    return observed


def _wanted(held: Held, record: Record, disk: Disk, clock: Clock, rejected: int) -> Wanted | None:
    disabled = breakglass.current(disk.folder, clock)
    return at_boot(held, clock.now(), rejected=rejected, channel=record.channel, disabled=disabled)
