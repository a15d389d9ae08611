"""A sealed message: what it is, which protocol it is written in, and the controller's signature over both.

    seal(Assignment(...), key)   -> bytes
    Reader(trusted).open(bytes)  -> Assignment

INVARIANT: nothing is read before its signature is verified, and nothing is used that was not wholly understood: an
unknown kind, field or protocol is an error with a code (`message-not-understood`), never a part of the message. Fields
left at their default are not written, so a newer controller is understood by an older agent exactly when it says
nothing that agent does not know.

Ed25519 (RFC 8032) by libsodium; payloads above 1 KiB are deflated (RFC 1950).
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from typing import Final

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from ringfence.core.errors import InputError
from ringfence.wire.messages import DOWN, Down

PROTOCOL: Final = 1
"""Raised when a message changes its meaning; new fields with defaults do not raise it."""
MAX_BYTES: Final = 64 << 20
"""What a payload may inflate to."""
_DEFLATE_FROM = 1024
_KINDS: dict[str, type[Down]] = {kind.__name__: kind for kind in DOWN}


class Sealed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A message as it travels."""

    protocol: int
    kind: str
    key: str
    """Which of the controller's keys signed it."""
    is_deflated: bool
    payload: bytes
    signature: bytes


def key_id(key: VerifyKey) -> str:
    """The name a signing key goes by."""
    return hashlib.sha256(bytes(key)).hexdigest()[:16]


def seal(message: Down, key: SigningKey) -> bytes:
    """The message, signed."""
    kind, payload = type(message).__name__, msgspec.json.encode(message)
    is_deflated = len(payload) >= _DEFLATE_FROM
    if is_deflated:
        payload = zlib.compress(payload, 1)
    signature = key.sign(_signed(PROTOCOL, kind, is_deflated, payload)).signature
    return msgspec.msgpack.encode(Sealed(PROTOCOL, kind, key_id(key.verify_key), is_deflated, payload, signature))


class Reader:
    """Opens what one of the trusted keys sealed."""

    def __init__(self, trusted: Iterable[bytes]) -> None:
        """`trusted`: raw Ed25519 public keys."""
        keys = [VerifyKey(raw) for raw in trusted]
        self._keys = {key_id(key): key for key in keys}

    def open(self, data: bytes) -> Down:
        """The message. Raises InputError `message-malformed`, `message-forged`, `message-not-understood`."""
        try:
            sealed = msgspec.msgpack.decode(data, type=Sealed)
        except ValueError as error:
            raise InputError("message-malformed", f"a message cannot be read: {error}") from error
        self._verify(sealed)
        return _decoded(sealed)

    def _verify(self, sealed: Sealed) -> None:
        key = self._keys.get(sealed.key)
        if key is None:
            raise InputError("message-forged", f"a message is signed by `{sealed.key}`, a key nobody trusts here")
        try:
            key.verify(_signed(sealed.protocol, sealed.kind, sealed.is_deflated, sealed.payload), sealed.signature)
        except (BadSignatureError, ValueError) as error:
            raise InputError("message-forged", "the signature of a message does not fit it") from error


def _signed(protocol: int, kind: str, is_deflated: bool, payload: bytes) -> bytes:
    """What the signature is over: nothing of a message can be exchanged for a part of another."""
    return f"ringfence {protocol} {kind} {int(is_deflated)}\n".encode() + payload


def _decoded(sealed: Sealed) -> Down:
    kind = _KINDS.get(sealed.kind)
    if sealed.protocol != PROTOCOL or kind is None:
        raise _not_understood(f"a `{sealed.kind}` of protocol {sealed.protocol}")
    payload = _inflated(sealed.payload) if sealed.is_deflated else sealed.payload
    try:
        return msgspec.json.decode(payload, type=kind)
    except ValueError as error:
        raise _not_understood(f"a `{sealed.kind}`: {error}") from error


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        payload = inflater.decompress(data, MAX_BYTES)
    except zlib.error as error:
        raise InputError("message-malformed", f"a message cannot be inflated: {error}") from error
    if inflater.unconsumed_tail or not inflater.eof:
        raise InputError("message-malformed", "a message is longer than any may be, or ends early")
    return payload


def _not_understood(what: str) -> InputError:
    return InputError(
        "message-not-understood",
        f"the controller sent {what}",
        help="this agent keeps what it has; update the agent, or take back what it cannot know",
    )
