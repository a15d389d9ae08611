"""What a change of policy does to live connections, to packets in flight, and to everything that is not ours."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from nft_ground import ACK, RST, Connection, Ground, content_of, passes, until
from nft_intents import OWN

from ringfence.core.errors import Finding, FindingsError, TargetError
from ringfence.core.identity.workload import Direction, Mode
from ringfence.core.intent.model import Cell, Intent, Part, Passage, PeerClass
from ringfence.core.net.address import parse_address, parse_cidr
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.net.service import ANY, ICMPV6, TCP, UDP, parse_service
from ringfence.targets.nftables import NftablesTarget
from ringfence.targets.nftables import messages as m
from ringfence.targets.nftables.cgroups import hierarchy
from ringfence.targets.nftables.expressions import Counter, named
from ringfence.targets.nftables.layout import digest_of
from ringfence.targets.nftables.netlink import DUMP, SUBSYS_CTNETLINK, Netlink
from ringfence.targets.nftables.statements import LOG_GROUP
from ringfence.targets.nftables.wire import as_int, attribute, attribute_map, nested, string

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="namespaces and nftables need root on Linux"
    ),
    pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed"),
]
A = parse_address
HOST4, HOST6 = A("172.20.0.2"), A("fd20::2")
PEER4, PEER6, OTHER4 = A("10.1.0.1"), A("fd00::1"), A("10.1.0.2")
ENFORCE = Mode.both("enforce")
FAMILIES = [(HOST4, PEER4), (HOST6, PEER6)]
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_SEND_QUEUE = 19, 20, 21, 2
"""linux/tcp.h."""
BRIEFLY_S = 0.3
"""How long a byte that must not arrive is waited for; one that does arrive fails the test at once."""


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground() as ground:
        yield ground


def intent(
    *cells: tuple[Direction, int, str, str],
    mode: Mode = ENFORCE,
    peers: tuple[PeerClass, ...] = (PeerClass(1, "app=one", (PEER4, PEER6)), PeerClass(2, "app=two", (OTHER4,))),
    **more: object,
) -> Intent:
    """An intent from (direction, class, service, action)."""
    parts = tuple(
        Part(d, tuple(Cell(n, parse_service(s), a, f"p/{s}") for x, n, s, a in cells if x == d))  # type: ignore[arg-type]
        for d in ("in", "out")
    )
    return Intent("uuid", "host", mode, OWN, peers, parts, **more)  # type: ignore[arg-type]


OPEN_IN = intent(("in", 1, "tcp/80", "allow"))
OPEN_OUT = intent(("out", 1, "tcp/443", "allow"))
CLOSED = intent(("in", 1, "tcp/81", "allow"))


def inbound(ground: Ground, host: int = HOST4, peer: int = PEER4) -> Connection:
    return ground.connection(server=ground.host, client=ground.peer, client_address=peer, address=host, port=80)


def outbound(ground: Ground, host: int = HOST4, peer: int = PEER4) -> Connection:
    return ground.connection(server=ground.peer, client=ground.host, client_address=host, address=peer, port=443)


# -- live connections ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "peer"), FAMILIES, ids=["v4", "v6"])
@pytest.mark.parametrize("speaks_next", ["client", "server"])
@pytest.mark.parametrize("begun", ["in", "out"])
def test_a_withdrawn_permission_cuts_the_connection(
    ground: Ground, begun: str, speaks_next: str, host: int, peer: int
) -> None:
    """A live connection ends when its permission goes, whichever side began it and whichever speaks next."""
    ground.target.converge(OPEN_IN if begun == "in" else OPEN_OUT)
    live = (inbound if begun == "in" else outbound)(ground, host, peer)
    assert live.works()

    ground.target.converge(CLOSED)

    sender, receiver = (live.client, live.server) if speaks_next == "client" else (live.server, live.client)
    assert not passes(sender, receiver, within_s=BRIEFLY_S)
    assert not passes(receiver, sender, within_s=BRIEFLY_S)


@pytest.mark.parametrize(("host", "peer"), FAMILIES, ids=["v4", "v6"])
def test_a_permission_that_stays_keeps_the_connection(ground: Ground, host: int, peer: int) -> None:
    """Judged again under a new policy that still allows it, a connection goes on, from either side."""
    ground.target.converge(OPEN_IN)
    first, second = inbound(ground, host, peer), inbound(ground, host, peer)

    realised = ground.target.converge(intent(("in", 1, "tcp/80", "allow"), ("in", 2, "tcp/80", "forbid")))

    assert realised.policy_generation == 2
    assert passes(first.client, first.server)
    assert passes(second.server, second.client)
    assert first.works()
    assert second.works()


def test_a_datagram_flow_is_cut_in_both_directions(ground: Ground) -> None:
    """UDP is judged again like TCP: the answerer's datagrams stop too."""
    ground.target.converge(intent(("in", 1, "udp/53", "allow")))
    server = ground.socket_in(ground.host, socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("172.20.0.2", 53))
    client = ground.socket_in(ground.peer, socket.AF_INET, socket.SOCK_DGRAM)
    client.bind(("10.1.0.1", 0))
    client.connect(("172.20.0.2", 53))
    client.send(b"ask")
    server.connect(server.recvfrom(64)[1])
    assert passes(server, client)

    ground.target.converge(intent(("in", 1, "udp/54", "allow")))

    assert not passes(server, client, within_s=BRIEFLY_S)
    assert not passes(client, server, within_s=BRIEFLY_S)


