"""From flows to a minimal identity-based policy: what was seen, as rules a person would be glad to have written.

    identify      endpoints -> parties                   (parties)
    set aside     scanners, noise, what needs no rule    (noise)
    recognise     DNS, monitoring, backup ...            (core_services)
    cover         pairs -> few label rectangles          (learning, namings, cover)
    compose       rectangles -> one policy a scope       (compose, segments, promises)
    account       evidence, coverage, confidence         (evidence, confidence)

INVARIANT: every row is learned from, already allowed, set aside, uncovered or not selected, and is counted there once.
INVARIANT: replaying the learned rows under the policies, every end enforcing, blocks none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.core.engine import Engine, Judgement
from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode
from ringfence.core.insight import core_services, noise
from ringfence.core.insight.account import Part, commented, confide, credit, reaches
from ringfence.core.insight.addresses import BareEnds
from ringfence.core.insight.compose import compose, merge
from ringfence.core.insight.core_services import CoreService
from ringfence.core.insight.cover import Block, LabelSpace, cover, of_tightness
from ringfence.core.insight.evidence import Evidence, collect, moment, parties_seen
from ringfence.core.insight.infrastructure import compose_infrastructure
from ringfence.core.insight.learning import Learned, Level, Scopes, learn, level_of, owners_of
from ringfence.core.insight.leftovers import leftovers, review
from ringfence.core.insight.namings import extra_keys, shapes
from ringfence.core.insight.parties import LabelKeys, identify
from ringfence.core.insight.promises import opened_by, promises
from ringfence.core.insight.recommendation import (
    ALREADY,
    ASIDE,
    FATES,
    GAP_MEANING,
    GAPS,
    LEARNED,
    NOT_SELECTED,
    UNCOVERED,
    Coverage,
    Permission,
    Recommendation,
)  # fmt: skip
from ringfence.core.labels.selector import Selector
from ringfence.core.policy.model import Conditions, Policy
from ringfence.core.world import REASONS, VERDICTS, World

Ids = NDArray[np.int64]
_SINGLE_SHOT = noise.ASIDE.index("single-shot")
_ENFORCE = Mode.both("enforce")


def recommend(
    conversations: Conversations,
    inventory: Inventory,
    *,
    select: Selector | None = None,
    level: Level = "port",
    tight: int = 5,
    existing: tuple[Policy, ...] = (),
    keys: LabelKeys | None = None,
    least: int = 2,
) -> Recommendation:
    """A policy for what these conversations show.

    `select` keeps to traffic with these workloads; `tight` is 0 (general) to 10 (only what was seen); `least`
    connections make a pair worth a rule. Raises InputError `bad-tightness`, `bad-level`.
    """
    if tight not in range(11):
        raise InputError("bad-tightness", f"`{tight}` is not a tightness", help="give a number from 0 to 10")
    study = _Study(conversations, inventory, keys or LabelKeys.found_in(inventory), level_of(level), tight, least)
    study.sort_rows(existing)
    core = study.recognise()
    if select is not None:
        core = study.keep_selected(select, core)
    learned = study.learn(core)
    return study.report(learned, study.compose(learned, core, existing))


class _Study:
    """One run: the columns that say what became of each row, filled step by step."""

    def __init__(
        self, conversations: Conversations, inventory: Inventory, keys: LabelKeys, level: Level, tight: int, least: int
    ) -> None:
        self.c, self.inventory, self.keys = conversations, inventory, keys
        self.level, self.tight, self.least = level, tight, least
        self.parties = identify(conversations, inventory)
        self.scopes = Scopes.of(self.parties, keys)
        self.space = LabelSpace(self.parties.labels, self.parties.members > 0)
        self.fate = np.full(len(conversations), LEARNED, np.uint8)
        self.reason = np.zeros(len(conversations), np.uint8)

    # ---- which rows to learn from ------------------------------------------------------------------------------

    def sort_rows(self, existing: tuple[Policy, ...]) -> None:
        """Everything that is not learned from gets its fate, but for what is not selected and what is too rare."""
        aside = noise.set_aside(self.c, self.parties)
        self._put(aside > 0, ASIDE, aside)
        if existing:
            self._judge_existing(existing)
        unowned = owners_of(self.c, self.parties, self.scopes) < 0
        self._put(unowned, UNCOVERED, GAPS.index("unlabelled"))

    def _put(self, mask: NDArray[np.bool_], fate: int, reason: NDArray[np.uint8] | int = 0) -> None:
        rows = mask & (self.fate == LEARNED)
        self.fate[rows] = fate
        self.reason[rows] = reason[rows] if isinstance(reason, np.ndarray) else reason

    def _judge_existing(self, existing: tuple[Policy, ...]) -> None:
        """What policies in force say already: forbidden, allowed, or allowed but for a condition somebody wrote."""
        judgement = self._judge(existing)
        self._put(judgement.reason == REASONS.index("forbid"), UNCOVERED, GAPS.index("forbidden"))
        self._put(judgement.verdict == VERDICTS.index("allowed"), ALREADY)
        unconditional = tuple(_without_conditions(policy) for policy in existing)
        if unconditional != existing:
            passes = self._judge(unconditional).verdict == VERDICTS.index("allowed")
            self._put(passes, UNCOVERED, GAPS.index("conditional"))

    def _judge(self, policies: tuple[Policy, ...]) -> Judgement:
        at = datetime.fromtimestamp(int(self.c.last.max(initial=0)), UTC)
        return Engine.compile(World(self.inventory, policies, at=at)).judge(self.c, as_mode=_ENFORCE)

    def recognise(self) -> tuple[CoreService, ...]:
        """Core services are told from everybody's traffic, selected or not: their shape is the whole estate's."""
        rows = np.flatnonzero(self.fate == LEARNED)
        return core_services.recognise(self.c, self.parties, self.keys, rows, self.tight)

    def keep_selected(self, select: Selector, core: tuple[CoreService, ...]) -> tuple[CoreService, ...]:
        """Rows of the selected workloads; what goes to others needs their owner's consent, not ours."""
        of_party = np.array([select.matches(labels) for labels in self.parties.labels], dtype=bool)
        chosen = of_party[self.parties.of_endpoint]
        source, destination = chosen[self.c.source], chosen[self.c.destination]
        out = ~source & ~destination
        self.fate[out], self.reason[out] = NOT_SELECTED, 0
        is_core = np.zeros(len(self.c), dtype=bool)
        for service in core:
            is_core[service.rows] = True
        others = self.scopes.of_party[self.parties.of_endpoint[self.c.destination]] >= 0
        self._put(source & ~destination & others & ~is_core, UNCOVERED, GAPS.index("needs-consent"))
        kept = (replace(service, rows=service.rows[~out[service.rows]]) for service in core)
        return tuple(service for service in kept if len(service.rows))

    # ---- rules -------------------------------------------------------------------------------------------------

    def learn(self, core: Sequence[CoreService]) -> Learned:
        """The pairs of all rows that still want a rule."""
        wanted = self.fate == LEARNED
        for service in core:
            wanted[service.rows] = False
        rows = np.flatnonzero(wanted)
        return learn(self.c, self.parties, self.scopes, rows, level=self.level, least=self.least)

    def compose(self, learned: Learned, core: Sequence[CoreService], existing: Sequence[Policy]) -> tuple[Part, ...]:
        """The policy of core services, then those of applications from the cover."""
        drafts = merge(self._blocks(learned), self.scopes.pairs, learned.services)
        ends = BareEnds(self.c, self.parties, learned, self.inventory, self.tight)
        composed = compose(drafts, self.keys, ends.peers, existing)
        parts = [Part(c.policy, c.rules, drafts=c.drafts) for c in composed]
        if not existing:
            parts = self._promise(parts)
        if core:
            parts.insert(0, Part(*compose_infrastructure(core, existing), core=tuple(core)))
        return tuple(parts)

    def _promise(self, parts: list[Part]) -> list[Part]:
        """Give every policy its tests. Policies of complete scopes never meet; the others may meet any."""
        complete = {self.scopes.pairs[i] for i in np.flatnonzero(self.scopes.is_complete)}
        loose = [part for part in parts if part.drafts[0].owner not in complete]
        outside = [w for w in self.inventory.workloads if not w.is_controlled]
        uncontrolled = list({tuple(x.items()): x for x in map(self.inventory.labels_of, outside)}.values())
        out: list[Part] = []
        for part in parts:
            rules = (rule for other in (parts if part in loose else loose) for rule in other.rules)
            tests = promises(part.policy, opened_by(rules), uncontrolled)
            out.append(replace(part, policy=msgspec.structs.replace(part.policy, tests=tests)))
        return out

    def _blocks(self, learned: Learned) -> list[Block]:
        extras = extra_keys(self.space, self.keys)
        price = of_tightness(self.tight, role=self.keys.role, scope=self.keys.scope)
        fenced, rest = self._fences(learned) if self.level == "ringfence" else ([], np.arange(len(learned.pairs)))
        blocks = cover(
            self.space, learned.pairs.where(rest), shapes(self.space, self.keys, extras), price, extra=frozenset(extras)
        )
        return fenced + [block._replace(pairs=rest[block.pairs]) for block in blocks]

    def _fences(self, learned: Learned) -> tuple[list[Block], Ids]:
        """One block a scope for all that stays inside it, and the pairs that do not."""
        any_service = len(learned.services) - 1
        inside = learned.pairs.service == any_service
        fences: list[Block] = []
        for unit in np.unique(learned.pairs.unit[inside & learned.pairs.is_required]).tolist():
            pairs = np.flatnonzero(inside & (learned.pairs.unit == unit))
            scope = self.scopes.pairs[unit]
            size = int((self.space.picks(scope) & self.space.exists).sum())
            seen = int(learned.pairs.is_required[pairs].sum())
            fences.append(Block(scope, scope, any_service, unit, pairs, max(size * size, seen), seen))
        return fences, np.flatnonzero(~inside)

    # ---- the account -------------------------------------------------------------------------------------------

    def report(self, learned: Learned, parts: Sequence[Part]) -> Recommendation:
        """Credit every row to its rule; what no rule stands for was too rare."""
        rule, policy_of_rule = credit(len(self.c), learned, parts)
        rare = (self.fate == LEARNED) & (rule < 0)
        self._put(rare, ASIDE, _SINGLE_SHOT)
        total = int(self.c.connections[self.fate == LEARNED].sum())
        told = tuple(reaches(parts, self.space, self.parties.members))
        evidence = collect(self.c, parties_seen(self.parties, self.c), rule, told, total)
        policies = _policies(parts, evidence, self._heading())
        owner = owners_of(self.c, self.parties, self.scopes)
        everything, by_policy = confide(
            self.c, self.parties, self.scopes, owner, rule, policy_of_rule, parts,
            ruled=rare | (self.fate == ALREADY), uncovered=self.fate == UNCOVERED,
        )  # fmt: skip
        narrow = [e for e in evidence if e.permitted is not None and not e.is_general]
        return Recommendation(
            policies=policies, evidence=evidence,
            set_aside=leftovers(self.c, self.reason, self.fate == ASIDE, _TOLD_ASIDE),
            uncovered=leftovers(self.c, self.reason, self.fate == UNCOVERED, _TOLD_GAPS),
            coverage=self._coverage(),
            permission=Permission(sum(e.permitted or 0 for e in narrow), sum(e.seen for e in narrow)),
            confidence=everything, by_policy=by_policy,
            findings=review(self.parties, self.keys, self._took_part(), policies),
            fate=self.fate, reason=self.reason, rule=rule,
        )  # fmt: skip

    def _coverage(self) -> Coverage:
        by_fate = np.bincount(self.fate, self.c.connections, len(FATES)).astype(np.int64)
        return Coverage(int(by_fate.sum()), *(int(n) for n in by_fate))

    def _heading(self) -> str:
        """The comment at the top of every new policy."""
        days = (moment(self.c.first.min()), moment(self.c.last.max())) if len(self.c) else ()
        span = " to ".join(day.date().isoformat() for day in days)
        return f"recommended from {len(self.c):,} conversations of {span}: level {self.level}, tight {self.tight}"

    def _took_part(self) -> NDArray[np.bool_]:
        """Per endpoint: it is an end of some selected row."""
        rows = self.fate != NOT_SELECTED
        out = np.zeros(len(self.c.endpoints), dtype=bool)
        out[self.c.source[rows]] = True
        out[self.c.destination[rows]] = True
        return out


def _policies(parts: Sequence[Part], evidence: Sequence[Evidence], heading: str) -> tuple[Policy, ...]:
    out: list[Policy] = []
    at = 0
    for part in parts:
        out.append(commented(part, evidence[at : at + len(part.rules)], heading))
        at += len(part.rules)
    return tuple(out)


_TOLD_ASIDE = {i: (name, noise.WHY[name], noise.HELP[name]) for i, name in enumerate(noise.ASIDE) if name}
_TOLD_GAPS = {i: (name, *GAP_MEANING[name]) for i, name in enumerate(GAPS) if name}


def _without_conditions(policy: Policy) -> Policy:
    rules = tuple(msgspec.structs.replace(rule, conditions=Conditions()) for rule in policy.rules)
    return msgspec.structs.replace(policy, rules=rules)
