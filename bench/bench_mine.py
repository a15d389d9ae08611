"""Recommend a policy for a large synthetic estate and compare it with the policy that made the traffic.

    python bench/bench_mine.py [--flows 1000000] [--identities 3000] [--seed 7] [--tight 2 5 8]

A hidden policy (about 1,500 narrow and 60 broad label rules) produces Zipf-distributed flows; a tenth of the label
sets appear only after learning, and 300 random flows are noise. Beside every figure stands the limit: the *ceiling*
is the share of held-out flows whose hidden rule was exercised at least once while learning; nothing that looks at
flows alone can do better without guessing.

    rules       written rules (a rule may list several sources and services)
    wsc         literals and services in them
    test        share of held-out flows permitted
    unseen      the same, of those between pairs not met while learning
    new         the same, of those of label sets not met while learning
    recall      share of the identity triples of the hidden policy that are permitted
    precision   share of the permitted identity triples that the hidden policy permits
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringfence.core.flow.conversations import DIRECTION_CONFIDENCE, Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload, derived_uuid
from ringfence.core.insight.recommend import recommend
from ringfence.core.net.address import V4_BASE
from ringfence.core.net.service import TCP, point
from ringfence.core.policy.model import Policy, Rule, Workloads
from ringfence.core.world import Endpoint

Literals = frozenset[tuple[str, str]]
ENVIRONMENTS = ("prod", "staging", "dev", "qa", "dr")
PLACES = ("fra", "ams", "nyc", "sjc", "sin", "tyo", "syd", "gru")
ROLES = ("web", "app", "db", "cache", "mq", "worker", "lb", "batch", "api", "search")
SERVICES, APPLICATIONS, NOISE, FORTNIGHT_H = 230, 300, 300, 24 * 14
MEMBERS = 3
"""Workloads of each identity."""


class Truth(NamedTuple):
    """One hidden rule."""

    source: Literals
    destination: Literals
    services: tuple[int, ...]


class Estate:
    """Identities as label sets, with a cached matcher."""

    def __init__(self, rng: random.Random, size: int) -> None:
        self.labels: list[dict[str, str]] = []
        shape = {
            f"app{i:03d}": (rng.sample(ROLES, rng.randint(2, 6)), f"bu{rng.randrange(12)}") for i in range(APPLICATIONS)
        }
        seen: set[tuple[str, str, str, str]] = set()
        while len(self.labels) < size:
            app = rng.choice(sorted(shape))
            roles, unit = shape[app]
            env = rng.choices(ENVIRONMENTS, (45, 15, 20, 10, 10))[0]
            key = (app, env, rng.choice(PLACES[: rng.choice((2, 3, 8))]), rng.choice(roles))
            if key not in seen:
                seen.add(key)
                self.labels.append({"app": app, "env": env, "loc": key[2], "role": key[3], "bu": unit})
        self._index: dict[tuple[str, str], NDArray[np.bool_]] = {}
        self._found: dict[Literals, NDArray[np.int64]] = {}

    def match(self, literals: Literals) -> NDArray[np.int64]:
        if literals not in self._found:
            rows = np.ones(len(self.labels), dtype=bool)
            for pair in literals:
                if pair not in self._index:
                    self._index[pair] = np.array([x.get(pair[0]) == pair[1] for x in self.labels], dtype=bool)
                rows &= self._index[pair]
            self._found[literals] = np.flatnonzero(rows)
        return self._found[literals]


def hidden_policy(rng: random.Random, estate: Estate) -> list[Truth]:
    """1,500 narrow rules between roles and applications, 60 broad ones."""
    by_scope: dict[tuple[str, str], set[str]] = {}
    for x in estate.labels:
        by_scope.setdefault((x["app"], x["env"]), set()).add(x["role"])
    scopes = sorted(by_scope)

    def end(scope: tuple[str, str], *, with_role: bool = True) -> Literals:
        role = {("role", rng.choice(sorted(by_scope[scope])))} if with_role else set()
        return frozenset({("app", scope[0]), ("env", scope[1])} | role)

    def services() -> tuple[int, ...]:
        return tuple(sorted(set(rng.choices(range(SERVICES), k=rng.choice((1, 1, 2))))))

    out: list[Truth] = []
    for i in range(1560):
        scope, other = rng.choice(scopes), rng.choice(scopes)
        if i < 1050:
            out.append(Truth(end(scope), end(scope), services()))
        elif i < 1500:
            out.append(Truth(end(scope, with_role=rng.random() < 0.5), end(other), services()))
        elif i < 1530:
            unit = rng.choice(estate.labels)["bu"]
            out.append(Truth(frozenset({("bu", unit), ("env", other[1])}), end(other), services()))
        else:
            out.append(Truth(frozenset({("env", other[1])}), end(other), services()))
    return [t for t in out if len(estate.match(t.source)) and len(estate.match(t.destination))]


def draw(
    rng: np.random.Generator,
    estate: Estate,
    truth: list[Truth],
    n: int,
    weight: NDArray[np.float64],
    banned: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(source, destination, service) triples and the hidden rule of each; nothing of a banned identity."""
    rule = np.sort(rng.choice(len(truth), n, p=weight))
    out = np.full((n, 3), -1, np.int64)
    for r in np.unique(rule).tolist():
        rows = np.arange(*np.searchsorted(rule, (r, r + 1)))
        source, destination = (x[~banned[x]] for x in map(estate.match, truth[r][:2]))
        if len(source) and len(destination):
            out[rows] = np.stack(
                [rng.choice(x, len(rows)) for x in (source, destination, np.array(truth[r].services))], 1
            )
    kept = out[:, 0] >= 0
    return out[kept], rule[kept]


