"""`ringfence policy check | test | lint | fmt | diff | schema`."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from ringfence.cli import proofs
from ringfence.cli.ask import AtOption, parse_at, short
from ringfence.cli.findings import findings_table, summary
from ringfence.cli.flow_store import has_store, store_of
from ringfence.cli.session import BAD_INPUT, CLEAN, FINDINGS, Session, command, to_json, write_file, write_out
from ringfence.cli.tables import Rows, count
from ringfence.core.engine import Engine, lint
from ringfence.core.engine.diff import Box, Diff, diff
from ringfence.core.engine.prove import prove
from ringfence.core.engine.questions import witness_answer
from ringfence.core.errors import Finding, InputError, Location, errors_among
from ringfence.core.identity.workload import Mode
from ringfence.core.policy.check import check
from ringfence.core.policy.model import Policy
from ringfence.core.policy.printing import format_text
from ringfence.core.policy.schema import json_schema
from ringfence.estate import expand, read

app = typer.Typer(
    no_args_is_help=True, help="Check, prove, compare and format policies.", epilog="Example: ringfence policy test"
)
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
        findings += (
            *world.inventory.conflicts(world.at),
            *check(parsed.policies, world.inventory, world.at, names=world.names),
        )
    findings = tuple(dict.fromkeys(findings))
    rules = sum(len(policy.rules) for policy in parsed.policies)
    counts = (len(parsed.policies), rules, len(estate.loaded.workloads))
    things = ("policy", "policies"), ("rule", ""), ("workload", "")
    words = ", ".join(count(n, *noun) for n, noun in zip(counts, things, strict=True))
    document = {"findings": findings, "policies": counts[0], "rules": rules, "workloads": counts[2]}
    session.emit(document, findings_table(findings), f"{words}: {summary(findings)}")
    if errors_among(findings):
        return BAD_INPUT
    return FINDINGS if any(f.severity == "warning" for f in findings) else CLEAN


@command(app, "test", epilog="Example: ringfence policy test --json")
def prove_(
    session: Session,
    paths: PathsArgument = None,
    at: AtOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on label sets that are possible only.")] = False,
) -> int:
    """Prove every `tests:` entry over all pairs, as if everything were enforced.

    Exit 1 when one fails, and when there is none: what nobody tests is not proven.
    """
    policies = session.estate.parse(paths).raise_if_errors()
    engine = Engine.compile(session.estate.world(at=parse_at(at), policies=policies, as_mode=Mode.both("enforce")))
    told = proofs.tell(engine, prove(engine))
    holding = ("proven",) if strict else ("proven", "warning")
    proven = sum(one.proof.outcome in holding for one in told)
    findings = () if told else (_no_tests(policies),)
    words = f"{proven} of {count(len(told), 'test')} proven" if told else "nothing is proven"
    document = {"tests": [one.document for one in told], "proven": proven, "findings": findings}
    session.emit(document, proofs.render(told) if told else findings_table(findings), words)
    return CLEAN if told and proven == len(told) else FINDINGS


def _no_tests(policies: tuple[Policy, ...]) -> Finding:
    message = f"no tests: {count(len(policies), 'policy', 'policies')} read, none of them has `tests:`"
    help_ = "add `tests:` to a policy, with entries such as `- {from: web, to: db, expect: blocked}`"
    return Finding("no-tests", message, "warning", help=help_)


@command(app, "lint", epilog="Example: ringfence policy lint")
def lint_(session: Session, paths: PathsArgument = None) -> int:
    """Rules that change nothing, contradict each other, expire, or reach too far. Exit 1 on warnings."""
    policies = session.estate.parse(paths).raise_if_errors()
    world = session.estate.world(policies=policies)
    engine = Engine.compile(world)
    findings = (
        *lint.lint(engine),
        *lint.cardinality(engine),
        *check(policies, world.inventory, world.at, names=world.names),
    )
    findings += _without_traffic(session, engine)
    session.emit({"findings": findings}, findings_table(findings), summary(findings))
    return FINDINGS if any(f.severity != "info" for f in findings) else CLEAN


def _without_traffic(session: Session, engine: Engine) -> tuple[Finding, ...]:
    """Rules no stored flow was decided by; nothing is said while no traffic is stored."""
    if not has_store(session):
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
    """Write policies in the canonical form; meaning and comments stay. A file with an error stops all of them.

    Exit 1 when --check finds a file that would change.
    """
    estate = session.estate
    files = estate.policy_files() if paths is None else expand(paths)
    changed = [(file, text, new) for file, text, new in _formatted(session, files) if text != new]
    names = [estate.shown(file) for file, _, _ in changed]
    for name, (file, text, new) in zip(names, changed, strict=True):
        if not check:
            write_file(file, new)
        elif not session.is_json:
            _show_change(session, name, text, new)
    session.emit({"changed": names}, f"{count(len(names), 'file')} {'would change' if check else 'changed'}")
    return FINDINGS if check and names else CLEAN


def _formatted(session: Session, files: list[Path]) -> list[tuple[Path, str, str]]:
    """(file, its text, its canonical text), all read before anything is written.

    Files among the estate's own may name the segments of the others.
    """
    estate = session.estate
    own = {estate.shown(file): file for file in estate.policy_files()}
    texts = {estate.shown(file): _text(file) for file in files}
    beside = {name: _text(file) for name, file in own.items() if name not in texts} if set(texts) <= set(own) else {}
    everything, ignore = beside | texts, estate.settings.identity.ignore
    formatted = {name: format_text(text, name, others=everything, ignore=ignore) for name, text in texts.items()}
    return [(file, texts[estate.shown(file)], formatted[estate.shown(file)]) for file in files]


def _text(file: Path) -> str:
    try:
        return read(file).decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"byte {error.start + 1} of `{file}` is not UTF-8"
        raise InputError("not-utf8", message, where=Location(str(file)), help="save the file as UTF-8") from error


def _show_change(session: Session, name: str, text: str, new: str) -> None:
    lines = difflib.unified_diff(text.splitlines(), new.splitlines(), name, "formatted", lineterm="")
    session.page.print(Text("\n".join(lines)), soft_wrap=True)


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
    document = {"opened": result.opened, "closed": result.closed, "boxes": [_box_document(b) for b in result.boxes]}
    session.emit(document, *render_diff(result))
    return FINDINGS if result.boxes else CLEAN


def _box_document(box: Box) -> dict[str, object]:
    return {
        "change": box.change, "from": box.sources, "to": box.destinations, "services": box.services,
        "workload_pairs": box.workload_pairs, "when": box.when, "example": witness_answer(box.witness),
    }  # fmt: skip


def render_diff(result: Diff) -> tuple[RenderableType, str]:
    """Opened in red (it is exposure), closed in green, the largest first."""
    table = Rows(("", "from", "to", "services", "pairs>", "for example", "when"), heads=3)
    for box in result.boxes:
        mark = Text("+ opens", "red") if box.change == "opened" else Text("- closes", "green")
        shown = f"{box.witness.source} -> {box.witness.destination} {box.witness.service}"
        pairs, when = f"{box.workload_pairs:,}", ", ".join(box.when)
        table.add(mark, box.sources, box.destinations, short(box.services), pairs, shown, when)
    opened = f"{count(result.opened, 'workload pair')} opened, {result.closed:,} closed"
    return table, opened if result.boxes else "no difference in what passes"


@command(app, "schema", epilog="Example: ringfence policy schema > policy.schema.json")
def schema(session: Session) -> int:
    """The JSON Schema of a policy file, for editors."""
    write_out(to_json(json_schema()) + "\n")
    return CLEAN
