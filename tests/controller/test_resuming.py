"""A controller that was put back in time: it passes its agents, tells everything anew, and widens nothing unasked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from test_running import DB, FIRST, NOW, WEB, estate, told, with_controller

from ringfence.controller.access.access import Principal
from ringfence.controller.controller import Controller
from ringfence.controller.desired.desired import News
from ringfence.controller.health import parts
from ringfence.controller.records.backing_up import back_up, restore_into
from ringfence.controller.records.resuming import MOST
from ringfence.ports.state import AuditEntry, Where
from ringfence.wire.messages import Fetch, Realised

ROOT = Principal("root", ("administrator",))


def heard(**said: int) -> Callable[[Controller], Awaitable[Any]]:
    """What is told, and noted, after a host named these revisions."""

    async def work(controller: Controller) -> Any:
        news: list[News] = []
        isolated: list[int] = []

        async def on_news(one: News) -> None:
            news.append(one)

        async def on_isolations(some: Any) -> None:
            isolated.extend(one.revision for one in some)

        controller.reconciler.on_news, controller.reconciler.on_isolations = on_news, on_isolations
        controller.resuming._heard = lambda: {WEB: Realised("realised", **said)}
        await controller.resuming.advance()
        entries = await controller.state.read(lambda v: v.find(AuditEntry, Where("action", "controller.leap")))
        assigned = {uuid: one.revision for n in news for uuid, one in n.assignments.items()}
        return assigned, isolated, len(entries)

    return work


@pytest.mark.parametrize("what", ["assignment", "change", "isolations"])
def test_agents_ahead_are_passed(tmp_path: Path, what: str) -> None:
    """A revision later than any given makes everything told anew under later ones still; once in a while, and written
    down. A restart goes on from there."""
    named = 7_000_000

    async def again(controller: Controller) -> Any:
        return (await heard(assignment=2 * named)(controller))[0]

    async def ours(controller: Controller) -> Any:
        return controller.reconciler.revisions

    filled = estate(FIRST, "", "done", ())
    (assigned, isolated, entries), soon, last = with_controller(tmp_path, filled, heard(**{what: named}), again, ours)

    assert set(assigned) == {WEB, DB}
    assert entries == 1
    assert soon == {}
    assert min(isolated if what == "isolations" else assigned.values()) > named
    (after,) = with_controller(tmp_path, lambda tx: None, ours)
    assert after > last


@pytest.mark.parametrize("named", [0, 1, MOST + 1])
def test_nobody_is_passed_who_is_not_ahead(tmp_path: Path, named: int) -> None:
    """Revisions that were given, and those that no controller can have given, change nothing."""
    said = heard(assignment=named, change=named, isolations=named)
    assert with_controller(tmp_path, estate(FIRST, "", "done", ()), said) == [({}, [], 0)]


async def restored(controller: Controller) -> dict[str, Any]:
    """What a host gets, and what status says."""
    fetch = Fetch(assignment=True, isolations=True)
    pieces = controller.reconciler.desired.answer(WEB, fetch)
    isolations = controller.reconciler.isolating.of(frozenset(["main"]))
    states = [one.state for one in await parts(controller) if one.name == "restore"]
    return {"assignment": pieces.assignment, "isolations": isolations, "status": states}


def test_a_restore_is_confirmed_before_it_is_in_force(tmp_path: Path) -> None:
    """Hosts are told neither policy nor quarantine of a backup until an administrator confirms; a quarantine that is
    begun meanwhile is told at once; a restart still waits."""

    async def make(controller: Controller) -> None:
        folder = controller.settings.directory
        await back_up(controller.state, folder, tmp_path / "backup", passphrase="", by=ROOT, at=NOW)

    with_controller(tmp_path / "old", estate(FIRST, "", "done", ()), make)
    asyncio.run(restore_into(tmp_path / "backup", tmp_path / "new", clock=lambda: NOW))

    async def isolate(controller: Controller) -> Any:
        await controller.containing.quarantine([DB], why="it beacons", by=ROOT)
        return controller.reconciler.isolating.of(frozenset(["main"]))

    async def confirm(controller: Controller, by: Principal = ROOT) -> Any:
        return await controller.resuming.confirm(by=by)

    async def by_author(controller: Controller) -> Any:
        return await confirm(controller, Principal("ann", ("author",)))

    def unfilled(tx: Any) -> None: ...

    works = (restored, by_author, isolate, told)
    before, refused, isolations, still = with_controller(tmp_path / "new", unfilled, *works)
    again, confirmed, whole, after, twice = with_controller(
        tmp_path / "new", unfilled, restored, confirm, restored, told, confirm
    )

    assert before == {"assignment": None, "isolations": None, "status": ["degraded"]}
    assert again == before | {"isolations": isolations}
    assert (whole["isolations"].adds, whole["isolations"].revision > isolations.revision) == (False, True)
    assert refused.code == "not-allowed"
    assert ([one.workload for one in isolations.isolations], isolations.adds) == ([DB], True)
    assert still == {}
    assert confirmed is None
    assert after == {WEB: (2, 0), DB: (2, 0)}
    assert twice.code == "not-restored"


def test_only_what_was_done_about_quarantines_since_is_told(tmp_path: Path) -> None:
    """One that the backup holds is not told, for hosts may know better; one begun since is added, one ended since is
    taken out; begun and ended again is ended; whatever restarts between."""

    async def make(controller: Controller) -> None:
        await controller.containing.quarantine([WEB], why="before the backup", by=ROOT)
        folder = controller.settings.directory
        await back_up(controller.state, folder, tmp_path / "backup", passphrase="", by=ROOT, at=NOW)

    with_controller(tmp_path / "old", estate(FIRST, "", "done", ()), make)
    asyncio.run(restore_into(tmp_path / "backup", tmp_path / "new", clock=lambda: NOW))

    async def said(controller: Controller) -> Any:
        told = controller.reconciler.isolating.of(frozenset(["main"]))
        return told and ([one.workload for one in told.isolations], told.adds, told.ended)

    async def begin(controller: Controller) -> Any:
        await controller.containing.quarantine([DB], why="since", by=ROOT)
        return await said(controller)

    async def end(controller: Controller, *uuids: str) -> Any:
        await controller.containing.release([DB], why="rebuilt", by=ROOT)
        return await said(controller)

    async def end_restored(controller: Controller) -> Any:
        await controller.containing.release([WEB], why="rebuilt", by=ROOT)
        return await said(controller)

    async def confirm(controller: Controller) -> Any:
        await controller.resuming.confirm(by=ROOT)
        return await said(controller)

    def unfilled(tx: Any) -> None: ...

    assert with_controller(tmp_path / "new", unfilled, said, begin) == [None, ([DB], True, ())]
    assert with_controller(tmp_path / "new", unfilled, said, end) == [([DB], True, ()), ([], True, (DB,))]
    assert with_controller(tmp_path / "new", unfilled, begin, end_restored) == [
        ([DB], True, ()), ([DB], True, (WEB,)),
    ]  # fmt: skip
    assert with_controller(tmp_path / "new", unfilled, said, confirm) == [([DB], True, (WEB,)), ([DB], False, ())]
