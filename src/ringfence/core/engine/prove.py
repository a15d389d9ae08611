"""Prove `tests:` over every class pair, not a sample; a failure comes with a counterexample.

Judged as if every controlled end were in `enforce`. `expect: allowed` means every pair, `expect: blocked` means
no pair; essential traffic is left out; a selector that picks nobody is `unmatched`, never a pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.core.engine import matrix
from ringfence.core.engine.bits import Ids, members, of_ids, to_ids
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.possible import counterexample
from ringfence.core.engine.rules import Facts
from ringfence.core.engine.witness import Witness, witness
from ringfence.core.errors import Location
from ringfence.core.identity.workload import utc
from ringfence.core.policy.model import Expectation, Peer, Policy

Outcome = Literal["proven", "failed", "unmatched", "warning"]
"""`warning`: true of everybody there is, but a label set nobody has yet would break it."""


class Proof(msgspec.Struct, frozen=True):
    """What became of one test."""

    policy: str
    name: str
    outcome: Outcome
    expect: Literal["allowed", "blocked"]
    pairs: int
    """Class pairs examined."""
    violations: int
    where: Location = Location()
    counterexample: Witness | None = None
    message: str = ""


def prove(engine: Engine) -> tuple[Proof, ...]:
    """Every test of every policy, in order."""
    return tuple(prove_one(engine, policy, test) for policy in engine.world.policies for test in policy.tests)


def prove_one(engine: Engine, policy: Policy, test: Expectation) -> Proof:
    """One expectation over every pair of present classes."""
    rows, columns = present(engine, test.sources), present(engine, test.destinations)
    name = test.name or f"{_say(test.sources)} -> {_say(test.destinations)} {' '.join(test.service_words)}"
    if not len(rows) or not len(columns):
        empty = _say(test.destinations if len(rows) else test.sources)
        message = f"`{empty}` picks nobody, so this test proves nothing"
        return Proof(policy.name, name, "unmatched", test.expect, 0, 0, test.where, message=message)
    facts = facts_of(engine, test)
    wanted = engine.mask_of(test.services) & ~engine.essential
    if not wanted:
        message = "only asks about essential traffic, which always passes"
        return Proof(policy.name, name, "unmatched", test.expect, 0, 0, test.where, message=message)
    canvas = canvas_of(engine, rows, columns, facts)
    numbers = matrix.passed(canvas)
    wrong = _wrong(canvas.interner, wanted, test.expect)
    row, column = np.nonzero(wrong[numbers])
    violating = without_own_way(engine, np.stack([rows[row], columns[column]], axis=1))
    pairs = numbers.size
    if not len(violating):
        return _proven(engine, policy, test, name, pairs, wanted, facts)
    source, destination = violating[0].tolist()
    atoms = engine.passed_between(source, destination, facts)
    contradicting = wanted & (atoms if test.expect == "blocked" else ~atoms)
    shown = witness(engine, source, destination, contradicting, facts)
    message = f"{shown.source} -> {shown.destination} {shown.service} is {shown.verdict.verdict}"
    return Proof(policy.name, name, "failed", test.expect, pairs, len(violating), test.where, shown, message)


def without_own_way(engine: Engine, pairs: NDArray[np.intp]) -> NDArray[np.intp]:
    """(source class, destination class) pairs but those of one workload: its way to itself is loopback, not policy."""
    holder = np.full(len(engine.classes), -1, dtype=np.intp)
    involved = np.unique(pairs)
    holder[involved] = sole_holders(engine, involved)
    source, destination = holder[pairs[:, 0]], holder[pairs[:, 1]]
    kept: NDArray[np.intp] = pairs[(source < 0) | (source != destination)]
    return kept


def sole_holders(engine: Engine, classes: Ids) -> NDArray[np.intp]:
    """Per class a number for the one workload in it; -1 where there are none or several."""
    numbers: dict[str, int] = {}
    out = np.full(len(classes), -1, dtype=np.intp)
    for position, class_ in enumerate(classes.tolist()):
        if engine.classes.workloads[class_] == 1:
            out[position] = numbers.setdefault(_only_member(engine, class_), len(numbers))
    return out


def _only_member(engine: Engine, class_: int) -> str:
    """The UUID of the one workload of a class."""
    (workload,) = {e.workload.uuid for e in engine.members_of(class_) if e.workload is not None}
    return workload


def _proven(
    engine: Engine, policy: Policy, test: Expectation, name: str, pairs: int, wanted: int, facts: Facts
) -> Proof:
    """Proven of every class there is; a warning when a possible label set would contradict it."""
    found = counterexample(engine, test, wanted, facts)
    if found is None:
        message = _unless(engine, test, wanted, facts) if test.expect == "blocked" else ""
        return Proof(policy.name, name, "proven", test.expect, pairs, 0, test.where, message=message)
    words = f"nobody is there today, but {found.source} -> {found.destination} on {' '.join(found.services[:3])}"
    message = f"{words} would {'pass' if test.expect == 'blocked' else 'not pass'}"
    return Proof(policy.name, name, "warning", test.expect, pairs, 0, test.where, None, message)


def _unless(engine: Engine, test: Expectation, wanted: int, facts: Facts) -> str:
    """The conditional rules that would open what is proven blocked, were their conditions to hold."""
    rows, columns = present(engine, test.sources), present(engine, test.destinations)
    numbers = matrix.passed(canvas := canvas_of(engine, rows, columns, msgspec.structs.replace(facts, holds_all=True)))
    row, column = np.nonzero(canvas.interner.flags(wanted)[numbers])
    pairs = without_own_way(engine, np.stack([rows[row], columns[column]], axis=1))
    if not len(pairs):
        return ""
    source, destination = pairs[0].tolist()
    live, _ = engine.speaking(
        "destination", source, destination, msgspec.structs.replace(facts, holds_all=True), peer_enforces=True
    )
    conditional = live & engine.relation.conditional
    refs = [engine.rules[n].ref for n in members(conditional) if engine.relation.masks[n] & wanted]
    return f"unless the conditions of {', '.join(refs[:3]) or 'a rule'} hold"


def _whatever(facts: Facts) -> Facts:
    """The same, with every condition taken as holding."""
    return msgspec.structs.replace(facts, holds_all=True)


def present(engine: Engine, peers: Iterable[Peer]) -> Ids:
    """The classes in any of the peers that somebody is in now: live workloads, and addresses nobody holds."""
    classes = engine.classes
    wanted = engine.peers.bits_of(peers)
    named = (c for c in range(len(classes)) if classes.membership[c] & wanted)
    return to_ids(of_ids(c for c in named if engine.is_present(c)))


def canvas_of(
    engine: Engine, rows: Ids, columns: Ids, facts: Facts, interner: matrix.Interner | None = None
) -> matrix.Canvas:
    return matrix.Canvas(
        engine.relation,
        engine.classes,
        rows,
        columns,
        facts,
        interner or matrix.Interner(),
        engine.atoms.full & ~engine.essential,
    )


def facts_of(engine: Engine, test: Expectation) -> Facts:
    at = utc(datetime.fromisoformat(test.at)) if test.at else engine.world.at
    return Facts(at, test.mutual_tls, test.from_process, test.to_process)


def _wrong(interner: matrix.Interner, wanted: int, expect: str) -> np.ndarray:
    """Per set number, whether a pair with that set contradicts the expectation."""
    if expect == "blocked":
        return interner.flags(wanted)
    return np.fromiter((bool(wanted & ~atoms) for atoms in interner.sets), dtype=bool, count=len(interner.sets))


def _say(peers: tuple[Peer, ...]) -> str:
    return ", ".join(peer.text for peer in peers)
