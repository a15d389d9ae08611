"""`ringfence policy check | test | lint | fmt | diff | schema`."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ringfence.cli.findings import findings_table, summary
from ringfence.cli.flow_store import STORE_FILE, store_of
from ringfence.cli.session import CLEAN, FINDINGS, Session, command, to_json
from ringfence.core.engine import Engine, lint
from ringfence.core.engine.diff import Diff, diff
from ringfence.core.engine.prove import Proof, prove
from ringfence.core.errors import Finding, errors_among
from ringfence.core.identity.workload import Mode
from ringfence.core.policy.check import check
from ringfence.core.policy.printing import format_text
from ringfence.core.policy.schema import json_schema
from ringfence.estate import expand

app = typer.Typer(no_args_is_help=True, help="Check, prove, compare and format policies.")
PathsArgument = Annotated[
    list[Path] | None, typer.Argument(help="Policy files or folders; the estate's own by default.")
]


@command(app, "check", epilog="Example: ringfence policy check policies/shop.yaml")
def check_(session: Session, paths: PathsArgument = None) -> int:
    """Read policies and inventory and report every fault at once. Exit 1 on warnings, 2 on errors."""
    estate = session.estate
    parsed = estate.parse(paths)
    inventory_faults = estate.loaded.findings
    findings: tuple[Finding, ...] = (*parsed.findings, *inventory_faults)
    if not errors_among(findings):
        world = estate.world(policies=parsed.policies)
        findings += (*world.inventory.conflicts(world.at), *check(parsed.policies, world.inventory, world.at))
    findings = tuple(dict.fromkeys(findings))
    rules = sum(len(policy.rules) for policy in parsed.policies)
    words = (
        f"{len(parsed.policies)} policies, {rules} rules, {len(estate.loaded.workloads)} workloads: {summary(findings)}"
    )
    session.emit(
        {"findings": findings, "policies": len(parsed.policies), "rules": rules}, findings_table(findings), words
    )
    if errors_among(findings):
        return 2
    return FINDINGS if any(f.severity == "warning" for f in findings) else CLEAN


@command(app, "test", epilog="Example: ringfence policy test --json")
def prove_(
    session: Session,
    paths: PathsArgument = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on label sets that are possible only.")] = False,
) -> int:
    """Prove every `tests:` entry over all pairs, as if everything were enforced. Exit 1 when one fails."""
    policies = session.estate.parse(paths).raise_if_errors()
    proofs = prove(Engine.compile(session.estate.world(policies=policies, as_mode=Mode.both("enforce"))))
    holding = ("proven",) if strict else ("proven", "warning")
    failed = [p for p in proofs if p.outcome not in holding]
    words = f"{len(proofs) - len(failed)} of {len(proofs)} tests proven"
    session.emit(
        {"tests": [_proof_document(p) for p in proofs], "proven": len(proofs) - len(failed)},
        _proof_table(proofs),
        words,
    )
    return FINDINGS if failed else CLEAN


def _proof_document(proof: Proof) -> dict[str, object]:
    """The contract of DESIGN section 8: the counterexample's verdict, reason, rule and ends beside the outcome."""
    document: dict[str, object] = {
        "policy": proof.policy, "test": proof.name, "outcome": proof.outcome, "expect": proof.expect, "pairs":
        proof.pairs, "violations": proof.violations, "file": proof.where.file, "line": proof.where.line,
        "message": proof.message,
    }  # fmt: skip
    if proof.counterexample is not None:
        document["counterexample"] = proof.counterexample
    return document


