"""The contract of `ports.bus`, kept by the bus in memory and by NATS JetStream with mutual TLS and the callout."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from bus_fabrics import FABRICS, Fabric
from real_bus import PATIENCE_S, A

from ringfence.bus.memory import is_match
from ringfence.ports.bus import Bus, BusError
from ringfence.wire import subjects

Story = Callable[[Fabric], Awaitable[None]]
EVENTS = subjects.kept(str(A), "events")
FLOWS = subjects.kept(str(A), "flows")


@pytest.fixture(params=sorted(FABRICS))
def tell(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Story], None]:
    """Runs a story on a fabric."""

    async def told(story: Story) -> None:
        async with FABRICS[request.param](tmp_path) as fabric:
            await asyncio.wait_for(story(fabric), 60)

    return lambda story: asyncio.run(told(story))


class Heard:
    """What came to a subscription."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self._came = asyncio.Event()

    async def hear(self, subject: str, data: bytes) -> None:
        self.messages.append((subject, data))
        self._came.set()

    async def until(self, count: int) -> list[tuple[str, bytes]]:
        await self._until(lambda: len(self.messages) >= count)
        return self.messages

    async def until_all(self, expected: set[bytes]) -> None:
        """Each at least once, and nothing else."""
        await self._until(lambda: len({data for _, data in self.messages}) >= len(expected))
        assert {data for _, data in self.messages} == expected

    async def _until(self, is_enough: Callable[[], bool]) -> None:
        async def waiting() -> None:
            while not is_enough():
                self._came.clear()
                await self._came.wait()

        await asyncio.wait_for(waiting(), PATIENCE_S)


async def until_connected(bus: Bus) -> None:
    async def waiting() -> None:
        while not bus.is_connected:
            await asyncio.sleep(0.01)

    await asyncio.wait_for(waiting(), PATIENCE_S)


async def until_lost(bus: Bus) -> None:
    async def waiting() -> None:
        while bus.is_connected:
            await asyncio.sleep(0.001)

    await asyncio.wait_for(waiting(), PATIENCE_S)


async def silent(subject: str, data: bytes) -> None:
    """Hears and answers nothing."""


def test_a_message_reaches_who_hears_its_subject(tell: Callable[[Story], None]) -> None:
    """What is published comes to every subscription that covers it, in order, and to no other."""

    async def story(fabric: Fabric) -> None:
        all_beats, own, other = Heard(), Heard(), Heard()
        await fabric.controller.subscribe("rf.up.*.beat", all_beats.hear)
        await fabric.controller.subscribe("rf.up.>", own.hear)
        await fabric.controller.subscribe("rf.up.*.done", other.hear)
        await fabric.controller.flush()

        for number in range(20):
            await fabric.agent.publish(subjects.up(str(A), "beat"), b"%d" % number)
        await fabric.agent.flush()

        expected = [(subjects.up(str(A), "beat"), b"%d" % number) for number in range(20)]
        assert await all_beats.until(20) == expected
        assert await own.until(20) == expected
        assert other.messages == []

    tell(story)


def test_a_request_is_answered(tell: Callable[[Story], None]) -> None:
    """A request returns the answer of who hears its subject; each of many at once gets its own."""

    async def story(fabric: Fabric) -> None:
        async def double(subject: str, data: bytes) -> bytes:
            return data + data

        await fabric.controller.subscribe(subjects.UP_EVERYONE.format("ask"), double)
        await fabric.controller.flush()
        ask = subjects.up(str(A), "ask")

        answers = await asyncio.gather(*(fabric.agent.request(ask, b"%d" % n) for n in range(50)))

        assert answers == [b"%d%d" % (n, n) for n in range(50)]

    tell(story)


def test_a_request_nobody_answers_fails(tell: Callable[[Story], None]) -> None:
    """Nobody there, an answerer that answers nothing and one that fails are all a BusError."""

    async def story(fabric: Fabric) -> None:
        async def broken(subject: str, data: bytes) -> bytes:
            raise RuntimeError("on purpose")

        await fabric.controller.subscribe("rf.up.*.beat", silent)
        await fabric.controller.subscribe("rf.up.*.done", broken)
        await fabric.controller.flush()

        for what in ("ask", "beat", "done"):
            with pytest.raises(BusError):
                await fabric.agent.request(subjects.up(str(A), what), b"?", timeout_s=0.3)

    tell(story)


