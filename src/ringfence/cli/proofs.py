"""What `ringfence policy test` tells: each proof with the rules that decide it, and what a failure came from.

A proven `allowed` names the rules that allow. A failed `blocked` names them at each end; a failed `allowed` names what
stops it and the nearest rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from ringfence.cli.ask import say_missing
from ringfence.cli.tables import Rows
from ringfence.core.engine import Engine
from ringfence.core.engine.prove import Outcome, Proof
from ringfence.core.engine.questions import Near, near, witness_answer
from ringfence.core.engine.witness import Allowing, Witness
from ringfence.core.world import EndVerdict

_MARKS: dict[Outcome, tuple[str, str]] = {
    "proven": ("proven", "green"), "failed": ("FAILED", "bold red"), "unmatched": ("unmatched", "yellow"),
    "warning": ("proven*", "yellow"),
}  # fmt: skip


class Decider(msgspec.Struct, frozen=True):
    """What one controlled end says of a counterexample, and the rule it says so by."""

    end: str
    workload: str
    verdict: str
    reason: str
    rule: str | None = None
    file: str | None = None
    line: int | None = None
    because: str = ""
    """Why its author wrote the rule."""

    @property
    def text(self) -> str:
        """`passes by shop/calls (policies/shop.yaml:17)`, without the end."""
        verb = "passes" if self.verdict == "allowed" else "is blocked"
        if self.rule is None:
            return f"{verb}: {_WITHOUT_RULE[self.reason]}"
        why = f", because {self.because.splitlines()[0]}" if self.because else ""
        by = {"forbid": "by forbid ", "deny": "by deny "}.get(self.reason, "by ")
        return f"{verb} {by}{self.rule} ({self.file}:{self.line}){why}"


_WITHOUT_RULE = {
    "default": "no rule allows it", "essential": "essential or on the failsafe list", "quarantine": "quarantine",
    "uncontrolled": "no enforcement point", "allow": "a rule", "deny": "a rule", "forbid": "a rule",
}  # fmt: skip


class Allows(msgspec.Struct, frozen=True):
    """A rule that lets the connection of a proof pass at an end."""

    end: str
    rule: str
    file: str
    line: int

    @staticmethod
    def of(rule: Allowing) -> Allows:
        return Allows(rule.end, rule.rule, rule.where.file, rule.where.line)

    @property
    def text(self) -> str:
        return f"{self.rule} ({self.file}:{self.line})"


class Told(msgspec.Struct, frozen=True):
    """A proof with what its counterexample came from."""

    proof: Proof
    deciders: tuple[Decider, ...] = ()
    nearest: Near | None = None

    @property
    def allowed_by(self) -> tuple[Allows, ...]:
        """The rules that let it pass: a proven `allowed` at both ends, or the counterexample of a failed `blocked`."""
        return tuple(map(Allows.of, self.proof.allowed_by))

    @property
    def because(self) -> str:
        """The row's last cell; a failure has a block of its own instead."""
        proof = self.proof
        if proof.counterexample is not None:
            return ""
        rules = ", ".join(dict.fromkeys(rule.rule for rule in self.allowed_by))
        where = f"  {proof.where}" if proof.outcome != "proven" else ""
        return f"{proof.message or (f'by {rules}' if rules else '')}{where}"

    @property
    def document(self) -> dict[str, object]:
        """The contract of DESIGN section 8: the counterexample as explain would answer it, beside the outcome."""
        proof, shown = self.proof, self.proof.counterexample
        return {
            "policy": proof.policy, "test": proof.name, "outcome": proof.outcome, "expect": proof.expect,
            "pairs": proof.pairs, "violations": proof.violations, "file": proof.where.file, "line": proof.where.line,
            "message": proof.message, "counterexample": witness_answer(shown) if shown is not None else None,
            "allowed_by": self.allowed_by, "deciders": self.deciders, "nearest": self.nearest,
        }  # fmt: skip


def tell(engine: Engine, proofs: Iterable[Proof]) -> tuple[Told, ...]:
    """Each proof with its reasons."""
    return tuple(_tell(engine, proof) for proof in proofs)


def _tell(engine: Engine, proof: Proof) -> Told:
    shown = proof.counterexample
    if shown is None:
        return Told(proof)
    is_near = proof.expect == "allowed" and shown.verdict.reason in ("default", "deny")
    return Told(proof, _deciders(engine, shown), near(engine, shown.flow) if is_near else None)


def _deciders(engine: Engine, shown: Witness) -> tuple[Decider, ...]:
    return tuple(_decider(engine, end) for end in shown.verdict.ends)


def _decider(engine: Engine, end: EndVerdict) -> Decider:
    rule = next((r.rule for r in engine.rules if r.ref == end.rule), None)
    said = (end.end, end.workload, end.verdict, end.reason, end.rule)
    return Decider(*said) if rule is None else Decider(*said, rule.where.file, rule.where.line, rule.because)


def render(told: Iterable[Told]) -> RenderableType:
    """One row a test, then one block a failure."""
    told = tuple(told)
    table = Rows(("", "test", "expect", "pairs>", "because"), heads=2)
    for one in told:
        proof, name = one.proof, f"{one.proof.policy}: {one.proof.name}"
        table.add(Text(*_MARKS[proof.outcome]), name, proof.expect, f"{proof.pairs:,}", one.because)
    failed = [_block(one) for one in told if one.proof.counterexample is not None]
    return Group(table, *failed)


def _block(told: Told) -> Text:
    """A failure: the connection, what each end says by which rule, and what would have to change."""
    proof, shown = told.proof, told.proof.counterexample
    assert shown is not None
    block = Text(f"\n{proof.policy}: {proof.name} is expected {proof.expect}", "bold")
    block.append(f"  ({proof.where.file}:{proof.where.line})\n", "dim")
    block.append(f"  {shown.source} -> {shown.destination} {shown.service}\n", "default")
    block.append("\n".join(f"  {line}" for line in _lines(told)), "default")
    return block


def _lines(told: Told) -> Iterator[str]:
    texts = {decider.text for decider in told.deciders}
    named = {decider.rule for decider in told.deciders}
    if len(told.deciders) == 2 and len(texts) == 1:
        yield f"at both ends it {texts.pop()}"
    else:
        yield from (f"at the {d.end} ({d.workload}) it {d.text}" for d in told.deciders)
    if not told.deciders:
        yield "neither end has an enforcement point, so nothing would stop it"
    if more := list(dict.fromkeys(rule.text for rule in told.allowed_by if rule.rule not in named)):
        yield f"so would {', '.join(more)}"
    if told.nearest is not None:
        rule = told.nearest
        yield f"nearest rule: {rule.rule} ({rule.file}:{rule.line}) {say_missing(rule.missing)}"
    if told.proof.violations > 1:
        yield f"{told.proof.violations - 1:,} more of {told.proof.pairs:,} pairs are not as expected"
