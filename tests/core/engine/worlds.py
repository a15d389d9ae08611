"""Worlds, ends and rows that several of the engine's tests ask about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from random import Random

import msgspec
import numpy as np
from strategies import BARE, NOW, random_world

from ringfence.core.engine.engine import Engine
from ringfence.core.flow.conversations import COLUMNS, Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Mode, Workload, derived_uuid
from ringfence.core.labels.selector import parse_selector
from ringfence.core.net.address import INTERNET_RANGE, PRIVATE, parse_address, parse_cidr
from ringfence.core.net.intervals import union
from ringfence.core.net.service import parse_service
from ringfence.core.policy.model import Action, Cidr, Conditions, Everywhere, Peer, Policy, Rule, Workloads
from ringfence.core.world import Endpoint, Flow, World

replace = msgspec.structs.replace
ENFORCE = Mode.both("enforce")
ALWAYS = Conditions()


def provable_world(rng: Random) -> World:
    """A random world less what proofs leave out: isolation, passages, processes and answers to names."""
    world = random_world(rng)
    hosts = [w for w in world.inventory.workloads if w.kind != "process"]
    inventory = Inventory(hosts, ignore=world.inventory.ignore)
    return replace(world, inventory=inventory, quarantines=(), failsafe=(), names={}, as_mode=ENFORCE)


def present_ends(world: World) -> list[Endpoint]:
    """Every workload at each of its live addresses, and bare addresses that nobody holds in any network."""
    held = {lease.address for w in world.inventory.workloads for lease in w.live_addresses(world.at)}
    ends = []
    for workload in world.inventory.workloads:
        leases = workload.live_addresses(world.at) if workload.kind != "process" else ()
        ends += [Endpoint(workload, lease.address, lease.network) for lease in leases]
    return ends + [Endpoint(address=address) for address in BARE if address not in held]


def class_at(engine: Engine, end: Endpoint) -> int:
    return engine.class_of(end.workload, end.address)


def rows_of(flows: Sequence[Flow], seen: datetime = NOW) -> Conversations:
    """Flows as rows; only what a record can know: ends, the service and when."""
    endpoints = tuple(end for flow in flows for end in (flow.source, flow.destination))
    size = len(flows)
    columns = {name: np.zeros(size, np.int64) for name in COLUMNS}
    columns["source"] = np.arange(0, 2 * size, 2, dtype=np.int32)
    columns["destination"] = np.arange(1, 2 * size, 2, dtype=np.int32)
    columns["point"] = np.array([flow.point for flow in flows], dtype=np.int32)
    columns["first"][:] = columns["last"][:] = int(seen.timestamp())
    return Conversations(endpoints, **columns)


# ---- small worlds written by hand ------------------------------------------------------------------------------------


def host(name: str, labels: str, *addresses: str, **more: object) -> Workload:
    """`host("w", "app=shop,role=web", "10.0.0.1")`, enforcing unless said otherwise."""
    pairs = dict(item.split("=") for item in labels.split(",") if item)
    leases = tuple(Lease(parse_address(text)) for text in addresses)
    fields: dict[str, object] = {"labels": pairs, "addresses": leases, "mode": ENFORCE, **more}
    return Workload(name, derived_uuid(name), **fields)  # type: ignore[arg-type]


def peer(text: str) -> Peer:
    """A word, a CIDR or a selector."""
    if text in ("anyone", "internet", "private"):
        return Everywhere(text)  # type: ignore[arg-type]
    if text[0].isdigit() or ":" in text:
        return Cidr(text, parse_cidr(text))
    return Workloads((parse_selector(text),), text)


def rule(
    name: str, action: Action, source: str, destination: str, *services: str, conditions: Conditions = ALWAYS
) -> Rule:
    """`rule("r", "allow", "role=web", "role=db", "tcp/5432")`; no service means any."""
    words = services or ("any",)
    return Rule(
        name, action, (peer(source),), (peer(destination),), union(map(parse_service, words)), words, conditions
    )


def world_of(workloads: Iterable[Workload], *rules: Rule, scope: str | None = None) -> World:
    """One policy `p` over an inventory."""
    policy = Policy("p", scope=parse_selector(scope) if scope else None, rules=rules)
    return World(Inventory(workloads), (policy,), at=NOW)


# ---- the language once more, naively ---------------------------------------------------------------------------------


def belongs(world: World, end: Endpoint, asked: Peer) -> bool:
    """Whether an end is one of a peer, read from DESIGN section 3 without the engine."""
    workload, address = end.workload, end.address
    if isinstance(asked, Workloads):
        labels = None if workload is None else world.inventory.labels_of(workload)
        return labels is not None and all(selector.matches(labels) for selector in asked.selectors)
    if isinstance(asked, Cidr):
        return address is not None and address in asked.addresses
    assert isinstance(asked, Everywhere)
    if asked.word == "anyone":
        return True
    if asked.word == "private":
        return address is not None and address in PRIVATE
    return workload is None and address is not None and address in INTERNET_RANGE
