"""`ringfence quarantine` and `release`: containment, verified on the hosts."""

from __future__ import annotations

import time
from typing import Annotated, cast

import msgspec
import typer

from ringfence.cli.consent import WhyOption, YesOption, confirm, is_somebody_there, reason
from ringfence.cli.fleet_words import contained_words, forwarding_words, hit_words, released_words, replaced_words
from ringfence.cli.remote import WorkloadsArgument, fleet, parse_duration
from ringfence.cli.session import CLEAN, FINDINGS, Session
from ringfence.cli.tables import count
from ringfence.client.client import Client
from ringfence.core.errors import InputError, RingfenceError
from ringfence.core.identity.workload import Direction
from ringfence.ports.state import WrittenException
from ringfence.wire.api import Contain, ContainedView, Release

_POLL_S = 0.2
_WAIT_S = 20.0


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    example = "ringfence quarantine web-1 --why 'beacons to 203.0.113.9' --allow 'role=forensics tcp/22 in' --for 8h"
    fleet(app, "quarantine", epilog=f"Example: {example}")(quarantine)
    fleet(app, "release", epilog="Example: ringfence release web-1 --why 'rebuilt from its image'")(release)


def quarantine(
    session: Session,
    client: Client,
    workloads: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORKLOAD]...", help="Names, UUIDs or selectors; none: those there are are listed."),
    ] = None,
    why: WhyOption = "",
    level: Annotated[str, typer.Option(help="What passes: isolate, forensics or patch.")] = "isolate",
    allow: Annotated[
        list[str] | None, typer.Option(metavar="'PEER SERVICE in|out'", help="What passes besides.")
    ] = None,
    lasts: Annotated[str | None, typer.Option("--for", metavar="TIME", help="It ends by itself then.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where a quarantine in force becomes shorter or weaker by it.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is verified, or 20 s.")] = True,
    plan: Annotated[bool, typer.Option("--plan", help="Show whom it would hit, change nothing.")] = False,
    yes: YesOption = False,
) -> int:
    """Isolate workloads, now, on themselves and on every peer; whatever the policies say.

    Workloads that are named are isolated without a question. A selector that picks several says how many, and asks, or
    needs --yes. One that is in quarantine already is isolated anew; what would end earlier or let more pass is asked
    about, or needs --replace: --yes does not answer that. Exit 1 while one is not verified: read back on the host
    itself and on every peer. Who is unreachable is named.
    """
    if workloads:
        for_s = int(parse_duration(lasts).total_seconds()) if lasts else None
        asked = Contain(tuple(workloads), why, level, tuple(map(_exception, allow or ())), for_s, replace)
        if plan:
            hit = client.plan_quarantine(asked)
            session.emit(hit, *hit_words(hit))
            return CLEAN
        asked = msgspec.structs.replace(asked, why=reason(session, why, "a quarantine"))
        _ask_about_many(session, client, asked, yes=yes)
        begun = _begun(session, client, asked)
        for line in replaced_words([old for one in begun for old in one.replaces]):
            session.say(line)
        found = _verified(client, begun, wait_s=_WAIT_S if wait else 0.0)
    else:
        found = client.quarantines()
    words = [contained_words(found), *forwarding_words(found)] if found else ["nobody is in quarantine"]
    session.emit(found, *words)
    return CLEAN if all(one.is_verified for one in found) else FINDINGS


def _begun(session: Session, client: Client, asked: Contain) -> list[ContainedView]:
    """Isolated; who would weaken what is in force says that they mean it. Raises InputError `weaker-than`,
    `not-confirmed`."""
    try:
        return client.quarantine(asked)
    except RingfenceError as error:
        if error.code != "weaker-than" or not is_somebody_there(session):
            raise
    hit = client.plan_quarantine(asked)
    for line in replaced_words(hit.replaces):
        session.say(line)
    confirm(session, f"weaken {count(hit.weakened, 'quarantine')} in force?", yes=False)
    return client.quarantine(msgspec.structs.replace(asked, replace=True))


def _ask_about_many(session: Session, client: Client, asked: Contain, *, yes: bool) -> None:
    """Who writes a selector may hit more than they think. Raises InputError `not-confirmed`."""
    if yes or not any(sign in word for word in asked.workloads for sign in "=!,( "):
        return  # hosts by name: nothing is asked of anybody that could fail
    hit = client.plan_quarantine(asked)
    if hit.total > len(asked.workloads):
        for line in hit_words(hit):
            session.say(line)
        confirm(session, f"isolate {count(hit.total, 'workload')}?", yes=False)


def _verified(client: Client, found: list[ContainedView], *, wait_s: float) -> list[ContainedView]:
    """The same quarantines, once all that are heard read them back, or time is up."""
    replaces, end = {one.id: one.replaces for one in found}, time.monotonic() + wait_s
    while any(one.state == "pending" for one in found) and time.monotonic() < end:
        time.sleep(_POLL_S)
        now = [one for one in client.quarantines() if one.id in replaces]
        found = [msgspec.structs.replace(one, replaces=replaces[one.id]) for one in now]
    return found


def _exception(text: str) -> WrittenException:
    """Raises InputError `bad-exception`."""
    words = text.rsplit(maxsplit=2)
    if len(words) != 3 or words[2] not in ("in", "out"):
        help_ = "write it like 'role=forensics tcp/22 in'"
        raise InputError("bad-exception", f"`{text}` cannot be excepted", help=help_)
    return WrittenException(words[0], words[1], cast("Direction", words[2]))


def release(
    session: Session, client: Client, workloads: WorkloadsArgument, why: WhyOption = "", yes: YesOption = False
) -> int:
    """End the quarantine of workloads: from then on policies and modes say what passes."""
    hit = client.plan_quarantine(Contain(tuple(workloads), ""))
    isolated = [one for one in hit.workloads if one.is_isolated]
    if isolated:
        names = {one.name for one in isolated}
        session.say(released_words([one for one in client.quarantines() if one.name in names]))
        why = reason(session, why, "the end of a quarantine")
        more = " or more" if len(isolated) == len(hit.workloads) < hit.total else ""
        confirm(session, f"release {count(len(isolated), 'workload')}{more}?", yes=yes)
    released = client.release(Release(tuple(workloads), why))
    session.emit({"released": released}, f"{count(released, 'quarantine')} ended")
    return CLEAN
