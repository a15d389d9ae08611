"""Questions about connections, put to a controller, and its answers: what is in force, or would be under a draft."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from ringfence.core.engine.questions import Answer, Near, Question
from ringfence.core.identity.workload import ModeName
from ringfence.wire.api import Draft, Text

MOST = 10_000
"""Questions at once."""


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Explain(Question, frozen=True, forbid_unknown_fields=True):
    """One connection."""

    as_mode: ModeName | None = None
    """Judge as if every end were in it."""
    draft: Draft | None = None
    """Judge under these policies in place of those in force."""


class Case(msgspec.Struct, frozen=True):
    """The connection that an answer is about: the worst of those that the question stands for."""

    source: str
    destination: str
    service: str


class Explained(msgspec.Struct, frozen=True):
    """An answer, and what would have let it pass."""

    answer: Answer
    nearest: Near | None = None
    others: dict[str, int] = {}
    """Of the connections the question stands for, how many had each verdict."""
    case: Case | None = None
    unheld: tuple[str, ...] = ()
    """In a fleet: workloads among the ends that have no agent. What they say, nobody enforces."""
    late: dict[str, str] = {}
    """In a fleet: workloads among the ends that do not have what they were told, as far as is known; their state."""


class Decide(_Asked, frozen=True):
    """Many connections, all of one moment."""

    questions: Annotated[tuple[Question, ...], msgspec.Meta(max_length=MOST)]
    at: datetime | None = None
    as_mode: ModeName | None = None
    draft: Draft | None = None


class Fault(msgspec.Struct, frozen=True):
    """Why a question has no answer."""

    error: str
    """A code."""
    message: str
    help: str = ""


class Decided(msgspec.Struct, frozen=True):
    """What became of one question: an answer, or why there is none."""

    answer: Answer | None = None
    fault: Fault | None = None
    unheld: tuple[str, ...] = ()
    """In a fleet: workloads among the ends that have no agent. What they say, nobody enforces."""
    late: dict[str, str] = {}
    """In a fleet: workloads among the ends that do not have what they were told, as far as is known; their state."""


class AskReach(_Asked, frozen=True):
    """Who can reach somebody, or whom they can reach, as if everything were enforced."""

    of: Text
    """A selector, segment, workload, address or `internet`."""
    way: Literal["to", "from"] = "to"
    hops: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    service: Text = ""
    """Only on this one."""
    at: datetime | None = None
    draft: Draft | None = None
