"""A draft planned and applied: what it opens and closes, what would break, and how it reaches the hosts.

INVARIANT: whatever can be wrong with how a version is to be rolled out is found before the version is published. If the
controller dies between the two, the version is in force everywhere at the next start: published is published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

import msgspec

from ringfence.controller import audit
from ringfence.controller.access.access import Principal
from ringfence.controller.desired.estate import settings_in
from ringfence.controller.desired.inputs import Manner
from ringfence.controller.desired.reconcile import Reconciler
from ringfence.controller.desired.rollout import SOAK, Progress, choose
from ringfence.controller.publishing.foreseeing import ENFORCED, Foreseen, digest_of, failsafe_views, foresee, same_plan
from ringfence.controller.publishing.rollouts import Canary, Rollouts
from ringfence.controller.publishing.versions import Draft, Published, Versions
from ringfence.controller.publishing.workloads import parse, proof_view
from ringfence.controller.thinking import think
from ringfence.core.engine.diff import Box, Diff
from ringfence.core.errors import InputError
from ringfence.core.identity.workload import Mode
from ringfence.core.world import World
from ringfence.ports.flow_store import FlowStore
from ringfence.ports.state import PolicyVersion, Proposal
from ringfence.wire import api
from ringfence.wire.messages import Trial

MOST_BOXES = 500
MOST_LAGGARDS = 1000
FEW_LAGGARDS = 20
"""Where a rollout is a part of what is asked for every few seconds."""


class Applying:
    """From a draft to the hosts."""

    def __init__(
        self,
        versions: Versions,
        rollouts: Rollouts,
        reconciler: Reconciler,
        flows: FlowStore,
        world_of: Callable[[str], World],
        world: Callable[[], World],
        clock: Callable[[], datetime],
    ) -> None:
        """`world_of`: the world that settings as text make; `world`: what is in force now."""
        self._versions, self._rollouts, self._reconciler = versions, rollouts, reconciler
        self._flows, self._world_of, self._world, self._clock = flows, world_of, world, clock
        self.on_published: Callable[[PolicyVersion], Awaitable[None]] = _nobody

    # ---- plan -------------------------------------------------------------------------------------------------------

    async def plan(self, asked: api.Plan, *, by: Principal) -> api.Planned:
        """What a draft would do; nothing is changed. Raises FindingsError, InputError as publishing does."""
        by.demand("read")
        draft = await think(draft_of, asked.draft)
        judged = await self._versions.judge(draft)
        opened = await self._versions.preview(draft)
        files = await self._versions.changes(draft)
        running = await self._versions.running()
        world = await think(self._world_of, draft.settings)
        world = msgspec.structs.replace(world, policies=judged.policies)
        foreseen = await think(self.foresee, world, asked.days)
        shown = diff_view(opened)
        return api.Planned(
            base=draft.base,
            diff=shown,
            findings=judged.findings,
            proofs=tuple(map(proof_view, judged.proofs)),
            refusals=judged.refusals,
            impact=foreseen.impact,
            hosts=len(self._rollouts.hosts),
            settings_changed=draft.settings != (running.settings if running else ""),
            against=running.number if running else 0,
            sessions=foreseen.sessions,
            failsafe=failsafe_views(world),
            digest=digest_of(shown),
            files=files,
        )

    def foresee(self, world: World, days: int, as_mode: Mode | None = ENFORCED) -> Foreseen:
        """What a world would do to the traffic of now and of so many days, as `foreseeing.foresee`. For a thread."""
        return foresee(self._flows, self._world(), world, days=days, now=self._clock(), as_mode=as_mode)

    # ---- apply ------------------------------------------------------------------------------------------------------

    async def apply(self, asked: api.Apply, *, by: Principal) -> api.Applied:
        """Publish a draft and begin to roll it out. Raises as `Versions.publish` and `Rollouts.begin`, and InputError
        `plan-changed`, `no-reason`."""
        by.demand("rollout")
        audit.demand_reason(asked.draft.note, "a new version of the policies")
        manner, canary = self._manner(asked.how), self._canary(asked.how)
        draft = await think(draft_of, asked.draft)
        if asked.plan:
            same_plan(asked.plan, digest_of(diff_view(await self._versions.preview(draft))))
        published = await self._versions.publish(draft, by=by, accept_refused=asked.how.accept_refused)
        return await self._roll_out(published, manner, canary, by)

    async def rollback(self, asked: api.Rollback, *, by: Principal) -> api.Applied:
        """What an old version says, as a new one. Raises as `Versions.rollback` and `Rollouts.begin`, and InputError
        `plan-changed`, `no-reason`."""
        by.demand("rollout")
        audit.demand_reason(asked.note, "going back")
        manner, canary = self._manner(asked.how), self._canary(asked.how)
        if asked.plan:
            old = await self._versions.get(asked.to)
            shown = await self._versions.preview(Draft(old.files, asked.base, old.settings))
            same_plan(asked.plan, digest_of(diff_view(shown)))
        published = await self._versions.rollback(
            asked.to, by=by, base=asked.base, note=asked.note, accept_refused=asked.how.accept_refused
        )
        return await self._roll_out(published, manner, canary, by)

    async def approve(self, id_: str, asked: api.Approve, *, by: Principal) -> api.Applied:
        """Publish what somebody else proposed, and begin to roll it out. Raises as `Versions.approve`, and InputError
        `plan-changed`."""
        by.demand("rollout")
        by.demand("approve")
        manner, canary = self._manner(asked.how), self._canary(asked.how)
        proposal = await self._versions.proposal(id_)
        if proposal.state == "pending" and proposal.actor != by.name:
            shown = await self._versions.preview(Draft(proposal.files, proposal.base or 0, proposal.settings))
            same_plan(asked.plan, digest_of(diff_view(shown)))
        published = await self._versions.approve(id_, by=by, accept_refused=asked.how.accept_refused)
        return await self._roll_out(published, manner, canary, by)

    async def _roll_out(self, published: Published, manner: Manner, canary: Canary, by: Principal) -> api.Applied:
        await self.on_published(published.version)
        try:
            await self._rollouts.begin(published.version, manner, canary, by=by)
        except BaseException:
            await self._rollouts.load()  # what is published is followed, whatever became of its rollout
            raise
        rollout = rollout_view(await self._rollouts.progress())
        proofs = tuple(map(proof_view, published.proofs))
        return api.Applied(version_view(published.version), published.findings, proofs, rollout)

    def _manner(self, how: api.How) -> Manner:
        trial = Trial(how.trial_s, how.probes) if how.trial_s is not None else None
        return Manner(how.live, how.grace_s, trial)

    def _canary(self, how: api.How) -> Canary:
        """Raises InputError `bad-selector`, `unmatched`, `bad-canary`."""
        canary = Canary(how.canary_percent, parse(how.canary) if how.canary else None)
        if canary.selector is not None or canary.percent:
            choose(self._rollouts.hosts, percent=canary.percent, selector=canary.selector)
        return canary

    # ---- looking ----------------------------------------------------------------------------------------------------

    async def progress(self) -> api.RolloutView:
        return rollout_view(await self._rollouts.progress(), most=MOST_LAGGARDS)


async def _nobody(_: PolicyVersion) -> None:
    """Nobody is told."""


def draft_of(asked: api.Draft) -> Draft:
    """Slow: for a thread. Raises FindingsError: its settings cannot be meant."""
    settings_in(asked.settings)
    if not asked.files:
        raise InputError(
            "no-policies", "there is no policy to publish", help="write a policy, were it one without rules"
        )
    return Draft(asked.files, asked.base, asked.settings, asked.note)


def diff_view(found: Diff) -> api.DiffView:
    boxes = tuple(map(_box, found.boxes[:MOST_BOXES]))
    return api.DiffView(found.opened, found.closed, boxes, len(found.boxes) - len(boxes))


def _box(box: Box) -> api.BoxView:
    shown = box.witness
    verdict = shown.verdict
    example = api.Example(shown.source, shown.destination, shown.service, verdict.verdict, verdict.reason, verdict.rule)
    return api.BoxView(box.change, box.sources, box.destinations, box.services, box.workload_pairs, example, box.when)


def version_view(version: PolicyVersion) -> api.VersionView:
    return api.VersionView(
        version.number, version.at, version.actor, version.note, version.digest, tuple(sorted(version.files)),
        version.parent,
    )  # fmt: skip


def proposal_view(one: Proposal) -> api.ProposalView:
    return api.ProposalView(
        one.id, one.at, one.actor, one.note, one.state, one.base, tuple(sorted(one.files)), one.decided_by, one.version
    )


def rollout_view(progress: Progress, *, most: int = FEW_LAGGARDS) -> api.RolloutView:
    late = progress.laggards
    laggards: Iterable[api.StandingView]
    laggards = (api.StandingView(h.uuid, h.name, h.state, h.why) for h in late[:most])
    return api.RolloutView(
        progress.version,
        progress.stage,
        progress.problem,
        len(progress.hosts),
        progress.confirmed,
        tuple(laggards),
        progress.canary,
        max(0, len(late) - most),
        dict(Counter(one.state for one in late)),
        first=tuple(api.StandingView(h.uuid, h.name, h.state, h.why) for h in progress.first[:most]),
        well_since=progress.well_since,
        soak_s=int(SOAK.total_seconds()),
    )
