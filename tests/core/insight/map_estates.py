"""Estates for the map's tests and pictures: a small shop, a large company, long labels, hostile labels.

Each is written as flows between workloads by name; verdicts are part of the story, not computed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ringfence.core.flow.conversations import COLUMNS, Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Mode, ModeName, Workload, derived_uuid
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import WELL_KNOWN, parse_service
from ringfence.core.world import REASONS, VERDICTS, Endpoint, Reason, VerdictName

DAY = 1_772_323_200
"""2026-03-01 00:00 UTC."""
HOUR = 3600


@dataclass(frozen=True)
class Judged:
    """Columns as the engine gives them."""

    verdict: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    rule: NDArray[np.int32]


@dataclass(frozen=True)
class Estate:
    inventory: Inventory
    conversations: Conversations
    judged: Judged
    rules: tuple[str, ...]


def point_of(service: str) -> int:
    """The first point of a service's name or text."""
    text = WELL_KNOWN.get(service, service).split()[0]
    return parse_service(text).ranges[0][0]


def workload(name: str, address: str, mode: ModeName = "observe", kind: str = "host", **labels: str) -> Workload:
    lease = Lease(int(parse_address(address)))
    return Workload(name, derived_uuid(name), labels, (lease,), kind, Mode.both(mode))  # type: ignore[arg-type]