@pytest.mark.parametrize("speaks_next", ["client", "server"])
def test_a_forgotten_connection_does_not_revive_after_its_permission(ground: Ground, speaks_next: str) -> None:
    """Withdrawn, then flushed from conntrack: no segment of either side brings it back (tcp_loose)."""
    ground.target.converge(OPEN_IN)
    live = inbound(ground)
    ground.target.converge(CLOSED)

    ground.forget_connections()

    sender, receiver = (live.client, live.server) if speaks_next == "client" else (live.server, live.client)
    assert not passes(sender, receiver, within_s=BRIEFLY_S)
    assert not passes(receiver, sender, within_s=BRIEFLY_S)


@pytest.mark.parametrize("withdrawn", ["forbid", "deny", "default"])
def test_a_cut_connection_is_not_revived_by_its_peer(ground: Ground, withdrawn: str) -> None:
    """A peer resets its side, lets conntrack forget, and goes on from a port the host may connect to: nothing arrives,
    and what the host then sends does not make it an outbound connection either.
    """
    ground.run(ground.host, "sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_close=1")
    out = ("out", 1, "tcp/443", "allow")
    ground.target.converge(intent(("in", 1, "tcp/8080", "allow"), out))  # type: ignore[arg-type]
    live = ground.connection(
        server=ground.host, client=ground.peer, client_address=PEER4, client_port=443, address=HOST4, port=8080
    )
    assert live.works()
    cells = () if withdrawn == "default" else (("in", 1, "tcp/8080", withdrawn),)
    ground.target.converge(intent(*cells, out))  # type: ignore[arg-type]

    reset_and_forgotten(ground, live.client)

    assert not passes(live.client, live.server, within_s=BRIEFLY_S)
    assert not passes(live.server, live.client, within_s=BRIEFLY_S)
    assert not passes(live.client, live.server, within_s=BRIEFLY_S)


def reset_and_forgotten(ground: Ground, client: socket.socket) -> None:
    """The peer's reset, by hand, so that its socket lives on; then conntrack's entry is gone."""
    client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)
    sequence = client.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ)
    client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 0)
    reset = bytearray(content_of(TCP, (443, 8080), flags=RST))
    reset[4:8] = struct.pack("!I", sequence & 0xFFFFFFFF)
    ground.arrive(PEER4, HOST4, TCP, bytes(reset))
    assert until(lambda: not marks(ground))


@pytest.mark.parametrize("speaks_next", ["client", "server"])
def test_connections_older_than_the_first_rules_go_on(ground: Ground, speaks_next: str) -> None:
    """Enforcing on a host for the first time cuts no allowed connection, whichever side speaks first."""
    live = inbound(ground)

    ground.target.converge(OPEN_IN)

    sender, receiver = (live.client, live.server) if speaks_next == "client" else (live.server, live.client)
    assert passes(sender, receiver)
    assert live.works()
    ground.target.converge(
        intent(("in", 1, "tcp/80", "allow"), ("in", 1, "tcp/99", "allow"), ("out", 2, "tcp", "deny"))
    )
    assert live.works()
    ground.target.converge(CLOSED)
    assert not passes(receiver, sender, within_s=BRIEFLY_S)


def test_a_connection_observed_then_enforced_is_cut_only_if_not_allowed(ground: Ground) -> None:
    """Going from observe to enforce judges what was let pass meanwhile."""
    observing = msgspec.structs.replace(OPEN_IN, mode=Mode.both("observe"))
    ground.target.converge(observing)
    allowed, other = inbound(ground), inbound(ground, peer=OTHER4)
    assert allowed.works()
    assert other.works()

    ground.target.converge(OPEN_IN)

    assert allowed.works()
    assert not passes(other.client, other.server, within_s=BRIEFLY_S)


def test_a_local_program_learns_at_once_that_it_was_cut(ground: Ground) -> None:
    """What leaves the host is rejected: the next write fails instead of hanging."""
    ground.target.converge(OPEN_OUT)
    live = outbound(ground)
    ground.target.converge(CLOSED)

    live.client.send(b"x")
    with pytest.raises(ConnectionResetError):
        live.client.recv(1)


def test_a_blocked_new_connection_fails_at_once(ground: Ground) -> None:
    """A local connect to what is not allowed is refused, not left to time out."""
    ground.target.converge(CLOSED)
    calling = ground.socket_in(ground.host, socket.AF_INET, socket.SOCK_STREAM)

    with pytest.raises(ConnectionRefusedError):
        calling.connect(("10.1.0.1", 443))


