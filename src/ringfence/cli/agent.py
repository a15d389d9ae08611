"""`ringfence agent`: hosts invited, listed and retired; and this host's own agent, as `ringfence-agent` does it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import typer

from ringfence.cli.consent import WhyOption, YesOption, confirm, reason
from ringfence.cli.fleet_words import WRONG_STATES, workloads_table
from ringfence.cli.inviting import granted_words, invitation_of
from ringfence.cli.remote import fleet, in_time, parse_labels, say_labels, say_time, show_token
from ringfence.cli.session import CLEAN, FINDINGS, Session, command
from ringfence.cli.status import tell_workload
from ringfence.cli.tables import Rows, count
from ringfence.client.client import Client
from ringfence.core.identity.workload import Mode, parse_mode_name
from ringfence.wire.api import NewProfile, Ranges

app = typer.Typer(
    no_args_is_help=True,
    help="Hosts: invited, listed, retired; and the agent of this one.",
    epilog="Example: ringfence agent invite web --uses 20 --for 24h",
)
NameArgument = Annotated[str, typer.Argument(metavar="WORKLOAD", help="Its name or UUID.")]
UsesOption = Annotated[int | None, typer.Option(min=1, help="So many hosts at most.", show_default="no limit")]
ForOption = Annotated[
    str | None,
    typer.Option("--for", metavar="TIME", help="Good for so long, as in 24h or 7d.", show_default="until revoked"),
]


@fleet(app, "profile", epilog="Example: ringfence agent profile web --label app=shop --label role=web")
def profile(
    session: Session,
    client: Client,
    name: Annotated[
        str | None, typer.Argument(help="A new profile, or one there is; without it those there are are listed.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="What its hosts are.")] = None,
    mode: Annotated[str, typer.Option(help="How its hosts begin: observe, selective or enforce.")] = "observe",
    uses: UsesOption = None,
    lasts: ForOption = None,
    range_: Annotated[
        list[str] | None,
        typer.Option(
            "--range",
            metavar="CIDR",
            help="Where its hosts may have addresses, all of it; private ranges if not said. Of a profile there is:"
            " from now on.",
        ),
    ] = None,
) -> int:
    """Make a pairing profile: what hosts become that join by its tokens. Of one there is, show it or set its --range.

    Addresses that hosts hold stay theirs; what they were refused is judged again at once.
    """
    is_new = bool(label or uses or lasts) or mode != "observe"
    known = [] if is_new else [one for one in client.profiles() if name in (None, one.name)]
    if name is None:
        found = known
    elif known:
        found = [client.set_ranges(name, Ranges(tuple(range_)))] if range_ else known
    else:
        asked = NewProfile(
            name, parse_labels(label or ()), Mode.both(parse_mode_name(mode)), uses, in_time(lasts), tuple(range_ or ())
        )
        found = [client.make_profile(asked)]
    table = Rows(("profile", "labels", "in", "out", "uses left", "ends", "by", "addresses in"))
    for one in found:
        left = "" if one.uses_left is None else str(one.uses_left)
        modes = (one.mode.inbound, one.mode.outbound)
        ends, ranges = say_time(one.expires), " ".join(one.ranges)
        table.add(one.name, say_labels(one.labels), *modes, left, ends, one.created_by, ranges)
    session.emit(found, table)
    return CLEAN


@fleet(app, "invite", epilog="Example: ringfence agent invite web --uses 20 --for 24h")
def invite(
    session: Session,
    client: Client,
    profile: Annotated[str, typer.Argument(help="What hosts become that join by it.")],
    uses: Annotated[
        str | None,
        typer.Option(metavar="N|any", help="So many hosts at most.", show_default="1, or what the profile limits"),
    ] = None,
    lasts: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TIME|ever",
            help="Good for so long, as in 24h or 7d; ever: until revoked.",
            show_default="24h, or as long as the profile",
        ),
    ] = None,
) -> int:
    """Make a join token and print it, once, alone on stdout.

    It lets one host in, within a day, unless the profile has limits of its own or you say otherwise: an image for many
    hosts wants --uses 200 --for 7d. The profile's limits hold whatever is said here.
    """
    made = client.invite(invitation_of(profile, uses, lasts, now=datetime.now(UTC)))
    session.say(granted_words(made))
    session.say("on each host:  ringfence-agent enrol --token TOKEN  &&  systemctl enable --now ringfence-agent")
    return show_token(session, made)


@fleet(app, "invitations", epilog="Example: ringfence agent invitations")
def invitations(
    session: Session,
    client: Client,
    revoke: Annotated[str | None, typer.Option(metavar="ID", help="Nobody joins by that one any more.")] = None,
    yes: YesOption = False,
) -> int:
    """Join tokens there are or were, without their secrets."""
    if revoke is not None:
        confirm(session, f"end the invitation {revoke} for good?", yes=yes)
        client.disinvite(revoke)
    found = client.invitations()
    table = Rows(("id", "profile", "made", "by", "uses left", "ends", "state"))
    for one in found:
        left = "" if one.uses_left is None else str(one.uses_left)
        state = "revoked" if one.revoked_at else ""
        table.add(one.id, one.profile, say_time(one.created), one.created_by, left, say_time(one.expires), state)
    session.emit(found, table)
    return CLEAN


@fleet(app, "list", epilog="Example: ringfence agent list --selector env=prod")
def list_(
    session: Session,
    client: Client,
    selector: Annotated[str, typer.Option(metavar="SELECTOR", help="Only these.")] = "",
) -> int:
    """Every host with an agent, and what was read back there. Exit 1 when one is not as it should be."""
    found = list(client.workloads(selector, agents=True))
    session.emit(found, workloads_table(found), count(len(found), "agent"))
    return FINDINGS if any(one.state in WRONG_STATES for one in found) else CLEAN


@fleet(app, "show", epilog="Example: ringfence agent show web-1")
def show(session: Session, client: Client, workload: NameArgument) -> int:
    """One workload: what was read back there, its addresses, and those it claims and does not get.

    Exit 1 when it is not as it should be.
    """
    return tell_workload(session, client, workload)


@fleet(app, "revoke", epilog="Example: ringfence agent revoke web-1 --why 'its disk was stolen'")
def revoke(
    session: Session, client: Client, workload: NameArgument, why: WhyOption = "", yes: YesOption = False
) -> int:
    """A host may not speak to the controller any more. It keeps its last policy; its addresses stay its own."""
    found = client.workload(workload)
    why = reason(session, why, "revoking a host")
    confirm(session, f"refuse {found.name} from now on? It can only come back by enrolling anew", yes=yes)
    ended = client.revoke(workload, why)
    session.emit(
        {"revoked": workload, "connections": ended}, f"{workload} is refused; {count(ended, 'connection')} ended"
    )
    return CLEAN


@fleet(app, "retire", epilog="Example: ringfence agent retire web-1 --why 'replaced by web-2'")
def retire(
    session: Session, client: Client, workload: NameArgument, why: WhyOption = "", yes: YesOption = False
) -> int:
    """A host is gone for good: what others allow it is withdrawn, and its certificate is refused."""
    found = client.workload(workload)
    if found.state not in ("unreachable", "unmanaged"):
        session.warn(f"{found.name} is heard: its agent runs, and is refused from then on")
    why = reason(session, why, "retiring a workload")
    confirm(session, f"forget {found.name} ({say_labels(found.labels)}) for good?", yes=yes)
    client.retire(workload, why)
    session.emit({"retired": workload}, f"{workload} is gone")
    return CLEAN


# ---- this host ------------------------------------------------------------------------------------------------------

HERE = {
    "enrol": ("Join a controller with a token it made (root).", "--token rfj_..."),
    "run": ("Enforce, observe and tell until stopped; the rules stay (root).", ""),
    "status": ("What is enforced on this host, and how it is known.", ""),
    "preflight": ("What to know before this host enforces anything.", ""),
    "disable": (
        "Break-glass: observe only, for a while; told and audited (root).",
        "--for 30m --why 'ticket 4711'",
    ),
    "enable": ("End a break-glass before its time (root).", ""),
    "uninstall": ("End the agent on this host (root).", "--leave open"),
}
"""Commands of `ringfence-agent`, with an example's options."""
WordsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[OPTION]...", help="As `ringfence-agent COMMAND --help` tells them.")
]


def _here(name: str) -> Callable[..., int]:
    def run(session: Session, words: WordsArgument = None) -> int:
        from ringfence.cli import here

        return here.tell(session, name, words or []) if session.is_json else here.ask(name, words or [])

    run.__doc__ = HERE[name][0]
    return run


for _name, (_, _options) in HERE.items():
    command(
        app,
        _name,
        context_settings={"ignore_unknown_options": True},
        epilog=f"Example: sudo ringfence agent {_name} {_options}".rstrip(),
    )(_here(_name))
