"""The algebra of addresses and services: sets behave as sets, and what is printed is read back."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ringfence.core.net import service
from ringfence.core.net.address import (
    EVERYWHERE,
    GLOBAL_UNICAST,
    INTERNET_RANGE,
    LAST,
    LOOPBACK,
    PRIVATE,
    V4_BASE,
    V4_LAST,
    format_address,
    format_ranges,
    is_v4,
    parse_address,
    parse_cidr,
)
from ringfence.core.net.intervals import EMPTY, IntervalSet, union
from ringfence.core.net.service import ANY, format_point, format_services, parse_service

SMALL = 40
small_ranges = st.tuples(st.integers(0, SMALL), st.integers(0, SMALL)).map(lambda pair: (min(pair), max(pair)))
sets = st.lists(small_ranges, max_size=5).map(IntervalSet.of)
addresses = st.one_of(
    st.integers(0, LAST), st.integers(V4_BASE, V4_LAST), st.sampled_from([0, 1, V4_BASE - 1, V4_BASE, V4_LAST, LAST])
)
address_sets = st.lists(st.tuples(addresses, addresses).map(lambda p: (min(p), max(p))), max_size=4).map(IntervalSet.of)


def points(one: IntervalSet) -> set[int]:
    return {value for lo, hi in one for value in range(lo, hi + 1)}


# ---- intervals -------------------------------------------------------------------------------------------------------


@given(sets, sets)
def test_interval_sets_are_sets(one: IntervalSet, other: IntervalSet) -> None:
    """Union, intersection, difference, containment, size and truth are those of the points."""
    assert points(one | other) == points(one) | points(other)
    assert points(one & other) == points(one) & points(other)
    assert points(one - other) == points(one) - points(other)
    assert one.covers(other) == (points(other) <= points(one))
    assert one.overlaps(other) == bool(points(one) & points(other))
    assert one.size == len(points(one))
    assert bool(one) == bool(points(one))
    assert {value for value in range(SMALL + 2) if value in one} == points(one)


@given(sets, sets)
def test_equal_points_are_equal_sets(one: IntervalSet, other: IntervalSet) -> None:
    """Ranges are sorted, apart and not adjacent, so that equality of values is equality of sets."""
    for result in (one | other, one & other, one - other):
        gaps = [after[0] - before[1] for before, after in zip(result.ranges, result.ranges[1:], strict=False)]
        assert all(gap > 1 for gap in gaps)
    assert (one == other) == (points(one) == points(other))
    assert IntervalSet.of(reversed(one.ranges)) == one
    assert IntervalSet.of((value, value) for value in points(one)) == one


@given(sets, sets, sets)
def test_the_algebra_is_boolean(a: IntervalSet, b: IntervalSet, c: IntervalSet) -> None:
    """Distribution, absorption and De Morgan hold; nothing is the identity of union and annihilates intersection."""
    assert a & (b | c) == (a & b) | (a & c)
    assert a - (b | c) == (a - b) & (a - c)
    assert a | (a & b) == a == a & (a | b)
    assert a | EMPTY == a
    assert a & EMPTY == EMPTY == a - a
    assert union([a, b, c]) == a | b | c


def test_a_backwards_interval_is_refused() -> None:
    """An end before its start is a mistake, never an empty set."""
    with pytest.raises(ValueError, match="backwards"):
        IntervalSet.of([(3, 2)])


# ---- addresses -------------------------------------------------------------------------------------------------------


@given(addresses)
@example(V4_BASE)
@example(V4_LAST)
def test_an_address_is_read_back(address: int) -> None:
    """Both families, the mapped range as IPv4."""
    assert parse_address(format_address(address)) == address
    assert is_v4(address) == ("." in format_address(address) and ":" not in format_address(address))


@given(address_sets)
def test_ranges_are_read_back_from_the_fewest_cidrs(wanted: IntervalSet) -> None:
    """The CIDRs printed are exactly the set, disjoint, none mixing families."""
    texts = format_ranges(wanted)
    parts = [parse_cidr(text) for text in texts]
    assert union(parts) == wanted
    assert sum(part.size for part in parts) == wanted.size


@given(st.integers(0, 32), st.integers(0, (1 << 32) - 1))
def test_an_ipv4_cidr_is_its_mapped_ipv6_cidr(length: int, address: int) -> None:
    """`10.0.0.0/8` and `::ffff:10.0.0.0/104` are one set."""
    network = ipaddress.IPv4Network((address >> (32 - length) << (32 - length), length))
    mapped = f"::ffff:{network.network_address}/{96 + length}"
    assert parse_cidr(str(network)) == parse_cidr(mapped)


def test_an_ipv6_cidr_holds_no_ipv4_address() -> None:
    """`::/0` is every IPv6 address and no IPv4 one; both together are everything."""
    everything6, everything4 = parse_cidr("::/0"), parse_cidr("0.0.0.0/0")
    assert not everything6.overlaps(everything4)
    assert everything6 | everything4 == EVERYWHERE
    assert not parse_cidr("::/8").overlaps(everything4)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "fd00::1/64", "10.0.0.0/33", "nonsense", "10.0.0", ""])
def test_what_is_no_cidr_is_refused(text: str) -> None:
    """Host bits, impossible lengths and other text raise ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011  the message is the library's
        parse_cidr(text)


