"""A join token: all a new host needs to find its controller, know it, and be let in. One word to paste.

    rfj_<base64url of {where, whom to trust, which token, its secret}>

INVARIANT: it names the CA by fingerprint, so that a host that joins talks to the right controller or to nobody.
"""

from __future__ import annotations

import base64
import binascii
import re

import msgspec

from ringfence.core.errors import InputError

PREFIX = "rfj_"
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class Join(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a join token says."""

    url: str
    """Of the controller's API, https."""
    ca: str
    """SHA-256 of the CA certificate (DER), in hex."""
    id: str
    secret: str

    @property
    def token(self) -> str:
        return PREFIX + base64.urlsafe_b64encode(msgspec.msgpack.encode(self)).rstrip(b"=").decode()


def parse_join(token: str) -> Join:
    """Raises InputError `bad-token`."""
    text = token.strip()
    body = text.removeprefix(PREFIX)
    try:
        if body == text:
            raise ValueError("it does not begin with the prefix")
        join = msgspec.msgpack.decode(base64.b64decode(body + "=" * (-len(body) % 4), b"-_", validate=True), type=Join)
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise _bad("is no join token, or a part of one") from error
    if not join.url.startswith("https://") or not _FINGERPRINT.fullmatch(join.ca):
        raise _bad("names no controller that could be trusted")
    return join


def _bad(why: str) -> InputError:
    return InputError("bad-token", f"the token {why}", help="copy the whole of it, from `rfj_` to the end")
