"""Random worlds and flows that reach every corner of the language, from a seed; and the least world that still differs.

Everything is drawn from small pools on purpose: few labels, addresses and ports, so that rules overlap, addresses
conflict and CIDRs hold workloads. The same seed gives the same world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import TypeVar

import msgspec
from hypothesis import strategies as st

from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import KINDS, MODES, Lease, Mode, Workload, derived_uuid
from ringfence.core.intent.isolate import bound_addresses
from ringfence.core.labels.selector import Requirement, Selector, parse_selector
from ringfence.core.net.address import parse_address, parse_cidr
from ringfence.core.net.intervals import IntervalSet, union
from ringfence.core.net.service import parse_service
from ringfence.core.policy.model import (
    WORDS,
    Action,
    Cidr,
    Conditions,
    Everywhere,
    Fqdn,
    Peer,
    Policy,
    Rule,
    Within,
    Workloads,
)
from ringfence.core.world import Answer, Endpoint, Failsafe, Flow, Quarantine, QuarantineException, World

T = TypeVar("T")
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""A Monday noon; every lease, expiry and window turns near it."""
MOMENTS = (NOW, NOW - timedelta(hours=1), NOW + timedelta(hours=1), NOW + timedelta(days=1), NOW - timedelta(days=2))

LABELS = {"app": ("shop", "pay"), "env": ("prod", "dev"), "role": ("web", "db", "api")}
IGNORED_KEY = "hash"
HELD = tuple(
    parse_address(text)
    for text in (
        *("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.7.1", "192.168.7.1", "169.254.1.1", "203.0.113.5", "198.51.100.9"),
        *("fd00::1", "fd00::2", "fe80::1", "2001:db8::5"),
    )
)
"""Addresses workloads hold."""
BARE = tuple(
    parse_address(text)
    for text in (
        *("10.0.0.9", "10.0.7.9", "8.8.8.8", "203.0.113.9", "127.0.0.1", "224.0.0.251", "255.255.255.255", "240.0.0.1"),
        *("fd00::9", "2001:db8::9", "2606:4700::1111", "ff02::fb", "::1", "64:ff9b::1"),
    )
)
"""Addresses that are mostly nobody's."""
CIDRS = (
    *("10.0.0.0/24", "10.0.0.0/8", "10.0.0.2/32", "10.0.7.0/24", "203.0.113.0/28", "0.0.0.0/0", "224.0.0.0/4"),
    *("fd00::/64", "::/0", "2001:db8::/32", "::ffff:10.0.0.0/120"),
)
NETWORKS = ("main", "main", "main", "vpc-b")
NAMES = ("api.example.com", "cdn.example.com", "example.com")
NAME_PEERS = ("api.example.com", "*.example.com", "example.com", "*.cdn.example.com")
SERVICES = (
    *("any", "tcp", "udp", "icmp", "icmp/echo", "icmp/redirect", "proto/47", "tcp/443", "tcp/8000-8010", "tcp/8005"),
    *("udp/53", "udp/60-70", "tcp/5432", "sctp/443"),
)
UNITS = ("shop.service", "/usr/bin/curl")
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata")


def flip(rng: Random, chance: float) -> bool:
    return rng.random() < chance


def some(rng: Random, pool: tuple[T, ...], most: int) -> tuple[T, ...]:
    """One to `most` distinct members."""
    return tuple(rng.sample(pool, rng.randint(1, min(most, len(pool)))))


# ---- the inventory ---------------------------------------------------------------------------------------------------


def random_labels(rng: Random, chance: float = 0.7) -> dict[str, str]:
    labels = {key: rng.choice(values) for key, values in LABELS.items() if flip(rng, chance)}
    return labels | ({IGNORED_KEY: rng.choice("ab")} if flip(rng, 0.2) else {})


def random_mode(rng: Random) -> Mode:
    return Mode(rng.choice(MODES), rng.choice(MODES)) if flip(rng, 0.4) else Mode.both(rng.choice(MODES))


