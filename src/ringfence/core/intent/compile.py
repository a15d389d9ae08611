"""Compile the intents of hosts from the engine's index, in the pieces they travel in.

INVARIANT: a cell's action and rule are what the engine answers for that class, service point and end, under
`enforce`. INVARIANT: span. An address is listed only where its verdicts differ from those its range, or an
unknown address, would get.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from ringfence.core.engine.engine import Engine
from ringfence.core.engine.rules import next_change
from ringfence.core.identity.workload import Workload
from ringfence.core.intent.isolate import isolations_of
from ringfence.core.intent.locals import Local, Locals
from ringfence.core.intent.membership import Change, Group, Kind, Membership
from ringfence.core.intent.model import Intent, Passage
from ringfence.core.intent.names import Networks
from ringfence.core.intent.pieces import Body, Isolation, Station, assemble
from ringfence.core.intent.plan import Plan, Shared
from ringfence.core.intent.refusals import refusals_of

__all__ = ["IntentCompiler", "Moved", "Networks"]
_SPARE = 64
"""So many plans beyond twice those in use are kept before the others are forgotten."""


class Moved(NamedTuple):
    """What followed from one host's change."""

    groups: dict[tuple[Networks, str], Change]
    """Per networks and key of group, the addresses that came and went."""
    bodies: frozenset[str] = frozenset()
    """Digests of the bodies that are others now: classes or groups came or went that they are about."""