class Story:
    """Gathers flows row by row and ends as an Estate."""

    def __init__(self, workloads: list[Workload]) -> None:
        self.inventory = Inventory(workloads)
        self._endpoints: dict[str, Endpoint] = {}
        self._numbers: dict[str, int] = {}
        self._rows: list[tuple[int, ...]] = []
        self._outcomes: list[tuple[int, int, str | None]] = []

    def flow(
        self,
        source: str,
        destination: str,
        service: str,
        *,
        connections: int = 10,
        size_bytes: int = 20_000,
        verdict: VerdictName = "allowed",
        reason: Reason = "allow",
        rule: str | None = None,
        first: int = DAY,
        last: int = DAY + HOUR,
        reported: int = 1,
        confidence: int = 3,
    ) -> None:
        ends = self._number(source), self._number(destination)
        hour = first // HOUR * HOUR
        packets = max(connections * 4, size_bytes // 900)
        self._rows.append(
            (*ends, point_of(service), reported, hour, connections, packets, size_bytes, first, last, confidence)
        )
        self._outcomes.append((VERDICTS.index(verdict), REASONS.index(reason), rule))

    def _number(self, end: str) -> int:
        if end not in self._numbers:
            held = self.inventory.find(end)
            address = held.addresses[0].address if held else int(parse_address(end))
            self._endpoints[end] = Endpoint(held, address)
            self._numbers[end] = len(self._numbers)
        return self._numbers[end]

    def estate(self) -> Estate:
        return self._estate(list(range(len(self._rows))))

    def shuffled(self, seed: int) -> Estate:
        """The same story with its rows, endpoints and workloads in another order."""
        order = list(range(len(self._rows)))
        random.Random(seed).shuffle(order)
        mixed = Story(random.Random(seed).sample(self.inventory.workloads, len(self.inventory.workloads)))
        names = {number: name for name, number in self._numbers.items()}
        for index in order:
            source, destination, *rest = self._rows[index]
            mixed._rows.append((mixed._number(names[source]), mixed._number(names[destination]), *rest))
            mixed._outcomes.append(self._outcomes[index])
        return mixed.estate()

    def _estate(self, order: list[int]) -> Estate:
        rules = tuple(sorted({rule for _, _, rule in self._outcomes if rule is not None}))
        types = dict.fromkeys(COLUMNS, np.int64) | {
            "source": np.int32,
            "destination": np.int32,
            "point": np.int32,
            "reported": np.uint8,
            "confidence": np.uint8,
        }
        table = np.array([self._rows[i] for i in order], np.int64).reshape(-1, len(COLUMNS))
        columns = {name: table[:, at].astype(types[name]) for at, name in enumerate(COLUMNS)}
        judged = Judged(
            np.array([self._outcomes[i][0] for i in order], np.uint8),
            np.array([self._outcomes[i][1] for i in order], np.uint8),
            np.array([-1 if (r := self._outcomes[i][2]) is None else rules.index(r) for i in order], np.int32),
        )
        return Estate(self.inventory, Conversations(tuple(self._endpoints.values()), **columns), judged, rules)


def shop() -> Story:
    """Sixteen hosts: a web shop, its staging, and the shared services around it."""
    hosts = [
        *(workload(f"lb{i}", f"10.0.1.{i}", "enforce", env="prod", app="shop", role="lb") for i in (1, 2)),
        *(workload(f"web{i}", f"10.0.2.{i}", "selective", env="prod", app="shop", role="web") for i in (1, 2, 3)),
        *(workload(f"api{i}", f"10.0.3.{i}", env="prod", app="shop", role="api") for i in (1, 2)),
        *(workload(f"db{i}", f"10.0.4.{i}", "enforce", env="prod", app="shop", role="db") for i in (1, 2)),
        workload("cache1", "10.0.5.1", env="prod", app="shop", role="cache"),
        workload("queue1", "10.0.5.2", env="prod", app="shop", role="queue"),
        workload("stage-web", "10.1.2.1", env="staging", app="shop", role="web"),
        workload("stage-db", "10.1.4.1", env="staging", app="shop", role="db"),
        workload("mon1", "10.2.0.1", env="shared", app="monitoring", role="prometheus"),
        workload("dns1", "10.2.0.53", env="shared", app="dns", role="resolver"),
        workload("vault", "10.2.0.9", kind="device", env="shared", app="backup", role="vault"),
    ]
    story = Story(hosts)
    _shop_front(story)
    _shop_shared(story, [host.name for host in hosts])
    _shop_surprises(story)
    return story


def _shop_front(story: Story) -> None:
    for at, client in enumerate(("203.0.113.9", "198.51.100.77", "192.0.2.44", "2001:db8::77")):
        for lb in ("lb1", "lb2"):
            story.flow(client, lb, "https", connections=91_000 - at * 9000, size_bytes=7 * 10**9, rule="shop/public")
    for lb in ("lb1", "lb2"):
        for web in ("web1", "web2", "web3"):
            story.flow(lb, web, "http", connections=61_000, size_bytes=6 * 10**9, rule="shop/lb-to-web")
    for web in ("web1", "web2", "web3"):
        for api in ("api1", "api2"):
            story.flow(web, api, "tcp/8080", connections=120_000, size_bytes=3 * 10**9, rule="shop/web-to-api")
        story.flow(web, "cache1", "redis", connections=400_000, size_bytes=9 * 10**8, rule="shop/cache")
    for api in ("api1", "api2"):
        story.flow(api, "db1", "postgres", connections=52_000, size_bytes=8 * 10**9, rule="shop/orders")
        story.flow(api, "queue1", "rabbitmq", connections=900, size_bytes=4 * 10**8, rule="shop/queue")
    story.flow("db1", "db2", "postgres", connections=4, size_bytes=2 * 10**10, rule="shop/replication")


def _shop_shared(story: Story, names: list[str]) -> None:
    for name in names:
        if name not in ("mon1", "vault"):
            story.flow("mon1", name, "node-exporter", connections=5760, size_bytes=10**8, rule="platform/metrics")
        if name not in ("dns1", "vault"):
            story.flow(name, "dns1", "dns", connections=22_000, size_bytes=4 * 10**6, rule="platform/dns")
    for db in ("db1", "stage-db"):
        story.flow(db, "vault", "ssh", connections=3, size_bytes=6 * 10**10, rule="platform/backup")


def _shop_surprises(story: Story) -> None:
    default: dict[str, object] = {"verdict": "would-block", "reason": "default"}
    story.flow("web2", "db1", "postgres", connections=37, size_bytes=10**7, **default)  # type: ignore[arg-type]
    story.flow("api1", "203.0.113.200", "https", connections=812, size_bytes=9 * 10**6, **default)  # type: ignore[arg-type]
    story.flow(
        "stage-web",
        "db1",
        "postgres",
        connections=12,
        size_bytes=10**6,
        verdict="blocked",
        reason="forbid",
        rule="guardrails/no-staging-to-prod",
        reported=2,
    )
    for host in ("web1", "web2", "db1"):
        story.flow(
            "192.168.77.23",
            host,
            "ssh",
            connections=41,
            size_bytes=3 * 10**6,
            verdict="would-block",
            reason="deny",
            rule="guardrails/admin-only",
            confidence=0,
        )
    story.flow("stage-web", "stage-db", "postgres", connections=500, size_bytes=10**7, **default)  # type: ignore[arg-type]
    story.flow("vault", "198.51.100.250", "https", connections=30, size_bytes=5 * 10**10, reason="uncontrolled")
    story.flow("mon1", "224.0.0.251", "udp/5353", connections=288, size_bytes=40_000, **default)  # type: ignore[arg-type]


def company(*, envs: int = 5, apps: int = 10, roles: int = 4, edges: int = 2000, seed: int = 7) -> Story:
    """A large estate: env x app x role groups, tiers that call downwards, shared platforms, and some strays."""
    env_names = ("prod", "staging", "test", "dev", "shared", "dr", "lab", "edge")[:envs]
    app_names = [f"{stem}{i // 16 or ''}" for i in range(apps) for stem in (_STEMS[i % 16],)]
    role_names = ("web", "api", "db", "cache", "queue", "batch")[:roles]
    draw = random.Random(seed)
    hosts: list[Workload] = []
    for env in env_names:
        for app in app_names:
            for role in role_names:
                for copy in range(draw.choice((1, 2, 2, 3, 6))):
                    number = len(hosts)
                    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
                    mode = draw.choice(("observe", "observe", "selective", "enforce"))
                    hosts.append(workload(f"{env}-{app}-{role}{copy}", address, mode, env=env, app=app, role=role))  # type: ignore[arg-type]
    story = Story(hosts)
    _company_flows(story, draw, edges=edges, names=(env_names, tuple(app_names), role_names))
    return story


_STEMS = (
    "billing",
    "catalog",
    "checkout",
    "crm",
    "identity",
    "inventory",
    "ledger",
    "mail",
    "orders",
    "payments",
    "pricing",
    "reports",
    "search",
    "shipping",
    "support",
    "wiki",
)


def _company_flows(
    story: Story, draw: random.Random, *, edges: int, names: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
) -> None:
    envs, apps, roles = names
    needs = {app: [apps[(i * 3 + step) % len(apps)] for step in (1, 4, 5)] for i, app in enumerate(apps)}
    seen: set[tuple[str, str]] = set()
    while len(seen) < edges:
        env, app = draw.choice(envs), draw.choice(apps)
        kind = draw.random()
        to_env = draw.choice(envs) if kind > 0.95 else env
        to_app = app if kind < 0.4 else draw.choice(needs[app])
        at = draw.randrange(len(roles))
        to = draw.randrange(len(roles)) if kind > 0.6 else min(len(roles) - 1, at + 1)
        source, destination = f"{env}-{app}-{roles[at]}0", f"{to_env}-{to_app}-{roles[to]}0"
        if kind > 0.985:
            source, destination = (f"203.0.113.{draw.randrange(250)}", destination)
        elif kind > 0.97:
            source, destination = (source, f"198.51.100.{draw.randrange(250)}")
        elif kind > 0.96:
            source = f"192.168.{draw.randrange(12)}.{draw.randrange(250)}"
        if (source, destination) in seen or source == destination:
            continue
        seen.add((source, destination))
        for service in draw.sample(
            ("https", "tcp/8080", "postgres", "redis", "rabbitmq", "ssh", "dns"), draw.choice((1, 1, 2, 3))
        ):
            _company_flow(story, draw, source, destination, service, app)


def _company_flow(story: Story, draw: random.Random, source: str, destination: str, service: str, app: str) -> None:
    chance = draw.random()
    outcome: tuple[VerdictName, Reason, str | None] = ("allowed", "allow", f"{app}/{service.replace('/', '-')}")
    if chance > 0.97:
        outcome = "blocked", "forbid", "guardrails/env-separation"
    elif chance > 0.72:
        outcome = "would-block", "default", None
    elif chance > 0.68:
        outcome = "allowed", "uncontrolled", None
    first = DAY + draw.randrange(30 * 24) * HOUR
    story.flow(
        source,
        destination,
        service,
        connections=int(10 ** draw.uniform(0, 6)),
        size_bytes=int(10 ** draw.uniform(3, 11)),
        verdict=outcome[0],
        reason=outcome[1],
        rule=outcome[2],
        first=first,
        last=first + draw.randrange(1, 200) * HOUR,
    )


def long_labels() -> Story:
    """Kubernetes-like names at the limit of what a label may hold."""
    team = "customer-data-platform-and-analytics-foundation-services-team"
    roles = (
        "payments-reconciliation-service-v2-canary-eu-central-1-blue",
        "payments-reconciliation-service-v2-canary-eu-central-1-green",
        "ledger-postgresql-primary-with-synchronous-replication-0",
        "kafka-connect-debezium-change-data-capture-worker-pool-a",
    )
    envs = ("production-frankfurt-regulated-workloads", "pre-production-frankfurt-performance-testing")
    hosts = [
        workload(f"{role}-{copy}.{env}.svc.cluster.local", f"10.{e}.{r}.{copy}", env=env, app=team, role=role)
        for e, env in enumerate(envs)
        for r, role in enumerate(roles)
        for copy in (1, 2)
    ]
    story = Story(hosts)
    for env in envs:
        for source, destination in ((0, 2), (1, 2), (2, 3), (3, 0), (0, 1)):
            names = [f"{roles[i]}-1.{env}.svc.cluster.local" for i in (source, destination)]
            story.flow(*names, "tcp/8443", verdict="would-block", reason="default")
    story.flow("2001:db8:1234:5678:9abc:def0:1234:5678", hosts[0].name, "https", connections=10**9, size_bytes=10**15)
    story.flow(hosts[2].name, "fd00:1234:5678:9abc::1", "kafka", verdict="blocked", reason="default")
    return story


HOSTILE = (
    '<script>alert("x")</script>',
    '"><img src=x onerror=alert(1)>',
    "</script><script>throw 'pwned'</script>",
    "<!--<script>",
    'x"]; evil [label="pwned',
    'a\\N\\l\\"b',
    "end",
    "[[link]](http://evil.example)",
    "subgraph",
    "\x1b]0;title\x07\x1b[31mred",
    "\u202egnirts",
    "line\nbreak\r\u2028sep",
    "{{ template }}",
    "${alert(1)}",
    "javascript:alert(1)",
    "&lt;b&gt;&#60;",
    "%%{init: {}}%%",
    'click g0 href "javascript:alert(1)"',
    "__proto__",
    "constructor",
    "#35;",
    "'; DROP TABLE--",
    "[bold red]markup[/]",
)
"""Label values an inventory's loader would refuse, and that a drawing must survive all the same."""


def hostile() -> Story:
    """Every hostile text as an env, an app, a role and a name, and as a rule's name."""
    hosts = [workload(f"{text} host", f"10.9.0.{i}", env=text, app=text, role=text) for i, text in enumerate(HOSTILE)]
    story = Story(hosts)
    for i, text in enumerate(HOSTILE):
        target = f"{HOSTILE[(i + 1) % len(HOSTILE)]} host"
        story.flow(f"{text} host", target, "https", rule=f"policy/{text}")
        story.flow(f"{text} host", "203.0.113.1", "https", verdict="would-block", reason="default")
    return story
