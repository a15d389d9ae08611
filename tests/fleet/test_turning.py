"""What agents are answered while the desired state is on its way from one state to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from nacl.signing import SigningKey

from ringfence.bus.memory import MemoryBroker, MemoryBus
from ringfence.controller.controller import Controller
from ringfence.controller.desired.desired import Desired, News, Turning
from ringfence.controller.desired.distribute import Distributor
from ringfence.controller.desired.inputs import Inputs, Version
from ringfence.controller.desired.isolating import Isolating
from ringfence.controller.identity.presence import Presence
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Mode, Workload
from ringfence.core.net.address import parse_address
from ringfence.core.policy.parse import parse_policies
from ringfence.lab.fleet_controller import _Answering
from ringfence.wire import subjects
from ringfence.wire.messages import Expected, Fetch, Heartbeat, Realised

NOW = datetime(2026, 3, 3, tzinfo=UTC)
POLICY = "policy: p\nowner: o\nrules:\n  - allow: {from: role=web, to: role=db, service: tcp/5432}\n"
WEB, DB, NEW = (f"{digit * 8}-1111-4111-8111-111111111111" for digit in "123")


def workload(uuid: str, role: str, address: str) -> Workload:
    lease = Lease(parse_address(address))
    return Workload(uuid[:1], uuid, {"role": role}, (lease,), mode=Mode.both("enforce"))


def desired() -> Desired:
    policies = parse_policies({"p.yaml": POLICY}).raise_if_errors()
    inventory = Inventory((workload(WEB, "web", "10.0.0.1"), workload(DB, "db", "10.0.0.2")))
    return Desired(Inputs(inventory, Version(1, policies), NOW))


def join(state: Desired) -> News:
    return state.put_workload(workload(NEW, "web", "10.0.0.3"))


def in_the_middle(monkeypatch: pytest.MonkeyPatch, state: Desired, look: Callable[[], None]) -> None:
    """Look when groups are of the next state already, and assignments of the one before."""
    assign = state._assign

    def looking(*arguments: object) -> object:
        look()
        return assign(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(state, "_assign", looking)


def test_nothing_is_said_of_two_states_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a change no agent is told a state that never was, nor pieces of two; before and after, it is."""
    state = desired()
    before = state.expected_state(DB, 0)
    looked = []

    def look() -> None:
        with pytest.raises(Turning):
            state.expected_state(DB, 0)
        with pytest.raises(Turning):
            state.answer(DB, Fetch(assignment=True))
        looked.append(True)

    in_the_middle(monkeypatch, state, look)
    join(state)

    assert looked
    assert state.expected_state(DB, 0) != before
    assert state.answer(DB, Fetch(assignment=True)).assignment == state.assignments[DB]


def test_what_begins_while_one_reads_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that another thread follows between the first and the last thing read is no answer, and no KeyError."""
    state = desired()
    read = state._state

    def interrupted(uuid: str, isolations: int) -> str:
        join(state)
        return read(uuid, isolations)

    monkeypatch.setattr(state, "_state", interrupted)

    with pytest.raises(Turning):
        state.expected_state(DB, 0)


def test_a_change_that_fails_leaves_a_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents are answered after a change that could not be followed."""
    state = desired()

    def fail() -> None:
        raise OverflowError

    in_the_middle(monkeypatch, state, fail)
    with pytest.raises(OverflowError):
        join(state)

    assert state.expected_state(WEB, 0)


def test_a_heartbeat_in_the_middle_of_a_change_asks_for_nothing() -> None:
    """It is answered at once, with what the agent has: the change is told to it, and compared the next time."""

    def turning(_: str) -> str:
        raise Turning

    sealed: list[Expected] = []

    def seal(message: Expected) -> bytes:
        sealed.append(message)
        return b""

    presence = Presence(turning, seal)
    said = Heartbeat(0.0, "i", "m", "1", 1, "what it has", Realised("realised"))

    asyncio.run(presence.beat(subjects.up(DB, "beat"), msgspec.json.encode(said)))

    assert [one.state for one in sealed] == ["what it has"]


def test_who_beats_before_it_was_told_is_not_made_to_ask() -> None:
    """Until every host of a change was told, no heartbeat is compared with it: what is on its way is not asked for."""

    async def run() -> list[str]:
        state, key = desired(), SigningKey.generate()
        bus, found = MemoryBus(MemoryBroker()), list[str]()
        distributor = Distributor(bus, lambda: key, state, Isolating())

        async def heard(_: str, data: bytes) -> None:
            try:
                found.append(distributor.expected(DB))
            except Turning:
                found.append("turning")

        publish = bus.publish

        async def published(subject: str, data: bytes) -> None:
            await heard(subject, data)
            await publish(subject, data)

        bus.publish = published  # type: ignore[method-assign]
        await distributor.tell(join(state))
        found.append(distributor.expected(DB))
        await bus.close()
        return [*found[:-1], str(found[-1] == state.expected_state(DB, 0))]

    *during, after = asyncio.run(run())

    assert {*during} == {"turning"}
    assert after == "True"


def test_who_asks_in_the_middle_of_a_change_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question is answered from the state that follows."""

    async def run() -> int:
        state, key = desired(), SigningKey.generate()
        distributor = Distributor(MemoryBus(MemoryBroker()), lambda: key, state, Isolating())
        asked: list[asyncio.Task[object]] = []

        async def ask() -> object:
            return await distributor._steady(DB, Fetch(assignment=True))

        state._turns += 1
        asked.append(asyncio.create_task(ask()))
        await asyncio.sleep(0)
        assert not asked[0].done()
        state._turns += 1
        pieces = await asked[0]
        return int(getattr(pieces, "assignment", None) == state.assignments[DB])

    assert asyncio.run(run()) == 1


def test_whoever_looks_in_the_middle_of_a_change_finds_nobody_done() -> None:
    """A lab that asks how far its hosts are asks at any moment: then none has all there is for it."""

    def turning(_: str) -> str:
        raise Turning

    def answering(expected: Callable[[str], str]) -> _Answering:
        return _Answering(cast(Controller, SimpleNamespace(distributor=SimpleNamespace(expected=expected))))

    assert not answering(turning)._is_all(WEB, "")
    assert answering(lambda _: "state")._is_all(WEB, "state")
    assert not answering(lambda _: "state")._is_all(WEB, "another")