# -- quarantine ------------------------------------------------------------------------------------------------------

FORENSICS = (Passage("in", parse_cidr("10.1.0.2/32"), parse_service("tcp/80")),)


@pytest.mark.parametrize("isolates", ["host", "peer"])
@pytest.mark.parametrize("mode", ["observe", "enforce"])
def test_quarantine_cuts_all_but_its_exceptions(ground: Ground, isolates: str, mode: str) -> None:
    """Isolation of either end ends live connections and begins none, in every mode; the exception list passes."""
    open_ = intent(("in", 1, "tcp", "allow"), ("in", 2, "tcp", "allow"), mode=Mode.both(mode))  # type: ignore[arg-type]
    ground.target.converge(open_)
    live, forensic = inbound(ground), inbound(ground, peer=OTHER4)

    isolated = (PEER4, OTHER4, PEER6)
    ground.target.converge(
        msgspec.structs.replace(
            open_,
            is_quarantined=isolates == "host",
            isolated=isolated if isolates == "peer" else (),
            quarantine_passages=FORENSICS,
        )
    )

    assert not passes(live.server, live.client, within_s=BRIEFLY_S)
    assert not passes(live.client, live.server, within_s=BRIEFLY_S)
    assert forensic.works()
    assert inbound(ground, peer=OTHER4).works()
    assert ground.counts()["in_quarantine"] > 0


def test_a_released_host_talks_again(ground: Ground) -> None:
    """Quarantine leaves nothing behind."""
    ground.target.converge(OPEN_IN)
    ground.target.converge(msgspec.structs.replace(OPEN_IN, is_quarantined=True))

    realised = ground.target.converge(OPEN_IN)

    assert realised.state == "realised"
    assert inbound(ground).works()


# -- deltas ----------------------------------------------------------------------------------------------------------


def test_a_newcomer_moves_elements_only(ground: Ground) -> None:
    """An address that gains a class adds one element; no rule is rewritten and no live connection is judged again."""
    ground.target.converge(OPEN_IN)
    live = inbound(ground)
    allowed = ground.counts()["in_allowed"]
    first, second = OPEN_IN.peers
    joined = msgspec.structs.replace(first, addresses=(*first.addresses, A("10.1.0.3")))
    grown = msgspec.structs.replace(OPEN_IN, peers=(joined, second))

    plan = ground.target.plan(grown, ground.target.observe())
    ground.target.apply(plan)

    assert {message.kind for message in plan.messages} == {m.NEWSETELEM, m.DELSETELEM}
    assert "+ 1 elements of peer4" in plan.summary
    assert ground.target.verify(grown).state == "realised"
    assert live.works()
    assert ground.counts()["in_allowed"] == allowed
    assert inbound(ground, peer=A("10.1.0.3")).works()


def test_an_address_that_changes_hands_changes_class_in_one_transaction(ground: Ground) -> None:
    """The old permission ends with the transaction that grants the new one, for live connections too."""
    ground.target.converge(OPEN_IN)
    live = inbound(ground)
    first, second = OPEN_IN.peers
    moved = msgspec.structs.replace(
        OPEN_IN,
        peers=(
            msgspec.structs.replace(first, addresses=(PEER6,)),
            msgspec.structs.replace(second, addresses=(OTHER4, PEER4)),
        ),
    )

    plan = ground.target.plan(moved, ground.target.observe())
    ground.target.apply(plan)

    assert ground.target.verify(moved).state == "realised"
    assert not passes(live.client, live.server, within_s=BRIEFLY_S)


def test_nothing_to_do_is_an_empty_plan(ground: Ground) -> None:
    """Planning what is realised changes nothing."""
    ground.target.converge(OPEN_IN)

    assert ground.target.plan(OPEN_IN, ground.target.observe()).is_empty


def test_counters_of_untouched_cells_keep_counting(ground: Ground) -> None:
    """Hits are per cell and survive a change of other cells and of the mode."""
    ground.target.converge(OPEN_IN)
    inbound(ground)
    inbound(ground)

    more = intent(("in", 1, "tcp/80", "allow"), ("in", 1, "tcp/81", "allow"), mode=Mode.both("selective"))
    ground.target.converge(more)
    found = {hit.rule: hit for hit in ground.target.hits()}

    assert found["p/tcp/80"].packets == 2
    assert found["p/tcp/81"].packets == 0
    assert (found["p/tcp/80"].direction, found["p/tcp/80"].peer, found["p/tcp/80"].services) == ("in", 1, "6/80")


