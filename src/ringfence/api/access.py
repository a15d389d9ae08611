"""Tokens of people, pairing profiles, invitations."""

from __future__ import annotations

from litestar import Response, Router, delete, get, post
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK

from ringfence.api.common import After, Desk, Limit, Who, needs
from ringfence.api.conditional import IfMatch, is_meant
from ringfence.api.guards import ANYBODY
from ringfence.api.paging import Asked, at, listed
from ringfence.controller.access.access import Principal
from ringfence.wire.api import (
    Grant,
    InvitationView,
    Invite,
    Invited,
    Me,
    NewProfile,
    PowerView,
    ProfileView,
    Ranges,
    Secret,
    TokenView,
)


@get("/me", opt=needs(ANYBODY), summary="Who the token is taken for.")
async def me(who: Who) -> Me:
    return me_of(who)


def me_of(who: Principal) -> Me:
    """Somebody, as told to them."""
    powers = tuple(PowerView(roles, None if scope is None else str(scope)) for roles, scope in who.powers)
    return Me(who.name, who.roles, tuple(sorted(who.rights)), powers[0].scope, powers)


@get("/tokens", opt=needs("tokens"), summary="Every token, without its secret.")
async def tokens(
    desk: Desk, who: Who, request: Asked, after: After = "", limit: Limit = 1000
) -> Response[list[TokenView]]:
    found = await desk.granting.tokens(by=who)
    return listed(request, found, lambda one: at(one.created, one.id), after=after, limit=limit)


@post("/tokens", opt=needs("tokens"), summary="A token for somebody, told once.")
async def grant(desk: Desk, who: Who, data: JSONBody[Grant]) -> Secret:
    return Secret(await desk.granting.grant(data, by=who))


@delete("/tokens/{id:str}", opt=needs("tokens"), summary="A token is refused from now on.")
async def revoke(desk: Desk, who: Who, id: FromPath[str]) -> None:
    await desk.granting.revoke(id, by=who)


@get("/profiles", opt=needs("read"), summary="Pairing profiles: what hosts become that join.")
async def profiles(
    desk: Desk, who: Who, request: Asked, after: After = "", limit: Limit = 1000
) -> Response[list[ProfileView]]:
    return listed(request, await desk.granting.profiles(by=who), lambda one: one.name, after=after, limit=limit)


@post("/profiles", opt=needs("enrol"), summary="A new pairing profile.")
async def make_profile(desk: Desk, who: Who, data: JSONBody[NewProfile]) -> ProfileView:
    return await desk.granting.make_profile(data, by=who)


@get("/profiles/{name:str}", opt=needs("read"), summary="One pairing profile; its `ETag` goes with a change.")
async def profile(desk: Desk, who: Who, name: FromPath[str]) -> ProfileView:
    return await desk.granting.profile(name, by=who)


@post(
    "/profiles/{name:str}/ranges",
    opt=needs("enrol"),
    status_code=HTTP_200_OK,
    summary="Where its hosts may have addresses from now on.",
)
async def set_ranges(
    desk: Desk, who: Who, name: FromPath[str], data: JSONBody[Ranges], if_match: IfMatch = ""
) -> ProfileView:
    """What hosts hold, they keep; what they were refused is judged again at once."""
    changed = await desk.granting.set_ranges(name, data, by=who, is_meant=lambda known: is_meant(if_match, known))
    desk.leasing.reconsider()
    return changed


@get("/invitations", opt=needs("enrol"), summary="Join tokens, without their secrets.")
async def invitations(
    desk: Desk, who: Who, request: Asked, after: After = "", limit: Limit = 1000
) -> Response[list[InvitationView]]:
    found = await desk.granting.invitations(by=who)
    return listed(request, found, lambda one: at(one.created, one.id), after=after, limit=limit)


@post("/invitations", opt=needs("enrol"), summary="A join token, told once.")
async def invite(desk: Desk, who: Who, data: JSONBody[Invite]) -> Invited:
    return await desk.granting.invite(data, by=who)


@delete("/invitations/{id:str}", opt=needs("enrol"), summary="Nobody joins by it any more.")
async def disinvite(desk: Desk, who: Who, id: FromPath[str]) -> None:
    await desk.granting.disinvite(id, by=who)


ROUTES = Router(
    "/",
    route_handlers=[
        me, tokens, grant, revoke, profiles, profile, make_profile, set_ranges, invitations, invite, disinvite,
    ],
    tags=["access"],
)  # fmt: skip
