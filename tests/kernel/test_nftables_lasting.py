"""What becomes of live connections that lose permission: kept, drained or cut, as the apply says; some always cut."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from nft_ground import Ground, passes, until
from nft_two_classes import HOST4, HOST6, OTHER4, PEER4, PEER6, PEERS, A, intent

from ringfence.core.identity.workload import Direction
from ringfence.core.intent.model import Cell, Part
from ringfence.core.net.address import format_address, is_v4
from ringfence.core.net.service import parse_service
from ringfence.targets.nftables.cgroups import hierarchy
from ringfence.targets.nftables.revision import Live

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="namespaces and nftables need root on Linux"
    ),
    pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed"),
]
BRIEFLY_S = 0.3
LONG_S, SHORT_S = 600.0, 1.0


SERVICES: dict[Direction, str] = {"in": "80", "out": "443"}
OPEN = intent(*((d, n, f"{p}/{SERVICES[d]}", "allow") for d in SERVICES for n in (1, 2) for p in ("tcp", "udp")))
CLOSED = intent(("in", 1, "tcp/81", "allow"), ("in", 2, "tcp/81", "allow"))


class Talk(NamedTuple):
    """Two sockets with a flow between them."""

    client: socket.socket
    server: socket.socket

    def passes_from(self, side: str) -> bool:
        sender, receiver = (self.client, self.server) if side == "client" else (self.server, self.client)
        return passes(sender, receiver, within_s=BRIEFLY_S)

    def works(self) -> bool:
        return passes(self.client, self.server) and passes(self.server, self.client)


class Way(NamedTuple):
    protocol: str
    direction: Direction
    is_v6: bool


WAYS = [Way(p, d, v) for p in ("tcp", "udp") for d in SERVICES for v in (False, True)]


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground() as ground:
        yield ground


def talk(ground: Ground, way: Way, peer: int | None = None) -> Talk:
    """A live flow in which both sides have spoken."""
    host, remote = (HOST6, PEER6) if way.is_v6 else (HOST4, PEER4)
    remote = peer or remote
    server, client = (ground.host, ground.peer) if way.direction == "in" else (ground.peer, ground.host)
    address, client_address = (host, remote) if way.direction == "in" else (remote, host)
    port = int(SERVICES[way.direction])
    if way.protocol == "tcp":
        made = ground.connection(
            server=server, client=client, client_address=client_address, address=address, port=port
        )
        found = Talk(*made)
    else:
        found = datagrams(ground, server, client, (address, port), client_address)
    assert found.works()
    return found


def datagrams(ground: Ground, server: str, client: str, at: tuple[int, int], client_address: int) -> Talk:
    family = socket.AF_INET if is_v4(at[0]) else socket.AF_INET6
    answering = ground.socket_in(server, family, socket.SOCK_DGRAM)
    answering.bind((format_address(at[0]), at[1]))
    asking = ground.socket_in(client, family, socket.SOCK_DGRAM)
    asking.bind((format_address(client_address), 0))
    asking.connect((format_address(at[0]), at[1]))
    asking.send(b"ask")
    answering.connect(answering.recvfrom(64)[1])
    return Talk(asking, answering)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("side", ["client", "server"])
def test_cut_ends_it_at_once(ground: Ground, way: Way, side: str) -> None:
    """Cut: nothing passes any more, whichever side sends next."""
    ground.target.converge(OPEN)
    live = talk(ground, way)

    ground.target.converge(CLOSED, live="cut")

    assert not live.passes_from(side)
    assert not live.passes_from("server" if side == "client" else "client")


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("side", ["client", "server"])
def test_keep_lets_it_finish(ground: Ground, way: Way, side: str) -> None:
    """Kept connections go on from either side, for good; new ones are judged by the new policy."""
    ground.target.converge(OPEN)
    live = talk(ground, way)

    seen = ground.target.converge(CLOSED, live="keep")

    assert seen.state == "realised"
    assert live.passes_from(side)
    assert live.works()
    assert ground.target.observe().state == "realised"
    blocked = ground.counts()
    ground.target.verify(CLOSED)
    assert blocked["in_default_blocked"] == 0


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_drain_ends_it_by_and_by(ground: Ground, way: Way) -> None:
    """Drained connections go on until the time is over, which the kernel counts by itself."""
    ground.target.converge(OPEN)
    live = talk(ground, way)

    ground.target.converge(CLOSED, live="drain", grace_s=SHORT_S)
    assert until(lambda: not any(ground.target.observe().layout.timers.values()))  # type: ignore[union-attr]

    assert not live.passes_from("client")
    assert not live.passes_from("server")
    assert ground.target.observe().state == "realised"


def test_while_it_drains_it_works(ground: Ground) -> None:
    """Nothing is lost before the time is over."""
    ground.target.converge(OPEN)
    live = talk(ground, Way("tcp", "in", False))

    ground.target.converge(CLOSED, live="drain", grace_s=LONG_S)

    assert live.works()
    assert ground.target.plan(CLOSED, ground.target.verify(CLOSED)).is_empty


def test_a_new_connection_does_not_last(ground: Ground) -> None:
    """Keeping is for what was there: the same peer cannot begin anew."""
    ground.target.converge(OPEN)
    talk(ground, Way("tcp", "in", False))
    ground.target.converge(CLOSED, live="keep")

    calling = ground.socket_in(ground.peer, socket.AF_INET, socket.SOCK_STREAM)
    calling.settimeout(BRIEFLY_S)
    calling.bind(("10.1.0.1", 0))
    with pytest.raises((TimeoutError, ConnectionRefusedError)):
        calling.connect(("172.20.0.2", 80))


ALWAYS_CUT = {
    "forbid": intent(("in", 1, "tcp/80", "forbid"), ("in", 2, "tcp/80", "allow")),
    "quarantined peer": msgspec.structs.replace(CLOSED, isolated=(PEER4,)),
    "quarantined host": msgspec.structs.replace(CLOSED, is_quarantined=True),
    "relabelled": msgspec.structs.replace(
        CLOSED,
        peers=(
            msgspec.structs.replace(PEERS[0], addresses=(PEER6,)),
            msgspec.structs.replace(PEERS[1], addresses=(PEER4, OTHER4)),
        ),
    ),
    "gone": msgspec.structs.replace(CLOSED, peers=(msgspec.structs.replace(PEERS[0], addresses=(PEER6,)), PEERS[1])),
    "the last of its class": intent(("in", 2, "tcp/81", "allow"), peers=(PEERS[1],)),
}


@pytest.mark.parametrize("why", ALWAYS_CUT)
@pytest.mark.parametrize("live", ["keep", "drain"])
def test_some_losses_always_cut(ground: Ground, why: str, live: Live) -> None:
    """Forbid, quarantine and the loss of a class end connections at once, whatever the apply says of the others."""
    before = msgspec.structs.replace(OPEN)
    ground.target.converge(before)
    flow = talk(ground, Way("tcp", "in", False))

    ground.target.converge(ALWAYS_CUT[why], live=live, grace_s=LONG_S)

    assert not flow.passes_from("client")
    assert not flow.passes_from("server")


@pytest.mark.parametrize("live", ["keep", "drain"])
def test_a_later_loss_of_membership_cuts_what_lasts(ground: Ground, live: Live) -> None:
    """Relabelling away ends a connection that was let go on, and leaves the others to go on."""
    ground.target.converge(OPEN)
    leaver, other = talk(ground, Way("tcp", "in", False)), talk(ground, Way("tcp", "in", False), OTHER4)
    ground.target.converge(CLOSED, live=live, grace_s=LONG_S)
    assert leaver.works()

    ground.target.converge(ALWAYS_CUT["gone"], live=live, grace_s=LONG_S)

    assert not leaver.passes_from("client")
    assert not leaver.passes_from("server")
    assert other.works()
    assert ground.target.observe().state == "realised"


def test_the_stricter_word_wins(ground: Ground) -> None:
    """What one apply kept, a later one that cuts ends: the last word of policy about live connections."""
    ground.target.converge(OPEN)
    kept = talk(ground, Way("tcp", "in", False))
    ground.target.converge(CLOSED, live="keep")
    assert kept.works()

    ground.target.converge(intent(("in", 1, "tcp/82", "allow")), live="cut")

    assert not kept.passes_from("client")
    assert not kept.passes_from("server")


def test_a_newcomer_ends_nothing_that_lasts(ground: Ground) -> None:
    """Membership that only grows leaves kept connections as they are."""
    ground.target.converge(OPEN)
    kept = talk(ground, Way("tcp", "in", False))
    ground.target.converge(CLOSED, live="keep")
    grown = (msgspec.structs.replace(PEERS[0], addresses=(PEER4, A("10.1.0.3"), PEER6)), PEERS[1])

    ground.target.converge(msgspec.structs.replace(CLOSED, peers=grown), live="keep")

    assert kept.works()


def test_a_trial_that_drains_loses_nothing_if_it_reverts(ground: Ground) -> None:
    """A connection the trial refuses goes on while it drains, and after the trial is over."""
    ground.target.converge(OPEN)
    live = talk(ground, Way("tcp", "in", False))
    ground.target.converge(CLOSED, trial_s=LONG_S, live="drain", grace_s=LONG_S)
    assert live.works()

    ground.target.revert()

    assert live.works()


@pytest.mark.parametrize("live", ["keep", "drain", "cut"])
def test_first_enforcement_follows_the_word_too(ground: Ground, live: Live) -> None:
    """Connections older than the first rules: what policy allows goes on; what it refuses follows the word."""
    allowed, refused = talk(ground, Way("tcp", "in", False)), talk(ground, Way("tcp", "in", False), OTHER4)
    first = intent(("in", 1, "tcp/80", "allow"))

    ground.target.converge(first, live=live, grace_s=LONG_S)

    assert allowed.works()
    assert refused.passes_from("server") == (live != "cut")
    assert refused.passes_from("client") == (live != "cut")
    assert allowed.works()


# -- sockets -----------------------------------------------------------------------------------------------------------


def ending(talk: Talk, side: str) -> str:
    """What the program on one side gets when it reads; it does not write."""
    opened = talk.client if side == "client" else talk.server
    opened.settimeout(BRIEFLY_S)
    try:
        return "data" if opened.recv(1) else "end"
    except TimeoutError:
        return "waits"
    except OSError as error:
        return type(error).__name__


@pytest.mark.parametrize("way", [way for way in WAYS if way.protocol == "tcp"], ids=str)
def test_programs_of_cut_connections_learn_at_once(ground: Ground, way: Way) -> None:
    """A socket of the host that only listens is ended when its connection was cut, and no other."""
    ground.target.converge(OPEN)
    cut = talk(ground, way)
    stays = talk(ground, Way("tcp", "in", False), OTHER4)
    ground.target.converge(intent(("in", 2, "tcp/80", "allow")))

    assert ground.target.sever() == 1

    assert ending(cut, "server" if way.direction == "in" else "client") == "ConnectionAbortedError"
    assert stays.works()


@pytest.mark.parametrize("live", ["keep", "drain"])
def test_what_lasts_is_not_ended(ground: Ground, live: Live) -> None:
    """Sockets of connections that go on are left alone, those that always cut are not."""
    ground.target.converge(OPEN)
    lasting = talk(ground, Way("tcp", "in", False))
    forbidden = talk(ground, Way("tcp", "in", False), OTHER4)
    ground.target.converge(intent(("in", 2, "tcp/80", "forbid")), live=live, grace_s=LONG_S)

    assert ground.target.sever() == 1

    assert lasting.works()
    assert ending(forbidden, "server") == "ConnectionAbortedError"


def test_a_host_talking_to_itself_is_left_alone(ground: Ground) -> None:
    """Loopback and a host's own addresses are essential, whatever policy says."""
    ground.target.converge(CLOSED)
    inner = ground.connection(server=ground.host, client=ground.host, client_address=HOST4, address=HOST4, port=8080)

    assert ground.target.sever() == 0
    assert inner.works()


