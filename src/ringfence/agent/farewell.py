"""The last that an agent says: that it is removed, by whom, and what it leaves.

    farewell.words("open", why="ticket 4711", by="alice", at_s=...)     the event
    await farewell.tell(disk, event)                                    over a connection of its own

It is told before anything is removed: afterwards there is no identity to tell it with, and a host that is left closed
reaches nobody. A controller that does not know the kind tells it as any event of an agent.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

import msgspec

from ringfence.agent.enrol import keys
from ringfence.agent.held.disk import Disk
from ringfence.agent.uninstall import Leave
from ringfence.bus.jetstream import JetStreamBus, options_for_agent
from ringfence.core.errors import InputError
from ringfence.ports.bus import Bus, BusError
from ringfence.wire import subjects
from ringfence.wire.messages import Event, Events

KIND: Final = "uninstalled"
TELL_S: Final = 15.0
"""So long whoever uninstalls waits for the controller."""
_LEFT: Mapping[Leave, str] = MappingProxyType(
    {
        "open": "no rule of ours decides there any more",
        "closed": "all but the essential and the failsafe is blocked there",
        "enforced": "its last rules stay until it reboots, and nobody follows changes",
    }
)


def words(how: Leave, *, why: str, by: str, at_s: float) -> Event:
    """The event. What a controller reads of it are the details."""
    details = (f"leaves it {how}", f"by {by}", *([f"why: {why.strip()}"] if why.strip() else []))
    return Event(at_s, KIND, f"its agent is removed: {_LEFT[how]}", details)


async def tell(disk: Disk, event: Event) -> None:
    """As the workload this host is, where no agent runs that could. Raises BusError, InputError `identity-missing`,
    `identity-damaged`, RingfenceError `keys-failed`."""
    trust, identity = disk.load_trust(), await keys.describe(disk.folder)
    if identity is None or str(identity.uuid) != trust.workload:
        raise InputError("identity-missing", "this host is not enrolled", help="`ringfence-agent enrol --token T`")
    context = partial(keys.context, disk.folder)
    bus = JetStreamBus(options_for_agent(trust.workload, trust.nats, context, secret=identity.secret))
    bus.start()
    try:
        await bus.connected(timeout_s=TELL_S)
        await say(bus, trust.workload, event)
    finally:
        await bus.close()


async def say(bus: Bus, workload: str, event: Event) -> None:
    """Return when it is safe with the controller's bus. Raises BusError."""
    id = secrets.token_hex(12)
    try:
        async with asyncio.timeout(TELL_S):
            message = msgspec.json.encode(Events(id, events=(event,)))
            await bus.keep(subjects.kept(workload, "events"), message, id=id)
    except TimeoutError:
        raise BusError(f"the bus did not take it within {TELL_S:g} s") from None
