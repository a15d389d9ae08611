"""Tampering is noticed by whom and what, undone, and told from our own work and from our neighbours'."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import sys
from collections.abc import Iterator

import pytest
from nft_ground import PATIENCE_S, Ground
from test_nftables_trial import NEW, OLD, connect, reaches

from ringfence.targets.nftables import NftablesTarget
from ringfence.targets.nftables.watch import Commit, Watch

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="namespaces and nftables need root on Linux"
    ),
    pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed"),
]


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground() as ground:
        yield ground


def commits(watch: Watch) -> tuple[Commit, ...]:
    """What was committed, waited for."""
    ready, _, _ = select.select([watch], [], [], PATIENCE_S)
    assert ready
    return watch.read()


HANDS = {
    "rule added to input": "insert rule inet ringfence input accept",
    "element added to peer4": "add element inet ringfence peer4 { 10.66.6.6 : 0:1 }",
    "element deleted from peer4": "delete element inet ringfence peer4 { 10.1.0.1 }",
    "chain mine added or changed": "add chain inet ringfence mine",
    "set mine added or changed": "add set inet ringfence mine { type ipv4_addr; }",
    "the table deleted": "delete table inet ringfence",
    "the table changed": "add table inet ringfence { flags dormant; }",
}


@pytest.mark.parametrize("words", HANDS)
def test_a_foreign_hand_is_told_by_name_and_undone(ground: Ground, words: str) -> None:
    """The kernel tells who wrote and what; converging puts it right, and that is known as our own work."""
    ground.target.converge(OLD)
    with Watch(ground.host) as watch:
        ground.nft(HANDS[words] + "\n")
        (seen,) = commits(watch)
        assert (seen.program, seen.is_own, seen.is_tampering) == ("nft", False, True)
        assert words in seen.touched

        repaired = ground.target.converge(OLD)

        assert repaired.state == "realised"
        assert repaired.generation in {commit.generation for commit in commits(watch)}
        assert not any(commit.is_tampering for commit in watch.read())
    assert connect(ground).works()


def test_our_own_work_is_not_tampering(ground: Ground) -> None:
    """Applying, membership, trials and removal are ours, whichever target object of this process did them."""
    with Watch(ground.host) as watch:
        ground.target.converge(OLD)
        NftablesTarget(ground.host).converge(NEW, trial_s=600)
        ground.target.revert()
        ground.target.remove()
        seen = commits(watch)

    assert len(seen) >= 4
    assert all(commit.is_own for commit in seen)
    assert any(commit.touched for commit in seen)


def test_a_neighbours_work_is_not_tampering(ground: Ground) -> None:
    """Other tables are other people's business: seen, and nothing of ours."""
    ground.target.converge(OLD)
    with Watch(ground.host) as watch:
        ground.nft("add table ip nat\nadd chain ip nat post { type nat hook postrouting priority 100; }\n")
        (seen,) = commits(watch)

    assert (seen.touched, seen.is_tampering, seen.program) == ((), False, "nft")


def test_idle_it_has_nothing_to_read(ground: Ground) -> None:
    """Without a commit the socket is silent and reading returns at once."""
    with Watch(ground.host) as watch:
        assert watch.read() == ()
        assert select.select([watch], [], [], 0)[0] == []


def test_an_event_loop_repairs_what_it_hears_of(ground: Ground) -> None:
    """Under asyncio: a reader on the socket, a convergence at each tampering; the hole is closed again."""
    ground.target.converge(OLD)

    async def repair() -> Commit:
        loop, heard = asyncio.get_running_loop(), asyncio.Queue[Commit]()
        with Watch(ground.host) as watch:
            loop.add_reader(watch.fileno(), lambda: [heard.put_nowait(c) for c in watch.read()])
            ground.nft("insert rule inet ringfence input accept\n")
            async with asyncio.timeout(PATIENCE_S):
                while not (commit := await heard.get()).is_tampering:
                    pass
            ground.target.converge(OLD)
            loop.remove_reader(watch.fileno())
        return commit

    told = asyncio.run(repair())

    assert str(told).startswith("nft (pid ")
    assert ground.target.observe().state == "realised"
    assert not reaches(ground, 81)


# -- neighbours ------------------------------------------------------------------------------------------------------

DOCKER = """
add table ip nat
add chain ip nat DOCKER
add chain ip nat PREROUTING { type nat hook prerouting priority -100; policy accept; }
add rule ip nat PREROUTING fib daddr type local counter jump DOCKER
add chain ip nat POSTROUTING { type nat hook postrouting priority 100; policy accept; }
add rule ip nat POSTROUTING ip saddr 172.17.0.0/16 oifname != "docker0" counter masquerade
add table ip filter
add chain ip filter DOCKER-USER
add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }
add rule ip filter FORWARD counter jump DOCKER-USER
add table ip6 filter
add chain ip6 filter FORWARD { type filter hook forward priority 0; policy drop; }
"""
FIREWALLD = """
add table inet firewalld
flush table inet firewalld
add chain inet firewalld filter_INPUT { type filter hook input priority 10; policy accept; }
add rule inet firewalld filter_INPUT ct state established,related accept
add rule inet firewalld filter_INPUT tcp dport { 80, 81 } accept
add rule inet firewalld filter_INPUT ip protocol tcp reject with icmpx admin-prohibited
"""
UFW = """
add table ip filter
add chain ip filter ufw-user-input
add chain ip filter INPUT { type filter hook input priority 0; policy drop; }
add rule ip filter INPUT ct state established,related counter accept
add rule ip filter INPUT counter jump ufw-user-input
add rule ip filter ufw-user-input tcp dport 80 counter accept
add rule ip filter ufw-user-input tcp dport 81 counter accept
"""
BOTH = {"docker": DOCKER, "firewalld": FIREWALLD, "ufw": UFW}


@pytest.mark.parametrize("neighbour", BOTH)
def test_neighbours_and_we_judge_as_an_and(ground: Ground, neighbour: str) -> None:
    """A connection passes if both let it; neither touches the other, and a neighbour's reload is not ours to undo."""
    tables = BOTH[neighbour]
    ground.target.converge(OLD)
    ground.nft(tables)
    listed = neighbours(ground)

    assert connect(ground).works()
    with pytest.raises((TimeoutError, ConnectionRefusedError, OSError)):
        connect_briefly(ground, 81)
    ground.target.converge(NEW, trial_s=600)
    ground.target.confirm()
    assert connect(ground, 81).works()
    assert neighbours(ground) == listed
    if neighbour == "firewalld":
        ground.nft(tables)
    ground.nft("add table inet theirs\nadd chain inet theirs c { type filter hook input priority 20; }\n"
               "add rule inet theirs c tcp dport 81 drop\n")  # fmt: skip
    with pytest.raises((TimeoutError, ConnectionRefusedError, OSError)):
        connect_briefly(ground, 81)
    assert ground.target.observe().state == "realised"
    assert ground.target.verify(NEW).state == "realised"


def connect_briefly(ground: Ground, port: int) -> None:
    calling = ground.socket_in(ground.peer, 2, 1)
    calling.settimeout(0.3)
    calling.bind(("10.1.0.1", 0))
    calling.connect(("172.20.0.2", port))


def neighbours(ground: Ground) -> list[str]:
    """Every line of the rule set that is not in our table, counters aside."""
    listed = ground.run(ground.host, "nft -s list ruleset")
    return [table for table in listed.split("\ntable ") if "inet ringfence" not in table.splitlines()[0]]
