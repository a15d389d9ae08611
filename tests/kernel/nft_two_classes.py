"""Two classes of peers and one host, in both families: the ground of tests about one policy after another."""

from __future__ import annotations

from nft_intents import OWN

from ringfence.core.identity.workload import Direction, Mode
from ringfence.core.intent.model import Cell, Intent, Part, PeerClass
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import parse_service

A = parse_address
HOST4, HOST6 = A("172.20.0.2"), A("fd20::2")
PEER4, PEER6, OTHER4 = A("10.1.0.1"), A("fd00::1"), A("10.1.0.2")
PEERS = (PeerClass(1, "app=one", (PEER4, PEER6)), PeerClass(2, "app=two", (OTHER4,)))


def intent(*cells: tuple[Direction, int, str, str], peers: tuple[PeerClass, ...] = PEERS, **more: object) -> Intent:
    """The host in `enforce`, with these (direction, class, service, action)."""
    parts = tuple(
        Part(d, tuple(Cell(n, parse_service(s), a, f"p/{s}") for x, n, s, a in cells if x == d))  # type: ignore[arg-type]
        for d in ("in", "out")
    )
    return Intent("uuid", "host", Mode.both("enforce"), OWN, peers, parts, **more)  # type: ignore[arg-type]
