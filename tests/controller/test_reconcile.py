"""What the controller remembers over a restart, however it ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ringfence.controller.desired.inputs import Inputs, Version
from ringfence.controller.desired.reconcile import Reconciler
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload
from ringfence.core.net.address import parse_address
from ringfence.core.world import Quarantine
from ringfence.stores.sql import SqlState

NOW = datetime(2026, 3, 3, tzinfo=UTC)
NETWORKS = frozenset({"main"})
QUARANTINED = (Quarantine("u-web"),)
Change = Callable[[Reconciler, bool], Awaitable[object]]


def host(name: str, **labels: str) -> Workload:
    address = parse_address(f"10.0.0.{len(name)}")
    return Workload(name=name, uuid=f"u-{name}", labels=labels, addresses=(Lease(address),))


INPUTS = Inputs(Inventory([host("web", role="web"), host("store", role="db")]), Version(0), NOW)


async def isolate(one: Reconciler, is_changed: bool) -> None:
    await one.isolate(QUARANTINED if is_changed else ())


async def relabel(one: Reconciler, is_changed: bool) -> None:
    await one.change(lambda inputs: _versioned(inputs, 5 if is_changed else 0))


def _versioned(inputs: Inputs, number: int) -> Inputs:
    return Inputs(inputs.inventory, Version(number), inputs.at)


def revisions(one: Reconciler) -> dict[str, int]:
    """Of everything an agent may hold."""
    told = one.isolating.of(NETWORKS)
    assert told is not None
    return {"isolations": told.revision} | {uuid: a.revision for uuid, a in one.desired.assignments.items()}


@pytest.mark.parametrize("change", [isolate, relabel])
@pytest.mark.parametrize("is_slow", [False, True], ids=["remembered", "crashed"])
def test_nothing_told_is_newer_than_what_a_restart_tells(change: Change, is_slow: bool, tmp_path: Path) -> None:
    """What changed and changed back has, after a crash, no revision older than any agent may hold: else one that heard
    only of the change would keep it for good. After a quiet end it has the very revision it had."""

    async def run() -> None:
        state = SqlState(tmp_path / "state.sqlite")
        first = Reconciler(state, tmp_path / "remembered.json", lambda: NOW)
        await first.start(INPUTS, ())
        await first.remember()
        for is_changed in (True, False):
            await change(first, is_changed)
        held = revisions(first)
        if not is_slow:
            await first.close()
        again = Reconciler(state, tmp_path / "remembered.json", lambda: NOW)
        await again.start(INPUTS, ())
        found = revisions(again)
        assert all(found[name] >= revision for name, revision in held.items())
        assert is_slow or found == held
        await again.close()
        await state.close()

    asyncio.run(run())


def test_a_quarantine_waits_for_no_question(tmp_path: Path) -> None:
    """However many threads are busy with what people ask, none of them is one that a quarantine needs."""

    async def run() -> None:
        state, told = SqlState(tmp_path / "state.sqlite"), list[object]()
        one = Reconciler(state, tmp_path / "remembered.json", lambda: NOW)
        await one.start(INPUTS, ())

        async def hear(news: object) -> None:
            told.append(news)

        one.on_isolations = hear
        answered = threading.Event()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        question = asyncio.create_task(asyncio.to_thread(answered.wait))
        try:
            async with asyncio.timeout(10):
                await one.isolate(QUARANTINED)
                await one.remember()
            assert told
            assert not question.done()
        finally:
            answered.set()
            await question
        await one.close()
        await state.close()

    asyncio.run(run())
