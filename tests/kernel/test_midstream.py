"""Connections that were there before anybody looked: who began them is what the host's sockets say. Real packets."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec
import pytest
from nft_ground import Connection, Ground, passes
from nft_intents import OWN

from ringfence.core.identity.workload import Mode
from ringfence.core.intent.model import Cell, Intent, Part, PeerClass
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import parse_service
from ringfence.targets.nftables import target
from ringfence.targets.nftables.conntrack import tcp_marks
from ringfence.targets.nftables.netlink import Netlink
from ringfence.targets.nftables.sockets import Connected, connections

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root on Linux"),
]
HOST, PEER, PORT = parse_address("172.20.0.2"), parse_address("10.1.0.1"), 5432
ALLOWED = Intent(
    "uuid",
    "host",
    Mode.both("enforce"),
    OWN,
    (PeerClass(1, "app=one", (PEER,)),),
    (Part("in", (Cell(1, parse_service(f"tcp/{PORT}"), "allow", "shop/db"),)), Part("out", ())),
)
CLOSED = msgspec.structs.replace(ALLOWED, parts=(Part("in", ()), Part("out", ())))


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground() as made:
        yield made


def connected(ground: Ground) -> Connection:
    return ground.connection(server=ground.host, client=ground.peer, client_address=PEER, address=HOST, port=PORT)


@pytest.mark.parametrize("speaks_first", ["client", "server"])
def test_what_began_while_the_first_rules_came_is_judged_as_it_began(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, speaks_first: str
) -> None:
    """It was not there when the host's connections were listed, and the first segment that the rules see is of either
    side: it is entered as the connection it is. Allowed, it goes on when the host enforces; withdrawn, it is cut."""
    live, listed = connected(ground), []

    def listing(netns: str | None) -> tuple[Connected, ...]:
        """Nobody was there at first; at the second look the connection has been picked up."""
        listed.append(netns)
        if len(listed) == 1:
            return ()
        sender, receiver = (live.server, live.client) if speaks_first == "server" else (live.client, live.server)
        assert passes(sender, receiver)
        with Netlink(ground.host) as netlink:
            assert set(tcp_marks(netlink)) & {(here, there), (there, here)}
        return connections(netns)

    here, there = (HOST, PORT), (PEER, live.client.getsockname()[1])
    monkeypatch.setattr(target, "connections", listing)
    ground.target.converge(msgspec.structs.replace(ALLOWED, mode=Mode()))

    with Netlink(ground.host) as netlink:
        ways = {way for way in tcp_marks(netlink) if set(way) == {here, there}}
    assert ways == {(there, here)}
    ground.target.converge(ALLOWED)
    assert live.works()
    assert live.works()
    ground.target.converge(CLOSED)
    assert not passes(live.server, live.client, within_s=0.3)
    assert not passes(live.client, live.server, within_s=0.3)
