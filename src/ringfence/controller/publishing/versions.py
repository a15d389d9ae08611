"""Versions of the policies: published whole, each a restore point; none that does not parse or whose tests fail.

INVARIANT: a version is never edited, and numbers grow by one. Nobody publishes over what they have not seen: they name
the version they started from, and if another is in force by then nothing happens (`version-conflict`).
INVARIANT: whoever changes a policy may change all of it that changed, as it was and as it becomes; a policy whose
meaning changes because another's segment does is changed, too.

Judging is slow (it proves every test), so it happens outside the transaction, which then checks that its ground still
holds.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import msgspec

from ringfence.controller import audit
from ringfence.controller.access.access import AccessError, Principal, Right
from ringfence.controller.desired.estate import base_of
from ringfence.controller.publishing.files import file_changes, newest
from ringfence.controller.thinking import think
from ringfence.core.engine import Engine
from ringfence.core.engine.diff import Diff, diff
from ringfence.core.engine.prove import Proof, prove
from ringfence.core.errors import Finding, FindingsError, InputError, Location, RingfenceError, errors_among
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.refusals import refusals_of
from ringfence.core.policy.check import check
from ringfence.core.policy.model import Policy
from ringfence.core.policy.parse import parse_policies
from ringfence.core.world import World
from ringfence.ports.state import Change, PolicyVersion, Proposal, Rollout, State, View, Where
from ringfence.wire.api import FileChange

WorldOf = Callable[[str], World]
"""Settings as text -> the world they make of the inventory, now; its policies do not matter. Raises FindingsError."""
_REFUSING = {"failed": "test-failed", "unmatched": "test-unmatched"}


class Draft(msgspec.Struct, frozen=True):
    """Policies somebody would have in force."""

    files: dict[str, str]
    """Name, as in `shop.yaml` -> text."""
    base: int
    """The version it was made from; 0: there was none."""
    settings: str = ""
    note: str = ""

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of what would be in force."""
        said = msgspec.json.encode({"files": self.files, "settings": self.settings}, order="deterministic")
        return hashlib.sha256(said).hexdigest()


class Judged(msgspec.Struct, frozen=True):
    """A draft that can be in force."""

    policies: tuple[Policy, ...]
    at: datetime
    findings: tuple[Finding, ...] = ()
    """Warnings, and the tests that fail where that was not refused."""
    proofs: tuple[Proof, ...] = ()
    refusals: tuple[Finding, ...] = ()
    """What hosts cannot express, each said once: such allows stay closed there."""


class Published(msgspec.Struct, frozen=True):
    """A new version, with what was said about it."""

    version: PolicyVersion
    findings: tuple[Finding, ...] = ()
    proofs: tuple[Proof, ...] = ()


