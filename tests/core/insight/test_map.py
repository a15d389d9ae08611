"""The map's grouping: nothing lost, nothing counted twice, nothing depending on order."""

from __future__ import annotations

from dataclasses import replace

import map_estates as estates
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.core.errors import InputError
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode, Workload
from ringfence.core.insight.fold import Fold, dense
from ringfence.core.insight.map import Edge, FlowMap, Group, default_keys, group
from ringfence.core.insight.places import subnet_of
from ringfence.core.insight.services import ServiceNames
from ringfence.core.labels.selector import parse_selector
from ringfence.core.net.address import format_address, parse_address
from ringfence.core.net.service import parse_service
from ringfence.core.world import Endpoint

BY = ("env", "app", "role")


def drawn(estate: estates.Estate, by: tuple[str, ...] = BY, *, subnets: bool = True) -> FlowMap:
    return group(
        estate.conversations, estate.inventory, by, judgement=estate.judged, rules=estate.rules, subnets=subnets
    )


def edge_between(flow_map: FlowMap, source: str, destination: str) -> Edge:
    names = {each.name: index for index, each in enumerate(flow_map.groups)}
    ends = (names[source], names[destination])
    return next(edge for edge in flow_map.edges if (edge.source, edge.destination) == ends)


def group_named(flow_map: FlowMap, name: str) -> Group:
    return next(each for each in flow_map.groups if each.name == name)


@pytest.mark.parametrize("by", [BY, ("app",), ("role", "env")])
@pytest.mark.parametrize("story", [estates.shop, estates.long_labels, lambda: estates.company(edges=300)])
def test_nothing_is_lost_or_counted_twice(story: object, by: tuple[str, ...]) -> None:
    """Edges add up to the conversations and uses add up to their edge, for connections, packets and bytes."""
    estate = story().estate()  # type: ignore[operator]
    flow_map = drawn(estate, by)
    for column in ("connections", "packets", "bytes"):
        whole = int(getattr(estate.conversations, column).sum())
        assert whole == sum(getattr(edge.volume, column) for edge in flow_map.edges)
        for edge in flow_map.edges:
            assert getattr(edge.volume, column) == sum(getattr(use.volume, column) for use in edge.uses)


@pytest.mark.parametrize("seed", range(4))
def test_order_does_not_matter(seed: int) -> None:
    """Rows, endpoints and workloads in any order give the same map."""
    assert drawn(estates.shop().estate()) == drawn(estates.shop().shuffled(seed))


def test_an_edge_carries_its_services_volume_times_and_rules() -> None:
    """One edge in full: services by name, summed volume, first and last seen, verdict, rule, pairs and talkers."""
    story = estates.shop()
    story.flow("web1", "api1", "tcp/8080", connections=3, size_bytes=30, rule="shop/web-to-api", first=estates.DAY - 60)
    edge = edge_between(drawn(story.estate()), "prod/shop/web", "prod/shop/api")

    (use,) = edge.uses
    assert (use.service, use.points, use.verdict, use.reason, use.rule) == (
        "tcp/8080",
        ("tcp/8080",),
        "allowed",
        "allow",
        "shop/web-to-api",
    )
    assert (edge.volume.connections, edge.volume.bytes) == (6 * 120_000 + 3, 6 * 3 * 10**9 + 30)
    assert (edge.volume.first, edge.volume.last) == (estates.DAY - 60, estates.DAY + estates.HOUR)
    assert (edge.pairs, edge.rules, edge.status) == (6, ("shop/web-to-api",), "allowed")
    assert (edge.talkers[0].source, edge.talkers[0].destination) == ("web1", "api1")
    assert len(edge.talkers) == 5


