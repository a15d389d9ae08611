"""`ringfence alerts`: listed, followed, acknowledged, resolved."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from ringfence.cli.consent import WhyOption
from ringfence.cli.fleet_words import severity_text
from ringfence.cli.remote import fleet, say_time
from ringfence.cli.session import CLEAN, FINDINGS, Session, write_out
from ringfence.cli.tables import Rows
from ringfence.client.client import Client
from ringfence.client.errors import Unreachable
from ringfence.core.errors import InputError
from ringfence.ports.state import Alert
from ringfence.wire.api import Event

_ACTIONS = {"ack": Client.acknowledge, "resolve": Client.resolve}


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    fleet(app, "alerts", epilog="Example: ringfence alerts ack 4f2a --why 'looking at it'")(alerts)


def alerts(
    session: Session,
    client: Client,
    action: Annotated[str | None, typer.Argument(metavar="[ack|resolve]", help="What to do; none: list them.")] = None,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Which.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Closed ones, too.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Violations and alerts as they come.")] = False,
    why: WhyOption = "",
) -> int:
    """Alerts, the most severe first. Exit 1 when one above `info` is open that nobody looks after."""
    if follow:
        return _follow(session, client)
    if action is not None:
        return _handle(session, client, action, ids or [], why)
    found = list(client.alerts(all=everything))
    session.emit(found, alerts_table(found) if found else "no alerts")
    return FINDINGS if any(one.state == "open" and one.severity != "info" for one in found) else CLEAN


def _handle(session: Session, client: Client, action: str, ids: list[str], why: str) -> int:
    if action not in _ACTIONS or not ids:
        what = "no alert is named" if action in _ACTIONS else f"`{action}` is nothing to do with alerts"
        raise InputError("bad-action", what, help="`ringfence alerts ack ID` or `ringfence alerts resolve ID`")
    done = [_ACTIONS[action](client, id_, why) for id_ in ids]
    session.emit(done, alerts_table(done))
    return CLEAN


def alerts_table(found: list[Alert]) -> Rows:
    """A line an alert."""
    table = Rows(("severity", "alert", "state", "count>", "last", "about", "id"), heads=2)
    for one in found:
        severity = severity_text(one.severity)
        table.add(severity, one.message, one.state, f"{one.count:,}", say_time(one.last), one.subject, one.id)
    return table


def _follow(session: Session, client: Client) -> int:
    """Until interrupted, or nobody reads it: a line an event. Raises Unreachable: the controller ended it."""
    session.say("following; end with Ctrl-C")
    try:
        for event in client.follow():
            if event.lost:
                session.say(f"{event.lost} events came faster than they could be told")
            if event.kind != "still-here" and not _told(session, event):
                return CLEAN
    except KeyboardInterrupt:
        return CLEAN
    help_ = "follow again; `ringfence alerts` lists what came in between"
    raise Unreachable("controller-unreachable", f"`{client.server}` ended the connection", help=help_)


def _told(session: Session, event: Event) -> bool:
    """One line on stdout; False when its reader has left."""
    if session.is_json:
        return write_out(msgspec.json.encode(event).decode() + "\n")
    session.page.print(f"{event.kind:9} {event.host}: {event.message}", markup=False)
    return not session.page.is_left