class Versions:
    """The policies of an estate through time."""

    def __init__(self, state: State, world_of: WorldOf, *, needs_approval: bool = False) -> None:
        """`needs_approval`: a second person must approve what one proposes."""
        self._state, self._world_of, self._needs_approval = state, world_of, needs_approval

    # ---- looking ---------------------------------------------------------------------------------------------------

    async def current(self) -> PolicyVersion | None:
        """The version in force."""
        return await self._state.read(newest)

    async def get(self, number: int) -> PolicyVersion:
        """Raises InputError `unknown-version`."""
        return await self._state.read(lambda view: _version(view, number))

    async def running(self) -> PolicyVersion | None:
        """The version that hosts have: not one that was stopped, nor one that only a canary has."""
        return await self._state.read(running_version)

    async def policies(self, number: int) -> tuple[Policy, ...]:
        """What a version says. Raises InputError `unknown-version`."""
        version = await self.get(number)
        return await asyncio.to_thread(self._policies, version)

    async def page(self, *, before: int = 0, limit: int = 50) -> list[PolicyVersion]:
        """Versions, the newest first; `before`: only those with smaller numbers."""
        where = (Where("number", before, "<"),) if before else ()
        return await self._state.read(lambda view: view.find(PolicyVersion, *where, order="-number", limit=limit))

    async def proposals(self) -> list[Proposal]:
        """Those that wait, the oldest first."""
        return await self._state.read(lambda view: view.find(Proposal, Where("state", "pending"), order="at"))

    async def proposal(self, id_: str) -> Proposal:
        """Decided or not. Raises InputError `unknown-proposal`."""
        return await self._state.read(lambda view: _proposal(view, id_))

    async def diff(self, old: int, new: int) -> Diff:
        """What one version opens and closes against another, over the inventory as it is."""
        return await think(self._diff, await self.get(old), await self.get(new))

    async def judge(self, draft: Draft) -> Judged:
        """What a draft says and whether its tests hold; whoever may publish it. Failing tests are findings here.
        Raises FindingsError (what cannot be read), InputError `no-policies`, `not-a-policy`."""
        had = await self._state.read(_had)
        judged = await think(self._judge, draft, may=lambda _: None, accept_failing=True)
        unread = _unread(had.running) if await think(self._readable, had.running) is None else ()
        return msgspec.structs.replace(judged, findings=(*unread, *_unseen(draft, had), *judged.findings))

    async def preview(self, draft: Draft) -> Diff:
        """What a draft would open and close against what hosts have; where that cannot be read (any more), against
        nothing, as `judge` says: the way on must stay open. Raises FindingsError."""
        running = await self.running()
        is_read = await think(self._readable, running) is not None
        return await think(self._diff, running if is_read else None, draft)

    async def changes(self, draft: Draft) -> tuple[FileChange, ...]:
        """What becomes of the files of the newest version, as `file_changes` says."""
        return await self._state.read(lambda view: file_changes(view, draft.files))

    def _diff(self, old: PolicyVersion | None, new: PolicyVersion | Draft) -> Diff:
        """Over labels that both tell apart: what only one of them ignores is an identity to the other."""
        world, after = self._world_of(new.settings), self._policies(new)
        if old is None:
            return diff(world, (), after)
        ignore = world.inventory.ignore & self._world_of(old.settings).inventory.ignore
        both = msgspec.structs.replace(world, inventory=world.inventory.ignoring(ignore))
        return diff(both, self._policies(old), after)

    # ---- publishing ------------------------------------------------------------------------------------------------

    async def publish(self, draft: Draft, *, by: Principal, accept_refused: bool = False) -> Published:
        """Put a draft in force. `accept_refused`: although some allows stay closed somewhere.

        Raises FindingsError (what cannot be read, tests that fail, what hosts cannot express), AccessError
        `not-allowed`, `outside-scope`, `needs-approval`, InputError `version-conflict`, `nothing-changed`,
        `no-policies`.
        """
        by.demand("publish")
        if self._needs_approval:
            help_ = "propose them (`ringfence propose`); somebody else with the role `approver` publishes them"
            raise AccessError("needs-approval", "policies take a second person here", help=help_)
        judged = await self._prepare(draft, by)
        _refuse(judged, accept=accept_refused)
        version = await self._state.write(
            lambda tx: _put_in_force(tx, draft, by=by.name, at=judged.at, action="policy.publish")
        )
        return Published(version, judged.findings, judged.proofs)

    async def rollback(
        self, number: int, *, by: Principal, base: int, note: str = "", accept_refused: bool = False
    ) -> Published:
        """Put the content of an old version in force, as a new one.

        A test that fails today is told and kept in the audit log, but refuses nothing: the way back must stay open.
        Raises as `publish`, and InputError `unknown-version`; no second person is asked.
        """
        old = await self.get(number)
        draft = Draft(old.files, base, old.settings, note or f"back to version {number}")
        by.demand("publish")
        judged = await self._prepare(draft, by, accept_failing=True)
        _refuse(judged, accept=accept_refused)
        failing = [finding.message for finding in judged.findings if finding.code in _REFUSING.values()]
        details: dict[str, object] = {"restores": number, "failing": failing}
        version = await self._state.write(
            lambda tx: _put_in_force(tx, draft, by=by.name, at=judged.at, action="policy.rollback", details=details)
        )
        return Published(version, judged.findings, judged.proofs)

    async def _prepare(self, draft: Draft, by: Principal, *, accept_failing: bool = False) -> Judged:
        """Everything about a draft that takes time, and who may do it."""
        had, befores = await self._befores(draft)
        if any(draft.settings != (one.settings if one else "") for one in had[:2]) or None in befores:
            by.demand("guardrail")
            by.demand_scope("guardrail", None, "the settings")

        def may(after: tuple[Policy, ...]) -> None:
            for before in befores:
                _demand(by, before or (), after)

        judged = await asyncio.to_thread(self._judge, draft, may=may, accept_failing=accept_failing)
        return msgspec.structs.replace(judged, findings=(*_unseen(draft, had), *judged.findings))

    async def _befores(self, draft: Draft) -> tuple[Had, list[tuple[Policy, ...] | None]]:
        """What a draft changes: the newest version, and the one that hosts have. None: it cannot be read (any more).

        Raises InputError `version-conflict`, `nothing-changed`.
        """

        def look(view: View) -> Had:
            _base(view, draft)
            return _had(view)

        had = await self._state.read(look)
        versions = [had.newest] if had.newest is had.running else [had.newest, had.running]
        return had, await asyncio.to_thread(lambda: list(map(self._readable, versions)))

    def _judge(
        self, draft: Draft, *, may: Callable[[tuple[Policy, ...]], None], accept_failing: bool = False
    ) -> Judged:
        """Read it, ask whether it `may` be, prove it."""
        _check_names(draft.files)
        world = self._world_of(draft.settings)
        policies = parse_policies(draft.files, ignore=world.inventory.ignore).raise_if_errors()
        if not policies:
            help_ = "write a policy, were it one without rules: nothing at all is not meant"
            raise InputError("no-policies", "there is no policy to publish", help=help_)
        may(policies)
        enforced = msgspec.structs.replace(world, policies=policies, as_mode=Mode.both("enforce"), quarantines=())
        proofs = prove(Engine.compile(enforced))
        failed = tuple(failing(proofs, "warning" if accept_failing else "error"))
        if failed and not accept_failing:
            raise FindingsError(failed)
        warnings = check(policies, world.inventory, world.at, names=world.names)
        refusals = refusals_in(msgspec.structs.replace(world, policies=policies))
        return Judged(policies, world.at, (*failed, *warnings), proofs, refusals)

    def _readable(self, version: PolicyVersion | Draft | None) -> tuple[Policy, ...] | None:
        """What a version says, if it can be read."""
        try:
            return self._policies(version) if version is not None else ()
        except RingfenceError:
            return None

    def _policies(self, version: PolicyVersion | Draft) -> tuple[Policy, ...]:
        ignore = self._world_of(version.settings).inventory.ignore
        return parse_policies(version.files, ignore=ignore).raise_if_errors()

    # ---- two people ------------------------------------------------------------------------------------------------

    async def propose(self, draft: Draft, *, by: Principal) -> Proposal:
        """Put a draft before a second person. It must be such that it could be published; raises as `publish`, and
        InputError `no-reason`."""
        by.demand("propose")
        audit.demand_reason(draft.note, "a proposal")
        judged = await self._prepare(draft, by)
        _refuse(judged, accept=True)
        proposal = Proposal(
            secrets.token_hex(6), judged.at, by.name, draft.note, draft.files, draft.settings, draft.digest, draft.base
        )

        def work(tx: Change) -> None:
            _base(tx, draft)
            tx.add(proposal)
            audit.record(
                tx, at=judged.at, actor=by.name, action="policy.propose", subject=proposal.id, details=_told(draft)
            )

        await self._state.write(work)
        return proposal

    async def approve(self, id_: str, *, by: Principal, accept_refused: bool = False) -> Published:
        """Publish what somebody else proposed. Raises as `publish`, and InputError `unknown-proposal`,
        `proposal-decided`, AccessError `own-proposal`."""
        by.demand("approve")
        proposal = await self._state.read(lambda view: _pending(view, id_))
        if proposal.actor == by.name:
            help_ = "ask somebody else with the role `approver`"
            raise AccessError("own-proposal", "nobody approves their own proposal", help=help_)
        draft = Draft(proposal.files, proposal.base or 0, proposal.settings, proposal.note)
        had, befores = await self._befores(draft)

        def may(after: tuple[Policy, ...]) -> None:
            for before in befores:
                demand_changed("approve", before or (), after, by)

        judged = await asyncio.to_thread(self._judge, draft, may=may)
        judged = msgspec.structs.replace(judged, findings=(*_unseen(draft, had), *judged.findings))
        _refuse(judged, accept=accept_refused)

        def work(tx: Change) -> PolicyVersion:
            _pending(tx, id_)
            details = {"proposal": id_, "approved_by": by.name}
            version = _put_in_force(
                tx, draft, by=proposal.actor, at=judged.at, action="policy.approve", details=details, actor=by.name
            )
            _decide(tx, id_, state="published", by=by, at=judged.at, version=version.number)
            return version

        version = await self._state.write(work)
        return Published(version, judged.findings, judged.proofs)

    async def _demand_over(self, proposal: Proposal, by: Principal) -> None:
        """The right to approve all that a proposal changes; all of the estate, where that cannot be told any more."""
        by.demand("approve")
        draft = Draft(proposal.files, proposal.base or 0, proposal.settings)
        now = await self._state.read(newest)
        before, after = await asyncio.to_thread(lambda: (self._readable(now), self._readable(draft)))
        if before is None or after is None:
            by.demand_scope("approve", None, "the proposal")
        else:
            demand_changed("approve", before, after, by)

    async def reject(self, id_: str, *, by: Principal, at: datetime, why: str) -> None:
        """Decide against a proposal, or take back one's own. Raises InputError `unknown-proposal`,
        `proposal-decided`, AccessError `not-allowed`, `outside-scope`."""
        proposal = await self._state.read(lambda view: _pending(view, id_))
        if proposal.actor != by.name:
            await self._demand_over(proposal, by)

        def work(tx: Change) -> None:
            _pending(tx, id_)
            _decide(tx, id_, state="rejected", by=by, at=at, version=None)
            audit.record(tx, at=at, actor=by.name, action="policy.reject", subject=id_, details={"why": why})

        await self._state.write(work)


