"""What is enforced, what is on the disk and what is told: in this order, whenever the agent is killed."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Collection, Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from scripted import OTHER, UUID, WEB, Controller, Host, Paper, body, until

from ringfence.agent.boot import guard
from ringfence.agent.clock import Clock
from ringfence.agent.held import breakglass
from ringfence.agent.held.disk import HELD, Disk, Record
from ringfence.agent.held.held import Held
from ringfence.agent.held.journal import Journal
from ringfence.agent.point import How
from ringfence.core.intent.model import Intent
from ringfence.core.intent.pieces import Isolation
from ringfence.core.net.address import parse_address
from ringfence.ports.target import Observed
from ringfence.wire.messages import Upcoming

FIRST, SECOND = parse_address("10.0.0.1"), parse_address("10.0.0.2")


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


async def settle(controller: Controller) -> None:
    """Two members and a policy."""
    await controller.say(controller.move(added=["10.0.0.1", "10.0.0.2"]))
    made = controller.assign(body("tcp/80"))
    await controller.say(made)
    await until(lambda: controller.realised and controller.realised[-1].assignment == made.revision)


def left(folder: Path) -> Held:
    """What an agent that is killed now comes back to, or a host."""
    held = Disk(folder).load().held()
    assert held is not None
    return held


class Looking(Paper):
    """What a restart would come back to, at each moment before the kernel is changed."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.before: list[Held | None] = []

    def converge(self, intent: Intent, how: How) -> Observed:
        self.before.append(Disk(self.folder).load().held())
        return super().converge(intent, how)

    def move(self, added: Mapping[int, Collection[int]], removed: Collection[int]) -> Observed:
        self.before.append(left(self.folder))
        return super().move(added, removed)

    def isolate(self, intent: Intent) -> Observed:
        self.before.append(left(self.folder))
        return super().isolate(intent)


def test_what_is_taken_away_is_written_before_it_is_enforced(tmp_path: Path) -> None:
    """A member that leaves, a quarantine, another policy: an agent killed right after the kernel took it comes back
    to nothing wider."""

    async def test() -> None:
        controller, point = Controller(), Looking(tmp_path)
        await controller.start()
        async with Host(controller, tmp_path, point):
            await settle(controller)
            away = controller.move(removed=["10.0.0.2"])
            await controller.say(away)
            await until(lambda: controller.realised[-1].change == away.revision)
            assert point.moved[-1] == ({}, [SECOND])
            assert point.before[-1] is not None
            assert point.before[-1].groups[WEB].addresses == {FIRST}
            isolated = controller.isolate(Isolation(OTHER, (FIRST,)))
            await controller.say(isolated)
            await until(lambda: controller.realised[-1].isolations == isolated.revision)
            assert point.before[-1].isolations == isolated
            made = controller.assign(body("tcp/81"))
            await controller.say(made)
            await until(lambda: controller.realised[-1].assignment == made.revision)
            assert point.before[-1] is not None
            assert point.before[-1].assignment == made
        await controller.bus.close()

    run(test())


@pytest.mark.parametrize("even_quarantine", [False, True])
def test_a_quarantine_that_a_break_glass_lifts_is_not_told_as_held(even_quarantine: bool, tmp_path: Path) -> None:
    """Somebody at the host disables policy: a quarantine holds on and is told, or is lifted by word and is not; when
    the glass is whole again it is."""

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, Paper()) as agent:
            await settle(controller)
            told = breakglass.disable(tmp_path, agent.clock, for_s=600, why="x", even_quarantine=even_quarantine)
            agent.reload()
            isolated = controller.isolate(Isolation(UUID, ()))
            await controller.say(isolated)
            await until(lambda: agent.held.isolations == isolated)
            if not even_quarantine:
                await until(lambda: controller.realised[-1].isolations == isolated.revision)
            await controller.say(controller.move(added=["10.0.0.3"]))
            await until(lambda: controller.realised[-1].change == agent.footing.change)
            assert (controller.realised[-1].isolations == isolated.revision) is not even_quarantine
            breakglass.end(tmp_path, told)
            agent.reload()
            await until(lambda: controller.realised[-1].isolations == isolated.revision)
            assert agent.footing.in_force is not None
            assert agent.footing.in_force.is_quarantined
        await controller.bus.close()

    run(test())


