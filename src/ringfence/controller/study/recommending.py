"""A policy for what was seen, with its evidence; and stored traffic rehearsed under policies nobody enforces yet.

Both are `core.insight`'s answers about the estate in force; here they are asked, and put into files.

INVARIANT: files with some of the rules carry no test that those rules do not fulfil.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.controller.desired.estate import settings_in
from ringfence.controller.publishing.relabelling import broken_tests
from ringfence.controller.study.edges import proposals_of, rules_of
from ringfence.controller.study.grounds import Ground, Grounds, Kept, Texts, overlaid
from ringfence.controller.study.queries import picked_ends
from ringfence.controller.thinking import think
from ringfence.core.engine import Engine
from ringfence.core.engine.ask import selector_of_text
from ringfence.core.engine.ends import refuse_nobody
from ringfence.core.engine.prove import prove_one
from ringfence.core.errors import Finding, InputError
from ringfence.core.flow.conversations import Conversations
from ringfence.core.flow.series import HOUR_S
from ringfence.core.identity.workload import Mode
from ringfence.core.insight.evidence import moment
from ringfence.core.insight.fold import Fold, dense
from ringfence.core.insight.leftovers import end_text
from ringfence.core.insight.parties import LabelKeys
from ringfence.core.insight.recommend import recommend
from ringfence.core.insight.recommendation import Recommendation
from ringfence.core.insight.simulate import simulate
from ringfence.core.policy.model import Policy, Rule
from ringfence.core.world import VERDICTS, World
from ringfence.wire.explore import Pen
from ringfence.wire.study import AskRecommend, AskSimulate, Recommended, RuleEvidence, Simulated, Stage, Timeline

PAIRS = 5
MOST_LISTED = 1000
_BLOCKED = VERDICTS.index("blocked")
_ENFORCE = Mode.both("enforce")


class Recommending:
    """Policies from traffic."""

    def __init__(
        self,
        grounds: Grounds,
        texts: Callable[[], Awaitable[Texts]],
        version: Callable[[int], Awaitable[Texts]],
    ) -> None:
        """`texts`: the version that hosts have; `version`: any, by number."""
        self._grounds, self._texts, self._version = grounds, texts, version
        self._found: Kept[Recommendation] = Kept(4)
        self._simulated: Kept[Simulated] = Kept(8)

    # ---- recommend --------------------------------------------------------------------------------------------------

    async def recommend(self, asked: AskRecommend) -> Recommended:
        """Raises InputError `bad-selector`, `unmatched`, `bad-time`, `unknown-rule`, FindingsError (the draft)."""
        texts = await self._texts()
        return await think(self._recommend, asked, texts)

    def _recommend(self, asked: AskRecommend, texts: Texts) -> Recommended:
        now = self._grounds.now()
        ground = self._grounds.drafted(now, asked.draft, texts) if asked.draft is not None else now
        files, settings = overlaid(asked.draft or Pen(), texts)
        rows = self._grounds.rows(now, *_span(asked), by_hour=True)
        plain = msgspec.structs.replace(asked, accept=None)
        key = (msgspec.json.encode(plain), ground.number, self._grounds.flows.revision)
        found = self._found.get(key, lambda: _recommended(asked, ground, rows, keys_of(settings, ground)))
        return _told(asked, found, ground, rows, files, texts.number)

    # ---- simulate ---------------------------------------------------------------------------------------------------

    async def simulate(self, asked: AskSimulate) -> Simulated:
        """Raises InputError `contradictory-draft`, `unknown-version`, `bad-time`, `bad-selector`, `unknown-endpoint`,
        FindingsError (the draft)."""
        if asked.draft is not None and asked.version is not None:
            help_ = "send one of them"
            raise InputError("contradictory-draft", "both a draft and a version are to be simulated", help=help_)
        texts = await self._texts()
        pen = asked.draft
        if asked.version is not None and asked.version != texts.number:
            version = await self._version(asked.version)
            pen = Pen(version.files, alone=True, settings=version.settings)
        return await think(self._simulate, asked, pen, texts)

    def _simulate(self, asked: AskSimulate, pen: Pen | None, texts: Texts) -> Simulated:
        now = self._grounds.now()
        ground = self._grounds.drafted(now, pen, texts) if pen is not None else now
        _, settings = overlaid(pen or Pen(), texts)
        rows = self._grounds.rows(now, *_span(asked), by_hour=True)
        key = (msgspec.json.encode(asked), ground.number, now.number, self._grounds.flows.revision)

        def work() -> Simulated:
            picked = _picked(asked.where, rows, now.engine)
            before = self._grounds.judged(now, rows).verdict[picked]
            some = rows.where(picked) if asked.where else rows
            mode = Mode.both(asked.as_mode) if asked.as_mode is not None else None
            with ground.lock:
                found = simulate(ground.engine, some, as_mode=mode, keys=keys_of(settings, ground))
            series = _timeline(some, before, found.judgement.verdict, asked.bucket_h * HOUR_S)
            left = sum(max(0, len(some) - MOST_LISTED) for some in (found.rules, found.unused, found.applications))
            return Simulated(
                is_clean=found.is_clean, totals=found.totals, series=series, breaks=found.breaks,
                more_breaks=found.more_breaks, noise=found.noise, opens=found.opens, closes=found.closes,
                rules=found.rules[:MOST_LISTED], unused=found.unused[:MOST_LISTED], talkers=found.talkers,
                applications=found.applications[:MOST_LISTED], truncated=left,
            )  # fmt: skip

        return self._simulated.get(key, work)


def _span(asked: AskRecommend | AskSimulate) -> tuple[int | None, int | None]:
    since, until = (None if time is None else int(time.timestamp()) for time in (asked.since, asked.until))
    return since, until


def keys_of(settings: str, ground: Ground) -> LabelKeys:
    """The label keys that settings name, else the conventional ones that some workload carries."""
    found, said = LabelKeys.found_in(ground.world.inventory), settings_in(settings).labels
    return LabelKeys(
        said.application or found.application, said.environment or found.environment, said.role or found.role
    )


def _picked(where: str, rows: Conversations, engine: Engine) -> NDArray[np.bool_]:
    """Rows with one of these ends; all of them where nobody is named."""
    if not where:
        return np.ones(len(rows), np.bool_)
    ends = picked_ends(where, rows.endpoints, engine)
    return ends[rows.source] | ends[rows.destination]


def _timeline(rows: Conversations, before: NDArray[np.uint8], after: NDArray[np.uint8], bucket_s: int) -> Timeline:
    """What passes now beside what would pass. `before`, `after`: verdicts of the rows."""
    fold = Fold((rows.hour // bucket_s).astype(np.int64))
    was, is_ = (verdict == _BLOCKED for verdict in (before, after))
    masks = (~was & ~is_, ~was & is_, was & ~is_, was & is_)
    columns = (tuple(fold.sum(np.where(mask, rows.connections, 0)).tolist()) for mask in masks)
    return Timeline(tuple(moment(number * bucket_s) for number in fold.keys.tolist()), *columns)


# ---- recommended ----------------------------------------------------------------------------------------------------


def _recommended(asked: AskRecommend, ground: Ground, rows: Conversations, keys: LabelKeys) -> Recommendation:
    inventory = ground.world.inventory
    selector = selector_of_text(asked.where) if asked.where else None
    if selector is not None:
        refuse_nobody(inventory, selector, asked.where)
    existing = ground.world.policies
    return recommend(
        rows, inventory, select=selector, level=asked.level, tight=asked.tight, existing=existing, keys=keys,
        least=asked.least,
    )  # fmt: skip


def _told(
    asked: AskRecommend, found: Recommendation, ground: Ground, rows: Conversations, files: dict[str, str], base: int
) -> Recommended:
    existing = ground.world.policies
    accepted = _accepted(asked, found)
    policies = found.policies if asked.accept is None else tuple(_some(found.policies, existing, accepted, ground))
    coverage = found.coverage
    wanted = coverage.learned + coverage.already_allowed + coverage.uncovered
    return Recommended(
        files=tuple(proposals_of(policies, existing, files, base)),
        rules=tuple(_rules(found, rows, accepted)),
        set_aside=found.set_aside,
        uncovered=found.uncovered,
        coverage=coverage,
        share=coverage.share,
        curve=tuple(_curve(found, wanted)),
        share_before=coverage.already_allowed / wanted if wanted else 1.0,
        precision=found.permission.precision,
        confidence=found.confidence,
        by_policy=found.by_policy,
        scopes={policy.name: str(policy.scope) for policy in found.policies if policy.scope is not None},
        findings=found.findings,
        broken=_broken(ground.world, policies),
    )


def _broken(world: World, policies: tuple[Policy, ...]) -> tuple[Finding, ...]:
    """Tests that hold now and would not."""
    becoming = {policy.name: policy for policy in policies}
    known = tuple(becoming.pop(policy.name, policy) for policy in world.policies)
    new = tuple(msgspec.structs.replace(policy, tests=()) for policy in becoming.values())
    return broken_tests(world, msgspec.structs.replace(world, policies=(*known, *new)))[1]


def _accepted(asked: AskRecommend, found: Recommendation) -> frozenset[str]:
    """Raises InputError `unknown-rule`."""
    every = frozenset(evidence.rule for evidence in found.evidence)
    if asked.accept is None:
        return every
    unknown = sorted(set(asked.accept) - every)
    if unknown:
        help_ = "accept rules of this answer; with other settings others are recommended"
        raise InputError("unknown-rule", f"`{unknown[0]}` is not recommended", help=help_)
    return frozenset(asked.accept)


def _some(
    policies: tuple[Policy, ...], existing: tuple[Policy, ...], accepted: frozenset[str], ground: Ground
) -> Iterator[Policy]:
    """Policies with the rules that were there and those accepted; without the tests that these do not fulfil."""
    old = {policy.name: {rule.name for rule in policy.rules} for policy in existing}
    kept = []
    for policy in policies:
        known = old.get(policy.name, set())
        rules = tuple(rule for rule in policy.rules if rule.name in known or policy.ref(rule) in accepted)
        if len(rules) > len(known):
            kept.append(msgspec.structs.replace(policy, rules=rules))
    names = {policy.name for policy in kept}
    every = (*(policy for policy in existing if policy.name not in names), *kept)
    world = World(ground.world.inventory, every, at=ground.world.at, as_mode=_ENFORCE)
    engine = Engine.compile(world)
    for policy in kept:
        yield policy if policy.name in old else _fitting(engine, policy)


def _fitting(engine: Engine, policy: Policy) -> Policy:
    """A new policy with the tests that hold and the segments that are used."""
    tests = tuple(t for t in policy.tests if prove_one(engine, policy, t).outcome in ("proven", "warning"))
    ends = [(one.sources, one.destinations) for one in policy.rules] + [(t.sources, t.destinations) for t in tests]
    used = {peer.text for sources, destinations in ends for peer in (*sources, *destinations)}
    segments = tuple(segment for segment in policy.segments if segment.name in used)
    return msgspec.structs.replace(policy, tests=tests, segments=segments)


def _rules(found: Recommendation, rows: Conversations, accepted: frozenset[str]) -> Iterator[RuleEvidence]:
    by_ref: dict[str, tuple[Policy, Rule]] = {p.ref(rule): (p, rule) for p in found.policies for rule in p.rules}
    pairs = _pairs(rows, found.rule, len(found.evidence))
    for number, evidence in enumerate(found.evidence):
        policy, rule = by_ref[evidence.rule]
        text = rules_of(msgspec.structs.replace(policy, rules=(rule,)))
        is_accepted = evidence.rule in accepted
        yield RuleEvidence(evidence.rule, policy.name, text, evidence, evidence.utilisation, pairs[number], is_accepted)


def _pairs(rows: Conversations, rule: NDArray[np.int32], rules: int) -> list[tuple[str, ...]]:
    """Per rule its busiest pairs of ends."""
    some = rows.where(rule >= 0)
    fold = Fold(dense(rule[rule >= 0], some.source, some.destination))
    of_rule, source, destination = (fold.one(c) for c in (rule[rule >= 0], some.source, some.destination))
    out: list[list[str]] = [[] for _ in range(rules)]
    for i in np.lexsort((np.arange(len(fold)), -fold.sum(some.connections))).tolist():
        told = out[int(of_rule[i])]
        if len(told) < PAIRS:
            ends = (end_text(rows.endpoints[int(end[i])]) for end in (source, destination))
            told.append(" -> ".join(ends))
    return [tuple(told) for told in out]


def _curve(found: Recommendation, wanted: int) -> Iterator[Stage]:
    covered = found.coverage.already_allowed
    for evidence in sorted(found.evidence, key=lambda e: (-e.connections, e.rule)):
        covered += evidence.connections
        yield Stage(evidence.rule, evidence.connections, covered / wanted if wanted else 1.0)