class Had(NamedTuple):
    """What there was before a draft."""

    newest: PolicyVersion | None
    running: PolicyVersion | None
    """What hosts have."""
    stage: str = ""
    """Of the rollout of the newest, if hosts have another."""


def running_version(view: View) -> PolicyVersion | None:
    """The version that hosts have."""
    return _had(view).running


def _had(view: View) -> Had:
    now = newest(view)
    if now is None:
        return Had(None, None)
    rollouts = view.find(Rollout, Where("version", now.number), order="-started", limit=1)
    if rollouts and rollouts[0].state in ("canary", "stopped"):
        return Had(now, base_of(view, now.number), rollouts[0].state)
    return Had(now, now)


def _unseen(draft: Draft, had: Had) -> Iterator[Finding]:
    """That changes come along which hosts do not have yet."""
    if had.newest is None or not had.stage or (had.running is not None and had.running.digest == draft.digest):
        return
    which = f"version {had.running.number}" if had.running is not None else "none"
    how = "was stopped" if had.stage == "stopped" else "is only at its canary"
    message = f"version {had.newest.number} {how}: hosts have {which}, and what it changed comes with this"
    help_ = "look through the whole difference, or begin from the version hosts have"
    yield Finding("unrolled-changes", message, "warning", help=help_, subject=f"version {had.newest.number}")


