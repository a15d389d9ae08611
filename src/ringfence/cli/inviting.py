"""Whom an invitation is to let in and for how long, in words and out of words.

INVARIANT: a token without a limit of uses or of time is asked for only by the words `any` and `ever`. What is not said
is not sent: the controller makes little of it.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import UNSET

from ringfence.cli.remote import parse_duration, say_time
from ringfence.cli.tables import count
from ringfence.core.errors import InputError
from ringfence.wire.api import Invite, Invited


def invitation_of(profile: str, uses: str | None, lasts: str | None, *, now: datetime) -> Invite:
    """Raises InputError `bad-grant`, `bad-duration`."""
    until = UNSET if lasts is None else None if lasts == "ever" else now + parse_duration(lasts)
    return Invite(profile, UNSET if uses is None else _uses(uses), until)


def granted_words(made: Invited) -> str:
    """What the token is good for."""
    hosts = count(made.uses, "host") if made.uses else "any number of hosts"
    revoked = "until it is revoked (`ringfence agent invitations --revoke ID`)"
    until = f"until {say_time(made.expires)}" if made.expires else revoked
    return f"good for {hosts}, {until}; --uses and --for say otherwise, within the profile's own limits"


def _uses(text: str) -> int | None:
    if text == "any":
        return None
    if not text.isascii() or not text.isdigit() or not int(text):
        raise InputError("bad-grant", f"`{text}` uses are none", help="give 1 or more, or `any` for no limit")
    return int(text)
