"""Bare addresses become the smallest sensible peers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.core.insight.addresses import cidrs, internet_peers, private_peers
from ringfence.core.net.address import V4_BASE, parse_address
from ringfence.core.policy.model import Cidr

PRIVATE_V4 = V4_BASE | (10 << 24)


def peers(texts: list[str], held: list[str] | None = None, tight: int = 5) -> list[str]:
    addresses = [parse_address(t) for t in texts]
    return [p.text for p in private_peers(addresses, sorted(parse_address(t) for t in held or []), tight)]


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (["10.0.0.5"], ["10.0.0.5"]),
        (["10.0.0.5", "10.0.0.9"], ["10.0.0.5", "10.0.0.9"]),
        ([f"10.0.0.{i}" for i in (20, 21, 22, 23)], ["10.0.0.20/30"]),
        ([f"10.0.0.{i}" for i in (1, 60, 120, 250)], ["10.0.0.0/24"]),
        ([f"fd00::{i}" for i in range(1, 6)], ["fd00::/125"]),
        ([f"10.0.{i}.1" for i in range(40)], ["10.0.0.0/18"]),
        ([f"10.{i}.0.1" for i in range(40)], ["private"]),
    ],
)
def test_smallest_sensible(addresses: list[str], expected: list[str]) -> None:
    """Single addresses while few, their subnet when many of it were seen, sites next, `private` when scattered."""
    assert peers(addresses) == expected


def test_workloads_are_left_out() -> None:
    """A workload's address in the middle splits the CIDR around it."""
    texts = [f"10.0.0.{i}" for i in (0, 1, 2, 3, 8, 9, 10, 11)]
    assert peers(texts, held=["10.0.0.5"]) == ["10.0.0.0/30", "10.0.0.8/30"]


def test_tight_lists_addresses() -> None:
    """The tightest setting names nothing but what was seen."""
    assert peers([f"10.0.0.{i}" for i in (1, 60, 120, 250)], tight=10) == [f"10.0.0.{i}" for i in (1, 60, 120, 250)]


def test_internet() -> None:
    """Internet addresses are `internet`, unless few and tight."""
    few = [parse_address("198.51.100.7"), parse_address("203.0.113.9")]
    assert [p.text for p in internet_peers(few, 5)] == ["internet"]
    assert [p.text for p in internet_peers(few, 8)] == ["198.51.100.7", "203.0.113.9"]
    assert [p.text for p in internet_peers(range(few[0], few[0] + 9), 10)] == ["internet"]


@given(
    st.sets(st.integers(PRIVATE_V4, PRIVATE_V4 + 4000), min_size=1, max_size=60),
    st.sets(st.integers(PRIVATE_V4, PRIVATE_V4 + 4000), max_size=20),
    st.integers(0, 10),
)
def test_covers_exactly(addresses: set[int], held: set[int], tight: int) -> None:
    """Every given address is in the peers, and a CIDR of more than one address holds no workload's."""
    addresses -= held
    found = private_peers(addresses, sorted(held), tight)
    listed = [p for p in found if isinstance(p, Cidr)]
    if len(listed) == len(found):
        assert all(any(a in p.addresses for p in listed) for a in addresses)
    assert not any(h in p.addresses for p in listed if p.addresses.size > 1 for h in held)


def test_shortest_list() -> None:
    """Adjacent addresses are one CIDR, and a single one has no prefix length."""
    lo = parse_address("10.0.0.4")
    assert [c.text for c in cidrs([(lo, lo + 3), (lo + 9, lo + 9)])] == ["10.0.0.4/30", "10.0.0.13"]