class IntentCompiler:
    """Compiles the intents of all hosts of one engine; what hosts share is worked out once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._shared = Shared(engine)
        self._locals = Locals(engine)
        self._memberships: dict[Networks, Membership] = {}
        self._isolations: dict[Networks, tuple[Isolation, ...]] = {}
        self._plans: dict[Networks, dict[tuple[Local, ...], Plan]] = {}
        self._most_plans = _SPARE
        self._plan_of: dict[str, tuple[Workload, Plan]] = {}
        """By UUID; a host that changed is another value."""
        self._group_tables: dict[Networks, dict[str, Group]] = {}

    def compile(self, workload: Workload) -> Intent:
        """The intent of one controlled host."""
        networks, body = self.networks_of(workload), self.body(workload)
        members_ = {key: self.group(networks, key) for key in body.groups}
        return assemble(self.station(workload, body), body, members_, self.isolations(networks))

    # ---- the pieces ---------------------------------------------------------------------------------------------

    def networks_of(self, workload: Workload) -> Networks:
        """The networks a host is in: what an address stands for depends on them."""
        live = workload.live_addresses(self.engine.world.at)
        return frozenset(lease.network for lease in live) or frozenset(("main",))

    def station(self, workload: Workload, body: Body) -> Station:
        """What is the host's own."""
        world = self.engine.world
        plan = self._plan(workload)
        return Station(
            workload=workload.uuid,
            name=workload.name,
            mode=world.as_mode or workload.mode,
            own=tuple(sorted({lease.address for lease in workload.live_addresses(world.at)})),
            body=plan.digest if body is plan.body else body.digest,
            failsafe=self._failsafe,
            valid_until=self.valid_until,
            refusals=refusals_of(self.engine, workload),
        )

    def body(self, workload: Workload) -> Body:
        """What each class may do there: one object for all hosts that are judged alike."""
        return self._plan(workload).body

    def digest(self, workload: Workload) -> str:
        """The digest of its body, worked out once for all hosts that are judged alike."""
        return self._plan(workload).digest

    def _plan(self, workload: Workload) -> Plan:
        known = self._plan_of.get(workload.uuid)
        if known is None or known[0] is not workload:
            known = self._plan_of[workload.uuid] = (workload, self._planned(workload))
        return known[1]

    def _planned(self, workload: Workload) -> Plan:
        networks, locals_ = self.networks_of(workload), self._locals.of(workload)
        plans = self._plans.setdefault(networks, {})
        plan = plans.get(locals_)
        if plan is None:
            self._groups(networks)
            plan = plans[locals_] = Plan(self._shared, networks, locals_)
            for group in self._membership(networks).groups_about(plan.touched):
                if plan.is_about(kind := Kind(group.seen, group.fallback)):
                    plan.add(kind)
        return plan

    @property
    def tables(self) -> Mapping[Networks, Mapping[str, Group]]:
        """Per networks that a host compiled so far is in, every group by key."""
        return self._group_tables

    def group(self, networks: Networks, key: str) -> tuple[int, ...]:
        """The addresses of a group, sorted, as the hosts of some networks know them."""
        return self._groups(networks)[key].addresses

    def isolations(self, networks: Networks) -> tuple[Isolation, ...]:
        """Every live quarantine, resolved, as the hosts of some networks need it."""
        if networks not in self._isolations:
            world = self.engine.world
            self._isolations[networks] = isolations_of(world.quarantines, world.inventory, world.at, networks)
        return self._isolations[networks]

    # ---- following a change -------------------------------------------------------------------------------------

    def move(self, before: Workload | None, after: Workload | None) -> Moved:
        """Follow one host that came, changed or went, once the engine has. For a process, compile anew."""
        changes: dict[tuple[Networks, str], Change] = {}
        turned: dict[Networks, tuple[list[Kind], list[Kind]]] = {}
        for networks, membership in self._memberships.items():
            table = self._groups(networks)
            came, went = turned[networks] = ([], [])
            for kind, change in membership.move(before, after).items():
                key = self._shared.names.key(networks, kind)
                changes[networks, key] = change
                group = membership.group(kind)
                if group is None:
                    table.pop(key, None)
                    went.append(kind)
                    continue
                if key not in table:
                    came.append(kind)
                table[key] = group
        if before is not None:
            self._plan_of.pop(before.uuid, None)
        self._isolations.clear()
        self._follow_leases(before, after)
        bodies = self._turn(turned)
        self._forget_unused()
        return Moved(changes, frozenset(bodies))

    def _turn(self, turned: Mapping[Networks, tuple[list[Kind], list[Kind]]]) -> set[str]:
        """Groups came and went: the plans about them have another body, whose digests were these."""
        if not any(came or went for came, went in turned.values()):
            return set()
        self._shared.follow([kind for _, went in turned.values() for kind in went])
        out: set[str] = set()
        for networks, (came, went) in turned.items():
            for plan in self._plans.get(networks, {}).values():
                if changed := plan.follow(came, went):
                    out.add(changed)
        return out

    def _forget_unused(self) -> None:
        """Identities that nobody has any more leave nothing behind for ever."""
        if sum(map(len, self._plans.values())) <= self._most_plans:
            return
        used: dict[Networks, set[tuple[Local, ...]]] = {}
        for workload in self.engine.world.inventory.workloads:
            if workload.is_host:
                used.setdefault(self.networks_of(workload), set()).add(self._locals.of(workload))
        self._plans = {
            networks: {key: plan for key, plan in plans.items() if key in used.get(networks, ())}
            for networks, plans in self._plans.items()
        }
        kept = [plan for plans in self._plans.values() for plan in plans.values()]
        self._locals.keep({plan.locals for plan in kept})
        self._shared.keep({table for plan in kept for table in plan.tables})
        self._most_plans = 2 * len(kept) + _SPARE

    # ---- who is who ---------------------------------------------------------------------------------------------

    def _membership(self, networks: Networks) -> Membership:
        if networks not in self._memberships:
            self._memberships[networks] = Membership(self.engine, networks)
        return self._memberships[networks]

    def _groups(self, networks: Networks) -> dict[str, Group]:
        if networks not in self._group_tables:
            key, groups = self._shared.names.key, self._membership(networks).groups
            self._group_tables[networks] = {key(networks, Kind(g.seen, g.fallback)): g for g in groups}
        return self._group_tables[networks]

    # ---- the rest of a station ----------------------------------------------------------------------------------

    @cached_property
    def _failsafe(self) -> tuple[Passage, ...]:
        return tuple(Passage(f.direction, f.remote, f.services) for f in self.engine.world.failsafe)

    @property
    def valid_until(self) -> datetime | None:
        """When a date, window, answer, quarantine or lease changes the answer next."""
        at = self.engine.world.at
        times = (self._turns_of_inputs, *self._turns_of_leases.values())
        return min((time for time in times if time is not None and time > at), default=None)

    @cached_property
    def _turns_of_inputs(self) -> datetime | None:
        """Whatever turns but leases."""
        world = self.engine.world
        times: list[datetime | None] = [next_change(r.rule.conditions, world.at) for r in self.engine.rules]
        times += [q.until for q in world.quarantines]
        times += [t for answers in world.names.values() for a in answers for t in (a.start, a.end)]
        return min((t for t in times if t is not None and t > world.at), default=None)

    @cached_property
    def _turns_of_leases(self) -> dict[str, datetime]:
        """Per workload that has such a lease, when one begins or ends next."""
        workloads = self.engine.world.inventory.workloads
        return {w.uuid: turn for w in workloads if (turn := self._next_lease(w)) is not None}

    def _next_lease(self, workload: Workload) -> datetime | None:
        times = (time for lease in workload.addresses for time in (lease.start, lease.end))
        return min((time for time in times if time is not None and time > self.engine.world.at), default=None)

    def _follow_leases(self, before: Workload | None, after: Workload | None) -> None:
        if "_turns_of_leases" not in self.__dict__:
            return
        if before is not None:
            self._turns_of_leases.pop(before.uuid, None)
        if after is not None and (turn := self._next_lease(after)) is not None:
            self._turns_of_leases[after.uuid] = turn
