"""Rendered tables, byte for byte the reviewed ones. `UPDATE_GOLDEN=1 pytest` writes them anew for review."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from nft_intents import OWN

from ringfence.core.identity.workload import Direction, Mode
from ringfence.core.intent.model import Cell, Intent, Part, Passage, PeerClass
from ringfence.core.net.address import parse_address, parse_cidr
from ringfence.core.net.intervals import EMPTY, IntervalSet
from ringfence.core.net.service import ANY, parse_service
from ringfence.core.policy.model import Action
from ringfence.targets.nftables.areas import CgroupRef
from ringfence.targets.nftables.render import render
from ringfence.targets.nftables.text import format_layout

GOLDEN = Path(__file__).parents[2] / "golden" / "nftables"
A = parse_address
WEB = PeerClass(1, "app=shop,role=web", (A("10.1.0.1"), A("10.1.0.2"), A("fd00::1")))
DEV = PeerClass(2, "env=dev", (A("10.9.0.1"),))
OFFICE = PeerClass(
    3, "203.0.113.0/24 + 2001:db8::/64", (), (*parse_cidr("2001:db8::/64"), *parse_cidr("203.0.113.0/24"))
)
GROUPS = {"nginx.service": CgroupRef("system.slice/nginx.service", 2, 4242)}


def cell(peer: int, service: str, action: Action, rule: str) -> Cell:
    return Cell(peer, parse_service(service), action, rule)


def part(direction: Direction, *cells: Cell, local: IntervalSet = EMPTY, unit: str | None = None) -> Part:
    return Part(direction, cells, local, unit)


def intent(mode: Mode, *parts: Part, peers: tuple[PeerClass, ...] = (WEB, DEV, OFFICE), **more: object) -> Intent:
    return Intent("0d9c1c0e-51a4-5d0e-9c2b-3f1b7f9c0a11", "db-1", mode, OWN, peers, parts, revision=7, **more)  # type: ignore[arg-type]


ENFORCE, SELECTIVE, OBSERVE = (Mode.both(name) for name in ("enforce", "selective", "observe"))
POSTGRES = cell(1, "tcp/5432", "allow", "shop/orders")
INTENTS = {
    "single_ports": intent(ENFORCE, part("in", POSTGRES, cell(1, "udp/53", "allow", "shop/dns")), peers=(WEB,)),
    "ranges_and_any": intent(
        ENFORCE,
        part("in", cell(1, "tcp/8000-8100", "allow", "shop/app"), Cell(2, ANY, "forbid", "guard/dev-to-prod")),
        part(
            "out",
            Cell(1, ANY - parse_service("tcp/23"), "allow", "shop/out"),
            cell(1, "tcp/23", "deny", "guard/telnet"),
        ),
        peers=(WEB, DEV),
    ),
    "cidrs_and_anyone": intent(
        SELECTIVE,
        part("in", cell(3, "tcp/443", "allow", "shop/office"), cell(0, "tcp/3389", "deny", "guard/rdp")),
        peers=(WEB, OFFICE),
    ),
    "observe": intent(OBSERVE, part("in", POSTGRES, Cell(2, ANY, "forbid", "guard/dev-to-prod")), peers=(WEB, DEV)),
    "icmp_and_other_protocols": intent(
        Mode("enforce", "observe"),
        part("in", cell(1, "icmp/echo", "allow", "ops/ping"), cell(3, "proto/47", "allow", "ops/gre")),
        part("out", cell(3, "icmp", "allow", "ops/icmp")),
    ),
    "quarantine": intent(
        OBSERVE,
        part("in", POSTGRES),
        peers=(WEB,),
        isolated=(A("10.1.0.2"), A("fd00::1")),
        quarantine_passages=(Passage("in", parse_cidr("10.99.0.0/24"), parse_service("tcp/22")),),
    ),
    "quarantined_host_with_failsafe": intent(
        ENFORCE,
        part("in", POSTGRES),
        peers=(WEB,),
        is_quarantined=True,
        failsafe=(
            Passage("in", parse_cidr("10.99.0.0/24") | parse_cidr("fd99::/64"), parse_service("tcp/22")),
            Passage("out", parse_cidr("10.99.0.53/32"), parse_service("udp/53") | parse_service("icmp/echo")),
        ),
    ),
    "local_addresses": intent(
        ENFORCE,
        part("in", POSTGRES, local=IntervalSet.single(A("172.20.0.2"))),
        part("in", cell(3, "tcp/443", "allow", "shop/office"), local=IntervalSet.single(A("172.20.0.3"))),
        peers=(WEB, OFFICE),
    ),
    "processes": intent(
        ENFORCE,
        part("out", cell(3, "tcp/443", "allow", "shop/out")),
        part("out", cell(3, "tcp/80", "allow", "shop/nginx"), unit="nginx.service"),
        peers=(OFFICE,),
    ),
}


@pytest.mark.parametrize("name", INTENTS)
def test_a_table_is_rendered_as_reviewed(name: str) -> None:
    """The text of each reviewed table stays what it is."""
    text = format_layout(render(INTENTS[name], 5, GROUPS))
    path = GOLDEN / f"{name}.nft"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")

    assert text == path.read_text(encoding="utf-8")


def test_every_reviewed_table_is_still_rendered() -> None:
    """No golden file is left over."""
    assert {path.stem for path in GOLDEN.glob("*.nft")} == set(INTENTS)
