"""What the kernel holds for us, as values: one table with its counters, sets, chains and elements.

A `Layout` is both what `render` wants and what `observe` found; `plan` is their difference.

INVARIANT: element arrays are sorted by key bytes without duplicates; intervals are sorted and disjoint. Two layouts
that mean the same are equal part by part. Chains of a layout call each other without a cycle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from ringfence.targets.nftables.expressions import Expression
from ringfence.targets.nftables.services import Services

TABLE = "ringfence"
PRIORITY = -5
"""After destination NAT (-100), before `filter` (0): the addresses judged are those the host itself sees."""

Bytes2D = npt.NDArray[np.uint8]
Policy = Literal["accept", "drop"]


class Field(NamedTuple):
    """One key or value type: nft's number for it (datatype.h), its size in bytes, whether it is big-endian."""

    name: str
    number: int
    length: int
    is_big_endian: bool

    @property
    def padded(self) -> int:
        """Its size inside a concatenation."""
        return (self.length + 3) & ~3


NFPROTO = Field("nf_proto", 2, 1, False)
IPV4 = Field("ipv4_addr", 7, 4, True)
IPV6 = Field("ipv6_addr", 8, 16, True)
PROTOCOL = Field("inet_proto", 12, 1, False)
PORT = Field("inet_service", 13, 2, True)
ICMP_TYPE = Field("icmp_type", 14, 1, True)
MARK = Field("mark", 19, 4, False)
CLASS = Field("classid", 23, 4, False)
ICMPV6_TYPE = Field("icmpv6_type", 29, 1, True)
VERDICT_TYPE, VERDICT_LENGTH = 0xFFFFFF00, 16

Data = Literal["none", "class", "verdict"]


class SetSpec(msgspec.Struct, frozen=True):
    """A set or map. `comment` is for people and is compared like the rest."""

    name: str
    key: tuple[Field, ...]
    data: Data = "none"
    is_interval: bool = False
    is_counted: bool = False
    has_timeout: bool = False
    """Its elements come and go by the clock (`timers`): they are no part of what is compared."""
    comment: str = ""
    strange: tuple[str, ...] = ()
    """What it or its elements have that this target never makes: statements other than a counter, a catch-all."""

    @property
    def key_length(self) -> int:
        return self.key[0].length if len(self.key) == 1 else sum(f.padded for f in self.key)


class Hash(msgspec.Struct, frozen=True, eq=False):
    """Elements looked up whole: `keys` is (n, key length), `values` (n, 4) or (n, 0), `comments` empty or n."""

    keys: Bytes2D
    values: Bytes2D
    comments: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)


class Interval(NamedTuple):
    """An inclusive range of keys as integers, and what it holds: a class, a chain to go to, or nothing."""

    lo: int
    hi: int
    value: int | str | None = None


Elements = Hash | tuple[Interval, ...]


class Rule(msgspec.Struct, frozen=True):
    """What the kernel runs, and for people the same thing in nft's words (`text` is not read back, so not compared)."""

    expressions: tuple[Expression, ...]
    comment: str = ""
    text: str = ""

    def is_same(self, other: Rule) -> bool:
        return self.expressions == other.expressions and self.comment == other.comment


class Hook(msgspec.Struct, frozen=True):
    """Where a base chain is attached (`enum nf_inet_hooks`), and as what."""

    number: int
    priority: int
    policy: Policy
    kind: str = "filter"


HOOKS = {"input": 1, "forward": 2, "output": 3}
DORMANT, OWNER, PERSIST = 0x1, 0x2, 0x4
"""NFT_TABLE_F_* (nf_tables.h): the hooks of the table are not registered; one socket alone may write to it; it stays
when that socket closes."""


