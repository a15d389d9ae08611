"""An address that several hosts claim: held by all of them, as long as it is a few, and nobody's weapon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest
from beats import START, A, B, C, Clock, Ground, addresses, ground

from ringfence.controller.controller import ROOT
from ringfence.controller.identity.claims import MOST_CONTESTED, MOST_HOLDERS
from ringfence.core.engine.engine import Engine
from ringfence.core.identity.workload import Mode
from ringfence.core.net.service import TCP, point
from ringfence.core.policy.parse import parse_policies
from ringfence.core.world import Endpoint, Flow, World
from ringfence.ports.state import LeaseRecord, PairingProfile, View, WorkloadRecord

WEB = WorkloadRecord(A, "web-1", {"role": "web"}, START, profile="hosts", mode_in="enforce", mode_out="enforce")
DB = WorkloadRecord(B, "db-1", {"role": "db"}, START, profile="hosts", mode_in="enforce", mode_out="enforce")
CACHE = WorkloadRecord(C, "cache-1", {"role": "cache"}, START, profile="hosts", mode_in="enforce", mode_out="enforce")
ESTATE = (PairingProfile("hosts", {}, START, "ann"), WEB, DB, CACHE)
POLICY = """\
policy: shop
rules:
  - allow: {from: role=web, to: role=cache, service: tcp/80}
  - allow: {from: role=db, to: role=cache, service: tcp/81}
  - allow: {from: "role in (web,db)", to: role=cache, service: tcp/82}
