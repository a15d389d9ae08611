"""What agents keep durably is counted once, and stored and told before the bus forgets it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast, get_args

import msgspec
import pytest
from databases import opened
from hypothesis import given
from hypothesis import strategies as st

from ringfence.bus.memory import MemoryBroker, MemoryBus
from ringfence.controller.alerts import occurrences
from ringfence.controller.alerts.occurrences import Ground
from ringfence.controller.alerts.watching import Machines, Watching
from ringfence.controller.desired.reconcile import Reconciler
from ringfence.controller.identity.presence import Presence
from ringfence.controller.metrics import Metrics
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Workload
from ringfence.notify.dispatcher import Dispatcher
from ringfence.ports import target
from ringfence.ports.notifier import Notice
from ringfence.ports.state import Alert, State
from ringfence.wire import subjects
from ringfence.wire.messages import Event, Events, Heartbeat, Realised, Violation

A, B = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)
INVENTORY = Inventory([Workload("web", A)])
GROUND = Ground(INVENTORY)


class _Outbox:
    """Takes notices, but for the first few times."""

    def __init__(self, failures: int) -> None:
        self.failures, self.heard = failures, list[Notice]()

    async def put(self, notices: Sequence[Notice]) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("no space left on device")
        self.heard.extend(notices)


def _watching(state: State, outbox: _Outbox) -> Watching:
    reconciler = cast(Reconciler, SimpleNamespace(inputs=SimpleNamespace(inventory=INVENTORY)))
    presence = Presence(lambda _: "", lambda _: b"")
    return Watching(state, reconciler, presence, cast(Dispatcher, outbox), Metrics(), lambda: NOW)


def test_what_could_not_be_stored_is_handed_out_again_and_counted_once(
    place: str | Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outbox refuses twice: the bus keeps the message until it is told and stored, with a count of one."""
    monkeypatch.setattr(Watching, "ground", GROUND)

    async def go() -> None:
        async with opened(place) as state:
            outbox, bus = _Outbox(2), MemoryBus(MemoryBroker())
            watching = _watching(state, outbox)
            await watching.start(bus)
            events = Events("1", events=(Event(NOW.timestamp(), "tampering", "a chain is gone"),))
            for id_ in ("first", "again"):
                await bus.keep(subjects.kept(A, "events"), msgspec.json.encode(events), id=id_)
            broker = bus._broker
            while broker._kept:
                await asyncio.sleep(0.01)
            stored = await state.read(lambda view: view.find(Alert))
            assert [(one.kind, one.count) for one in stored] == [("tampering", 1)]
            assert (len(outbox.heard), outbox.failures) == (1, 0)
            await bus.close()

    asyncio.run(asyncio.wait_for(go(), 60))


_SOUND = {
    "at": 0, "direction": "in", "protocol": 6, "source": 1, "destination": 2, "source_port": 1, "port": 1,
    "verdict": "blocked", "step": "deny",
}  # fmt: skip


@pytest.mark.parametrize(
    "hostile",
    [
        {"violations": [_SOUND | {"source": -1}]}, {"violations": [_SOUND | {"destination": 1 << 128}]},
        {"violations": [_SOUND | {"count": 1 << 63}]}, {"violations": [_SOUND | {"count": -(10**400)}]},
        {"violations": [_SOUND | {"port": 1 << 40}]}, {"violations": [_SOUND | {"protocol": -1}]},
        {"violations": [_SOUND | {"source_port": 1 << 70}]}, {"suppressed": 10**400},
    ],
    ids=["no address", "too far", "many", "few", "port", "protocol", "source port", "suppressed"],
)  # fmt: skip
def test_one_agents_impossible_events_keep_no_others_out(
    place: str | Path, monkeypatch: pytest.MonkeyPatch, hostile: dict[str, object]
) -> None:
    """What cannot be is dropped, once: it is not handed out for ever in the place of what others tell, and stops
    neither the counting nor the store."""
    monkeypatch.setattr(Watching, "ground", GROUND)

    async def go() -> None:
        async with opened(place) as state:
            outbox, bus = _Outbox(0), MemoryBus(MemoryBroker())
            watching = _watching(state, outbox)
            await watching.start(bus)
            data = json.dumps({"sequence": "1", **hostile}).encode()
            await bus.keep(subjects.kept(B, "events"), data, id="1")
            events = Events("1", events=(Event(NOW.timestamp(), "tampering", "a chain is gone"),))
            await bus.keep(subjects.kept(A, "events"), msgspec.json.encode(events), id="1")
            while bus._broker._kept:
                await asyncio.sleep(0.01)
            stored = await state.read(lambda view: view.find(Alert))
            assert [(one.kind, one.count) for one in stored] == [("tampering", 1)]
            await bus.close()

    asyncio.run(asyncio.wait_for(go(), 20))


