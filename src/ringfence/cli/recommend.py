"""`ringfence recommend`: a policy for what was seen, with its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from ringfence.cli.drafts import Draft, plan_drafts, write_drafts
from ringfence.cli.flow_store import SinceOption, UntilOption, read
from ringfence.cli.session import CLEAN, FINDINGS, Session, command
from ringfence.cli.tables import Rows, count
from ringfence.core.engine.ask import selector_of_text
from ringfence.core.engine.ends import refuse_nobody
from ringfence.core.insight.confidence import Confidence
from ringfence.core.insight.leftovers import Leftover
from ringfence.core.insight.recommend import recommend
from ringfence.core.insight.recommendation import Recommendation
from ringfence.core.policy.model import Policy
from ringfence.core.policy.printing import print_policy


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    command(app, "recommend", epilog="Example: ringfence recommend --for app=shop,env=prod -o policies")(recommend_)


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
) -> int:
    """A minimal identity-based policy for what was seen, each rule with its evidence, and how far to trust it.

    A policy of the same scope comes back extended, into its own file. Exit 1 while the verdict is `not yet`.
    """
    estate = session.estate
    selector = selector_of_text(for_) if for_ is not None else None
    if selector is not None and for_ is not None:
        refuse_nobody(estate.inventory, selector, for_)
    conversations = read(session, since, until)
    result = recommend(
        conversations, estate.inventory, select=selector, level=level, tight=tight,  # type: ignore[arg-type]
        existing=estate.policies, keys=estate.label_keys,
    )  # fmt: skip
    texts = {policy.name: print_policy(policy) for policy in result.policies}
    drafts = _write_policies(session, output, result.policies, texts, force=force) if output is not None else ()
    session.emit(
        _recommendation_document(result, texts, drafts), *render_recommendation(result, {} if output else texts)
    )
    session.show_findings(result.findings)
    return CLEAN if result.confidence.verdict == "ready" else FINDINGS


def _write_policies(
    session: Session, folder: Path, policies: tuple[Policy, ...], texts: dict[str, str], *, force: bool
) -> tuple[Draft, ...]:
    planned = plan_drafts(session.estate, folder, policies, texts, force=force)
    write_drafts(planned)
    for _, draft in planned:
        session.say(Text(str(draft)))
    return tuple(draft for _, draft in planned)


def _recommendation_document(
    result: Recommendation, texts: dict[str, str], drafts: tuple[Draft, ...]
) -> dict[str, object]:
    files = [{"policy": d.policy, "file": d.file, "change": d.change, "added_rules": d.added_rules} for d in drafts]
    return {
        "policies": texts, "files": files, "evidence": result.evidence, "set_aside": result.set_aside,
        "uncovered": result.uncovered,
        "coverage": {"share": result.coverage.share, "connections": result.coverage},
        "precision": result.permission.precision, "confidence": result.confidence, "by_policy": result.by_policy,
        "findings": result.findings,
    }  # fmt: skip


def render_recommendation(result: Recommendation, texts: dict[str, str]) -> list[RenderableType]:
    """The policies, their evidence, what was left out, and the verdict."""
    evidence = Rows(("rule", "connections>", "from>", "to>", "days>", "first seen", "last seen"))
    for row in result.evidence:
        of = (f"{row.sources} of {row.sources_of}" if row.sources_of else str(row.sources),)
        to = (f"{row.destinations} of {row.destinations_of}" if row.destinations_of else str(row.destinations),)
        times = (f"{row.first:%Y-%m-%d %H:%M}", f"{row.last:%Y-%m-%d %H:%M}")
        evidence.add(row.rule, f"{row.connections:,}", *of, *to, str(row.days), *times)
    out: list[RenderableType] = [*(Text(text) for text in texts.values()), evidence]
    if not result.policies:
        out.append("no rule to add")
    out += [_leftovers("set aside", result.set_aside), _leftovers("not covered", result.uncovered)]
    coverage = result.coverage
    out.append(
        f"covers {coverage.share:.1%} of the connections that call for a rule; "
        f"{result.permission.precision:.0%} of what it permits was seen"
    )
    out.append(render_confidence(result.confidence))
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
