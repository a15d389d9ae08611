"""The intruder's side and the alerts, as far as they are arithmetic."""

from __future__ import annotations

import socket
import struct
from datetime import UTC, datetime

import pytest

from ringfence.core.decide import decide
from ringfence.core.identity.workload import Mode
from ringfence.core.net.service import TCP, UDP
from ringfence.core.policy.parse import parse_policies
from ringfence.core.world import Flow, Verdict
from ringfence.core.world import World as Judged
from ringfence.flows.conntrack.nflog import BlockedAttempt
from ringfence.lab.alerts import alerts
from ringfence.lab.attack import Reached, interesting_ports, permitted, targets_of
from ringfence.lab.description import built_in
from ringfence.lab.syn_scan import SOURCE_PORT, syn_packets

AT = datetime(2026, 7, 1, tzinfo=UTC)
SHOP = built_in("shop")
INVENTORY = SHOP.inventory()
POLICY = """\
policy: shop
scope: app=shop,env=prod
segments: {web: role=web, api: role=api}
rules:
  - {name: web-to-api, allow: {from: web, to: api, service: tcp/8080}}
  - {name: ping, allow: {from: "global: env=prod", to: web, service: icmp/echo}}
  - {name: no-dev, forbid: {from: "global: env=dev", to: "env=prod", service: any}}
"""
POLICIES = parse_policies({"shop.yaml": POLICY}).policies


def judge(flow: Flow) -> Verdict:
    return decide(Judged(INVENTORY, POLICIES, as_mode=Mode.both("enforce")), flow)


def test_an_intruder_aims_at_every_host_of_ours_but_its_own() -> None:
    """Targets are all hosts and devices less the attacker; nobody outside is attacked."""
    assert set(targets_of(SHOP, "laptop")) == {h.name for h in SHOP.managed}
    assert "laptop" in targets_of(SHOP, "prod-web-1")
    assert not {"internet-1", "payments", "prod-web-1"} & set(targets_of(SHOP, "prod-web-1"))


def test_the_interesting_ports_are_those_served_and_those_of_the_dictionary() -> None:
    """Ranges of the dictionary are included whole, protocols apart."""
    tcp, udp = interesting_ports(SHOP, TCP), interesting_ports(SHOP, UDP)
    assert {22, 443, 8080, 5432, 9100, 3389, 5900, 5903} <= tcp
    assert {53, 123, 161, 162} <= udp
    assert 8080 not in udp


def test_what_is_permitted_is_what_the_destination_ends_let_in() -> None:
    """From a web host: the API on both families, ping to the web hosts, and the laptop that nobody controls."""
    found = permitted(SHOP, INVENTORY, judge, "prod-web-1", AT)
    families = (4, 6)
    api = {Reached(f"prod-api-{n}", "api", "tcp", 8080, f) for n in (1, 2) for f in families}
    ping = {Reached(host, "ping", "icmp", 0, f) for host in ("prod-web-2", "laptop") for f in families}
    assert found == api | ping


def test_an_intruder_on_the_laptop_is_permitted_nothing_of_ours() -> None:
    """No rule names the office, so no end lets it in."""
    assert permitted(SHOP, INVENTORY, judge, "laptop", AT) == frozenset()


def attempt(source: str, destination: str, port: int, *, step: str = "default", at: float = 0.0) -> BlockedAttempt:
    prefix = f"ringfence in {step} blocked"
    host = SHOP.by_address[destination].name
    return BlockedAttempt(host, "in", prefix, 6, source, destination, 40000, port, None, 60, AT.timestamp() + at)


def test_attempts_alike_become_one_alert_with_the_rule_that_stopped_them() -> None:
    """Families and services of one pair fold; forbid and default keep apart; the most frequent comes first."""
    found = alerts(
        [
            attempt("10.20.0.11", "10.10.0.31", 5432, step="forbid", at=5),
            attempt("fd00:20::11", "fd00:10::31", 5432, step="forbid", at=1),
            attempt("10.20.0.11", "10.10.0.31", 5432, step="forbid", at=2),
            attempt("10.20.0.11", "10.10.0.31", 22, step="forbid", at=3),
            attempt("203.0.113.80", "10.10.0.11", 22),
        ],
        INVENTORY,
        judge,
    )
    assert [(a.source, a.destination, a.services, a.attempts, a.reason, a.rule) for a in found] == [
        ("dev-web-1", "prod-db-1", ("tcp/5432", "tcp/22"), 4, "forbid", "shop/no-dev"),
        ("203.0.113.80", "prod-web-1", ("tcp/22",), 1, "default", None),
    ]
    assert (found[0].last - found[0].first).total_seconds() == 4
    assert (found[0].host, found[0].end, found[0].is_consistent) == ("prod-db-1", "destination", True)


def test_an_alert_says_so_when_kernel_and_engine_disagree() -> None:
    """A packet that the kernel dropped by default though the engine says forbid is not silently explained away."""
    (found,) = alerts([attempt("10.20.0.11", "10.10.0.31", 5432, step="default")], INVENTORY, judge)
    assert not found.is_consistent


def test_a_datagram_to_a_dhcp_port_is_judged_with_its_own_source_port() -> None:
    """From the client's port DHCP is essential; from any other port it is not, and the alert says default."""
    stray = BlockedAttempt(
        "prod-db-1", "in", "ringfence in default blocked", 17, "10.40.0.50", "10.10.0.31", 40000, 67, None, 40, 0.0
    )
    (found,) = alerts([stray], INVENTORY, judge)
    assert (found.reason, found.services, found.is_consistent) == ("default", ("udp/67",), True)


def _ones_complement(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@pytest.mark.parametrize(("source", "destination"), [("10.40.0.50", "10.10.0.11"), ("203.0.113.80", "255.255.255.254")])
def test_every_syn_has_its_port_and_a_checksum_that_verifies(source: str, destination: str) -> None:
    """RFC 9293: pseudo header and segment sum to 0xffff; ports count from 1; the flag is SYN alone."""
    packets = syn_packets(65535, source, destination)
    pseudo = socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack("!HH", 6, 20)
    assert len(packets) == 65535 * 20
    for port in (1, 2, 80, 5432, 32768, 65534, 65535):
        segment = packets[(port - 1) * 20 : port * 20]
        assert struct.unpack_from("!HH", segment) == (SOURCE_PORT, port)
        assert segment[13] == 0x02
        assert _ones_complement(pseudo + segment) == 0xFFFF