"""
OWN = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
HOSTS = (A, B, C)
Story = Callable[[Ground], Awaitable[None]]


def tell(folder: Path, story: Story, *more: WorkloadRecord) -> None:
    async def run() -> None:
        async with ground(folder, Clock(), *ESTATE, *more) as made:
            await story(made)

    asyncio.run(run())


async def begin(one: Ground) -> None:
    for uuid, address in zip(HOSTS, OWN, strict=True):
        await one.beat(uuid, address)


def sources(view: View) -> dict[tuple[str, int], str]:
    return {(r.workload, r.address): r.source for r in view.find(LeaseRecord) if r.end is None}


def passes(one: Ground, address: str) -> set[int]:
    """The ports of the cache that the address reaches, as its host judges by what it is told."""
    inventory = one.controller.reconciler.desired.inputs.inventory
    world = World(inventory, parse_policies({"shop.yaml": POLICY}).raise_if_errors(), at=one.clock(),
                  as_mode=Mode.both("enforce"))  # fmt: skip
    engine, (source,) = Engine.compile(world), addresses(address)
    to = Endpoint(inventory.by_uuid[C], addresses(OWN[2])[0])
    return {
        port for port in (80, 81, 82)
        if engine.decide(Flow(Endpoint(address=source), to, point(TCP, port))).verdict == "allowed"
    }  # fmt: skip


def test_a_contested_address_passes_what_would_pass_for_both(tmp_path: Path) -> None:
    """From the moment a second host claims it, in the very first seconds after the first one crashed; what only the
    predecessor was allowed is closed before its silence is noticed."""

    async def story(one: Ground) -> None:
        await begin(one)
        assert passes(one, OWN[1]) == {81, 82}
        await one.beat(A, OWN[0], OWN[1])
        assert passes(one, OWN[1]) == {82}
        assert passes(one, OWN[0]) == {80, 82}
        (message,) = one.alerts()
        assert "web-1" in message
        assert "`db-1`" in message

        one.clock.pass_(minutes=1)
        await one.beat(A, OWN[0], OWN[1])
        one.controller.leasing.reconsider()
        await one.controller.leasing.settle()
        assert passes(one, OWN[1]) == {80, 82}
        assert set((await one.controller.state.read(sources)).values()) == {"agent"}

    tell(tmp_path, story)


def test_more_than_a_few_are_a_lie(tmp_path: Path) -> None:
    """Who claims one address too many of others' contests none, not even those it contested before; it is told, and
    keeps its own. Once it claims few again they count."""

    async def story(one: Ground) -> None:
        many = [f"10.0.1.{n}" for n in range(MOST_CONTESTED + 1)]
        await begin(one)
        await one.beat(B, OWN[1], *many)
        await one.beat(A, OWN[0], *many[:MOST_CONTESTED])
        assert one.controller.leasing.contested(A) == set(addresses(*many[:MOST_CONTESTED]))
        await one.beat(A, OWN[0], *many)
        assert one.held(A) == set(addresses(OWN[0]))
        assert any("nobody takes over more than 4" in message for message in one.alerts())
        await one.beat(A, OWN[0], *many[:MOST_CONTESTED])
        assert one.held(A) == set(addresses(OWN[0], *many[:MOST_CONTESTED]))

    tell(tmp_path, story)


def test_a_few_are_not_others_every_time(tmp_path: Path) -> None:
    """A liar that goes from address to address closes no more in an hour than at one time; the same ones may come and
    go, as where two hosts share one by turns."""

    async def story(one: Ground) -> None:
        many = [f"10.0.1.{n}" for n in range(4 * MOST_CONTESTED)]
        await begin(one)
        await one.beat(B, OWN[1], *many)
        one.controller.leasing.is_live = lambda uuid: True
        closed = set[int]()
        for at in range(0, len(many), MOST_CONTESTED):
            await one.beat(A, OWN[0], *many[at : at + MOST_CONTESTED])
            closed |= one.controller.leasing.contested(A)
        assert closed == set(addresses(*many[:MOST_CONTESTED]))
        for _ in range(5):
            await one.beat(A, OWN[0])
            await one.beat(A, OWN[0], *many[:MOST_CONTESTED])
            assert one.controller.leasing.contested(A) == closed
        await one.beat(A, OWN[0])
        one.clock.pass_(hours=2)
        await one.beat(A, OWN[0], many[-1])
        assert one.controller.leasing.contested(A) == set(addresses(many[-1]))

    tell(tmp_path, story)


def test_what_everybody_claims_tells_nobody_apart(tmp_path: Path) -> None:
    """An address that every host of a kind has, as some bridges do, is held by a few; no host costs the more for it."""
    crowd = [WorkloadRecord(f"u-{n}", f"h-{n}", {}, START, profile="hosts") for n in range(3 * MOST_HOLDERS)]

    async def story(one: Ground) -> None:
        (shared,) = addresses("10.0.2.15")
        for record in crowd:
            one.controller.leasing.claim(record.uuid, (shared,))
        one.controller.leasing.is_live = lambda uuid: True
        await one.controller.leasing.settle()
        assert sum(shared in one.held(record.uuid) for record in crowd) == MOST_HOLDERS

    tell(tmp_path, story, *crowd)


def test_only_what_a_host_may_have_is_contested(tmp_path: Path) -> None:
    """What lies outside the ranges of its profile is nobody's to contest, whoever has it."""

    async def story(one: Ground) -> None:
        (public,) = addresses("203.0.113.9")
        await one.decide(LeaseRecord("main", public, B, START, None, "file"))
        await one.controller.refresh(B)
        await one.beat(A, "203.0.113.9")
        assert one.held(A) == set()
        assert "outside" in one.alerts()[0]

    tell(tmp_path, story)


def test_isolating_a_liar_cuts_nobody_else_off(tmp_path: Path) -> None:
    """What it contests and its other holder still says to have is the other's at once, and is not bound by the
    quarantine; in quarantine it contests nothing anew."""

    async def story(one: Ground) -> None:
        await begin(one)
        await one.beat(A, OWN[0], OWN[1])
        await one.beat(B, OWN[1])
        await one.controller.containing.quarantine([A], why="it lies", by=ROOT)
        await one.controller.leasing.settle()
        assert one.held(A) == set(addresses(OWN[0]))
        await one.beat(A, OWN[0], OWN[1], OWN[2])
        assert one.held(A) == set(addresses(OWN[0]))
        (record,) = await one.controller.containing.live()
        assert {lease.address for lease in record.addresses} == set(addresses(OWN[0]))
        (quarantine,) = one.controller.reconciler.quarantines
        assert {lease.address for lease in quarantine.addresses} == set(addresses(OWN[0]))
        (told,) = one.controller.reconciler.isolating._told.values()
        assert {a for isolation in told.isolations for a in isolation.addresses} == set(addresses(OWN[0]))

    tell(tmp_path, story)