class Chain(msgspec.Struct, frozen=True):
    name: str
    rules: tuple[Rule, ...] = ()
    hook: Hook | None = None
    flags: int = 0
    """`NFT_CHAIN_*` but for the one that every base chain has."""

    def is_same(self, other: Chain) -> bool:
        """Whether the rules are."""
        return len(self.rules) == len(other.rules) and all(map(Rule.is_same, self.rules, other.rules))

    @property
    def place(self) -> tuple[object, ...]:
        """All that the kernel cannot change of a chain but by making it anew."""
        return (self.flags, self.hook and (self.hook.number, self.hook.priority, self.hook.kind))


class Stranger(NamedTuple):
    """A set of an unknown kind, an object that is no counter, or a flow table."""

    kind: Literal["set", "object", "flowtable"]
    name: str
    number: int = 0
    """Of an object: its type."""


Timers = Mapping[bytes, float | None]
"""Key -> seconds left; None: for good."""


class Layout(msgspec.Struct, frozen=True):
    """The whole table. Mappings are by name; `elements` has an entry for every set."""

    counters: tuple[str, ...] = ()
    sets: Mapping[str, SetSpec] = {}
    elements: Mapping[str, Elements] = {}
    chains: Mapping[str, Chain] = {}
    strangers: tuple[Stranger, ...] = ()
    """What is in our table and of a kind this target never makes."""
    services: Mapping[str, Services] = {}
    """Of a rendered layout: the cells behind each exact map, by its name. Not in the kernel, so not compared."""
    flags: int = 0
    """`NFT_TABLE_F_*`. A dormant table is in the kernel and judges nothing."""
    timers: Mapping[str, Timers] = {}
    """Of every set whose elements come and go by the clock: what is in it now."""


def hash_of(
    keys: Iterable[bytes], values: Iterable[bytes], key_length: int, comments: Iterable[str] | None = None
) -> Hash:
    """Hash elements from loose bytes, sorted by key."""
    rows = sorted(zip(keys, values, comments, strict=True)) if comments is not None else []
    if comments is None:
        rows = [(key, value, "") for key, value in sorted(zip(keys, values, strict=True))]
    n, width = len(rows), len(rows[0][1]) if rows else 0
    return Hash(
        np.frombuffer(b"".join(row[0] for row in rows), np.uint8).reshape(n, key_length),
        np.frombuffer(b"".join(row[1] for row in rows), np.uint8).reshape(n, width),
        tuple(row[2] for row in rows) if comments is not None else (),
    )


def sorted_hash(keys: Bytes2D, values: Bytes2D) -> Hash:
    """Hash elements from arrays, sorted by key."""
    order = np.argsort(as_rows(keys), kind="stable")
    return Hash(keys[order], values[order])


def as_rows(matrix: Bytes2D) -> npt.NDArray[np.bytes_]:
    """Each row as one fixed-size byte string: comparable, sortable, searchable.

    A trailing marker byte keeps numpy from taking trailing zero bytes for padding.
    """
    n, width = matrix.shape
    marked = np.ones((n, width + 1), np.uint8)
    marked[:, :width] = matrix
    return marked.view(f"S{width + 1}").reshape(n)


def digest_of(layout: Layout, *, without: Iterable[str] = ()) -> str:
    """SHA-256 of all that is realised, less the elements of the named sets: equal exactly when nothing was touched."""
    left_out = frozenset(without)
    state = hashlib.sha256()
    state.update(msgspec.json.encode((layout.flags & DORMANT, layout.counters, layout.strangers)))
    for name, chain in sorted(layout.chains.items()):
        program = [(rule.expressions, rule.comment) for rule in chain.rules]
        state.update(msgspec.json.encode((name, chain.hook, chain.flags, repr(program))))
    for name, spec in sorted(layout.sets.items()):
        state.update(msgspec.json.encode(spec))
        if name not in left_out and not spec.has_timeout:
            _digest_elements(state, layout.elements[name])
    return state.hexdigest()


def _digest_elements(state: hashlib._Hash, elements: Elements) -> None:
    if isinstance(elements, Hash):
        state.update(np.ascontiguousarray(elements.keys).data)
        state.update(np.ascontiguousarray(elements.values).data)
        state.update("\0".join(elements.comments).encode())
    else:
        state.update(repr(elements).encode())
