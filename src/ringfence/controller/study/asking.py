"""Questions about connections, answered against a world: the same engine, words and codes for estates on disk and for
a controller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec
import numpy as np

from ringfence.controller.study.grounds import Ground
from ringfence.core.engine import Engine, ask
from ringfence.core.engine.ends import endpoints, segments, selector_text
from ringfence.core.engine.prove import present
from ringfence.core.engine.questions import Question, Texts, answer_of, class_of_end, near, worst
from ringfence.core.engine.reach import Reach, Reachability
from ringfence.core.errors import RingfenceError
from ringfence.core.identity.workload import Mode, ModeName, Workload
from ringfence.core.insight.leftovers import end_text
from ringfence.core.net.service import ANY, format_point
from ringfence.core.policy.model import Workloads
from ringfence.core.policy.parse import parse_policies
from ringfence.core.world import World
from ringfence.wire.api import Draft, HostState
from ringfence.wire.questions import AskReach, Case, Decided, Explained, Fault

_FEW = 8
E = TypeVar("E", Explained, Decided)


def supposing(
    world: World, draft: Draft | None = None, *, at: datetime | None = None, as_mode: ModeName | None = None
) -> World:
    """The same world at a time, in a mode, under the policies of a draft. Raises FindingsError: it cannot be read."""
    policies = world.policies
    if draft is not None:
        policies = parse_policies(draft.files, ignore=world.inventory.ignore).raise_if_errors()
    mode = world.as_mode if as_mode is None else Mode.both(as_mode)
    return msgspec.structs.replace(world, policies=policies, at=at or world.at, as_mode=mode)


def explain(world: World, question: Question) -> Explained:
    """The verdict of the worst case. Slow: for a thread. Raises InputError `unknown-endpoint`, `too-broad`."""
    engine = Engine.compile(supposing(world, at=question.at))
    flow, verdict, others = worst(engine, question)
    missed = near(engine, flow) if verdict.verdict != "allowed" and verdict.reason in ("default", "deny") else None
    answer = answer_of(question.source, question.destination, question.service, verdict)
    case = Case(end_text(flow.source), end_text(flow.destination), format_point(flow.point))
    return Explained(answer, missed, others, case)


def decide(world: World, questions: Iterable[Question]) -> list[Decided]:
    """What becomes of each, in order; all of one moment. Slow: for a thread."""
    engine = Engine.compile(world)
    texts = Texts(engine)
    return [decided(engine, question, texts) for question in questions]


def decide_now(ground: Ground, questions: Iterable[Question], as_mode: ModeName | None = None) -> list[Decided]:
    """The same of what is in force, whose index is there already. Slow: for a thread."""
    with ground.lock:
        return _decided(ground, questions, as_mode)


def decide_at_once(
    ground: Ground, questions: Sequence[Question], as_mode: ModeName | None = None
) -> list[Decided] | None:
    """The same in less time than a thread would take to begin: None where it might take longer, or wait."""
    if not _is_quick(ground, questions) or not ground.lock.acquire(blocking=False):
        return None
    try:
        return _decided(ground, questions, as_mode)
    finally:
        ground.lock.release()


def _decided(ground: Ground, questions: Iterable[Question], as_mode: ModeName | None) -> list[Decided]:
    engine = ground.engine if as_mode is None else ground.engine.under(Mode.both(as_mode))
    texts = Texts(engine, ground.points)
    return [decided(engine, question, texts) for question in questions]


def _is_quick(ground: Ground, questions: Sequence[Question]) -> bool:
    """A few connections between workloads, on services that were asked about before."""
    inventory = ground.world.inventory
    names = {name for one in questions[:_FEW] for name in (one.source, one.destination)}
    is_plain = all(one.at is None and one.service in ground.points for one in questions[:_FEW])
    return len(questions) <= _FEW and is_plain and all(inventory.find(name) is not None for name in names)


def decided(engine: Engine, question: Question, texts: Texts | None = None) -> Decided:
    """An answer, or the error that somebody can act on."""
    try:
        _, verdict, _ = worst(engine, question, texts)
    except RingfenceError as error:
        return Decided(fault=Fault(error.code, error.message, error.help))
    return Decided(answer_of(question.source, question.destination, question.service, verdict))


def in_fleet(told: E, world: World, state_of: Callable[[Workload], HostState]) -> E:
    """The same, with the ends that no agent holds, and those whose agent does not hold what it was told."""
    if told.answer is None:
        return told
    inventory = world.inventory
    ends = {end.workload: inventory.find(end.workload) for end in told.answer.ends}
    loose = tuple(sorted(name for name, one in ends.items() if one is None or not inventory.has_agent(one)))
    held = {name: inventory.find(one.host or "") or one for name, one in ends.items() if one and name not in loose}
    late = {name: state for name, host in held.items() if (state := state_of(host)) != "realised"}
    return msgspec.structs.replace(told, unheld=loose, late=late) if loose or late else told


def reach(world: World, asked: AskReach) -> Reach:
    """Who can reach somebody, or what they can reach, as if everything were enforced. Slow: for a thread.

    Raises InputError `unknown-endpoint`, `bad-service`.
    """
    world = supposing(world, at=asked.at, as_mode="enforce")
    engine = Engine.compile(world)
    wanted = ask.services(engine, asked.service) if asked.service else ANY
    engine = Engine(world, services=(wanted,))
    start = np.unique([class_of_end(engine, end) for end in endpoints(engine, asked.of, takes_names=False)])
    if picked := _as_workloads(engine, asked.of):
        start = np.union1d(start, present(engine, (picked,)))
    return Reachability(engine, wanted).of(start, asked.way, hops=asked.hops)


def _as_workloads(engine: Engine, text: str) -> Workloads | None:
    """The selector or segment, unless a workload bears its name."""
    if engine.world.inventory.find(text) is not None:
        return None
    segment = segments(engine).get(text)
    wanted = selector_text(segment) if segment is not None else text
    return Workloads((ask.selector_of_text(wanted),), text) if any(sign in wanted for sign in "=!,( ") else None