def test_an_edge_has_its_worst_verdict_and_keeps_the_others() -> None:
    """A service blocked makes the edge blocked; each service and outcome stays apart, worst first."""
    story = estates.shop()
    story.flow("web1", "db1", "redis", connections=1, verdict="blocked", reason="forbid", rule="guardrails/x")
    story.flow("web1", "db1", "postgres", connections=1, reason="uncontrolled")
    edge = edge_between(drawn(story.estate()), "prod/shop/web", "prod/shop/db")
    assert (edge.status, edge.verdict) == ("blocked", "blocked")
    assert [(use.service, use.status) for use in edge.uses] == [
        ("redis", "blocked"),
        ("postgres", "would-block"),
        ("postgres", "no-policy"),
    ]


def test_without_a_judgement_nothing_claims_to_be_allowed() -> None:
    """A map drawn without policies has no verdicts; it shows no-policy, never allowed."""
    estate = estates.shop().estate()
    flow_map = group(estate.conversations, estate.inventory, BY)
    assert not flow_map.is_judged
    assert {edge.status for edge in flow_map.edges} == {"no-policy"}
    assert {edge.verdict for edge in flow_map.edges} == {None}


def test_a_judgement_of_other_length_is_refused() -> None:
    """A verdict for every row or none: a short column is an error, not a guess."""
    estate = estates.shop().estate()
    short = replace(estate.judged, verdict=estate.judged.verdict[:-1])
    with pytest.raises(ValueError, match="for every conversation"):
        group(estate.conversations, estate.inventory, BY, judgement=short, rules=estate.rules)


def test_groups_know_their_workloads_modes_and_control() -> None:
    """Counts, modes and control come from the members; a device is a member without control."""
    flow_map = drawn(estates.shop().estate())
    web, vault = group_named(flow_map, "prod/shop/web"), group_named(flow_map, "shared/backup/vault")
    assert (web.members, web.controlled, web.modes, web.is_controlled) == (
        ("web1", "web2", "web3"),
        3,
        {"selective": 3},
        True,
    )
    assert (vault.members, vault.controlled, vault.modes, vault.is_controlled) == (("vault",), 0, {}, False)


def test_a_split_mode_is_named_by_direction() -> None:
    """Modes that differ by direction say so."""
    mixed = Workload("a", "a", {"app": "x"}, mode=Mode("enforce", "observe"))
    empty = estates.Story([]).estate().conversations
    (only,) = group(empty, Inventory([mixed]), ("app",)).groups
    assert only.modes == {"in enforce, out observe": 1}


def test_idle_workloads_are_on_the_map() -> None:
    """A group that says nothing is still there to be seen."""
    story = estates.shop()
    story.inventory = Inventory([*story.inventory.workloads, estates.workload("idle", "10.9.9.9", env="prod", app="x")])
    flow_map = drawn(story.estate())
    assert group_named(flow_map, "prod/x/-").members == ("idle",)


def test_a_workload_gone_from_the_inventory_keeps_its_traffic() -> None:
    """Past traffic is drawn with who held the address then, also when the inventory has forgotten the workload."""
    estate = estates.shop().estate()
    later = Inventory([w for w in estate.inventory.workloads if w.name != "queue1"])
    flow_map = group(estate.conversations, later, BY)
    assert group_named(flow_map, "prod/shop/queue").members == ("queue1",)


def test_missing_labels_show_as_a_dash_and_sort_last() -> None:
    """A workload without the label is its own group, `-`, whose selector says the label is absent."""
    story = estates.Story(
        [estates.workload("a", "10.0.0.1", app="x"), estates.workload("b", "10.0.0.2", app="x", role="web")]
    )
    story.flow("a", "b", "ssh")
    flow_map = drawn(story.estate(), ("app", "role"))
    assert [(each.name, each.id) for each in flow_map.groups] == [("x/web", "app=x,role=web"), ("x/-", "app=x,!role")]


def test_a_groups_peer_selects_exactly_its_members() -> None:
    """The selector offered for a rule picks the group's workloads and no other."""
    for story in (estates.shop(), estates.company(edges=50)):
        estate = story.estate()
        for each in drawn(estate).groups:
            if each.kind == "workloads":
                assert each.peer is not None
                picked = [w.name for w in estate.inventory.workloads if parse_selector(each.peer).matches(w.labels)]
                assert sorted(picked) == list(each.members)


