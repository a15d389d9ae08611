"""What a host passes on for others, in real packets: no policy judges it, quarantine stops it."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import sys
from collections.abc import Iterator

import msgspec
import pytest
from nft_ground import UDP, Connection, Ground, passes, run
from nft_two_classes import HOST4, HOST6, OTHER4, PEER4, PEER6, A, intent

from ringfence.agent.host import forwards
from ringfence.core.intent.model import Intent, Passage
from ringfence.core.net.address import format_address, is_v4, parse_cidr
from ringfence.core.net.service import parse_service
from ringfence.targets.nftables import NftablesTarget
from ringfence.targets.nftables.layout import Layout
from ringfence.targets.nftables.plan import difference
from ringfence.targets.nftables.render import PASSED_ON, render, said_in, sealed

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="namespaces and nftables need root on Linux"
    ),
    pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed"),
]
BRIEFLY_S = 0.4
CLOSED = intent()
OPEN = intent(("in", 1, "tcp/80", "allow"))
INSIDE = {4: A("172.31.0.2"), 6: A("fd31::2")}
PUBLISHED, WITHIN = 8080, 80
NAT = "".join(
    f"""
table {family} nat {{
  chain pre {{
    type nat hook prerouting priority -100;
    {family} daddr {host} tcp dport {PUBLISHED} dnat to {inside}:{WITHIN}
  }}
  chain post {{
    type nat hook postrouting priority 100;
    {family} saddr {network} oif v masquerade
  }}
}}
"""
    for family, host, inside, network in (
        ("ip", "172.20.0.2", "172.31.0.2", "172.31.0.0/24"),
        ("ip6", "fd20::2", "[fd31::2]", "fd31::/64"),
    )
)
"""As container engines publish ports and let containers out."""


class Containers:
    """A ground whose host has a container behind it, in a namespace of its own."""

    def __init__(self, ground: Ground) -> None:
        self.ground, self.name = ground, f"{ground.prefix}c"
        self._opened: list[socket.socket] = []

    def __enter__(self) -> Containers:
        ground, host, inside = self.ground, self.ground.host, self.name
        run("ip", "netns", "add", inside)
        run("ip", "link", "add", "c0", "netns", host, "type", "veth", "peer", "name", "e0", "netns", inside)
        for where, device, addresses in (
            (host, "c0", ("172.31.0.1/24", "fd31::1/64 nodad")),
            (inside, "e0", ("172.31.0.2/24", "fd31::2/64 nodad")),
        ):
            ground.run(where, f"ip link set {device} up")
            for address in addresses:
                ground.run(where, f"ip addr add {address.split()[0]} dev {device} {' '.join(address.split()[1:])}")
        ground.run(inside, "ip route add default via 172.31.0.1")
        ground.run(inside, "ip -6 route add default via fd31::1")
        ground.run(ground.peer, "ip route add 172.31.0.0/24 via 172.20.0.2")
        for setting in ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"):
            ground.run(host, f"sysctl -qw {setting}")
        ground.nft(NAT)
        self.serving = {n: self._listening(inside, address, WITHIN) for n, address in INSIDE.items()}
        return self

    def __exit__(self, *_: object) -> None:
        for opened in self._opened:
            opened.close()
        run("ip", "netns", "del", self.name)

    def _listening(self, where: str, address: int, port: int) -> socket.socket:
        opened = self._socket(where, address)
        opened.bind((format_address(address), port))
        opened.listen(8)
        return opened

    def _socket(self, where: str, address: int) -> socket.socket:
        opened = self.ground.socket_in(where, socket.AF_INET if is_v4(address) else socket.AF_INET6, socket.SOCK_STREAM)
        self._opened.append(opened)
        return opened

    def come_in(self, peer: int, *, to: int | None = None, port: int = PUBLISHED) -> Connection:
        """A connection from outside to the port that the host publishes, or to the container's own address."""
        address = to or (HOST4 if is_v4(peer) else HOST6)
        calling = self._calling(peer)
        calling.connect((format_address(address), port))
        return self._answered(calling, self.serving[4 if is_v4(peer) else 6])

    def go_out(self, peer: int) -> Connection:
        """A connection of the container to a peer, under the host's address."""
        listening = self._listening(self.ground.peer, peer, 0)
        calling = self._socket(self.name, peer)
        calling.connect((format_address(peer), listening.getsockname()[1]))
        return self._answered(calling, listening)

    def _answered(self, calling: socket.socket, listening: socket.socket) -> Connection:
        answering, _ = listening.accept()
        self._opened.append(answering)
        return Connection(calling, answering)

    def _calling(self, peer: int) -> socket.socket:
        calling = self._socket(self.ground.peer, peer)
        calling.bind((format_address(peer), 0))
        return calling

    def is_closed_to(self, peer: int) -> bool:
        calling = self._calling(peer)
        calling.settimeout(BRIEFLY_S)
        try:
            calling.connect((format_address(HOST4 if is_v4(peer) else HOST6), PUBLISHED))
        except TimeoutError:
            return True
        return False


