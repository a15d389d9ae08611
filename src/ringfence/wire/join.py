"""How a host joins: the token, what it says to the controller, and what it is answered.

    rfj_<base64url of {where, whom to trust, which token, its secret}>      one word to paste

POST /v1/agents/enrol takes a `Request` with a token, POST /v1/agents/renew one that is signed with the key of the
certificate it is to replace; both answer an `Admission`.

INVARIANT: it names the CA by fingerprint, so that a host that joins talks to the right controller or to nobody.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated

import msgspec

from ringfence.core.errors import InputError
from ringfence.wire.messages import Interface

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


_Pem = Annotated[str, msgspec.Meta(max_length=16_384)]
_Word = Annotated[str, msgspec.Meta(max_length=1024)]


class Request(msgspec.Struct, frozen=True):
    """What a host says that joins, or that renews its certificate."""

    csr: _Pem
    """PEM."""
    token: _Word = ""
    """The join token. A renewal has none."""
    machine: _Word = ""
    """Digest of the machine's own identifiers."""
    hostname: _Word = ""
    interfaces: tuple[Interface, ...] = ()
    certificate: _Pem = ""
    """The one to be replaced, PEM: of a renewal."""
    signature: _Word = ""
    """Base64 of ECDSA with SHA-256, by the key of that certificate, over `renewal_of(csr)`."""


class Admission(msgspec.Struct, frozen=True):
    """What the controller answers to either."""

    workload: str
    certificate: str
    ca: str
    """Every root to trust, PEM."""
    message_keys: tuple[bytes, ...]
    nats: tuple[str, ...]
    trust_domain: str


def renewal_of(csr: str) -> bytes:
    """What the old key signs."""
    return b"ringfence renewal\n" + csr.strip().encode()


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
