"""The workloads of an estate as people see and change them: listed, labelled, held in a mode, retired.

INVARIANT: a selector that picks nobody is an error, and nobody named is nobody (law 3). What is changed is in the state
before the desired state follows it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import get_args

import msgspec

from ringfence.controller import audit
from ringfence.controller.access.access import Principal, check_labels
from ringfence.controller.desired.estate import read_workload
from ringfence.controller.desired.reconcile import Reconciler
from ringfence.controller.desired.rollout import is_rejected
from ringfence.controller.identity.joining import Revoked, unknown_workload
from ringfence.controller.identity.presence import Presence
from ringfence.controller.publishing import changes
from ringfence.controller.publishing.foreseeing import ENFORCED, Foreseen, digest_of, failsafe_views, same_plan
from ringfence.controller.publishing.relabelling import broken_tests, relabelled, world_after, world_in_modes
from ringfence.controller.publishing.versions import written
from ringfence.core.engine.prove import Proof
from ringfence.core.errors import FindingsError, InputError
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode, Workload
from ringfence.core.labels.selector import Selector, meant_by, parse_selector
from ringfence.core.net.address import format_address
from ringfence.core.policy.suggest import did_you_mean
from ringfence.core.world import World
from ringfence.ports.state import AgentRecord, Change, State, View
from ringfence.wire.api import (
    DiffView,
    HostState,
    LabelsPlanned,
    ModesPlanned,
    Page,
    ProofView,
    RefusedClaim,
    Relabel,
    SetMode,
    Turn,
    WorkloadView,
)
from ringfence.wire.messages import Heartbeat, Realised

_STATES = frozenset(get_args(HostState))
_MOST_TURNS = 1000


class Workloads:
    """The inventory in force, and its changes."""

    def __init__(
        self,
        state: State,
        reconciler: Reconciler,
        presence: Presence,
        *,
        clock: Callable[[], datetime],
        is_online: Callable[[str], bool],
        refresh: Callable[[Collection[str]], Awaitable[None]],
        world: Callable[[], World],
        foresee: Callable[[World, int, Mode | None], Foreseen],
        refused: Callable[[str], tuple[RefusedClaim, ...]] = lambda _: (),
    ) -> None:
        """`refresh`: follow what the state says of some workloads; `world`: what is in force now; `foresee`: what a
        world would do to the traffic of now and of so many days, everybody in one mode, or each in its own; `refused`:
        what a host claims and does not get."""
        self._foresee, self._refused = foresee, refused
        self._state, self._reconciler, self._presence = state, reconciler, presence
        self._clock, self._is_online, self._refresh, self._world = clock, is_online, refresh, world

    @property
    def inventory(self) -> Inventory:
        return self._reconciler.inputs.inventory

    # ---- looking ----------------------------------------------------------------------------------------------------

    async def page(
        self, selector: str = "", *, after: str = "", limit: int = 200, hosts_only: bool = False
    ) -> Page[WorkloadView]:
        """Workloads by name, those a selector picks. Raises InputError `bad-selector`."""
        wanted = parse(selector) if selector else None
        found = (
            w for w in self.inventory.workloads
            if w.name > after and (wanted is None or wanted.matches(w.labels))
            and (not hosts_only or w.has_agent)
        )  # fmt: skip
        some = heapq.nsmallest(limit + 1, found, key=lambda w: w.name)
        views = await self._state.read(lambda view: [self._view(w, view) for w in some[:limit]])
        return Page(tuple(views), some[limit - 1].name if len(some) > limit else "")

    async def get(self, name: str) -> WorkloadView:
        """By name or UUID. Raises InputError `unknown-workload`."""
        found = self.find(name)
        return await self._state.read(lambda view: self._view(found, view))

    def find(self, name: str) -> Workload:
        """Raises InputError `unknown-workload`."""
        found = self.inventory.find(name)
        if found is None:
            raise unknown_workload(name, did_you_mean(name, (w.name for w in self.inventory.workloads)))
        return found

    def pick(self, words: Iterable[str]) -> tuple[str, ...]:
        """Names, UUIDs and selectors -> UUIDs, each once. Raises InputError `unmatched`, `unknown-workload`,
        `bad-selector`."""
        picked: dict[str, None] = {}
        for word in words:
            picked |= dict.fromkeys(self._picked(word))
        if not picked:
            raise InputError("unmatched", "nobody is named", help="name workloads, or write a selector")
        return tuple(picked)

    def _picked(self, word: str) -> list[str]:
        found = self.inventory.find(word)
        if found is not None:
            return [found.uuid]
        if not any(sign in word for sign in "=!,( "):
            return [self.find(word).uuid]
        selector = parse(word)
        uuids = [w.uuid for w in self.inventory.workloads if selector.matches(w.labels)]
        if not uuids:
            raise InputError("unmatched", f"`{word}` picks nobody", help="use labels that workloads carry")
        return uuids

    def _view(self, workload: Workload, view: View) -> WorkloadView:
        heartbeat, realised, at = self._heard(workload.uuid, view)
        now = self._clock()
        disabled = heartbeat.disabled_until if heartbeat is not None else 0.0
        state = self._state_of(workload, realised)
        return WorkloadView(
            uuid=workload.uuid,
            name=workload.name,
            labels=workload.labels,
            kind=workload.kind,
            origin=workload.origin,
            mode=workload.mode,
            addresses=tuple(format_address(lease.address) for lease in workload.addresses),
            spiffe=workload.spiffe,
            state=state,
            problems=_problems(state, heartbeat),
            seen=at,
            policy_version=realised.policy_version if realised is not None else 0,
            digest=realised.digest if realised is not None else "",
            agent=heartbeat.version if heartbeat is not None else "",
            is_quarantined=any(q.workload == workload.uuid for q in self._reconciler.quarantines),
            disabled_until=datetime.fromtimestamp(disabled, UTC) if disabled > now.timestamp() else None,
            refused=self._refused(workload.uuid),
            forwards=heartbeat is not None and heartbeat.forwards,
        )

    def _heard(self, uuid: str, view: View) -> tuple[Heartbeat | None, Realised | None, datetime | None]:
        """What a host said last, since this start or before it."""
        seen = self._presence.seen.get(uuid)
        if seen is not None:
            return seen.heartbeat, seen.realised, datetime.fromtimestamp(seen.at, UTC)
        record = view.get(AgentRecord, uuid)
        return (*_said(record), record.seen) if record is not None else (None, None, None)

    def state_of(self, workload: Workload) -> HostState:
        """What was read back there of what it was told last, if anybody is heard there."""
        seen = self._presence.seen.get(workload.uuid)
        return self._state_of(workload, seen.realised if seen is not None else None)

    def _state_of(self, workload: Workload, realised: Realised | None) -> HostState:
        if not workload.has_agent:
            return "unmanaged"
        if realised is None or not self._is_online(workload.uuid):
            return "unreachable"
        assigned = self._reconciler.desired.assignments.get(workload.uuid)
        if assigned is not None and is_rejected(realised, assigned):
            return "reverted" if realised.is_reverted else "refused"
        said: str = realised.state
        if said == "realised" and assigned is not None and realised.assignment < assigned.revision:
            return "pending"
        return said if said in _STATES else "pending"  # type: ignore[return-value]

    # ---- changing ---------------------------------------------------------------------------------------------------

    def plan_labels(self, asked: Relabel, *, days: int = 7) -> LabelsPlanned:
        """What new labels would open, close and break. Slow: for a thread. Raises InputError as `pick`,
        `nothing-changed`."""
        world, labels = self._world(), self._becoming(asked)
        after = world_after(world, labels)
        diff, (proofs, broken) = relabelled(world, labels), broken_tests(world, after)
        foreseen, views = self._foresee(after, days, ENFORCED), tuple(map(proof_view, proofs))
        return LabelsPlanned(
            diff.opened,
            diff.closed,
            diff.boxes,
            diff.more,
            broken,
            views,
            foreseen.impact,
            foreseen.sessions,
            failsafe_views(world),
            self._digest(diff, labels),
            sum(self.inventory.by_uuid[uuid].labels != new for uuid, new in labels.items()),
        )

    def _becoming(self, asked: Relabel) -> dict[str, dict[str, str]]:
        """The labels that workloads would have, by UUID."""
        by_uuid = self.inventory.by_uuid
        return {uuid: _relabelled(by_uuid[uuid].labels, asked) for uuid in self.pick(asked.workloads)}

    def _digest(self, diff: DiffView, labels: Mapping[str, Mapping[str, str]]) -> str:
        """Another one as soon as anything else opens or closes, or other labels are replaced."""
        by_uuid = self.inventory.by_uuid
        return digest_of(diff, {uuid: (by_uuid[uuid].labels, new) for uuid, new in labels.items() if uuid in by_uuid})

    def _check_plan(self, shown: str, labels: Mapping[str, Mapping[str, str]]) -> None:
        """Raises InputError `plan-changed`."""
        same_plan(shown, self._digest(relabelled(self._world(), labels), labels))

    def _check_tests(self, labels: Mapping[str, Mapping[str, str]]) -> None:
        """Raises FindingsError: a test holds now and would not."""
        world = self._world()
        _, broken = broken_tests(world, world_after(world, labels))
        if broken:
            raise FindingsError(broken)

    async def relabel(self, asked: Relabel, *, by: Principal) -> int:
        """How many workloads changed; all or none. Raises as `changes.relabel`, and as `plan_labels`; FindingsError for
        tests that hold now and would not; InputError `labels-changed`, `plan-changed`, `no-reason`."""
        by.demand("label")
        audit.demand_reason(asked.why, "a change of labels")
        now, planned = self._clock(), self._becoming(asked)
        for uuid, labels in planned.items():
            by.demand_workload("label", self.inventory.by_uuid[uuid].labels, labels)
            check_labels(labels)
        if asked.plan:
            await asyncio.to_thread(self._check_plan, asked.plan, planned)
        if not asked.accept_failing:
            await asyncio.to_thread(self._check_tests, planned)

        def work(tx: Change) -> list[str]:
            out = []
            for uuid, labels in planned.items():
                known = read_workload(tx, uuid)
                if known is not None and _relabelled(known.labels, asked) != labels:
                    message = f"somebody changed the labels of `{known.name}` meanwhile"
                    raise InputError("labels-changed", message, help="look at the plan again")
                if changes.relabel(tx, uuid, labels, by=by, at=now, why=asked.why):
                    out.append(uuid)
            return out

        return await self._follow(await self._state.write(work))

    def plan_mode(self, asked: SetMode, *, days: int = 7) -> ModesPlanned:
        """What would stop, each host in its mode. Slow: for a thread. Raises as `set_mode`."""
        world, turned = self._world(), self._turned(asked)
        foreseen = self._foresee(world_in_modes(world, {w.uuid: mode for w, mode in turned}), days, None)
        turns = tuple(Turn(w.name, w.mode, mode) for w, mode in turned[:_MOST_TURNS])
        failsafe, digest = failsafe_views(world), _digest_of_turns(world, turned)
        return ModesPlanned(len(turned), foreseen.impact, foreseen.sessions, turns, failsafe, digest)

    def _turned(self, asked: SetMode) -> list[tuple[Workload, Mode]]:
        """Those whose mode would be another, with that mode, by name. Raises as `_held`."""
        by_uuid = self.inventory.by_uuid
        held = sorted((by_uuid[uuid] for uuid in self._held(asked)), key=lambda w: w.name)
        turned = ((w, _becoming(w.mode, asked)) for w in held)
        return [(w, mode) for w, mode in turned if mode != w.mode]

    def _held(self, asked: SetMode) -> list[str]:
        """Those asked for that run an agent, by UUID. Raises InputError as `pick`, `no-agent`."""
        uuids = [uuid for uuid in self.pick(asked.workloads) if self.inventory.by_uuid[uuid].has_agent]
        if not uuids:
            help_ = "pair hosts first: `ringfence agent invite`"
            raise InputError("no-agent", "none of these runs an agent: nothing would hold them to a mode", help=help_)
        return uuids

    async def set_mode(self, asked: SetMode, *, by: Principal) -> int:
        """How many workloads changed; all or none. Those without an agent are left out: nothing would hold them to it.
        Raises as `relabel`, InputError `no-agent`: there are no others."""
        by.demand("mode")
        audit.demand_reason(asked.why, "a change of mode")
        now, uuids = self._clock(), self._held(asked)
        if asked.plan:
            same_plan(asked.plan, _digest_of_turns(self._world(), self._turned(asked)))

        def work(tx: Change) -> list[str]:
            out = []
            for uuid in uuids:
                known = read_workload(tx, uuid)
                mode = _becoming(known.mode if known is not None else Mode(), asked)
                if changes.set_mode(tx, uuid, mode, by=by, at=now, why=asked.why):
                    out.append(uuid)
            return out

        return await self._follow(await self._state.write(work))

    async def retire(self, uuid: str, revoked: Revoked, *, why: str, by: Principal) -> None:
        """A workload is gone; its agent is refused from now on. Raises as `changes.retire`."""
        now = self._clock()
        await self._state.write(lambda tx: changes.retire(tx, uuid, by=by, at=now, why=why))
        await self._state.read(revoked.load)
        self._presence.seen.pop(uuid, None)
        await self._refresh([uuid])

    async def _follow(self, uuids: Collection[str]) -> int:
        await self._refresh(uuids)
        return len(uuids)


def _digest_of_turns(world: World, turned: Iterable[tuple[Workload, Mode]]) -> str:
    """Another one as soon as other hosts turn, from or to other modes, as other identities, or under other policies."""
    turns = [(w.uuid, w.labels, w.mode, mode) for w, mode in turned]
    return digest_of(DiffView(0, 0), turns, [written(policy) for policy in world.policies])


def _becoming(before: Mode, asked: SetMode) -> Mode:
    return Mode(asked.inbound or before.inbound, asked.outbound or before.outbound)


def _relabelled(labels: Mapping[str, str], asked: Relabel) -> dict[str, str]:
    """Raises InputError `nothing-changed`: no label was named."""
    if not asked.put and not asked.remove:
        help_ = "write KEY=VALUE, or KEY- to remove one"
        raise InputError("nothing-changed", "no label is to be put or removed", help=help_)
    return {key: value for key, value in {**labels, **asked.put}.items() if key not in asked.remove}


def parse(selector: str) -> Selector:
    """Raises InputError `bad-selector`."""
    try:
        return parse_selector(selector)
    except ValueError as error:
        meant = meant_by(selector)
        help_ = f"did you mean `{meant}`?" if meant else "write it like `app=shop,env=prod`"
        raise InputError("bad-selector", f"`{selector}` is no selector: {error}", help=help_) from error


def proof_view(proof: Proof) -> ProofView:
    return ProofView(proof.policy, proof.name, proof.outcome, proof.expect, proof.pairs, proof.message)


def _said(record: AgentRecord) -> tuple[Heartbeat | None, Realised | None]:
    try:
        return (
            msgspec.json.decode(record.heartbeat, type=Heartbeat) if record.heartbeat else None,
            msgspec.json.decode(record.realised, type=Realised) if record.realised else None,
        )
    except msgspec.DecodeError:
        return None, None


def _problems(state: HostState, heartbeat: Heartbeat | None) -> tuple[str, ...]:
    """Why a host is not as it was told. Of one that went back, what it has instead."""
    if heartbeat is None:
        return ()
    realised, mode = heartbeat.realised, heartbeat.mode
    if state != "reverted":
        return realised.problems
    modes = mode.inbound if mode.inbound == mode.outbound else f"{mode.inbound} in, {mode.outbound} out"
    return (f"it went back: version {realised.policy_version}, {modes}, is in force", *realised.problems)


def tally(states: Iterable[HostState]) -> Mapping[str, int]:
    """How many of each, zeros left out."""
    out: dict[str, int] = {}
    for state in states:
        out[state] = out.get(state, 0) + 1
    return out