def _unread(running: PolicyVersion | None) -> Iterator[Finding]:
    """That nobody can say what a draft changes."""
    name = f"version {running.number}" if running is not None else "none"
    message = f"{name}, which hosts have, cannot be read any more: all that this opens is shown, and nothing it closes"
    help_ = "hosts keep what they have until another version is applied: look through all of this one"
    yield Finding("version-unreadable", message, "warning", help=help_, subject=name)


def refusals_in(world: World) -> tuple[Finding, ...]:
    """What the enforcement points of a world cannot express, each said once."""
    engine = Engine.compile(world)
    hosts = (w for w in world.inventory.workloads if w.is_host)
    found = {finding: None for host in hosts for finding in refusals_of(engine, host)}
    return tuple(sorted(found, key=lambda f: f.sort_key))


def _refuse(judged: Judged, *, accept: bool) -> None:
    """A refused deny, forbid or quarantine stops it; a refused allow must be accepted. Raises FindingsError."""
    if errors_among(judged.refusals) or (judged.refusals and not accept):
        raise FindingsError(judged.refusals)


def _version(view: View, number: int) -> PolicyVersion:
    version = view.get(PolicyVersion, number)
    if version is None:
        last = newest(view)
        help_ = f"there are versions 1 to {last.number}" if last else "nothing was published yet"
        if last and number == 0:
            help_ += "; to let pass all they block: `ringfence mode WHO --in observe --out observe`"
        raise InputError("unknown-version", f"there is no version {number}", help=help_)
    return version


def _base(view: View, draft: Draft) -> PolicyVersion | None:
    """What a draft was made from, if that is what is in force."""
    now = newest(view)
    number = now.number if now else 0
    if number != draft.base:
        help_ = f"look at what version {number} changed, then publish on top of it"
        message = f"version {number} is in force, and this was made from version {draft.base}"
        raise InputError("version-conflict", message, help=help_)
    if now is not None and now.digest == draft.digest:
        raise InputError("nothing-changed", f"this is version {number}, word for word", help="it is in force already")
    return now


