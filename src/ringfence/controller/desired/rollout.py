"""How a published version reaches the hosts: a canary first, each on trial, then everybody; stopped when one fails.

    canary ──all of them confirmed──> spreading ──everybody confirmed──> done
       └───────── a host reverted or refused ─────────> stopped: every host has the version before

INVARIANT: a host counts as having a version only when it said that it read it back, off trial. Hosts nobody hears are
named as laggards; they hold up nothing but the word "done".
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from ringfence.core.errors import InputError
from ringfence.core.identity.workload import Workload
from ringfence.core.labels.selector import Selector
from ringfence.wire.messages import Assignment, Realised

Stage = Literal["canary", "spreading", "done", "stopped"]
SOAK = timedelta(seconds=20)
"""How long every canary must have been well before the rest follow."""
_URGENCY = ("reverted", "refused", "trial", "pending", "offline")
FAILED = "its trial failed"
MOST_NAMED = 5
"""Hosts whose failure is told in words."""
MOST_FAILED = 0.02
"""Of the hosts, beyond which a rollout stops while it spreads; one is always too many for a canary."""


class Standing(msgspec.Struct, frozen=True):
    """One host in a rollout."""

    uuid: str
    name: str
    state: Literal["confirmed", "trial", "pending", "refused", "reverted", "offline"]
    why: str = ""


class Progress(msgspec.Struct, frozen=True):
    """A rollout as it stands."""

    version: int
    stage: Stage
    hosts: tuple[Standing, ...]
    problem: str = ""
    canary: int = 0
    """How many hosts were to go first; 0: all at once."""
    first: tuple[Standing, ...] = ()
    """Those hosts, as they stand."""
    well_since: datetime | None = None
    """When all of them were well, while they are at it; none: they are not yet."""

    @property
    def confirmed(self) -> int:
        return sum(one.state == "confirmed" for one in self.hosts)

    @property
    def laggards(self) -> tuple[Standing, ...]:
        """Those that call for somebody first."""
        late = (one for one in self.hosts if one.state != "confirmed")
        return tuple(sorted(late, key=lambda one: (_URGENCY.index(one.state), one.name)))


def choose(hosts: Iterable[Workload], *, percent: float = 0.0, selector: Selector | None = None) -> tuple[str, ...]:
    """The canary: a share of the hosts spread over identities, or those a selector picks.

    Raises InputError `unmatched`, `bad-canary`.
    """
    if selector is not None:
        picked = tuple(sorted(w.uuid for w in hosts if selector.matches(w.labels)))
        if not picked:
            raise InputError("unmatched", f"the canary `{selector}` picks no host", help="name labels that hosts carry")
        return picked
    if not 0 <= percent <= 100:
        raise InputError("bad-canary", f"`{percent:g}` is no share of the hosts", help="give 1 to 100 percent")
    by_identity: dict[frozenset[tuple[str, str]], list[str]] = {}
    for host in hosts:
        by_identity.setdefault(frozenset(host.labels.items()), []).append(host.uuid)
    rounds = [sorted(uuids) for uuids in by_identity.values()]
    order = [uuids[n] for n in range(max(map(len, rounds), default=0)) for uuids in rounds if n < len(uuids)]
    return tuple(order[: math.ceil(len(order) * percent / 100)])


def is_rejected(realised: Realised, told: Assignment) -> bool:
    """Whether a host does not enforce what it was told last: that failed its trial, or was refused."""
    if realised.rejected:
        return realised.rejected == told.revision
    return (realised.is_reverted or realised.state == "refused") and realised.policy_version != told.policy_version


def standing(
    host: Workload, version: int, realised: Realised | None, told: Assignment | None, *, stage: Stage, is_online: bool
) -> Standing:
    """Where a host is, from what it said last, and from what it was `told` last."""
    who = (host.uuid, host.name)
    if realised is None or not is_online:
        return Standing(*who, "offline", "not heard lately" if realised is not None else "never heard")
    problems = "; ".join(realised.problems)
    if told is not None and is_rejected(realised, told):
        if realised.is_reverted:
            return Standing(*who, "reverted", problems or FAILED)
        return Standing(*who, "refused", problems)
    if told is None or told.policy_version != version:
        kept = f"the rollout stopped: it has version {realised.policy_version}"
        return Standing(*who, "pending", kept if stage == "stopped" else "its turn has not come")
    if realised.policy_version != version:
        return Standing(*who, "pending", problems or "told, not realised yet")
    if realised.on_trial:
        return Standing(*who, "trial", "waits to be confirmed")
    if realised.state not in ("realised", "refused"):
        return Standing(*who, "pending", problems or realised.state)
    return Standing(*who, "confirmed", problems)


def next_stage(
    stage: Stage, standings: Collection[Standing], canary: Collection[str], well_since: datetime | None, now: datetime
) -> tuple[Stage, str]:
    """(what the rollout is now, why it stopped). `well_since`: when every canary was confirmed first."""
    if stage not in ("canary", "spreading"):
        return stage, ""
    chosen = [one for one in standings if one.uuid in canary] if stage == "canary" else list(standings)
    failed = [one for one in chosen if one.state in ("refused", "reverted")]
    allowed = 0 if stage == "canary" else int(len(chosen) * MOST_FAILED)
    if len(failed) > allowed:
        more = f"; and {len(failed) - MOST_NAMED} more" if len(failed) > MOST_NAMED else ""
        return "stopped", "; ".join(f"{one.name}: {one.state}: {one.why}" for one in failed[:MOST_NAMED]) + more
    heard = [one for one in chosen if one.state != "offline"]
    if any(one.state not in ("confirmed", "refused", "reverted") for one in heard):
        return stage, ""
    if stage == "spreading":
        return ("done", "") if heard or not chosen else (stage, "")
    return ("spreading", "") if heard and well_since is not None and now - well_since >= SOAK else (stage, "")


def ahead_in(stage: str, canary: Collection[str], hosts: Collection[str]) -> frozenset[str]:
    """The hosts that are told the new version at a stage."""
    if stage == "canary":
        return frozenset(canary) & frozenset(hosts)
    return frozenset(hosts) if stage == "spreading" else frozenset()