def test_the_next_generation_number_is_cleared_before_it_is_used(ground: Ground) -> None:
    """A connection that slept through a whole cycle of generations is judged, not taken for current."""
    ground.target.converge(OPEN_IN)
    live = inbound(ground)
    assert {mark >> 24 for mark in marks(ground)} == {1}

    observed = ground.target.observe()
    assert observed.confirmed is not None
    standing = msgspec.structs.replace(observed.confirmed, generation=127)
    late = msgspec.structs.replace(observed, policy_generation=127, is_untouched=False, confirmed=standing)
    plan = ground.target.plan(CLOSED, late)
    ground.target.apply(plan)

    assert plan.generation == 1
    assert {mark >> 24 for mark in marks(ground)} == {0}
    assert not passes(live.client, live.server, within_s=BRIEFLY_S)


def marks(ground: Ground) -> list[int]:
    """The marks of the host's connections."""
    with Netlink(ground.host) as netlink:
        bodies = netlink.request(SUBSYS_CTNETLINK << 8 | 1, DUMP, b"", family=2)
    return [as_int(attribute_map(body)[8]) for body in bodies if 8 in attribute_map(body)]


def test_marks_of_others_are_kept(ground: Ground) -> None:
    """Another table's bits of the conntrack mark survive our judgement."""
    ground.nft("add table ip other\nadd chain ip other c { type filter hook prerouting priority -150; }\n"
               "add rule ip other c ct mark set ct mark | 0x00004000\n")  # fmt: skip
    ground.target.converge(OPEN_IN)

    assert inbound(ground).works()
    assert marks(ground) == [0x01004000]


# -- replacing under load --------------------------------------------------------------------------------------------


SOURCES = {"10.1.0.1": 20, "10.1.0.2": 20}
"""Flows of each: the first address is always allowed, the second never."""
VARIANTS = (
    (("in", 1, "udp/5000", "allow"), ("in", 2, "udp/1-4000", "allow"), ("out", 1, "tcp/443", "allow")),
    (("in", 1, "udp/4900-5000", "allow"), ("in", 2, "udp/4000-6000", "forbid")),
    (("in", 1, "udp", "allow"), ("in", 2, "any", "forbid")),
    (("in", 1, "any", "allow"), ("in", 2, "udp/5000", "deny")),
)


def test_replacing_rules_under_load_loses_and_leaks_nothing(ground: Ground) -> None:
    """While policy is rewritten again and again, every allowed datagram arrives and no denied one does.

    The same verdicts are reached by other maps each time: exact ports, ranges, whole protocols.
    """
    selective = Mode.both("selective")
    variants = [intent(*cells) for cells in VARIANTS] + [intent(*cells, mode=selective) for cells in VARIANTS[1:]]
    ground.target.converge(variants[0])
    receiver = ground.socket_in(ground.host, socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, 33, 128 << 20)  # SO_RCVBUFFORCE
    receiver.bind(("172.20.0.2", 5000))
    done, sent, got = threading.Event(), dict.fromkeys(SOURCES, 0), dict.fromkeys(SOURCES, 0)

    def load() -> None:
        flows = [(address, flow(ground, address)) for address, count in SOURCES.items() for _ in range(count)]
        while not done.is_set() and sum(sent.values()) < 100_000:
            for address, sender in flows:
                sender.send(address.encode())
                sent[address] += 1

    worker = threading.Thread(target=load)
    worker.start()
    try:
        for index in range(35):
            ground.target.converge(variants[index % len(variants)])
    finally:
        done.set()
        worker.join()
    receiver.setblocking(False)
    while sum(got.values()) < sent["10.1.0.1"]:
        try:
            got[receiver.recv(64).decode()] += 1
        except BlockingIOError:
            break

    assert sent["10.1.0.2"] > 0
    assert got == {"10.1.0.1": sent["10.1.0.1"], "10.1.0.2": 0}