def test_no_peer_is_offered_where_none_is_exact() -> None:
    """Ignored keys, values no selector can hold, and subnets (which may hold workloads) get no rule text."""
    shop = estates.shop().estate()
    ignoring = Inventory(shop.inventory.workloads, ignore=["role"])
    flow_map = group(shop.conversations, ignoring, BY)
    assert {each.peer for each in flow_map.groups if each.kind == "workloads"} == {None}
    assert group_named(flow_map, "internet").peer == "internet"
    assert group_named(flow_map, "192.168.77.0/24").peer is None
    hostile = drawn(estates.hostile().estate())
    for each in hostile.groups:
        if each.peer is not None and each.kind == "workloads":
            parse_selector(each.peer)


PLACES = {
    "203.0.113.9": ("internet", "internet"),
    "2001:db8::1": ("internet", "internet"),
    "10.1.2.3": ("private", "10.1.2.0/24"),
    "100.64.9.9": ("private", "100.64.9.0/24"),
    "169.254.0.7": ("private", "169.254.0.0/24"),
    "fd00:1:2:3:4::5": ("private", "fd00:1:2:3::/64"),
    "fe80::1": ("private", "fe80::/64"),
    "224.0.0.251": ("multicast", "multicast"),
    "ff02::fb": ("multicast", "multicast"),
    "127.0.0.1": ("loopback", "loopback"),
    "::1": ("loopback", "loopback"),
    "255.255.255.255": ("reserved", "reserved"),
    "0.0.0.0": ("reserved", "reserved"),
    "::": ("reserved", "reserved"),
    "172.15.255.255": ("internet", "internet"),
    "172.16.0.0": ("private", "172.16.0.0/24"),
    "172.32.0.0": ("internet", "internet"),
}


@pytest.mark.parametrize("address", PLACES)
def test_unlabelled_addresses_have_a_place(address: str) -> None:
    """Every address that no workload holds is somewhere, both families, up to the ranges' edges."""
    story = estates.Story([estates.workload("a", "10.0.0.1", app="x")])
    story.flow("a", address, "ssh")
    place = drawn(story.estate(), ("app",)).groups[1]
    assert (place.kind, place.name) == PLACES[address]
    assert place.addresses == 1


def test_subnets_can_be_shown_together() -> None:
    """`subnets=False` gathers unlabelled private addresses in one group."""
    story = estates.Story([estates.workload("a", "10.0.0.1", app="x")])
    for address in ("10.1.2.3", "192.168.9.9", "fd00::9"):
        story.flow("a", address, "ssh")
    assert [each.name for each in drawn(story.estate(), ("app",), subnets=False).groups] == ["x", "private"]


def test_overlapping_networks_stay_apart() -> None:
    """The same private subnet in two networks is two groups."""
    estate = estates.shop().estate()
    address = int(parse_address("10.77.0.1"))
    ends = (Endpoint(None, address), Endpoint(None, address, "vpc-1"), Endpoint(None, None, name="api.example.org"))
    rows = replace(
        estate.conversations.where(np.arange(2)),
        endpoints=ends,
        source=np.array([0, 1], np.int32),
        destination=np.array([1, 2], np.int32),
    )
    flow_map = group(rows, estate.inventory, BY)
    places = [(each.kind, each.name) for each in flow_map.groups if each.kind != "workloads"]
    assert places == [("private", "10.77.0.0/24"), ("private", "vpc-1:10.77.0.0/24"), ("name", "api.example.org")]


def test_north_south_is_what_leaves_the_estate() -> None:
    """Traffic with the internet is north-south; between workloads and private addresses it is east-west."""
    flow_map = drawn(estates.shop().estate())
    assert edge_between(flow_map, "internet", "prod/shop/lb").is_north_south
    assert edge_between(flow_map, "prod/shop/api", "internet").is_north_south
    assert not edge_between(flow_map, "192.168.77.0/24", "prod/shop/db").is_north_south


