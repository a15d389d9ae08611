"""Possible label sets: could a workload that nobody has yet break a test that holds today?

The closed world (today's classes) decides a test; this looks for a counterexample among label sets the rules can
tell apart. A witness is always real: it is judged by the engine. The search is guided by the rules (what an allow
needs, what a forbid names), so it finds what rules can cause, within a bound, and says nothing when it finds
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, product

import msgspec

from ringfence.core.engine.bits import members
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.rules import Facts
from ringfence.core.labels.selector import Requirement, Selector
from ringfence.core.policy.model import Expectation, Peer, Workloads

_MOST = 2_000
"""Label set pairs judged a test."""
_OTHER = "another-value"
Labels = dict[str, str]


class Possible(msgspec.Struct, frozen=True):
    """Two label sets that would contradict a test, and on what."""

    source: str
    destination: str
    services: tuple[str, ...]


def counterexample(engine: Engine, test: Expectation, wanted: int, facts: Facts) -> Possible | None:
    """A pair of possible label sets, both workloads with an enforcement point, that contradicts the expectation."""
    for source, destination in islice(_candidates(engine, test, wanted), _MOST):
        passed = engine.passed_between_labels(source, destination, facts)
        wrong = wanted & (passed if test.expect == "blocked" else ~passed)
        if wrong:
            return Possible(_say(source), _say(destination), engine.say_services(wrong))
    return None


def _candidates(engine: Engine, test: Expectation, wanted: int) -> Iterator[tuple[Labels, Labels]]:
    """Label set pairs inside the test, shaped by each rule that could contradict it."""
    rules = engine.relation.allow if test.expect == "blocked" else engine.relation.forbid
    shapes: list[tuple[Selector | None, ...]] = [(None, None)] if test.expect == "allowed" else []
    for number in members(rules):
        if engine.relation.masks[number] & wanted:
            rule = engine.rules[number].rule
            shapes += list(product(_selectors(rule.sources), _selectors(rule.destinations)))
    for asked in product(_selectors(test.sources), _selectors(test.destinations)):
        for shape in shapes:
            sides = [_label_sets(engine, ask, rule) for ask, rule in zip(asked, shape, strict=True)]
            yield from product(*sides)


def _selectors(peers: Iterable[Peer]) -> list[Selector | None]:
    """The label conditions of peers; None where any label set will do. Address peers depend on more than labels."""
    out: list[Selector | None] = []
    for peer in peers:
        if isinstance(peer, Workloads):
            out.append(Selector(tuple(sorted({r for s in peer.selectors for r in s.requirements}))))
        elif peer.text == "anyone":
            out.append(None)
    return out


def _label_sets(engine: Engine, asked: Selector | None, rule: Selector | None) -> list[Labels]:
    """The smallest label sets that meet both: one per choice of a listed value, at most a few."""
    requirements = [r for selector in (asked, rule) if selector is not None for r in selector.requirements]
    by_key: dict[str, list[Requirement]] = {}
    for requirement in requirements:
        by_key.setdefault(requirement.key, []).append(requirement)
    choices = [_values(key, group) for key, group in sorted(by_key.items())]
    if any(not values for values in choices):
        return []
    keys = sorted(by_key)
    return [
        {k: v for k, v in zip(keys, values, strict=True) if v is not None} for values in islice(product(*choices), 8)
    ]


def _values(key: str, group: list[Requirement]) -> list[str | None]:
    """Values of one key that meet every requirement: absent first, then listed ones, then one nobody named."""
    named = sorted({value for requirement in group for value in requirement.values})
    worlds: list[str | None] = [None, *named, _OTHER]
    return [v for v in worlds if all(r.matches({} if v is None else {key: v}) for r in group)][:3]


def _say(labels: Labels) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items()) or "no labels"
