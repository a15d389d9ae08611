"""A host whose agent was removed: what is told, what is written down, and what nobody believes any more."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from beats import START, A, B, Clock, ground

from ringfence.agent import farewell
from ringfence.agent.uninstall import LEAVES, Leave
from ringfence.controller.alerts import occurrences
from ringfence.ports.state import AuditEntry, Where, WorkloadRecord
from ringfence.wire import subjects
from ringfence.wire.messages import Event, Events, Realised

WEB = WorkloadRecord(A, "web", {"app": "shop"}, START)


def told(clock: Clock, how: Leave, *, ago_s: float = 0.0, why: str = "ticket 4711") -> bytes:
    event = farewell.words(how, why=why, by="alice", at_s=clock.seconds() - ago_s)
    return msgspec.json.encode(Events("once", events=(event,)))


@pytest.mark.parametrize("how", LEAVES)
def test_who_removed_an_agent_is_told_and_written_down_once(tmp_path: Path, how: Leave) -> None:
    """An error, one entry in the log with the workload's name, and a host of which nothing is believed; the message
    again, before and after a restart, is no second entry. Its silence says what was left, not what it was told last."""

    async def go() -> None:
        clock = Clock()
        data = told(clock, how, ago_s=-20.0)
        async with ground(tmp_path, clock, WEB) as made:
            await made.beat(A)
            made.controller.presence.seen[A].realised = Realised("realised", 3)
            for _ in range(2):
                await made.controller.watching._take(subjects.kept(A, "events"), data)
            (message,) = made.alerts("uninstalled")
            assert all(words in message for words in ("web: ", f"leaves it {how}", "by alice", "why: ticket 4711"))
            (alert,) = (one for one in made.controller.watching.alerts if one.kind == "uninstalled")
            assert (alert.severity, alert.count, alert.state) == ("error", 1, "open")
            assert made.controller.realised(A) is not None
            assert made.controller.realised(A).state == "unreachable"  # type: ignore[union-attr]
        async with ground(tmp_path, clock) as made:
            await made.controller.watching._take(subjects.kept(A, "events"), data)
            clock.pass_(seconds=60)
            made.controller.watching._since = clock.now.replace(year=2025)
            await made.controller.watching._step(is_slow=False)
            assert made.alerts("drift") == []
            (silence,) = made.alerts("offline")
            assert f"its agent was removed by alice, and left it {how}: " in silence
            assert "last good policy" not in silence
            entries = await made.controller.state.read(
                lambda view: view.find(AuditEntry, Where("action", "agent.uninstall"))
            )
            assert [(one.actor, one.subject) for one in entries] == [("alice on web", A)]
            assert json.loads(entries[0].details)["name"] == "web"

    asyncio.run(asyncio.wait_for(go(), 60))


def test_who_is_heard_again_is_believed_again(tmp_path: Path) -> None:
    """A farewell that arrives late, after the agent was put back, takes nothing back; and the next heartbeat of one
    that was put back is believed."""

    async def go() -> None:
        clock = Clock()
        async with ground(tmp_path, clock, WEB) as made:
            await made.beat(A)
            seen = made.controller.presence.seen[A]
            seen.heartbeat = msgspec.structs.replace(seen.heartbeat, at=clock.seconds())
            seen.realised = Realised("realised", 3)
            await made.controller.watching._take(subjects.kept(A, "events"), told(clock, "open", ago_s=5))
            assert seen.realised.state == "realised"
            clock.pass_(seconds=5)
            await made.controller.watching._take(
                subjects.kept(A, "events"), told(clock, "open").replace(b"once", b"twice")
            )
            assert occurrences.is_removed(made.controller.presence.seen[A].realised)
            await made.beat(A, instance="two")
            assert not occurrences.is_removed(made.controller.presence.seen[A].realised)

    asyncio.run(asyncio.wait_for(go(), 60))


def test_break_glass_is_in_the_audit_log_too(tmp_path: Path) -> None:
    """With who broke it and why, once for each time."""

    async def go() -> None:
        clock = Clock()
        async with ground(tmp_path, clock, WEB) as made:
            for number in ("1", "2"):
                event = Event(clock.seconds(), "disabled", "ticket 4711", ("for 60 s", "by alice"))
                data = msgspec.json.encode(Events(number, events=(event,)))
                await made.controller.watching._take(subjects.kept(A, "events"), data)
            entries = await made.controller.state.read(
                lambda view: view.find(AuditEntry, Where("action", "agent.disable"))
            )
            assert [one.actor for one in entries] == ["alice on web"] * 2
            assert json.loads(entries[0].details)["message"] == "ticket 4711"

    asyncio.run(asyncio.wait_for(go(), 60))


@pytest.mark.parametrize("details", [(), ("leaves it in pieces", "by \x1b[2Jmallory"), ("nonsense",) * 5000])
def test_a_farewell_of_any_words_stops_nothing(tmp_path: Path, details: tuple[str, ...]) -> None:
    """What an agent says of its end is text of one line, and what nobody knows is not made up."""

    async def go() -> None:
        async with ground(tmp_path, Clock(), WEB) as made:
            await made.beat(A)
            at = made.clock.seconds()
            for uuid in (A, B):
                data = msgspec.json.encode(Events("1", events=(Event(at, "uninstalled", "gone", details),)))
                await made.controller.watching._take(subjects.kept(uuid, "events"), data)
            realised = made.controller.presence.seen[A].realised
            assert realised.problems[0].isprintable()
            assert realised.problems[0].endswith("what decides there is not known")
            assert sorted(m.split(":")[0] for m in made.alerts("uninstalled")) == sorted(["web", B])

    asyncio.run(asyncio.wait_for(go(), 60))


def test_a_controller_that_does_not_know_the_kind_tells_it_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As any event of an agent: nothing of the wire is another for it."""
    monkeypatch.setattr(occurrences, "KINDS", tuple(kind for kind in occurrences.KINDS if kind != "uninstalled"))
    event = farewell.words("open", why="", by="alice", at_s=1e9)
    found = occurrences.event(event, "web", occurrences.Ground(occurrences.Inventory(())))
    assert found.kind == "agent"
    assert "uninstalled: its agent is removed" in found.message
