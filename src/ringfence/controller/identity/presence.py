"""Who is there: heartbeats answered, addresses claimed, silence noticed, clones found.

A host's addresses are leases that its heartbeats renew. One that falls silent is offline after a while, which is told,
and stale after another: then its addresses are nobody's, so that whoever gets them next inherits nothing.

INVARIANT: a heartbeat waits for nothing, neither the state nor a compile: what follows from it is done elsewhere.
INVARIANT: who it is that speaks is judged before what it says: a second instance under one identity changes no address
while the first may be alive.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from ringfence.controller.desired.desired import Turning
from ringfence.controller.pacing import Pace
from ringfence.core.net.address import is_loopback
from ringfence.ports.state import AgentRecord
from ringfence.wire import subjects
from ringfence.wire.messages import Expected, Heartbeat, Interface, Realised

_log = logging.getLogger(__name__)
OFFLINE_AFTER: Final = timedelta(seconds=45)
STALE_AFTER: Final = timedelta(hours=1)
_CLONE_S: Final = 90.0
"""Two instances heard within so long are two hosts: a restart changes the instance once, a clone over and over."""
_ALONE_S: Final = 25.0
"""So long (two heartbeats) an instance must not be heard for the next one to speak of addresses in its stead."""
_KEPT_S: Final = 20.0
"""That a host lives is written so often, and what is new at once: two heartbeats, of which one may be lost."""
_EARLIER: Final = 16
_SHARED: Final = re.compile(
    r"(lo|docker(\d+|_gwbridge)|br-[0-9a-f]+|virbr\d+|podman\d+|lx[cd]br\d+|vmnet\d+|veth.*|cni\d+|flannel.*|cali.*"
    r"|cilium.*|tunl\d+|kube-ipvs\d+|nodelocaldns)"
)
"""Interfaces whose addresses are the same on many hosts and reach nobody from outside."""


class Seen(msgspec.Struct):
    """What an agent said last."""

    heartbeat: Heartbeat
    at: float
    """Seconds since the epoch, by this controller's clock."""
    realised: Realised
    earlier: tuple[str, ...] = ()
    """The last instances that another one followed: restarts. One that speaks again was never gone: a clone."""
    cloned_at: float = 0.0
    kept_at: float = 0.0
    """When it was heard that the state knows of."""
    followed_at: float = 0.0
    """When this instance came while the one before had only just spoken."""

    def is_cloned(self, now: float) -> bool:
        return bool(self.cloned_at) and now - self.cloned_at < _CLONE_S

    def is_alone(self, now: float) -> bool:
        """Whether no other instance may be alive."""
        return not self.is_cloned(now) and now - self.followed_at >= _ALONE_S


