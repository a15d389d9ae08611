"""Where an end of a conversation belongs on the map: a group of workloads by label, or a place nobody holds.

INVARIANT: an end is in exactly one spot; whoever held the address when the traffic was seen decides which.
INVARIANT: a spot's `id` is unique and says what it is: a selector, a CIDR, or a word.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode, Workload
from ringfence.core.labels.selector import LABEL_VALUE
from ringfence.core.net.address import (
    INTERNET_RANGE,
    LOOPBACK,
    PRIVATE,
    V4_BASE,
    V4_LAST,
    format_address,
    format_ranges,
    is_v4,
    parse_cidr,
)
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.world import Endpoint

PlaceKind = Literal["workloads", "internet", "private", "multicast", "loopback", "reserved", "name"]
PLACE_KINDS: tuple[PlaceKind, ...] = ("workloads", "private", "internet", "name", "multicast", "loopback", "reserved")
MISSING = "-"
"""How a label that a workload lacks is shown."""
UNKNOWN = "unknown"
"""An end of which neither workload, address nor name is known."""


@dataclass
class Spot:
    """One group being gathered."""

    kind: PlaceKind
    id: str
    name: str
    values: tuple[str | None, ...] = ()
    members: list[Workload] = field(default_factory=list)
    addresses: int = 0

    @property
    def sort_key(self) -> tuple[int, tuple[tuple[bool, str], ...], str]:
        """Kinds in order, missing values last."""
        return PLACE_KINDS.index(self.kind), tuple((v is None, v or "") for v in self.values), self.id

    def peer(self, *, selectable: bool) -> str | None:
        """How a rule names exactly this spot. Ignored keys may not be selected on, nor values that are no label's."""
        if self.kind == "workloads":
            is_exact = selectable and all(value is None or LABEL_VALUE.fullmatch(value) for value in self.values)
            return self.id if is_exact else None
        return self.id if self.kind == "internet" else None

    def modes(self) -> dict[str, int]:
        """Controlled members by mode, most first."""
        counts: dict[str, int] = {}
        for workload in self.members:
            if workload.is_controlled:
                counts[mode_text(workload.mode)] = counts.get(mode_text(workload.mode), 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True)
class Placement:
    """Every endpoint's spot, and every endpoint as a party: its workload, address or name."""

    spots: tuple[Spot, ...]
    spot_of: NDArray[np.int32]
    parties: tuple[Endpoint, ...]
    """One endpoint of each party: workloads by name first, then addresses."""
    party_of: NDArray[np.int32]


def mode_text(mode: Mode) -> str:
    """`enforce`, or `in enforce, out observe`."""
    if mode.inbound == mode.outbound:
        return mode.inbound
    return f"in {mode.inbound}, out {mode.outbound}"


def place(endpoints: Sequence[Endpoint], inventory: Inventory, by: tuple[str, ...], *, subnets: bool) -> Placement:
    """Put every endpoint and every workload of the inventory on the map."""
    table = _Table(inventory, by, subnets)
    for workload in inventory.workloads:
        table.of_workload(workload)
    spots = table.of_endpoints(endpoints)
    order = sorted(range(len(table.spots)), key=lambda index: table.spots[index].sort_key)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    parties, party_of = _parties(endpoints)
    return Placement(tuple(table.spots[i] for i in order), rank[spots], parties, party_of)


class _Table:
    """Spots by id, in order of appearance."""

    def __init__(self, inventory: Inventory, by: tuple[str, ...], subnets: bool) -> None:
        self.spots: list[Spot] = []
        self._inventory, self._by, self._subnets = inventory, by, subnets
        self._index: dict[tuple[PlaceKind, str], int] = {}
        self._of_workload: dict[str, int] = {}
        self._of_values: dict[tuple[str | None, ...], int] = {}
        self._of_subnet: dict[tuple[str, int], int] = {}

    def of_workload(self, workload: Workload) -> int:
        known = self._of_workload.get(workload.uuid)
        if known is not None:
            return known
        labels = self._inventory.labels_of(workload)
        values = tuple(labels.get(key) for key in self._by)
        index = self._of_values.get(values)
        if index is None:
            index = self._spot("workloads", selector_text(self._by, values), values_text(values), values)
            self._of_values[values] = index
        self.spots[index].members.append(workload)
        self._of_workload[workload.uuid] = index
        return index

    def of_endpoints(self, endpoints: Sequence[Endpoint]) -> NDArray[np.int32]:
        kinds = _kinds([-1 if e.address is None else e.address for e in endpoints])
        out = np.empty(len(endpoints), np.int32)
        for number, (endpoint, kind) in enumerate(zip(endpoints, kinds.tolist(), strict=True)):
            if endpoint.workload is not None:
                out[number] = self.of_workload(endpoint.workload)
            else:
                out[number] = index = self._of_outsider(endpoint, PLACE_KINDS[kind])
                self.spots[index].addresses += 1
        return out

    def _of_outsider(self, endpoint: Endpoint, kind: PlaceKind) -> int:
        if kind == "private" and self._subnets and endpoint.address is not None:
            return self._subnet(endpoint.network, endpoint.address)
        if kind == "name":
            name = endpoint.name or UNKNOWN
            return self._spot(kind, f"name:{name}", name)
        return self._spot(kind, kind, kind)

    def _subnet(self, network: str, address: int) -> int:
        lo, hi = subnet_of(address)
        index = self._of_subnet.get((network, lo))
        if index is None:
            cidr = format_ranges(IntervalSet(((lo, hi),)))[0]
            text = cidr if network == "main" else f"{network}:{cidr}"
            index = self._of_subnet[network, lo] = self._spot("private", text, text)
        return index

    def _spot(self, kind: PlaceKind, id_: str, name: str, values: tuple[str | None, ...] = ()) -> int:
        index = self._index.setdefault((kind, id_), len(self.spots))
        if index == len(self.spots):
            self.spots.append(Spot(kind, id_, name, values))
        return index


