"""Which of the addresses that hosts claim are theirs: judged (`claims`), leased, and followed by what hosts enforce.

A claim is what a host says its addresses are. What it no longer claims ends; what it claims anew becomes its own, or is
contested, or is refused, and the latter two are told. They are judged again when the other holder lets go of the
address, is retired or is not heard any more, or when the profile is widened.

INVARIANT: an address ends with one host, in the state and in what is told, before it begins with another.
INVARIANT: no lease of a workload in quarantine ends: what isolates it must not depend on what it says.
INVARIANT: a claim is kept until the state and the desired state agree with it; what fails is tried again.

One host is dealt with at once. Where many speak, as when a controller starts under thousands of agents, what comes
meanwhile is dealt with together (`Rounds`): a transaction costs more than the hosts in it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Final

from ringfence.controller.identity import claims
from ringfence.controller.identity.claims import Claims, Refusal
from ringfence.controller.looping import tell_failure
from ringfence.controller.pacing import Rounds
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Workload
from ringfence.ports.state import State

_log = logging.getLogger(__name__)
_BATCH: Final = 200
"""Hosts in one transaction."""
_RETRY_S: Final = 1.0
_ROUNDS_S: Final = 10.0
"""Rounds of dealing a second, when many hosts speak."""
_ROUNDS_AT_ONCE: Final = 30.0
"""After a pause."""


class Leasing:
    """The claims of all hosts. All methods are for one event loop."""

    def __init__(
        self,
        state: State,
        inventory: Callable[[], Inventory],
        refresh: Callable[[str], Awaitable[None]],
        tell: Callable[[str, tuple[Refusal, ...]], None],
        clock: Callable[[], datetime],
    ) -> None:
        """`inventory`: what hosts are told; `refresh`: follow what the state says of a workload; `tell`: what a host
        was newly refused."""
        self._state, self._inventory, self._refresh, self._tell, self._clock = state, inventory, refresh, tell, clock
        self._claims: dict[str, frozenset[int]] = {}
        self._heard: dict[str, datetime] = {}
        """When each host last said what its addresses are."""
        self._due: dict[str, None] = {}
        self._unfollowed: set[str] = set()
        """Hosts whose leases changed, which was not followed."""
        self._kept: set[str] = set()
        self._news = asyncio.Event()
        self._rounds = Rounds(_ROUNDS_S, _ROUNDS_AT_ONCE)
        self.is_live: Callable[[str], bool] = lambda uuid: True
        """Whether a host is heard."""
        self.refused: dict[str, tuple[Refusal, ...]] = {}
        """UUID -> what it claims and does not get for itself."""

    def claim(self, uuid: str, addresses: Iterable[int]) -> None:
        """What a host says its addresses are. Never waits."""
        self._heard[uuid] = self._clock()
        self._believe(uuid, frozenset(addresses))

    def lapse(self, uuid: str) -> None:
        """A host was not heard for so long that it holds nothing any more."""
        self._believe(uuid, frozenset())

    def _believe(self, uuid: str, claim: frozenset[int]) -> None:
        if self._claims.get(uuid) != claim:
            self._claims[uuid] = claim
            self._make_due((uuid,))

    def forget(self, uuid: str) -> None:
        """The workload is gone: what it held may be another's."""
        self._claims.pop(uuid, None)
        self._heard.pop(uuid, None)
        self.refused.pop(uuid, None)
        self.reconsider()

    def reconsider(self) -> None:
        """Judge again what was refused: holders go and profiles change."""
        self._make_due([*self.refused, *self._kept])

    def _said(self, uuid: str, address: int) -> datetime | None:
        """When a host last said that it has an address; None: by its last word it has not."""
        return self._heard.get(uuid) if address in self._claims.get(uuid, ()) else None

    def contested(self, uuid: str) -> frozenset[int]:
        """The addresses that a host holds together with another, which had them first."""
        return frozenset(one.address for one in self.refused.get(uuid, ()) if one.why == "contested")

    async def keep_leasing(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            await asyncio.sleep(self._rounds.wait_s)
            self._rounds.begin()
            has_failed = False
            try:
                await self.deal()
            except Exception as error:
                has_failed = True
                tell_failure(_log, "addresses could not be leased", error)
            if has_failed or self._unfollowed:
                await asyncio.sleep(_RETRY_S)

    async def settle(self) -> None:
        """Deal with everything that is due, and with what becomes due by that."""
        await self.deal()
        while self._due.keys() - self._unfollowed:
            await self.deal()

    async def deal(self) -> None:
        """One round: what is due now. What comes meanwhile is the next one's; what could not be followed is due
        again."""
        self._news.clear()
        due = [uuid for uuid in self._due if uuid not in self._unfollowed]
        for start in range(0, len(due), _BATCH):
            await self._deal(due[start : start + _BATCH])
        for uuid in sorted(self._unfollowed):
            self._due.pop(uuid, None)
            await self._deal([uuid])
        if self._unfollowed:
            self._make_due(self._unfollowed)

    def _make_due(self, uuids: Iterable[str]) -> None:
        self._due |= dict.fromkeys(uuids)
        if self._due:
            self._news.set()

    async def _deal(self, batch: Collection[str]) -> None:
        for uuid in batch:
            self._due.pop(uuid, None)
        claimed = {uuid: self._claims[uuid] for uuid in batch if uuid in self._claims}
        try:
            await self._end(claimed)
            await self._grant(claimed)
        except BaseException:
            self._make_due(batch)
            raise

    async def _end(self, claimed: Claims) -> None:
        now = self._clock()
        ended = await self._state.write(lambda tx: claims.end(tx, claimed, self._said, now))
        self._kept = (self._kept - claimed.keys()) | ended.kept
        await self._follow(ended.gone)
        free = frozenset[int]().union(*ended.gone.values())
        if free:
            self._make_due(u for u, refused in self.refused.items() if any(r.address in free for r in refused))

    async def _grant(self, claimed: Claims) -> None:
        now = self._clock()
        granted = await self._state.write(lambda tx: claims.grant(tx, claimed, now))
        for uuid in (
            claimed.keys() - granted.leases.keys()
        ):  # the state does not know it: asked again if it speaks again
            self._claims.pop(uuid, None)
        before = {uuid: self.refused.pop(uuid, ()) for uuid in claimed}
        self.refused |= granted.refused
        told = self._inventory().by_uuid
        stale = [uuid for uuid, leases in granted.leases.items() if uuid not in told or _held(told[uuid]) != leases]
        await self._follow([*stale, *(self._unfollowed & claimed.keys() - set(stale))])
        for uuid, refused in granted.refused.items():
            if refused != before[uuid]:
                self._tell(uuid, refused)
            self._take_over(refused, told)

    def _take_over(self, refused: Iterable[Refusal], told: Mapping[str, Workload]) -> None:
        """What an agent holds that is not heard any more is free: it ends there first, and is judged again then."""
        for one in refused:
            holder = told.get(one.holder)
            if holder is None or holder.origin != "agent" or self.is_live(one.holder):
                continue
            held = frozenset(lease.address for lease in holder.addresses)
            self._believe(one.holder, self._claims.get(one.holder, held) - {one.address})

    async def _follow(self, uuids: Iterable[str]) -> None:
        """One that cannot be followed keeps nobody else waiting."""
        for uuid in uuids:
            try:
                await self._refresh(uuid)
                self._unfollowed.discard(uuid)
            except Exception:
                self._unfollowed.add(uuid)
                _log.exception("the addresses of `%s` could not be followed; it is tried again", uuid)


def _held(workload: Workload) -> frozenset[tuple[str, int]]:
    return frozenset((lease.network, lease.address) for lease in workload.addresses)
