"""An evidence bundle in parts that fit into kept messages, and whole again.

    split(bundle, id)  -> messages          join(parts) -> the bundle, once all of them are there

INVARIANT: a bundle is whole or absent: every part says how many there are and the digest of all of them together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from ringfence.core.errors import InputError

PART_BYTES: Final = 768 << 10
MAX_PARTS: Final = 256


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One part of a bundle, as it travels (MessagePack)."""

    id: str
    """Of the bundle: the order that asked for it."""
    number: int
    """From 0."""
    count: int
    digest: str
    """SHA-256 of the whole bundle, in hex."""
    data: bytes


def split(bundle: bytes, id: str) -> Iterator[bytes]:
    """Raises InputError `evidence-too-large`."""
    pieces = [bundle[at : at + PART_BYTES] for at in range(0, max(len(bundle), 1), PART_BYTES)]
    if len(pieces) > MAX_PARTS:
        raise InputError("evidence-too-large", f"a bundle of {len(bundle)} bytes", help="ask for less at once")
    digest = hashlib.sha256(bundle).hexdigest()
    for number, data in enumerate(pieces):
        yield msgspec.msgpack.encode(Part(id, number, len(pieces), digest, data))


def read_part(data: bytes) -> Part:
    """Raises InputError `message-malformed`."""
    try:
        part = msgspec.msgpack.decode(data, type=Part)
    except ValueError as error:
        raise InputError("message-malformed", f"a part of evidence cannot be read: {error}") from error
    if not 0 <= part.number < part.count <= MAX_PARTS or len(part.data) > PART_BYTES:
        raise InputError("message-malformed", "a part of evidence is of no bundle there could be")
    return part


def join(parts: Iterable[Part]) -> bytes | None:
    """The bundle; None while a part is missing. Raises InputError `message-malformed` for parts of several bundles."""
    by_number = {part.number: part for part in parts}
    if len({(part.id, part.count, part.digest) for part in by_number.values()}) > 1:
        raise InputError("message-malformed", "the parts are of several bundles")
    if not by_number or len(by_number) < next(iter(by_number.values())).count:
        return None
    bundle = b"".join(by_number[number].data for number in sorted(by_number))
    if hashlib.sha256(bundle).hexdigest() != by_number[0].digest:
        raise InputError("message-malformed", "the parts do not make the bundle they say")
    return bundle
