"""The dispatcher: nothing is lost silently, and no sink waits for another."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from receivers import notice, stream, web

from ringfence.core.errors import RingfenceError
from ringfence.notify.dispatcher import Dispatcher, Patience, Route
from ringfence.notify.outbox import Outbox
from ringfence.notify.syslog import SyslogNotifier
from ringfence.notify.webhook import WebhookNotifier
from ringfence.ports.notifier import Notice, Notifier, NotifyError

SHORT = Patience(tries=3, first_s=0.001, most_s=0.002, attempt_s=5)


class Recorder:
    """A sink whose fate the test decides: `fate` is asked before each notice is taken."""

    target = "recorder"

    def __init__(self, fate: Callable[[Notice], Awaitable[None]] | None = None) -> None:
        self.got: asyncio.Queue[Notice] = asyncio.Queue()
        self.asked = 0
        self._fate = fate

    async def send(self, notice: Notice) -> None:
        self.asked += 1
        if self._fate is not None:
            await self._fate(notice)
        await self.got.put(notice)

    async def close(self) -> None:
        pass


def deliver(
    sinks: dict[str, Notifier],
    work: Callable[[Dispatcher], Awaitable[None]],
    *,
    outbox: Outbox | None = None,
    patience: Patience = SHORT,
) -> None:
    async def go() -> None:
        routes = {name: Route(sink) for name, sink in sinks.items()}
        dispatcher = Dispatcher(routes, outbox or Outbox(None), patience=patience)
        await dispatcher.start()
        try:
            await work(dispatcher)
        finally:
            await dispatcher.close()

    asyncio.run(asyncio.wait_for(go(), 30))


def notices(count: int) -> list[Notice]:
    return [notice(f"a{number}-1") for number in range(count)]


async def ids(sink: Recorder, count: int) -> list[str]:
    return [(await sink.got.get()).id for _ in range(count)]


def test_every_sink_gets_every_notice_in_order() -> None:
    """Two sinks, each with all of it."""
    one, two = Recorder(), Recorder()

    async def work(dispatcher: Dispatcher) -> None:
        await dispatcher.put(notices(20))
        assert await ids(one, 20) == await ids(two, 20) == [n.id for n in notices(20)]

    deliver({"one": one, "two": two}, work)


def test_a_sink_that_hangs_delays_no_other() -> None:
    """One never answers; the other has everything all the same."""

    async def forever(_: Notice) -> None:
        await asyncio.Event().wait()

    stuck, free = Recorder(forever), Recorder()

    async def work(dispatcher: Dispatcher) -> None:
        await dispatcher.put(notices(50))
        assert len(await ids(free, 50)) == 50
        assert stuck.asked == 1
        assert (await dispatcher.health())["stuck"].waiting == 50

    deliver({"stuck": stuck, "free": free}, work)


def test_a_hanging_attempt_ends_and_is_tried_again() -> None:
    """An attempt has a limit, whatever the notifier does."""

    async def slow_once(_: Notice) -> None:
        if sink.asked == 1:
            await asyncio.Event().wait()

    sink = Recorder(slow_once)

    async def work(dispatcher: Dispatcher) -> None:
        await dispatcher.put(notices(1))
        assert await ids(sink, 1) == ["a0-1"]
        assert sink.asked == 2

    deliver({"sink": sink}, work, patience=Patience(tries=3, first_s=0.001, most_s=0.002, attempt_s=0.05))


@pytest.mark.parametrize("error", [NotifyError("notice-undelivered", "down"), ValueError("a plugin's fault")])
def test_failures_are_tried_again_in_order(error: Exception) -> None:
    """Whatever a notifier raises, its notice is tried again before the next one."""

    async def fails_twice(_: Notice) -> None:
        if sink.asked <= 2:
            raise error

    sink = Recorder(fails_twice)

    async def work(dispatcher: Dispatcher) -> None:
        await dispatcher.put(notices(3))
        assert await ids(sink, 3) == ["a0-1", "a1-1", "a2-1"]
        assert sink.asked == 5

    deliver({"sink": sink}, work)


def test_what_is_given_up_is_counted_and_told_when_the_sink_is_back() -> None:
    """After so many tries the next notice has its turn; the sink learns how many it missed."""

    async def refuses_two(one: Notice) -> None:
        if one.id in ("a0-1", "a1-1"):
            raise NotifyError("notice-undelivered", "down")

    sink = Recorder(refuses_two)

    async def work(dispatcher: Dispatcher) -> None:
        await dispatcher.put(notices(4))
        got = [await sink.got.get() for _ in range(3)]
        assert [n.id for n in got[::2]] == ["a2-1", "a3-1"]
        assert (got[1].news, got[1].more) == ("summary", 2)
        health = (await dispatcher.health())["sink"]
        assert (health.lost, health.waiting, health.problem) == (2, 0, "")
        assert sink.asked == 2 * SHORT.tries + 3

    deliver({"sink": sink}, work)


def test_a_final_refusal_is_not_tried_again() -> None:
    """It is counted at once, and the next notice goes on."""

    async def refuses(one: Notice) -> None:
        if one.id == "a0-1":
            raise NotifyError("notice-refused", "no", is_permanent=True)

    sink = Recorder(refuses)

    async def work(dispatcher: Dispatcher) -> None:
        await dispatcher.put(notices(2))
        assert (await sink.got.get()).id == "a1-1"
        assert sink.asked in (2, 3)
        assert (await dispatcher.health())["sink"].lost == 1

    deliver({"sink": sink}, work)


def test_what_waits_survives_the_end_of_the_process(tmp_path: Path) -> None:
    """kill -9 after `put` returned: another process delivers all of it, in order."""
    program = (
        "import asyncio, os, signal, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from receivers import notice; from ringfence.notify.dispatcher import *\n"
        "from ringfence.notify.syslog import *\n"
        "async def go():\n"
        "    route = Route(SyslogNotifier('127.0.0.1', 1, transport='tcp'))\n"
        "    d = Dispatcher({'sink': route}, Outbox(Path(sys.argv[1])))\n"
        "    await d.start(); await d.put([notice(f'a{n}-1') for n in range(30)])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(go())\n"
    )
    path = tmp_path / "outbox.db"
    command = [sys.executable, "-c", program, str(path), os.path.dirname(__file__)]
    assert subprocess.run(command, timeout=60, check=False).returncode == -signal.SIGKILL
    sink = Recorder()

    async def work(_: Dispatcher) -> None:
        assert await ids(sink, 30) == [n.id for n in notices(30)]

    deliver({"sink": sink}, work, outbox=Outbox(path))


def test_a_full_outbox_keeps_the_newest_and_counts_the_rest() -> None:
    """The oldest go first; each sink has its own room."""
    outbox = Outbox(None, most=10)
    outbox.put({"one": notices(25), "two": notices(5)})
    first = outbox.first("one")

    assert first is not None
    assert first.notice.id == "a15-1"
    assert (outbox.waiting("one"), outbox.lost("one")) == (10, 15)
    assert (outbox.waiting("two"), outbox.lost("two")) == (5, 0)


def test_a_sink_that_is_no_longer_configured_is_forgotten(tmp_path: Path) -> None:
    """What waited for it does not pile up on disk."""
    outbox = Outbox(tmp_path / "outbox.db")
    outbox.put({"gone": notices(3), "here": notices(2)})

    assert outbox.keep_only(["here"]) == 3
    assert (outbox.waiting("gone"), outbox.waiting("here")) == (0, 2)


def test_an_unusable_outbox_has_a_code(tmp_path: Path) -> None:
    """A path that cannot be written and a file that is no database are told as such."""
    (tmp_path / "file").write_bytes(b"not a database, but long enough to be looked at" * 100)
    for path in (tmp_path / "missing" / "outbox.db", tmp_path / "file"):
        with pytest.raises(RingfenceError) as error:
            Outbox(path)
        assert error.value.code == "outbox-unusable"


def test_a_sink_hears_only_what_it_wants() -> None:
    """What a route does not want is never put for it."""
    all_, none = Recorder(), Recorder()

    async def go() -> None:
        outbox = Outbox(None)
        dispatcher = Dispatcher({"all": Route(all_), "none": Route(none, lambda n: False)}, outbox, patience=SHORT)
        await dispatcher.start()
        await dispatcher.put(notices(3))
        assert len(await ids(all_, 3)) == 3
        assert (outbox.waiting("none"), none.asked) == (0, 0)
        await dispatcher.close()

    asyncio.run(asyncio.wait_for(go(), 30))


def test_real_receivers_that_fail_at_first_get_everything_once() -> None:
    """A webhook that answers 500 twice and a syslog receiver that hangs up: both end with every notice, ids unique."""

    async def go() -> None:
        with web() as server:
            server.answers = [(500, {}), (503, {"retry-after": "0"})]
            async with stream() as receiver:
                routes = {
                    "hook": Route(WebhookNotifier(f"http://127.0.0.1:{server.port}/")),
                    "log": Route(SyslogNotifier("127.0.0.1", receiver.port, transport="tcp")),
                }
                dispatcher = Dispatcher(routes, Outbox(None), patience=SHORT)
                await dispatcher.start()
                await dispatcher.put(notices(5))
                frames = [await receiver.frames.get() for _ in range(5)]
                while (await dispatcher.health())["hook"].delivered < 5:
                    await asyncio.sleep(0)
                await dispatcher.close()
        assert len({frame[frame.index(b'"id"') :] for frame in frames}) == 5
        got = [request.headers["webhook-id"] for request in server.requests]
        assert got == ["a0-1", "a0-1", "a0-1", "a1-1", "a2-1", "a3-1", "a4-1"]

    asyncio.run(asyncio.wait_for(go(), 30))


def test_a_pause_that_was_asked_for_is_kept() -> None:
    """The longer of our own pause and the receiver's, before the same notice is tried again."""
    pauses: list[float] = []

    async def busy(_: Notice) -> None:
        if sink.asked < 3:
            raise NotifyError("notice-refused", "busy", retry_after_s=77.0 if sink.asked == 1 else 0.0)

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    sink = Recorder(busy)

    async def go() -> None:
        dispatcher = Dispatcher({"sink": Route(sink)}, Outbox(None), patience=SHORT, sleep=sleep)
        await dispatcher.start()
        await dispatcher.put(notices(1))
        await ids(sink, 1)
        await dispatcher.close()

    asyncio.run(asyncio.wait_for(go(), 30))
    assert pauses[0] == 77.0
    assert 0 < pauses[1] <= SHORT.most_s


def test_what_was_put_is_on_the_disk() -> None:
    """Each commit waits for the disk: a power cut loses nothing that `put` returned from."""
    assert Outbox(None)._database.execute("PRAGMA synchronous").fetchone() == (2,)


def test_pauses_grow_and_differ() -> None:
    """Doubling up to the limit, with jitter, never zero."""
    patience = Patience(first_s=1, most_s=60)
    for failures, limit in ((1, 1), (2, 2), (4, 8), (10, 60), (4000, 60)):
        pauses = [patience.pause_s(failures) for _ in range(50)]
        assert all(limit / 10 <= pause <= limit for pause in pauses)
        assert len(set(pauses)) > 1