def random_lease(rng: Random) -> Lease:
    address, network = rng.choice(HELD), rng.choice(NETWORKS)
    if flip(rng, 0.75):
        return Lease(address, network)
    start = rng.choice((None, *MOMENTS))
    end = rng.choice([None, *(m for m in MOMENTS if start is None or m > start)])
    return Lease(address, network, start, end)


def random_host(rng: Random, name: str) -> Workload:
    kind = rng.choice([k for k in KINDS if k != "process"] + ["host"] * 4)
    leases = {(lease.address, lease.network): lease for lease in (random_lease(rng) for _ in range(rng.randint(0, 3)))}
    return Workload(name, derived_uuid(name), random_labels(rng), tuple(leases.values()), kind, random_mode(rng))


def random_process(rng: Random, host: Workload, number: int) -> Workload:
    """Processes of one host own different units and services, as an inventory demands."""
    name = f"{host.name}-p{number}"
    services = parse_service((("tcp/443", "udp/53"), ("tcp/8000-8004", "tcp/5432"))[number][rng.randint(0, 1)])
    mode = random_mode(rng) if flip(rng, 0.3) else host.mode
    owned = services if flip(rng, 0.7) else IntervalSet()
    labels = random_labels(rng, 0.4)
    return Workload(
        name, derived_uuid(name), labels, kind="process", mode=mode, host=host.name, unit=UNITS[number], services=owned
    )


def random_inventory(rng: Random) -> Inventory:
    hosts = [random_host(rng, f"w{i}") for i in range(rng.randint(1, 7))]
    processes = [
        random_process(rng, host, number)
        for host in hosts
        if host.is_controlled and flip(rng, 0.3)
        for number in range(rng.randint(1, 2))
    ]
    return Inventory([*hosts, *processes], ignore=(IGNORED_KEY,))


# ---- the policies ----------------------------------------------------------------------------------------------------


def random_selector(rng: Random) -> Selector:
    return Selector(tuple(sorted({random_requirement(rng) for _ in range(rng.choice((1, 1, 2)))})))


def random_requirement(rng: Random) -> Requirement:
    key = rng.choice(tuple(LABELS))
    match rng.randint(0, 5):
        case 0:
            return Requirement(key, "exists")
        case 1:
            return Requirement(key, "absent")
        case 2:
            return Requirement(key, "notin", tuple(sorted(some(rng, LABELS[key], 2))))
        case _:
            return Requirement(key, "in", tuple(sorted(some(rng, LABELS[key], 2))))


def random_peer(rng: Random, scope: Selector | None) -> Peer:
    """A word, a CIDR, or a selector joined with the scope unless it is global."""
    kind = rng.random()
    if kind < 0.25:
        return Everywhere(rng.choice(WORDS))
    if kind < 0.45:
        return cidr_peer(rng.choice(CIDRS))
    selector = random_selector(rng)
    if scope is None or flip(rng, 0.4):
        return Workloads((selector,), f"global: {selector}")
    return Workloads((selector, scope), str(selector))


def cidr_peer(text: str) -> Cidr:
    return Cidr(text, parse_cidr(text))


def random_services(rng: Random) -> tuple[IntervalSet, tuple[str, ...]]:
    words = some(rng, SERVICES, 2)
    return union(map(parse_service, words)), words


def random_conditions(rng: Random) -> Conditions:
    if flip(rng, 0.6):
        return Conditions()
    return Conditions(
        mutual_tls=flip(rng, 0.3),
        from_process=rng.choice(UNITS) if flip(rng, 0.3) else None,
        to_process=rng.choice(UNITS) if flip(rng, 0.3) else None,
        until=rng.choice([date(2026, 3, day) for day in (1, 2, 3)]) if flip(rng, 0.4) else None,
        within=random_window(rng) if flip(rng, 0.3) else None,
    )


