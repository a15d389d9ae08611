"""Which of the addresses that hosts claim are theirs: judged, leased, and followed by what every host enforces.

A claim is what a host says its addresses are. What it no longer claims ends; what it claims anew is leased if a host
can have it, its pairing profile allows it, and nobody else holds it. Anything else is refused: contested, and told.
A contested address is leased once its holder lets go of it, is retired or is not heard any more, or the profile is
widened.

INVARIANT: an address ends with one host, in the state and in what is told, before it begins with another.
INVARIANT: no lease of a workload in quarantine ends: what isolates it must not depend on what it says.
INVARIANT: a claim is kept until the state and the desired state agree with it; what fails is tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import datetime
from itertools import islice
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Workload
from ringfence.core.net.address import HOLDABLE, LAST, PRIVATE, format_address
from ringfence.core.net.intervals import IntervalSet
from ringfence.ports.state import (
    Change,
    LeaseRecord,
    PairingProfile,
    QuarantineRecord,
    State,
    View,
    Where,
    WorkloadRecord,
)

_log = logging.getLogger(__name__)
MOST: Final = 64
"""Addresses of one host."""
NETWORK: Final = "main"
_BATCH: Final = 200
"""Hosts in one transaction."""
_RETRY_S: Final = 1.0
_TOLD: Final = 5
Why = Literal["unusable", "outside", "held", "too-many"]
_WHY: Final[Mapping[Why, str]] = MappingProxyType(
    {
        "unusable": "no host can have it",
        "outside": "outside the ranges of its pairing profile",
        "held": "`{}` has it",
        "too-many": f"it has {MOST} already",
    }
)


class Refusal(NamedTuple):
    """An address that a host claims and does not get."""

    address: int
    why: Why
    holder: str = ""
    """UUID of who has it."""


class _Granted(NamedTuple):
    """What a transaction found and did."""

    leases: dict[str, frozenset[tuple[str, int]]]
    """UUID -> what the host holds now, from whatever source, as (network, address)."""
    refused: dict[str, tuple[Refusal, ...]]


class _Ended(NamedTuple):
    gone: dict[str, frozenset[int]]
    kept: frozenset[str]
    """Hosts in quarantine that no longer claim what they hold."""


Claims = Mapping[str, frozenset[int]]


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
        self._due: dict[str, None] = {}
        self._unfollowed: set[str] = set()
        """Hosts whose leases changed, which was not followed."""
        self._kept: set[str] = set()
        self._news = asyncio.Event()
        self.is_live: Callable[[str], bool] = lambda uuid: True
        """Whether a host is heard."""
        self.refused: dict[str, tuple[Refusal, ...]] = {}
        """UUID -> what it claims and does not get."""

    def claim(self, uuid: str, addresses: Iterable[int]) -> None:
        """What a host says its addresses are. Never waits."""
        claim = frozenset(addresses)
        if self._claims.get(uuid) != claim:
            self._claims[uuid] = claim
            self._make_due((uuid,))

    def forget(self, uuid: str) -> None:
        """The workload is gone: what it held may be another's."""
        self._claims.pop(uuid, None)
        self.reconsider()

    def reconsider(self) -> None:
        """Judge again what was refused: holders go and profiles change."""
        self._make_due([*self.refused, *self._kept])

    async def keep_leasing(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            try:
                await self.settle()
            except Exception:
                _log.exception("addresses could not be leased; it is tried again")
            if self._due:
                await asyncio.sleep(_RETRY_S)

    async def settle(self) -> None:
        """Deal with everything that is due now. What could not be followed is due again."""
        self._news.clear()
        while batch := list(islice((uuid for uuid in self._due if uuid not in self._unfollowed), _BATCH)):
            await self._deal(batch)
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
        claims = {uuid: self._claims[uuid] for uuid in batch if uuid in self._claims}
        try:
            await self._end(claims)
            await self._grant(claims)
        except BaseException:
            self._make_due(batch)
            raise

    async def _end(self, claims: Claims) -> None:
        now = self._clock()
        ended = await self._state.write(lambda tx: _end(tx, claims, now))
        self._kept = (self._kept - claims.keys()) | ended.kept
        await self._follow(ended.gone)
        free = frozenset[int]().union(*ended.gone.values())
        if free:
            self._make_due(u for u, refused in self.refused.items() if any(r.address in free for r in refused))

    async def _grant(self, claims: Claims) -> None:
        now = self._clock()
        granted = await self._state.write(lambda tx: _grant(tx, claims, now))
        for uuid in claims.keys() - granted.leases.keys():  # the state does not know it: asked again if it speaks again
            self._claims.pop(uuid, None)
        told = self._inventory().by_uuid
        stale = [uuid for uuid, leases in granted.leases.items() if uuid not in told or _held(told[uuid]) != leases]
        await self._follow([*stale, *(self._unfollowed & claims.keys() - set(stale))])
        for uuid in claims:
            refused = granted.refused.get(uuid, ())
            if refused and refused != self.refused.get(uuid):
                self._tell(uuid, refused)
            self.refused.pop(uuid, None)
            if refused:
                self.refused[uuid] = refused
            self._take_over(refused, told)

    def _take_over(self, refused: Iterable[Refusal], told: Mapping[str, Workload]) -> None:
        """What an agent holds that is not heard any more is free: it ends there first, and is judged again then."""
        for one in refused:
            holder = told.get(one.holder)
            if holder is None or holder.origin != "agent" or self.is_live(one.holder):
                continue
            held = frozenset(lease.address for lease in holder.addresses)
            self.claim(one.holder, self._claims.get(one.holder, held) - {one.address})

    async def _follow(self, uuids: Iterable[str]) -> None:
        """One that cannot be followed keeps nobody else waiting."""
        for uuid in uuids:
            try:
                await self._refresh(uuid)
                self._unfollowed.discard(uuid)
            except Exception:
                self._unfollowed.add(uuid)
                _log.exception("the addresses of `%s` could not be followed; it is tried again", uuid)


def describe(refused: Collection[Refusal], names: Mapping[str, str]) -> str:
    """For people. `names`: of workloads by UUID."""
    some = [f"{_text(one.address)} ({_WHY[one.why].format(names.get(one.holder, one.holder))})" for one in refused]
    more = f" and {len(some) - _TOLD} more" if len(some) > _TOLD else ""
    return f"it claims addresses that it does not get: {', '.join(some[:_TOLD])}{more}"


def _text(address: int) -> str:
    return format_address(address) if 0 <= address <= LAST else "a number that is no address"


def _held(workload: Workload) -> frozenset[tuple[str, int]]:
    return frozenset((lease.network, lease.address) for lease in workload.addresses)


# ---- in the state ---------------------------------------------------------------------------------------------------


def _end(tx: Change, claims: Claims, now: datetime) -> _Ended:
    """End what is not claimed any more."""
    quarantined = _quarantined(tx, claims, now)
    gone: dict[str, frozenset[int]] = {}
    kept = set()
    for uuid, leases in _live(tx, Where("workload", claims, "in"), Where("source", "agent")).items():
        left = frozenset(one.address for one in leases) - claims[uuid]
        if not left:
            continue
        if uuid in quarantined:
            kept.add(uuid)
            continue
        gone[uuid] = left
        live = (Where("workload", uuid), Where("end", None), Where("source", "agent"))
        tx.update(LeaseRecord, *live, Where("address", sorted(left), "in"), end=now)
    return _Ended(gone, frozenset(kept))


def _grant(tx: Change, claims: Claims, now: datetime) -> _Granted:
    """Lease what is claimed, and is to be had."""
    known = {record.uuid: record for record in tx.find(WorkloadRecord, Where("uuid", claims, "in"))}
    ranges = {profile.name: profile.ranges for profile in tx.find(PairingProfile)} if known else {}
    held = _live(tx, Where("workload", known, "in"))
    own = {uuid: {one.address for one in held.get(uuid, ()) if one.network == NETWORK} for uuid in known}
    wanted = {a for uuid in known for a in claims[uuid] - own[uuid] if a in HOLDABLE}
    taken = {
        one.address: uuid
        for uuid, leases in _live(tx, Where("network", NETWORK), Where("address", wanted, "in")).items()
        for one in leases
    }
    granted = _Granted({}, {})
    for uuid, record in known.items():
        allowed = _allowed(record, ranges)
        new, refused = _judge(claims[uuid], own[uuid], allowed, taken)
        taken |= dict.fromkeys(new, uuid)
        tx.put(*(LeaseRecord(NETWORK, address, uuid, now, None, "agent") for address in new))
        leases = {(one.network, one.address) for one in held.get(uuid, ())} | {(NETWORK, a) for a in new}
        granted.leases[uuid] = frozenset(leases)
        if refused:
            granted.refused[uuid] = refused
    return granted


def _judge(
    claim: frozenset[int], own: Collection[int], allowed: IntervalSet, taken: Mapping[int, str]
) -> tuple[list[int], tuple[Refusal, ...]]:
    """(what a host gets besides its own, what it does not get)."""
    new: list[int] = []
    refused: list[Refusal] = []
    for address in sorted(claim - set(own)):
        if address not in HOLDABLE:
            refused.append(Refusal(address, "unusable"))
        elif address not in allowed:
            refused.append(Refusal(address, "outside"))
        elif address in taken:
            refused.append(Refusal(address, "held", taken[address]))
        elif len(own) + len(new) >= MOST:
            refused.append(Refusal(address, "too-many"))
        else:
            new.append(address)
    return new, tuple(refused)


def _allowed(record: WorkloadRecord, ranges: Mapping[str, IntervalSet]) -> IntervalSet:
    """Where a host may have addresses; private ranges for one whose profile is gone."""
    allowed = ranges.get(record.profile, PRIVATE)
    return allowed if record.enrolled_from is None else allowed | IntervalSet.single(record.enrolled_from)


def _live(view: View, *where: Where) -> dict[str, list[LeaseRecord]]:
    """Leases that did not end, by workload."""
    found: dict[str, list[LeaseRecord]] = {}
    for lease in view.find(LeaseRecord, *where, Where("end", None)):
        if lease.address in HOLDABLE:
            found.setdefault(lease.workload, []).append(lease)
    return found


def _quarantined(view: View, uuids: Iterable[str], now: datetime) -> set[str]:
    found = view.find(QuarantineRecord, Where("workload", list(uuids), "in"), Where("released_at", None))
    return {one.workload for one in found if one.until is None or one.until > now}
