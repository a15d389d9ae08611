"""What is wrong with a rule set that still parses: rules that change nothing, contradict, or claim what nobody uses.

Every finding is exact over the present classes and comes from the same bitmaps that decide: duplicate, shadowed
(by one rule), redundant (by a union of rules), contradictory (an allow that forbids leave nothing of),
no-traffic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ringfence.core.engine.bits import lowest, members, of_ids
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.judgement import Judgement
from ringfence.core.engine.relation import meaning
from ringfence.core.engine.rules import RuleRef
from ringfence.core.errors import Finding, Severity

_MAX_PAIRS = 250_000
"""A rule with more class pairs is compared by its sides only: sound for `shadowed`, silent for `redundant`."""


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
    """Which classes each rule names, worked out once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.relation = engine.relation
        classes = engine.classes
        self.present = [c for c in range(len(classes)) if classes.workloads[c] or classes.ranges[c]]
        self.sources, self.destinations = self._sides(0), self._sides(1)
        self.texts = self._texts(engine.rules)

    def _sides(self, side: int) -> list[list[int]]:
        out: list[list[int]] = [[] for _ in self.engine.rules]
        for class_ in self.present:
            for rule in members(self.relation.rows(class_)[side]):
                out[rule].append(class_)
        return out

    @staticmethod
    def _texts(rules: Sequence[RuleRef]) -> dict[tuple[object, ...], int]:
        first: dict[tuple[object, ...], int] = {}
        for number, rule in enumerate(rules):
            first.setdefault(meaning(rule), number)
        return first

    def rule(self, number: int) -> Iterator[Finding]:
        rule = self.engine.rules[number]
        twin = self.texts[meaning(rule)]
        if twin != number:
            yield _finding(rule, "duplicate", f"says the same as `{self.engine.rules[twin].ref}`")
            return
        if not self.sources[number] or not self.destinations[number]:
            return  # `unmatched` says so, with the selector to blame
        yield from self._covered(number)
        if rule.rule.action == "allow":
            yield from self._contradicted(number)

    def _covered(self, number: int) -> Iterator[Finding]:
        """Shadowed by one rule of the same action, or redundant by several together."""
        rule = self.engine.rules[number]
        single = self._single_cover(number)
        if single is not None:
            other = self.engine.rules[single].ref
            yield _finding(rule, "shadowed", f"everything it covers is covered by `{other}`")
        elif self._is_redundant(number):
            yield _finding(rule, "redundant", "other rules together cover everything it covers")

    def _same_action(self, number: int) -> int:
        relation = self.relation
        bit = 1 << number
        action = next(bits for bits in (relation.forbid, relation.allow, relation.deny) if bits & bit)
        return action & ~relation.conditional & ~bit

    def _single_cover(self, number: int) -> int | None:
        """The least other rule that names all its sources, destinations and services, and speaks wherever it speaks."""
        relation = self.relation
        covering = self._same_action(number)
        for class_ in self.sources[number]:
            covering &= relation.rows(class_)[0]
        for class_ in self.destinations[number]:
            covering &= relation.rows(class_)[1]
        for atom in members(relation.masks[number]):
            covering &= relation.services[atom]
        for candidate in members(covering):
            if self._speaks_wherever(candidate, number):
                return candidate
        return None

    def _speaks_wherever(self, candidate: int, number: int) -> bool:
        mine, other = self.engine.rules[number].policy, self.engine.rules[candidate].policy
        return other.scope is None or other.scope == mine.scope

    def _is_redundant(self, number: int) -> bool:
        pairs = len(self.sources[number]) * len(self.destinations[number])
        if pairs > _MAX_PAIRS:
            return False
        relation, others = self.relation, self._same_action(number)
        others &= of_ids(n for n in members(others) if self._speaks_wherever(n, number))
        mask = relation.masks[number]
        by_destination = [relation.rows(d)[1] & others for d in self.destinations[number]]
        for source in self.sources[number]:
            named = relation.rows(source)[0]
            if not all(self._covers(named & rules, mask) for rules in by_destination):
                return False
        return True

    def _covers(self, rules: int, mask: int) -> bool:
        """Whether the rules' services together contain the mask."""
        for rule in members(rules):
            mask &= ~self.relation.masks[rule]
            if not mask:
                return True
        return not mask

    def _contradicted(self, number: int) -> Iterator[Finding]:
        """An allow of which forbids leave nothing (an error in someone's mind) or only a part (worth knowing)."""
        relation, rule = self.relation, self.engine.rules[number]
        pairs = len(self.sources[number]) * len(self.destinations[number])
        if pairs > _MAX_PAIRS or not relation.forbid:
            return
        left = hit = 0
        blamed: set[int] = set()
        for source in self.sources[number]:
            s_named, _, s_scope = relation.rows(source)
            for destination in self.destinations[number]:
                _, d_named, d_scope = relation.rows(destination)
                forbidding = s_named & d_named & (s_scope | d_scope) & relation.forbid
                full = bool(forbidding) and self._covers(forbidding, relation.masks[number])
                hit, left = hit + full, left + (not full)
                blamed.update([lowest(forbidding)] if full else [])
        if hit:
            by = ", ".join(f"`{self.engine.rules[n].ref}`" for n in sorted(blamed)[:3])
            part = "everything" if not left else f"{hit} of {hit + left} class pairs"
            severity: Severity = "warning" if not left else "info"
            yield _finding(rule, "contradictory", f"{part} it allows is forbidden by {by}", severity)


def _finding(rule: RuleRef, code: str, message: str, severity: Severity = "warning") -> Finding:
    helps = {"no-traffic": "remove it, or keep it and say why in `because`"}
    help_ = helps.get(code, "remove one of them" if code == "duplicate" else "")
    return Finding(code, message, severity, rule.rule.where, help=help_, subject=rule.ref)


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
