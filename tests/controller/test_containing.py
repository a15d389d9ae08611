"""Containment: nothing but its release or its end takes an address out of a quarantine, and none is called verified
that was not read back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ringfence.controller import audit
from ringfence.controller.access.access import Principal
from ringfence.controller.containment.containing import Contained, Containing
from ringfence.controller.desired.desired import News
from ringfence.controller.desired.estate import inputs_of, quarantines_of, read_estate
from ringfence.controller.desired.reconcile import Reconciler
from ringfence.core.errors import InputError
from ringfence.core.identity.workload import Lease, Workload
from ringfence.core.net.address import parse_address
from ringfence.ports.state import (
    AuditEntry,
    Change,
    LeaseRecord,
    QuarantineRecord,
    StateError,
    Where,
    WorkloadRecord,
    WrittenException,
)  # fmt: skip
from ringfence.stores.sql import SqlState
from ringfence.wire.messages import Isolations, Realised

NOW = datetime(2026, 3, 3, tzinfo=UTC)
NETWORKS = frozenset({"main"})
BY = Principal("ann", ("administrator",))
replace = msgspec.structs.replace


def ip(last: int) -> int:
    return parse_address(f"10.0.0.{last}")


def host(name: str, *lasts: int, origin: str = "agent") -> Workload:
    leases = tuple(Lease(ip(last)) for last in lasts)
    return Workload(name=name, uuid=f"u-{name}", labels={"role": name}, addresses=leases, origin=origin)


class Estate:
    """A controller's containment over a state on disk, with what it told."""

    def __init__(self, place: Path) -> None:
        self.place, self.now = place, NOW
        self.told: list[str] = []

    async def make(self, *hosts: Workload) -> None:
        def work(tx: Change) -> None:
            audit.record(tx, at=NOW, actor="test", action="test")
            tx.add(*(WorkloadRecord.of(one, NOW) for one in hosts))
            tx.add(*(LeaseRecord("main", lease.address, one.uuid, NOW) for one in hosts for lease in one.addresses))

        state = SqlState(self.place / "state.sqlite")
        await state.write(work)
        await state.close()
        await self.start()

    async def start(self) -> None:
        self.state = SqlState(self.place / "state.sqlite")
        self.reconciler = Reconciler(self.state, self.place / "remembered.json", lambda: self.now)
        self.containing = Containing(self.state, self.reconciler, lambda: self.now)
        held = await self.state.read(read_estate)
        await self.reconciler.start(inputs_of(held, self.now), quarantines_of(held.quarantines))
        self.reconciler.on_isolations, self.reconciler.on_news = self._isolations, self._news

    async def stop(self) -> None:
        await self.reconciler.close()
        await self.state.close()

    async def crash(self) -> None:
        """The next one knows what the state has, and no more."""
        await self.stop()
        await self.start()

    async def lease(self, one: Workload) -> None:
        """What the state has of a host's addresses, followed."""

        def work(tx: Change) -> None:
            tx.remove(LeaseRecord, Where("workload", one.uuid))
            tx.add(*(LeaseRecord("main", lease.address, one.uuid, NOW) for lease in one.addresses))

        await self.state.write(work)
        await self.reconciler.put_workload(one)

    async def quarantine(self, *uuids: str, lasts: timedelta | None = None) -> None:
        await self.containing.quarantine(uuids, why="worm", by=BY, lasts=lasts)

    async def standing(self, said: dict[str, str]) -> Contained:
        """How far the only quarantine is; what each host heard says of it."""
        revision = self.reconciler.isolating.of(NETWORKS)
        assert revision is not None
        states = {"new": Realised("realised", isolations=revision.revision), "old": Realised("realised")}
        found = await self.containing.standing(lambda uuid: states.get(said.get(uuid, "")), said.__contains__)
        assert len(found) == 1
        return found[0]

    @property
    def isolated(self) -> set[int]:
        """What the hosts are told to isolate: the last number of each address."""
        told = self.reconciler.isolating.of(NETWORKS)
        assert told is not None
        return {address & 0xFF for one in told.isolations for address in one.addresses}

    async def _isolations(self, news: Iterable[Isolations]) -> None:
        self.told.append("isolations")

    async def _news(self, news: News) -> None:
        self.told.append("news")