def is_cut(connection: Connection) -> bool:
    """Neither side is heard any more."""
    return not any(passes(*ends, within_s=BRIEFLY_S) for ends in (tuple(connection), tuple(reversed(connection))))


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground() as ground:
        yield ground


@pytest.fixture
def containers(ground: Ground) -> Iterator[Containers]:
    with Containers(ground) as containers:
        yield containers


def quarantined(of: Intent, *passages: Passage) -> Intent:
    return msgspec.structs.replace(of, is_quarantined=True, quarantine_passages=passages)


def isolating(of: Intent, *peers: int) -> Intent:
    return msgspec.structs.replace(of, isolated=tuple(sorted(peers)))


@pytest.mark.parametrize("peer", [PEER4, PEER6], ids=["v4", "v6"])
@pytest.mark.parametrize("is_swift", [True, False], ids=["swift", "whole"])
def test_quarantine_stops_what_a_host_passes_on(containers: Containers, peer: int, is_swift: bool) -> None:
    """A published port is open in spite of a policy that allows nothing; quarantine cuts what is established, both
    ways, and lets nothing begin, whichever way it is put in force; after release it is open again."""
    target = containers.ground.target
    target.converge(CLOSED)
    coming, going = containers.come_in(peer), containers.go_out(peer)
    assert coming.works()
    assert going.works()

    seen = target.apply_isolation(quarantined(CLOSED)) if is_swift else target.converge(quarantined(CLOSED))

    assert seen.state == "realised"
    assert NftablesTarget(containers.ground.host).verify(quarantined(CLOSED)).state == "realised"
    assert is_cut(coming)
    assert is_cut(going)
    assert containers.is_closed_to(peer)
    assert containers.ground.counts()["in_quarantine"] > 0

    target.apply_isolation(CLOSED) if is_swift else target.converge(CLOSED)

    assert containers.come_in(peer).works()
    assert containers.go_out(peer).works()


def test_quarantine_holds_while_a_policy_is_on_trial_and_after(containers: Containers) -> None:
    """Both generations are bound: on trial, and when it is reverted."""
    target = containers.ground.target
    target.converge(OPEN)
    target.converge(CLOSED, trial_s=600)
    assert containers.come_in(PEER4).works()

    target.apply_isolation(quarantined(CLOSED))
    assert containers.is_closed_to(PEER4)
    target.revert()

    assert containers.is_closed_to(PEER4)


@pytest.mark.parametrize("peer", [PEER4, PEER6], ids=["v4", "v6"])
def test_an_isolated_peer_does_not_reach_a_hosts_containers(containers: Containers, peer: int) -> None:
    """What the host publishes or sends out under its own address is closed to the isolated peer, begun or not; to
    others it is open."""
    target = containers.ground.target
    target.converge(CLOSED)
    coming, going, other = containers.come_in(peer), containers.go_out(peer), containers.come_in(OTHER4)

    target.apply_isolation(isolating(CLOSED, peer))

    assert is_cut(coming)
    assert is_cut(going)
    assert containers.is_closed_to(peer)
    assert other.works()
    assert containers.come_in(OTHER4).works()


def test_what_is_routed_between_others_is_left_to_its_ends(containers: Containers) -> None:
    """A host between an isolated peer and another is no end of theirs: an exception of the quarantine can pass it."""
    target = containers.ground.target
    target.converge(isolating(CLOSED, PEER4))

    assert containers.come_in(PEER4, to=INSIDE[4], port=WITHIN).works()