def _proof_table(proofs: tuple[Proof, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "test", "expect", "pairs", "because"):
        table.add_column(column, justify="right" if column == "pairs" else "left")
    marks = {
        "proven": Text("proven", "green"),
        "failed": Text("FAILED", "bold red"),
        "unmatched": Text("unmatched", "yellow"),
        "warning": Text("proven*", "yellow"),
    }
    for proof in proofs:
        where = f"  {proof.where}" if proof.outcome != "proven" else ""
        table.add_row(
            marks[proof.outcome],
            f"{proof.policy}: {proof.name}",
            proof.expect,
            f"{proof.pairs:,}",
            proof.message + where,
        )
    return table


@command(app, "lint", epilog="Example: ringfence policy lint")
def lint_(session: Session, paths: PathsArgument = None) -> int:
    """Rules that change nothing, contradict each other, expire, or reach too far. Exit 1 on warnings."""
    policies = session.estate.parse(paths).raise_if_errors()
    world = session.estate.world(policies=policies)
    engine = Engine.compile(world)
    findings = (*lint.lint(engine), *lint.cardinality(engine), *check(policies, world.inventory, world.at))
    findings += _without_traffic(session, engine)
    session.emit({"findings": findings}, findings_table(findings), summary(findings))
    return FINDINGS if any(f.severity != "info" for f in findings) else CLEAN


def _without_traffic(session: Session, engine: Engine) -> tuple[Finding, ...]:
    """Rules no stored flow was decided by; nothing is said while no traffic is stored."""
    if not (session.estate.data / STORE_FILE).exists():
        return ()
    with store_of(session) as store:
        conversations = store.read()
    if not len(conversations):
        return ()
    days = float(conversations.last.max() - conversations.first.min()) / 86_400
    return lint.unused(engine, engine.judge(conversations), days)


@command(app, "fmt", epilog="Example: ringfence policy fmt --check")
def fmt(
    session: Session,
    paths: PathsArgument = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 if something would.")] = False,
) -> int:
    """Write policies in the canonical form; meaning and comments stay."""
    estate = session.estate
    changed = []
    for file in estate.policy_files() if paths is None else expand(paths):
        text = file.read_text("utf-8")
        formatted = format_text(text, estate.shown(file))
        if formatted == text:
            continue
        changed.append(estate.shown(file))
        if check and not session.is_json:
            lines = difflib.unified_diff(
                text.splitlines(), formatted.splitlines(), estate.shown(file), "formatted", lineterm=""
            )
            session.out.print("\n".join(lines), markup=False)
        elif not check:
            file.write_text(formatted, "utf-8")
    session.emit({"changed": changed}, f"{len(changed)} file(s) {'would change' if check else 'changed'}")
    return FINDINGS if check and changed else CLEAN


@command(app, "diff", epilog="Example: ringfence policy diff policies/ drafts/")
def diff_(
    session: Session,
    old: Annotated[Path, typer.Argument(help="The policies before (file or folder).")],
    new: Annotated[Path | None, typer.Argument(help="The policies after; the estate's own by default.")] = None,
) -> int:
    """What the new policies open and close, as connections. Exit 1 when anything differs."""
    estate = session.estate
    before = estate.parse([old]).raise_if_errors()
    after = estate.policies if new is None else estate.parse([new]).raise_if_errors()
    result = diff(estate.world(policies=after), before, after)
    session.emit({"opened": result.opened, "closed": result.closed, "boxes": result.boxes}, *render_diff(result))
    return FINDINGS if result.boxes else CLEAN


def render_diff(result: Diff) -> tuple[Table, str]:
    """Opened in red (it is exposure), closed in green, the largest first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "from", "to", "services", "pairs", "for example"):
        table.add_column(column, justify="right" if column == "pairs" else "left", overflow="fold")
    for box in result.boxes:
        mark = Text("+ opens", "red") if box.change == "opened" else Text("- closes", "green")
        shown = f"{box.witness.source} -> {box.witness.destination} {box.witness.service}"
        table.add_row(mark, box.sources, box.destinations, " ".join(box.services), f"{box.workload_pairs:,}", shown)
    return (
        table,
        f"{result.opened:,} workload pairs opened, {result.closed:,} closed"
        if result.boxes
        else "no difference in what passes",
    )


@command(app, "schema", epilog="Example: ringfence policy schema > policy.schema.json")
def schema(session: Session) -> int:
    """The JSON Schema of a policy file, for editors."""
    sys.stdout.write(to_json(json_schema()) + "\n")
    return CLEAN
