"""Our table as our own: others cannot write to it, it outlives its owner, and it changes hands without a gap."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from nft_ground import Ground
from test_nftables_trial import HOST4, NEW, OLD, connect, reaches

from ringfence.core.errors import TargetError
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.model import Cell, Intent, Part, PeerClass
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import parse_service
from ringfence.targets.nftables import NftablesTarget, Ownership
from ringfence.targets.nftables.netlink import Netlink
from ringfence.targets.nftables.ownership import COPY, OWNED, has_persist, move, table_state


def _has_persist() -> bool:
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    with Netlink() as netlink:
        return has_persist(netlink)


pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="namespaces and nftables need root on Linux"
    ),
    pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed"),
]
needs_persist = pytest.mark.skipif(not _has_persist(), reason="the kernel has no PERSIST tables (6.9)")


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground() as ground:
        yield ground


def nft(ground: Ground, text: str) -> str:
    """What somebody else's nft says to an edit; empty when it succeeded."""
    done = subprocess.run(
        ["ip", "netns", "exec", ground.host, "nft", text], capture_output=True, text=True, check=False, timeout=30
    )
    return done.stderr


@needs_persist
def test_nobody_else_can_write_to_an_owned_table(ground: Ground) -> None:
    """Rules, elements and the table itself are refused to others, and a flush of all tables passes it by."""
    with Ownership(ground.host) as ownership:
        NftablesTarget(ground.host, ownership=ownership).converge(OLD)
        assert ownership.is_held()

        for edit in (
            "insert rule inet ringfence input accept",
            "add element inet ringfence peer4 { 10.66.6.6 : 0:1 }",
            "delete table inet ringfence",
        ):
            assert "Operation not permitted" in nft(ground, edit)
        assert nft(ground, "flush ruleset") == ""

        assert ground.target.observe().state == "realised"
        with pytest.raises(TargetError) as refused:
            ground.target.converge(NEW)
        assert refused.value.code == "owned-by-another"
        with Ownership(ground.host) as second, pytest.raises(TargetError) as other:
            NftablesTarget(ground.host, ownership=second).converge(NEW)
        assert other.value.code == "owned-by-another"


@needs_persist
def test_an_owner_changes_confirms_and_removes_as_before(ground: Ground) -> None:
    """All a target does it does through the socket that owns the table."""
    with Ownership(ground.host) as ownership:
        target = NftablesTarget(ground.host, ownership=ownership)
        target.converge(OLD)
        target.converge(NEW, trial_s=600)
        assert target.confirm().state == "realised"
        assert target.verify(NEW).state == "realised"
        assert connect(ground, 81).works()
        target.remove()
        assert target.observe().state == "absent"


HOLD = """
import sys
from ringfence.targets.nftables import NftablesTarget, Ownership
sys.path.insert(0, sys.argv[2])
from test_nftables_trial import OLD
ownership = Ownership(sys.argv[1])
NftablesTarget(sys.argv[1], ownership=ownership).converge(OLD)
print("held", flush=True)
sys.stdin.read()
"""


@needs_persist
def test_rules_outlive_an_owner_that_is_killed_and_the_next_adopts_them(ground: Ground) -> None:
    """kill -9 leaves every rule in force; a new process owns the table again without changing it."""
    command = [sys.executable, "-c", HOLD, ground.host, os.path.dirname(__file__)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGKILL)
    assert reaches(ground, 80)
    assert not reaches(ground, 81)

    with Ownership(ground.host) as ownership:
        target = NftablesTarget(ground.host, ownership=ownership)
        assert not target.secure()
        assert ownership.is_held()
        assert target.verify(OLD).state == "realised"
        assert "Operation not permitted" in nft(ground, "flush table inet ringfence")


@needs_persist
def test_an_orphan_is_changed_by_anybody_as_before(ground: Ground) -> None:
    """Without an owner, a target without ownership works on the table: nothing has to be freed first."""
    with Ownership(ground.host) as ownership:
        NftablesTarget(ground.host, ownership=ownership).converge(OLD)

    assert ground.target.converge(NEW).state == "realised"


def test_a_kernel_without_persist_keeps_a_table_that_is_free_for_all(ground: Ground) -> None:
    """Where the flag is missing there is no ownership, and never an owner whose death would open the host."""
    with Ownership(ground.host, can_persist=False) as ownership:
        target = NftablesTarget(ground.host, ownership=ownership)
        assert target.converge(OLD).state == "realised"
        assert table_state(ownership.netlink) == (0, 0)
        assert not ownership.is_held()
    assert ground.target.converge(NEW).state == "realised"


@needs_persist
def test_a_copy_left_behind_is_removed(ground: Ground) -> None:
    """A process that ended while the table changed hands leaves a second judge, which the next one dismisses."""
    ground.target.converge(OLD)
    ground.nft(
        f"add table inet {COPY}\nadd chain inet {COPY} input {{ type filter hook input priority -5; policy drop; }}"
    )

    NftablesTarget(ground.host).converge(OLD)

    with Netlink(ground.host) as netlink:
        assert table_state(netlink, COPY) is None


MEMBERS = tuple(parse_address(f"10.1.{n // 250}.{n % 250 + 1}") for n in range(2000))
LOADED = Intent(
    "uuid", "host", Mode.both("enforce"), (HOST4,), (PeerClass(1, "app=one", MEMBERS),),
    (Part("in", (Cell(1, parse_service("udp/4900-5100"), "allow", "p/allow"),)),),
)  # fmt: skip


@needs_persist
def test_changing_hands_under_load_loses_and_leaks_nothing(ground: Ground) -> None:
    """From free to owned and back, again and again: every allowed datagram arrives, and no denied one does."""
    ground.target.converge(LOADED)
    sinks = {port: sink(ground, port) for port in (5000, 6000)}
    done, sent = threading.Event(), [0]

    def load() -> None:
        flows = [(port, flow(ground, port)) for port in (5000, 6000) for _ in range(20)]
        while not done.is_set() and sent[0] < 100_000:
            for port, sender in flows:
                sender.send(b"x")
                sent[0] += port == 5000

    worker = threading.Thread(target=load)
    worker.start()
    try:
        for _ in range(6):
            with Ownership(ground.host) as ownership:
                assert NftablesTarget(ground.host, ownership=ownership).secure()
                layout = ground.target.observe().layout
                assert layout is not None
                assert layout.flags == OWNED
                move(ownership.netlink, layout, 0)
    finally:
        done.set()
        worker.join()

    assert sent[0] > 0
    assert {port: count(opened) for port, opened in sinks.items()} == {5000: sent[0], 6000: 0}
    assert ground.target.verify(LOADED).state == "realised"


def sink(ground: Ground, port: int) -> socket.socket:
    opened = ground.socket_in(ground.host, socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, 33, 128 << 20)  # SO_RCVBUFFORCE
    opened.bind(("172.20.0.2", port))
    return opened


def flow(ground: Ground, port: int) -> socket.socket:
    sender = ground.socket_in(ground.peer, socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("10.1.0.1", 0))
    sender.connect(("172.20.0.2", port))
    return sender


def count(opened: socket.socket) -> int:
    opened.setblocking(False)
    found = 0
    while True:
        try:
            opened.recv(64)
        except BlockingIOError:
            return found
        found += 1
