"""The accounts of the bus server and the keys that open them.

    FLEET   agents and the controller talk here; agents enter through the callout, the controller by its key
    SYS     the server itself: who is connected, and showing somebody the door

INVARIANT: the server's configuration holds public keys only. The seeds stay in one file with the controller.
Keys are Ed25519 in the form NATS calls nkeys (github.com/nats-io/nkeys).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec
import nkeys  # type: ignore[import-untyped]

from ringfence.core.errors import InputError, Location
from ringfence.durable import read_secret, write_secret

FLEET: Final = "FLEET"
SYSTEM: Final = "SYS"


class Seeds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the controller knows."""

    issuer: str
    """Signs what the callout answers."""
    controller: str
    system: str

    @property
    def public(self) -> PublicKeys:
        return PublicKeys(*(public_key(seed) for seed in (self.issuer, self.controller, self.system)))


class PublicKeys(msgspec.Struct, frozen=True):
    """What the server knows."""

    issuer: str
    controller: str
    system: str


def open_seeds(path: Path) -> Seeds:
    """The keys in the file; made, if there is none. Raises InputError `bus-keys-damaged`, `secret-exposed`."""
    content = read_secret(path)
    if content is not None:
        return _decoded(content, path)
    seeds = Seeds(_fresh(nkeys.PREFIX_BYTE_ACCOUNT), _fresh(nkeys.PREFIX_BYTE_USER), _fresh(nkeys.PREFIX_BYTE_USER))
    write_secret(path, msgspec.json.encode(seeds))
    return seeds


def public_key(seed: str) -> str:
    return str(nkeys.from_seed(bytearray(seed.encode())).public_key.decode())


def _fresh(prefix: int) -> str:
    return str(nkeys.encode_seed(os.urandom(32), prefix).decode())


def _decoded(content: bytes, path: Path) -> Seeds:
    try:
        seeds = msgspec.json.decode(content, type=Seeds)
        seeds.public  # noqa: B018  # every seed must be one
    except (msgspec.DecodeError, nkeys.NkeysError, ValueError) as error:
        raise InputError(
            "bus-keys-damaged",
            f"`{path}` does not hold the keys of the bus: {error}",
            help="restore it; without it, delete it and start again: agents come back by themselves",
            where=Location(str(path)),
        ) from error
    return seeds
