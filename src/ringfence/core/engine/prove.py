"""Prove `tests:` over every class pair, not a sample; a failure comes with a counterexample.

Judged as if every controlled end were in `enforce`. `expect: allowed` means every pair, `expect: blocked` means
no pair; essential traffic is left out; a selector that picks nobody is `unmatched`, never a pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Literal

import msgspec
import numpy as np

from ringfence.core.engine import matrix
from ringfence.core.engine.bits import Ids, members, of_ids, spread, to_ids
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.possible import counterexample
from ringfence.core.engine.rules import Facts
from ringfence.core.engine.witness import Allowing, Witness, allowing, witness
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
    example: Witness | None = None
    """Of a proven `expect: allowed`, one connection it is about."""
    allowed_by: tuple[Allowing, ...] = ()
    """The rules, at each controlled end, that let the example pass, or the counterexample of a failed `blocked`."""


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
    violations, first = _violations(engine, rows, columns, facts, wanted, test.expect)
    pairs = len(rows) * len(columns)
    if first is None:
        return _proven(engine, policy, test, name, pairs, wanted, facts)
    source, destination = first
    atoms = engine.passed_between(source, destination, facts)
    contradicting = wanted & (atoms if test.expect == "blocked" else ~atoms)
    shown = witness(engine, source, destination, contradicting, facts)
    by = allowing(engine, source, destination, shown) if test.expect == "blocked" else ()
    message = f"{shown.source} -> {shown.destination} {shown.service} is {shown.verdict.verdict}{_say_rules(by)}"
    return Proof(policy.name, name, "failed", test.expect, pairs, violations, test.where, shown, message, allowed_by=by)


def _violations(
    engine: Engine, rows: Ids, columns: Ids, facts: Facts, wanted: int, expect: str
) -> tuple[int, tuple[int, int] | None]:
    """How many class pairs contradict an expectation, and the first of them. Strip by strip: memory is bounded."""
    count, first = 0, None
    interner = matrix.Interner()
    for strip in matrix.strips(rows, columns):
        canvas = replace(canvas_of(engine, strip, columns, facts, interner), atoms=wanted)
        numbers = matrix.passed(canvas)
        wrong = _wrong(interner, wanted, expect)[numbers]
        wrong[own_ways(engine, strip, columns)] = False
        if first is None and wrong.any():
            row, column = divmod(int(wrong.argmax()), len(columns))
            first = int(strip[row]), int(columns[column])
        count += int(np.count_nonzero(wrong))
    return count, first


def own_ways(engine: Engine, rows: Ids, columns: Ids) -> tuple[Ids, Ids]:
    """The cells (positions) of one and the same workload: its way to itself is loopback, not policy."""
    row_of, column_of = engine.sole_members(rows), engine.sole_members(columns)
    order = np.argsort(column_of, kind="stable")
    lo, hi = (np.searchsorted(column_of[order], row_of, side=side) for side in _SIDES)
    counts = np.where(row_of >= 0, hi - lo, 0)
    row, within = spread(counts)
    return row, order[lo[row] + within]


_SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")


def _proven(
    engine: Engine, policy: Policy, test: Expectation, name: str, pairs: int, wanted: int, facts: Facts
) -> Proof:
    """Proven of every class there is; a warning when a possible label set would contradict it."""
    found = counterexample(engine, test, wanted, facts)
    shown, by = _example(engine, test, wanted, facts)
    if found is None:
        message = _unless(engine, test, wanted, facts) if test.expect == "blocked" else ""
        return Proof(
            policy.name, name, "proven", test.expect, pairs, 0, test.where, None, message, example=shown, allowed_by=by
        )
    words = f"nobody is there today, but {found.source} -> {found.destination} on {' '.join(found.services[:3])}"
    message = f"{words} would {'pass' if test.expect == 'blocked' else 'not pass'}"
    return Proof(
        policy.name, name, "warning", test.expect, pairs, 0, test.where, None, message, example=shown, allowed_by=by
    )


def _example(
    engine: Engine, test: Expectation, wanted: int, facts: Facts
) -> tuple[Witness | None, tuple[Allowing, ...]]:
    """Of an `expect: allowed` that holds, one connection between two workloads, and the rules that let it pass."""
    if test.expect == "blocked":
        return None, ()
    rows, columns = present(engine, test.sources), present(engine, test.destinations)
    pairs = ((s, d) for s in rows.tolist() for d in columns.tolist())
    others = (pair for pair in pairs if not len(own_ways(engine, *map(np.array, ([pair[0]], [pair[1]])))[0]))
    first = next(others, None)
    if first is None:
        return None, ()
    shown = witness(engine, *first, wanted, facts)
    return shown, allowing(engine, *first, shown)


def _say_rules(rules: tuple[Allowing, ...]) -> str:
    """` by shop/a (shop.yaml:4)`, each rule once."""
    said = dict.fromkeys(f"{r.rule} ({r.where})" if r.where.file else r.rule for r in rules)
    return f" by {', '.join(said)}" if said else ""


def _unless(engine: Engine, test: Expectation, wanted: int, facts: Facts) -> str:
    """The conditional rules that would open what is proven blocked, were their conditions to hold."""
    rows, columns = present(engine, test.sources), present(engine, test.destinations)
    _, first = _violations(engine, rows, columns, _whatever(facts), wanted, "blocked")
    if first is None:
        return ""
    source, destination = first
    live, _ = engine.speaking("destination", source, destination, _whatever(facts), peer_enforces=True)
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
