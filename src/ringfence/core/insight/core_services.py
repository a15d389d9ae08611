"""Services that everything needs: DNS, time, directory, logging, monitoring, backup, administration, package mirrors.

They are told by port and shape: a *server* is reached from many applications (fan-in), a *client* reaches many
(fan-out). Each becomes one general rule of an unscoped infrastructure policy, because its owner is the platform's,
not an application's.

INVARIANT: a rule covers only environments in which the shape was seen, and never the internet as a source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.core.flow.conversations import Conversations
from ringfence.core.insight.addresses import cidrs, internet_peers
from ringfence.core.insight.namings import scope_of
from ringfence.core.insight.noise import in_services
from ringfence.core.insight.parties import INTERNET, NAME, WORKLOAD, LabelKeys, Parties
from ringfence.core.labels.selector import Requirement, Selector
from ringfence.core.net.intervals import IntervalSet, union
from ringfence.core.net.service import WELL_KNOWN, format_point, parse_service
from ringfence.core.policy.model import Peer, Workloads


class Kind(msgspec.Struct, frozen=True):
    """One kind of core service and how it shows."""

    name: str
    shape: Literal["server", "client"]
    services: tuple[str, ...]
    """Service words; empty: any port, where a label says what it is."""
    because: str
    hints: tuple[str, ...] = ()
    """Words in the label values of the application or the role; given, one of them must be there."""
    may_be_internet: bool = False
    """The servers may be public ones."""


_BACKUP = ("backup", "backups", "bacula", "veeam", "restic", "borg")
CATALOGUE = (
    Kind("dns", "server", ("dns", "tcp/853"), "everything resolves names", may_be_internet=True),
    Kind("time", "server", ("ntp",), "everything keeps time", may_be_internet=True),
    Kind(
        "directory", "server", ("kerberos", "ldap", "ldaps", "tcp/464", "udp/464", "tcp/3268-3269"), "logins and groups"
    ),
    Kind(
        "logging",
        "server",
        ("syslog", "tcp/5044", "tcp/24224", "tcp/12201", "udp/12201"),
        "logs are collected centrally",
    ),
    Kind("mail-relay", "server", ("smtp", "tcp/587"), "notifications go out through the relay"),
    Kind("monitoring", "client", ("node-exporter", "snmp", "tcp/9182", "tcp/10050", "tcp/5666"), "metrics are scraped"),
    Kind("backup", "client", ("tcp/9102", "tcp/10000", "tcp/1556", "tcp/13724"), "backups are pulled"),
    Kind("admin", "client", ("ssh", "rdp", "winrm"), "administration goes through the jump hosts"),
    Kind(
        "packages",
        "server",
        (),
        "software comes from the mirror",
        ("mirror", "repo", "nexus", "artifactory", "pulp", "apt", "yum", "wsus"),
    ),
    Kind(
        "logging",
        "server",
        (),
        "logs are collected centrally",
        ("log", "logs", "logging", "loki", "elastic", "fluent", "splunk", "siem"),
    ),
    Kind("backup", "server", (), "backups are pushed", _BACKUP),
    Kind("backup", "client", (), "backups are pulled", _BACKUP),
    Kind(
        "monitoring",
        "client",
        (),
        "metrics are scraped",
        ("monitor", "monitoring", "prometheus", "zabbix", "nagios", "icinga", "scrape", "metrics"),
    ),
    Kind("secrets", "server", (), "secrets are fetched at start", ("vault", "secret", "secrets", "pki", "acme")),
    Kind("configuration", "server", (), "configuration is pulled", ("puppet", "chef", "salt", "ansible")),
)
"""Ports: IANA service names and the vendors' defaults (Beats 5044, Fluentd 24224, GELF 12201, windows_exporter
9182, Zabbix agent 10050, NRPE 5666, Bacula 9102, NDMP 10000, NetBackup 1556 and 13724)."""

FEWEST_SCOPES = 3
FEWEST_SCOPES_TINY = 2
TINY_ESTATE = 4
"""In an estate of so few applications two are many."""
CLIENT_SHARE = 0.3
"""A client must reach this share of an environment's applications: it opens a port on all of them."""

INTERNET_SERVERS = -1
Node = tuple[tuple[str, str], ...] | int
"""One end as it is named: label pairs, the number of a bare endpoint, or all internet addresses together."""