def random_window(rng: Random) -> Within:
    start, end = rng.sample(range(0, 24 * 60 + 1, 30), 2)
    days = tuple(sorted(some(rng, (0, 1, 5, 6), 3)))
    return Within(days, start % (24 * 60), end, rng.choice(ZONES), "a window")


def random_rule(rng: Random, scope: Selector | None, name: str) -> Rule:
    action: Action = rng.choice(("allow", "allow", "allow", "deny", "forbid"))
    destinations = tuple(random_peer(rng, scope) for _ in range(rng.choice((1, 1, 2))))
    if action == "allow" and flip(rng, 0.15):
        destinations = (*destinations[1:], Fqdn(rng.choice(NAME_PEERS)))
    services, words = random_services(rng)
    return Rule(
        name=name,
        action=action,
        sources=tuple(random_peer(rng, scope) for _ in range(rng.choice((1, 1, 2)))),
        destinations=destinations,
        services=services,
        service_words=words,
        conditions=random_conditions(rng) if action == "allow" else Conditions(),
    )


def random_policy(rng: Random, name: str) -> Policy:
    scope = random_selector(rng) if flip(rng, 0.5) else None
    names = rng.sample(("a", "b", "b-c", "d.e", "z", "Z"), rng.randint(0, 5))
    return Policy(name, scope=scope, rules=tuple(random_rule(rng, scope, rule) for rule in names))


# ---- the rest of the world -------------------------------------------------------------------------------------------


def random_quarantine(rng: Random, inventory: Inventory) -> Quarantine:
    hosts = [w for w in inventory.workloads if w.kind != "process"]
    allow = tuple(
        QuarantineException((random_peer(rng, None),), random_services(rng)[0], rng.choice(("in", "out")))
        for _ in range(rng.randint(0, 2))
    )
    until = rng.choice(MOMENTS) if flip(rng, 0.3) else None
    count = rng.choice((0, 0, 1, 2))
    bound = bound_addresses(Lease(rng.choice(HELD + BARE[:5]), rng.choice(NETWORKS)) for _ in range(count))
    return Quarantine(rng.choice(hosts).uuid, allow, until, bound)


def random_failsafe(rng: Random) -> Failsafe:
    return Failsafe(rng.choice(("in", "out")), parse_cidr(rng.choice(CIDRS)), random_services(rng)[0])


def random_answer(rng: Random) -> Answer:
    addresses = some(rng, HELD + BARE[:5], 2)
    return (
        Answer(addresses) if flip(rng, 0.6) else Answer(addresses, NOW - timedelta(hours=1), rng.choice(MOMENTS[2:4]))
    )


def random_world(rng: Random) -> World:
    """Any world of the language: up to seven hosts with processes, three policies, isolation, passages and names."""
    inventory = random_inventory(rng)
    names = ("p", "p-a", "q")
    return World(
        inventory=inventory,
        policies=tuple(random_policy(rng, name) for name in names[: rng.randint(0, 3)]),
        quarantines=tuple(random_quarantine(rng, inventory) for _ in range(rng.choice((0, 0, 0, 1, 2)))),
        failsafe=tuple(random_failsafe(rng) for _ in range(rng.choice((0, 0, 0, 1)))),
        names={name: (random_answer(rng),) for name in NAMES if flip(rng, 0.3)},
        at=NOW,
        as_mode=random_mode(rng) if flip(rng, 0.2) else None,
    )


# ---- flows -----------------------------------------------------------------------------------------------------------


def random_endpoint(rng: Random, world: World) -> Endpoint:
    network = rng.choice(NETWORKS)
    workload = rng.choice(world.inventory.workloads)
    kind = rng.random()
    if kind < 0.3:
        return Endpoint(workload=workload, network=network)
    if kind < 0.4 and workload.addresses:
        return Endpoint(workload=workload, address=rng.choice(workload.addresses).address, network=network)
    if kind < 0.45:
        return Endpoint(name=rng.choice((*NAMES, "eu.cdn.example.com", "other.example.org")))
    return Endpoint(address=rng.choice(HELD if flip(rng, 0.6) else BARE), network=network)


