"""Who the endpoints of conversations are, as parties: label sets of workloads, and the few kinds of bare address.

INVARIANT: two endpoints are one party iff policy cannot tell them apart by labels; a bare address is never a
workload's party. It names no addresses: which CIDRs a rule needs is decided from the rows the rule covers
(`core.insight.addresses`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Workload
from ringfence.core.labels.selector import LABEL_KEY, LABEL_VALUE
from ringfence.core.net.address import INTERNET_RANGE, PRIVATE, parse_cidr
from ringfence.core.world import Endpoint

Place = Literal["workload", "internet", "private", "name", "multicast", "loopback", "elsewhere"]
PLACES: tuple[Place, ...] = ("workload", "internet", "private", "name", "multicast", "loopback", "elsewhere")
WORKLOAD, INTERNET, PRIVATE_PLACE, NAME, MULTICAST, LOOPBACK_PLACE, ELSEWHERE = range(len(PLACES))

PEER = "@peer"
"""The pseudo label of bare addresses; `@` cannot begin a real label key."""

_MULTICAST = parse_cidr("224.0.0.0/4") | parse_cidr("ff00::/8") | parse_cidr("255.255.255.255/32")
"""RFC 5771, RFC 4291 section 2.7, RFC 919."""
_LOOPBACK = parse_cidr("127.0.0.0/8") | parse_cidr("::1/128")

APPLICATION_KEYS = ("app", "application", "app.kubernetes.io/name", "k8s-app", "service")
ENVIRONMENT_KEYS = ("env", "environment", "stage", "namespace")
ROLE_KEYS = ("role", "tier", "component", "app.kubernetes.io/component")
"""Kubernetes recommended labels and what inventories commonly use, the product's own words first."""


class LabelKeys(msgspec.Struct, frozen=True):
    """Which label keys mean the application, its environment and a workload's role in it."""

    application: str = "app"
    environment: str = "env"
    role: str = "role"

    @property
    def scope(self) -> tuple[str, str]:
        return (self.application, self.environment)

    @staticmethod
    def found_in(inventory: Inventory) -> LabelKeys:
        """For each of the three the first conventional key that any workload carries."""
        present = {key for w in inventory.workloads for key in w.labels} - inventory.ignore
        first = (
            next((k for k in keys if k in present), keys[0]) for keys in (APPLICATION_KEYS, ENVIRONMENT_KEYS, ROLE_KEYS)
        )
        return LabelKeys(*first)


@dataclass(frozen=True)
class Parties:
    """The parties of an inventory and some conversations; the first ones are the inventory's identities."""

    labels: tuple[Mapping[str, str], ...]
    """Per party; `{PEER: place}` for bare addresses and names."""
    members: NDArray[np.int64]
    """Per party: how many workloads of the inventory it has."""
    of_endpoint: NDArray[np.int32]
    place: NDArray[np.uint8]
    """Per endpoint: index into PLACES."""
    is_controlled: NDArray[np.bool_]
    """Per endpoint: a workload with an enforcement point of ours."""
    workloads: tuple[Workload | None, ...]
    """Per endpoint: who held it."""

    def carries(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """Per party: it has at least one of these labels."""
        return np.array([any(key in labels for key in keys) for labels in self.labels], dtype=bool)


def identify(conversations: Conversations, inventory: Inventory) -> Parties:
    """Label every endpoint. A bare address is looked up among the leases live when the last traffic was seen."""
    at = datetime.fromtimestamp(int(conversations.last.max()) if len(conversations) else 0, UTC)
    workloads = tuple(_holder(endpoint, inventory, at) for endpoint in conversations.endpoints)
    index: dict[frozenset[tuple[str, str]], int] = {}
    inventory_party = [_party(inventory, w, index) for w in inventory.workloads]
    of_endpoint = np.empty(len(workloads), np.int32)
    place = np.empty(len(workloads), np.uint8)
    for i, (endpoint, workload) in enumerate(zip(conversations.endpoints, workloads, strict=True)):
        place[i] = WORKLOAD if workload is not None else _place_of(endpoint)
        of_endpoint[i] = (
            _party(inventory, workload, index)
            if workload is not None
            else index.setdefault(frozenset({(PEER, PLACES[place[i]])}), len(index))
        )
    members = np.bincount(np.array(inventory_party, np.int64), minlength=len(index))
    controlled = np.array([w is not None and w.is_controlled for w in workloads], dtype=bool)
    return Parties(tuple(dict(sorted(p)) for p in index), members, of_endpoint, place, controlled, workloads)


def _holder(endpoint: Endpoint, inventory: Inventory, at: datetime) -> Workload | None:
    if endpoint.workload is not None or endpoint.address is None:
        return endpoint.workload
    return next(iter(inventory.holders(endpoint.address, at, endpoint.network)), None)


def _party(inventory: Inventory, workload: Workload, index: dict[frozenset[tuple[str, str]], int]) -> int:
    labels = inventory.labels_of(workload) if workload.kind == "process" else workload.labels
    pairs = frozenset((k, v) for k, v in labels.items() if k not in inventory.ignore and _is_writable(k, v))
    return index.setdefault(pairs, len(index))


@cache
def _is_writable(key: str, value: str) -> bool:
    """Whether a selector can say it: inventories hold label values that the language has no text for."""
    return bool(value and LABEL_KEY.fullmatch(key) and LABEL_VALUE.fullmatch(value))


def _place_of(endpoint: Endpoint) -> int:
    address = endpoint.address
    if address is None:
        return NAME if endpoint.name is not None else ELSEWHERE
    for place, addresses in _BY_ADDRESS:
        if address in addresses:
            return place
    return ELSEWHERE


_BY_ADDRESS = (
    (PRIVATE_PLACE, PRIVATE),
    (INTERNET, INTERNET_RANGE),
    (MULTICAST, _MULTICAST),
    (LOOPBACK_PLACE, _LOOPBACK),
)
