"""Elements as bytes: peers and rulings of an intent -> keys and values in the kernel's own order.

INVARIANT: an address goes to the family whose packets carry it; a range that spans both families is split, and no IPv6
element lies inside `::ffff:0:0/96` (packets with such addresses do not pass the IPv6 stack).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

import numpy as np

from ringfence.core.intent.model import PeerClass
from ringfence.core.net.address import LAST, V4_BASE, V4_LAST
from ringfence.core.net.intervals import IntervalSet
from ringfence.targets.nftables.layout import Bytes2D, Hash, Interval, hash_of, sorted_hash
from ringfence.targets.nftables.marks import CODES
from ringfence.targets.nftables.services import Ruling
from ringfence.targets.nftables.statements import Family

_V4_PREFIX = np.frombuffer(V4_BASE.to_bytes(16, "big")[:12], np.uint8)
_SPACES: dict[Family, tuple[IntervalSet, int]] = {
    "ip": (IntervalSet(((V4_BASE, V4_LAST),)), V4_BASE),
    "ip6": (IntervalSet(((0, V4_BASE - 1), (V4_LAST + 1, LAST))), 0),
}
COMMENT_BYTES = 120
"""nft shows comments of up to 128 bytes (NFTNL_UDATA_COMMENT_MAXLEN)."""


def comment_of(text: str) -> str:
    """Text as a comment in the kernel: printable, without quotes, cut to what nft can show (it is never compared as
    policy).
    """
    clean = "".join(c if c.isprintable() and c not in '"\\' else "'" for c in text)
    raw = clean.encode()
    return clean if len(raw) <= COMMENT_BYTES else raw[: COMMENT_BYTES - 2].decode(errors="ignore") + ".."


def addresses(values: Iterable[int]) -> dict[Family, np.ndarray[tuple[int, int], np.dtype[np.uint8]]]:
    """Addresses as key bytes, by family."""
    raw = b"".join(address.to_bytes(16, "big") for address in values)
    matrix = np.frombuffer(raw, np.uint8).reshape(-1, 16)
    is_v4 = (matrix[:, :12] == _V4_PREFIX).all(axis=1)
    return {"ip": np.ascontiguousarray(matrix[is_v4, 12:]), "ip6": np.ascontiguousarray(matrix[~is_v4])}


def exact_peers(peers: Iterable[PeerClass]) -> dict[Family, Hash]:
    """Address -> class, by family."""
    v4, v6 = list[tuple[int, list[int]]](), list[tuple[int, list[int]]]()
    for peer in peers:
        v4.append((peer.id, [a for a in peer.addresses if V4_BASE <= a <= V4_LAST]))
        v6.append((peer.id, [a for a in peer.addresses if not V4_BASE <= a <= V4_LAST]))
    short = np.array([a for _, members in v4 for a in members], np.uint64) - np.uint64(V4_BASE)
    long = b"".join([a.to_bytes(16, "big") for _, members in v6 for a in members])
    keys = short.astype(">u4").view(np.uint8).reshape(-1, 4), np.frombuffer(long, np.uint8).reshape(-1, 16)
    return {"ip": sorted_hash(keys[0], _classes(v4)), "ip6": sorted_hash(keys[1], _classes(v6))}


def _classes(members: list[tuple[int, list[int]]]) -> Bytes2D:
    """The class of each member, as a value."""
    numbers = np.array([number for number, _ in members], np.uint32)
    return np.repeat(numbers, [len(some) for _, some in members]).view(np.uint8).reshape(-1, 4)


def range_peers(peers: Iterable[PeerClass]) -> dict[Family, tuple[Interval, ...]]:
    """Range -> class, by family, in family-local integers."""
    found: dict[Family, list[Interval]] = {"ip": [], "ip6": []}
    for peer in peers:
        for lo, hi in peer.ranges:
            if hi < V4_BASE or lo > V4_LAST:
                found["ip6"].append(Interval(lo, hi, peer.id))
            elif lo >= V4_BASE and hi <= V4_LAST:
                found["ip"].append(Interval(lo - V4_BASE, hi - V4_BASE, peer.id))
            else:
                for family in found:
                    found[family] += _localised([(IntervalSet(((lo, hi),)), peer.id)], family)
    return {family: tuple(sorted(intervals, key=lambda i: i.lo)) for family, intervals in found.items()}


def address_set(remote: IntervalSet) -> dict[Family, tuple[Interval, ...]]:
    return {family: _localised([(remote, None)], family) for family in _SPACES}


def _localised(ranges: Iterable[tuple[IntervalSet, int | str | None]], family: Family) -> tuple[Interval, ...]:
    space, base = _SPACES[family]
    found = [Interval(lo - base, hi - base, value) for addresses_, value in ranges for lo, hi in addresses_ & space]
    return tuple(sorted(found, key=lambda interval: interval.lo))


def address_map(regions: Iterable[tuple[IntervalSet, str]]) -> dict[Family, tuple[Interval, ...]]:
    """Address region -> chain, by family."""
    regions = tuple(regions)
    return {family: _localised(regions, family) for family in _SPACES}


def service_key(peer: int, protocol: int, port: int) -> bytes:
    """(class, protocol, port) as a concatenation: every field padded to four bytes."""
    return struct.pack("=IB3x", peer, protocol) + struct.pack("!H2x", port)


def exact_rulings(exact: Mapping[tuple[int, int, int], Ruling]) -> Hash:
    return hash_of(
        [service_key(*key) for key in exact],
        [struct.pack("=I", CODES[ruling.action]) for ruling in exact.values()],
        12,
        [comment_of(ruling.rule) for ruling in exact.values()],
    )


def class_rulings(rulings: Mapping[int, Ruling]) -> Hash:
    return hash_of(
        [struct.pack("=I", peer) for peer in rulings],
        [struct.pack("=I", CODES[ruling.action]) for ruling in rulings.values()],
        4,
        [comment_of(ruling.rule) for ruling in rulings.values()],
    )


def labelled(texts: Mapping[int, str]) -> Hash:
    """Numbers with words, for people: a set nothing looks up."""
    return hash_of(
        [struct.pack("=I", n) for n in texts], [b""] * len(texts), 4, [comment_of(t) for t in texts.values()]
    )
