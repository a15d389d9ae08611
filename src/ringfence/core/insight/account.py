"""The account of a recommendation: which rule each row stands behind, the evidence, and the confidence in every
policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.core.flow.conversations import Conversations
from ringfence.core.insight.compose import DraftRule
from ringfence.core.insight.confidence import DAY, Confidence, assess, calendar_of
from ringfence.core.insight.core_services import CoreService
from ringfence.core.insight.cover import LabelSpace
from ringfence.core.insight.evidence import Evidence, Reach, in_words
from ringfence.core.insight.learning import Learned, Scopes
from ringfence.core.insight.noise import dense_ids
from ringfence.core.insight.parties import PEER, Parties
from ringfence.core.insight.segments import LabelPairs
from ringfence.core.net.service import ANY
from ringfence.core.policy.model import Peer, Policy, Rule, Workloads

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """One policy with its new rules and what each came from, in step: drafts of the cover, or core services."""

    policy: Policy
    rules: tuple[Rule, ...]
    drafts: tuple[DraftRule, ...] = ()
    core: tuple[CoreService, ...] = ()


def credit(rows: int, learned: Learned, parts: Sequence[Part]) -> tuple[NDArray[np.int32], Ids]:
    """Per row the first rule that stands for it (-1: none), and per rule its policy's number."""
    rule = np.full(rows, -1, np.int32)
    of_pair = np.full(len(learned.pairs), -1, np.int32)
    policy_of_rule: list[int] = []
    for number, part in enumerate(parts):
        for i in range(len(part.rules)):
            if part.core:
                rule[part.core[i].rows] = len(policy_of_rule)
            else:
                pairs = part.drafts[i].pairs
                of_pair[pairs[of_pair[pairs] < 0]] = len(policy_of_rule)
            policy_of_rule.append(number)
    rule[learned.rows] = of_pair[learned.pair_of_row]
    return rule, np.array(policy_of_rule, np.int64)


def reaches(parts: Sequence[Part], space: LabelSpace, members: Ids) -> Iterator[Reach]:
    """What every rule picks, counted in workloads of the inventory."""
    for part in parts:
        for i, rule in enumerate(part.rules):
            if part.core:
                ends = (
                    _members_of_peers(rule.sources, space, members),
                    _members_of_peers(rule.destinations, space, members),
                )
            else:
                draft = part.drafts[i]
                ends = _members(draft.sources, space, members), _members((draft.destination,), space, members)
            words = len(rule.service_words)
            yield Reach(part.policy.ref(rule), *ends, words, rule.services == ANY, bool(part.core))


def _members(sides: Sequence[LabelPairs], space: LabelSpace, members: Ids) -> int | None:
    if sides[0][0][0] == PEER:
        return None
    return int(members[np.any([space.picks(side) for side in sides], axis=0)].sum())


def _members_of_peers(peers: Sequence[Peer], space: LabelSpace, members: Ids) -> int | None:
    labelled = [peer for peer in peers if isinstance(peer, Workloads)]
    if len(labelled) < len(peers):
        return None
    picked = [any(all(s.matches(x) for s in p.selectors) for p in labelled) for x in space.labels]
    return int(members[np.array(picked, dtype=bool)].sum())


def commented(part: Part, evidence: Sequence[Evidence], heading: str) -> Policy:
    """The policy with every new rule's evidence above it; a policy that is all new gets the heading."""
    told = {e.rule.partition("/")[2]: in_words(e) for e in evidence}
    rules = (
        msgspec.structs.replace(rule, comments=(*rule.comments, told[rule.name])) if rule.name in told else rule
        for rule in part.policy.rules
    )
    is_new = len(part.rules) == len(part.policy.rules)
    comments = (heading,) if is_new else part.policy.comments
    return msgspec.structs.replace(part.policy, rules=tuple(rules), comments=comments)


def confide(
    c: Conversations, parties: Parties, scopes: Scopes, owner: Ids, rule: NDArray[np.int32], policy_of_rule: Ids,
    parts: Sequence[Part], *, ruled: NDArray[np.bool_], uncovered: NDArray[np.bool_],
) -> tuple[Confidence, tuple[Confidence, ...]]:  # fmt: skip
    """Confidence in everything and in each policy. A need is a recommended rule, or (`ruled`: a pair too rare for a
    rule, or allowed already) a pair and its service.

    Rows without a rule belong to the policy of the scope that owns them.
    """
    calendar = calendar_of(c.hour)
    need = rule.astype(np.int64)
    rows = np.flatnonzero(ruled)
    ends = (parties.of_endpoint[x[rows]].astype(np.int64) for x in (c.source, c.destination))
    need[rows] = len(policy_of_rule) + dense_ids(*ends, c.point[rows].astype(np.int64))
    policy_of_scope = np.full(len(scopes.pairs) + 1, -1, np.int64)
    index = {pairs: i for i, pairs in enumerate(scopes.pairs)}
    for number, part in enumerate(parts):
        if part.drafts:
            policy_of_scope[index[part.drafts[0].owner]] = number
    policy = policy_of_scope[owner]
    policy[rule >= 0] = policy_of_rule[rule[rule >= 0]]
    met = _needs_met(policy, need, c.hour, np.flatnonzero((rule >= 0) | ruled))
    blocked = np.bincount(policy[uncovered] + 1, c.connections[uncovered], len(parts) + 1).astype(np.int64)
    everything = assess("everything", met[:, 1], met[:, 2], calendar, blocked_now=int(blocked.sum()))
    bounds = np.searchsorted(met[:, 0], np.arange(len(parts) + 1))
    return everything, tuple(
        assess(
            part.policy.name,
            met[bounds[i] : bounds[i + 1], 1],
            met[bounds[i] : bounds[i + 1], 2],
            calendar,
            blocked_now=int(blocked[i + 1]),
        )
        for i, part in enumerate(parts)
    )


def _needs_met(policy: Ids, need: Ids, hour: Ids, rows: Ids) -> Ids:
    """Distinct (policy, need, start of the day it was met), sorted."""
    day = hour[rows] // DAY
    kind = dense_ids(policy[rows] + 1, need[rows], day - day.min(initial=0))
    _, first = np.unique(kind, return_index=True)
    met = np.stack([policy[rows], need[rows], day * DAY], axis=1)[first]
    return met[np.argsort(met[:, 0], kind="stable")]
