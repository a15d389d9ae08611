"""The keys that sign what the controller says, so that a bus in the middle cannot speak for it.

    keys = SigningKeys.open(path)
    envelope.seal(message, keys.current)        keys.trusted -> what an agent is given at enrolment and at renewal
    keys.announce() -> use_newest() -> retire()    rotation, each step when every agent has heard of the one before

INVARIANT: a key signs only after it was announced, so an agent that has the trusted list of any moment since the last
step understands what is signed now. The seeds are in one file, mode 0600, replaced whole.

Ed25519 (RFC 8032) by libsodium.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
from nacl.signing import SigningKey, VerifyKey

from ringfence.core.errors import InputError, Location
from ringfence.durable import read_secret, write_secret
from ringfence.wire.envelope import key_id

Stage = Literal["announced", "signing", "retiring"]
"""Trusted already, signing now, trusted still."""


class _Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    public: bytes
    stage: Stage
    seed: bytes = b""
    """None once it signs no more."""


class SigningKeys:
    """The keys of one controller."""

    def __init__(self, path: Path, keys: tuple[_Key, ...]) -> None:
        self._path = path
        self._keys = keys
        self._signer: SigningKey | None = None

    @classmethod
    def open(cls, path: Path) -> SigningKeys:
        """The keys in that file; made, if there is none. Raises InputError `signing-keys-damaged`, `secret-exposed`."""
        content = read_secret(path)
        if content is not None:
            return cls(path, _decoded(content, path))
        keys = cls(path, ())
        keys._store((_fresh("signing"),))
        return keys

    @property
    def current(self) -> SigningKey:
        """The one that signs. Made once: every message asks for it."""
        if self._signer is None or bytes(self._signer) != self._signing.seed:
            self._signer = SigningKey(self._signing.seed)
        return self._signer

    @property
    def trusted(self) -> tuple[bytes, ...]:
        """Raw public keys, for `envelope.Reader`. The signing one first."""
        rest = (key.public for key in self._keys if key.stage != "signing")
        return (self._signing.public, *rest)

    def announce(self) -> str:
        """Make a key that is trusted but does not sign yet. Returns its id."""
        key = _fresh("announced")
        self._store((*self._keys, key))
        return key_id(VerifyKey(key.public))

    def use_newest(self) -> None:
        """Sign with the announced key; the one before stays trusted. Raises InputError `no-key-announced`."""
        *before, newest = self._keys
        if newest.stage != "announced":
            raise InputError("no-key-announced", "there is no new key to sign with", help="announce one first")
        retiring = (_Key(key.public, "retiring") for key in before)
        self._store((*retiring, _Key(newest.public, "signing", newest.seed)))

    def retire(self, id: str) -> None:
        """Trust a key no longer. Raises InputError `key-in-use` for the one that signs, `key-unknown`."""
        found = [key for key in self._keys if key_id(VerifyKey(key.public)) == id]
        if not found:
            raise InputError("key-unknown", f"no key is called `{id}`")
        if found[0].stage == "signing":
            raise InputError("key-in-use", "the key signs messages", help="use a newer key first")
        self._store(tuple(key for key in self._keys if key is not found[0]))

    @property
    def _signing(self) -> _Key:
        return next(key for key in self._keys if key.stage == "signing")

    def _store(self, keys: tuple[_Key, ...]) -> None:
        write_secret(self._path, msgspec.json.encode(keys))
        self._keys = keys


def _fresh(stage: Stage) -> _Key:
    key = SigningKey.generate()
    return _Key(bytes(key.verify_key), stage, bytes(key))


def _decoded(content: bytes, path: Path) -> tuple[_Key, ...]:
    try:
        keys = msgspec.json.decode(content, type=tuple[_Key, ...])
        _check(keys)
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise InputError(
            "signing-keys-damaged",
            f"`{path}` does not hold signing keys: {error}",
            help="restore it from a backup; with a new one every agent must enrol again",
            where=Location(str(path)),
        ) from error
    return keys


def _check(keys: tuple[_Key, ...]) -> None:
    if [key.stage for key in keys].count("signing") != 1:
        raise ValueError("not exactly one of them signs")
    for key in keys:
        if key.stage != "retiring" and bytes(SigningKey(key.seed).verify_key) != key.public:
            raise ValueError("a seed is not of its key")
        VerifyKey(key.public)