class Presence:
    """The agents as they were heard."""

    def __init__(
        self,
        expected: Callable[[str], str],
        seal: Callable[[Expected], bytes],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`expected`: the state (digest) an agent should have; may raise Turning. `clock`: seconds since the epoch."""
        self._expected, self._seal, self._clock = expected, seal, clock
        self._beats, self._dones = Pace(), Pace()
        self.seen: dict[str, Seen] = {}
        self.dirty: set[str] = set()
        """Those whose record is newer than the state's."""
        self.on_addresses: Callable[[str, tuple[int, ...]], None] = lambda uuid, addresses: None
        """Told with every heartbeat of a host that is alone under its identity and knows its addresses."""
        self.on_unread: Callable[[str, str], None] = lambda uuid, why: None
        """Told of each heartbeat that cannot be read: its agent is of a version that this controller does not know."""
        self.on_clone: Callable[[str, tuple[str, ...]], Awaitable[None]] = _nobody

    def recall(self, record: AgentRecord, at: datetime) -> None:
        """What an agent said before this start, so that its silence goes on counting."""
        heartbeat = _heartbeat_of(record)
        self.seen[record.uuid] = Seen(heartbeat, at.timestamp(), _realised_of(record) or heartbeat.realised)

    async def beat(self, subject: str, data: bytes) -> bytes | None:
        """The answer to a heartbeat: what the agent should have."""
        uuid, now = subjects.sender(subject), self._clock()
        if not self._beats.admits(uuid):
            return None
        try:
            heartbeat = msgspec.json.decode(data, type=Heartbeat)
        except ValueError as error:
            _log.debug("a heartbeat of `%s` cannot be read: %s", uuid, error)
            self.on_unread(uuid, str(error))
            return None
        is_cloned = await self._take(uuid, heartbeat, now)
        expected = self._due(uuid, heartbeat)
        return self._seal(Expected(expected, self._clock(), is_cloned, uuid, heartbeat.nonce))

    def _due(self, uuid: str, heartbeat: Heartbeat) -> str:
        """What the agent should have; in the middle of a change what it has: the change is told, and compared next."""
        try:
            return self._expected(uuid)
        except Turning:
            return heartbeat.state

    async def _take(self, uuid: str, heartbeat: Heartbeat, now: float) -> bool:
        known = self.seen.get(uuid)
        seen = self.seen[uuid] = _following(known, heartbeat, now)
        if known is None or now - seen.kept_at >= _KEPT_S or _gist(known.heartbeat) != _gist(heartbeat):
            self.dirty.add(uuid)
        if seen.is_alone(now) and not heartbeat.is_blind:
            self.on_addresses(uuid, addresses_of(heartbeat.interfaces))
        if known is not None and seen.is_cloned(now) and not known.is_cloned(now):
            await self.on_clone(uuid, (heartbeat.instance, known.heartbeat.instance))
        return seen.is_cloned(now)

    async def done(self, subject: str, data: bytes) -> Realised | None:
        """What an agent realised, as soon as it did."""
        uuid = subjects.sender(subject)
        if not self._dones.admits(uuid):
            return None
        try:
            realised = msgspec.json.decode(data, type=Realised)
        except ValueError as error:
            _log.warning("what `%s` realised cannot be read: %s", uuid, error)
            return None
        if uuid in self.seen:
            self.seen[uuid].realised = realised
            self.dirty.add(uuid)
        return realised

    def silent(self, now: datetime, after: timedelta) -> Iterable[str]:
        """Those not heard for so long."""
        line = (now - after).timestamp()
        return [uuid for uuid, seen in self.seen.items() if seen.at < line]


def _following(known: Seen | None, heartbeat: Heartbeat, now: float) -> Seen:
    """What is known of an agent after a heartbeat."""
    seen = Seen(heartbeat, now, heartbeat.realised)
    if known is None:
        return seen
    seen.earlier, seen.cloned_at, seen.followed_at = known.earlier, known.cloned_at, known.followed_at
    seen.kept_at = known.kept_at
    before = known.heartbeat.instance
    if before == heartbeat.instance:
        return seen
    seen.followed_at = now if now - known.at < _ALONE_S else 0.0
    seen.cloned_at = now if heartbeat.instance in known.earlier else known.cloned_at
    seen.earlier = (before, *(one for one in known.earlier if one != before))[:_EARLIER]
    return seen


def _gist(said: Heartbeat) -> tuple[object, ...]:
    """What of a heartbeat is news; how much of everything is used is not."""
    realised = msgspec.structs.replace(said.realised, at=0.0)
    said_of_host = said.instance, said.machine, said.version, said.interfaces, said.forwards
    return *said_of_host, said.state, said.disabled_until, realised


def addresses_of(interfaces: Iterable[Interface]) -> tuple[int, ...]:
    """The addresses others may know the host by, sorted."""
    own = {a for one in interfaces if not _SHARED.fullmatch(one.name) for a in one.addresses}
    return tuple(sorted(a for a in own if not is_loopback(a)))


def _heartbeat_of(record: AgentRecord) -> Heartbeat:
    """What was stored; one that says nothing, where that cannot be read."""
    try:
        return msgspec.json.decode(record.heartbeat, type=Heartbeat)
    except ValueError:
        return Heartbeat(0.0, record.instance, "", record.version, 0, "", Realised("unreachable"))


def _realised_of(record: AgentRecord) -> Realised | None:
    try:
        return msgspec.json.decode(record.realised, type=Realised)
    except ValueError:
        return None


async def _nobody(*_: object) -> None:
    """Nobody is told."""
