"""Exceptions of a peer's quarantine that hold at some of a host's own addresses: the pieces, the table, and packets."""

from __future__ import annotations

import msgspec
import pytest
from conformance.hearings import EPHEMERAL, Hearing
from conformance.realised import on_paper, ruling
from conformance.test_nftables_with_packets import open_field
from conformance.test_nftables_with_packets import pytestmark as of_packets
from core.engine.worlds import host, replace, world_of

from ringfence.core.engine.engine import Engine
from ringfence.core.identity.workload import Direction, Mode
from ringfence.core.intent.compile import IntentCompiler
from ringfence.core.intent.model import Intent, Passage
from ringfence.core.intent.pieces import Isolation
from ringfence.core.net.address import parse_address, parse_cidr
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.net.service import parse_service
from ringfence.core.policy.model import Cidr
from ringfence.core.world import Quarantine, QuarantineException, World

WEB = host("web", "role=web", "10.0.0.1", "fd00::1")
DESK = host("desk", "role=desk", "10.0.0.2", "10.1.0.2", "fd00::2")
SSH, DNS = parse_service("tcp/22"), parse_service("udp/53")


def cidr(text: str) -> Cidr:
    return Cidr(text, parse_cidr(text))


def isolated(*, both: bool = False) -> World:
    web = Quarantine(
        WEB.uuid,
        (
            QuarantineException((cidr("10.0.0.0/24"), cidr("fd00::/64")), SSH, "in"),
            QuarantineException((cidr("10.1.0.0/24"),), DNS, "out"),
        ),
    )
    desk = Quarantine(DESK.uuid, (QuarantineException((cidr("10.0.0.1/32"),), SSH, "out"),))
    return replace(world_of([WEB, DESK]), quarantines=(web, desk) if both else (web,), as_mode=Mode.both("enforce"))


def intent_of(world: World) -> Intent:
    return IntentCompiler(Engine.compile(world)).compile(DESK)


PLACES = [
    ("out", "10.0.0.2", "10.0.0.1", "tcp/22", True),
    ("out", "10.1.0.2", "10.0.0.1", "tcp/22", False),
    ("out", "fd00::2", "fd00::1", "tcp/22", True),
    ("in", "10.1.0.2", "10.0.0.1", "udp/53", True),
    ("in", "10.0.0.2", "10.0.0.1", "udp/53", False),
    ("out", "10.0.0.77", "10.0.0.1", "tcp/22", False),
]
"""Direction, own address, remote, service, and whether it passes; the last at an address that nobody listed."""


def heard(direction: Direction, local: str, remote: str, service: str) -> Hearing:
    ((point, _),) = parse_service(service).ranges
    end = "source" if direction == "out" else "destination"
    ends = (parse_address(local), parse_address(remote))
    return Hearing(DESK, end, *ends, point, EPHEMERAL, None, (), is_inside=False)


@pytest.mark.parametrize(("direction", "local", "remote", "service", "passes"), PLACES)
def test_an_exception_holds_at_the_addresses_it_picks(
    direction: Direction, local: str, remote: str, service: str, passes: bool
) -> None:
    """The rendered table, read back and run, passes there and nowhere else."""
    said = ruling(on_paper(intent_of(isolated())), heard(direction, local, remote, service))

    assert (said.verdict == "allowed") == passes


def test_where_both_are_isolated_both_except_it_at_the_same_address() -> None:
    """The host's own exception opens no address that the peer's does not pick."""
    table = on_paper(intent_of(isolated(both=True)))

    assert ruling(table, heard("out", "10.0.0.2", "10.0.0.1", "tcp/22")).verdict == "allowed"
    assert ruling(table, heard("out", "10.1.0.2", "10.0.0.1", "tcp/22")).verdict == "blocked"
    assert ruling(table, heard("in", "10.1.0.2", "10.0.0.1", "udp/53")).verdict == "blocked"


def test_a_passage_without_an_address_is_written_as_before() -> None:
    """The new fields are sent only where they say something, and equal values have equal bytes."""
    passage = Passage("in", parse_cidr("10.0.0.0/8"), SSH)
    spelled = Passage("in", parse_cidr("10.0.0.0/8"), SSH, IntervalSet(()))

    assert b"local" not in msgspec.json.encode(passage)
    assert msgspec.json.encode(spelled) == msgspec.json.encode(passage)
    (isolation,) = IntentCompiler(Engine.compile(isolated())).isolations(frozenset(("main",)))
    assert msgspec.json.decode(msgspec.json.encode(isolation), type=Isolation) == isolation
    everywhere = Quarantine(WEB.uuid, (QuarantineException((cidr("10.0.0.0/8"), cidr("fd00::/64")), SSH, "in"),))
    world = replace(isolated(), quarantines=(everywhere,))
    (whole,) = IntentCompiler(Engine.compile(world)).isolations(frozenset(("main",)))
    assert DESK.uuid in whole.exceptions[0].peers
    assert b"partly" not in msgspec.json.encode(whole)


@pytest.mark.kernel
@of_packets[1]
def test_packets_meet_the_same_answer() -> None:
    """By real packets, from and to each of the host's addresses."""
    with open_field() as field:
        intent = intent_of(isolated())
        for direction, local, remote, service, passes in PLACES:
            assert field.passes(intent, heard(direction, local, remote, service)) == passes, (direction, local)  # type: ignore[arg-type]
