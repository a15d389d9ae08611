"""Whose addresses are whose, from heartbeat to what every host is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from beats import START, A, B, C, Clock, Ground, addresses, ground
from sqlalchemy import create_engine

from ringfence.controller.access import access
from ringfence.controller.controller import ROOT
from ringfence.controller.identity.presence import OFFLINE_AFTER, STALE_AFTER
from ringfence.controller.pacing import Rounds
from ringfence.core.errors import InputError
from ringfence.core.net.address import PRIVATE, format_address
from ringfence.ports.state import (
    Change,
    LeaseRecord,
    PairingProfile,
    QuarantineRecord,
    View,
    WorkloadRecord,
)

WEB = WorkloadRecord(A, "web-1", {"role": "web"}, START, profile="hosts")
DB = WorkloadRecord(B, "db-1", {"role": "db"}, START, profile="hosts")
CACHE = WorkloadRecord(C, "cache-1", {"role": "cache"}, START, profile="hosts")
HOSTS = PairingProfile("hosts", {}, START, "ann")
ESTATE = (HOSTS, WEB, DB, CACHE)
Story = Callable[[Ground], Awaitable[None]]


def tell(folder: Path, story: Story) -> None:
    async def run() -> None:
        async with ground(folder, Clock(), *ESTATE) as made:
            await story(made)

    asyncio.run(run())


def history(view: View) -> list[tuple[str, str, bool]]:
    return sorted((format_address(one.address), one.workload, one.end is None) for one in view.find(LeaseRecord))


@pytest.mark.parametrize(
    "bad",
    [-1, 0, 1, 1 << 128, 1 << 200, (1 << 128) - 1, *addresses("255.255.255.255", "224.0.0.1", "0.0.0.0", "ff02::1")],
)
def test_what_no_host_can_have_is_told_and_stored_nowhere(bad: int, tmp_path: Path) -> None:
    """The host's other addresses are leased, every other host is followed as before, and a restart finds all of it."""
    clock = Clock()

    async def run() -> None:
        async with ground(tmp_path, clock, *ESTATE) as one:
            await one.said(A, (bad, *addresses("10.0.0.1")))
            await one.beat(B, "10.0.0.2")
            assert (one.held(A), one.held(B)) == (set(addresses("10.0.0.1")), set(addresses("10.0.0.2")))
            assert ["no host can have it" in message for message in one.alerts()] == ([] if bad == 1 else [True])
            stored = await one.controller.state.read(history)
            assert stored == [("10.0.0.1", A, True), ("10.0.0.2", B, True)]
        async with ground(tmp_path, clock) as again:
            assert again.held(A) == set(addresses("10.0.0.1"))

    asyncio.run(run())


def test_a_row_that_no_host_can_have_is_skipped_and_told(tmp_path: Path) -> None:
    """However it came into the state, the controller starts, and the host's other addresses are followed."""
    clock = Clock()

    async def run() -> None:
        async with ground(tmp_path, clock, *ESTATE) as one:
            await one.beat(A, "10.0.0.1")
        engine = create_engine(f"sqlite:///{tmp_path / 'state.sqlite'}")
        with engine.begin() as connection:
            for text in ("f" * 32, "-" + "0" * 30 + "1", "nonsense"):
                connection.exec_driver_sql(f"INSERT INTO leases VALUES ('main','{text}','{A}',0,NULL,'agent')")
        engine.dispose()
        async with ground(tmp_path, clock) as again:
            assert again.held(A) == set(addresses("10.0.0.1"))
            assert ["they are skipped" in message for message in again.alerts()] == [True]
            await again.beat(A, "10.0.0.9")
            assert again.held(A) == set(addresses("10.0.0.9"))

    asyncio.run(run())


