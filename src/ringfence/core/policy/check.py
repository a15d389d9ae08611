"""Policies x inventory -> what is right as language and yet probably not meant.

    unmatched            a selector or segment picks no workload
    unlabelled-escape    a deny or forbid misses workloads that lack the label it tests
    expired, expires-soon
    over-broad           an allow from everyone to everyone, or of every service to outsiders
    unused-segment, unused-service
    fqdn-unresolved      a DNS name without an answer

Nothing here stops a publish: these are warnings. What needs the engine (shadowed, contradictory, redundant) is lint's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import date, datetime, timedelta

from ringfence.core.errors import Finding, Location, Severity
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import utc
from ringfence.core.labels.selector import Requirement, Selector
from ringfence.core.policy.codes import help_of
from ringfence.core.policy.model import Everywhere, Expectation, Fqdn, Named, Peer, Policy, Rule, Workloads
from ringfence.core.policy.names import is_selector_text, split_global
from ringfence.core.policy.population import Population
from ringfence.core.policy.services import ANY_WORD
from ringfence.core.policy.suggest import did_you_mean

SOON = timedelta(days=14)
SHOWN = 5
"""How many workloads a finding names before it only counts."""


def check(
    policies: Sequence[Policy],
    inventory: Inventory,
    at: datetime,
    *,
    names: Mapping[str, Sequence[object]] | None = None,
) -> tuple[Finding, ...]:
    """Warnings that need the inventory but not the engine, sorted by place.

    `at` is the time of the check. `names` are the answers known per DNS name; without them names are not judged.
    """
    checker = _Checker(Population(inventory), utc(at).date(), names)
    unused = list(_unused(policies))
    silent = {finding.subject for finding in unused if finding.code == "unused-segment"}
    judged = (finding for policy in policies for finding in checker.policy(policy))
    findings = [*(f for f in judged if f.code != "unmatched" or f.subject not in silent), *unused]
    return tuple(sorted(findings, key=lambda finding: finding.sort_key))


class _Checker:
    """Judges one policy after another against one population; equal selectors are judged once."""

    def __init__(self, population: Population, today: date, names: Mapping[str, Sequence[object]] | None) -> None:
        self.population = population
        self.today = today
        self.resolved = None if names is None else {name for name, answers in names.items() if answers}
        self._picks_nobody: dict[tuple[Selector, ...], bool] = {}
        self._escaping: dict[tuple[Selector, ...], dict[str, int]] = {}

    def policy(self, policy: Policy) -> Iterator[Finding]:
        own = {segment.name for segment in policy.segments}
        for segment in policy.segments:
            if segment.peer is not None and self.picks_nobody(segment.peer):
                subject, message = f"{policy.name}.{segment.name}", f"segment `{segment.name}` picks no workload"
                yield _warning("unmatched", message, segment.where, subject, segment.text, self.guess(segment.peer))
        for rule in policy.rules:
            yield from self.unmatched(rule, own, policy.ref(rule))
            yield from (
                self.allow(rule, policy.ref(rule)) if rule.action == "allow" else self.escapes(rule, policy.ref(rule))
            )
        for test in policy.tests:
            yield from self.unmatched(test, own, f"{policy.name}/{test.name or 'tests'}")

    def allow(self, rule: Rule, ref: str) -> Iterator[Finding]:
        yield from _timing(rule, ref, self.today)
        yield from _breadth(rule, ref)
        yield from self.unresolved(rule, ref)

    def unmatched(self, entry: Rule | Expectation, own: Set[str], subject: str) -> Iterator[Finding]:
        """Own segments are judged where they are defined, not again at each use."""
        for end, peers in (("from", entry.sources), ("to", entry.destinations)):
            for peer in peers:
                if isinstance(peer, Workloads) and peer.text not in own and self.picks_nobody(peer):
                    message = f"`{end}: {peer.text}` picks no workload"
                    yield _warning("unmatched", message, entry.where, subject, peer.text, self.guess(peer))

    def unresolved(self, rule: Rule, ref: str) -> Iterator[Finding]:
        for peer in rule.destinations:
            if isinstance(peer, Fqdn) and self.resolved is not None and not _covers_any(peer.text, self.resolved):
                yield _warning("fqdn-unresolved", f"`{peer.text}` has no answer", rule.where, ref, peer.text)

    def escapes(self, rule: Rule, ref: str) -> Iterator[Finding]:
        """A workload that lacks a tested key is not closed off, though once labelled it might have to be."""
        escaping: dict[str, int] = {}
        for peer in (*rule.sources, *rule.destinations):
            for key, identities in self.escaping(peer).items() if isinstance(peer, Workloads) else ():
                escaping[key] = escaping.get(key, 0) | identities
        for key, identities in sorted(escaping.items()):
            found = self.population.names(identities)
            if found:
                message = (
                    f"{_counted(found)} no label `{key}` and so escape{'s' * (len(found) == 1)} this {rule.action}"
                )
                help_ = f"label them with `{key}`: {_some(found)}"
                yield _warning("unlabelled-escape", message, rule.where, ref, key, help_)

    def escaping(self, peer: Workloads) -> dict[str, int]:
        """Tested key -> the identities that escape for want of it."""
        if peer.selectors not in self._escaping:
            keys = _tested(peer)
            self._escaping[peer.selectors] = {key: self.population.escaping(peer.selectors, key) for key in keys}
        return self._escaping[peer.selectors]

    def picks_nobody(self, peer: Workloads) -> bool:
        if peer.selectors not in self._picks_nobody:
            self._picks_nobody[peer.selectors] = not self.population.picked(peer.selectors)
        return self._picks_nobody[peer.selectors]

    def guess(self, peer: Workloads) -> str:
        """The label that exists and was probably meant."""
        population = self.population
        for requirement in (r for selector in peer.selectors for r in selector.requirements):
            if requirement.op not in ("in", "exists") or population.picked((Selector((requirement,)),)):
                continue
            if requirement.key in population.keys:
                return _value_guess(requirement, population)
            guess = did_you_mean(requirement.key, population.keys) or f"known keys: {_some(population.keys)}"
            return f"no workload has the key `{requirement.key}`; {guess}"
        if len(peer.selectors) > 1 and population.picked((peer.selectors[0],)):
            scope = ",".join(str(selector) for selector in peer.selectors[1:])
            return f"nobody within the scope `{scope}`; did you mean `global: {peer.selectors[0]}`?"
        return "each requirement matches some workload, but none matches them all"


def _value_guess(requirement: Requirement, population: Population) -> str:
    key, value = requirement.key, next(iter(requirement.values), "")
    near = next(iter(population.value_misses(key).of(value)), None)
    meant = f"did you mean `{key}={near}`?" if near else f"known values: {_some(population.values_of(key))}"
    return f"no workload has `{key}={value}`; {meant}"


def _timing(rule: Rule, ref: str, today: date) -> Iterator[Finding]:
    until = rule.conditions.until
    if until is None:
        return
    text = until.isoformat()
    if until < today:
        yield _warning("expired", f"the rule ended on {text}", rule.where, ref, text)
    elif until - today <= SOON:
        days = (until - today).days
        left = f"in {days} days" if days > 1 else "tomorrow" if days else "today"
        yield _warning("expires-soon", f"the rule ends {left}, on {text}", rule.where, ref, text)


def _breadth(rule: Rule, ref: str) -> Iterator[Finding]:
    from_words, to_words = _words(rule.sources), _words(rule.destinations)
    if "anyone" in from_words and "anyone" in to_words:
        yield _warning("over-broad", "everyone may talk to everyone", rule.where, ref)
    elif ANY_WORD in rule.service_words and from_words:
        message = f"every service is open from `{min(from_words)}`"
        yield _warning("over-broad", message, rule.where, ref, ANY_WORD)


def _words(peers: Iterable[Peer]) -> set[str]:
    return {peer.word for peer in peers if isinstance(peer, Everywhere)}


def _covers_any(pattern: str, names: Set[str]) -> bool:
    return pattern in names or (pattern.startswith("*.") and any(name.endswith(pattern[1:]) for name in names))


def _tested(peer: Workloads) -> set[str]:
    """Keys whose absence keeps a workload from matching."""
    return {r.key for selector in peer.selectors for r in selector.requirements if r.op in ("in", "exists")}


def _counted(found: Sequence[str]) -> str:
    return "1 workload has" if len(found) == 1 else f"{len(found)} workloads have"


def _some(found: Sequence[str]) -> str:
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(f"`{name}`" for name in found[:SHOWN]) + more


def _unused(policies: Sequence[Policy]) -> Iterator[Finding]:
    segments = {name for policy in policies for name in _used_segments(policy)}
    services = {name for policy in policies for name in _used_services(policy)}
    for policy in policies:
        for segment in policy.segments:
            if not segment.is_crown_jewel and (policy.name, segment.name) not in segments:
                yield _unused_finding("segment", policy, segment)
        for service in policy.services:
            if (policy.name, service.name) not in services:
                yield _unused_finding("service", policy, service)


def _unused_finding(kind: str, policy: Policy, named: Named) -> Finding:
    message = f"no rule or test uses the {kind} `{named.name}`"
    return _warning(f"unused-{kind}", message, named.where, f"{policy.name}.{named.name}", named.name)


def _used_segments(policy: Policy) -> Iterator[tuple[str, str]]:
    peers = {peer for entry in _entries(policy) for peer in (*entry.sources, *entry.destinations)}
    texts = {split_global(peer.text)[1] for peer in peers if isinstance(peer, Workloads)}
    yield from (_qualified(text, policy) for text in texts if not is_selector_text(text))


def _used_services(policy: Policy) -> Iterator[tuple[str, str]]:
    words = {word for entry in _entries(policy) for word in entry.service_words}
    yield from (_qualified(word, policy) for word in words)


def _entries(policy: Policy) -> tuple[Rule | Expectation, ...]:
    return (*policy.rules, *policy.tests)


def _qualified(text: str, policy: Policy) -> tuple[str, str]:
    """(policy, name) of `db` or `shop.db`."""
    owner, dot, name = text.partition(".")
    return (owner, name) if dot else (policy.name, text)


def _warning(code: str, message: str, where: Location, subject: str, text: str = "", help_: str = "") -> Finding:
    severity: Severity = "warning"
    return Finding(code, message, severity, where, text, help_ or help_of(code), subject)
