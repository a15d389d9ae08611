"""`ringfence label` and `mode`: what workloads are, and how strictly they are held."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer

from ringfence.cli.fleet_words import labels_words
from ringfence.cli.remote import WorkloadsArgument, fleet, parse_labels
from ringfence.cli.session import CLEAN, FINDINGS, Session
from ringfence.cli.tables import count
from ringfence.client.client import Client
from ringfence.core.errors import InputError
from ringfence.core.identity.workload import ModeName, parse_mode_name
from ringfence.wire.api import Relabel, SetMode

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    fleet(app, "label", epilog="Example: ringfence label web-1 --put env=prod --remove legacy")(label)
    fleet(app, "mode", epilog="Example: ringfence mode app=shop --in enforce")(mode)


def label(
    session: Session,
    client: Client,
    workloads: WorkloadsArgument,
    put: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label they are to have.")] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="KEY", help="A label to take off.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would open and close, change nothing.")] = False,
    accept_failing: Annotated[
        bool, typer.Option("--accept-failing", help="Go on although tests that hold now would not.")
    ] = False,
    planned: Annotated[
        str, typer.Option(metavar="DIGEST", help="The plan that was looked at; refused if it is another by now.")
    ] = "",
    yes: YesOption = False,
) -> int:
    """Put labels on workloads, or take them off. A change of labels is a change of policy: it is shown first.

    Exit 1 when --plan shows that something opens or closes.
    """
    asked = Relabel(
        tuple(workloads), parse_labels(put or ()), tuple(remove or ()), accept_failing=accept_failing, plan=planned
    )
    diff = client.plan_labels(asked)
    if plan:
        session.emit(diff, *labels_words(diff))
        return FINDINGS if diff.boxes or diff.findings else CLEAN
    for line in labels_words(diff):
        session.say(line)
    if confirm(session, "change these labels?", yes=yes) and not planned:
        asked = msgspec.structs.replace(asked, plan=diff.digest)
    changed = client.relabel(asked)
    session.emit({"changed": changed, "diff": diff}, f"{count(changed, 'workload')} changed")
    return CLEAN


def mode(
    session: Session,
    client: Client,
    workloads: WorkloadsArgument,
    both: Annotated[str | None, typer.Option("--both", metavar="MODE", help="observe, selective or enforce.")] = None,
    inbound: Annotated[str | None, typer.Option("--in", metavar="MODE", help="Only what comes in.")] = None,
    outbound: Annotated[str | None, typer.Option("--out", metavar="MODE", help="Only what goes out.")] = None,
) -> int:
    """How strictly workloads are held, in each direction."""
    asked = SetMode(tuple(workloads), _mode(inbound or both), _mode(outbound or both))
    if asked.inbound is None and asked.outbound is None:
        raise InputError("unknown-mode", "no mode is named", help="use --both, --in or --out with a mode")
    changed = client.set_mode(asked)
    session.emit({"changed": changed}, f"{count(changed, 'workload')} changed")
    return CLEAN


def _mode(text: str | None) -> ModeName | None:
    return None if text is None else parse_mode_name(text)


def confirm(session: Session, question: str, *, yes: bool) -> bool:
    """Ask where somebody sits; whether somebody was asked. Raises InputError `not-confirmed`."""
    if yes or session.is_json or not sys.stdin.isatty():
        return False
    if not typer.confirm(question, err=True):
        raise InputError("not-confirmed", "nothing was changed", help="answer y, or use --yes")
    return True