@pytest.mark.parametrize(
    "setting", ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.v.forwarding"]
)
def test_a_host_knows_that_it_forwards(ground: Ground, setting: str) -> None:
    """In either family, from an interface to another; with one alone there is nobody to forward for."""
    ground.run(ground.host, f"sysctl -qw {setting}=1")
    assert not forwards(ground.host)

    ground.run(ground.host, "ip link add other type veth peer name another")

    assert forwards(ground.host)
    ground.run(ground.host, f"sysctl -qw {setting}=0")
    assert not forwards(ground.host)


# -- a table of the version before, which had no such chain ------------------------------------------------------------


def earlier(intent: Intent, generation: int) -> Layout:
    layout = render(intent, generation)
    chains = {name: chain for name, chain in layout.chains.items() if name != PASSED_ON}
    return sealed(msgspec.structs.replace(layout, chains=chains), said_in(layout))


def load(ground: Ground, layout: Layout) -> None:
    changes = difference(layout, None)
    with ground.target._netlink() as netlink:
        for step in (changes.preparation, changes.change):
            netlink.commit(step)


def test_a_table_of_the_version_before_is_known_and_completed(containers: Containers) -> None:
    """It is untouched, not drifted; all that changes is the chain it lacked, so nobody is judged again."""
    ground = containers.ground
    load(ground, earlier(OPEN, 7))
    connection = ground.connection(server=ground.host, client=ground.peer, client_address=PEER4, address=HOST4, port=80)
    target = NftablesTarget(ground.host)
    found = target.observe()
    assert (found.state, found.policy_generation) == ("realised", 7)

    plan = target.plan(OPEN, found)
    seen = target.converge(OPEN)

    assert {line for line in plan.summary if not line.endswith(" of about")} == {f"+ chain {PASSED_ON}: 0 rules"}
    assert (seen.state, seen.policy_generation) == ("realised", 7)
    assert connection.works()
    target.apply_isolation(quarantined(OPEN))
    assert containers.is_closed_to(PEER4)


@pytest.mark.parametrize("ends", ["confirmed", "reverted"])
def test_a_trial_over_a_table_of_the_version_before(containers: Containers, ends: str) -> None:
    """A policy is tried beside it; however it ends, quarantine stops what is passed on."""
    ground = containers.ground
    load(ground, earlier(OPEN, 7))
    target = NftablesTarget(ground.host)

    assert target.converge(CLOSED, trial_s=600).on_trial
    target.confirm() if ends == "confirmed" else target.revert()

    policy = CLOSED if ends == "confirmed" else OPEN
    target.converge(policy)
    assert containers.come_in(PEER4).works()
    target.apply_isolation(quarantined(policy))
    assert containers.is_closed_to(PEER4)


# -- marks that others write -------------------------------------------------------------------------------------------

FORENSICS = Passage("in", parse_cidr("10.1.0.2/32"), parse_service("tcp/81"))
SAVES_MARKS = "table ip foreign { chain out { type filter hook output priority -150; ct mark set meta mark; }\n}\n"
SO_MARK = 36


def test_no_mark_passes_a_quarantine(ground: Ground) -> None:
    """Somebody's rule copies packet marks to connections, and a program sets its own: whatever it guesses, the host
    is isolated."""
    ground.target.converge(quarantined(OPEN))
    ground.nft(SAVES_MARKS)
    list(ground.seen())

    for byte in range(256):
        with ground.socket_in(ground.host, socket.AF_INET, socket.SOCK_DGRAM) as opened:
            opened.setsockopt(socket.SOL_SOCKET, SO_MARK, struct.pack("=I", byte << 24))
            with pytest.raises(PermissionError):
                opened.sendto(b"leak", (format_address(PEER4), 4444))
    ground.nft("delete table ip foreign\n")

    assert not [one for one in ground.seen() if one.protocol == UDP and one.ports[1] == 4444]


def test_an_exception_goes_on_though_conntrack_forgets_it(ground: Ground) -> None:
    """What passes a quarantine passes packet by packet, in mid-stream too, whichever side sends."""
    ground.target.converge(quarantined(OPEN, FORENSICS))
    excepted = ground.connection(server=ground.host, client=ground.peer, client_address=OTHER4, address=HOST4, port=81)
    assert excepted.works()

    ground.forget_connections()

    assert passes(excepted.server, excepted.client)
    assert passes(excepted.client, excepted.server)
