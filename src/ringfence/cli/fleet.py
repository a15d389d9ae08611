"""`ringfence label` and `mode`: what workloads are, and how strictly they are held."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from ringfence.cli.consent import PlannedOption, WhyOption, YesOption, confirm, reason
from ringfence.cli.fleet_words import labels_words, modes_words
from ringfence.cli.remote import WorkloadsArgument, fleet, parse_labels
from ringfence.cli.session import CLEAN, FINDINGS, Session
from ringfence.cli.tables import count
from ringfence.client.client import Client
from ringfence.core.errors import InputError
from ringfence.core.identity.workload import ModeName, parse_mode_name
from ringfence.wire.api import LabelsPlanned, ModesPlanned, Relabel, SetMode

PlanOption = Annotated[bool, typer.Option("--plan", help="Show what it would do, change nothing.")]
NOTHING = "nothing to change: it is so already"


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    example = "ringfence label web-1 --put env=prod --remove legacy --why 'it went live'"
    fleet(app, "label", epilog=f"Example: {example}")(label)
    fleet(app, "mode", epilog="Example: ringfence mode app=shop --in enforce --why 'two quiet weeks'")(mode)


def label(
    session: Session,
    client: Client,
    workloads: WorkloadsArgument,
    put: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label they are to have.")] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="KEY", help="A label to take off.")] = None,
    why: WhyOption = "",
    plan: PlanOption = False,
    accept_failing: Annotated[
        bool, typer.Option("--accept-failing", help="Go on although tests that hold now would not.")
    ] = False,
    planned: PlannedOption = "",
    yes: YesOption = False,
) -> int:
    """Put labels on workloads, or take them off. A change of labels is a change of policy: it is shown first.

    Exit 1 when --plan shows that something opens or closes.
    """
    asked = Relabel(
        tuple(workloads), parse_labels(put or ()), tuple(remove or ()), accept_failing=accept_failing, plan=planned
    )
    shown = client.plan_labels(asked)
    if plan:
        session.emit(shown, *labels_words(shown))
        return FINDINGS if shown.boxes or shown.findings else CLEAN
    if not shown.changed:
        return _nothing(session, shown)
    for line in labels_words(shown):
        session.say(line)
    why = reason(session, why, "a change of labels")
    confirm(session, f"change the labels of {count(shown.changed, 'workload')}?", yes=yes)
    changed = client.relabel(msgspec.structs.replace(asked, why=why, plan=planned or shown.digest))
    session.emit({"changed": changed, "diff": shown}, f"{count(changed, 'workload')} changed")
    return CLEAN


def mode(
    session: Session,
    client: Client,
    workloads: WorkloadsArgument,
    both: Annotated[str | None, typer.Option("--both", metavar="MODE", help="observe, selective or enforce.")] = None,
    inbound: Annotated[str | None, typer.Option("--in", metavar="MODE", help="Only what comes in.")] = None,
    outbound: Annotated[str | None, typer.Option("--out", metavar="MODE", help="Only what goes out.")] = None,
    why: WhyOption = "",
    plan: PlanOption = False,
    planned: PlannedOption = "",
    yes: YesOption = False,
) -> int:
    """How strictly workloads are held, in each direction. What would stop is shown first.

    Exit 1 when --plan shows that seen traffic would break, or live sessions would be cut.
    """
    asked = SetMode(tuple(workloads), _mode(inbound or both), _mode(outbound or both), plan=planned)
    if asked.inbound is None and asked.outbound is None:
        raise InputError("unknown-mode", "no mode is named", help="use --both, --in or --out with a mode")
    shown = client.plan_mode(asked)
    if plan:
        session.emit(shown, *modes_words(shown))
        return FINDINGS if _stops(shown) else CLEAN
    if not shown.changed:
        return _nothing(session, shown)
    for line in modes_words(shown):
        session.say(line)
    why = reason(session, why, "a change of mode")
    confirm(session, f"change the mode of {count(shown.changed, 'host')}?", yes=yes)
    changed = client.set_mode(msgspec.structs.replace(asked, why=why, plan=planned or shown.digest))
    session.emit({"changed": changed, "plan": shown}, f"{count(changed, 'host')} changed")
    return CLEAN


def _nothing(session: Session, shown: LabelsPlanned | ModesPlanned) -> int:
    """Everybody is as was asked."""
    name = "diff" if isinstance(shown, LabelsPlanned) else "plan"
    session.emit({"changed": 0, name: shown}, NOTHING)
    return CLEAN


def _stops(shown: ModesPlanned) -> bool:
    return bool((shown.impact and shown.impact.broken) or (shown.sessions and shown.sessions.cut))


def _mode(text: str | None) -> ModeName | None:
    return None if text is None else parse_mode_name(text)
