"""What is set aside, why, and what is not."""

from __future__ import annotations

import pytest
from insight_estate import MONTH, Traffic, app, workload

from ringfence.core.identity.inventory import Inventory
from ringfence.core.insight.noise import ASIDE, HELP, WHY, set_aside
from ringfence.core.insight.parties import identify

INVENTORY = Inventory(
    [
        *app("x", "prod", "10.0.0", web=30, db=1),
        workload("printer", "10.0.1.1", "device"),
        workload("nas", "10.0.1.2", "device"),
    ]
)
WEBS = [f"x-prod-web-{i}" for i in range(30)]
DB = "x-prod-db-0"


def reasons(traffic: Traffic) -> list[str]:
    rows = traffic.build()
    return [ASIDE[code] for code in set_aside(rows, identify(rows, INVENTORY))]


def one(source: str, destination: str, service: str, **more: object) -> str:
    return reasons(Traffic(INVENTORY).add(source, destination, service, **more))[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "destination", "service", "reason"),
    [
        (WEBS[0], "224.0.0.251", "udp/5353", "multicast"),
        (WEBS[0], "ff02::fb", "udp/5353", "multicast"),
        (WEBS[0], "255.255.255.255", "udp/9999", "multicast"),
        (WEBS[0], "10.0.0.255", "udp/137", "multicast"),
        (WEBS[0], "10.0.0.255", "tcp/443", ""),
        (WEBS[0], "127.0.0.1", "tcp/80", "reserved"),
        ("0.0.0.0", WEBS[0], "tcp/80", "reserved"),
        (WEBS[0], WEBS[0], "tcp/80", "essential"),
        (WEBS[0], DB, "udp/67", "essential"),
        (WEBS[0], DB, "icmp4/3", "essential"),
        (WEBS[0], DB, "icmp/echo", ""),
        ("printer", "nas", "tcp/445", "uncontrolled"),
        ("printer", DB, "tcp/445", ""),
        ("198.51.100.1", "nas", "tcp/445", "uncontrolled"),
        (WEBS[0], DB, "tcp/5432", ""),
    ],
)
def test_by_kind(source: str, destination: str, service: str, reason: str) -> None:
    """Each kind of traffic that no rule should be written from has its reason; its neighbours are kept."""
    assert one(source, destination, service) == reason


def test_blocked_today() -> None:
    """What something blocks already is not learned, whatever else it looks like."""
    assert one(WEBS[0], DB, "tcp/5432", reported="blocked") == "blocked-today"
    assert one(WEBS[0], DB, "tcp/5432", reported="would-block") == ""


class TestScanner:
    """Sources that sweep."""

    def sweep(self, **more: object) -> Traffic:
        traffic = Traffic(INVENTORY)
        for web in WEBS:
            traffic.add("10.9.9.9", web, "tcp/22", **more)  # type: ignore[arg-type]
        return traffic

    @pytest.mark.parametrize(
        "feeble", [{"times": 1, "packets": 0}, {"times": 9, "packets": 2}, {"times": 9, "reported": "blocked"}], ids=str
    )
    def test_sweeps(self, feeble: dict[str, object]) -> None:
        """Many targets that answered nothing, were blocked, or were tried once uncounted make a scanner."""
        assert set(reasons(self.sweep(**feeble))) == {"scanner"}

    def test_port_sweep(self) -> None:
        """Many ports of one host count as much as many hosts."""
        traffic = Traffic(INVENTORY)
        for port in range(1, 41):
            traffic.add("10.9.9.9", DB, f"tcp/{port}", times=1, packets=2)
        assert set(reasons(traffic)) == {"scanner"}

    def test_monitoring_is_no_scanner(self) -> None:
        """One source that reaches everything again and again, and gets answers, is kept."""
        assert set(reasons(self.sweep(hours=MONTH))) == {""}

    def test_its_other_traffic_is_kept(self) -> None:
        """A scanner's own regular connections are not set aside with its scans."""
        traffic = self.sweep(times=1, packets=1).add("10.9.9.9", DB, "tcp/5432", hours=MONTH)
        assert reasons(traffic)[len(WEBS) :] == [""] * len(MONTH)

    def test_its_lucky_hits_are_not(self) -> None:
        """What answered a scanner, once, is part of the scan."""
        traffic = self.sweep(times=1, packets=1).add("10.9.9.9", DB, "tcp/443", times=1)
        assert set(reasons(traffic)) == {"scanner"}

    def test_one_real_connection_each_is_no_scan(self) -> None:
        """A host that connects once to each of many, and is answered, is an administrator's."""
        assert set(reasons(self.sweep(times=1))) == {""}

    def test_udp_without_reply(self) -> None:
        """UDP that nobody answered is a sweep, UDP that was answered is not."""
        traffic = Traffic(INVENTORY)
        for web in WEBS:
            traffic.add("10.9.9.9", web, "udp/161", times=2, packets=1)
            traffic.add("10.9.9.8", web, "udp/161", times=2, packets=2)
        assert reasons(traffic) == ["scanner", ""] * len(WEBS)

    def test_visitors_are_no_scan(self) -> None:
        """Internet addresses that come once are a web site's visitors; those that carry nothing are probes."""
        traffic = Traffic(INVENTORY)
        for i in range(200):
            traffic.add(f"198.51.{i}.7", WEBS[0], "tcp/443", times=1)
            traffic.add(f"203.0.{i}.7", WEBS[0], "tcp/23", times=1, packets=1)
        assert set(reasons(traffic)[::2]) == {""}
        assert set(reasons(traffic)[1::2]) == {"probe"}

    def test_browsing_is_no_scan(self) -> None:
        """One host that visits many internet addresses once each is kept."""
        traffic = Traffic(INVENTORY)
        for i in range(60):
            traffic.add(WEBS[0], f"198.51.100.{i}", "tcp/443", times=1)
        assert set(reasons(traffic)) == {""}


class TestDirection:
    """Traffic whose direction was guessed."""

    def test_guessed(self) -> None:
        """Told from port order and hardly seen: unsure, or both-ephemeral where the port is high."""
        assert one(WEBS[0], DB, "tcp/8443", times=1, confidence="port-order") == "direction-unsure"
        assert one(WEBS[0], DB, "tcp/40000", times=1, confidence="port-order") == "both-ephemeral"

    def test_a_port_that_comes_back_is_a_service(self) -> None:
        """The same port again and again is kept even where the direction was guessed."""
        assert one(WEBS[0], DB, "tcp/8443", times=3, confidence="port-order") == ""

    def test_known_services_are_believed(self) -> None:
        """A well-known port is a server's, however rarely seen."""
        assert one(WEBS[0], DB, "tcp/5432", times=1, confidence="port-order") == ""
        assert one(WEBS[0], DB, "tcp/631", times=1, confidence="port-order") == ""

    def test_known_direction_is_believed(self) -> None:
        """A high port in a direction that the reporter knows is kept."""
        assert one(WEBS[0], DB, "tcp/40000", times=1, confidence="flags") == ""
        assert one(WEBS[0], DB, "tcp/40000", times=1, confidence="fan-in") == "both-ephemeral"


def test_every_reason_is_explained() -> None:
    """Every reason has a meaning and a next step for people."""
    assert set(WHY) == set(HELP) == set(ASIDE) - {""}
