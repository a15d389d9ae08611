"""Policies are published whole or not at all, by who may, over what they saw; and every version can be restored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from databases import opened

from ringfence.controller import audit
from ringfence.controller.access.access import Principal
from ringfence.controller.publishing import changes
from ringfence.controller.publishing.versions import Draft, Published, Versions
from ringfence.core.errors import FindingsError, InputError, RingfenceError
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Mode, Workload
from ringfence.core.labels.selector import parse_selector
from ringfence.core.net.address import parse_address
from ringfence.core.world import World
from ringfence.ports.state import (
    AgentRecord,
    AuditEntry,
    Certificate,
    Change,
    PolicyVersion,
    Proposal,
    QuarantineRecord,
    State,
    Where,
    WorkloadChange,
    WorkloadRecord,
)

NOW = datetime(2026, 3, 3, tzinfo=UTC)


def workload(name: str, **labels: str) -> Workload:
    address = parse_address(f"10.0.0.{len(name) + sum(map(ord, name)) % 200}")
    return Workload(name=name, uuid=f"u-{name}", labels=labels, addresses=(Lease(address),))


WORLD = World(
    inventory=Inventory(
        [
            workload("web", app="shop", role="web"), workload("db", app="shop", role="db"),
            workload("crm", app="crm", role="web"),
        ]
    ),
    at=NOW,
)  # fmt: skip
SHOP = """\
policy: shop
scope: app=shop
segments: {web: role=web, db: role=db}
rules:
  - allow: {from: web, to: db, service: tcp/5432}
tests:
  - {from: web, to: db, service: tcp/5432, expect: allowed}
  - {from: "global: app=crm", to: db, expect: blocked}
"""
CRM = """\
policy: crm
scope: app=crm
rules:
  - allow: {from: "global: app=shop", to: role=web, service: tcp/443}
"""
GUARD = """\
policy: guard
rules:
  - forbid: {from: app=crm, to: shop.db}
