"""Whom an invitation lets in, and for how long: little, unless somebody says more.

INVARIANT: a token without a limit of uses or of time is made only by the words `any` and `ever`, or for a profile that
has that limit itself. A profile's limits hold in any case: they are counted where a host joins.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from ringfence.cli.remote import parse_duration, say_time
from ringfence.cli.tables import count
from ringfence.core.errors import InputError
from ringfence.wire.api import Invite, ProfileView

_USES = 1
_LASTS = timedelta(hours=24)


def invitation_of(
    profile: str, uses: str | None, lasts: str | None, *, of: ProfileView | None, now: datetime
) -> Invite:
    """`of`: the profile as it is, if it is known. Raises InputError `bad-grant`, `bad-duration`."""
    has_uses, has_end = of is not None and of.uses_left is not None, of is not None and of.expires is not None
    limit = _uses(uses) if uses is not None else None if has_uses else _USES
    if lasts is None:
        return Invite(profile, limit, None if has_end else now + _LASTS)
    return Invite(profile, limit, None if lasts == "ever" else now + parse_duration(lasts))


def granted_words(asked: Invite, of: ProfileView | None) -> str:
    """What the token is good for, the profile's own limits among it."""
    uses = [n for n in (asked.uses, of.uses_left if of else None) if n is not None]
    ends = [at for at in (asked.expires, of.expires if of else None) if at is not None]
    hosts = count(min(uses), "host") if uses else "any number of hosts"
    until = (
        f"until {say_time(min(ends))}" if ends else "until it is revoked (`ringfence agent invitations --revoke ID`)"
    )
    return f"good for {hosts}, {until}; --uses and --for say otherwise, within the profile's own limits"


def _uses(text: str) -> int | None:
    if text == "any":
        return None
    if not text.isascii() or not text.isdigit() or not int(text):
        raise InputError("bad-grant", f"`{text}` uses are none", help="give 1 or more, or `any` for no limit")
    return int(text)