POINTS = tuple(
    sorted({p for word in SERVICES for p in (edge for r in parse_service(word) for edge in (r[0], r[1]))})
) + tuple(
    parse_service(word).ranges[0][0]
    for word in (
        *("tcp/7999", "tcp/8011", "udp/67", "udp/68", "udp/547", "tcp/67", "icmp4/3", "icmp4/11", "icmp4/5", "icmp4/8"),
        *("icmp6/128", "icmp6/135", "icmp6/137", "icmp6/1"),
    )
)
"""The edges of every service, what lies just outside, and what is essential or nearly so."""


def random_flow(rng: Random, world: World) -> Flow:
    """Any question about the world: ends by name, address or DNS name, with or without what may be stated."""
    return Flow(
        source=random_endpoint(rng, world),
        destination=random_endpoint(rng, world),
        point=rng.choice(POINTS),
        source_port=rng.choice((None, 67, 68, 546, 40000)),
        mutual_tls=flip(rng, 0.3),
        from_process=rng.choice(UNITS) if flip(rng, 0.25) else None,
        to_process=rng.choice(UNITS) if flip(rng, 0.25) else None,
        at=rng.choice(MOMENTS) if flip(rng, 0.2) else None,
    )


worlds = st.integers(0, 2**32).map(lambda seed: random_world(Random(seed)))
"""Hypothesis: any world."""


@st.composite
def questions(draw: st.DrawFn) -> tuple[World, Flow]:
    """Hypothesis: any world and a question about it."""
    rng = Random(draw(st.integers(0, 2**32)))
    world = random_world(rng)
    return world, random_flow(rng, world)


# ---- the smallest world that still shows something -------------------------------------------------------------------


def smallest(world: World, shows: Callable[[World], bool]) -> World:
    """The world with everything taken away that `shows` does not need, so a failure reads like a case."""
    while True:
        smaller = next((candidate for candidate in _smaller(world) if shows(candidate)), None)
        if smaller is None:
            return world
        world = smaller


def _smaller(world: World) -> Iterator[World]:
    """Every world that lacks one thing."""
    replace = msgspec.structs.replace
    for field in ("policies", "quarantines", "failsafe"):
        for shorter in _shorter(getattr(world, field)):
            yield replace(world, **{field: shorter})
    for i, policy in enumerate(world.policies):
        for rules in _shorter(policy.rules):
            yield replace(world, policies=_with(world.policies, i, replace(policy, rules=rules)))
        for j, rule in enumerate(policy.rules):
            for simpler in _simpler_rules(rule):
                rules = _with(policy.rules, j, simpler)
                yield replace(world, policies=_with(world.policies, i, replace(policy, rules=rules)))
    for workloads in _shorter(world.inventory.workloads):
        yield replace(world, inventory=Inventory(workloads, ignore=world.inventory.ignore))
    if world.names:
        yield replace(world, names={})
    if world.as_mode:
        yield replace(world, as_mode=None)


def _simpler_rules(rule: Rule) -> Iterator[Rule]:
    replace = msgspec.structs.replace
    if rule.conditions != Conditions():
        yield replace(rule, conditions=Conditions())
    for field in ("sources", "destinations"):
        yield from (replace(rule, **{field: peers}) for peers in _shorter(getattr(rule, field)) if peers)


def _shorter(items: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    return (items[:i] + items[i + 1 :] for i in range(len(items)))


def _with(items: tuple[T, ...], index: int, item: T) -> tuple[T, ...]:
    return (*items[:index], item, *items[index + 1 :])


NOBODY = Workloads((parse_selector("role=nobody"),), "role=nobody")
"""A peer that no workload of any random world is in."""