def flow(ground: Ground, address: str) -> socket.socket:
    sender = ground.socket_in(ground.peer, socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((address, 0))
    sender.connect(("172.20.0.2", 5000))
    return sender


# -- drift -----------------------------------------------------------------------------------------------------------

MOVE = "flush chain inet ringfence output\ndelete chain inet ringfence output\nadd chain inet ringfence output"
HANDS = {
    "a rule": "insert rule inet ringfence input accept",
    "a rule in the middle": "add rule inet ringfence remember counter",
    "an address": "add element inet ringfence peer4 { 10.66.6.6 : 0:1 }",
    "a lost address": "delete element inet ringfence peer4 { 10.1.0.1 }",
    "a verdict": "add element inet ringfence exact_in { 0:2 . tcp . 80 : ffff:1 }",
    "a chain": "add chain inet ringfence mine",
    "a hooked chain": "add chain inet ringfence mine { type filter hook input priority 10; policy drop; }",
    "a set": "add set inet ringfence mine { type ipv4_addr; }",
    "a set of a strange kind": "add set inet ringfence mine { type ether_addr; }",
    "a policy": "add chain inet ringfence input { policy accept; }",
    "an empty chain": "flush chain inet ringfence judge_in",
    "a counter": "add counter inet ringfence mine",
    "a quota": "add quota inet ringfence mine { 10 mbytes }",
    "what it says of itself": "delete element inet ringfence about { 0x00000001 }",
    "a word more of itself": 'add element inet ringfence about { 0x00000000 comment "seal broken" }',
    "a silent word of itself": "add element inet ringfence about { 0x00000009 }",
    "sleep": "add table inet ringfence { flags dormant; }",
    "a lower priority": f"{MOVE} {{ type filter hook output priority 300; policy drop; }}",
    "another type": f"{MOVE} {{ type route hook output priority -5; policy drop; }}",
    "another hook": f"{MOVE} {{ type filter hook forward priority -5; policy drop; }}",
    "no hook": MOVE,
    "a hook on a chain that had none": (
        "flush chain inet ringfence output\nflush chain inet ringfence pickup_output\n"
        "flush chain inet ringfence invalid_out\nflush chain inet ringfence judge_out\n"
        "delete chain inet ringfence judge_out\n"
        "add chain inet ringfence judge_out { type filter hook output priority 5; }"
    ),
    "a catch-all": "add element inet ringfence peer4 { * : 0:1 }",
    "a set under our name": (
        "flush chain inet ringfence essential\ndelete set inet ringfence dhcp\n"
        "add set inet ringfence dhcp { type ether_addr; }"
    ),
    "a set of ours with a quota": (
        "flush chain inet ringfence essential\ndelete set inet ringfence dhcp\n"
        "add set inet ringfence dhcp { type inet_service . inet_service; quota 10 bytes; }"
    ),
    "an anonymous chain": "insert rule inet ringfence input jump { accept; }",
    "an anonymous set": "insert rule inet ringfence input tcp dport { 22, 23 } accept",
}


@pytest.mark.parametrize("hand", HANDS)
def test_a_foreign_hand_in_our_table_is_drift_and_is_repaired(ground: Ground, hand: str) -> None:
    """Any change to our table is noticed, named, and undone; what was accepted meanwhile is judged again."""
    ground.target.converge(OPEN_IN)
    ground.nft(HANDS[hand] + "\n")

    seen, compared = ground.target.observe(), ground.target.verify(OPEN_IN)

    assert seen.state == "drifted"
    assert seen.digest == ""
    assert compared.state == "drifted"
    assert compared.differences
    repaired = ground.target.converge(OPEN_IN)
    assert repaired.state == "realised"
    assert repaired.policy_generation == 2
    assert inbound(ground).works()


def test_a_statement_on_an_element_of_ours_is_drift_and_is_repaired(ground: Ground) -> None:
    """An element may run a statement at every lookup, which nft does not write but the kernel takes."""
    ground.target.converge(OPEN_IN)
    key = nested(1, attribute(1, bytes((0, 9, 0, 0, 0, 9, 0, 0))))
    content = nested(1, key, nested(7, *named(Counter())))
    with Netlink(ground.host) as netlink:
        body = string(1, "ringfence") + string(2, "dhcp") + nested(3, content)
        netlink.commit((m.Message(m.NEWSETELEM, m.CREATE, body, "a hand"),))

    compared = ground.target.verify(OPEN_IN)

    assert compared.state == "drifted"
    assert any("dhcp" in text for text in compared.differences)
    assert ground.target.converge(OPEN_IN).state == "realised"


def test_another_intent_is_pending_not_drifted(ground: Ground) -> None:
    """An untouched table that realises an older intent is behind, not tampered with."""
    ground.target.converge(OPEN_IN)

    assert ground.target.verify(CLOSED).state == "pending"


def test_a_deleted_table_is_absent(ground: Ground) -> None:
    """Without our table nothing is reported as enforced."""
    ground.target.converge(OPEN_IN)
    ground.nft("delete table inet ringfence\n")

    assert ground.target.observe().state == "absent"
    assert ground.target.verify(OPEN_IN).state == "absent"
    assert ground.target.converge(OPEN_IN).state == "realised"


# -- neighbours ------------------------------------------------------------------------------------------------------

FOREIGN = """
add table ip nat
add chain ip nat post { type nat hook postrouting priority 100; }
add rule ip nat post oifname "other" masquerade
add table inet firewalld
add set inet firewalld s { type ipv4_addr; }
add element inet firewalld s { 10.5.5.5 }
add chain inet firewalld input { type filter hook input priority 10; policy accept; }
add rule inet firewalld input ip saddr @s drop
add table ip6 theirs
add chain ip6 theirs c { type filter hook output priority 0; }
"""


def test_tables_of_others_are_never_touched(ground: Ground) -> None:
    """Through first apply, change, repair and removal the rest of the rule set stays as it was, handles included."""
    ground.nft(FOREIGN)
    before = others(ground)

    ground.target.converge(OPEN_IN)
    ground.target.converge(CLOSED)
    ground.nft("insert rule inet ringfence input accept\n")
    ground.target.converge(CLOSED)
    ground.target.remove()

    assert others(ground) == before
    assert ground.target.observe().state == "absent"


def others(ground: Ground) -> list[object]:
    listed = json.loads(ground.run(ground.host, "nft -j -a list ruleset"))["nftables"]
    return [x for x in listed if "ringfence" not in json.dumps(x)]


def test_enforcing_in_a_namespace_leaves_our_own_alone(ground: Ground) -> None:
    """Work inside a named namespace changes neither the caller's namespace nor its rules."""
    before = os.stat("/proc/self/ns/net").st_ino, ours()

    ground.target.converge(OPEN_IN)

    assert (os.stat("/proc/self/ns/net").st_ino, ours()) == before


def ours() -> str:
    return subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True, timeout=30).stdout