def test_an_address_outside_the_profile_is_not_granted(tmp_path: Path) -> None:
    """It is told once, by name; a person who widens the profile lets the host have it, without another word of it."""

    async def story(one: Ground) -> None:
        for _ in range(3):
            await one.beat(A, "10.0.0.1", "203.0.113.66")
        assert one.held(A) == set(addresses("10.0.0.1"))
        assert len(one.alerts()) == 1
        assert "web-1" in one.alerts()[0]
        assert "203.0.113.66 (outside" in one.alerts()[0]

        wide = PRIVATE | access.parse_ranges(["203.0.113.0/24"])

        def widen(tx: Change) -> None:
            access.set_ranges(tx, access.known_profile(tx, "hosts"), wide, by="ann", at=START)

        await one.controller.state.write(widen)
        await one.controller._reconsider()
        await one.controller.leasing.settle()
        assert one.held(A) == set(addresses("10.0.0.1", "203.0.113.66"))
        assert one.controller.leasing.refused == {}

    tell(tmp_path, story)


def test_the_address_a_host_joined_from_is_its_own(tmp_path: Path) -> None:
    """One host in a public range needs no wider profile, and opens it to nobody else."""

    async def run() -> None:
        (public,) = addresses("203.0.113.66")
        joined = WorkloadRecord(A, "web-1", {}, START, profile="hosts", enrolled_from=public)
        async with ground(tmp_path, Clock(), HOSTS, joined, DB) as one:
            await one.beat(B, "203.0.113.66")
            await one.beat(A, "203.0.113.66", "203.0.113.67")
            assert (one.held(A), one.held(B)) == ({public}, set())

    asyncio.run(run())


def test_an_address_another_host_holds_is_contested_until_it_lets_go(tmp_path: Path) -> None:
    """Both hold it, which is told with both names; once the first no longer lists it, it is the second's alone."""

    async def story(one: Ground) -> None:
        await one.beat(B, "10.0.0.2")
        await one.beat(A, "10.0.0.1", "10.0.0.2")
        assert (one.held(A), one.held(B)) == (set(addresses("10.0.0.1", "10.0.0.2")), set(addresses("10.0.0.2")))
        assert "web-1" in one.alerts()[0]
        assert "10.0.0.2 (`db-1` has it, too" in one.alerts()[0]

        await one.beat(B, "10.0.0.3")
        assert (one.held(A), one.held(B)) == (set(addresses("10.0.0.1", "10.0.0.2")), set(addresses("10.0.0.3")))
        assert one.controller.leasing.refused == {}

    tell(tmp_path, story)


def test_an_address_that_goes_on_is_revoked_before_it_is_granted(tmp_path: Path) -> None:
    """One that is not contested ends with one host, in what is told, before it begins with the other."""

    async def story(one: Ground) -> None:
        await one.beat(B, "10.0.0.2")
        holders: list[tuple[bool, bool]] = []
        follow = one.controller.reconciler.put_workload

        async def watched(workload: object) -> None:
            await follow(workload)  # type: ignore[arg-type]
            (moved,) = addresses("10.0.0.2")
            holders.append((moved in one.held(A), moved in one.held(B)))

        one.controller.reconciler.put_workload = watched  # type: ignore[method-assign]
        one.controller.leasing.claim(B, addresses("10.0.0.3"))
        one.controller.leasing.claim(A, addresses("10.0.0.2"))
        await one.controller.leasing.settle()
        assert (one.held(A), one.held(B)) == (set(addresses("10.0.0.2")), set(addresses("10.0.0.3")))
        assert (True, True) not in holders
        assert holders[0] == (False, False)

    tell(tmp_path, story)


def test_the_address_of_a_host_that_is_not_heard_any_more_goes_on(tmp_path: Path) -> None:
    """Another gets it soon, not after an hour; the dead one, should it come back, is the one that contests it."""

    async def story(one: Ground) -> None:
        await one.beat(B, "10.0.0.2", "10.0.0.3")
        one.clock.pass_(minutes=1)
        await one.beat(A, "10.0.0.2")
        assert (one.held(A), one.held(B)) == (set(addresses("10.0.0.2")), set(addresses("10.0.0.3")))
        assert one.controller.leasing.contested(A) == set()
        await one.beat(B, "10.0.0.2", "10.0.0.3")
        assert one.controller.leasing.contested(B) == set(addresses("10.0.0.2"))
        assert any("10.0.0.2 (`web-1` has it, too" in message for message in one.alerts())

    tell(tmp_path, story)