def values_text(values: Sequence[str | None]) -> str:
    """`prod/shop/-`: the values for people."""
    return "/".join(MISSING if value is None else value for value in values)


def selector_text(by: Sequence[str], values: Sequence[str | None]) -> str:
    """The selector of exactly this tuple: `env=prod,!role`; a value that no selector can hold is quoted."""
    parts = [f"!{key}" if value is None else f"{key}={_quoted(value)}" for key, value in zip(by, values, strict=True)]
    return ",".join(parts)


def _quoted(value: str) -> str:
    return value if LABEL_VALUE.fullmatch(value) else json.dumps(value)


def subnet_of(address: int) -> tuple[int, int]:
    """The IPv4 /24 or IPv6 /64 of an address, first to last."""
    bits = 8 if is_v4(address) else 64
    return address >> bits << bits, address | (1 << bits) - 1


def _parties(endpoints: Sequence[Endpoint]) -> tuple[tuple[Endpoint, ...], NDArray[np.int32]]:
    keys = [_party_key(endpoint) for endpoint in endpoints]
    example = dict(zip(keys, endpoints, strict=True))
    ranked = {key: number for number, key in enumerate(sorted(example))}
    numbers = np.fromiter((ranked[key] for key in keys), np.int32, len(keys))
    return tuple(example[key] for key in ranked), numbers


def _party_key(endpoint: Endpoint) -> tuple[int, str, str, int]:
    workload = endpoint.workload
    if workload is not None:
        return 0, workload.name, workload.uuid, 0
    return 1, endpoint.network, endpoint.name or "", -1 if endpoint.address is None else endpoint.address


def party_text(party: Endpoint) -> str:
    """A workload's name, else the address with its DNS name if known."""
    if party.workload is not None:
        return party.workload.name
    if party.address is None:
        return party.name or UNKNOWN
    text = format_address(party.address)
    return f"{party.name} ({text})" if party.name else text


def _kinds(addresses: list[int]) -> NDArray[np.int8]:
    """What kind of place each address is, as an index into PLACE_KINDS; -1, no address, is a name."""
    starts, kinds = _atlas()
    out = np.full(len(addresses), PLACE_KINDS.index("name"), np.int8)
    v4 = np.fromiter((a - V4_BASE if V4_BASE <= a <= V4_LAST else -1 for a in addresses), np.int64, len(addresses))
    v4_starts = np.array([s - V4_BASE for s in starts if V4_BASE <= s <= V4_LAST], np.int64)
    v4_kinds = np.array([k for s, k in zip(starts, kinds, strict=True) if V4_BASE <= s <= V4_LAST], np.int8)
    is_v4_ = v4 >= 0
    out[is_v4_] = v4_kinds[np.searchsorted(v4_starts, v4[is_v4_], "right") - 1]
    for index in np.flatnonzero(~is_v4_).tolist():
        if addresses[index] >= 0:
            out[index] = kinds[bisect_right(starts, addresses[index]) - 1]
    return out


@cache
def _atlas() -> tuple[list[int], list[int]]:
    """The whole line in pieces: where each starts, and its kind as an index into PLACE_KINDS."""
    places: tuple[tuple[PlaceKind, IntervalSet], ...] = (
        ("private", PRIVATE),
        ("internet", INTERNET_RANGE),
        ("multicast", parse_cidr("224.0.0.0/4") | parse_cidr("ff00::/8")),
        ("loopback", LOOPBACK),
    )
    pieces: dict[int, PlaceKind] = {0: "reserved", V4_BASE: "reserved", V4_LAST + 1: "reserved"}
    for kind, ranges in places:
        for lo, hi in ranges:
            pieces[lo] = kind
            pieces.setdefault(hi + 1, "reserved")
    starts = sorted(pieces)
    return starts, [PLACE_KINDS.index(pieces[start]) for start in starts]