@dataclass(frozen=True)
class CoreService:
    """One recognised core service as one rule."""

    kind: Kind
    sources: tuple[Peer, ...]
    destinations: tuple[Peer, ...]
    words: tuple[str, ...]
    services: IntervalSet
    rows: NDArray[np.int64]


class _Draft(NamedTuple):
    kind: Kind
    node: Node
    environments: tuple[str, ...]
    """Of the other side."""
    words: tuple[str, ...]


@dataclass(frozen=True)
class _Seen:
    """The rows under study with what recognition needs of each, per endpoint."""

    rows: NDArray[np.int64]
    traffic: Conversations
    parties: Parties
    keys: LabelKeys
    scope: NDArray[np.int64]
    """Per party: its application and environment; -1 has none."""
    environment: tuple[str, ...]
    """Per party; "" has none."""
    population: Mapping[str, int]
    """Applications of each environment."""
    nodes: tuple[Node, ...]
    node: NDArray[np.int64]
    """Per endpoint: index into `nodes`."""
    tight: int


def recognise(
    conversations: Conversations, parties: Parties, keys: LabelKeys, rows: NDArray[np.int64], tight: int
) -> tuple[CoreService, ...]:
    """The core services among these rows; each row belongs to at most one."""
    seen = _study(conversations, parties, keys, rows, tight)
    if not seen.population:
        return ()
    taken = np.zeros(len(rows), dtype=bool)
    out: list[CoreService] = []
    for kind in CATALOGUE:
        drafts = list(_drafts(seen, kind, taken))
        for group in _together(drafts):
            service = _service(seen, group, taken)
            taken[np.searchsorted(rows, service.rows)] = True
            out.append(service)
    return tuple(out)


def _study(
    conversations: Conversations, parties: Parties, keys: LabelKeys, rows: NDArray[np.int64], tight: int
) -> _Seen:
    scopes = [scope_of(labels, keys) for labels in parties.labels]
    index = {scope: i for i, scope in enumerate(dict.fromkeys(s for s in scopes if s))}
    environment = tuple(labels.get(keys.environment, "") for labels in parties.labels)
    inhabited = {(e, s) for e, s, n in zip(environment, scopes, parties.members, strict=True) if e and s and n}
    population: dict[str, int] = {}
    for name, _ in inhabited:
        population[name] = population.get(name, 0) + 1
    scope = np.array([index.get(s, -1) for s in scopes], np.int64)
    names = [_node(parties, keys, endpoint) for endpoint in range(len(conversations.endpoints))]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    node = np.array([numbers[name] for name in names], np.int64)
    traffic = conversations.where(rows)
    return _Seen(rows, traffic, parties, keys, scope, environment, population, tuple(numbers), node, tight)


def _drafts(seen: _Seen, kind: Kind, taken: NDArray[np.bool_]) -> Iterator[_Draft]:
    c, is_server = seen.traffic, kind.shape == "server"
    near, far = (c.destination, c.source) if is_server else (c.source, c.destination)
    far_party = seen.parties.of_endpoint[far]
    fit = ~taken & (seen.scope[far_party] >= 0) & _may_be(seen, kind)[near]
    if kind.services:
        fit &= in_services(c.point, union(map(_points, kind.services)))
    at = np.flatnonzero(fit)
    at = at[np.argsort(seen.node[near[at]], kind="stable")]
    for mine in np.split(at, np.flatnonzero(np.diff(seen.node[near[at]])) + 1) if len(at) else ():
        node = seen.nodes[seen.node[near[mine[0]]]]
        for words in _service_words(kind, c.point[mine]):
            here = mine[in_services(c.point[mine], union(map(_points, words)))]
            environments = _environments(seen, kind, node, far_party[here])
            if environments:
                yield _Draft(kind, node, environments, words)


def _may_be(seen: _Seen, kind: Kind) -> NDArray[np.bool_]:
    """Per endpoint: it may be the shared end of this kind."""
    place = seen.parties.place
    if not kind.hints:
        return np.asarray((place != NAME) & ((place != INTERNET) | kind.may_be_internet))
    hints = frozenset(kind.hints)
    hinted = [
        any(
            hints.intersection(_WORD.findall(labels.get(key, "").lower()))
            for key in (seen.keys.application, seen.keys.role)
        )
        for labels in seen.parties.labels
    ]
    return np.array(hinted, dtype=bool)[seen.parties.of_endpoint]


_WORD = re.compile("[a-z]+")


