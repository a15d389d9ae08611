"""What a command wants to hear before it changes who may talk to whom: why, and a yes.

INVARIANT: nobody is taken to have said yes. A question goes to a terminal; where none is, or with --json, it is refused
unless --yes answers it.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ringfence.cli.session import Session
from ringfence.core.errors import InputError

YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Ask nothing. Needed where no terminal is, and with --json.")
]
NoteOption = Annotated[
    str,
    typer.Option("--note", "--why", metavar="TEXT", help="Why, for the history; asked for if left out."),
]
WhyOption = Annotated[
    str, typer.Option("--why", "--note", metavar="TEXT", help="Why, for the audit log; asked for if left out.")
]
PlannedOption = Annotated[
    str,
    typer.Option("--planned", metavar="DIGEST", help="The plan that was looked at; refused if it is another by now."),
]


def is_somebody_there(session: Session) -> bool:
    """Whether a question would be read by a person."""
    return sys.stdin.isatty() and not session.is_json


def confirm(session: Session, question: str, *, yes: bool) -> None:
    """Go on if they say yes. Raises InputError `not-confirmed`."""
    if yes:
        return
    if not is_somebody_there(session):
        where = "with --json nobody is asked" if session.is_json else "nobody sits at a terminal to be asked"
        help_ = "look at what it would do, then add --yes; --planned, where there is one, holds it to that"
        raise InputError("not-confirmed", f"nothing was changed: {where} `{question}`", help=help_)
    try:
        is_meant = typer.confirm(question, err=True)
    except typer.Abort:
        session.say("")
        is_meant = False
    if not is_meant:
        raise InputError("not-confirmed", "nothing was changed", help="answer y, or use --yes")


def reason(session: Session, given: str, what: str) -> str:
    """Why it is done: as it was given, or as they say when asked. Raises InputError `no-reason`."""
    if given.strip() or not is_somebody_there(session):
        return _said(given, what)
    try:
        return _said(typer.prompt("why", default="", show_default=False, err=True), what)
    except typer.Abort:
        session.say("")
        return _said("", what)


def _said(text: str, what: str) -> str:
    if not text.strip():
        raise InputError("no-reason", f"{what} needs a reason", help="say it with --why 'what it is for'")
    return text.strip()
