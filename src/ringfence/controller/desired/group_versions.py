"""Groups of addresses as hosts know them: each at a version, with a digest that follows single addresses."""

from __future__ import annotations

import hashlib

from ringfence.core.intent.compile import Networks
from ringfence.core.intent.membership import Change as Moves
from ringfence.wire.messages import GroupChange

GroupId = tuple[Networks, str]
_MODULUS = 1 << 128


class GroupVersion:
    """A group as hosts know it: its version, and a digest (a sum over addresses) that follows single ones."""

    __slots__ = ("addresses", "total", "version")

    def __init__(self, addresses: tuple[int, ...], version: int) -> None:
        self.addresses, self.version = addresses, version
        self.total = sum(map(_hash, addresses)) % _MODULUS

    def change(self, moves: Moves, addresses: tuple[int, ...], version: int) -> None:
        added, removed = (sum(map(_hash, some)) for some in moves)
        self.total = (self.total + added - removed) % _MODULUS
        self.addresses, self.version = addresses, version

    @property
    def digest(self) -> str:
        return f"{self.total:032x}"


def difference(group_id: GroupId, old: GroupVersion, new: GroupVersion) -> GroupChange:
    before, after = set(old.addresses), set(new.addresses)
    return GroupChange(
        group_id[1], old.version, new.version, tuple(sorted(after - before)), tuple(sorted(before - after))
    )


def _hash(address: int) -> int:
    return int.from_bytes(hashlib.blake2b(address.to_bytes(16, "big"), digest_size=16).digest(), "big")