def test_a_plan_made_on_stale_ground_is_refused_and_made_again(ground: Ground) -> None:
    """A commit by anyone between observing and applying refuses the plan whole; converging plans again."""
    ground.target.converge(OPEN_IN)
    plan = ground.target.plan(CLOSED, ground.target.observe())
    ground.nft("add table ip someone\n")

    with pytest.raises(TargetError) as refused:
        ground.target.apply(plan)

    assert refused.value.code == "ruleset-changed"
    assert ground.target.observe().digest == OPEN_IN.digest
    assert ground.target.converge(CLOSED).digest == CLOSED.digest


def test_a_refused_transaction_changes_nothing(ground: Ground) -> None:
    """When the kernel refuses one message, none of the others take effect."""
    ground.target.converge(OPEN_IN)
    before = ground.target.observe()
    plan = ground.target.plan(CLOSED, before)
    spoiled = msgspec.structs.replace(plan, messages=(*plan.messages, m.delete_set("nothing_of_this_name")))

    with pytest.raises(TargetError, match="nothing_of_this_name"):
        ground.target.apply(spoiled)

    after = ground.target.observe()
    assert digest_of(after.layout) == digest_of(before.layout)
    assert after.state == "realised"


def test_a_missing_namespace_is_an_error_with_a_code() -> None:
    """Nothing is applied somewhere else when the namespace does not exist."""
    with pytest.raises(TargetError) as missing:
        NftablesTarget("rfk-there-is-none").observe()

    assert missing.value.code == "namespace-missing"


# -- the text --------------------------------------------------------------------------------------------------------


def test_the_text_we_show_is_the_program_we_load(ground: Ground) -> None:
    """The rendered text, loaded by nft itself, is realised to the bit; and nft lists ours as it lists its own."""
    full = intent(
        ("in", 1, "tcp/80", "allow"), ("in", 1, "tcp/8000-8100", "deny"), ("in", 2, "any", "forbid"),
        ("in", 0, "icmp/echo", "allow"), ("out", 1, "udp", "allow"), ("out", 2, "proto/47", "allow"),
        failsafe=(Passage("in", parse_cidr("10.1.0.0/16") | parse_cidr("fd00::/16"), parse_service("tcp/22")),
                  Passage("out", parse_cidr("10.1.0.0/16"), parse_service("icmp") | parse_service("udp/53-60"))),
        isolated=(A("10.7.7.7"), A("fd00::7")),
        quarantine_passages=(Passage("in", parse_cidr("10.1.0.0/24"), ANY),),
        peers=(PeerClass(1, 'label "x"', (PEER4, PEER6), parse_cidr("10.2.0.0/16").ranges),
               PeerClass(2, "two", (OTHER4,), parse_cidr("fd00:1::/32").ranges)),
    )  # fmt: skip
    ground.target.converge(full)
    ours_listed = ground.run(ground.host, "nft list table inet ringfence")
    ground.target.remove()

    ground.nft(ground.target.render(full))

    assert ground.target.verify(full).state == "realised"
    assert sorted(ground.run(ground.host, "nft list table inet ringfence").split()) == sorted(ours_listed.split())


# -- processes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def group() -> Iterator[Path]:
    root = hierarchy()
    if root is None:
        pytest.skip("cgroup v2 is not mounted")
    path = root / f"rfk-{os.getpid()}.service"
    path.mkdir()
    try:
        yield path
    finally:
        path.rmdir()


CALL = """
import os, socket, sys
if sys.argv[1]:
    open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
s = socket.socket()
s.settimeout(10)
s.bind(("172.20.0.2", 0))
try:
    s.connect(("10.1.0.1", 443))
    print("connected")
except OSError as error:
    print(type(error).__name__)
"""


