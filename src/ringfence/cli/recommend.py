"""`ringfence recommend`: a policy for what was seen, with its evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import RenderableType
from rich.text import Text

from ringfence.cli.drafts import Draft, plan_drafts, plan_proposals, write_drafts
from ringfence.cli.flow_store import SinceOption, UntilOption, parse_span, read
from ringfence.cli.remote import ServerOption, at_controller
from ringfence.cli.session import CLEAN, FINDINGS, Session, command
from ringfence.cli.tables import Rows, count
from ringfence.client.client import Client
from ringfence.core.engine.ask import selector_of_text
from ringfence.core.engine.ends import refuse_nobody
from ringfence.core.errors import Finding
from ringfence.core.insight.confidence import Confidence
from ringfence.core.insight.evidence import Evidence, moment
from ringfence.core.insight.learning import level_of
from ringfence.core.insight.leftovers import Leftover
from ringfence.core.insight.recommend import recommend
from ringfence.core.insight.recommendation import Coverage
from ringfence.core.policy.printing import print_policy
from ringfence.wire.study import AskRecommend


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    command(app, "recommend", epilog="Example: ringfence recommend --for app=shop,env=prod -o policies")(recommend_)


class Advice(NamedTuple):
    """What is recommended, by whomever it was worked out."""

    texts: dict[str, str]
    """Policy -> the text of its file."""
    evidence: tuple[Evidence, ...]
    set_aside: tuple[Leftover, ...]
    uncovered: tuple[Leftover, ...]
    coverage: Coverage
    precision: float
    confidence: Confidence
    by_policy: tuple[Confidence, ...]
    findings: tuple[Finding, ...]


def recommend_(
    session: Session,
    for_: Annotated[
        str | None, typer.Option("--for", metavar="SELECTOR", help="Only traffic with these workloads.")
    ] = None,
    level: Annotated[str, typer.Option(help="ringfence, tier or port.")] = "port",
    tight: Annotated[int, typer.Option(min=0, max=10, help="0 general .. 10 only what was seen.")] = 5,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Write one file a policy there.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that say something else.")] = False,
    since: SinceOption = None,
    until: UntilOption = None,
    fleet: Annotated[bool, typer.Option("--fleet", help="For what the controller one is logged in to saw.")] = False,
    server: ServerOption = None,
) -> int:
    """A minimal identity-based policy for what was seen, each rule with its evidence, and how far to trust it.

    A policy of the same scope comes back extended, into its own file. Exit 1 while the verdict is `not yet`, or when a
    test that holds would fail.
    """
    kind, selector = level_of(level), selector_of_text(for_) if for_ is not None else None
    if fleet or server is not None:
        start, end = (moment(time) if time is not None else None for time in parse_span(since, until))
        asked = AskRecommend(for_ or "", kind, tight, since=start, until=end)
        return at_controller(session, server, lambda client: _by_controller(session, client, asked, output, force))
    estate = session.estate
    if selector is not None and for_ is not None:
        refuse_nobody(estate.inventory, selector, for_)
    conversations = read(session, since, until)
    found = recommend(
        conversations, estate.inventory, select=selector, level=kind, tight=tight, existing=estate.policies,
        keys=estate.label_keys,
    )  # fmt: skip
    texts = {policy.name: print_policy(policy) for policy in found.policies}
    advice = Advice(
        texts, found.evidence, found.set_aside, found.uncovered, found.coverage, found.permission.precision,
        found.confidence, found.by_policy, found.findings,
    )  # fmt: skip
    planned = () if output is None else plan_drafts(estate, output, found.policies, texts, force=force)
    return _tell(session, advice, planned, is_written=output is not None)


def _by_controller(session: Session, client: Client, asked: AskRecommend, output: Path | None, force: bool) -> int:
    told = client.explore.recommend(asked)
    evidence = tuple(rule.evidence for rule in told.rules)
    advice = Advice(
        {one.policy: one.text for one in told.files}, evidence, told.set_aside, told.uncovered, told.coverage,
        told.precision, told.confidence, told.by_policy, (*told.findings, *told.broken),
    )  # fmt: skip
    planned: Sequence[tuple[Path, Draft]] = ()
    if output is not None:
        bases = {one.base for one in told.files if one.base}
        in_force = {base: client.version(base).files for base in bases}
        added = Counter(rule.policy for rule in told.rules)
        planned = plan_proposals(output, told.files, added, in_force, force=force)
    return _tell(session, advice, planned, is_written=output is not None)


def _tell(session: Session, advice: Advice, planned: Sequence[tuple[Path, Draft]], *, is_written: bool) -> int:
    write_drafts(planned)
    drafts = [draft for _, draft in planned]
    for draft in drafts:
        session.say(Text(str(draft)))
    session.emit(_document(advice, drafts), *render_advice(advice, shows_texts=not is_written))
    session.show_findings(advice.findings)
    is_sound = all(finding.severity != "error" for finding in advice.findings)
    return CLEAN if advice.confidence.verdict == "ready" and is_sound else FINDINGS


def _document(advice: Advice, drafts: Sequence[Draft]) -> dict[str, object]:
    files = [{"policy": d.policy, "file": d.file, "change": d.change, "added_rules": d.added_rules} for d in drafts]
    return {
        "policies": advice.texts, "files": files, "evidence": advice.evidence, "set_aside": advice.set_aside,
        "uncovered": advice.uncovered,
        "coverage": {"share": advice.coverage.share, "connections": advice.coverage},
        "precision": advice.precision, "confidence": advice.confidence, "by_policy": advice.by_policy,
        "findings": advice.findings,
    }  # fmt: skip


def render_advice(advice: Advice, *, shows_texts: bool) -> list[RenderableType]:
    """The policies, their evidence, what was left out, and the verdict."""
    evidence = Rows(("rule", "connections>", "from>", "to>", "days>", "first seen", "last seen"))
    for row in advice.evidence:
        of = (f"{row.sources} of {row.sources_of}" if row.sources_of else str(row.sources),)
        to = (f"{row.destinations} of {row.destinations_of}" if row.destinations_of else str(row.destinations),)
        times = (f"{row.first:%Y-%m-%d %H:%M}", f"{row.last:%Y-%m-%d %H:%M}")
        evidence.add(row.rule, f"{row.connections:,}", *of, *to, str(row.days), *times)
    shown = dict.fromkeys(advice.texts.values()) if shows_texts else ()
    out: list[RenderableType] = [*map(Text, shown), evidence]
    if not advice.texts:
        out.append("no rule to add")
    out += [_leftovers("set aside", advice.set_aside), _leftovers("not covered", advice.uncovered)]
    out.append(
        f"covers {advice.coverage.share:.1%} of the connections that call for a rule; "
        f"{advice.precision:.0%} of what it permits was seen"
    )
    out.append(render_confidence(advice.confidence))
    return out


def _leftovers(title: str, rows: tuple[Leftover, ...]) -> Text:
    """What got no rule and why, with the next step: counted, never dropped."""
    if not rows:
        return Text(f"{title}: nothing")
    text = Text(f"{title}:")
    for row in rows:
        text.append(f"\n  {row.reason}, {count(row.connections, 'connection')}: {row.why}")
        if row.examples:
            text.append(f"\n    for example {row.examples[0]}", "dim")
        text.append(f"\n    {row.help}", "green")
    return text


def render_confidence(confidence: Confidence) -> Text:
    """The ready-to-enforce verdict with its reasons and next steps."""
    text = Text(
        "ready to enforce" if confidence.verdict == "ready" else "not ready to enforce yet",
        "bold green" if confidence.verdict == "ready" else "bold yellow",
    )
    text.append(
        f": an estimated {confidence.unseen_share:.1%} of needs still unseen, "
        f"{confidence.false_blocks_a_week:.1f} false blocks a week",
        "default",
    )
    for why, step in zip(confidence.why_not, confidence.next_steps, strict=False):
        text.append(f"\n  - {why}", "default")
        text.append(f"\n    {step}", "green")
    return text