class Ahead(Clock):
    """A clock by which two hours have passed."""

    def wall_s(self) -> float:
        return super().wall_s() + 7200


def test_what_closed_while_the_host_was_off_stays_closed(tmp_path: Path) -> None:
    """An agent that starts after a turn keeps that it is over: the next one opens nothing, whatever its clock says."""

    async def test() -> None:
        controller, later = Controller(), body("tcp/80")
        await controller.start()
        controller.bodies[later.digest] = later
        async with Host(controller, tmp_path, Paper()):
            turn = Upcoming(Clock().now() + timedelta(hours=1), later.digest)
            made = controller.assign(body("tcp/80", "tcp/22"), schedule=(turn,))
            await controller.say(made)
            await until(lambda: controller.realised and controller.realised[-1].assignment == made.revision)
        controller.answers = False
        async with Host(controller, tmp_path, Paper(), clock=Ahead()) as agent:
            await until(lambda: agent.footing.in_force is not None)
            assert agent.footing.in_force is not None
            closed = agent.footing.in_force.parts
        found = left(tmp_path).intent(Clock().now())
        assert found is not None
        assert found.parts == closed
        assert len(found.parts[0].cells) == 1
        await controller.bus.close()

    run(test())


def test_nothing_is_told_before_it_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk takes its time: the kernel does not wait for it, the report does."""
    may_go_on = threading.Event()
    may_go_on.set()
    sync = Journal.sync

    def slowly(journal: Journal) -> None:
        may_go_on.wait(10)
        sync(journal)

    monkeypatch.setattr(Journal, "sync", slowly)

    async def test() -> None:
        controller, point = Controller(), Paper()
        await controller.start()
        async with Host(controller, tmp_path, point) as agent:
            await settle(controller)
            may_go_on.clear()
            away = controller.move(removed=["10.0.0.2"])
            await controller.say(away)
            await until(lambda: point.moved and point.moved[-1] == ({}, [SECOND]))
            await until(lambda: agent.footing.telling.newest.change == away.revision)
            assert controller.realised[-1].change != away.revision
            assert agent.heartbeat().realised.change != away.revision
            may_go_on.set()
            await until(lambda: controller.realised[-1].change == away.revision)
        await controller.bus.close()

    run(test())


def test_a_disk_that_stands_still_stops_no_rule_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enforced at once; told after a while, and that the disk does not take it, too."""
    monkeypatch.setattr("ringfence.agent.held.keeper.KEPT_S", 0.3)
    is_over = threading.Event()
    append = Journal.append

    def never(journal: Journal, messages: Any) -> None:
        is_over.wait(20)
        append(journal, messages)

    async def test() -> None:
        controller, point = Controller(), Paper()
        await controller.start()
        async with Host(controller, tmp_path, point):
            await settle(controller)
            monkeypatch.setattr(Journal, "append", never)
            for address in ("10.0.0.2", "10.0.0.1"):
                change = controller.move(removed=[address])
                await controller.say(change)
                await until(lambda change=change: controller.realised[-1].change == change.revision)  # type: ignore[misc]
            await until(lambda: "disk-refused" in controller.kinds())
            is_over.set()
        await controller.bus.close()

    run(test())


