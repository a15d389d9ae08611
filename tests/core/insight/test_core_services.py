"""Core services are told by port and shape, and opened no further than the shape was seen."""

from __future__ import annotations

import numpy as np
import pytest
from insight_estate import MONTH, Traffic, app, workload

from ringfence.core.identity.inventory import Inventory
from ringfence.core.insight.core_services import CoreService, recognise
from ringfence.core.insight.parties import LabelKeys, identify

APPS = [f"a{i}" for i in range(6)]
ESTATE = [
    *(w for i, name in enumerate(APPS) for w in app(name, "prod", f"10.0.{i}", web=1, db=1)),
    *(w for i, name in enumerate(APPS[:2]) for w in app(name, "dev", f"10.1.{i}", web=1)),
    *app("platform", "prod", "10.2.0", dns=2, prometheus=1, mirror=1, vault=1, jump=1, catalog=1),
]
INVENTORY = Inventory(ESTATE)
WEBS = [f"{name}-prod-web-0" for name in APPS]


PROD = ["env=prod"]


def role(name: str) -> list[str]:
    return [f"app=platform,env=prod,role={name}"]


def found(traffic: Traffic, tight: int = 5) -> tuple[CoreService, ...]:
    rows = traffic.build()
    return recognise(rows, identify(rows, traffic.inventory), LabelKeys(), np.arange(len(rows)), tight)


def texts(service: CoreService) -> tuple[str, list[str], list[str], tuple[str, ...]]:
    sources, destinations = ([p.text for p in x] for x in (service.sources, service.destinations))
    return service.kind.name, sources, destinations, service.words


def to_server(server: str, service: str, sources: list[str] = WEBS) -> Traffic:
    traffic = Traffic(INVENTORY)
    for source in sources:
        traffic.add(source, server, service, hours=MONTH)
    return traffic


@pytest.mark.parametrize(
    ("server", "service", "expected"),
    [
        ("platform-prod-dns-0", "udp/53", ("dns", PROD, role("dns"), ("dns",))),
        ("10.9.0.2", "udp/53", ("dns", PROD, ["10.9.0.2"], ("dns",))),
        ("198.51.100.9", "udp/123", ("time", PROD, ["198.51.100.9"], ("ntp",))),
        ("10.9.0.3", "tcp/389", ("directory", PROD, ["10.9.0.3"], ("ldap",))),
        ("10.9.0.4", "tcp/6514", ("logging", PROD, ["10.9.0.4"], ("syslog",))),
        ("platform-prod-mirror-0", "tcp/8081", ("packages", PROD, role("mirror"), ("tcp/8081",))),
        ("platform-prod-vault-0", "tcp/8200", ("secrets", PROD, role("vault"), ("tcp/8200",))),
    ],
)  # fmt: skip
def test_servers(server: str, service: str, expected: tuple[object, ...]) -> None:
    """What many applications use is one rule from their environment, to labels or to the server's address."""
    assert [texts(s) for s in found(to_server(server, service))] == [expected]


@pytest.mark.parametrize(
    ("client", "service", "expected"),
    [
        (
            "platform-prod-prometheus-0",
            "tcp/9100",
            ("monitoring", role("prometheus"), PROD),
        ),
        (
            "platform-prod-prometheus-0",
            "tcp/9999",
            ("monitoring", role("prometheus"), PROD),
        ),
        ("platform-prod-jump-0", "tcp/22", ("admin", role("jump"), PROD)),
        ("10.9.0.5", "tcp/9102", ("backup", ["10.9.0.5"], PROD)),
    ],
)
def test_clients(client: str, service: str, expected: tuple[object, ...]) -> None:
    """What reaches many applications on one port is one rule to their environment."""
    traffic = Traffic(INVENTORY)
    for web in WEBS:
        traffic.add(client, web, service, hours=MONTH)
    assert [texts(s)[:3] for s in found(traffic)] == [expected]


def test_environments_are_kept_apart() -> None:
    """An environment in which too few applications were seen is not opened."""
    devs = [f"{name}-dev-web-0" for name in APPS[:2]]
    [service] = found(to_server("platform-prod-dns-0", "udp/53", WEBS + devs))
    assert texts(service)[1] == PROD
    assert len(service.rows) == len(WEBS) * len(MONTH)


def test_several_servers_are_one_rule() -> None:
    """Redundant servers share a rule."""
    traffic = to_server("10.9.0.2", "udp/53")
    for web in WEBS:
        traffic.add(web, "10.9.0.3", "udp/53", hours=MONTH)
    assert [texts(s)[2] for s in found(traffic)] == [["10.9.0.2/31"]]


def test_public_time_servers_are_the_internet() -> None:
    """More public servers than can be listed are `internet`, each application having met other ones."""
    traffic = Traffic(INVENTORY)
    for i, web in enumerate(WEBS):
        for j in range(3):
            traffic.add(web, f"198.51.{i}.{j}", "udp/123", hours=MONTH)
    assert [texts(s)[2] for s in found(traffic)] == [["internet"]]


@pytest.mark.parametrize(
    "traffic",
    [
        to_server("platform-prod-dns-0", "udp/53", WEBS[:2]),
        to_server("platform-prod-catalog-0", "tcp/8081"),
        to_server("198.51.100.9", "tcp/389"),
        to_server("198.51.100.9", "tcp/25"),
    ],
    ids=["too few", "an ordinary service", "a public directory", "public mail"],
)
def test_not_core(traffic: Traffic) -> None:
    """Too few users, a port that says nothing, or a server that should not be public are left to the owner."""
    assert found(traffic) == ()


def test_a_client_must_reach_its_share() -> None:
    """A host that reaches three of many applications on ssh is no jump host for all of them."""
    inventory = Inventory([*ESTATE, *(w for i in range(20) for w in app(f"b{i}", "prod", f"10.5.{i}", web=1))])
    traffic = Traffic(inventory)
    for web in WEBS[:3]:
        traffic.add("platform-prod-jump-0", web, "tcp/22", hours=MONTH)
    assert found(traffic) == ()


def test_tight_asks_for_more() -> None:
    """The tighter, the larger the share of an environment that must have been seen."""
    assert len(found(to_server("10.9.0.2", "udp/53", WEBS[:3]), tight=5)) == 1
    inventory_share = found(to_server("10.9.0.2", "udp/53", WEBS[:3]), tight=10)
    assert len(inventory_share) == 1
    wide = Inventory([*ESTATE, *(w for i in range(20) for w in app(f"b{i}", "prod", f"10.5.{i}", web=1))])
    traffic = Traffic(wide)
    for web in WEBS[:3]:
        traffic.add(web, "10.9.0.2", "udp/53", hours=MONTH)
    assert found(traffic, tight=10) == ()


def test_unlabelled_estate() -> None:
    """Without environments there is no selector for everybody, so nothing is opened to everybody."""
    inventory = Inventory([workload(f"w{i}", f"10.0.0.{i + 1}") for i in range(9)])
    traffic = Traffic(inventory)
    for i in range(1, 9):
        traffic.add(f"w{i}", "w0", "udp/53", hours=MONTH)
    assert found(traffic) == ()


def test_each_row_once() -> None:
    """A row belongs to at most one core service."""
    traffic = to_server("platform-prod-dns-0", "udp/53")
    for web in WEBS:
        traffic.add("platform-prod-prometheus-0", web, "tcp/9100", hours=MONTH)
    rows = np.concatenate([s.rows for s in found(traffic)])
    assert len(rows) == len(np.unique(rows)) == 2 * len(WEBS) * len(MONTH)
