"""Quarantines resolved: kept up through any changes as if worked out anew, and never less than was bound."""

from __future__ import annotations

from datetime import datetime
from random import Random

import msgspec
import pytest
from strategies import HELD, MOMENTS, NETWORKS, NOW, random_host, random_labels, random_quarantine, random_world

from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload
from ringfence.core.intent.isolate import Resolver, isolations_of
from ringfence.core.intent.pieces import IsolationException
from ringfence.core.net.address import INTERNET_RANGE, PRIVATE
from ringfence.core.policy.model import Cidr, Everywhere, Peer, Workloads
from ringfence.core.world import Quarantine, QuarantineException

EVERY = (frozenset({"main"}), frozenset(NETWORKS))
replace = msgspec.structs.replace


def random_lease(rng: Random) -> Lease:
    times = (None, None, None, *MOMENTS)
    return Lease(rng.choice(HELD), rng.choice(NETWORKS), rng.choice(times), rng.choice(times))


def changed(rng: Random, inventory: Inventory, step: int) -> Inventory:
    one = rng.choice(inventory.workloads)
    kind = rng.choice(("come", "go", "relabel", "move", "grow", "anew"))
    if kind == "come":
        return inventory.replacing(None, random_host(rng, f"new{step}"))
    if kind == "go" and len(inventory.workloads) > 3 and not inventory.processes_of(one.name):
        return inventory.replacing(one, None)
    if kind == "anew":
        return Inventory(rng.sample(inventory.workloads, len(inventory.workloads)), ignore=inventory.ignore)
    changes: dict[str, object] = {"addresses": (*one.addresses, random_lease(rng))}
    if kind == "relabel":
        changes = {"labels": random_labels(rng)}
    if kind == "move":
        changes = {"addresses": tuple(random_lease(rng) for _ in range(rng.randint(0, 2)))}
    return inventory.replacing(one, replace(one, **changes))


def random_quarantines(rng: Random, inventory: Inventory) -> tuple[Quarantine, ...]:
    made = [random_quarantine(rng, inventory) for _ in range(rng.randint(0, 3))]
    return tuple(replace(one, addresses=(random_lease(rng),)) if rng.random() < 0.5 else one for one in made)


@pytest.mark.parametrize("seed", range(60))
def test_kept_up_is_worked_out_anew(seed: int) -> None:
    """INVARIANT: whatever comes, goes, is relabelled or moves, and whatever the time, what is kept up equals what is
    worked out anew (law 2); and every exception means what it says, address by address and host by host."""
    rng = Random(seed)
    inventory, at = random_world(rng).inventory, NOW
    quarantines: tuple[Quarantine, ...] = ()
    kept = Resolver(quarantines, inventory, at)
    for step in range(25):
        inventory = changed(rng, inventory, step)
        if rng.random() < 0.4:
            quarantines = random_quarantines(rng, inventory)
        if rng.random() < 0.3:
            at = rng.choice(MOMENTS)
        kept.follow(quarantines, inventory, at)
        for networks in EVERY:
            anew = isolations_of(quarantines, Inventory(inventory.workloads), at, networks)
            assert kept.isolations(networks) == anew
    live = [q for q in quarantines if q.until is None or at < q.until]
    for networks in EVERY:
        for quarantine, isolation in zip(live, kept.isolations(networks), strict=True):
            for exception, meant in zip(quarantine.allow, isolation.exceptions, strict=True):
                assert_means(exception, meant, inventory, at, networks)


def assert_means(
    exception: QuarantineException,
    meant: IsolationException,
    inventory: Inventory,
    at: datetime,
    networks: frozenset[str],
) -> None:
    for address in HELD:
        holders: list[Workload | None] = [w for n in networks for w in inventory.holders(address, at, n)]
        assert (address in meant.remote) == all(
            any(is_one(peer, holder, address) for peer in exception.peers) for holder in holders or [None]
        )
    partly = dict(meant.partly)
    for one in inventory.workloads:
        own = [lease.address for lease in one.live_addresses(at)] if one.is_controlled and one.kind != "process" else []
        here = {address for address in own if any(is_one(peer, one, address) for peer in exception.peers)}
        assert (one.uuid in meant.peers) == (bool(own) and here == set(own))
        if one.uuid in partly:
            assert {address for address in own if address in partly[one.uuid]} == here != set()


def is_one(peer: Peer, holder: Workload | None, address: int) -> bool:
    """The meaning of a peer, said plainly."""
    if isinstance(peer, Workloads):
        return holder is not None and all(selector.matches(holder.labels) for selector in peer.selectors)
    if isinstance(peer, Everywhere) and peer.word == "internet":
        return holder is None and address in INTERNET_RANGE
    if isinstance(peer, Everywhere) and peer.word == "anyone":
        return True
    return address in (peer.addresses if isinstance(peer, Cidr) else PRIVATE)


@pytest.mark.parametrize("is_known", [True, False], ids=["no addresses", "no workload"])
def test_what_was_bound_stays_bound(is_known: bool) -> None:
    """A quarantine whose workload holds nothing any more, or is unknown, isolates what it bound."""
    workload = Workload("bad", "u-bad", {"role": "web"})
    quarantine = Quarantine("u-bad", addresses=(Lease(HELD[0]), Lease(HELD[1], "blue")))
    (found,) = isolations_of((quarantine,), Inventory([workload] if is_known else []), NOW, frozenset({"main"}))
    assert found.addresses == tuple(sorted(HELD[:2]))