def test_a_request_that_is_cancelled_ends(tell: Callable[[Story], None]) -> None:
    """However close to the answer it was cancelled: who asks in a loop could not be stopped otherwise."""

    async def story(fabric: Fabric) -> None:
        later = itertools.count()

        async def answer(subject: str, data: bytes) -> bytes:
            cancelling.append(asyncio.ensure_future(cancel(asking, next(later))))
            await asyncio.sleep(0)
            return data

        async def cancel(task: asyncio.Task[bytes], turns: int) -> bool:
            for _ in range(turns):
                await asyncio.sleep(0)
            return task.cancel()

        await fabric.controller.subscribe(subjects.UP_EVERYONE.format("ask"), answer)
        await fabric.controller.flush()
        for _ in range(60):
            cancelling: list[asyncio.Future[bool]] = []
            asking = asyncio.ensure_future(fabric.agent.request(subjects.up(str(A), "ask"), b"?"))
            await asyncio.wait([asking])
            assert asking.cancelled() == await cancelling[0]

    tell(story)


def test_what_is_kept_waits_for_its_consumer(tell: Callable[[Story], None]) -> None:
    """A message kept before anybody consumes is handed over later, and only to the consumer of its subject."""

    async def story(fabric: Fabric) -> None:
        await fabric.agent.keep(EVENTS, b"early", id="1")
        await fabric.agent.keep(FLOWS, b"rows", id="2")
        events = Heard()

        await fabric.controller.consume("events", "rf.keep.*.events", events.hear)
        await events.until(1)
        await fabric.agent.keep(EVENTS, b"late", id="3")

        assert await events.until(2) == [(EVENTS, b"early"), (EVENTS, b"late")]

    tell(story)


def test_who_is_taken_long_with_keeps_only_itself_waiting(tell: Callable[[Story], None]) -> None:
    """While a message to one subject is worked on, those to others are answered; the next to the same one waits its
    turn."""

    async def story(fabric: Fabric) -> None:
        begun: list[tuple[str, bytes]] = []
        go_on, beat, ask = asyncio.Event(), subjects.up(str(A), "beat"), subjects.up(str(A), "ask")

        async def slow(subject: str, data: bytes) -> bytes:
            begun.append((subject, data))
            if subject == beat:
                await go_on.wait()
            return data

        await fabric.controller.subscribe("rf.up.*.*", slow)
        await fabric.controller.flush()
        first = asyncio.create_task(fabric.agent.request(beat, b"1", timeout_s=PATIENCE_S))
        while not begun:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(fabric.agent.request(beat, b"2", timeout_s=PATIENCE_S))
        assert await fabric.agent.request(ask, b"other", timeout_s=PATIENCE_S) == b"other"
        assert (beat, b"2") not in begun

        go_on.set()
        assert (await first, await second) == (b"1", b"2")
        assert [data for subject, data in begun if subject == beat] == [b"1", b"2"]

    tell(story)


def test_the_same_id_is_kept_once(tell: Callable[[Story], None]) -> None:
    """A message sent again under its id, by a sender that did not hear that it was kept, is one message."""

    async def story(fabric: Fabric) -> None:
        events = Heard()
        for _ in range(3):
            await fabric.agent.keep(EVENTS, b"one", id="same")
        await fabric.agent.keep(EVENTS, b"two", id="other")
        await fabric.controller.consume("events", "rf.keep.*.events", events.hear)

        assert await events.until(2) == [(EVENTS, b"one"), (EVENTS, b"two")]

    tell(story)


def test_an_id_is_its_subjects_own(tell: Callable[[Story], None]) -> None:
    """Equal ids on two subjects are two messages."""

    async def story(fabric: Fabric) -> None:
        kept = Heard()
        await fabric.agent.keep(EVENTS, b"event", id="1")
        await fabric.agent.keep(FLOWS, b"rows", id="1")
        await fabric.controller.consume("all", "rf.keep.*.*", kept.hear)

        assert sorted(await kept.until(2)) == [(EVENTS, b"event"), (FLOWS, b"rows")]

    tell(story)


def test_a_kept_message_is_handed_over_until_it_was_handled(tell: Callable[[Story], None]) -> None:
    """A handler that fails gets the message again, and the others meanwhile."""

    async def story(fabric: Fabric) -> None:
        events, tries = Heard(), []

        async def fail_once(subject: str, data: bytes) -> None:
            tries.append(data)
            if tries.count(b"hard") == 1 and data == b"hard":
                raise RuntimeError("on purpose")
            await events.hear(subject, data)

        await fabric.agent.keep(EVENTS, b"hard", id="1")
        await fabric.agent.keep(EVENTS, b"easy", id="2")
        await fabric.controller.consume("events", "rf.keep.*.events", fail_once)

        assert sorted(await events.until(2)) == [(EVENTS, b"easy"), (EVENTS, b"hard")]
        assert tries.count(b"hard") == 2

    tell(story)


