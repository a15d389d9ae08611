"""What is told and what is stored stay together, through failures and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from databases import opened

from ringfence.controller.alerts.alerts import Alerts, Limits
from ringfence.controller.alerts.occurrences import Ground, Occurrence, event
from ringfence.controller.alerts.telling import Teller
from ringfence.core.errors import RingfenceError
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Workload
from ringfence.notify.dispatcher import Dispatcher
from ringfence.notify.outbox import Outbox
from ringfence.ports.notifier import Notice
from ringfence.ports.state import Alert, State, StateError
from ringfence.wire.messages import Event

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)
GROUND = Ground(Inventory([Workload(f"web-{n}", f"u{n}") for n in range(9)]))
PLENTY = Limits(most=1000, most_of_kind=1000, same_s=0)


def tampering(number: int) -> Occurrence:
    return event(Event(NOW.timestamp(), "tampering", "a chain is gone"), f"web-{number}", GROUND)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def with_state(place: str | Path, work: Callable[[State], Awaitable[None]]) -> None:
    async def go() -> None:
        async with opened(place) as state:
            await work(state)

    asyncio.run(asyncio.wait_for(go(), 60))


def test_what_is_told_is_stored_and_taken_up_again(place: str | Path) -> None:
    """Another controller over the same database has the same alerts, and tells none of them again."""

    async def work(state: State) -> None:
        heard: list[Notice] = []

        async def put(notices: Sequence[Notice]) -> None:
            heard.extend(notices)

        alerts = Alerts(PLENTY)
        teller = Teller(alerts, state, put)
        for number in range(5):
            alerts.note(tampering(number), NOW)
        assert len(await teller.step(NOW)) == len(heard) == 5
        alerts.resolve(heard[0].alert, "ann", later(1))
        await teller.step(later(2))
        successor = Alerts(PLENTY)
        await Teller(successor, state, put).resume()
        assert sorted(successor, key=lambda a: a.id) == sorted(alerts, key=lambda a: a.id)
        assert [n.news for n in heard[5:]] == ["resolved"]
        assert successor.due(later(3)) == ()

    with_state(place, work)


def test_an_alert_that_comes_back_is_the_same_row(place: str | Path) -> None:
    """Closed and opened again between two steps, or after: the database holds one record of it."""

    async def work(state: State) -> None:
        alerts = Alerts(PLENTY)
        teller = Teller(alerts, state, _nowhere)
        for second in range(6):
            id = alerts.note(tampering(1), later(second))
            if second % 2:
                alerts.resolve(id, "ann", later(second))
            await teller.step(later(second))
        stored = await state.read(lambda view: view.find(Alert))
        assert [(alert.count, alert.state) for alert in stored] == [(6, "closed")]

    with_state(place, work)


async def _nowhere(_: Sequence[Notice]) -> None:
    pass


def test_a_full_disk_delays_notices_and_loses_none(tmp_path: Path) -> None:
    """While the outbox cannot be written nothing is stored as told; then everything is told, once."""

    async def work(state: State) -> None:
        heard: list[str] = []
        is_full = True

        async def put(notices: Sequence[Notice]) -> None:
            if is_full:
                raise RingfenceError("outbox-unusable", "no space left")
            heard.extend(notice.subject for notice in notices)

        alerts = Alerts(PLENTY)
        teller = Teller(alerts, state, put)
        for number in range(3):
            alerts.note(tampering(number), later(number))
            with pytest.raises(RingfenceError):
                await teller.step(later(number))
        assert await state.read(lambda view: view.find(Alert)) == []
        is_full = False
        await teller.step(later(9))
        assert heard == ["web-0", "web-1", "web-2"]
        assert await teller.step(later(10)) == ()

    with_state(tmp_path / "state.db", work)


def test_notices_that_cannot_be_put_for_long_are_bounded_and_counted(tmp_path: Path) -> None:
    """The newest are kept, the others counted; every alert is stored in the end."""

    async def work(state: State) -> None:
        heard: list[str] = []

        async def full(_: Sequence[Notice]) -> None:
            raise RingfenceError("outbox-unusable", "no space left")

        async def put(notices: Sequence[Notice]) -> None:
            heard.extend(notice.subject for notice in notices)

        ground = Ground(Inventory([]))
        alerts = Alerts(Limits(most=5000, most_of_kind=5000))
        for number in range(1200):
            alerts.note(
                event(Event(NOW.timestamp(), "tampering", "gone"), f"h{number:04}", ground), later(number / 1e3)
            )
        teller = Teller(alerts, state, full)
        with pytest.raises(RingfenceError):
            await teller.step(later(2))
        teller._put = put
        await teller.step(later(3))
        assert (len(heard), teller.lost) == (1000, 200)
        assert await state.read(lambda view: view.count(Alert)) == 1200

    with_state(tmp_path / "state.db", work)


def test_a_database_that_fails_delays_records_and_loses_none(tmp_path: Path) -> None:
    """What could not be stored is stored at the next step, nothing is told twice, and where nothing changed nothing is
    written."""

    async def work(state: State) -> None:
        class Failing:
            fails = True
            read = state.read
            close = state.close

            async def write(self, work: Callable[..., object]) -> object:
                if self.fails:
                    raise StateError("state-unreachable", "the database does not answer")
                return await state.write(work)

        database, heard = Failing(), list[str]()

        async def put(notices: Sequence[Notice]) -> None:
            heard.extend(notice.id for notice in notices)

        alerts = Alerts(PLENTY)
        teller = Teller(alerts, database, put)  # type: ignore[arg-type]
        alerts.note(tampering(1), NOW)
        with pytest.raises(StateError):
            await teller.step(NOW)
        alerts.note(tampering(2), later(1))
        database.fails = False
        await teller.step(later(1))
        stored = await state.read(lambda view: view.find(Alert))
        assert sorted(alert.subject for alert in stored) == ["web-1", "web-2"]
        assert len(heard) == len(set(heard)) == 2
        database.fails = True
        assert await teller.step(later(2)) == ()

    with_state(tmp_path / "state.db", work)


def test_a_crash_between_telling_and_storing_repeats_the_id(tmp_path: Path) -> None:
    """The notice goes out again as the same one, so that receivers can tell."""

    async def work(state: State) -> None:
        heard: list[Notice] = []

        async def put(notices: Sequence[Notice]) -> None:
            heard.extend(notices)

        before = Alerts(PLENTY)
        teller = Teller(before, state, put)
        before.note(tampering(1), NOW)
        await state.write(lambda tx: tx.put(*before.changed()))
        heard += before.due(NOW)
        after = Alerts(PLENTY)
        teller = Teller(after, state, put)
        await teller.resume()
        await teller.step(NOW)
        assert heard[0] == heard[1]

    with_state(tmp_path / "state.db", work)


def test_it_fits_the_dispatcher(tmp_path: Path) -> None:
    """`Dispatcher.put` is what the teller puts into."""

    async def work(state: State) -> None:
        outbox = Outbox(tmp_path / "outbox.db")
        dispatcher = Dispatcher({}, outbox)
        alerts = Alerts(PLENTY)
        alerts.note(tampering(1), NOW)
        assert len(await Teller(alerts, state, dispatcher.put).step(NOW)) == 1
        await dispatcher.close()

    with_state(tmp_path / "state.db", work)