def test_a_long_journal_becomes_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes are appended; when there are many, the record is written anew and what it has is forgotten."""
    monkeypatch.setattr("ringfence.agent.held.keeper._MOST_BYTES", 2_000)

    async def test() -> None:
        controller, point = Controller(), Paper()
        await controller.start()
        async with Host(controller, tmp_path, point) as agent:
            await settle(controller)
            written = (tmp_path / HELD).stat().st_mtime_ns
            for number in range(60):
                change = controller.move(added=[f"10.0.1.{number}"])
                await controller.say(change)
                await until(lambda change=change: controller.realised[-1].change == change.revision)  # type: ignore[misc]
            await until(lambda: agent.footing.keeper.is_kept)
            assert (tmp_path / HELD).stat().st_mtime_ns > written
            assert sum(path.stat().st_size for path in tmp_path.glob("heard.*")) < 8_000
            assert left(tmp_path).state == agent.held.state
        await controller.bus.close()

    run(test())


def test_what_was_changed_while_no_agent_ran_is_told(tmp_path: Path) -> None:
    """The next agent finds other rules than were left: told, and put right. Rules that are as they were accuse nobody,
    nor does a boot that has none."""

    async def test() -> None:
        controller, point = Controller(), Paper()
        await controller.start()
        async with Host(controller, tmp_path, point):
            await settle(controller)
        async with Host(controller, tmp_path, point) as agent:
            await until(lambda: agent.enforcer.realised.state == "realised")
        assert "tampered" not in controller.kinds()
        point.state = "drifted"
        async with Host(controller, tmp_path, point):
            await until(lambda: "tampered" in controller.kinds())
            await until(lambda: point.state == "realised")
        told = next(event for event in controller.events if event.kind == "tampered")
        assert "while no agent ran" in told.message
        assert told.details == ("a rule was added",)
        async with Host(controller, tmp_path / "elsewhere", Paper()) as agent:
            await until(lambda: agent.enforcer.realised.state == "absent" or agent.enforcer.realised.assignment)
        assert controller.kinds().count("tampered") == 1
        await controller.bus.close()

    run(test())


def test_a_reboot_accuses_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it there are no rules at all, and that is nobody's doing."""

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, Paper()):
            await settle(controller)
        monkeypatch.setattr("ringfence.agent.clock.Clock.boot", lambda _: "another boot")
        again = Paper()
        async with Host(controller, tmp_path, again) as agent:
            await until(lambda: agent.enforcer.realised.assignment)
        assert again.intent is not None
        assert "tampered" not in controller.kinds()
        assert again.intent.workload == UUID
        await controller.bus.close()

    run(test())


def test_an_assignment_that_waits_for_ever_keeps_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pieces never come: what is heard meanwhile goes into the record, and the segments go. A restart has the
    assignment still, with the release that waits for it; when the pieces come, all of it is in force."""
    monkeypatch.setattr("ringfence.agent.held.keeper._MOST_BYTES", 2_000)

    async def test() -> None:
        controller, point = Controller(), Paper()
        await controller.start()
        async with Host(controller, tmp_path, point) as agent:
            await settle(controller)
            isolated = controller.isolate(Isolation(OTHER, (FIRST,)))
            await controller.say(isolated)
            await until(lambda: controller.realised[-1].isolations == isolated.revision)
            controller.answers = False
            waiting = controller.assign(body("tcp/81"))
            await controller.say(waiting)
            await until(lambda: agent.held.pending == waiting)
            await controller.say(controller.isolate())
            await until(lambda: agent.held._release is not None)
            for number in range(100):
                change = controller.move(added=[f"10.0.1.{number}"])
                await controller.say(change)
                await until(lambda change=change: controller.realised[-1].change == change.revision)  # type: ignore[misc]
            await until(lambda: agent.footing.keeper.is_kept)
            assert sum(path.stat().st_size for path in tmp_path.glob("heard.*")) < 8_000
            assert len(list(tmp_path.glob("heard.*"))) <= 3
        again = left(tmp_path)
        assert (again.pending, again._release) == (waiting, agent.held._release)
        assert again.state == agent.held.state
        assert again.isolations is not None
        assert len(again.isolations.isolations) == 1
        controller.answers = True
        async with Host(controller, tmp_path, point) as agent:
            await until(lambda: controller.realised[-1].assignment == waiting.revision)
            await until(lambda: agent.held.isolations is not None and not agent.held.isolations.isolations)
        await controller.bus.close()

    run(test())


def test_an_assignment_larger_than_a_journal_waits_in_peace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said again behind each record it makes no new one by itself."""
    monkeypatch.setattr("ringfence.agent.held.keeper._MOST_BYTES", 10)
    saved: list[object] = []
    save = Disk.save

    def counted(self: Disk, record: Record) -> str:
        saved.append(record)
        return save(self, record)

    monkeypatch.setattr(Disk, "save", counted)

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, Paper()) as agent:
            await settle(controller)
            waiting = controller.assign(body("tcp/81"))
            controller.gives = False
            await controller.say(waiting)
            await until(lambda: agent.held.pending == waiting)
            await until(lambda: agent.footing.keeper.is_kept)
            count, beats = len(saved), len(controller.beats)
            await until(lambda: len(controller.beats) > beats + 2)
            assert len(saved) == count
        assert left(tmp_path).pending == waiting
        await controller.bus.close()

    run(test())


