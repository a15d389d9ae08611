"""The tests a recommended policy carries: what it opens works, and what nobody outside was seen to use stays closed.

INVARIANT: every promise follows from the recommended policies alone; a segment that might share workloads with an
opened one, or holds a workload without an enforcement point, makes none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ringfence.core.labels.selector import Selector
from ringfence.core.net.service import ANY
from ringfence.core.policy.model import Everywhere, Expectation, Peer, Policy, Rule, Workloads

MOST_WORKING = 5
_INTERNET = (Everywhere("internet"),)


def promises(
    policy: Policy, opened: Sequence[Peer], uncontrolled: Iterable[Mapping[str, str]]
) -> tuple[Expectation, ...]:
    """First what must work, then the segments the internet must not reach.

    `opened` are destinations that bare addresses may reach by other policies; `uncontrolled` the label sets of
    workloads without an enforcement point.
    """
    scope = policy.scope
    inside = [r for r in policy.rules if all(_is_segment(p, scope) for p in (*r.sources, *r.destinations))]
    works = tuple(
        Expectation(r.sources, r.destinations, r.services, r.service_words, "allowed") for r in inside[:MOST_WORKING]
    )
    own = dict.fromkeys(p for r in policy.rules for p in (*r.destinations, *r.sources) if _is_segment(p, scope))
    reachable = (*opened, *opened_by(policy.rules))
    closed = tuple(
        p
        for p in own
        if not any(may_share(p, other) for other in reachable) and not any(_picks(p, x) for x in uncontrolled)
    )
    if not closed:
        return works
    return (*works, Expectation(_INTERNET, closed, ANY, ("any",), "blocked"))


def opened_by(rules: Iterable[Rule]) -> tuple[Peer, ...]:
    """Destinations that something else than workloads may reach."""
    return tuple(p for r in rules if not all(isinstance(s, Workloads) for s in r.sources) for p in r.destinations)


def _picks(peer: Peer, labels: Mapping[str, str]) -> bool:
    return isinstance(peer, Workloads) and all(selector.matches(labels) for selector in peer.selectors)


def _is_segment(peer: Peer, scope: Selector | None) -> bool:
    return isinstance(peer, Workloads) and scope in peer.selectors


def may_share(a: Peer, b: Peer) -> bool:
    """Whether some workload could be picked by both."""
    if not isinstance(a, Workloads) or not isinstance(b, Workloads):
        return True
    requirements = {r for selector in (*a.selectors, *b.selectors) for r in selector.requirements}
    return Selector(tuple(sorted(requirements))).is_satisfiable