@pytest.mark.parametrize("way", [way for way in WAYS if way.protocol == "tcp"], ids=str)
@pytest.mark.parametrize("by", ["isolation", "policy"])
def test_peers_of_severed_connections_learn_at_once(ground: Ground, way: Way, by: str) -> None:
    """Ended as the rules change, a connection is reset to the peer as well; what stays allowed stays."""
    ground.target.converge(OPEN)
    cut = talk(ground, way)
    stays = talk(ground, Way("tcp", "in", False), OTHER4)

    if by == "isolation":
        ground.target.apply_isolation(msgspec.structs.replace(OPEN, isolated=(PEER4, PEER6)), severs=True)
    else:
        ground.target.converge(intent(("in", 2, "tcp/80", "allow")), severs=True)

    host, peer = ("server", "client") if way.direction == "in" else ("client", "server")
    assert ending(cut, peer) == "ConnectionResetError"
    assert ending(cut, host) == "ConnectionAbortedError"
    assert stays.works()


@pytest.mark.parametrize("live", ["keep", "drain"])
def test_what_is_to_last_is_not_severed_as_the_rules_change(ground: Ground, live: Live) -> None:
    """Sockets that may go on under the rules to come are left alone, and so are they by a quarantine later."""
    ground.target.converge(OPEN)
    lasting = talk(ground, Way("tcp", "in", False))
    later = intent(("in", 2, "tcp/80", "allow"))
    ground.target.converge(later, live=live, grace_s=LONG_S, severs=True)
    assert lasting.works()

    ground.target.apply_isolation(msgspec.structs.replace(later, isolated=(OTHER4,)), severs=True)

    assert lasting.works()