def test_what_was_reported_and_guessed_is_counted() -> None:
    """An edge says what its reporters said happened, and how much of its direction is a guess."""
    flow_map = drawn(estates.shop().estate())
    assert edge_between(flow_map, "staging/shop/web", "prod/shop/db").reported == {"blocked": 12}
    assert edge_between(flow_map, "192.168.77.0/24", "prod/shop/db").guessed == 41
    assert edge_between(flow_map, "prod/shop/web", "prod/shop/api").guessed == 0


@pytest.mark.parametrize(
    ("by", "code"),
    [((), "map-by-nothing"), (("app", "app"), "map-by-twice"), (("ap",), "map-by-unknown-label")],
)
def test_keys_that_make_no_map_are_refused(by: tuple[str, ...], code: str) -> None:
    """No key, a key twice, or a key that no workload has."""
    with pytest.raises(InputError) as caught:
        drawn(estates.shop().estate(), by)
    assert caught.value.code == code
    assert caught.value.help


def test_an_empty_estate_has_an_empty_map() -> None:
    """No traffic and no workloads is a map with nothing on it, not an error."""
    flow_map = drawn(estates.Story([]).estate(), ("app",))
    assert (flow_map.groups, flow_map.edges) == ((), ())


def test_default_keys_are_those_the_estate_has() -> None:
    """`env`, `app`, `role` as far as they occur, else the commonest label."""
    assert default_keys(estates.shop().inventory) == BY
    tiers = [Workload("a", "a", {"tier": "1", "zone": "x"}), Workload("b", "b", {"zone": "y"})]
    assert default_keys(Inventory(tiers)) == ("zone",)
    assert default_keys(Inventory([])) == ("app",)


def test_own_services_shadow_the_built_in_ones() -> None:
    """A policy's name beats the dictionary's, the narrower of two beats the wider, and a bare port is itself."""
    names = ServiceNames({"orders-db": parse_service("tcp/5432"), "high": parse_service("tcp/8000-9999")})
    points = [parse_service(text).ranges[0][0] for text in ("tcp/5432", "tcp/443", "tcp/9092", "tcp/7", "udp/53")]
    named = names.of(np.array(points, np.int32))
    assert [named.text(number) for number in named.service.tolist()] == ["orders-db", "https", "high", "tcp/7", "dns"]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, 7, 2**40]), st.integers(-(2**56), 2**56)), max_size=40))
def test_folding_agrees_with_a_dictionary(rows: list[tuple[int, int]]) -> None:
    """Grouped sums, least and greatest are those a plain loop finds, exact beyond float precision."""
    key = np.array([k for k, _ in rows], np.int64)
    value = np.array([v for _, v in rows], np.int64)
    fold = Fold(key)
    want: dict[int, list[int]] = {}
    for k, v in rows:
        want.setdefault(k, []).append(v)
    ranked = sorted(want.items())
    assert fold.sum(value).tolist() == [sum(vs) for _, vs in ranked]
    assert fold.min(value).tolist() == [min(vs) for _, vs in ranked]
    assert fold.max(value).tolist() == [max(vs) for _, vs in ranked]
    assert fold.one(key).tolist() == [k for k, _ in ranked]


def test_a_dense_key_does_not_overflow() -> None:
    """Columns whose product is beyond 64 bits still make distinct keys, in order."""
    big = np.array([0, 1, (1 << 40) - 1, (1 << 40) - 1], np.int64)
    key = dense(big, big, big, np.array([0, 0, 0, 1], np.int64))
    assert len(set(key.tolist())) == 4
    assert key.tolist() == sorted(key.tolist())


@given(st.integers(0, 2**128 - 1))
def test_a_subnet_holds_its_address(address: int) -> None:
    """The subnet of any address contains it and has a whole power of two of addresses."""
    lo, hi = subnet_of(address)
    assert lo <= address <= hi, format_address(address)
    assert hi - lo + 1 in (1 << 8, 1 << 64)
