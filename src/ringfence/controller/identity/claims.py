"""What the state says of the addresses that hosts claim: judged and leased, in one transaction each.

A claim is leased outright if a host can have the address, its pairing profile allows it, and nobody else holds it. A
few that somebody else holds are contested: held by both, so that a connection passes only if it would pass for both
(DESIGN section 3), until one lets go. More than a few are a lie, and count for nothing.

INVARIANT: one host contests at most `MOST_CONTESTED` addresses at a time, and as many different ones in an hour: a
compromised agent can close a handful of addresses, not an estate.
INVARIANT: no lease of a workload in quarantine ends by what it says, and it contests nothing anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from ringfence.core.net.address import HOLDABLE, LAST, PRIVATE, format_address
from ringfence.core.net.intervals import IntervalSet
from ringfence.ports.state import (
    CONTESTED,
    Change,
    LeaseRecord,
    PairingProfile,
    QuarantineRecord,
    View,
    Where,
    WorkloadRecord,
)

MOST: Final = 64
"""Addresses of one host."""
MOST_CONTESTED: Final = 4
"""Addresses of others that one host contests."""
MOST_HOLDERS: Final = 4
"""Hosts that hold one address: one that everybody claims tells nobody apart, and is nobody's to close."""
CONTESTING: Final = timedelta(hours=1)
"""How long what a host contested counts."""
NETWORK: Final = "main"
_SAID: Final = ("agent", CONTESTED)
_TOLD: Final = 5
Why = Literal["unusable", "outside", "held", "contested", "lie", "too-many"]
_WHY: Final[Mapping[Why, str]] = MappingProxyType(
    {
        "unusable": "no host can have it",
        "outside": "outside the ranges of its pairing profile",
        "held": "`{}` has it",
        "contested": "`{}` has it, too: what passes would pass for both",
        "lie": f"`{{}}` has it, and nobody takes over more than {MOST_CONTESTED}",
        "too-many": f"it has {MOST} already",
    }
)
Claims = Mapping[str, frozenset[int]]
Heard = Callable[[str, int], datetime | None]
"""When a host (UUID) last said that it has an address; None: it does not say so."""


class Refusal(NamedTuple):
    """An address that a host claims and does not get for itself."""

    address: int
    why: Why
    holder: str = ""
    """UUID of who has it."""


class Granted(NamedTuple):
    """What a transaction found and did."""

    leases: dict[str, frozenset[tuple[str, int]]]
    """UUID -> what the host holds now, from whatever source, as (network, address)."""
    refused: dict[str, tuple[Refusal, ...]]


class Ended(NamedTuple):
    """What ended, and what would have."""

    gone: dict[str, frozenset[int]]
    kept: frozenset[str]
    """Hosts in quarantine that no longer claim what they hold."""


def describe(refused: Collection[Refusal], names: Mapping[str, str]) -> str:
    """For people. `names`: of workloads by UUID."""
    some = [f"{_text(one.address)} ({_WHY[one.why].format(names.get(one.holder, one.holder))})" for one in refused]
    more = f" and {len(some) - _TOLD} more" if len(some) > _TOLD else ""
    return f"it claims addresses that it does not get for itself: {', '.join(some[:_TOLD])}{more}"


def _text(address: int) -> str:
    return format_address(address) if 0 <= address <= LAST else "a number that is no address"


def end(tx: Change, claims: Claims, heard: Heard, now: datetime) -> Ended:
    """End what is not claimed any more."""
    quarantined = _quarantined(tx, claims, now)
    gone: dict[str, frozenset[int]] = {}
    kept = set()
    for uuid, leases in _live(tx, Where("workload", claims, "in"), Where("source", _SAID, "in")).items():
        if uuid in quarantined:
            left = _answered(tx, uuid, leases, heard)
            if frozenset(one.address for one in leases) - claims[uuid] - left:
                kept.add(uuid)
        else:
            left = frozenset(one.address for one in leases) - claims[uuid]
        if left:
            gone[uuid] = left
            _close(tx, uuid, left, now)
    return Ended(gone, frozenset(kept))


def _answered(tx: Change, uuid: str, leases: Iterable[LeaseRecord], heard: Heard) -> frozenset[int]:
    """What a host in quarantine contests, and the other holder has since said that it has: it lives, the address is
    its own, and isolating one of two does not cut the other off."""
    contested = {one.address: one.start for one in leases if one.source == CONTESTED}
    others = (one for one in _others(tx, contested) if one.workload != uuid)
    return frozenset(
        one.address
        for one in others
        if (since := contested[one.address]) is not None
        and (said := heard(one.workload, one.address)) is not None
        and said > since
    )


def grant(tx: Change, claims: Claims, now: datetime) -> Granted:
    """Lease what is claimed, and is to be had."""
    known = {record.uuid: record for record in tx.find(WorkloadRecord, Where("uuid", claims, "in"))}
    ranges = {profile.name: profile.ranges for profile in tx.find(PairingProfile)} if known else {}
    held = _live(tx, Where("workload", known, "in"))
    holders: dict[int, set[str]] = {}
    wanted = {a for uuid in known for a in claims[uuid] if a in HOLDABLE}
    for one in _others(tx, wanted):
        holders.setdefault(one.address, set()).add(one.workload)
    recent = _recently_contested(tx, known, now)
    quarantined = _quarantined(tx, known, now)
    granted = Granted({}, {})
    for uuid, record in known.items():
        leases = held.get(uuid, [])
        judging = _Judging(uuid, claims[uuid], leases, _allowed(record, ranges), holders)
        judged = judging.judge(recent.get(uuid, frozenset()), is_quarantined=uuid in quarantined)
        _write(tx, uuid, judged, now)
        for address in (*judged.new, *judged.contested):
            holders.setdefault(address, set()).add(uuid)
        for address in judged.lies:
            holders[address].discard(uuid)
        kept = {(one.network, one.address) for one in leases} - {(NETWORK, a) for a in judged.lies}
        granted.leases[uuid] = frozenset(kept | {(NETWORK, a) for a in (*judged.new, *judged.contested)})
        if judged.refused:
            granted.refused[uuid] = judged.refused
    return granted