def test_a_zone_index_is_refused() -> None:
    """An address in a policy means the same on every host."""
    with pytest.raises(ValueError, match="zone index"):
        parse_address("fe80::1%eth0")


def test_the_words_divide_the_line() -> None:
    """`internet` is unicast less `private`; loopback is in neither."""
    assert not INTERNET_RANGE.overlaps(PRIVATE)
    assert INTERNET_RANGE == GLOBAL_UNICAST - PRIVATE
    assert not (INTERNET_RANGE | PRIVATE).overlaps(LOOPBACK)
    for text in ("224.0.0.1", "255.255.255.255", "240.0.0.1", "0.1.2.3", "ff02::1", "::1", "127.9.9.9"):
        assert parse_address(text) not in INTERNET_RANGE | PRIVATE
    for text in ("100.64.0.1", "169.254.1.1", "172.31.255.255", "fe80::1", "fdff::1"):
        assert parse_address(text) in PRIVATE
    for text in ("8.8.8.8", "172.32.0.0", "2606:4700::1111", "64:ff9b::808:808"):
        assert parse_address(text) in INTERNET_RANGE


# ---- services --------------------------------------------------------------------------------------------------------

ports = st.integers(0, 65535)
spans = st.tuples(st.sampled_from(sorted(service.PROTOCOLS)), ports, ports).map(
    lambda t: f"{t[0]}/{min(t[1:])}-{max(t[1:])}"
)
words = st.one_of(
    spans,
    st.tuples(st.sampled_from(sorted(service.PROTOCOLS)), ports).map(lambda t: f"{t[0]}/{t[1]}"),
    st.sampled_from(
        ["any", "tcp", "udp", "sctp", "icmp", "icmp/echo", "icmp/redirect", "icmp/timestamp", "icmp/node-information"]
    ),
    st.tuples(st.sampled_from(["icmp4", "icmp6"]), st.integers(0, 255)).map(lambda t: f"{t[0]}/{t[1]}"),
    st.integers(0, 255).map(lambda number: f"proto/{number}"),
)


@given(st.lists(words, min_size=1, max_size=5))
def test_services_are_read_back(texts: list[str]) -> None:
    """What is printed for any set that can be written is that set."""
    wanted = union(parse_service(text) for text in texts)
    assert union(parse_service(text) for text in format_services(wanted)) == wanted


@given(words)
def test_every_observed_point_of_a_service_is_named_within_it(text: str) -> None:
    """The first and last point of a service print as a service that holds them."""
    wanted = parse_service(text)
    for lo, hi in wanted:
        for point in (lo, hi):
            protocol, x = service.protocol_of(point), point & 0xFFFF
            if protocol in service.PORTED or (protocol in (service.ICMP, service.ICMPV6) and x < 256):
                assert point in parse_service(format_point(point))


def test_any_is_every_protocol_and_port() -> None:
    """All 256 protocols with their 65,536 points, and nothing else prints as `any`."""
    assert ANY.size == 1 << 24
    assert format_services(ANY) == ["any"]
    assert union(parse_service(f"proto/{n}") for n in range(256)) == ANY
    assert "any" not in format_services(ANY - parse_service("tcp/1"))


def test_a_protocol_by_name_is_its_number() -> None:
    """`tcp` is `proto/6`; ICMP means both families."""
    assert parse_service("tcp") == parse_service("proto/6")
    assert parse_service("icmp") == parse_service("proto/1") | parse_service("proto/58")
    assert parse_service("icmp/echo") == parse_service("icmp4/8") | parse_service("icmp6/128")


@pytest.mark.parametrize(
    "text",
    ["", "tcp/", "tcp/65536", "tcp/9-1", "tcp/a", "http", "proto/256", "proto", "any/1", "icmp/x", "icmp4/256", "TCP"],
)
def test_what_is_no_service_is_refused(text: str) -> None:
    """ValueError with the text quoted."""
    with pytest.raises(ValueError, match="`"):
        parse_service(text)


def test_the_dictionary_is_readable() -> None:
    """Every built-in name is a set of services."""
    for name, text in service.WELL_KNOWN.items():
        assert union(parse_service(word) for word in text.split()), name
