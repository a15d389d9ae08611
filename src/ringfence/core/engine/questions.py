"""Questions about single connections and their answers, in the one shape that every asker gets: the verdict of the
worst case, the rule with its line, both ends, and the allow that missed by least.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from ringfence.core.engine import ask
from ringfence.core.engine.ends import endpoints
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.nearest import nearest
from ringfence.core.engine.rules import is_within
from ringfence.core.engine.witness import Witness
from ringfence.core.errors import InputError
from ringfence.core.policy.model import Conditions
from ringfence.core.world import VERDICTS, Endpoint, EndVerdict, Flow, Verdict

_MAX_CASES = 4096
_MOST_SERVICES = 4096


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A connection to be judged: one line of `ringfence decide`."""

    source: str
    destination: str
    service: str
    at: datetime | None = None
    mutual_tls: bool = False
    from_process: str | None = None
    to_process: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """The contract of `--json` for explain, decide, and the counterexamples and examples of policy test and diff."""

    source: str
    destination: str
    service: str
    verdict: str
    reason: str
    rule: str | None
    file: str | None
    line: int | None
    ends: tuple[EndVerdict, ...]
    unless: tuple[str, ...] = ()


class Near(msgspec.Struct, frozen=True):
    """The allow that missed by least, as `explain` tells it."""

    rule: str
    file: str
    line: int
    missing: tuple[str, ...]
    """What the connection lacks: `from `api``, `on postgres`, `mutual-tls`; never what it has."""


class Texts:
    """What texts of questions stand for, each worked out once, for as long as the engine learns of no new classes."""

    def __init__(self, engine: Engine, points: dict[str, tuple[int, ...]] | None = None) -> None:
        """`points`: those of services, which stay as long as the engine does."""
        self._engine = engine
        self._ends: dict[str, tuple[Endpoint, ...]] = {}
        self._points = {} if points is None else points

    def ends(self, text: str) -> tuple[Endpoint, ...]:
        """Raises InputError as `endpoints`."""
        if (found := self._ends.get(text)) is None:
            found = self._ends[text] = endpoints(self._engine, text)
        return found

    def points(self, service: str) -> tuple[int, ...]:
        """Raises InputError as `ask.services`."""
        if (found := self._points.get(service)) is None:
            if len(self._points) >= _MOST_SERVICES:
                self._points.clear()
            found = self._points[service] = ask.points(self._engine, ask.services(self._engine, service))
        return found


def worst(engine: Engine, question: Question, texts: Texts | None = None) -> tuple[Flow, Verdict, dict[str, int]]:
    """The worst case of everything the question stands for, and how many cases had each verdict. `texts`: shared by
    many questions."""
    texts = texts or Texts(engine)
    sources, destinations = texts.ends(question.source), texts.ends(question.destination)
    points = texts.points(question.service)
    if len(sources) * len(destinations) * len(points) > _MAX_CASES:
        raise InputError(
            "too-broad",
            "this question stands for too many connections",
            help="`ringfence reach` and `policy test` answer those",
        )
    facts = (None, question.mutual_tls, question.from_process, question.to_process, question.at)
    flows = [Flow(s, d, p, *facts) for s in sources for d in destinations for p in points]
    verdicts = [engine.decide(flow) for flow in flows]
    index = max(range(len(flows)), key=lambda i: VERDICTS.index(verdicts[i].verdict))
    counts: dict[str, int] = {}
    for verdict in verdicts:
        counts[verdict.verdict] = counts.get(verdict.verdict, 0) + 1
    return flows[index], verdicts[index], counts if len(flows) > 1 else {}


def answer_of(source: str, destination: str, service: str, verdict: Verdict) -> Answer:
    """A verdict in the shape that every command tells it in."""
    where = verdict.where
    place = (where.file or None, where.line or None) if where is not None else (None, None)
    return Answer(
        source, destination, service, verdict.verdict, verdict.reason, verdict.rule, *place, verdict.ends,
        verdict.unless,
    )  # fmt: skip


def witness_answer(witness: Witness) -> Answer:
    """A witness in that shape."""
    return answer_of(witness.source, witness.destination, witness.service, witness.verdict)


def near(engine: Engine, flow: Flow) -> Near | None:
    """The allow that missed a connection by least, and what the connection lacks for it."""
    classes = [class_of_end(engine, end) for end in (flow.source, flow.destination)]
    found = nearest(engine, classes[0], classes[1], flow.point)
    if found is None:
        return None
    conditions = next(r.rule.conditions for r in engine.rules if r.ref == found.rule)
    held = _held(conditions, flow, flow.at or engine.world.at)
    missing = tuple(part for part in found.missing if part not in held)
    return Near(found.rule, found.where.file, found.where.line, missing)


def _held(conditions: Conditions, flow: Flow, at: datetime) -> set[str]:
    """The conditions of a rule that the connection meets, in the words `nearest` has for them."""
    held = {"mutual-tls"} if flow.mutual_tls else set()
    held |= {f"from process {flow.from_process}", f"to process {flow.to_process}"}
    if conditions.until is not None and at.date() <= conditions.until:
        held.add(f"until {conditions.until}")
    if conditions.within is not None and is_within(conditions.within, at):
        held.add(f"within {conditions.within.text}")
    return held


def class_of_end(engine: Engine, end: Endpoint) -> int:
    """The class of an end at the address it holds, or is."""
    workload, at = end.workload, engine.world.at
    if workload is None and end.address is not None:
        workload = next(iter(engine.world.inventory.holders(end.address, at, end.network)), None)
    address = end.address
    if workload is not None and address is None:
        address = next((lease.address for lease in workload.live_addresses(at)), None)
    return engine.class_of(workload, address)