def call(ground: Ground, group: Path | str) -> str:
    return subprocess.run(
        ["nsenter", f"--net=/run/netns/{ground.host}", sys.executable, "-c", CALL, str(group)],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout.strip()  # fmt: skip


def with_process(unit: str, action: str = "allow") -> Intent:
    part = Part("out", (Cell(1, parse_service("tcp/443"), action, "p/unit"),), unit=unit)  # type: ignore[arg-type]
    return msgspec.structs.replace(CLOSED, parts=(*CLOSED.parts, part))


def test_a_permission_of_a_process_is_for_its_group_alone(ground: Ground, group: Path) -> None:
    """Only sockets of the named unit may connect; the same call from elsewhere is refused."""
    listening = ground.socket_in(ground.peer, socket.AF_INET, socket.SOCK_STREAM)
    listening.bind(("10.1.0.1", 443))
    listening.listen(4)
    realised = ground.target.converge(with_process(group.name))

    assert realised.state == "realised"
    assert call(ground, group) == "connected"
    assert call(ground, "") == "ConnectionRefusedError"


SERVE = """
import os, socket, sys
if sys.argv[1]:
    open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
listening = socket.socket()
listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listening.bind(("172.20.0.2", 80))
listening.listen(4)
print("ready", flush=True)
served, _ = listening.accept()
while data := served.recv(64):
    served.sendall(data)
"""


@contextmanager
def serving(ground: Ground, group: Path | str) -> Iterator[None]:
    command = ["nsenter", f"--net=/run/netns/{ground.host}", sys.executable, "-c", SERVE, str(group)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield
        finally:
            server.kill()


def echo(ground: Ground) -> socket.socket:
    calling = ground.socket_in(ground.peer, socket.AF_INET, socket.SOCK_STREAM)
    calling.settimeout(BRIEFLY_S)
    calling.bind(("10.1.0.1", 0))
    calling.connect(("172.20.0.2", 80))
    return calling


def test_a_service_is_opened_for_the_process_that_owns_it(ground: Ground, group: Path) -> None:
    """Inbound, the listening socket's group decides; a live connection is judged by it again, and cut with it."""
    part = Part("in", (Cell(1, parse_service("tcp/80-82"), "allow", "p/unit"),), unit=group.name)
    other = Part("in", (Cell(1, parse_service("tcp/82"), "allow", "p/other"),))
    ground.target.converge(msgspec.structs.replace(CLOSED, parts=(other, part)))

    with serving(ground, group):
        calling = echo(ground)
        assert passes(calling, calling)
        ground.target.converge(msgspec.structs.replace(CLOSED, parts=(CLOSED.parts[0], part)))
        assert passes(calling, calling)
        ground.target.converge(CLOSED)
        assert not passes(calling, calling, within_s=BRIEFLY_S)
    ground.target.converge(msgspec.structs.replace(CLOSED, parts=(other, part)))
    with serving(ground, ""), pytest.raises(TimeoutError):
        echo(ground)


def test_a_recreated_group_is_drift(ground: Ground, group: Path) -> None:
    """The kernel matches the group's id: a unit started anew must be applied anew, and that shows."""
    ground.target.converge(with_process(group.name))
    assert ground.target.verify(with_process(group.name)).state == "realised"
    group.rmdir()
    group.mkdir()

    assert ground.target.verify(with_process(group.name)).differences
    assert ground.target.converge(with_process(group.name)).state == "realised"


def test_a_unit_that_starts_anew_only_closes(ground: Ground, group: Path) -> None:
    """Its new group meets the part of the whole host, and a part that does less than that is refused beforehand."""
    listening = ground.socket_in(ground.peer, socket.AF_INET, socket.SOCK_STREAM)
    listening.bind(("10.1.0.1", 443))
    listening.listen(4)
    base = Part("out", (Cell(1, parse_service("tcp/443"), "allow", "p/all"),))
    for cells in ((), (Cell(1, parse_service("tcp/443"), "forbid", "p/unit"),)):
        parts = (base, Part("out", cells, unit=group.name))
        with pytest.raises(FindingsError) as refused:
            ground.target.converge(msgspec.structs.replace(CLOSED, parts=parts))
        assert refused.value.code == "process-part-narrower"
    ground.target.converge(with_process(group.name))
    assert call(ground, group) == "connected"
    group.rmdir()
    group.mkdir()

    assert call(ground, group) == "ConnectionRefusedError"


@pytest.mark.parametrize("unit", [".", "/", "", "..", "./.", "/..", "a/..", "system.slice/../..", "a\0b"])
def test_no_unit_is_the_root_of_all_groups(ground: Ground, unit: str) -> None:
    """A unit that names every process, or escapes the hierarchy, is refused; nothing is opened for it."""
    (found,) = ground.target.support(with_process(unit))
    realised = ground.target.converge(with_process(unit))

    assert (found.code, found.severity) == ("process-path-unsupported", "warning")
    assert realised.state == "refused"
    assert call(ground, "") == "ConnectionRefusedError"


def test_an_intent_with_a_refused_prohibition_is_not_planned(ground: Ground) -> None:
    """A forbid that no host can express fails the plan and shows; an allow that stays closed does neither."""
    ground.target.converge(OPEN_IN)
    closed = Finding("mutual-tls-unsupported", "an allow", "warning")
    open_ = Finding("process-to-process-unsupported", "a forbid", "error")
    accepted = msgspec.structs.replace(CLOSED, refusals=(closed,))
    refused = msgspec.structs.replace(CLOSED, refusals=(closed, open_))

    with pytest.raises(FindingsError) as error:
        ground.target.plan(refused, ground.target.observe())
    seen = ground.target.verify(refused)

    assert error.value.code == "process-to-process-unsupported"
    assert (seen.state, seen.differences) == ("refused", ("a forbid",))
    assert ground.target.verify(OPEN_IN).state == "realised"
    assert ground.target.converge(accepted).state == "realised"
    assert ground.target.verify(refused).state == "refused"


def test_a_failsafe_that_has_no_answer_is_applied(ground: Ground) -> None:
    """ICMP redirects are answered by nothing, so the passage is for one hook alone."""
    passage = Passage("out", parse_cidr("10.1.0.0/16"), parse_service("icmp/redirect"))

    found = ground.target.converge(msgspec.structs.replace(OPEN_IN, failsafe=(passage,)))

    assert found.state == "realised"
    assert found.intent is not None
    assert {p.direction for p in found.intent.failsafe} == {"out"}


def test_a_fault_of_ours_is_not_taken_for_somebody_elses_change(ground: Ground) -> None:
    """A transaction that names what is not there is refused as such, not tried again."""
    ground.target.converge(OPEN_IN)
    plan = ground.target.plan(CLOSED, ground.target.observe())
    broken = msgspec.structs.replace(plan, preparation=(), messages=(*plan.messages, m.flush_chain("nowhere")))

    with pytest.raises(TargetError) as error:
        ground.target.apply(broken)

    assert error.value.code == "kernel-refused"
    assert ground.target.verify(OPEN_IN).state == "realised"


def test_a_process_that_cannot_be_matched_stays_closed_and_is_named(ground: Ground) -> None:
    """A missing unit's allows are left out and reported; a missing unit's forbid refuses the whole plan."""
    codes = {f.code for f in ground.target.support_here(with_process("rfk-nowhere.service"))}
    realised = ground.target.converge(with_process("rfk-nowhere.service"))

    assert codes == {"process-cgroup-missing"}
    assert realised.state == "refused"
    assert realised.differences
    with pytest.raises(FindingsError) as refused:
        ground.target.converge(with_process("/usr/bin/nginx", "forbid"))
    assert refused.value.code == "process-path-unsupported"


# -- logging ---------------------------------------------------------------------------------------------------------


def test_blocked_packets_are_logged_with_direction_and_step(ground: Ground) -> None:
    """NFLOG carries the packet's head and why it was blocked."""
    ground.target.converge(intent(("in", 1, "tcp/80", "forbid")))
    with ground.log(LOG_GROUP) as log:
        ground.arrive(PEER4, HOST4, TCP, content_of(TCP, (30000, 80)))
        ground.arrive(PEER4, HOST4, UDP, content_of(UDP, (30000, 53)))
        prefixes = [next(log) for _ in range(2)]

    assert prefixes == ["ringfence in forbid blocked ", "ringfence in default blocked "]


def test_only_what_the_link_itself_sends_is_discovery(ground: Ground) -> None:
    """A solicitation from beyond the link, and a query from a routed address, are judged by policy; others are not."""
    ground.target.converge(OPEN_IN)
    router, everyone = A("fe80::1"), A("ff02::1")
    essential = [(router, 135, 255), (router, 134, 255), (router, 130, 1)]
    forged = [(router, 135, 254), (PEER6, 134, 64), (PEER6, 130, 1), (router, 130, 255)]
    for sent, blocked in ((essential, 0), (forged, len(forged))):
        for source, kind, hops in sent:
            ground.arrive(source, everyone, ICMPV6, content_of(ICMPV6, (1, 0), icmp_type=kind), hop_limit=hops)
        ground.arrive(PEER4, HOST4, TCP, content_of(TCP, (30002 + blocked, 80)))
        passed = 1 if sent is essential else 2
        assert until(lambda n=passed: ground.counts()["in_allowed"] == n)
        assert ground.counts()["in_default_blocked"] == blocked


def test_a_stray_segment_is_counted_as_invalid_and_not_answered(ground: Ground) -> None:
    """In enforce a segment that belongs to no connection gets no answer from the stack."""
    ground.target.converge(OPEN_IN)

    ground.arrive(PEER4, HOST4, TCP, content_of(TCP, (30001, 81), flags=ACK))

    assert ground.counts()["in_invalid"] == 1
    assert not any(packet.protocol == TCP for packet in ground.seen())


def test_local_parts_judge_each_own_address_by_its_own_cells(ground: Ground) -> None:
    """One host, two own addresses, two policies."""
    cells = (Cell(1, parse_service("tcp/80"), "allow", "p/one"),)
    local = IntervalSet.single(HOST4)
    ground.target.converge(msgspec.structs.replace(CLOSED, parts=(Part("in", cells, local),)))

    assert inbound(ground).works()
    refused = ground.socket_in(ground.peer, socket.AF_INET, socket.SOCK_STREAM)
    refused.settimeout(BRIEFLY_S)
    refused.bind(("10.1.0.1", 0))
    with pytest.raises(TimeoutError):
        refused.connect(("172.20.0.3", 80))