@pytest.mark.parametrize("is_of_unit", [True, False])
def test_processes_are_told_apart_when_connections_are_severed(ground: Ground, is_of_unit: bool) -> None:
    """Where a process has a rule of its own, its sockets go by that one and all others by the host's."""
    root = hierarchy()
    if root is None:
        pytest.skip("cgroup v2 is not mounted")
    group = root / f"{ground.prefix}.service"
    group.mkdir()
    try:
        ground.target.converge(OPEN)
        with moved_to(group if is_of_unit else None, root):
            live = talk(ground, Way("tcp", "in", False))
        cells = (Cell(1, parse_service("tcp/80"), "allow", "p/own"),)
        parts = (Part("in", cells, unit=group.name), Part("in"), Part("out"))

        ground.target.converge(msgspec.structs.replace(OPEN, parts=parts))

        assert ground.target.sever() == (0 if is_of_unit else 1)
        assert ending(live, "server") == ("waits" if is_of_unit else "ConnectionAbortedError")
    finally:
        group.rmdir()


@contextmanager
def moved_to(group: Path | None, root: Path) -> Iterator[None]:
    """This process in another control group: what it opens belongs there for good."""
    if group is None:
        yield
        return
    before = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (root / before.removeprefix("0::").strip("/") / "cgroup.procs").write_text(str(os.getpid()))
