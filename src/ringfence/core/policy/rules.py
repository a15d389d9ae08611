"""The second pass: rules -> values, their names resolved and their ends held against the scope.

INVARIANT: a rule with any fault is not made at all; half a rule never takes effect.
"""

from __future__ import annotations

import msgspec

from ringfence.core.policy.bodies import Body, BodyReader
from ringfence.core.policy.conditions import CONDITION_KEYS, read_conditions
from ringfence.core.policy.definitions import Draft, read_optional
from ringfence.core.policy.model import Action, Conditions, Peer, Rule, Workloads
from ringfence.core.policy.names import canonical_text, derived_name, name_fault
from ringfence.core.policy.peers import can_be_in
from ringfence.core.policy.yaml import Mapping, Node

ACTIONS: tuple[Action, ...] = ("allow", "deny", "forbid")
BODY_KEYS = frozenset({"from", "to", "service"}) | CONDITION_KEYS
RULE_KEYS = frozenset({"name", "because", *ACTIONS}) | CONDITION_KEYS
_RULE_NAME_HELP = "use letters, digits, `.`, `-` and `_`, starting with a letter or digit"


class RuleReader:
    """Reads the rules of one policy."""

    def __init__(self, draft: Draft, bodies: BodyReader) -> None:
        self.draft = draft
        self.report = draft.report
        self.policy = draft.vocabulary.policy
        self.scope = draft.vocabulary.scope
        self.bodies = bodies
        self._lines: dict[str, int] = {}
        """Rule names and the line each was first given on."""

    def read(self, node: Node) -> Rule | None:
        self.report.subject = self.policy
        before = len(self.report.findings)
        mapping = self.report.mapping(node, "a rule")
        if mapping is None:
            return None
        name = self._read_name(mapping)
        self.report.keys(mapping, RULE_KEYS, "a rule")
        because = read_optional(self.report, mapping, "because")
        action = self._read_action(mapping)
        if action is None:
            return None
        body_node = self.report.mapping(mapping.entries[action][1], f"`{action}`")
        if body_node is None:
            return None
        self.report.keys(body_node, BODY_KEYS, f"`{action}`")
        body = self.bodies.read(body_node, f"`{action}`", action)
        conditions = read_conditions(self.report, action, body_node, mapping)
        if body is None or conditions is None:
            return None
        rule = self._compose(mapping, action, name=name, because=because, body=body, conditions=conditions)
        self._check(mapping, rule)
        return rule if len(self.report.findings) == before else None

    def _read_name(self, mapping: Mapping) -> str:
        node = mapping.get("name")
        name = None if node is None else self.report.text(node, "`name`")
        if node is None or name is None:
            return ""
        fault = name_fault(name, is_rule=True)
        if fault:
            self.report.error("bad-name", node, fault, _RULE_NAME_HELP)
            return ""
        self.report.subject = f"{self.policy}/{name}"
        return name

    def _read_action(self, mapping: Mapping) -> Action | None:
        actions = [action for action in ACTIONS if action in mapping.entries]
        if len(actions) == 1:
            return actions[0]
        if actions:
            second = mapping.entries[actions[1]][0]
            self.report.error("two-actions", second, f"the rule has {len(actions)} actions: {', '.join(actions)}")
            return None
        if mapping.entries.keys() <= RULE_KEYS:
            self.report.error("missing-action", mapping, "the rule has no action")
        return None  # where a key is unknown, it is the action, misspelt

    def _compose(
        self, mapping: Mapping, action: Action, *, name: str, because: str, body: Body, conditions: Conditions
    ) -> Rule:
        sources, destinations, services, _ = body
        implied = self._implied_process(action, body, conditions)
        return Rule(
            name=name or _derive(action, body, conditions),
            action=action,
            sources=sources,
            destinations=destinations,
            services=services.services,
            service_words=services.words,
            conditions=msgspec.structs.replace(conditions, to_process=implied) if implied else conditions,
            because=because,
            is_named=bool(name),
            is_process_implied=implied is not None,
            is_any_written=action != "allow" and body.is_any_written,
            where=self.report.at(mapping),
            comments=self.draft.margins.of(mapping),
        )

    def _implied_process(self, action: Action, body: Body, conditions: Conditions) -> str | None:
        if action == "allow":
            return self.bodies.implied_process(body, conditions.to_process)
        if body.services.processes != (None,):
            message = f"a service that names a process cannot stand in a `{action}`"
            self.report.error("condition-on-deny", body.service_node, message)
        return None

    def _check(self, mapping: Mapping, rule: Rule) -> None:
        """What can only be said of the whole rule: its name is its own, and its scope can hold one of its ends."""
        self.report.subject = f"{self.policy}/{rule.name}"
        if rule.name in self._lines:
            what = f"`{rule.name}` is already the name of" if rule.is_named else "the rule says the same as"
            message = f"{what} the rule on line {self._lines[rule.name]}"
            self.report.error("duplicate-name", mapping.get("name") or mapping, message)
        self._lines.setdefault(rule.name, mapping.line)
        if self.scope is not None and not any(map(self._may_be_in_scope, rule.sources + rule.destinations)):
            self.report.error("scope-escape", mapping, f"neither end of the rule can lie in the scope `{self.scope}`")

    def _may_be_in_scope(self, peer: Peer) -> bool:
        assert self.scope is not None
        return (isinstance(peer, Workloads) and self.scope in peer.selectors) or can_be_in(self.scope, peer)


def _derive(action: Action, body: Body, conditions: Conditions) -> str:
    sources, destinations, services = body.sources, body.destinations, body.services.words
    canonical = canonical_text(
        action, sources=sources, destinations=destinations, services=services, conditions=conditions
    )
    return derived_name(action, sources=sources, destinations=destinations, services=services, canonical=canonical)