class _Judged(NamedTuple):
    """What becomes of a host's claim."""

    new: list[int]
    """Its own from now on."""
    contested: list[int]
    """Held by it, too, from now on."""
    settled: list[int]
    """Contested so far, and by now nobody else's."""
    lies: list[int]
    """Contested so far, and not any more."""
    refused: tuple[Refusal, ...]


class _Judging:
    """One host's claim against what others hold."""

    def __init__(
        self,
        uuid: str,
        claim: frozenset[int],
        leases: Iterable[LeaseRecord],
        allowed: IntervalSet,
        holders: Mapping[int, set[str]],
    ) -> None:
        self._claim, self._allowed = claim, allowed
        source = {one.address: one.source for one in leases if one.network == NETWORK}
        self._own = source.keys()
        self._contests = {address for address in source if source[address] == CONTESTED and address in claim}
        self._others = {a: sorted(holders[a] - {uuid}) for a in claim if holders.get(a, set()) - {uuid}}

    def judge(self, recent: frozenset[int], *, is_quarantined: bool) -> _Judged:
        new: list[int] = []
        refused: list[Refusal] = []
        for address in sorted(self._claim - self._own):
            if address not in HOLDABLE:
                refused.append(Refusal(address, "unusable"))
            elif address not in self._allowed:
                refused.append(Refusal(address, "outside"))
            elif address in self._others:
                continue
            elif len(self._own) + len(new) >= MOST:
                refused.append(Refusal(address, "too-many"))
            else:
                new.append(address)
        room = MOST - len(self._own) - len(new)
        contested, lies, why = self._contest(recent, room, is_quarantined=is_quarantined)
        refused += [Refusal(address, why[address], other) for address in sorted(why) for other in self._others[address]]
        settled = [address for address in sorted(self._contests) if address not in self._others]
        return _Judged(new, contested, settled, lies, tuple(sorted(refused)))

    def _contest(
        self, recent: frozenset[int], room: int, *, is_quarantined: bool
    ) -> tuple[list[int], list[int], dict[int, Why]]:
        """(contested from now on, no longer contested, why what others hold is not simply the host's)."""
        already = self._contests & self._others.keys()
        fresh = [a for a in sorted(self._others.keys() - self._own) if a in HOLDABLE and a in self._allowed]
        if is_quarantined:
            return [], [], _all(already, "contested") | _all(fresh, "held")
        if len(already) + len(fresh) > MOST_CONTESTED:
            return [], sorted(already), _all((*already, *fresh), "lie")
        counted = recent | already
        chosen: list[int] = []
        for address in fresh:
            is_within = address in counted or len(counted) < MOST_CONTESTED
            if is_within and len(chosen) < room and len(self._others[address]) < MOST_HOLDERS:
                chosen.append(address)
                counted |= {address}
        why = _all(fresh, "held") | _all((*already, *chosen), "contested")
        return chosen, [], why


def _all(addresses: Iterable[int], why: Why) -> dict[int, Why]:
    return dict.fromkeys(addresses, why)


def _write(tx: Change, uuid: str, judged: _Judged, now: datetime) -> None:
    tx.put(*(LeaseRecord(NETWORK, address, uuid, now, None, "agent") for address in judged.new))
    tx.put(*(LeaseRecord(NETWORK, address, uuid, now, None, CONTESTED) for address in judged.contested))
    if judged.settled:
        live = (Where("workload", uuid), Where("end", None), Where("source", CONTESTED))
        tx.update(LeaseRecord, *live, Where("address", judged.settled, "in"), source="agent")
    if judged.lies:
        _close(tx, uuid, judged.lies, now)


def _close(tx: Change, uuid: str, addresses: Iterable[int], now: datetime) -> None:
    live = (Where("workload", uuid), Where("end", None), Where("source", _SAID, "in"))
    tx.update(LeaseRecord, *live, Where("address", sorted(addresses), "in"), end=now)


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


def _others(view: View, addresses: Collection[int]) -> list[LeaseRecord]:
    """Every lease in force of these addresses, whose ever."""
    where = (Where("network", NETWORK), Where("address", addresses, "in"), Where("end", None))
    return view.find(LeaseRecord, *where) if addresses else []


def _recently_contested(view: View, uuids: Collection[str], now: datetime) -> dict[str, frozenset[int]]:
    """What each host contested within the hour, be it over or not."""
    mine = (Where("workload", uuids, "in"), Where("source", CONTESTED), Where("start", now - CONTESTING, ">"))
    found: dict[str, set[int]] = {}
    for lease in view.find(LeaseRecord, *mine):
        found.setdefault(lease.workload, set()).add(lease.address)
    return {uuid: frozenset(some) for uuid, some in found.items()}


def _quarantined(view: View, uuids: Iterable[str], now: datetime) -> set[str]:
    found = view.find(QuarantineRecord, Where("workload", list(uuids), "in"), Where("released_at", None))
    return {one.workload for one in found if one.until is None or one.until > now}
