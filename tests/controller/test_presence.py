"""Heartbeats: answered at once, judged before they change anything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from unittest.mock import Mock

import pytest
from beats import A, B, Clock, addresses, beat_subject, heartbeat
from nacl.signing import SigningKey

from ringfence.bus.memory import MemoryBroker, MemoryBus
from ringfence.controller.desired.distribute import Distributor
from ringfence.controller.identity.presence import Presence
from ringfence.controller.pacing import BURST, PER_S, Pace
from ringfence.wire.messages import Expected, Fetch, Pieces


class Heard:
    """A presence, and what it tells."""

    def __init__(self) -> None:
        self.clock, self.answers = Clock(), list[Expected]()
        self.claims: list[tuple[int, ...]] = []
        self.clones: list[tuple[str, ...]] = []
        self.presence = Presence(lambda uuid: "", self._seal, clock=self.clock.seconds)
        self.presence._beats = Pace(clock=self.clock.seconds)
        self.presence.on_addresses = lambda uuid, claim: self.claims.append(claim)
        self.presence.on_clone = self._clone

    def _seal(self, expected: Expected) -> bytes:
        self.answers.append(expected)
        return b"sealed"

    async def _clone(self, uuid: str, instances: tuple[str, ...]) -> None:
        self.clones.append(instances)

    def beats(self, told: Iterable[tuple[float, str, str]], uuid: str = A) -> None:
        """(seconds after the one before, instance, address), each a heartbeat."""

        async def run() -> None:
            for after_s, instance, address in told:
                self.clock.pass_(seconds=after_s)
                await self.presence.beat(beat_subject(uuid), heartbeat(addresses(address), instance))

        asyncio.run(run())


OWN, FOREIGN = addresses("10.0.0.1"), addresses("10.66.6.6")


def test_a_host_that_cannot_see_its_addresses_keeps_them() -> None:
    """Not to know is not to have none: what was known of it stays, though it is heard."""
    heard = Heard()
    heard.beats([(10, "first", "10.0.0.1")])

    async def blind() -> None:
        heard.clock.pass_(seconds=10)
        await heard.presence.beat(beat_subject(A), heartbeat((), "first", is_blind=True))

    asyncio.run(blind())
    assert heard.claims == [OWN]
    assert heard.presence.seen[A].at == heard.clock.seconds()
    heard.beats([(10, "first", "10.66.6.6")])
    assert heard.claims == [OWN, FOREIGN]


def test_that_a_host_lives_is_written_seldom_and_what_is_new_at_once() -> None:
    """Thousands of heartbeats a minute that say the same are not as many rows; another address, and what it realised,
    is kept with the next step."""
    heard = Heard()

    def kept() -> set[str]:
        dirty, heard.presence.dirty = heard.presence.dirty, set()
        for uuid in dirty:
            heard.presence.seen[uuid].kept_at = heard.presence.seen[uuid].at
        return dirty

    written = []
    for _ in range(6):
        heard.beats([(10, "first", "10.0.0.1")])
        written.append(kept())
    assert written == [{A}, set(), {A}, set(), {A}, set()]
    heard.beats([(1, "first", "10.0.0.1")])
    heard.beats([(1, "first", "10.66.6.6")])
    assert kept() == {A}
    asyncio.run(heard.presence.done(f"rf.up.{A}.done", b'{"state":"realised"}'))
    assert kept() == {A}


def test_a_clone_gets_no_address_before_or_after_it_is_found() -> None:
    """Two that alternate under one identity: it keeps what the first had, and the clone is told once."""
    heard = Heard()

    heard.beats([(10, "first", "10.0.0.1"), *[(5, "second", "10.66.6.6"), (5, "first", "10.0.0.1")] * 10])

    assert set(heard.claims) == {OWN}
    assert len(heard.claims) == 1
    assert heard.clones == [("first", "second")]
    assert [answer.is_cloned for answer in heard.answers[2:]] == [True] * 19


def test_a_clone_that_speaks_seldom_gets_no_address_either() -> None:
    """Once every two minutes, between two heartbeats of the first."""
    heard = Heard()

    often = [(10.0, "first", "10.0.0.1")] * 12
    heard.beats([*often, *[(5.0, "second", "10.66.6.6"), *often] * 4])

    assert set(heard.claims) == {OWN}


def test_a_restart_moves_addresses_once_the_old_instance_is_silent() -> None:
    """At once after a while without heartbeats, else when the old one missed two; it is no clone."""
    slow, quick = Heard(), Heard()

    slow.beats([(10, "first", "10.0.0.1"), (60, "second", "10.66.6.6")])
    quick.beats([(10, "first", "10.0.0.1"), *[(10, "second", "10.66.6.6")] * 4])

    assert slow.claims == [OWN, FOREIGN]
    assert slow.clones == []
    assert set(quick.claims) == {OWN, FOREIGN}
    assert quick.claims[1] == FOREIGN
    assert quick.clones == []


def test_a_clone_that_is_gone_is_forgotten() -> None:
    """Some time after the last alternation the one that is left speaks for itself."""
    heard = Heard()

    heard.beats([(10, "a", "10.0.0.1"), (5, "b", "10.66.6.6"), (5, "a", "10.0.0.1"), *[(10, "a", "10.0.0.2")] * 12])

    assert heard.answers[2].is_cloned
    assert not heard.answers[-1].is_cloned
    assert heard.claims[-1] == addresses("10.0.0.2")


def test_an_agent_of_ever_new_instances_is_remembered_in_bounds() -> None:
    """Whatever it sends, it costs a constant."""
    heard = Heard()

    heard.beats([(1, f"{n}", "10.0.0.1") for n in range(100)])

    assert len(heard.presence.seen[A].earlier) == 16


def test_haste_costs_nobody_else() -> None:
    """A flood is answered as far as the burst goes, before anything in it is read; another is answered as ever."""
    heard = Heard()

    heard.beats([(0, "one", "10.0.0.1")] * 100)
    assert len(heard.answers) == BURST
    heard.beats([(0, "one", "10.0.0.2")], B)
    assert len(heard.answers) == BURST + 1
    heard.beats([(1, "one", "10.0.0.1")] + [(0, "one", "10.0.0.1")] * 100)
    assert len(heard.answers) == BURST + 1 + PER_S
    assert heard.presence._beats.refused == 80 + 96


def test_who_speaks_no_more_is_forgotten_and_nobody_gains_by_it() -> None:
    """Hundreds of thousands of agents that came and went leave nothing; one in a hurry stays refused."""
    at = [0.0]
    pace = Pace(1.0, 5.0, clock=lambda: at[0])
    for number in range(100_000):
        at[0] += 0.01
        assert pace.admits(f"once-{number}")
        if number % 50 == 0:
            pace.admits("hasty")
            pace.admits("hasty")
    assert len(pace._buckets) < 4_000
    assert not any([pace.admits("hasty") for _ in range(10)][5:])


def test_what_agents_ask_and_realised_has_its_pace_too() -> None:
    """Each kind of message has a bucket of its own, looked at before the message is."""
    broker = MemoryBroker()
    asked: list[str] = []

    class Voice(Distributor):
        def pieces(self, uuid: str, fetch: Fetch) -> Pieces:
            asked.append(uuid)
            return Pieces()

    async def run() -> None:
        here, there = MemoryBus(broker), MemoryBus(broker)
        voice = Voice(here, SigningKey.generate, Mock(), Mock())
        voice._pace = Pace(burst=3, clock=lambda: 0.0)
        await voice.serve()
        for uuid, asks in ((A, 10), (B, 1)):
            for _ in range(asks):
                await there.publish(f"rf.up.{uuid}.ask", b"{}")
        while B not in asked:
            await asyncio.sleep(0)
        await there.close()
        await here.close()
        heard = Heard()
        heard.presence._dones = Pace(burst=2, clock=lambda: 0.0)
        done = [await heard.presence.done(f"rf.up.{A}.done", b'{"state":"realised"}') for _ in range(4)]
        assert [one is not None for one in done] == [True, True, False, False]

    asyncio.run(run())
    assert asked == [A, A, A, B]


def test_an_answer_waits_for_no_lease() -> None:
    """The claim is handed over, and what it takes to follow it is nobody's heartbeat's business."""
    heard = Heard()

    async def run() -> bytes | None:
        return await heard.presence.beat(beat_subject(A), heartbeat(OWN))

    coroutine = run()
    with pytest.raises(StopIteration) as done:  # at the first step: nothing was waited for
        coroutine.send(None)
    assert done.value.value == b"sealed"
    assert heard.claims == [OWN]


@pytest.mark.parametrize("said", [b'{"at":1.0}', b'{"beat":2}', b"\x80\x01"], ids=["too old", "too new", "noise"])
def test_an_agent_that_is_not_understood_is_told_of(said: bytes) -> None:
    """It gets no answer, changes nothing that is known of it, and people hear whose version does not fit."""
    heard, unread = Heard(), list[tuple[str, str]]()
    heard.presence.on_unread = lambda uuid, why: unread.append((uuid, why))
    heard.beats([(10, "first", "10.0.0.1")])
    before = heard.presence.seen[A].heartbeat

    assert asyncio.run(heard.presence.beat(beat_subject(A), said)) is None
    assert heard.presence.seen[A].heartbeat is before
    assert [uuid for uuid, _ in unread] == [A]
    assert len(heard.answers) == 1
