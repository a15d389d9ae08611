"""`ringfence quarantine` and `release`: containment, verified on the hosts."""

from __future__ import annotations

import time
from typing import Annotated, cast

import typer

from ringfence.cli.fleet_words import contained_words
from ringfence.cli.remote import WhyOption, WorkloadsArgument, fleet, parse_duration
from ringfence.cli.session import CLEAN, FINDINGS, Session
from ringfence.cli.tables import count
from ringfence.client.client import Client
from ringfence.core.errors import InputError
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
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is verified, or 20 s.")] = True,
) -> int:
    """Isolate workloads, now, on themselves and on every peer; whatever the policies say.

    Exit 1 while one is not verified: read back on the host itself and on every peer. Who is unreachable is named.
    """
    if workloads:
        for_s = int(parse_duration(lasts).total_seconds()) if lasts else None
        asked = Contain(tuple(workloads), why, level, tuple(map(_exception, allow or ())), for_s)
        found = _verified(client, client.quarantine(asked), wait_s=_WAIT_S if wait else 0.0)
    else:
        found = client.quarantines()
    session.emit(found, contained_words(found) if found else "nobody is in quarantine")
    return CLEAN if all(one.is_verified for one in found) else FINDINGS


def _verified(client: Client, found: list[ContainedView], *, wait_s: float) -> list[ContainedView]:
    """The same quarantines, once all that are heard read them back, or time is up."""
    ids, end = {one.id for one in found}, time.monotonic() + wait_s
    while any(one.state == "pending" for one in found) and time.monotonic() < end:
        time.sleep(_POLL_S)
        found = [one for one in client.quarantines() if one.id in ids]
    return found


def _exception(text: str) -> WrittenException:
    """Raises InputError `bad-exception`."""
    words = text.rsplit(maxsplit=2)
    if len(words) != 3 or words[2] not in ("in", "out"):
        help_ = "write it like 'role=forensics tcp/22 in'"
        raise InputError("bad-exception", f"`{text}` cannot be excepted", help=help_)
    return WrittenException(words[0], words[1], cast("Direction", words[2]))


def release(session: Session, client: Client, workloads: WorkloadsArgument, why: WhyOption = "") -> int:
    """End the quarantine of workloads."""
    released = client.release(Release(tuple(workloads), why))
    session.emit({"released": released}, f"{count(released, 'quarantine')} ended")
    return CLEAN