def test_a_quarantine_holds_what_its_other_holder_lets_go_of(tmp_path: Path) -> None:
    """Whoever is heard without the address does not answer for it: it is isolated all the time."""

    async def story(one: Ground) -> None:
        leasing, seen = one.controller.leasing, list[set[int]]()
        await begin(one)
        await one.beat(A, OWN[0], OWN[1])
        await one.controller.containing.quarantine([A], why="it is ill", by=ROOT)
        await leasing.settle()
        leasing.reconsider()
        follow = leasing._refresh

        async def watched(uuid: str) -> None:
            await follow(uuid)
            seen.append(one.held(A))

        leasing._refresh = watched
        await one.beat(B, "10.0.0.9")
        assert one.held(B) == set(addresses("10.0.0.9"))
        assert all(held == set(addresses(OWN[0], OWN[1])) for held in seen)

    tell(tmp_path, story)


def test_a_quarantine_holds_what_its_host_took_over_from_one_that_is_silent(tmp_path: Path) -> None:
    """Nobody answered for the address since: it stays isolated, and is bound once it is the host's alone."""

    async def story(one: Ground) -> None:
        await begin(one)
        await one.beat(A, OWN[0], OWN[1])
        await one.controller.containing.quarantine([A], why="it is ill", by=ROOT)
        await one.controller.leasing.settle()
        assert one.held(A) == set(addresses(OWN[0], OWN[1]))
        one.clock.pass_(minutes=1)
        await one.beat(A, OWN[0])
        one.controller.leasing.reconsider()
        await one.controller.leasing.settle()
        assert one.held(A) == set(addresses(OWN[0], OWN[1]))

    tell(tmp_path, story)


def test_a_contest_outlives_the_controller(tmp_path: Path) -> None:
    """After a restart both hold the address, and the first one's silence ends it."""
    clock = Clock()

    async def run() -> None:
        async with ground(tmp_path, clock, *ESTATE) as one:
            await begin(one)
            await one.beat(A, OWN[0], OWN[1])
        async with ground(tmp_path, clock) as again:
            assert passes(again, OWN[1]) == {82}
            clock.pass_(minutes=1)
            await again.beat(A, OWN[0], OWN[1])
            again.controller.leasing.reconsider()
            await again.controller.leasing.settle()
            assert passes(again, OWN[1]) == {80, 82}

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_claimed_in_whatever_order(seed: int, tmp_path: Path) -> None:
    """Hosts that come, move, crash and lie: what is told is what the state says; nobody holds what it does not claim;
    nobody contests more than a few; who is alone in claiming an address has it; of two that live and claim it both
    hold it, or the second has claimed too much."""
    rng = Random(seed)
    pool = addresses(*(f"10.0.3.{n}" for n in range(7)))

    async def story(one: Ground) -> None:
        claims: dict[str, set[int]] = {uuid: set() for uuid in HOSTS}
        leasing = one.controller.leasing
        for _ in range(40):
            uuid = rng.choice(HOSTS)
            claims[uuid] = set(rng.sample(pool, rng.choice((0, 1, 1, 2, 2, 6))))
            one.clock.pass_(seconds=rng.choice((10, 10, 60, 4000)))
            await one.said(uuid, claims[uuid])
            for other in HOSTS:
                if leasing.is_live(other):
                    await one.said(other, claims[other])
            leasing.reconsider()
            await leasing.settle()
            held = {name: one.held(name) for name in HOSTS}
            state = await one.controller.state.read(sources)
            assert {(name, address) for name in HOSTS for address in held[name]} == state.keys()
            live = [name for name in HOSTS if leasing.is_live(name)]
            for name in live:
                assert held[name] <= claims[name]
                assert len(leasing.contested(name)) <= MOST_CONTESTED
                refused = {r.address for r in leasing.refused.get(name, ()) if r.why in ("held", "lie")}
                assert held[name] | refused == claims[name]
                alone = {a for a in claims[name] if all(a not in claims[o] for o in live if o != name)}
                assert alone <= held[name]
            for address in {a for some in claims.values() for a in some}:
                claimants = [name for name in live if address in claims[name]]
                if claimants:
                    assert any(address in held[name] for name in claimants)

    tell(tmp_path, story)
