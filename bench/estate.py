"""A synthetic estate of the size Ringfence is measured at: 100,000 workloads, 3,000 identities, 300 services, 10,000 rules."""

from __future__ import annotations

import random

from ringfence.core.errors import Location
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Mode, Workload
from ringfence.core.labels.selector import Requirement, Selector
from ringfence.core.net.address import V4_BASE
from ringfence.core.net.intervals import IntervalSet, union
from ringfence.core.net.service import format_services, parse_service
from ringfence.core.policy.model import Policy, Rule, Workloads
from ringfence.core.world import World

ENVIRONMENTS = ("prod", "staging", "dev", "qa", "dr")
LOCATIONS = ("fra", "ams", "nyc", "sjc", "sin", "tyo", "syd", "gru")
ROLES = ("web", "app", "db", "cache", "mq", "worker", "lb", "batch", "api", "search")
UNITS = tuple(f"bu{i}" for i in range(12))
COMPLIANCE = ("none", "pci", "hipaa", "sox")


def generate(*, workloads: int = 100_000, identities: int = 3_000, rules: int = 10_000, seed: int = 7) -> World:
    """The same world for the same arguments."""
    rng = random.Random(seed)
    labels = _label_sets(rng, identities)
    inventory = Inventory(_workloads(rng, labels, workloads))
    return World(inventory, (Policy("estate", rules=tuple(_rules(rng, labels, rules))),))


def _label_sets(rng: random.Random, count: int) -> list[dict[str, str]]:
    apps = {f"app{i:03d}": _app(rng) for i in range(max(10, count // 10))}
    seen: dict[tuple[str, ...], dict[str, str]] = {}
    while len(seen) < count:
        app = rng.choice(list(apps))
        fixed, roles = apps[app]
        key = (app, rng.choices(ENVIRONMENTS, (45, 15, 20, 10, 10))[0], rng.choice(LOCATIONS[: rng.choice((2, 3, 8))]), rng.choice(roles))
        seen.setdefault(key, dict(zip(("app", "env", "loc", "role"), key, strict=True)) | fixed)
    return list(seen.values())


def _app(rng: random.Random) -> tuple[dict[str, str], list[str]]:
    fixed = {"bu": rng.choice(UNITS), "compliance": rng.choices(COMPLIANCE, (70, 12, 8, 10))[0], "os": rng.choices(("linux", "windows"), (80, 20))[0]}
    return fixed, rng.sample(ROLES, rng.randint(2, 6))


def _workloads(rng: random.Random, labels: list[dict[str, str]], count: int) -> list[Workload]:
    """Every identity at least once, the rest by Zipf."""
    weights = [1 / (i + 1) ** 0.8 for i in range(len(labels))]
    rng.shuffle(weights)
    chosen = [*range(len(labels)), *rng.choices(range(len(labels)), weights, k=count - len(labels))]
    addresses = rng.sample(range(10 << 24, 11 << 24), count)
    mode = Mode.both("enforce")
    return [
        Workload(f"w{i}", f"u{i}", labels[c], (Lease(V4_BASE | a),), mode=mode) for i, (c, a) in enumerate(zip(chosen, addresses, strict=True))
    ]


def services(rng: random.Random) -> list[IntervalSet]:
    """230 single ports, 40 ranges, and composites up to 300."""
    ports = rng.sample(range(1, 49_000), 230)
    out = [parse_service(f"tcp/{p}") for p in ports[:200]] + [parse_service(f"udp/{p}") for p in ports[200:]]
    for _ in range(40):
        low = rng.randrange(1, 60_000)
        out.append(parse_service(f"tcp/{low}-{min(65_535, low + rng.choice((1, 4, 9, 99, 999)))}"))
    out += [parse_service(s) for s in ("tcp/1-65535", "udp", "icmp", "tcp/22", "tcp/3389", "tcp/443", "tcp/9100")]
    while len(out) < 300:
        out.append(union(parse_service(f"tcp/{p}") for p in rng.sample(ports[:200], rng.randint(2, 4))))
    return out


def _rules(rng: random.Random, labels: list[dict[str, str]], count: int) -> list[Rule]:
    """Mostly role to role within an application, some across applications, some broad, a few deny and forbid."""
    known = services(rng)
    out = []
    for number in range(count):
        source, destination = _ends(rng, labels)
        service = rng.choice(known[:230] if rng.random() < 0.8 else known)
        action = rng.choices(("allow", "deny", "forbid"), (97, 2, 1))[0]
        words = tuple(format_services(service))
        out.append(
            Rule(f"r{number:05d}", action, (source,), (destination,), service, words, where=Location("estate.yaml", number + 1))
        )
    return out


def _ends(rng: random.Random, labels: list[dict[str, str]]) -> tuple[Workloads, Workloads]:
    one, other, kind = rng.choice(labels), rng.choice(labels), rng.random()
    if kind < 0.55:
        return _pick(one, "app", "env", "role"), _pick(one | {"role": other["role"]}, "app", "env", "role")
    if kind < 0.80:
        return _pick(one, "app", "env"), _pick(other, "app", "env", "role")
    if kind < 0.88:
        return _pick(one, "bu", "env"), _pick(other, "app", "role")
    if kind < 0.95:
        return _pick(one, "app", "env"), _pick(other, "env", "loc", "os", "app")
    if kind < 0.97:
        return _pick(one, "app"), _pick(other, "loc", "env", "app")
    return _either(rng, one), _pick(other, "compliance", "role", "app")


def _pick(labels: dict[str, str], *keys: str) -> Workloads:
    selector = Selector(tuple(sorted(Requirement(key, "in", (labels[key],)) for key in keys)))
    return Workloads((selector,), str(selector))


def _either(rng: random.Random, labels: dict[str, str]) -> Workloads:
    units = tuple(sorted(rng.sample(UNITS, 2)))
    selector = Selector((Requirement("bu", "in", units), Requirement("env", "notin", ("dev", "qa")), Requirement("role", "in", (labels["role"],))))
    return Workloads((selector,), str(selector))