def test_nobody_is_taken_for_gone_who_could_not_be_heard(tmp_path: Path) -> None:
    """After a start, or a bus that was away, a host that lives is as silent as one that died: what it holds is not
    given to whoever is heard first, until all that live had the time to be heard."""
    clock = Clock()

    async def run() -> None:
        async with ground(tmp_path, clock, *ESTATE) as one:
            await one.beat(B, "10.0.0.2")
        clock.pass_(minutes=10)
        async with ground(tmp_path, clock) as again:
            controller = again.controller
            controller.leasing.is_live = controller._may_live
            controller._lapse(clock(), is_listening=True)
            await again.beat(A, "10.0.0.2")
            assert again.held(B) == set(addresses("10.0.0.2"))
            assert controller.leasing.contested(A) == set(addresses("10.0.0.2"))
            clock.pass_(seconds=OFFLINE_AFTER.total_seconds())
            await controller._reconsider()
            await controller.leasing.settle()
            assert (again.held(A), again.held(B)) == (set(addresses("10.0.0.2")), set())

    asyncio.run(run())


def test_of_two_that_claim_a_free_address_together_one_contests_it(tmp_path: Path) -> None:
    """In one transaction as in two: the first has it, the second has it, too."""

    async def story(one: Ground) -> None:
        one.controller.leasing.is_live = lambda uuid: True
        for uuid in (A, B):
            one.controller.leasing.claim(uuid, addresses("10.0.0.7"))
        await one.controller.leasing.settle()
        assert (one.held(A), one.held(B)) == (set(addresses("10.0.0.7")), set(addresses("10.0.0.7")))
        assert one.controller.leasing.contested(A) == set()
        assert one.controller.leasing.contested(B) == set(addresses("10.0.0.7"))

    tell(tmp_path, story)


def test_addresses_change_places(tmp_path: Path) -> None:
    """Two hosts that swap end with what each claims."""

    async def story(one: Ground) -> None:
        await one.beat(A, "10.0.0.1")
        await one.beat(B, "10.0.0.2")
        await one.beat(A, "10.0.0.2")
        await one.beat(B, "10.0.0.1")
        assert (one.held(A), one.held(B)) == (set(addresses("10.0.0.2")), set(addresses("10.0.0.1")))

    tell(tmp_path, story)


def test_a_host_holds_only_so_many(tmp_path: Path) -> None:
    """What it holds it keeps; what is too much is told."""

    async def story(one: Ground) -> None:
        first = addresses("10.9.9.9")
        await one.said(A, first)
        await one.said(A, (*first, *(a + 1 for a in range(*addresses("10.0.0.0", "10.0.1.0")))))
        assert len(one.held(A)) == 64
        assert first[0] in one.held(A)
        assert "it has 64 already" in one.alerts()[0]
        assert "and 188 more" in one.alerts()[0]

    tell(tmp_path, story)


def test_nothing_of_a_host_in_quarantine_ends(tmp_path: Path) -> None:
    """Whatever it says, and however long it says nothing; after the release it has what it claims."""

    async def story(one: Ground) -> None:
        await one.beat(A, "10.0.0.1")
        isolation = QuarantineRecord("q-1", A, "bare", "why", "ann", START)
        await one.decide(isolation)
        await one.beat(A, "10.0.0.5")
        assert one.held(A) == set(addresses("10.0.0.1", "10.0.0.5"))
        one.controller.leasing.claim(A, ())
        await one.controller.leasing.settle()
        assert one.held(A) == set(addresses("10.0.0.1", "10.0.0.5"))

        await one.decide(QuarantineRecord("q-1", A, "bare", "why", "ann", START, released_at=one.clock()))
        await one.controller._reconsider()
        await one.controller.leasing.settle()
        assert one.held(A) == set()

    tell(tmp_path, story)


