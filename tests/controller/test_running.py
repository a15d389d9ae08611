"""What hosts run while versions come, stop and go: each version under its own settings, and nothing else counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ringfence.controller import audit
from ringfence.controller.access.access import Principal
from ringfence.controller.controller import Controller, Settings
from ringfence.controller.desired.inputs import Manner
from ringfence.controller.health import parts
from ringfence.controller.publishing.rollouts import Canary
from ringfence.controller.publishing.versions import Draft
from ringfence.core.labels.selector import parse_selector
from ringfence.core.net.address import parse_address
from ringfence.core.world import Quarantine
from ringfence.ports.state import AuditEntry, Change, LeaseRecord, PolicyVersion, Rollout, Where, WorkloadRecord
from ringfence.wire.messages import Fetch, Realised

NOW = datetime(2026, 3, 3, tzinfo=UTC)
WEB, DB = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
RULE = "  - allow: {from: role=web, to: role=db, service: tcp/5432}\n"
FIRST = {"p.yaml": f"policy: p\nowner: o\nrules:\n{RULE}"}
BY_APP = {"p.yaml": "policy: p\nowner: o\nrules:\n  - allow: {from: app=a, to: app=b, service: tcp/5432}\n"}
FAILSAFE = '[[failsafe]]\ndirection = "in"\ncidr = "0.0.0.0/0"\nservice = "any"\n'
IGNORING = '[identity]\nignore = ["role"]\n'


def estate(files: dict[str, str], settings: str, stage: str, canary: tuple[str, ...]) -> Callable[[Change], None]:
    """Two hosts that run version 1, and a second version on its way."""

    def work(tx: Change) -> None:
        for uuid, name, address in ((WEB, "web", "10.0.0.1"), (DB, "db", "10.0.0.2")):
            labels = {"role": name, "app": name[0]}
            tx.add(WorkloadRecord(uuid, name, labels, NOW, mode_in="enforce", mode_out="enforce"))
            tx.add(LeaseRecord("main", parse_address(address), uuid, NOW, None, "agent"))
        tx.add(PolicyVersion(1, NOW, "ann", "first", FIRST, "", "d1"))
        tx.add(PolicyVersion(2, NOW, "bob", "second", files, settings, "d2", 1))
        tx.add(Rollout("r1", 1, "done", NOW), Rollout("r2", 2, stage, NOW, canary))
        audit.record(tx, at=NOW, actor="test", action="test", subject="test", details={})

    return work


def with_controller(
    folder: Path, filled: Callable[[Change], None], *works: Callable[[Controller], Awaitable[Any]]
) -> list[Any]:
    """What each answers, or what it raised; no bus, no API."""

    async def run() -> list[Any]:
        controller = Controller(Settings(folder, bus_port=0), clock=lambda: NOW)
        await controller.state.write(filled)
        await controller._start_desired()
        answers: list[Any] = []
        for work in works:
            try:
                answers.append(await work(controller))
            except Exception as error:
                answers.append(error)
        await controller.reconciler.close()
        await controller.state.close()
        controller.flows.close()
        return answers

    return asyncio.run(run())


async def told(controller: Controller) -> dict[str, tuple[int, int]]:
    """The version of each host, and how many failsafe passages come with it."""
    every = controller.reconciler.desired.assignments
    return {uuid: (one.policy_version, len(one.station.failsafe)) for uuid, one in every.items()}


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("canary", {WEB: (2, 1), DB: (1, 0)}),
        ("stopped", {WEB: (1, 0), DB: (1, 0)}),
        ("done", {WEB: (2, 1), DB: (2, 1)}),
    ],
)
def test_settings_bind_who_has_their_version(tmp_path: Path, stage: str, expected: dict[str, Any]) -> None:
    """A failsafe passage opens at the hosts of its version only: not beside a canary, not after a stop."""
    assert with_controller(tmp_path, estate(FIRST, FAILSAFE, stage, (WEB,)), told) == [expected]


def test_versions_may_ignore_other_labels(tmp_path: Path) -> None:
    """A version that ignores a label the one before selects on stops nothing: each is read with its own settings."""

    async def body_sizes(controller: Controller) -> dict[str, int]:
        desired = controller.reconciler.desired
        return {uuid: len(desired.engine_of(uuid).engine.rules) for uuid in desired.assignments}

    versions, rules = with_controller(tmp_path, estate(BY_APP, IGNORING, "canary", (WEB,)), told, body_sizes)

    assert versions == {WEB: (2, 0), DB: (1, 0)}
    assert rules == {WEB: 1, DB: 1}


@pytest.mark.parametrize("what", ["files", "settings"])
def test_a_version_nobody_can_read_stops_nothing(tmp_path: Path, what: str) -> None:
    """The controller starts, says so, tells the hosts of that version nothing but quarantine, and serves the others."""
    files = {"p.yaml": "policy: [\n"} if what == "files" else FIRST
    settings = "not toml" if what == "settings" else ""

    async def answer(controller: Controller) -> Any:
        desired = controller.reconciler.desired
        return desired.answer(WEB, Fetch(assignment=True, bodies=("b",), groups=("g",)))

    async def isolate(controller: Controller) -> Any:
        return [sorted(one.networks) for one in await controller.reconciler.isolate((Quarantine(DB),))]

    async def health(controller: Controller) -> Any:
        return [one.state for one in await parts(controller) if one.name == "policies"]

    versions, pieces, isolations, said = with_controller(
        tmp_path, estate(files, settings, "canary", (WEB,)), told, answer, isolate, health
    )

    assert versions == {DB: (1, 0)}
    assert (pieces.assignment, pieces.unknown, pieces.groups) == (None, (), ())
    assert isolations == [["main"]]
    assert said == ["failed"]


def said_by(*uuids: str) -> Callable[[Controller], Awaitable[Any]]:
    """What is judged with once these hosts said that they have version 2."""

    async def work(controller: Controller) -> Any:
        controller.rollouts._realised = lambda uuid: Realised("realised", policy_version=2 if uuid in uuids else 1)
        return len(controller.world().failsafe)

    return work


@pytest.mark.parametrize(
    ("stage", "expected"), [("canary", [0, 0, 0]), ("spreading", [0, 0, 1]), ("stopped", [0, 0, 0]), ("done", [1] * 3)]
)
def test_questions_are_judged_by_what_most_hosts_have(tmp_path: Path, stage: str, expected: list[int]) -> None:
    """A version counts once more than half of all hosts said that they have it; a stopped one never does."""
    works = (said_by(), said_by(WEB), said_by(WEB, DB))
    assert with_controller(tmp_path, estate(FIRST, FAILSAFE, stage, (WEB,)), *works) == expected


def test_going_on_takes_the_right_over_all_that_comes(tmp_path: Path) -> None:
    """Who may roll out only one application does not send a stopped version of another to everybody."""
    scoped = Principal("ann", ("author",), parse_selector("app=shop"))

    async def go_on(controller: Controller) -> Any:
        await controller.rollouts.go_on(by=scoped)

    async def by_root(controller: Controller) -> Any:
        await controller.rollouts.go_on(by=Principal("root", ("administrator",)))
        return (await told(controller))[DB][0]

    error, version = with_controller(tmp_path, estate(BY_APP, "", "stopped", (WEB,)), go_on, by_root)

    assert error.code == "outside-scope"
    assert version == 2


def test_stopping_takes_every_host_back_and_says_who(tmp_path: Path) -> None:
    """Whoever may roll out all that comes stops it at its canary: every host has the version before, the canary is
    named with how it stands, the log says who did it; what is stopped is not stopped again."""

    async def stop(controller: Controller) -> Any:
        await controller.rollouts.stop("", by=Principal("ann", ("author",), parse_selector("app=shop")))

    async def by_root(controller: Controller) -> Any:
        first = {one.name for one in (await controller.rollouts.progress()).first}
        await controller.rollouts.stop("too early", by=Principal("root", ("administrator",)))
        found = await controller.rollouts.progress()
        entries = await controller.state.read(lambda view: view.find(AuditEntry, Where("action", "rollout.step")))
        return found.stage, found.problem, first, await told(controller), [one.actor for one in entries]

    async def again(controller: Controller) -> Any:
        await controller.rollouts.stop("", by=Principal("root", ("administrator",)))

    refused, stopped, twice = with_controller(tmp_path, estate(BY_APP, "", "canary", (WEB,)), stop, by_root, again)

    assert refused.code == "outside-scope"
    stage, problem, first, versions, actors = stopped
    assert (stage, problem, len(first)) == ("stopped", "stopped by root: too early", 1)
    assert {version for version, _ in versions.values()} == {1}
    assert actors == ["root"]
    assert twice.code == "no-rollout"


def test_a_rollout_that_others_had_begun_to_get_stays_their_ground(tmp_path: Path) -> None:
    """A version that was spreading is what hosts have when the next begins with a canary: none goes further back."""

    async def third(controller: Controller) -> Any:
        root = Principal("root", ("administrator",))
        published = await controller.versions.publish(Draft(BY_APP, 2), by=root)
        canary = Canary(selector=parse_selector("role=web"))
        await controller.rollouts.begin(published.version, Manner(), canary, by=root)
        return await told(controller)

    (found,) = with_controller(tmp_path, estate(FIRST, FAILSAFE, "spreading", ()), third)

    assert found == {WEB: (3, 0), DB: (2, 1)}


def hears(said: dict[str, Realised]) -> Callable[[Controller], Awaitable[Any]]:
    """What is told of hosts that said so; and what follows for the rollout."""

    async def work(controller: Controller) -> Any:
        controller.rollouts._realised = said.get
        controller.rollouts._is_online = lambda uuid: uuid in said
        states = {one.name: (one.state, one.why) for one in controller.rollouts.standings()}
        await controller.rollouts.advance()
        return states, (await controller.rollouts.progress()).problem

    return work


async def revisions(controller: Controller) -> dict[str, int]:
    return {uuid: one.revision for uuid, one in controller.reconciler.desired.assignments.items()}


def test_a_host_is_reverted_by_what_it_was_told_last(tmp_path: Path) -> None:
    """INVARIANT: what failed is told as failed even where the version is the same, and only of what the host was told
    last: an earlier failure ends no later rollout. Every host that failed is named, with its reason."""
    (tmp_path / "asked").mkdir()
    (told_of,) = with_controller(tmp_path / "asked", estate(FIRST, FAILSAFE, "spreading", ()), revisions)
    why = "10.0.0.9 tcp/22: connection refused"
    older_agent = Realised("realised", is_reverted=True, policy_version=1)
    now = msgspec.structs.replace(older_agent, rejected=told_of[WEB], problems=(why,))
    before = msgspec.structs.replace(older_agent, rejected=told_of[WEB] + 1)
    same_version = msgspec.structs.replace(now, policy_version=2)

    found = with_controller(
        tmp_path,
        estate(FIRST, FAILSAFE, "spreading", ()),
        hears({WEB: before, DB: before}),
        hears({WEB: same_version, DB: older_agent}),
        hears({WEB: Realised("realised", told_of[WEB] + 9, policy_version=1)}),
    )

    assert found[0] == (dict.fromkeys(("web", "db"), ("pending", "told, not realised yet")), "")
    assert found[1][0] == {"web": ("reverted", why), "db": ("reverted", "its trial failed")}
    assert found[1][1] == f"web: reverted: {why}; db: reverted: its trial failed"
    assert found[2][0]["web"] == ("pending", "the rollout stopped: it has version 1")


def test_who_a_stopped_rollout_never_reached_is_not_told_to_wait_for_it(tmp_path: Path) -> None:
    """Its turn does not come any more."""
    said = {uuid: Realised("realised", policy_version=1) for uuid in (WEB, DB)}
    ((states, _),) = with_controller(tmp_path, estate(FIRST, FAILSAFE, "stopped", (WEB,)), hears(said))
    assert {why for _, why in states.values()} == {"the rollout stopped: it has version 1"}
