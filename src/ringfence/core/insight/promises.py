"""The tests a recommended policy carries: what it opens works, and what nobody outside was seen to use stays closed.

INVARIANT: every promise follows from the policy's own rules; a segment that might share workloads with an opened
one makes none.
"""

from __future__ import annotations

from collections.abc import Sequence

from ringfence.core.labels.selector import Selector
from ringfence.core.net.service import ANY
from ringfence.core.policy.model import Everywhere, Expectation, Peer, Rule, Workloads

MOST_WORKING = 5
_INTERNET = (Everywhere("internet"),)


def promises(rules: Sequence[Rule], scope: Selector) -> tuple[Expectation, ...]:
    """First what must work, then the segments the internet must not reach."""
    inside = [r for r in rules if all(_is_segment(p, scope) for p in (*r.sources, *r.destinations))]
    works = tuple(
        Expectation(r.sources, r.destinations, r.services, r.service_words, "allowed") for r in inside[:MOST_WORKING]
    )
    opened = [p for r in rules if not all(isinstance(s, Workloads) for s in r.sources) for p in r.destinations]
    own = dict.fromkeys(p for r in rules for p in (*r.destinations, *r.sources) if _is_segment(p, scope))
    closed = tuple(p for p in own if not any(may_share(p, other) for other in opened))
    if not closed:
        return works
    return (*works, Expectation(_INTERNET, closed, ANY, ("any",), "blocked"))


def _is_segment(peer: Peer, scope: Selector) -> bool:
    return isinstance(peer, Workloads) and scope in peer.selectors


def may_share(a: Peer, b: Peer) -> bool:
    """Whether some workload could be picked by both."""
    if not isinstance(a, Workloads) or not isinstance(b, Workloads):
        return True
    requirements = {r for selector in (*a.selectors, *b.selectors) for r in selector.requirements}
    return Selector(tuple(sorted(requirements))).is_satisfiable
