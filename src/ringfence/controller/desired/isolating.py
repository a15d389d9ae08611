"""Quarantines as the hosts of each set of networks need them: worked out from the inventory, apart from all policy.

INVARIANT: nothing is compiled here, so isolating a workload waits for nothing. A revision stands for one content.
INVARIANT: after a restore that nobody confirmed, hosts keep what they have: only what somebody began or ended since is
told, to hold beside it.

Following costs what changed since the last time. It may run in any one thread at a time, and `of` in all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from ringfence.controller.desired.desired import Mark
from ringfence.controller.desired.restored import Since
from ringfence.core.identity.inventory import Inventory
from ringfence.core.intent.isolate import Resolver
from ringfence.core.intent.pieces import Isolation
from ringfence.core.world import Quarantine
from ringfence.wire.messages import Isolations

Networks = frozenset[str]


class Isolating:
    """The quarantines in force, and the revision of what each set of networks was told."""

    def __init__(self, revision: int = 0, remembered: Mapping[str, Mark] | None = None) -> None:
        """`revision`: one that was never used before; `remembered`: by networks, what was told before a restart."""
        self.revision = revision
        self._told: dict[Networks, Isolations] = {}
        self._resolver: Resolver | None = None
        self._before = dict(remembered or {})
        self.since: Since | None = None
        """After a restore that nobody confirmed, what was done since: hosts may hold more than what is known here."""

    @property
    def is_withheld(self) -> bool:
        """Nobody is told anything."""
        return self.since == Since()

    def of(self, networks: Networks) -> Isolations | None:
        """What the hosts of these networks were told last."""
        return None if self.is_withheld else self._told.get(networks)

    def anew(self, revision: int) -> tuple[Isolations, ...]:
        """All that is told, under a revision of its own that nobody was told yet."""
        self.revision = max(self.revision, revision) + 1
        self._told = {n: msgspec.structs.replace(told, revision=self.revision) for n, told in self._told.items()}
        return () if self.is_withheld else tuple(self._told.values())

    def follow(
        self,
        quarantines: tuple[Quarantine, ...],
        inventory: Inventory,
        at: datetime,
        everywhere: Iterable[Networks],
    ) -> tuple[Isolations, ...]:
        """What is news: every set of networks whose hosts need other quarantines than they were told."""
        if self._resolver is None:
            self._resolver = Resolver(quarantines, inventory, at)
        else:
            self._resolver.follow(quarantines, inventory, at)
        news: list[Isolations] = []
        for networks in sorted(set(everywhere), key=sorted):
            told = self._tell(self._resolver.isolations(networks), networks)
            known = self._told.get(networks)
            if known is not None and msgspec.structs.replace(known, revision=told.revision) == told:
                continue
            before = self._before.pop(_name(networks), None)
            if before is not None and before.digest == _digest(told):
                self._told[networks] = msgspec.structs.replace(told, revision=before.revision)
                continue
            self._told[networks] = told
            news.append(told)
        self.revision += bool(news)
        return () if self.is_withheld else tuple(news)

    def _tell(self, isolations: tuple[Isolation, ...], networks: Networks) -> Isolations:
        told = Isolations(self.revision + 1, tuple(sorted(networks)), isolations)
        if self.since is None:
            return told
        begun, ended = self.since
        some = tuple(one for one in isolations if one.workload in begun)
        return msgspec.structs.replace(told, isolations=some, adds=True, ended=tuple(sorted(ended)))

    def remember(self) -> dict[str, Mark]:
        """What to give the next one after a restart."""
        return {_name(networks): Mark(told.revision, _digest(told)) for networks, told in tuple(self._told.items())}

    def turns_at(self, quarantines: Iterable[Quarantine], at: datetime) -> datetime | None:
        """When the next quarantine ends."""
        return min((q.until for q in quarantines if q.until is not None and q.until > at), default=None)


def _name(networks: Networks) -> str:
    return ",".join(sorted(networks))


def _digest(told: Isolations) -> str:
    content = msgspec.json.encode(msgspec.structs.replace(told, revision=0), order="deterministic")
    return hashlib.sha256(content).hexdigest()[:32]
