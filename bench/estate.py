"""The standard estate: 100,000 workloads, 3,000 identities, 300 services, 10,000 rules over 4,100 distinct selectors.

Most rules are role to role within one application, some cross applications, some are broad (jump hosts, monitoring,
shared services, load balancers of several business units), 3 % deny or forbid. A rule names what exists; the sum of the
rules' blocks (sources x destinations) is about a million pairs, because that sum is what an engine pays for.
"""

from __future__ import annotations

import random
from typing import NamedTuple

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
SYSTEMS = ("linux", "windows")
PLAIN = 230
"""How many of the services are one port."""
HTTPS, SSH, RDP, NODE_EXPORTER = (parse_service(s) for s in ("tcp/443", "tcp/22", "tcp/3389", "tcp/9100"))


class Application(NamedTuple):
    """What all workloads of one application share, and the roles it has."""

    name: str
    fixed: dict[str, str]
    roles: tuple[str, ...]


class Tier(NamedTuple):
    """An application in one environment, with the roles present there."""

    app: str
    env: str
    roles: tuple[str, ...]


def generate(*, workloads: int = 100_000, identities: int = 3_000, rules: int = 10_000, seed: int = 7) -> World:
    """The same world for the same arguments; every workload enforces and has one IPv4 address."""
    rng = random.Random(seed)
    applications = [_application(rng, f"app{i:03d}") for i in range(max(20, identities // 10))]
    labels = _label_sets(rng, applications, identities)
    inventory = Inventory(_workloads(rng, labels, workloads))
    author = _Author(rng, applications, labels)
    return World(inventory, (Policy("estate", rules=tuple(author.rule(number) for number in range(rules))),))


def _application(rng: random.Random, name: str) -> Application:
    unit, system = rng.choice(UNITS), rng.choices(SYSTEMS, (80, 20))[0]
    compliance = rng.choices(COMPLIANCE, (70, 12, 8, 10))[0]
    roles = tuple(sorted(rng.sample(ROLES, rng.randint(2, 6))))
    return Application(name, {"app": name, "bu": unit, "compliance": compliance, "os": system}, roles)


def _label_sets(rng: random.Random, applications: list[Application], count: int) -> list[dict[str, str]]:
    seen: dict[tuple[str, ...], dict[str, str]] = {}
    while len(seen) < count:
        application = rng.choice(applications)
        env = rng.choices(ENVIRONMENTS, (45, 15, 20, 10, 10))[0]
        loc = rng.choice(LOCATIONS[: rng.choice((2, 3, 8))])
        role = rng.choice(application.roles)
        seen.setdefault((application.name, env, loc, role), application.fixed | {"env": env, "loc": loc, "role": role})
    return list(seen.values())


def _workloads(rng: random.Random, labels: list[dict[str, str]], count: int) -> list[Workload]:
    """Every identity at least once, the rest by Zipf; 10.0.0.0/8 drawn without repetition."""
    weights = [1 / (i + 1) ** 0.8 for i in range(len(labels))]
    rng.shuffle(weights)
    chosen = [*range(len(labels)), *rng.choices(range(len(labels)), weights, k=count - len(labels))]
    addresses = rng.sample(range(10 << 24, 11 << 24), count)
    mode = Mode.both("enforce")
    return [
        Workload(f"w{i}", f"u{i}", labels[c], (Lease(V4_BASE | address),), mode=mode)
        for i, (c, address) in enumerate(zip(chosen, addresses, strict=True))
    ]


def services(rng: random.Random) -> list[IntervalSet]:
    """230 single ports, 40 ranges, whole protocols, a directory server, and composites of single ports up to 300."""
    ports = rng.sample(range(1, 49_000), PLAIN)
    out = [parse_service(f"tcp/{p}") for p in ports[:200]] + [parse_service(f"udp/{p}") for p in ports[200:]]
    for _ in range(40):
        low = rng.randrange(1, 60_000)
        out.append(parse_service(f"tcp/{low}-{min(65_535, low + rng.choice((1, 4, 9, 99, 999)))}"))
    directory = [f"tcp/{p}" for p in (53, 88, 135, 389, 445, 464, 636, 3268)] + [f"udp/{p}" for p in (53, 88, 389, 464)]
    out.append(union(map(parse_service, (*directory, "tcp/49152-65535"))))
    out += [parse_service(s) for s in ("tcp/1-65535", "udp", "icmp")]
    out += [SSH, RDP, HTTPS, NODE_EXPORTER]
    while len(out) < 300:
        out.append(union(parse_service(f"tcp/{p}") for p in rng.sample(ports[:200], rng.randint(2, 4))))
    return out


class _Author:
    """Writes rules about what exists in one estate."""

    def __init__(self, rng: random.Random, applications: list[Application], labels: list[dict[str, str]]) -> None:
        self._rng = rng
        self._tiers = _tiers(labels)
        self._applications = applications
        self._shared, self._jump = rng.sample(applications, 15), rng.sample(applications, 4)
        self._monitoring = rng.sample(applications, 3)
        self._services = services(rng)

    def rule(self, number: int) -> Rule:
        sources, destinations, points = self._body()
        action = self._rng.choices(("allow", "deny", "forbid"), (97, 2, 1))[0]
        where = Location("estate.yaml", number + 1)
        words = tuple(format_services(points))
        return Rule(f"r{number:05d}", action, (sources,), (destinations,), points, words, where=where)

    def _body(self) -> tuple[Workloads, Workloads, IntervalSet]:
        choose, kind = self._rng.choice, self._rng.random()
        here, there = choose(self._tiers), choose(self._tiers)
        if kind < 0.55:
            ports = union(self._rng.choices(self._services[:PLAIN], k=choose((1, 1, 2))))
            return self._tier(here, choose(here.roles)), self._tier(here, choose(here.roles)), ports
        if kind < 0.80:
            role = choose(here.roles) if self._rng.random() < 0.5 else None
            points = choose(self._services[:-30]) if self._rng.random() < 0.9 else HTTPS
            return self._tier(here, role), self._tier(there, choose(there.roles)), points
        if kind < 0.88:
            unit = _pick(bu=choose(UNITS), env=choose(ENVIRONMENTS))
            return unit, _pick(app=there.app, role=choose(there.roles)), self._plain()
        return self._broad(kind)

    def _broad(self, kind: float) -> tuple[Workloads, Workloads, IntervalSet]:
        choose = self._rng.choice
        if kind < 0.92:
            shared = choose(self._shared)
            return _pick(env=choose(ENVIRONMENTS)), _pick(app=shared.name, role=choose(shared.roles)), self._plain()
        place = {"loc": choose(LOCATIONS), "env": choose(ENVIRONMENTS)}
        if kind < 0.95:
            jump = _pick(app=choose(self._jump).name, env=choose(ENVIRONMENTS))
            return jump, _pick(**place, os=choose(SYSTEMS)), choose((SSH, RDP))
        if kind < 0.97:
            return _pick(app=choose(self._monitoring).name), _pick(**place), NODE_EXPORTER
        return self._front_ends()

    def _front_ends(self) -> tuple[Workloads, Workloads, IntervalSet]:
        """Two business units to the regulated front ends of five applications."""
        names = [application.name for application in self._rng.sample(self._applications, 5)]
        sources = (_one_of("bu", *self._rng.sample(UNITS, 2)), Requirement("env", "notin", ("dev", "qa")))
        destinations = (_one_of("app", *names), _one_of("compliance", "pci", "sox"), _one_of("role", "lb", "web"))
        return _workloads_of(*sources), _workloads_of(*destinations), HTTPS

    def _plain(self) -> IntervalSet:
        return self._rng.choice(self._services[:PLAIN])

    @staticmethod
    def _tier(tier: Tier, role: str | None) -> Workloads:
        return _pick(app=tier.app, env=tier.env, **({"role": role} if role else {}))


def _tiers(labels: list[dict[str, str]]) -> list[Tier]:
    roles: dict[tuple[str, str], set[str]] = {}
    for one in labels:
        roles.setdefault((one["app"], one["env"]), set()).add(one["role"])
    return [Tier(*key, tuple(sorted(present))) for key, present in sorted(roles.items())]


def _pick(**labels: str) -> Workloads:
    return _workloads_of(*(_one_of(key, value) for key, value in labels.items()))


def _one_of(key: str, *values: str) -> Requirement:
    return Requirement(key, "in", tuple(sorted(values)))


def _workloads_of(*requirements: Requirement) -> Workloads:
    selector = Selector(tuple(sorted(requirements)))
    return Workloads((selector,), str(selector))
