"""Policy files while they are written: what the language, lint and the tests say of them, and the words there are.

    texts -> findings of the language -> warnings of the inventory -> lint -> tests

INVARIANT: the same findings as `policy check`, `lint` and `test` give, and the same proofs as a publish asks for.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import reduce
from operator import and_

import msgspec

from ringfence.controller.publishing.versions import failing
from ringfence.controller.study.grounds import Grounds, Kept, Texts, overlaid
from ringfence.controller.thinking import think
from ringfence.core.engine import Engine, lint
from ringfence.core.engine.ends import segments
from ringfence.core.engine.prove import Proof, prove
from ringfence.core.engine.questions import near, witness_answer
from ringfence.core.errors import Finding, FindingsError, Location, errors_among
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode
from ringfence.core.net.service import WELL_KNOWN
from ringfence.core.policy.check import check
from ringfence.core.policy.model import WORDS, Policy
from ringfence.core.policy.parse import Parsed, parse_policies
from ringfence.core.world import World
from ringfence.wire.study import Check, Checked, LabelWord, PolicyWord, SegmentWord, ServiceWord, TestView, Words

MOST_FINDINGS = 500
MOST_VALUES = 500


class Drafting:
    """Answers for an editor."""

    def __init__(self, grounds: Grounds, texts: Callable[[], Awaitable[Texts]]) -> None:
        self._grounds, self._texts = grounds, texts
        self._checked: Kept[Checked] = Kept(16)
        self._words: Kept[Words] = Kept(1)

    async def check(self, asked: Check) -> Checked:
        """What there is to say. Raises InputError `unknown-file`, `not-a-policy`."""
        texts = await self._texts()
        return await think(self._check, asked, texts)

    async def words(self) -> Words:
        """What may be written."""
        return await think(self._vocabulary)

    def _vocabulary(self) -> Words:
        ground = self._grounds.now()
        return self._words.get(ground.number, lambda: words_of(ground.engine))

    def _check(self, asked: Check, texts: Texts) -> Checked:
        now = self._grounds.now()
        files, settings = overlaid(asked, texts)
        said = msgspec.json.encode([files, settings, asked.lint, asked.tests, sorted(asked.files)])
        key = (now.number, hashlib.sha256(said).digest())

        def work() -> Checked:
            try:
                world = self._grounds.world_with(now, asked)
            except FindingsError as error:
                return _checked(asked, Parsed((), error.findings), (), ())
            parsed = parse_policies(files, ignore=world.inventory.ignore)
            return _judge(asked, parsed, msgspec.structs.replace(world, policies=parsed.policies))

        return self._checked.get(key, work)


def _judge(asked: Check, parsed: Parsed, world: World) -> Checked:
    """What the inventory and the engine say of what could be read."""
    if errors_among(parsed.findings) or not parsed.policies:
        return _checked(asked, parsed, (), ())
    findings = check(parsed.policies, world.inventory, world.at, names=world.names)
    proofs = _proven(world) if asked.tests else ()
    findings += tuple(failing((proof for _, proof in proofs), "error"))
    if asked.lint:
        engine = Engine.compile(world)
        findings += (*lint.lint(engine), *lint.cardinality(engine))
    return _checked(asked, parsed, findings, tuple(_test(engine, proof) for engine, proof in proofs))


def _checked(asked: Check, parsed: Parsed, findings: Iterable[Finding], tests: tuple[TestView, ...]) -> Checked:
    every = dict.fromkeys((*parsed.findings, *_silent(asked, parsed), *findings))
    ordered = sorted(every, key=lambda f: (f.where.file not in asked.files, f.sort_key))
    is_sound = not errors_among(every) and all(test.outcome in ("proven", "warning") for test in tests)
    rules = sum(len(policy.rules) for policy in parsed.policies)
    left = max(0, len(ordered) - MOST_FINDINGS)
    return Checked(is_sound, tuple(ordered[:MOST_FINDINGS]), tests, len(parsed.policies), rules, left)


def _silent(asked: Check, parsed: Parsed) -> Iterator[Finding]:
    """Files under the pen that say nothing: not what anybody means who has them open."""
    said = {policy.where.file for policy in parsed.policies} | {finding.where.file for finding in parsed.findings}
    for file in asked.files:
        text = asked.files[file]
        if file not in said and not any(
            line.strip() and not line.strip().startswith("#") for line in text.splitlines()
        ):
            message, help_ = "the file says nothing", "begin with `policy: its-name`, or remove the file"
            yield Finding("empty-file", message, "warning", Location(file, 1, 1), help=help_)


def _proven(world: World) -> tuple[tuple[Engine, Proof], ...]:
    """Every test, proven as a publish would."""
    engine = Engine.compile(msgspec.structs.replace(world, as_mode=Mode.both("enforce"), quarantines=()))
    return tuple((engine, proof) for proof in prove(engine))


def _test(engine: Engine, proof: Proof) -> TestView:
    shown = proof.counterexample
    is_near = shown is not None and proof.expect == "allowed" and shown.verdict.reason in ("default", "deny")
    return TestView(
        policy=proof.policy,
        name=proof.name,
        file=proof.where.file,
        line=proof.where.line,
        expect=proof.expect,
        outcome=proof.outcome,
        pairs=proof.pairs,
        violations=proof.violations,
        message=proof.message,
        counterexample=witness_answer(shown) if shown is not None else None,
        allowed_by=tuple(dict.fromkeys(rule.rule for rule in proof.allowed_by)),
        nearest=near(engine, shown.flow) if shown is not None and is_near else None,
    )


# ---- words ----------------------------------------------------------------------------------------------------------


def words_of(engine: Engine) -> Words:
    """What may be written in a policy of this world."""
    policies, inventory = engine.world.policies, engine.world.inventory
    own = (ServiceWord(f"{p.name}.{s.name}", s.text, p.name) for p in policies for s in p.services)
    known = (ServiceWord(name, text, "") for name, text in WELL_KNOWN.items())
    return Words(
        labels=tuple(_labels(inventory)),
        segments=tuple(_segments(engine)),
        services=(*own, *known),
        policies=tuple(map(_policy, policies)),
        peers=tuple(WORDS),
    )


def _labels(inventory: Inventory) -> Iterator[LabelWord]:
    counts: dict[str, Counter[str]] = {}
    for workload in inventory.workloads:
        for key, value in inventory.labels_of(workload).items():
            counts.setdefault(key, Counter())[value] += 1
    for key, values in sorted(counts.items()):
        ranked = sorted(values.items(), key=lambda item: (-item[1], item[0]))
        more = max(0, len(ranked) - MOST_VALUES)
        yield LabelWord(key, values.total(), dict(ranked[:MOST_VALUES]), more, key in inventory.ignore)


def _segments(engine: Engine) -> Iterator[SegmentWord]:
    inventory = engine.world.inventory
    labels = [inventory.labels_of(workload) for workload in inventory.workloads]
    jewels = {f"{p.name}.{s.name}" for p in engine.world.policies for s in p.segments if s.is_crown_jewel}
    for name, peer in segments(engine).items():
        policy, dot, _ = name.partition(".")
        if dot:
            size = sum(all(selector.matches(each) for selector in peer.selectors) for each in labels)
            yield SegmentWord(name, policy, str(reduce(and_, peer.selectors)), size, name in jewels)


def _policy(policy: Policy) -> PolicyWord:
    scope = str(policy.scope) if policy.scope is not None else ""
    return PolicyWord(policy.name, policy.where.file, policy.owner, scope, len(policy.rules), len(policy.tests))