def run(place: Path, story: Callable[[Estate], Awaitable[None]], *hosts: Workload) -> None:
    async def go() -> None:
        estate = Estate(place)
        await estate.make(*(hosts or (host("bad", 1), host("db", 2))))
        await story(estate)
        await estate.stop()

    asyncio.run(go())


@pytest.mark.parametrize("is_restarted", [False, True], ids=["running", "restarted"])
def test_nothing_an_isolated_host_says_lifts_its_isolation(tmp_path: Path, is_restarted: bool) -> None:
    """INVARIANT: a quarantine binds every address its workload held when it began or came to since. That it names none
    any more, or other ones, or is silent until its leases end, takes none out; nor does a restart."""

    async def story(estate: Estate) -> None:
        await estate.quarantine("u-bad")
        for lasts in ((1, 9), (), (7,), ()):
            await estate.lease(host("bad", *lasts))
        if is_restarted:
            await estate.crash()
        assert estate.isolated == {1, 7, 9}

    run(tmp_path, story)


def test_a_bound_address_is_isolated_whoever_holds_it(tmp_path: Path) -> None:
    """What the isolated host gave up and another got stays isolated, and is not called the isolated host's alone."""

    async def story(estate: Estate) -> None:
        await estate.quarantine("u-bad")
        await estate.lease(host("bad"))
        await estate.lease(host("db", 2, 1))
        told = estate.reconciler.isolating.of(NETWORKS)
        assert told is not None
        assert (estate.isolated, bool(told.isolations[0].clear)) == ({1}, False)

    run(tmp_path, story)


def test_release_and_expiry_free_what_was_bound(tmp_path: Path) -> None:
    """A quarantine that is over binds nothing, and a later one binds what is held then."""

    async def story(estate: Estate) -> None:
        await estate.quarantine("u-bad")
        await estate.lease(host("bad", 9))
        await estate.containing.release(["u-bad"], why="clean", by=BY)
        assert estate.isolated == set()
        await estate.quarantine("u-bad", lasts=timedelta(hours=1))
        assert estate.isolated == {9}
        estate.now += timedelta(hours=2)
        await estate.reconciler.turn()
        await estate.lease(host("bad", 8))
        assert estate.isolated == set()
        await estate.quarantine("u-bad")
        assert estate.isolated == {8}

    run(tmp_path, story)


def test_isolated_anew_is_isolated_no_less(tmp_path: Path) -> None:
    """Another level for a host in quarantine keeps what was bound."""

    async def story(estate: Estate) -> None:
        await estate.quarantine("u-bad")
        await estate.lease(host("bad", 9))
        await estate.containing.quarantine(["u-bad"], why="worm", by=BY, level="forensics", replace=True)
        assert estate.isolated == {1, 9}

    run(tmp_path, story)


HOUR = timedelta(hours=1)
SSH = WrittenException("role=forensics", "tcp/22", "in")


