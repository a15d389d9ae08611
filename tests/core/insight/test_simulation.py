"""Simulation only counts what the engine says, and counts all of it."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from insight_estate import MONTH, Traffic, shop_inventory, shop_traffic

from ringfence.core.engine import Engine
from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode
from ringfence.core.insight.simulate import Simulation, simulate
from ringfence.core.policy.parse import parse_policies
from ringfence.core.world import REASONS, VERDICTS, World

ENFORCE = Mode.both("enforce")
SHOP = """
policy: shop
scope: app=shop,env=prod
segments: {web: role=web, api: role=api, db: role=db}
rules:
  - {name: visitors, allow: {from: internet, to: web, service: https}}
  - {name: calls, allow: {from: web, to: api, service: tcp/8080}}
  - {name: orders, allow: {from: api, to: db, service: postgres, require: mutual-tls}}
  - {name: spare, allow: {from: web, to: db, service: redis}}
"""
SHOP_PROD, CRM = "app=shop,env=prod", "app=crm,env=prod"
BILLING = "app=billing,env=prod,role=api"
GUARD = """
policy: guard
rules:
  - {name: apart, forbid: {from: app=billing, to: app=shop}}
"""


@cache
def shop() -> tuple[Inventory, Conversations]:
    inventory = shop_inventory()
    traffic = shop_traffic(inventory)
    traffic.add("crm-prod-web-0", "shop-prod-api-0", "tcp/8080", reported="allowed")
    traffic.add("shop-prod-web-0", "shop-prod-api-1", "tcp/8080", times=3, reported="blocked")
    return inventory, traffic.build()


@cache
def simulated(mode: Mode | None = ENFORCE) -> Simulation:
    inventory, rows = shop()
    policies = parse_policies({"shop": SHOP, "guard": GUARD}).raise_if_errors()
    return simulate(Engine.compile(World(inventory, policies)), rows, as_mode=mode)


@pytest.mark.parametrize("mode", [ENFORCE, None, Mode.both("selective")], ids=["enforce", "as is", "selective"])
def test_everything_is_counted_once(mode: Mode | None) -> None:
    """By verdict, by rule, by hour: every count adds up to the traffic, and to the engine's columns."""
    _, rows = shop()
    found, total = simulated(mode), int(rows.connections.sum())
    engine = np.bincount(found.judgement.verdict, rows.connections, 3).astype(int).tolist()
    assert [found.totals[v].connections for v in VERDICTS] == engine
    assert [sum(r.allowed for r in found.rules), sum(r.would_block for r in found.rules)] == engine[:2]
    assert [sum(x) for x in (found.series.allowed, found.series.would_block, found.series.blocked)] == engine
    assert sum(r.allowed + r.would_block + r.blocked for r in found.rules) == total
    assert sum(c.rows for c in found.totals.values()) == len(rows)
    missed = sum(b.connections for b in found.breaks) + sum(n.connections for n in found.noise)
    assert missed == total - engine[0]
    of_applications = sum(a.allowed + a.uncontrolled + a.would_block + a.blocked for a in found.applications)
    assert of_applications == total


def test_real_modes_only_would_block() -> None:
    """An observing estate is not blocked: what would break says so."""
    found = simulated(None)
    assert found.totals["blocked"].connections == 0
    assert {b.verdict for b in found.breaks} == {"would-block"}


def test_breaks_are_grouped_and_ordered() -> None:
    """What breaks is told by who, to whom and on what, heaviest first, with how many ends took part."""
    found = simulated()
    assert [b.connections for b in found.breaks] == sorted((b.connections for b in found.breaks), reverse=True)
    [orders] = [b for b in found.breaks if b.source == "app=shop,env=prod,role=api" and b.service == "postgres"]
    assert orders.destination == "app=shop,env=prod,role=db"
    assert (orders.sources, orders.destinations, orders.connections) == (2, 1, 2 * 10 * len(MONTH))
    assert (orders.verdict, orders.reason, orders.rule) == ("blocked", "default", None)


@pytest.mark.parametrize(
    ("source", "destination", "hint"),
    [
        (f"{SHOP_PROD},role=api", f"{SHOP_PROD},role=db", "`shop/orders` comes closest; it needs: mutual-tls"),
        (BILLING, f"{SHOP_PROD},role=db", "`guard/apart` forbids it, and no allow lifts a forbid"),
        (f"{CRM},role=web", f"{SHOP_PROD},role=api", "`shop/calls` comes closest; it needs: from `web`"),
        ("unlabelled", f"{SHOP_PROD},role=db", "label `mystery`, then write a rule for it"),
        (f"{CRM},role=web", f"{CRM},role=db", "no rule comes close: add an allow to the destination's policy"),
    ],
)
def test_hints(source: str, destination: str, hint: str) -> None:
    """Each break says what stands nearest to letting it pass."""
    hints = {b.hint for b in simulated().breaks if (b.source, b.destination) == (source, destination)}
    assert hints == {hint}


def test_noise_is_no_break() -> None:
    """A scanner's connections and what is blocked today are listed apart."""
    noise = {n.reason: n.connections for n in simulated().noise}
    assert noise == {"scanner": 54}
    assert not any(b.source.startswith("10.66.") for b in simulated().breaks)


def test_opens_and_closes() -> None:
    """What was reported blocked and passes now is opened; what was reported allowed and is blocked now is closed."""
    found = simulated()
    [opened], [closed] = found.opens, found.closes
    assert (opened.source, opened.connections, opened.rule) == ("app=shop,env=prod,role=web", 3, "shop/calls")
    assert (closed.source, closed.destination, closed.connections) == (
        "app=crm,env=prod,role=web", "app=shop,env=prod,role=api", 10,
    )  # fmt: skip


def test_unused_rules() -> None:
    """Rules that decided nothing are named; a rule whose condition is never stated is one of them."""
    assert simulated().unused == ("shop/orders", "shop/spare")


def test_talkers() -> None:
    """The pairs with the most bytes come first, with the worst verdict any of their connections had."""
    talkers = simulated().talkers
    assert len(talkers) == 20
    assert [t.bytes for t in talkers] == sorted((t.bytes for t in talkers), reverse=True)
    assert {t.worst for t in talkers} <= set(VERDICTS)


def test_series() -> None:
    """Hours come in order, each once, only where there was traffic."""
    series = simulated().series
    assert list(series.hours) == sorted(set(series.hours))
    assert len(series.hours) == len(np.unique(shop()[1].hour))


def test_coverage_of_applications() -> None:
    """An application's share is what passes of its controlled connections."""
    by_name = {a.application: a for a in simulated().applications}
    assert by_name["app=crm,env=prod"].share == 0.0
    prod = by_name["app=shop,env=prod"]
    assert prod.share == prod.allowed / (prod.allowed + prod.blocked)
    assert 0 < prod.share < 1


def test_nothing_stored() -> None:
    """No traffic: no breaks, nothing counted, and no claim that anything was used."""
    inventory = shop_inventory()
    found = simulate(Engine.compile(World(inventory)), Traffic(inventory).build())
    assert found.is_clean
    assert (found.series.hours, found.rules, found.applications) == ((), (), found.applications)
    assert sum(c.connections for c in found.totals.values()) == 0
    assert "default" in REASONS
