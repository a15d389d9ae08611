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
from ringfence.wire.messages import Realised

Stage = Literal["canary", "spreading", "done", "stopped"]
SOAK = timedelta(seconds=20)
"""How long every canary must have been well before the rest follow."""
_URGENCY = ("reverted", "refused", "trial", "pending", "offline")
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

    @property
    def confirmed(self) -> int:
    first: tuple[Standing, ...] = ()
    """Those hosts, as they stand."""
    well_since: datetime | None = None
    """When all of them were well, while they are at it; none: they are not yet."""
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


def standing(
    host: Workload, version: int, realised: Realised | None, *, is_online: bool, has_version: bool
) -> Standing:
    """Where a host is, from what it said last. `has_version`: whether it was told this version."""
    told = (host.uuid, host.name)
    if realised is None or not is_online:
        return Standing(*told, "offline", "not heard lately" if realised is not None else "never heard")
    if not has_version:
        return Standing(*told, "pending", "its turn has not come")
    if realised.is_reverted and realised.policy_version != version:
        return Standing(*told, "reverted", "; ".join(realised.problems) or "its trial failed")
    if realised.state == "refused" and realised.policy_version != version:
        return Standing(*told, "refused", "; ".join(realised.problems))
    if realised.policy_version != version:
        return Standing(*told, "pending", "; ".join(realised.problems) or "told, not realised yet")
    if realised.on_trial:
        return Standing(*told, "trial", "waits to be confirmed")
    if realised.state not in ("realised", "refused"):
        return Standing(*told, "pending", "; ".join(realised.problems) or realised.state)
    return Standing(*told, "confirmed", "; ".join(realised.problems))


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
        return "stopped", f"{failed[0].name}: {failed[0].state}: {failed[0].why}"
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