def conversations(
    rng: np.random.Generator, estate: Estate, triples: NDArray[np.int64]
) -> tuple[Conversations, tuple[Workload, ...]]:
    """One row a flow, between random members of the identities, spread over a fortnight."""
    n = len(triples)
    workloads = tuple(
        Workload(f"w{i}", derived_uuid(f"w{i}"), estate.labels[i // MEMBERS], (Lease(V4_BASE | (10 << 24) + i),))
        for i in range(len(estate.labels) * MEMBERS)
    )
    ends = tuple(Endpoint(w, w.addresses[0].address) for w in workloads)
    source, destination = ((triples[:, i] * MEMBERS + rng.integers(0, MEMBERS, n)).astype(np.int32) for i in (0, 1))
    hour = rng.integers(0, FORTNIGHT_H, n) * 3600 + 1_788_739_200
    one = np.ones(n, np.int64)
    confidence = np.full(n, DIRECTION_CONFIDENCE.index("originator"), np.uint8)
    points = np.array([point(TCP, 1024 + 7 * i) for i in range(SERVICES)], np.int32)[triples[:, 2]]
    reported = np.zeros(n, np.uint8)
    return Conversations(
        ends, source, destination, points, reported, hour, one, one * 9, one * 900, hour, hour, confidence
    ), workloads


Permit = list[tuple[Literals, Literals, tuple[int, ...]]]
"""What a policy permits: source, destination, services."""


def permits(policies: Iterable[Policy]) -> tuple[Permit, int, int]:
    """(what they permit, rules, literals). Every selector here is a conjunction of `key=value`, or `env in (...)`."""
    out: Permit = []
    rules = literals = 0
    for policy in policies:
        for rule in policy.rules:
            services = tuple(i for i in range(SERVICES) if point(TCP, 1024 + 7 * i) in rule.services)
            ends = [(s, d) for s in _ends(rule, "sources") for d in _ends(rule, "destinations")]
            out += [(s, d, services) for s, d in ends]
            rules += 1
            literals += len(services) + sum(len(s) for s in _ends(rule, "sources") + _ends(rule, "destinations"))
    return out, rules, literals


def _ends(rule: Rule, side: str) -> list[Literals]:
    out: list[Literals] = []
    for peer in getattr(rule, side):
        assert isinstance(peer, Workloads)
        choices: list[Literals] = [frozenset()]
        for requirement in {r for selector in peer.selectors for r in selector.requirements}:
            choices = [c | {(requirement.key, value)} for c in choices for value in requirement.values]
        out += choices
    return out


class Score(NamedTuple):
    """Shares of flows and triples."""

    test: float
    unseen: float
    new: float
    recall: float
    precision: float


def score(estate: Estate, permitted: Permit, hidden: Permit, test: NDArray[np.int64], is_unseen: NDArray[np.bool_],
          is_new: NDArray[np.bool_]) -> Score:  # fmt: skip
    """Service by service, so that one identity x identity matrix at a time is in memory."""
    n, hit = len(estate.labels), np.zeros(len(test), dtype=bool)
    total = good = true = 0
    for service in range(SERVICES):
        mine, theirs = (_matrix(estate, p, service, n) for p in (permitted, hidden))
        rows = np.flatnonzero(test[:, 2] == service)
        hit[rows] = mine[test[rows, 0], test[rows, 1]]
        total, good, true = total + int(mine.sum()), good + int((mine & theirs).sum()), true + int(theirs.sum())
    share: Callable[[NDArray[np.bool_]], float] = lambda rows: float(hit[rows].mean()) if rows.any() else 0.0  # noqa: E731
    return Score(float(hit.mean()), share(is_unseen), share(is_new), good / true, good / max(1, total))


def _matrix(estate: Estate, permitted: Permit, service: int, n: int) -> NDArray[np.bool_]:
    out = np.zeros((n, n), dtype=bool)
    for source, destination, services in permitted:
        if service in services:
            out[np.ix_(estate.match(source), estate.match(destination))] = True
    return out


def fixed(estate: Estate, triples: NDArray[np.int64], keys: tuple[str, ...]) -> tuple[Permit, int, int]:
    """The baseline of every product: label values at one granularity, pairs seen at least twice."""
    distinct, times = np.unique(triples, axis=0, return_counts=True)
    rules: dict[tuple[Literals, Literals], set[int]] = {}
    for s, d, v in distinct[times >= 2].tolist():
        ends = tuple(frozenset((k, estate.labels[x][k]) for k in keys) for x in (s, d))
        rules.setdefault((ends[0], ends[1]), set()).add(v)
    permit = [(s, d, tuple(v)) for (s, d), v in rules.items()]
    return permit, len(permit), sum(len(s) + len(d) + len(v) for s, d, v in permit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--flows", type=int, default=1_000_000)
    parser.add_argument("--identities", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--tight", type=int, nargs="+", default=[2, 5, 8])
    asked = parser.parse_args()
    rnd, rng = random.Random(asked.seed), np.random.default_rng(asked.seed)
    estate = Estate(rnd, asked.identities)
    truth = hidden_policy(rnd, estate)
    late = np.zeros(len(estate.labels), dtype=bool)
    late[rng.choice(len(late), len(late) // 10, replace=False)] = True
    weight = 1 / np.arange(1, len(truth) + 1) ** 0.7
    rng.shuffle(weight)
    weight /= weight.sum()
    train, exercised = draw(rng, estate, truth, asked.flows, weight, late)
    noise = np.stack([rng.choice(np.flatnonzero(~late), NOISE), rng.choice(np.flatnonzero(~late), NOISE),
                      rng.integers(0, SERVICES, NOISE)], 1)  # fmt: skip
    learning = np.concatenate([train, noise])
    test, test_rule = draw(rng, estate, truth, asked.flows // 5, weight, np.zeros_like(late))
    seen = {tuple(t) for t in np.unique(train, axis=0).tolist()}
    is_unseen = np.array([tuple(t) not in seen for t in test.tolist()], dtype=bool)
    is_new = late[test[:, 0]] | late[test[:, 1]]
    known = np.isin(test_rule, exercised)
    print(f"{len(train):,} flows -> {len(seen):,} identity triples; hidden policy: {len(truth):,} rules, "
          f"{sum(len(s) + len(d) + len(v) for s, d, v in truth):,} literals")  # fmt: skip
    print(f"ceiling: test {known.mean():.4f}  unseen {known[is_unseen].mean():.3f}  new {known[is_new].mean():.3f}")
    print(
        f"{'method':28}{'rules':>7}{'wsc':>8}{'test':>8}{'unseen':>8}{'new':>7}{'recall':>8}{'precision':>11}{'seconds':>9}"
    )
    hidden: Permit = [(t.source, t.destination, t.services) for t in truth]

    def show(name: str, found: tuple[Permit, int, int], seconds: float) -> None:
        permit, rules, literals = found
        s = score(estate, permit, hidden, test, is_unseen, is_new)
        print(f"{name:28}{rules:7,}{literals:8,}{s.test:8.4f}{s.unseen:8.3f}{s.new:7.3f}{s.recall:8.3f}{s.precision:11.3f}"
              f"{seconds:9.1f}", flush=True)  # fmt: skip

    for keys in (("app", "env", "role", "loc"), ("app", "env", "role"), ("app", "env")):
        began = time.process_time()
        show(f"fixed {'+'.join(keys)}", fixed(estate, learning, keys), time.process_time() - began)
    rows, workloads = conversations(rng, estate, learning)
    inventory = Inventory(w for i, w in enumerate(workloads) if not late[i // MEMBERS])
    for tight in asked.tight:
        began = time.process_time()
        found = recommend(rows, inventory, tight=tight)
        seconds = time.process_time() - began
        show(f"recommend --tight {tight}", permits(found.policies), seconds)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


if __name__ == "__main__":
    main()