def _put_in_force(
    tx: Change,
    draft: Draft,
    *,
    by: str,
    at: datetime,
    action: str,
    details: Mapping[str, object] | None = None,
    actor: str = "",
) -> PolicyVersion:
    base = _base(tx, draft)
    number = draft.base + 1
    parent = base.number if base else None
    version = PolicyVersion(number, at, by, draft.note, draft.files, draft.settings, draft.digest, parent)
    tx.add(version)
    told = _told(draft) | dict(details or {})
    audit.record(tx, at=at, actor=actor or by, action=action, subject=str(number), details=told)
    return version


def _told(draft: Draft) -> dict[str, object]:
    return {"digest": draft.digest, "base": draft.base, "files": sorted(draft.files), "note": draft.note}


def _proposal(view: View, id_: str) -> Proposal:
    proposal = view.get(Proposal, id_)
    if proposal is None:
        raise InputError(
            "unknown-proposal", f"there is no proposal `{id_}`", help="`ringfence proposals` lists those there are"
        )
    return proposal


def _pending(view: View, id_: str) -> Proposal:
    proposal = _proposal(view, id_)
    if proposal.state != "pending":
        raise InputError("proposal-decided", f"`{id_}` is {proposal.state} already", help="propose anew")
    return proposal


def _decide(tx: Change, id_: str, *, state: str, by: Principal, at: datetime, version: int | None) -> None:
    tx.update(Proposal, Where("id", id_), state=state, decided_at=at, decided_by=by.name, version=version)


# ---- who may change what --------------------------------------------------------------------------------------------


def demand_changed(right: Right, before: Iterable[Policy], after: Iterable[Policy], by: Principal) -> None:
    """The right over all that differs. Raises AccessError."""
    for name, versions in changed_policies(before, after):
        for policy in versions:
            by.demand_scope(right, policy.scope, f"the policy `{name}`")


def _demand(by: Principal, before: Iterable[Policy], after: Iterable[Policy]) -> None:
    """Raises AccessError unless somebody may change all that differs. Policies without a scope and `forbid` rules are
    the guardrail owner's."""
    for name, versions in changed_policies(before, after):
        for policy in versions:
            if policy.scope is None:
                by.demand("guardrail")
            by.demand_scope("propose", policy.scope, f"the policy `{name}`")
        if len({_forbids(policy) for policy in versions} | ({b"[]"} if len(versions) == 1 else set())) > 1:
            by.demand("guardrail")


def changed_policies(before: Iterable[Policy], after: Iterable[Policy]) -> Iterator[tuple[str, tuple[Policy, ...]]]:
    """Each policy that differs, by name, as it was and as it becomes (one of them, where it came or went)."""
    old, new = ({policy.name: policy for policy in policies} for policies in (before, after))
    for name in sorted(old.keys() | new.keys()):
        versions = tuple(side[name] for side in (old, new) if name in side)
        if len(versions) == 1 or written(versions[0]) != written(versions[1]):
            yield name, versions


def written(value: object) -> bytes:
    """What was written, wherever it stands."""
    return msgspec.json.encode(_without_places(msgspec.to_builtins(value)), order="deterministic")


def _forbids(policy: Policy) -> bytes:
    return written([rule for rule in policy.rules if rule.action == "forbid"])


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_places(one) for key, one in value.items() if key != "where"}
    if isinstance(value, list | tuple):
        return [_without_places(one) for one in value]
    # Address ranges are wider than what JSON holds.
    return str(value) if isinstance(value, int) else value


def _check_names(files: Mapping[str, str]) -> None:
    """Names are written to disk again one day: they stay below the folder of policies."""
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or str(path) != name or path.suffix not in (".yaml", ".yml"):
            help_ = "name it like `shop.yaml` or `teams/shop.yaml`"
            raise InputError("not-a-policy", f"`{name}` is no name of a policy file", where=Location(name), help=help_)


def failing(proofs: Iterable[Proof], severity: Any) -> Iterator[Finding]:
    """A finding for each proof that did not come off."""
    for proof in proofs:
        if code := _REFUSING.get(proof.outcome):
            message = f"`{proof.name}` is expected {proof.expect}, but {proof.message}"
            help_ = "mend the policy or the test" if proof.outcome == "failed" else "correct the ends of the test"
            yield Finding(code, message, severity, proof.where, help=help_, subject=proof.policy)
