"""Core services -> rules of one unscoped policy, which belongs to whoever owns the platform."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence.core.insight.core_services import CoreService
from ringfence.core.insight.segments import slug, unique
from ringfence.core.policy.model import Policy, Rule

INFRASTRUCTURE = "infrastructure"
_BECAUSE = "what every application needs: names, time, monitoring, administration"


def compose_infrastructure(core: Sequence[CoreService], existing: Sequence[Policy]) -> tuple[Policy, tuple[Rule, ...]]:
    """The policy and its new rules, in step with `core`. An existing unscoped one of that name is extended."""
    names = {policy.name: policy for policy in existing}
    old = names.get(INFRASTRUCTURE)
    if old is not None and old.scope is not None:
        old = None
    base = old or Policy(unique(INFRASTRUCTURE, names), because=_BECAUSE)
    taken = {rule.name for rule in base.rules}
    rules: list[Rule] = []
    for service in core:
        name = service.kind.name
        name = name if name not in taken else unique(slug(name, *service.words[:1]), taken)
        taken.add(name)
        rules.append(
            Rule(
                name=name, action="allow", sources=service.sources, destinations=service.destinations,
                services=service.services, service_words=service.words, because=service.kind.because, is_named=True,
            )
        )  # fmt: skip
    policy = Policy(
        name=base.name, owner=base.owner, segments=base.segments, services=base.services, rules=(*base.rules, *rules),
        tests=base.tests, because=base.because, comments=base.comments, margin=base.margin, where=base.where,
    )  # fmt: skip
    return policy, tuple(rules)