def _node(parties: Parties, keys: LabelKeys, endpoint: int) -> Node:
    labels = parties.labels[parties.of_endpoint[endpoint]]
    pairs = tuple((k, labels[k]) for k in (*keys.scope, keys.role) if k in labels)
    return pairs or (INTERNET_SERVERS if parties.place[endpoint] == INTERNET else endpoint)


def _service_words(kind: Kind, points: NDArray[np.int32]) -> list[tuple[str, ...]]:
    """The words to write: of the kind's own those seen, together; of a hinted kind each observed port by itself."""
    distinct = np.unique(points)
    if kind.services:
        return [tuple(w for w in kind.services if in_services(distinct, _points(w)).any())]
    return [(format_point(int(p)),) for p in distinct]


def _environments(seen: _Seen, kind: Kind, node: Node, far: NDArray[np.int32]) -> tuple[str, ...]:
    """The environments in which enough applications were seen on the other side."""
    own = {scope for scope in [_scope_number(seen, node)] if scope is not None}
    found: dict[str, set[int]] = {}
    for party in np.unique(far).tolist():
        if int(seen.scope[party]) not in own and seen.environment[party]:
            found.setdefault(seen.environment[party], set()).add(int(seen.scope[party]))
    share = max(CLIENT_SHARE if kind.shape == "client" else 0.0, (seen.tight - 3) * 0.05)
    fewest = FEWEST_SCOPES_TINY if sum(seen.population.values()) <= TINY_ESTATE else FEWEST_SCOPES
    return tuple(
        sorted(e for e, scopes in found.items() if len(scopes) >= max(fewest, share * seen.population.get(e, 0)))
    )


def _scope_number(seen: _Seen, node: Node) -> int | None:
    if isinstance(node, int):
        return None
    scope = scope_of(dict(node), seen.keys)
    return next(
        (
            int(n)
            for labels, n in zip(seen.parties.labels, seen.scope, strict=True)
            if scope_of(labels, seen.keys) == scope
        ),
        None,
    )


def _together(drafts: Iterable[_Draft]) -> list[list[_Draft]]:
    """Drafts that are one rule: equal kind, other side and services, whichever servers or clients."""
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[_Draft]] = {}
    for draft in drafts:
        groups.setdefault((draft.environments, draft.words), []).append(draft)
    return list(groups.values())


def _service(seen: _Seen, group: list[_Draft], taken: NDArray[np.bool_]) -> CoreService:
    first, c = group[0], seen.traffic
    services = union(map(_points, first.words))
    nodes = {draft.node for draft in group}
    near_ok = np.array([node in nodes for node in seen.nodes], dtype=bool)[seen.node]
    far_ok = np.array([e in first.environments for e in seen.environment], dtype=bool)[seen.parties.of_endpoint]
    is_server = first.kind.shape == "server"
    source_ok, destination_ok = (far_ok, near_ok) if is_server else (near_ok, far_ok)
    inside = ~taken & source_ok[c.source] & destination_ok[c.destination] & in_services(c.point, services)
    ends = np.unique((c.destination if is_server else c.source)[inside])
    near, far = _near_peers(seen, nodes, ends), (_environment_peer(seen.keys.environment, first.environments),)
    sources, destinations = (far, near) if is_server else (near, far)
    return CoreService(first.kind, sources, destinations, first.words, services, seen.rows[inside])


def _near_peers(seen: _Seen, nodes: Iterable[Node], ends: NDArray[np.int32]) -> tuple[Peer, ...]:
    peers: list[Peer] = [_labelled(node) for node in sorted(n for n in nodes if not isinstance(n, int))]
    bare = [seen.traffic.endpoints[i].address for i in ends if seen.parties.place[i] not in (WORKLOAD, INTERNET)]
    peers += cidrs([(a, a) for a in bare if a is not None])
    public = [seen.traffic.endpoints[i].address for i in ends if seen.parties.place[i] == INTERNET]
    if public:
        peers += internet_peers((a for a in public if a is not None), tight=10)
    return tuple(peers)


def _labelled(node: tuple[tuple[str, str], ...]) -> Workloads:
    selector = Selector(tuple(sorted(Requirement(key, "in", (value,)) for key, value in node)))
    return Workloads((selector,), str(selector))


def _environment_peer(key: str, environments: tuple[str, ...]) -> Workloads:
    selector = Selector((Requirement(key, "in", environments),))
    return Workloads((selector,), str(selector))


def _points(word: str) -> IntervalSet:
    return union(parse_service(item) for item in WELL_KNOWN.get(word, word).split())
