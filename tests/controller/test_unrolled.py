"""Versions that hosts do not have: what stopped or waits at its canary is no ground to stand on; refusals are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from databases import opened

from ringfence.controller import audit
from ringfence.controller.access.access import Principal
from ringfence.controller.publishing.versions import Draft, Versions
from ringfence.core.errors import FindingsError, RingfenceError
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload
from ringfence.core.labels.selector import parse_selector
from ringfence.core.net.address import parse_address
from ringfence.core.world import World
from ringfence.ports.state import Change, PolicyVersion, Rollout, State

NOW = datetime(2026, 3, 3, tzinfo=UTC)
ROOT, APPROVER = Principal("root", ("administrator",)), Principal("eve", ("approver",))
SHOPPER = Principal("ann", ("author",), parse_selector("app=shop"))


def host(name: str, address: str, **labels: str) -> Workload:
    return Workload(name=name, uuid=f"u-{name}", labels=labels, addresses=(Lease(parse_address(address)),))


HOSTS = (
    host("web", "10.0.0.1", app="shop", role="web"),
    host("db", "10.0.0.2", app="shop", role="db"),
    host("crm", "10.0.0.3", app="crm", role="web"),
    host("book", "10.0.0.4", app="crm", role="db"),
)
PROCESSES = tuple(
    Workload(name=n, uuid=f"u-{n}", labels={"role": n}, kind="process", host="db", unit=f"{n}.service")
    for n in ("one", "two")
)


def world_of(settings: str) -> World:
    return World(inventory=Inventory((*HOSTS, *PROCESSES)), at=NOW)


def policy(name: str, *ports: int, conditions: str = "") -> str:
    rules = "".join(f"  - allow: {{from: role=web, to: role=db, service: tcp/{port}{conditions}}}\n" for port in ports)
    return f"policy: {name}\nscope: app={name}\nrules:\n{rules or '  []'}"


def files(shop: str, crm: str = policy("crm", 1), **others: str) -> dict[str, str]:
    return {"shop.yaml": shop, "crm.yaml": crm, **{f"{name}.yaml": text for name, text in others.items()}}


FIRST, SECOND = files(policy("shop", 1)), files(policy("shop", 1), policy("crm", 1, 2))
TLS = files(policy("shop", 1, conditions=", require: mutual-tls"))
FORBIDDEN = files(policy("shop", 1), guard="policy: guard\nrules:\n  - forbid: {from: role=one, to: role=two}\n")


def rolled_out(stage: str) -> Callable[[Change], None]:
    """Version 1 is everywhere; version 2 was published, and is at a stage."""

    def work(tx: Change) -> None:
        for number, said in ((1, FIRST), (2, SECOND)):
            draft = Draft(said, number - 1)
            tx.add(PolicyVersion(number, NOW, "root", "", said, "", draft.digest, number - 1 or None))
        tx.add(Rollout("r1", 1, "done", NOW), Rollout("r2", 2, stage, NOW, ("u-web",)))
        audit.record(tx, at=NOW, actor="test", action="test", subject="test", details={})

    return work


def go(
    folder: Path, stage: str, *works: Callable[[Versions], Awaitable[Any]], needs_approval: bool = False
) -> list[Any]:
    """What each answers, or the error it raised."""

    async def run() -> list[Any]:
        state: State
        folder.mkdir(exist_ok=True)
        async with opened(folder / "state.sqlite") as state:
            await state.write(rolled_out(stage))
            versions = Versions(state, world_of, needs_approval=needs_approval)
            answers: list[Any] = []
            for work in works:
                try:
                    answers.append(await work(versions))
                except RingfenceError as error:
                    answers.append(error)
            return answers

    return asyncio.run(run())


def codes(answer: Any) -> list[str]:
    findings = answer.findings
    return sorted(one.code for one in findings)


@pytest.mark.parametrize(
    ("stage", "opened_pairs", "warned"), [("stopped", 1, True), ("canary", 1, True), ("done", 0, False)]
)
def test_a_plan_is_compared_with_what_hosts_have(tmp_path: Path, stage: str, opened_pairs: int, warned: bool) -> None:
    """On top of a version that was stopped, or that a canary alone has, a plan shows what that version opened, and
    says that it comes along; on top of one that every host has, it does not."""
    draft = Draft(files(policy("shop", 1), policy("crm", 1, 2), other=policy("other", 9)), 2)

    diff, judged = go(tmp_path, stage, lambda v: v.preview(draft), lambda v: v.judge(draft))

    assert sum("tcp/2" in box.services for box in diff.boxes) == opened_pairs
    assert ("unrolled-changes" in codes(judged)) is warned


def test_what_was_stopped_takes_the_right_over_it(tmp_path: Path) -> None:
    """Who may change only the shop does not bring along, nor take back, what somebody else's stopped version did."""
    mine = policy("shop", 1, 3)
    along, back = Draft(files(mine, policy("crm", 1, 2)), 2), Draft(files(mine), 2)

    stopped = go(tmp_path, "stopped", *(lambda v, d=d: v.publish(d, by=SHOPPER) for d in (along, back)))
    assert [error.code for error in stopped] == ["outside-scope", "outside-scope"]
    (published,) = go(tmp_path / "other", "done", lambda v: v.publish(along, by=SHOPPER))
    assert published.version.number == 3


async def _proposed(versions: Versions, said: dict[str, str], *, accept: bool) -> Any:
    proposal = await versions.propose(Draft(said, 2, note="x"), by=ROOT)
    return await versions.approve(proposal.id, by=APPROVER, accept_refused=accept)


async def _rolled_back(versions: Versions, said: dict[str, str], *, accept: bool) -> Any:
    await versions.publish(Draft(said, 2), by=ROOT, accept_refused=True)
    await versions.publish(Draft(FIRST, 3), by=ROOT)
    return await versions.rollback(3, by=ROOT, base=4, accept_refused=accept)


async def _published(versions: Versions, said: dict[str, str], *, accept: bool) -> Any:
    return await versions.publish(Draft(said, 2), by=ROOT, accept_refused=accept)


@pytest.mark.parametrize("way", [_published, _proposed, _rolled_back])
def test_what_hosts_cannot_express_is_accepted_by_somebody(tmp_path: Path, way: Any) -> None:
    """An allow that stays closed somewhere stops whatever way a version comes, unless it is accepted."""
    refused, taken = (
        go(tmp_path / str(accept), "done", lambda v, a=accept: way(v, TLS, accept=a))[0] for accept in (False, True)
    )

    assert isinstance(refused, FindingsError)
    assert codes(refused) == ["mutual-tls-unsupported"]
    assert taken.version.files == TLS


@pytest.mark.parametrize("way", [_published, _proposed])
def test_a_forbid_that_hosts_cannot_express_is_never_accepted(tmp_path: Path, way: Any) -> None:
    """A refused forbid fails the plan, whoever accepts it."""
    (refused,) = go(tmp_path, "done", lambda v: way(v, FORBIDDEN, accept=True))

    assert isinstance(refused, FindingsError)
    assert codes(refused) == ["process-to-process-unsupported"]