class Wrong(Clock):
    """A clock that somebody set, in hours from the right time."""

    def __init__(self, hours: float) -> None:
        super().__init__()
        self._hours = hours

    def wall_s(self) -> float:
        return super().wall_s() + self._hours * 3600


def test_a_boot_after_a_turn_is_written_down(tmp_path: Path) -> None:
    """The host was off when a rule ended. Its boot guard closes it, and that is for good: neither the next boot nor an
    agent whose clock went back opens it again. It needs neither controller nor agent for that."""

    async def test() -> None:
        controller, later = Controller(), body("tcp/80")
        await controller.start()
        controller.bodies[later.digest] = later
        async with Host(controller, tmp_path, Paper()):
            turn = Upcoming(Clock().now() + timedelta(hours=1), later.digest)
            made = controller.assign(body("tcp/80", "tcp/22"), schedule=(turn,))
            await controller.say(made)
            await until(lambda: controller.realised and controller.realised[-1].assignment == made.revision)
        open_ = left(tmp_path).intent(Clock().now())
        for hours, cells in ((0, 2), (2, 1), (0, 1), (-24, 1)):
            point = Paper()
            guard(Disk(tmp_path), point, Wrong(hours))
            assert point.intent is not None
            assert len(point.intent.parts[0].cells) == cells
        assert open_ is not None
        controller.answers = False
        async with Host(controller, tmp_path, point := Paper()) as agent:
            await until(lambda: agent.footing.in_force is not None)
        assert point.intent is not None
        assert len(point.intent.parts[0].cells) == 1
        await controller.bus.close()

    run(test())


def test_a_boot_on_a_disk_that_takes_nothing_enforces_the_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the root file system is writable, say: what is over is closed all the same."""

    async def test() -> None:
        controller, later = Controller(), body("tcp/80")
        await controller.start()
        controller.bodies[later.digest] = later
        async with Host(controller, tmp_path, Paper()):
            made = controller.assign(
                body("tcp/80", "tcp/22"), schedule=(Upcoming(Clock().now() + timedelta(hours=1), later.digest),)
            )
            await controller.say(made)
            await until(lambda: controller.realised and controller.realised[-1].assignment == made.revision)
        await controller.bus.close()

    run(test())

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Disk, "_replace", refuse)
    point = Paper()
    assert guard(Disk(tmp_path), point, Wrong(2)).state == "realised"
    assert point.intent is not None
    assert len(point.intent.parts[0].cells) == 1


def test_a_quarantine_outlives_its_time_where_nobody_says_that_it_is_over(tmp_path: Path) -> None:
    """A host that boots after it should have ended, without the controller, stays isolated: that it was made longer is
    not known there, and the way to the controller is open. It ends with the controller's word."""

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, Paper()):
            await settle(controller)
            ends = Clock().now() + timedelta(hours=1)
            isolated = controller.isolate(Isolation(UUID, (), until=ends), Isolation(OTHER, (FIRST,), until=ends))
            await controller.say(isolated)
            await until(lambda: controller.realised[-1].isolations == isolated.revision)
        point = Paper()
        guard(Disk(tmp_path), point, Wrong(2))
        assert point.intent is not None
        assert point.intent.is_quarantined
        assert point.intent.isolated == (FIRST,)
        over = controller.isolate()
        async with Host(controller, tmp_path, point):
            await until(lambda: controller.realised[-1].isolations == over.revision)
        assert not point.intent.is_quarantined
        assert not point.intent.isolated
        await controller.bus.close()

    run(test())