def test_what_could_not_be_stored_or_followed_is_tried_again(tmp_path: Path) -> None:
    """Neither a full disk nor a failed compile leaves an old address granted, or a new one not; the others wait for
    nobody."""

    async def story(one: Ground) -> None:
        state, leasing = one.controller.state, one.controller.leasing
        await one.beat(A, "10.0.0.1")

        async def full(_: object) -> None:
            raise OSError(28, "No space left on device")

        write, state.write = state.write, full  # type: ignore[method-assign, assignment]
        leasing.claim(A, addresses("10.0.0.4"))
        with pytest.raises(OSError, match="No space"):
            await leasing.settle()
        state.write = write  # type: ignore[method-assign]
        await leasing.settle()
        assert one.held(A) == set(addresses("10.0.0.4"))

        refresh, failures = leasing._refresh, list[str]()

        async def once(uuid: str) -> None:
            if uuid == A and not failures:
                failures.append(uuid)
                raise RuntimeError("on purpose")
            await refresh(uuid)

        leasing._refresh = once
        leasing.claim(A, addresses("10.0.0.8"))
        leasing.claim(B, addresses("10.0.0.9"))
        await leasing.settle()
        assert failures
        assert one.held(A) == set(addresses("10.0.0.8"))
        assert one.held(B) == set(addresses("10.0.0.9"))

    tell(tmp_path, story)


def test_a_host_that_died_while_nobody_listened_loses_its_addresses(tmp_path: Path) -> None:
    """Its silence counts from when it was last heard; a restart is no heartbeat. It ends once all that live had the
    time to be heard again, and no sooner: else a restart after an hour would take everybody's addresses."""
    clock = Clock()

    async def run() -> None:
        async with ground(tmp_path, clock, *ESTATE) as one:
            await one.beat(A, "10.0.0.1")
        clock.pass_(days=30)
        async with ground(tmp_path, clock) as again:
            controller = again.controller
            controller._lapse(clock(), is_listening=True)
            await controller.leasing.settle()
            assert again.held(A) == set(addresses("10.0.0.1"))
            clock.pass_(minutes=5)
            controller._lapse(clock(), is_listening=True)
            await controller.leasing.settle()
            assert again.held(A) == set()

    asyncio.run(run())


def test_silence_while_the_bus_is_away_is_nobodys(tmp_path: Path) -> None:
    """After hours without a bus every host that comes back still has its addresses."""

    async def story(one: Ground) -> None:
        await one.beat(A, "10.0.0.1")
        for listening in (True, False, True):
            one.clock.pass_(seconds=STALE_AFTER.total_seconds())
            one.controller._lapse(one.clock(), is_listening=listening)
            await one.controller.leasing.settle()
        assert one.held(A) == set(addresses("10.0.0.1"))

    tell(tmp_path, story)


def test_a_retired_holder_frees_what_it_held(tmp_path: Path) -> None:
    """A person moves an address by retiring who had it."""

    async def story(one: Ground) -> None:
        await one.beat(B, "10.0.0.2")
        await one.beat(A, "10.0.0.2")
        assert one.controller.leasing.contested(A) == set(addresses("10.0.0.2"))
        await one.controller.workloads.retire(B, one.controller.revoked, why="gone", by=ROOT)
        one.controller.leasing.forget(B)
        await one.controller.leasing.settle()
        assert one.held(A) == set(addresses("10.0.0.2"))
        assert one.controller.leasing.contested(A) == set()

    tell(tmp_path, story)


def test_a_fleet_that_comes_at_once_shares_transactions(tmp_path: Path) -> None:
    """Hundreds of first heartbeats cost a few writes; what changed nothing is followed by nobody."""

    async def run() -> None:
        records = [WorkloadRecord(f"u-{n:04}", f"h-{n:04}", {}, START, profile="hosts") for n in range(500)]
        leases = [
            LeaseRecord("main", addresses(f"10.1.{n >> 8}.{n & 255}")[0], f"u-{n:04}", START, None, "agent")
            for n in range(500)
        ]
        async with ground(tmp_path, Clock(), HOSTS, *records, *leases) as one:
            state, leasing = one.controller.state, one.controller.leasing
            writes, followed = [], []

            async def counted(work: Callable[[Change], object]) -> object:
                writes.append(work)
                return await write(work)

            async def follow(uuid: str) -> None:
                followed.append(uuid)

            write, state.write = state.write, counted  # type: ignore[method-assign, assignment]
            leasing._refresh = follow
            for lease in leases:
                leasing.claim(lease.workload, (lease.address,))
            await leasing.settle()
            state.write = write  # type: ignore[method-assign]
            assert (len(writes), followed) == (6, [])

    asyncio.run(run())


