"""Questions about connections, answered against what is in force: the same engine, the same answers, as offline."""

from __future__ import annotations

import msgspec

from ringfence.core.engine import Engine
from ringfence.core.engine.questions import Answer, Near, Question, answer_of, near, worst
from ringfence.core.world import World


class Explained(msgspec.Struct, frozen=True):
    """An answer, and what would have let it pass."""

    answer: Answer
    nearest: Near | None = None
    others: dict[str, int] = {}
    """Of the connections the question stands for, how many had each verdict."""


def explain(world: World, question: Question) -> Explained:
    """The verdict of the worst case. Slow: for a thread. Raises InputError `unknown-endpoint`, `too-broad`."""
    at = question.at or world.at
    engine = Engine.compile(msgspec.structs.replace(world, at=at))
    flow, verdict, others = worst(engine, question)
    is_near = verdict.verdict != "allowed" and verdict.reason in ("default", "deny")
    answer = answer_of(question.source, question.destination, question.service, verdict)
    return Explained(answer, near(engine, flow) if is_near else None, others)


def decide(world: World, questions: tuple[Question, ...]) -> tuple[Answer, ...]:
    """One answer each, in order; all of one moment. Slow: for a thread. Raises as `explain`."""
    engine = Engine.compile(world)
    return tuple(answer_of(q.source, q.destination, q.service, worst(engine, q)[1]) for q in questions)
