"""The pieces an intent travels in, each changing on its own: a host gets the ones it needs and joins them.

    Station     one host: its mode, its own addresses, the body it runs. Changes when the host does
    Body        which class may do what, content-addressed: hosts of one identity share it. Changes with policy
    Group       which addresses are a class. Changes with membership: a joining workload is one address of one group
    Isolation   one quarantine with everything resolved, the same for every host

INVARIANT: `assemble` of the pieces of a host is the intent compiled for it (proven in tests/core). It decides nothing:
that is why an agent may do it, offline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from functools import reduce

import msgspec

from ringfence.core.errors import Finding
from ringfence.core.identity.workload import Direction, Mode
from ringfence.core.intent.model import Intent, Part, Passage, PeerClass
from ringfence.core.net.intervals import EMPTY, IntervalSet, union


class ClassPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A class a host must tell apart, and where its addresses are listed."""

    id: int
    text: str
    groups: tuple[str, ...] = ()
    """Keys of groups."""
    ranges: tuple[tuple[int, int], ...] = ()


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What each class may do on the hosts that run this body."""

    classes: tuple[ClassPlan, ...] = ()
    """By id."""
    parts: tuple[Part, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hex: the name the body goes by."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()

    @property
    def groups(self) -> frozenset[str]:
        """The groups a host that runs this must know (its span)."""
        return frozenset(key for class_ in self.classes for key in class_.groups)


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Addresses that are one class to every host of some networks."""

    key: str
    addresses: tuple[int, ...]
    """Sorted."""


class IsolationException(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What passes: with the remote addresses as the isolated host sees it, with the peers (UUIDs) as they see it."""

    direction: Direction
    """As seen from the isolated workload."""
    remote: IntervalSet
    services: IntervalSet
    peers: tuple[str, ...] = ()
    """Those that are picked at every one of their addresses."""
    partly: tuple[tuple[str, IntervalSet], ...] = ()
    """Those that are picked at some of their own addresses, with these."""


class Isolation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A quarantine as every host needs it."""

    workload: str
    """UUID of the isolated workload."""
    addresses: tuple[int, ...] = ()
    """Its addresses, as far as they are its own in the networks this is for."""
    exceptions: tuple[IsolationException, ...] = ()
    until: datetime | None = None
    clear: IntervalSet = IntervalSet()
    """Those of the addresses that nobody else holds."""
    shared: IntervalSet = IntervalSet()
    """Those that others hold too, all of whom are isolated: there passes what each of them excepts."""


class Station(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is one host's own."""

    workload: str
    """UUID."""
    name: str
    mode: Mode
    own: tuple[int, ...] = ()
    """Its live addresses, sorted."""
    body: str = ""
    """Digest of the body it runs."""
    failsafe: tuple[Passage, ...] = ()
    valid_until: datetime | None = None
    refusals: tuple[Finding, ...] = ()
    revision: int = 0


def assemble(
    station: Station, body: Body, groups: Mapping[str, Collection[int]], isolations: Iterable[Isolation]
) -> Intent:
    """The intent of one host. Raises KeyError for a group of the body that is missing: it would be a wider intent or a
    narrower one, nobody could say which."""
    peers = tuple(_peers(body.classes, groups, frozenset(station.own)))
    isolations = tuple(isolations)
    mine = [one for one in isolations if one.workload == station.workload]
    others = [one for one in isolations if one.workload != station.workload]
    return Intent(
        workload=station.workload,
        name=station.name,
        mode=station.mode,
        own=station.own,
        peers=peers,
        parts=body.parts,
        failsafe=station.failsafe,
        is_quarantined=bool(mine),
        isolated=tuple(sorted({address for one in others for address in one.addresses})),
        quarantine_passages=_sorted(set(_passages(station.workload, mine, others))),
        valid_until=station.valid_until,
        revision=station.revision,
        refusals=station.refusals,
    )


def _peers(
    classes: Iterable[ClassPlan], groups: Mapping[str, Collection[int]], own: frozenset[int]
) -> Iterator[PeerClass]:
    """A class that nobody is in, or the host alone, is one too: whoever joins it is one address more."""
    for class_ in classes:
        addresses = {address for key in class_.groups for address in groups[key]} - own
        yield PeerClass(class_.id, class_.text, tuple(sorted(addresses)), class_.ranges)


def _passages(workload: str, mine: list[Isolation], others: list[Isolation]) -> Iterator[Passage]:
    """What passes: this host's exceptions, an isolated peer's exceptions, and where both are isolated, what both
    except. An address of several isolated workloads passes what each of them excepts; one that also stands for a
    workload that is not isolated is judged by that one too, so it passes an isolated host's exceptions alone.
    """
    whole = union((*(one.clear for one in others), *(one.shared for one in others)))
    for addresses, excepted in _excepted(workload, others):
        for direction, services, local in excepted:
            if not mine and (free := addresses & whole):
                yield Passage(direction, free, services, local)
            for exception in (x for one in mine for x in one.exceptions):
                both, common = exception.remote & addresses, exception.services & services
                if exception.direction == direction and both and common:
                    yield Passage(direction, both, common, local)
    everyone = union(IntervalSet.of_values(one.addresses) for one in others)
    for exception in (x for one in mine for x in one.exceptions):
        if free := exception.remote - everyone:
            yield Passage(exception.direction, free, exception.services)


def _sorted(passages: Iterable[Passage]) -> tuple[Passage, ...]:
    return tuple(sorted(passages, key=lambda p: (p.direction, p.remote.ranges, p.services.ranges, p.local.ranges)))


def _excepted(workload: str, isolations: list[Isolation]) -> Iterator[tuple[IntervalSet, list[_Excepted]]]:
    """The isolated addresses by who holds them, with what all of these except for a peer, as it sees it."""
    theirs: dict[str, list[_Excepted]] = {}
    holders: dict[int, set[str]] = {}
    for one in isolations:
        theirs.setdefault(one.workload, []).extend(
            (_OPPOSITE[x.direction], x.services, here) for x in one.exceptions for here in _places(x, workload)
        )
        for address in one.addresses:
            holders.setdefault(address, set()).add(one.workload)
    alike: dict[frozenset[str], list[int]] = {}
    for address, here in holders.items():
        alike.setdefault(frozenset(here), []).append(address)
    for all_, addresses in alike.items():
        first, *rest = (theirs[holder] for holder in all_)
        yield IntervalSet.of_values(addresses), reduce(_common, rest, first)


def _places(exception: IsolationException, workload: str) -> Iterator[IntervalSet]:
    """At which of a host's own addresses it is one of the peers: nowhere, at some, or (empty) at all."""
    if workload in exception.peers:
        yield EMPTY
    yield from (here for uuid, here in exception.partly if uuid == workload)


def _common(some: list[_Excepted], others: list[_Excepted]) -> list[_Excepted]:
    return [
        (direction, services, here)
        for direction, mine, local in some
        for other, theirs, there in others
        if other == direction and (services := mine & theirs) and (here := _both(local, there)) is not None
    ]


def _both(some: IntervalSet, others: IntervalSet) -> IntervalSet | None:
    """The addresses in both, where empty means all; None: there are none."""
    if not some or not others:
        return some or others
    return some & others or None


_Excepted = tuple[Direction, IntervalSet, IntervalSet]
"""Direction, services, and at which own addresses (empty: all)."""
_OPPOSITE: dict[Direction, Direction] = {"in": "out", "out": "in"}