@pytest.mark.parametrize(
    ("first", "second", "weaker"),
    [
        ({}, {"lasts": HOUR}, ["ends at 2026-03-03 01:00:00Z, not only when it is released"]),
        ({"lasts": 2 * HOUR}, {"lasts": HOUR}, ["ends at 2026-03-03 01:00:00Z, not at 2026-03-03 02:00:00Z"]),
        ({}, {"level": "forensics"}, ["lets pass role=forensics tcp/22 in"]),
        ({"lasts": HOUR}, {"allow": (SSH,)}, ["lets pass role=forensics tcp/22 in"]),
        ({"level": "forensics"}, {"allow": (SSH,)}, []),
        ({"level": "patch", "lasts": HOUR}, {"lasts": HOUR}, []),
        ({"lasts": HOUR}, {"lasts": 2 * HOUR}, []),
        ({"lasts": HOUR}, {}, []),
    ],
)
def test_a_quarantine_is_weakened_only_by_who_says_so(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], weaker: list[str]
) -> None:
    """INVARIANT: an earlier end or one more exception is refused, and changes nothing of anybody, unless it is said to
    be meant; stronger and longer is not. The plan says the same; what is replaced is told and audited."""

    async def story(estate: Estate) -> None:
        (old,) = await estate.containing.quarantine(["u-bad"], why="worm", by=BY, **first)
        (planned,) = (await estate.containing.plan(["u-bad", "u-db"], **second)).replaces
        assert (planned.id, planned.by, planned.why, list(planned.weaker)) == (old.record.id, "ann", "worm", weaker)
        if weaker:
            with pytest.raises(InputError, match=old.record.id) as refused:
                await estate.containing.quarantine(["u-db", "u-bad"], why="habit", by=BY, **second)
            assert refused.value.code == "weaker-than"
            assert [one.id for one in await estate.containing.live()] == [old.record.id]
        how = {**second, "replace": bool(weaker)}
        (new,) = await estate.containing.quarantine(["u-bad"], why="meant", by=BY, **how)
        assert new.replaces == (planned,)
        assert [one.id for one in await estate.containing.live()] == [new.record.id]
        entries = await estate.state.read(lambda view: view.find(AuditEntry, Where("action", "quarantine.begin")))
        assert [old.record.id in one.details and '"replaces"' in one.details for one in entries] == [False, True]

    run(tmp_path, story)


def test_a_quarantine_that_is_over_is_replaced_by_any(tmp_path: Path) -> None:
    """What ended by itself is in nobody's way, and is not called replaced."""

    async def story(estate: Estate) -> None:
        await estate.quarantine("u-bad", lasts=2 * HOUR)
        estate.now += 3 * HOUR
        (new,) = await estate.containing.quarantine(["u-bad"], why="again", by=BY, level="patch", lasts=HOUR)
        assert new.replaces == ()

    run(tmp_path, story)


def test_what_is_bound_is_audited_once(tmp_path: Path) -> None:
    """An address that came during a quarantine has one entry, and is in the record."""

    async def story(estate: Estate) -> None:
        await estate.quarantine("u-bad")
        for lasts in ((1, 9), (1,), (1, 9)):
            await estate.lease(host("bad", *lasts))
        entries = await estate.state.read(lambda view: view.find(AuditEntry, Where("action", "quarantine.bind")))
        assert ["10.0.0.9" in one.details for one in entries] == [True]
        (record,) = await estate.state.read(lambda view: view.find(QuarantineRecord))
        assert [lease.address & 0xFF for lease in record.addresses] == [1, 9]

    run(tmp_path, story)


def test_what_could_not_be_written_is_isolated_and_written_later(tmp_path: Path) -> None:
    """A state that cannot be written delays no isolation; the next turn writes what is bound."""

    async def story(estate: Estate) -> None:
        await estate.quarantine("u-bad")
        write = estate.state.write

        async def broken(work: Callable[[Change], object]) -> object:
            raise StateError("state-unwritable", "the disk is full", help="make room")

        estate.state.write = broken  # type: ignore[method-assign, assignment]
        await estate.reconciler.put_workload(host("bad", 9))
        assert estate.isolated == {1, 9}
        estate.state.write = write  # type: ignore[method-assign]
        await estate.reconciler.turn()
        await estate.crash()
        assert estate.isolated == {1, 9}

    run(tmp_path, story)


def test_a_new_address_is_isolated_before_it_is_granted(tmp_path: Path) -> None:
    """An isolated host's new address is told as isolated before the change that makes it a member of anything."""

    async def story(estate: Estate) -> None:
        await estate.quarantine("u-bad")
        estate.told.clear()
        await estate.lease(host("bad", 1, 9))
        assert estate.told[:2] == ["isolations", "news"]

    run(tmp_path, story)


