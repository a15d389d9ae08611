"""`ringfence token`: who may do what on a controller."""

from __future__ import annotations

from typing import Annotated

import typer

from ringfence.cli.consent import YesOption, confirm
from ringfence.cli.remote import fleet, in_time, say_time, show_token
from ringfence.cli.session import CLEAN, Session
from ringfence.cli.tables import Rows
from ringfence.client.client import Client
from ringfence.wire.api import Grant, Secret

app = typer.Typer(
    no_args_is_help=True,
    help="Who may do what on the controller.",
    epilog="Example: ringfence token grant ann --role author --scope app=shop",
)


@fleet(app, "grant", epilog="Example: ringfence token grant ann --role author --scope app=shop --for 90d")
def grant(
    session: Session,
    client: Client,
    name: Annotated[str, typer.Argument(help="Whose it is, as the audit log will say.")],
    role: Annotated[
        list[str],
        typer.Option("--role", help="viewer, author, approver, responder, guardrail or administrator."),
    ],
    scope: Annotated[str | None, typer.Option(metavar="SELECTOR", help="Confine changes to these workloads.")] = None,
    lasts: Annotated[str | None, typer.Option("--for", metavar="TIME", help="Until then; for good by default.")] = None,
) -> int:
    """Make a token and print it, once, alone on stdout."""
    token = client.grant(Grant(name, tuple(role), scope, in_time(lasts)))
    session.say("this token is shown now and never again")
    return show_token(session, Secret(token))


@fleet(app, "revoke", epilog="Example: ringfence token revoke 2ab004f4f984")
def revoke(
    session: Session,
    client: Client,
    id: Annotated[str, typer.Argument(help="The token's id, as `list` shows it.")],
    yes: YesOption = False,
) -> int:
    """A token is refused from now on."""
    held = {one.id: one for one in client.tokens()}.get(id)
    if held is not None and held.revoked_at is None:
        confirm(session, f"refuse the token of {held.name} from now on?", yes=yes)
    client.revoke_token(id)
    session.emit({"revoked": id}, f"token {id} is refused from now on")
    return CLEAN


@fleet(app, "list", epilog="Example: ringfence token list")
def list_(session: Session, client: Client) -> int:
    """Every token there is or was, without its secret."""
    found = client.tokens()
    table = Rows(("id", "name", "roles", "scope", "made", "by", "ends", "state"))
    for one in found:
        state = "revoked" if one.revoked_at else ""
        made, ends = say_time(one.created), say_time(one.expires)
        table.add(one.id, one.name, ",".join(one.roles), one.scope or "", made, one.created_by, ends, state)
    session.emit(found, table)
    return CLEAN
