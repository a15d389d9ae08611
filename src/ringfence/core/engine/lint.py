"""What is wrong with a rule set that still parses: rules that change nothing, contradict, or claim what nobody uses.

Every finding is exact over the present classes and comes from the same bitmaps that decide: duplicate, shadowed
(by one rule), redundant (by a union of rules), contradictory (an allow that forbids leave nothing of),
no-traffic.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ringfence.core.engine.bits import Ids, members
from ringfence.core.engine.coverage import Coverage
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.judgement import Judgement
from ringfence.core.engine.rules import RuleRef
from ringfence.core.errors import Finding, Severity


def lint(engine: Engine) -> tuple[Finding, ...]:
    """Findings about rules that could go, or do not do what they say."""
    linter = _Linter(engine)
    return tuple(finding for number in range(len(engine.rules)) for finding in linter.rule(number))


def unused(engine: Engine, judgement: Judgement, days: float) -> tuple[Finding, ...]:
    """Rules that no observed connection was decided by in the window."""
    used = set(np.unique(judgement.rule).tolist())
    return tuple(
        _finding(rule, "no-traffic", f"no traffic in {days:.0f} days was decided by this rule", "info")
        for number, rule in enumerate(engine.rules)
        if number not in used
    )


class _Linter:
    """What the coverage of a rule set means for each rule."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.relation = engine, engine.relation
        self.coverage = Coverage(engine)
        self.is_lived_in = np.zeros(len(engine.classes), dtype=bool)
        self.is_lived_in[self.coverage.classes] = True

    def rule(self, number: int) -> Iterator[Finding]:
        rule = self.engine.rules[number]
        if (twin := self.coverage.twins.get(number)) is not None:
            yield _finding(rule, "duplicate", f"says the same as `{self.engine.rules[twin].ref}`")
            return
        sources, destinations = (side[self.is_lived_in[side]] for side in self.relation.classes_of(number))
        if not len(sources) or not len(destinations):
            return  # `unmatched` says so, with the selector to blame
        if self.coverage.superfluous >> number & 1:
            yield self._covered(number, sources, destinations)
        if rule.rule.action == "allow":
            yield from self._contradicted(number)

    def _covered(self, number: int, sources: Ids, destinations: Ids) -> Finding:
        """Shadowed by one rule of the same action, or redundant by several together."""
        rule = self.engine.rules[number]
        single = self._single_cover(number, sources, destinations)
        if single is None:
            return _finding(rule, "redundant", "other rules together cover everything it covers")
        other = self.engine.rules[single].ref
        return _finding(rule, "shadowed", f"everything it covers is covered by `{other}`")

    def _single_cover(self, number: int, sources: Ids, destinations: Ids) -> int | None:
        """The least rule that stays, names all its sources, destinations and services, and speaks wherever it does."""
        relation = self.relation
        covering = self.coverage.same_action(number) & ~self.coverage.superfluous
        for class_ in sources.tolist():
            covering &= relation.rows(class_)[0]
        for class_ in destinations.tolist():
            covering &= relation.rows(class_)[1]
        for atom in members(relation.masks[number]):
            covering &= relation.services[atom]
        mine = self.engine.rules[number].policy.scope
        scopes = ((n, self.engine.rules[n].policy.scope) for n in members(covering))
        return next((n for n, scope in scopes if scope is None or scope == mine), None)

    def _contradicted(self, number: int) -> Iterator[Finding]:
        """An allow of which forbids leave nothing (an error in someone's mind) or only a part (worth knowing)."""
        hits = self.coverage.hits.get(number)
        if hits is None or not hits.forbidden:
            return
        is_total = hits.forbidden == hits.pairs
        by = ", ".join(f"`{self.engine.rules[n].ref}`" for n in sorted(hits.by))
        part = "everything" if is_total else f"{hits.forbidden} of {hits.pairs} class pairs"
        severity: Severity = "warning" if is_total else "info"
        yield _finding(self.engine.rules[number], "contradictory", f"{part} it allows is forbidden by {by}", severity)


def _finding(rule: RuleRef, code: str, message: str, severity: Severity = "warning") -> Finding:
    return Finding(code, message, severity, rule.rule.where, help=_NEXT_STEP[code], subject=rule.ref)


_NEXT_STEP = {
    "no-traffic": "remove it, or keep it and say why in `because`",
    "duplicate": "remove one of them",
    "shadowed": "remove it: nothing passes or stops differently without it; if it was meant to, correct what it names",
    "redundant": "remove it: nothing passes or stops differently without it; `policy diff` shows that it is so",
    "contradictory": "narrow the forbid if this should pass, else remove the allow; nothing lifts a forbid",
}


def cardinality(engine: Engine, *, least: int = 50) -> tuple[Finding, ...]:
    """Label keys that make an identity of nearly every workload: they defeat the quotient and belong in
    `identity.ignore`.
    """
    values: dict[str, set[str]] = {}
    carriers: dict[str, int] = {}
    for workload in engine.world.inventory.workloads:
        for key, value in workload.labels.items():
            if key not in engine.world.inventory.ignore:
                values.setdefault(key, set()).add(value)
                carriers[key] = carriers.get(key, 0) + 1
    out = []
    for key, count in sorted(carriers.items()):
        if count >= least and len(values[key]) > count * 0.9:
            message = f"label `{key}` has {len(values[key])} values on {count} workloads: an identity per workload"
            help_ = f'add it to `identity.ignore` in ringfence.toml: ignore = ["{key}"]'
            out.append(Finding("identity-per-workload", message, "warning", help=help_, subject=key))
    return tuple(out)