def test_isolation_does_not_wait_for_the_compiler(tmp_path: Path) -> None:
    """While a change is being compiled, a quarantine is worked out and told; so is an isolated host's new address."""

    async def story(estate: Estate) -> None:
        compiling, goes_on = threading.Event(), threading.Event()
        put = estate.reconciler.desired.put_workload

        def slow(workload: Workload) -> News:
            compiling.set()
            assert goes_on.wait(30)
            return put(workload)

        estate.reconciler.desired.put_workload = slow  # type: ignore[method-assign]
        first = asyncio.create_task(estate.reconciler.put_workload(host("db", 3)))
        try:
            assert await asyncio.to_thread(compiling.wait, 30)
            await asyncio.wait_for(estate.quarantine("u-bad"), 30)
            assert estate.isolated == {1}
            second = asyncio.create_task(estate.reconciler.put_workload(host("bad", 1, 9)))
            while estate.isolated != {1, 9}:
                await asyncio.sleep(0)
            assert not first.done()
        finally:
            goes_on.set()
        await asyncio.gather(first, second)

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("said", "state", "peers", "unreachable"),
    [
        ({"u-bad": "new", "u-db": "new", "u-web": "new"}, "verified", 2, []),
        ({"u-bad": "new", "u-db": "new", "u-web": "old"}, "pending", 1, []),
        ({"u-bad": "old", "u-db": "new", "u-web": "new"}, "pending", 2, []),
        ({"u-bad": "new", "u-db": "new"}, "partly", 1, ["web"]),
        ({"u-db": "new"}, "partly", 1, ["bad", "web"]),
        ({"u-db": "old", "u-bad": "new"}, "pending", 0, ["web"]),
        ({"u-bad": "new", "u-db": "nothing yet"}, "partly", 0, ["db", "web"]),
        ({}, "pending", 0, ["bad", "db", "web"]),
    ],
)
def test_only_what_was_read_back_everywhere_is_verified(
    tmp_path: Path, said: dict[str, str], state: str, peers: int, unreachable: list[str]
) -> None:
    """Who is not heard verified nothing (law 10): then it is verified in part, and they are named."""

    async def story(estate: Estate) -> None:
        await estate.quarantine("u-bad")
        found = await estate.standing(said)
        assert (found.state, found.is_verified) == (state, state == "verified")
        assert (found.verified_peers, found.peers) == (peers, 2)
        assert sorted(one.name for one in found.unreachable) == unreachable

    run(tmp_path, story, host("bad", 1), host("db", 2), host("web", 3))


def test_who_runs_no_agent_is_not_waited_for(tmp_path: Path) -> None:
    """Neither as the isolated host nor as a peer: verified is what those that could read it back did; the plan counts
    them apart."""

    async def story(estate: Estate) -> None:
        await estate.quarantine("u-bad")
        found = await estate.standing({"u-db": "new"})
        assert (found.state, found.own, found.verified_peers, found.peers) == ("verified", None, 1, 1)
        assert found.unreachable == ()
        plan = await estate.containing.plan(["u-bad", "u-db"])
        assert [(one.name, one.has_agent, one.is_isolated) for one in plan.workloads] == [
            ("bad", False, True), ("db", True, False),
        ]  # fmt: skip
        assert (plan.total, plan.peers) == (2, 0)

    run(tmp_path, story, host("bad", 1, origin="file"), host("db", 2), host("printer", 3, origin="file"))


def test_a_plan_tells_who_passes_on_traffic_of_others(tmp_path: Path) -> None:
    """That ends with the host's own, and nothing but the host knows of it."""

    async def story(estate: Estate) -> None:
        plan = await estate.containing.plan(["u-bad", "u-db"], forwards={"u-db"}.__contains__)
        assert {one.name: one.forwards for one in plan.workloads} == {"bad": False, "db": True}

    run(tmp_path, story, host("bad", 1), host("db", 2))