def test_hosts_that_come_one_after_another_share_transactions(tmp_path: Path) -> None:
    """What thousands of agents say in the seconds after a start is dealt with in rounds, not one by one; the first of
    all waits for nothing."""

    async def run() -> None:
        records = [WorkloadRecord(f"u-{n:04}", f"h-{n:04}", {}, START, profile="hosts") for n in range(30)]
        async with ground(tmp_path, Clock(), HOSTS, *records) as one:
            state, leasing = one.controller.state, one.controller.leasing
            leasing._rounds = Rounds(per_s=1.0, burst=1.0)
            writes, write = [], state.write

            def speak() -> None:
                for number, record in enumerate(records[: len(writes) + 1]):
                    leasing.claim(record.uuid, (addresses("10.1.0.1")[0] + number,))

            async def counted(work: Callable[[Change], object]) -> object:
                writes.append(work)
                speak()  # one more comes whenever something is dealt with
                return await write(work)

            state.write = counted  # type: ignore[method-assign, assignment]
            keeping = asyncio.create_task(leasing.keep_leasing())
            try:
                speak()
                while not one.held(records[0].uuid):
                    await asyncio.sleep(0.001)
                assert len(writes) == 2
                for number, record in enumerate(records[:25]):
                    leasing.claim(record.uuid, (addresses("10.1.0.1")[0] + number,))
                    await asyncio.sleep(0.002)
                while not all(one.held(record.uuid) for record in records[:25]):
                    await asyncio.sleep(0.001)
            finally:
                keeping.cancel()
            assert len(writes) == 4

    asyncio.run(run())


def test_rounds_are_free_until_they_are_many() -> None:
    """As many at once as the bucket holds, then at its rate; a pause fills it again, and no more than that."""
    at = [0.0]
    rounds = Rounds(per_s=10.0, burst=3.0, clock=lambda: at[0])
    for _ in range(3):
        assert rounds.wait_s == 0.0
        rounds.begin()
    assert rounds.wait_s == pytest.approx(0.1)
    at[0] = 0.1
    assert rounds.wait_s == pytest.approx(0.0)
    rounds.begin()
    assert rounds.wait_s == pytest.approx(0.1)
    at[0] = 1000.0
    for _ in range(3):
        assert rounds.wait_s == 0.0
        rounds.begin()
    assert rounds.wait_s == pytest.approx(0.1)


def test_the_agents_word_is_kept_though_it_could_not_be_stored(tmp_path: Path) -> None:
    """What agents said last is written with the next attempt."""

    async def story(one: Ground) -> None:
        await one.beat(A, "10.0.0.1")

        async def full(_: object) -> None:
            raise OSError(28, "No space left on device")

        write, one.controller.state.write = one.controller.state.write, full  # type: ignore[method-assign, assignment]
        with pytest.raises(OSError, match="No space"):
            await one.controller._persist()
        one.controller.state.write = write  # type: ignore[method-assign]
        assert one.controller.presence.dirty == {A}

    tell(tmp_path, story)


@pytest.mark.parametrize("texts", [(), ("127.0.0.0/8",), ("10.0.0.1/8",), ("nonsense",)])
def test_a_profile_needs_a_range_in_which_hosts_can_be(texts: tuple[str, ...]) -> None:
    """None, one of no host's addresses, and what cannot be read are refused."""
    with pytest.raises(InputError, match="range") as refused:
        access.parse_ranges(texts)
    assert refused.value.code == "bad-grant"
