"""Real packets meet real rules: what passes the kernel is what the intent lets pass."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Iterator

import pytest
from nft_ground import SYN, Ground, Seen, content_of
from nft_intents import Probe, judge, probes, random_intent

from ringfence.core.net.address import is_v4
from ringfence.core.net.service import ICMP, ICMPV6, PORTED, TCP, UDP, format_point
from ringfence.targets.nftables.evaluate import Machine, decide_realised

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="namespaces and nftables need root on Linux"
    ),
    pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed"),
]
SEEDS = range(100, 116)
PROBES = 160


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with Ground() as ground:
        yield ground


def send(ground: Ground, probe: Probe, client: int) -> None:
    """One packet that begins the flow."""
    protocol, detail = probe.point >> 16, probe.point & 0xFFFF
    content = content_of(protocol, (client, detail), icmp_type=detail & 0xFF, flags=SYN)
    if probe.direction == "in":
        ground.arrive(probe.remote, probe.local, protocol, content)
    else:
        ground.leave(probe.local, probe.remote, protocol, content)


def crossed(probe: Probe, client: int, packet: Seen) -> bool:
    """Whether what is seen at the peer proves that the packet passed the host's rules."""
    ends = (packet.source, packet.destination) == (probe.local, probe.remote)
    protocol, detail = probe.point >> 16, probe.point & 0xFFFF
    if probe.direction == "out":
        is_same = protocol not in PORTED or packet.ports == (client, detail)
        return (
            ends and packet.protocol == protocol and is_same and (protocol in PORTED or client in identifiers(packet))
        )
    if not ends:
        return False
    if protocol == TCP:
        return packet.protocol == TCP and packet.ports == (detail, client)
    if (protocol, detail) in ((ICMP, 8), (ICMPV6, 128)):
        return packet.protocol == protocol and packet.icmp_type in (0, 129) and client in identifiers(packet)
    unreachable = (ICMP, 3) if is_v4(probe.remote) else (ICMPV6, 1)
    return (packet.protocol, packet.icmp_type) == unreachable and client.to_bytes(2, "big") in packet.payload[8:]


def identifiers(packet: Seen) -> tuple[int, ...]:
    """Where the client's number may be: an ICMP identifier, or the first word of anything else."""
    return (packet.ports[0], int.from_bytes(packet.payload[4:6], "big"))


def answers(probe: Probe) -> bool:
    """Whether the host's stack shows by an answer that such a packet arrived."""
    protocol, detail = probe.point >> 16, probe.point & 0xFFFF
    if probe.direction == "out":
        return True
    if protocol == TCP:
        return True
    if protocol == UDP:
        return detail not in (67, 68, 546, 547)
    return (protocol, detail) in ((ICMP, 8), (ICMPV6, 128))


@pytest.mark.parametrize("seed", SEEDS)
def test_packets_meet_the_verdicts_of_the_intent(ground: Ground, seed: int) -> None:
    """For random intents of every kind, each packet is counted at the step the intent names, and passes or does not."""
    intent = random_intent(seed)
    ground.target.converge(intent)
    random.seed(seed)

    for probe in probes(intent, seed, PROBES):
        expected = judge(intent, probe)
        client = ground.client_port()
        if probe.point >> 16 not in PORTED:
            ground.forget_connections()
        list(ground.seen())
        before = ground.counts()
        send(ground, probe, client)
        told = f"{format_point(probe.point)} {probe}: {expected}"
        if expected.passes and answers(probe):
            assert ground.wait_for(lambda p, q=probe, c=client: crossed(q, c, p)), told
        after = ground.counts()
        moved = {name for name in after if after[name] > before[name] and name.startswith(probe.direction)}
        assert moved == counted(expected.step, expected.passes, probe.direction), told
        if not expected.passes:
            assert not any(crossed(probe, client, packet) for packet in ground.seen()), told


def counted(step: str, passes: bool, direction: str) -> set[str]:
    """The named counters that a flow's first packet moves."""
    if step == "essential":
        return set()
    word = {"allow": "allowed", "quarantine": "quarantine"}.get(step, f"{step}_{'would' if passes else 'blocked'}")
    return {f"{direction}_{word}"}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_read_back_decides_like_the_intent(ground: Ground, seed: int) -> None:
    """The kernel's own program, read back and run on paper, gives the intent's verdicts: it is proven, not assumed."""
    intent = random_intent(seed)
    realised = ground.target.converge(intent)
    machine = Machine(realised.layout)

    assert realised.state == "realised"
    assert realised.digest == intent.digest
    for probe in probes(intent, seed + 1, PROBES):
        found = decide_realised(machine, probe.direction, remote=probe.remote, local=probe.local, point=probe.point)

        assert (found.passes, found.step) == judge(intent, probe), probe