def test_a_rule_that_an_agent_names_is_one_line_of_text() -> None:
    """It writes no lines of a log, a mail or a terminal."""
    told = Violation(0.0, "in", 6, 1, 2, 1, 1, "blocked", "deny", rule="a\n\x1b[2Jforged" + "x" * 5000)
    rule = occurrences.violation(told, "web", GROUND).rule
    assert rule.isprintable()
    assert len(rule) <= 1000


def test_two_machines_under_one_name_are_a_clone() -> None:
    """The one that enrolled and another, both heard within the last moments; told once while it stays so."""
    machines, at = Machines(), NOW.timestamp()
    machines.hear(A, "enrolled", at - 20)
    machines.hear(A, "another", at - 5)
    found = list(machines.moved({A: "enrolled"}, NOW, GROUND, {A: "web"}))
    assert [(one.kind, one.subject) for one in found] == [("clone", "web")]
    assert list(machines.moved({A: "enrolled"}, NOW, GROUND, {A: "web"})) == []


def test_another_machine_alone_is_a_hint() -> None:
    """A restored image or new hardware: worth a look, no alarm; and an alarm as soon as the first one is back."""
    machines, later = Machines(), NOW + timedelta(minutes=5)
    machines.hear(A, "enrolled", NOW.timestamp())
    machines.hear(A, "another", later.timestamp() - 1)
    (found,) = machines.moved({A: "enrolled"}, later, GROUND, {A: "web"})
    assert (found.kind, found.severity) == ("agent", "warning")
    machines.hear(A, "enrolled", later.timestamp())
    assert [one.kind for one in machines.moved({A: "enrolled"}, later, GROUND, {A: "web"})] == ["clone"]


def test_the_machine_that_enrolled_is_no_news() -> None:
    """Nor is one where nobody wrote down which it was, nor what is of no workload any more."""
    machines = Machines()
    machines.hear(A, "enrolled", NOW.timestamp())
    assert list(machines.moved({A: "enrolled"}, NOW, GROUND, {A: "web"})) == []
    assert list(machines.moved({A: ""}, NOW, GROUND, {A: "web"})) == []
    assert list(machines.moved({A: "other"}, NOW, GROUND, {})) == []


@given(
    state=st.sampled_from(get_args(target.State)),
    assignment=st.integers(0, 2),
    is_reverted=st.booleans(),
    disabled=st.sampled_from([0.0, -1.0, 1.0]),
    used=st.integers(-1, 20),
    most=st.integers(-1, 20),
)
def test_whoever_is_well_has_nothing_to_be_told(
    state: target.State, assignment: int, is_reverted: bool, disabled: float, used: int, most: int
) -> None:
    """The short look at every host every second misses nothing that the long one finds."""
    realised = Realised(state, assignment, is_reverted=is_reverted)
    told = Heartbeat(
        0.0, "one", "m", "1", 1, "", realised,
        conntrack_used=used, conntrack_max=most, disabled_until=NOW.timestamp() + disabled,
    )  # fmt: skip
    found = occurrences.beat(told, "web-1", NOW, Ground(Inventory(()), ()))
    assert not (occurrences.is_well(told, realised, NOW.timestamp()) and found)


def test_most_hosts_are_well() -> None:
    """One that enforces what it should, with room in its tables, is passed over."""
    realised = Realised("realised", 3)
    told = Heartbeat(0.0, "one", "m", "1", 1, "", realised, conntrack_used=40, conntrack_max=100)
    assert occurrences.is_well(told, realised, NOW.timestamp())
