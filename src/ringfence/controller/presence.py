"""Who is there: heartbeats answered, addresses leased, silence noticed, clones found.

A host's addresses are leases that its heartbeats renew. One that falls silent is offline after a while, which is told,
and stale after another: then its addresses are nobody's, so that whoever gets them next inherits nothing.

INVARIANT: what a host says of its addresses only ever adds a holder: two holders of one address pass only what would
pass for both, so claiming another's address opens nothing.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from ringfence.core.net.address import is_loopback
from ringfence.wire import subjects
from ringfence.wire.messages import Expected, Heartbeat, Interface, Realised

_log = logging.getLogger(__name__)
OFFLINE_AFTER: Final = timedelta(seconds=45)
STALE_AFTER: Final = timedelta(hours=1)
_CLONE_S: Final = 90.0
"""Two instances heard within so long are two hosts: a restart changes the instance once, a clone over and over."""
_SHARED: Final = re.compile(
    r"(lo|docker\d+|br-[0-9a-f]+|virbr\d+|veth.*|cni\d+|flannel.*|cali.*|cilium.*|tunl\d+|kube-ipvs\d+)"
)
"""Interfaces whose addresses are the same on many hosts and reach nobody from outside."""


class Seen(msgspec.Struct):
    """What an agent said last."""

    heartbeat: Heartbeat
    at: float
    """Seconds since the epoch, by this controller's clock."""
    realised: Realised
    earlier: frozenset[str] = frozenset()
    """Instances that another one followed: a restart. One that speaks again was never gone: a clone."""
    cloned_at: float = 0.0
    is_offline: bool = False


class Presence:
    """The agents as they were heard."""

    def __init__(self, expected: Callable[[str], str], seal: Callable[[Expected], bytes]) -> None:
        self._expected, self._seal = expected, seal
        self.seen: dict[str, Seen] = {}
        self.dirty: set[str] = set()
        """Those whose record is newer than the state's."""
        self.on_addresses: Callable[[str, tuple[int, ...]], Awaitable[None]] = _nobody
        self.on_realised: Callable[[str, Realised], Awaitable[None]] = _nobody
        self.on_clone: Callable[[str, tuple[str, ...]], Awaitable[None]] = _nobody
        self.on_back: Callable[[str], Awaitable[None]] = _nobody

    async def beat(self, subject: str, data: bytes) -> bytes | None:
        """The answer to a heartbeat: what the agent should have."""
        uuid, now = subjects.sender(subject), time.time()
        try:
            heartbeat = msgspec.json.decode(data, type=Heartbeat)
        except ValueError as error:
            _log.warning("a heartbeat of `%s` cannot be read: %s", uuid, error)
            return None
        is_cloned = await self._take(uuid, heartbeat, now)
        return self._seal(Expected(self._expected(uuid), time.time(), is_cloned, uuid, heartbeat.nonce))

    async def _take(self, uuid: str, heartbeat: Heartbeat, now: float) -> bool:
        known = self.seen.get(uuid)
        seen = self.seen[uuid] = Seen(heartbeat, now, heartbeat.realised)
        self.dirty.add(uuid)
        if known is not None:
            seen.earlier, seen.cloned_at = known.earlier, known.cloned_at
            if known.heartbeat.instance != heartbeat.instance:
                seen.earlier |= {known.heartbeat.instance}
            if heartbeat.instance in known.earlier:
                seen.cloned_at = now
        if known is None or known.heartbeat.interfaces != heartbeat.interfaces:
            await self.on_addresses(uuid, addresses_of(heartbeat.interfaces))
        if known is not None and known.is_offline:
            await self.on_back(uuid)
        await self.on_realised(uuid, heartbeat.realised)
        is_cloned = bool(seen.cloned_at) and now - seen.cloned_at < _CLONE_S
        if is_cloned and (known is None or now - known.cloned_at >= _CLONE_S):
            await self.on_clone(uuid, (heartbeat.instance, known.heartbeat.instance if known else ""))
        return is_cloned

    async def done(self, subject: str, data: bytes) -> None:
        """What an agent realised, as soon as it did."""
        uuid = subjects.sender(subject)
        try:
            realised = msgspec.json.decode(data, type=Realised)
        except ValueError as error:
            _log.warning("what `%s` realised cannot be read: %s", uuid, error)
            return
        if uuid in self.seen:
            self.seen[uuid].realised = realised
            self.dirty.add(uuid)
        await self.on_realised(uuid, realised)

    def silent(self, now: datetime, after: timedelta) -> Iterable[str]:
        """Those not heard for so long."""
        line = (now - after).timestamp()
        return [uuid for uuid, seen in self.seen.items() if seen.at < line]


def addresses_of(interfaces: Iterable[Interface]) -> tuple[int, ...]:
    """The addresses others may know the host by, sorted."""
    own = {a for one in interfaces if not _SHARED.fullmatch(one.name) for a in one.addresses}
    return tuple(sorted(a for a in own if not is_loopback(a)))


async def _nobody(*_: object) -> None:
    """Nobody is told."""