"""
ROOT = Principal("root", ("administrator",))
SHOPPER = Principal("ann", ("author",), parse_selector("app=shop"))
AUTHOR = Principal("bob", ("author",))
FIRST = Draft({"shop.yaml": SHOP, "crm.yaml": CRM, "guard.yaml": GUARD}, 0, note="first")


def world_of(settings: str) -> World:
    if settings == "wrong":
        raise InputError("bad-settings", "wrong")
    return WORLD


def after(base: int, **files: str | None) -> Draft:
    """The first draft with some files replaced or (None) removed."""
    texts: dict[str, str | None] = {**FIRST.files, **{f"{name}.yaml": text for name, text in files.items()}}
    return Draft({name: text for name, text in texts.items() if text is not None}, base, note="again")


def go(
    place: str | Path, *works: Callable[[Versions, State], Awaitable[Any]], needs_approval: bool = False
) -> list[Any]:
    """What each answers, or the error it raised."""

    async def run() -> list[Any]:
        async with opened(place) as state:
            versions = Versions(state, world_of, needs_approval=needs_approval)
            answers = []
            for work in works:
                try:
                    answers.append(await work(versions, state))
                except RingfenceError as error:
                    answers.append(error)
            return answers

    return asyncio.run(run())


def publish(draft: Draft, by: Principal = ROOT) -> Callable[[Versions, State], Awaitable[Published]]:
    return lambda versions, _: versions.publish(draft, by=by)


def kept(kind: type[Any]) -> Callable[[Versions, State], Awaitable[list[Any]]]:
    return lambda _, state: state.read(lambda view: view.find(kind))


def code(answer: Any) -> str:
    return answer.code if isinstance(answer, RingfenceError) else type(answer).__name__


def test_a_version_is_what_was_published(place: str | Path) -> None:
    """The texts are kept letter for letter with who, when and why; the proofs come with it; the audit log says so."""
    published, current, read, entries = go(
        place,
        publish(FIRST),
        lambda versions, _: versions.current(),
        lambda versions, _: versions.policies(1),
        kept(AuditEntry),
    )

    assert current == published.version
    assert current == PolicyVersion(1, NOW, "root", "first", FIRST.files, "", FIRST.digest, None)
    assert sorted(policy.name for policy in read) == ["crm", "guard", "shop"]
    assert [proof.outcome for proof in published.proofs] == ["proven", "proven"]
    assert [(e.actor, e.action, e.subject) for e in entries] == [("root", "policy.publish", "1")]
    assert FIRST.digest in entries[0].details


REFUSED = {
    "a text that does not parse": (after(0, shop="policy: [\n"), None),
    "a test that fails": (after(0, shop=SHOP.replace("allow:", "deny:")), "test-failed"),
    "a test that proves nothing": (after(0, shop=SHOP.replace("app=crm", "app=nix")), "test-unmatched"),
    "settings that are wrong": (msgspec.structs.replace(FIRST, settings="wrong"), "bad-settings"),
    "no policies": (Draft({}, 0), "no-policies"),
    "empty files": (Draft({"a.yaml": "# nothing\n"}, 0), "no-policies"),
    "a name outside the folder": (Draft({"../shop.yaml": SHOP}, 0), "not-a-policy"),
    "a name of the whole disk": (Draft({"/etc/shop.yaml": SHOP}, 0), "not-a-policy"),
    "a name nobody would read": (Draft({"shop.txt": SHOP}, 0), "not-a-policy"),
    "a version nobody published": (Draft({"shop.yaml": SHOP}, 3), "version-conflict"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_in_force_is_not_published(place: str | Path, why: str) -> None:
    """A draft with a fault is refused with a code, and nothing of it is kept."""
    draft, wanted = REFUSED[why]

    answer, versions, entries = go(place, publish(draft), kept(PolicyVersion), kept(AuditEntry))

    assert isinstance(answer, RingfenceError)
    assert wanted in (None, answer.code)
    assert (versions, entries) == ([], [])


def test_a_failed_test_is_told_with_its_place_and_counterexample(place: str | Path) -> None:
    """Whoever is refused learns which test, where it stands, and one connection that contradicts it."""
    (error,) = go(place, publish(after(0, shop=SHOP.replace("allow:", "deny:"))))

    assert isinstance(error, FindingsError)
    (finding,) = error.findings
    assert (finding.code, finding.subject, str(finding.where)[:11]) == ("test-failed", "shop", "shop.yaml:7")
    assert "web -> db tcp/5432 is blocked" in finding.message


def test_nobody_publishes_over_what_they_have_not_seen(place: str | Path) -> None:
    """Of two who start from one version the second is told of the first; so is who publishes what is in force."""
    more = after(1, crm=CRM.replace("443", "8443"))

    answers = go(
        place, publish(FIRST), publish(more), publish(after(1, crm=None)), publish(after(2, crm=more.files["crm.yaml"]))
    )

    assert list(map(code, answers)) == ["Published", "Published", "version-conflict", "nothing-changed"]


def test_of_many_who_publish_at_once_one_does(place: str | Path) -> None:
    """However many drafts are judged side by side, one of those made from one version becomes the next."""

    async def race(versions: Versions, _: State) -> list[Any]:
        drafts = [after(1, crm=CRM.replace("443", str(4000 + n))) for n in range(6)]
        return await asyncio.gather(*(versions.publish(d, by=ROOT) for d in drafts), return_exceptions=True)

    _, answers, versions = go(place, publish(FIRST), race, kept(PolicyVersion))

    assert sorted(map(code, answers)) == ["Published"] + ["version-conflict"] * 5
    assert [version.number for version in versions] == [1, 2]


SCOPED = {
    "their own policy": (after(1, shop=SHOP.replace("5432", "5433")), "Published"),
    "a comment of their own": (after(1, shop="# ours\n" + SHOP), "Published"),
    "another's policy": (after(1, crm=CRM.replace("443", "80")), "outside-scope"),
    "another's policy, removed": (after(1, crm=None), "outside-scope"),
    "their own, made wider, and by a segment a guardrail": (
        after(1, shop=SHOP.replace("scope: app=shop\n", "scope: app in (shop,crm)\n")), "not-allowed",
    ),
    "a new one of their own": (after(1, more="policy: more\nscope: app=shop,env=dev\n"), "Published"),
    "a new one of others": (after(1, more="policy: more\nscope: app=crm\n"), "outside-scope"),
    "a new one for all": (after(1, more="policy: more\n"), "not-allowed"),
    "their own, without its scope": (after(1, shop=SHOP.replace("scope: app=shop\n", "")), "not-allowed"),
    "a guardrail": (after(1, guard=GUARD.replace("forbid", "deny")), "not-allowed"),
    "a guardrail, removed": (after(1, guard=None), "not-allowed"),
    "what a guardrail means, by a segment": (after(1, shop=SHOP.replace("db: role=db", "db: role=web")), "not-allowed"),
    "a forbid of their own": (
        after(1, shop=SHOP.replace("tests:", "  - forbid: {from: db, to: web}\ntests:")), "not-allowed",
    ),
    "the settings": (msgspec.structs.replace(after(1), settings="[identity]\n"), "not-allowed"),
    "where policies stand": (
        Draft({"all.yaml": "---\n".join(FIRST.files[f"{n}.yaml"] for n in ("crm", "guard", "shop"))}, 1), "Published",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", SCOPED)
def test_an_author_changes_what_is_in_their_scope(place: str | Path, what: str) -> None:
    """An author of `app=shop` publishes what leaves everything but `app=shop` as it was, and nothing else."""
    draft, wanted = SCOPED[what]
    _, answer, versions = go(place, publish(FIRST), publish(draft, SHOPPER), kept(PolicyVersion))

    assert code(answer) == wanted
    assert len(versions) == (2 if wanted == "Published" else 1)


@pytest.mark.parametrize(
    ("principal", "wanted"),
    [
        (AUTHOR, "not-allowed"), (Principal("eve", ("viewer",)), "not-allowed"),
        (Principal("eve", ("responder", "approver")), "not-allowed"), (Principal("gus", ("guardrail",)), "Published"),
    ],
    ids=lambda value: str(getattr(value, "roles", value)),
)  # fmt: skip
def test_guardrails_are_their_owners(place: str | Path, principal: Principal, wanted: str) -> None:
    """A policy without a scope is published by who has the right over guardrails, and nobody else."""
    (answer,) = go(place, publish(FIRST, principal))

    assert code(answer) == wanted


def test_a_rollback_is_a_new_version_of_old_content(place: str | Path) -> None:
    """History is not rewritten: the old texts come back under a new number, with where from in the audit log."""
    _, _, back, versions, entries = go(
        place,
        publish(FIRST),
        publish(after(1, crm=None)),
        lambda versions, _: versions.rollback(1, by=ROOT, base=2),
        kept(PolicyVersion),
        kept(AuditEntry),
    )

    assert [(v.number, v.parent, v.digest == FIRST.digest) for v in versions] == [
        (1, None, True), (2, 1, False), (3, 2, True),
    ]  # fmt: skip
    assert (back.version.files, back.version.note) == (FIRST.files, "back to version 1")
    assert '"restores":1' in entries[-1].details


def test_a_rollback_is_open_when_its_tests_fail_today(place: str | Path) -> None:
    """What was in force once can be again: a test that fails since is told and kept in the audit log, not refused."""

    async def rollback(versions: Versions, _: State) -> Published:
        versions._world_of = lambda _: msgspec.structs.replace(
            WORLD, inventory=Inventory([workload("web", app="shop")])
        )
        return await versions.rollback(1, by=ROOT, base=2)

    _, _, back, entries = go(place, publish(FIRST), publish(after(1, crm=None)), rollback, kept(AuditEntry))

    assert {f.code for f in back.findings if f.code.startswith("test-")} == {"test-unmatched"}
    assert all(finding.severity != "error" for finding in back.findings)
    assert "picks nobody" in entries[-1].details


def unreadable(tx: Change) -> None:
    """What hosts have is of a version of the language that is not spoken here."""
    said = {"shop.yaml": "policy: shop\nrules: [{permit: all}]\n"}
    tx.add(PolicyVersion(2, NOW, "root", "later", said, "", "other", 1))
    audit.record(tx, at=NOW, actor="root", action="policy.publish", subject="2")


def test_the_way_on_is_open_where_what_hosts_have_cannot_be_read(place: str | Path) -> None:
    """After a downgrade, say: a plan shows all that it opens and says what is not known; and going back goes."""
    old = Draft(FIRST.files, 2)
    _, _, shown, judged, diff, back = go(
        place,
        publish(FIRST),
        writing(unreadable),
        lambda versions, _: versions.preview(old),
        lambda versions, _: versions.judge(old),
        lambda versions, _: versions.diff(2, 1),
        lambda versions, _: versions.rollback(1, by=ROOT, base=2),
    )

    assert (shown.opened > 0, shown.closed) == (True, 0)
    assert [finding.code for finding in judged.findings] == ["version-unreadable"]
    assert isinstance(diff, FindingsError)
    assert back.version.files == FIRST.files


def test_a_rollback_is_bound_by_scope_and_sight(place: str | Path) -> None:
    """The way back changes what it changes: it needs the same rights, the version in force, and one to go to."""
    rollback: Callable[..., Any] = lambda *args, **how: lambda versions, _: versions.rollback(*args, **how)  # noqa: E731

    answers = go(
        place,
        publish(FIRST),
        publish(after(1, crm=None)),
        rollback(1, by=SHOPPER, base=2),
        rollback(1, by=ROOT, base=1),
        rollback(7, by=ROOT, base=2),
        rollback(2, by=ROOT, base=2),
    )

    assert list(map(code, answers[2:])) == ["outside-scope", "version-conflict", "unknown-version", "nothing-changed"]


def test_a_diff_says_what_opens_and_closes(place: str | Path) -> None:
    """Between two versions, and for a draft before it is published: connections, not lines."""
    draft = after(1, shop=SHOP.split("tests:")[0].replace("tcp/5432", "tcp/5433"))

    _, preview, _, between, none = go(
        place,
        publish(FIRST),
        lambda versions, _: versions.preview(draft),
        publish(draft),
        lambda versions, _: versions.diff(1, 2),
        lambda versions, _: versions.diff(1, 1),
    )

    assert {(box.change, box.services) for box in between.boxes} == {
        ("opened", ("tcp/5433",)), ("closed", ("tcp/5432",)),
    }  # fmt: skip
    assert preview == between
    assert none.boxes == ()


# ---- two people -----------------------------------------------------------------------------------------------------

APPROVER = Principal("cid", ("approver",))


def test_what_one_proposes_another_publishes(place: str | Path) -> None:
    """With two people asked for nobody publishes alone; the version is its author's, the approval the approver's."""

    async def both(versions: Versions, _: State) -> Published:
        proposal = await versions.propose(FIRST, by=ROOT)
        return await versions.approve(proposal.id, by=APPROVER)

    alone, published, proposals, entries = go(
        place, publish(FIRST), both, kept(Proposal), kept(AuditEntry), needs_approval=True
    )

    assert code(alone) == "needs-approval"
    assert (published.version.actor, published.version.digest) == ("root", FIRST.digest)
    (proposal,) = proposals
    assert (proposal.state, proposal.decided_by, proposal.version) == ("published", "cid", 1)
    assert [(e.actor, e.action) for e in entries] == [("root", "policy.propose"), ("cid", "policy.approve")]


def test_an_approval_takes_another_person_with_the_right(place: str | Path) -> None:
    """Neither its author, nor who may not approve, nor an approver of another scope, nor anybody twice."""

    async def tries(versions: Versions, _: State) -> list[str]:
        id_ = (await versions.propose(FIRST, by=ROOT)).id
        shop_only = Principal("dan", ("approver",), parse_selector("app=shop"))
        codes = []
        for who, which in (
            (ROOT, id_),
            (AUTHOR, id_),
            (shop_only, id_),
            (APPROVER, "nix"),
            (APPROVER, id_),
            (APPROVER, id_),
        ):
            try:
                codes.append(code(await versions.approve(which, by=who)))
            except RingfenceError as error:
                codes.append(error.code)
        return codes

    (codes,) = go(place, tries, needs_approval=True)

    assert codes == [
        "own-proposal",
        "not-allowed",
        "outside-scope",
        "unknown-proposal",
        "Published",
        "proposal-decided",
    ]


def test_a_proposal_over_an_old_version_is_not_approved(place: str | Path) -> None:
    """What was in force when it was proposed must still be: an approver approves what they see."""

    async def late(versions: Versions, _: State) -> None:
        ids = [(await versions.propose(draft, by=ROOT)).id for draft in (FIRST, after(0, crm=None))]
        for id_ in ids:
            await versions.approve(id_, by=APPROVER)

    error, proposals = go(place, late, kept(Proposal), needs_approval=True)

    assert code(error) == "version-conflict"
    assert sorted(proposal.state for proposal in proposals) == ["pending", "published"]


def test_a_proposal_is_rejected_by_an_approver_or_taken_back_by_its_author(place: str | Path) -> None:
    """Others leave it alone; what is decided stays decided."""

    async def tries(versions: Versions, _: State) -> list[str]:
        one, two = [(await versions.propose(FIRST, by=ROOT)).id for _ in range(2)]
        codes = []
        for who, id_ in ((AUTHOR, one), (ROOT, one), (APPROVER, two), (APPROVER, one)):
            try:
                await versions.reject(id_, by=who, at=NOW, why="no")
                codes.append("rejected")
            except RingfenceError as error:
                codes.append(error.code)
        return codes

    codes, proposals = go(place, tries, kept(Proposal))

    assert codes == ["not-allowed", "rejected", "rejected", "proposal-decided"]
    assert {proposal.state for proposal in proposals} == {"rejected"}


# ---- labels and modes -----------------------------------------------------------------------------------------------


def with_web(tx: Change) -> None:
    audit.record(tx, at=NOW, actor="root", action="test")
    tx.add(WorkloadRecord("u-web", "web", {"app": "shop"}, NOW))


def writing(work: Callable[[Change], Any]) -> Callable[[Versions, State], Awaitable[Any]]:
    return lambda _, state: state.write(work)


def test_a_relabelling_is_kept(place: str | Path) -> None:
    """Each change of labels or mode has a revision with before and after; one that changes nothing is none."""
    answers = go(
        place,
        writing(with_web),
        writing(lambda tx: changes.relabel(tx, "u-web", {"app": "shop", "role": "x"}, by=SHOPPER, at=NOW)),
        writing(lambda tx: changes.set_mode(tx, "u-web", Mode.both("enforce"), by=SHOPPER, at=NOW)),
        writing(lambda tx: changes.set_mode(tx, "u-web", Mode.both("enforce"), by=SHOPPER, at=NOW)),
        kept(WorkloadRecord),
        kept(WorkloadChange),
        kept(AuditEntry),
    )

    records, made, entries = answers[-3:]
    assert answers[3] is None
    labels = {"app": "shop", "role": "x"}
    assert [(r.labels, r.mode_in, r.mode_out) for r in records] == [(labels, "enforce", "enforce")]
    assert [(c.revision, c.what) for c in made] == [(1, "labels"), (2, "mode")]
    assert (made[0].before, made[0].after) == ('{"app":"shop"}', '{"app":"shop","role":"x"}')
    assert [e.action for e in entries[1:]] == ["workload.labels", "workload.mode"]


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ({"app": "crm"}, "outside-scope"), ({}, "outside-scope"), ({"app": "shop", "a b": "c"}, "bad-label-key"),
        ({"app": "shop", "a": ""}, "bad-label-value"), ({"app": "shop", "a": "b c"}, "bad-label-value"),
    ],
    ids=str,
)  # fmt: skip
def test_labels_out_of_bounds_are_refused(place: str | Path, labels: dict[str, str], wanted: str) -> None:
    """A workload is not let go from the scope it is in, nor given what is no label."""
    _, answer, made = go(
        place,
        writing(with_web),
        writing(lambda tx: changes.relabel(tx, "u-web", labels, by=SHOPPER, at=NOW)),
        kept(WorkloadChange),
    )

    assert (code(answer), made) == (wanted, [])


def test_a_workload_that_is_gone_takes_what_is_its_own_with_it(place: str | Path) -> None:
    """Its agent goes and its certificates are refused; while it is in quarantine it stays."""

    def more(tx: Change) -> None:
        with_web(tx)
        tx.add(AgentRecord("u-web"), Certificate("0a", "u-web", "ff", NOW, NOW + timedelta(days=1)))
        tx.add(QuarantineRecord("q", "u-web", "full", "malware", "ann", NOW))

    def release(tx: Change) -> None:
        audit.record(tx, at=NOW, actor="ann", action="release")
        tx.update(QuarantineRecord, Where("id", "q"), released_at=NOW)

    def retire(by: Principal) -> Callable[[Versions, State], Awaitable[Any]]:
        return writing(lambda tx: changes.retire(tx, "u-web", by=by, at=NOW, why="scrapped"))

    answers = go(place, writing(more), retire(ROOT), writing(release), retire(SHOPPER), retire(ROOT), retire(ROOT))
    agents, certificates, workloads = go(place, *map(kept, (AgentRecord, Certificate, WorkloadRecord)))

    assert list(map(code, answers[1:])) == [
        "workload-quarantined", "NoneType", "not-allowed", "NoneType", "unknown-workload",
    ]  # fmt: skip
    assert (agents, workloads) == ([], [])
    assert [(one.revoked_at, one.why) for one in certificates] == [(NOW, "scrapped")]