def test_two_consumers_do_not_share_a_subject(tell: Callable[[Story], None]) -> None:
    """A kept message belongs to one consumer: another name for the same messages is refused, not starved."""

    async def story(fabric: Fabric) -> None:
        await fabric.controller.consume("events", "rf.keep.*.events", silent)

        with pytest.raises(BusError):
            await fabric.controller.consume("another", "rf.keep.*.events", silent)

    tell(story)


def test_without_a_connection_everything_is_refused(tell: Callable[[Story], None]) -> None:
    """While the server is away nothing is taken that would be lost: every method says so."""

    async def story(fabric: Fabric) -> None:
        await fabric.kill()
        await until_lost(fabric.agent)

        with pytest.raises(BusError):
            await fabric.agent.publish(subjects.up(str(A), "beat"), b"")
        with pytest.raises(BusError):
            await fabric.agent.request(subjects.up(str(A), "ask"), b"")
        with pytest.raises(BusError):
            await fabric.agent.keep(EVENTS, b"", id="1")
        with pytest.raises(BusError):
            await fabric.agent.flush()

    tell(story)


def test_nothing_kept_is_lost_when_the_server_is_killed(tell: Callable[[Story], None]) -> None:
    """After the server was killed both ends come back by themselves: subscriptions hear, consumers go on, and what was
    kept before is handed over."""

    async def story(fabric: Fabric) -> None:
        events, beats = Heard(), Heard()
        await fabric.controller.subscribe("rf.up.*.beat", beats.hear)
        for number in range(30):
            await fabric.agent.keep(EVENTS, b"%d" % number, id=str(number))

        await fabric.kill()
        await until_lost(fabric.controller)
        await until_lost(fabric.agent)
        await fabric.revive()
        await until_connected(fabric.controller)
        await until_connected(fabric.agent)
        await fabric.controller.consume("events", "rf.keep.*.events", events.hear)
        await events.until_all({b"%d" % n for n in range(30)})

        await fabric.kill()
        await until_lost(fabric.controller)
        await until_lost(fabric.agent)
        await fabric.revive()
        await until_connected(fabric.controller)
        await until_connected(fabric.agent)
        await fabric.agent.keep(EVENTS, b"30", id="30")
        await fabric.agent.publish(subjects.up(str(A), "beat"), b"again")

        await events.until_all({b"%d" % n for n in range(31)})
        assert await beats.until(1) == [(subjects.up(str(A), "beat"), b"again")]

    tell(story)


def test_a_handler_outlives_the_connection(tell: Callable[[Story], None]) -> None:
    """Who is in the middle of handling a message when the connection is lost is not interrupted, and is done with it
    before the next message is handled."""

    async def story(fabric: Fabric) -> None:
        began, go, told, heard = asyncio.Event(), asyncio.Event(), [], asyncio.Event()

        async def apply(subject: str, data: bytes) -> None:
            began.set()
            await go.wait()
            told.append(data)
            if len(told) == 2:
                heard.set()

        await fabric.controller.subscribe(subjects.UP_EVERYONE.format("beat"), apply)
        await fabric.controller.flush()
        await fabric.agent.publish(subjects.up(str(A), "beat"), b"first")
        await asyncio.wait_for(began.wait(), PATIENCE_S)
        await fabric.kill()
        await until_lost(fabric.controller)
        await until_lost(fabric.agent)
        await fabric.revive()
        await until_connected(fabric.controller)
        await until_connected(fabric.agent)
        await fabric.agent.publish(subjects.up(str(A), "beat"), b"second")
        await fabric.agent.flush()
        assert told == []
        go.set()

        await asyncio.wait_for(heard.wait(), PATIENCE_S)
        assert told == [b"first", b"second"]

    tell(story)


def test_a_closed_connection_stays_closed(tell: Callable[[Story], None]) -> None:
    """After `close` there is no connection, and none comes back."""

    async def story(fabric: Fabric) -> None:
        await fabric.agent.close()

        assert not fabric.agent.is_connected
        with pytest.raises(BusError):
            await fabric.agent.publish(subjects.up(str(A), "beat"), b"")

    tell(story)


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
        ("*.b", "a.b", True),
        ("*.b", "a.c", False),
    ],
)
def test_wildcards(pattern: str, subject: str, expected: bool) -> None:
    """`*` is exactly one word and `>` is one or more at the end, as NATS has it."""
    assert is_match(pattern, subject) is expected
