"""Membership at the cost of the change: what is foretold is what a whole reading finds."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Iterator

import msgspec
import pytest
from nft_ground import Ground, passes
from nft_intents import OWN
from test_nftables_lasting import OTHER4, PEER4, PEER6, PEERS, Way, intent, talk
from test_nftables_trial import NEW, OLD

from ringfence.core.errors import TargetError
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.model import Intent, Part, PeerClass
from ringfence.core.intent.pieces import Body, ClassPlan, Station, assemble
from ringfence.core.net.address import V4_BASE, parse_address, parse_cidr
from ringfence.targets.nftables import NftablesTarget
from ringfence.targets.nftables.layout import digest_of
from ringfence.targets.nftables.render import seal_of

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="namespaces and nftables need root on Linux"
    ),
    pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed"),
]
A = parse_address
BRIEFLY_S = 0.3
RANGED = (*PEERS, PeerClass(3, "office", (), parse_cidr("10.4.0.0/16").ranges))
OPEN = intent(("in", 1, "tcp/80", "allow"), ("in", 2, "tcp/81", "allow"), ("in", 3, "tcp/80", "allow"), peers=RANGED)


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground() as ground:
        yield ground


def members(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[PeerClass, ...]:
    addresses = (tuple(sorted(first)), tuple(sorted(second)), ())
    return tuple(msgspec.structs.replace(p, addresses=a) for p, a in zip(RANGED, addresses, strict=True))


def is_as_read(ground: Ground, target: NftablesTarget) -> bool:
    """What the target says without reading is what another one reads."""
    told, read = target.observe(), NftablesTarget(ground.host).observe()
    assert told.layout is not None
    assert read.layout is not None
    assert seal_of(told.layout) == seal_of(read.layout)
    assert digest_of(told.layout) == digest_of(read.layout)
    assert (told.state, told.digest, told.generation, told.policy_generation) == (
        read.state, read.digest, read.generation, read.policy_generation,
    )  # fmt: skip
    assert told.intent is not None
    assert read.intent is not None
    assert [(p.id, p.addresses, p.ranges) for p in told.intent.peers] == [
        (p.id, p.addresses, p.ranges) for p in read.intent.peers
    ]
    return read.state == "realised"


def test_a_newcomer_moves_one_element_and_judges_nobody_again(ground: Ground) -> None:
    """An address that gains changes an element and what the table says of itself."""
    ground.target.converge(OPEN)
    newcomer = A("10.1.0.3")

    seen = ground.target.apply_membership({1: [newcomer]})

    assert seen.policy_generation == 1
    assert is_as_read(ground, ground.target)
    grown = msgspec.structs.replace(OPEN, peers=members((PEER4, PEER6, newcomer), (OTHER4,)))
    assert NftablesTarget(ground.host).verify(grown).state == "realised"
    assert talk(ground, Way("tcp", "in", False), newcomer).works()


@pytest.mark.parametrize("becomes", ["nobody", "another class"])
def test_a_leaver_is_cut(ground: Ground, becomes: str) -> None:
    """An address that loses its class loses its connections in the same transaction; others keep theirs."""
    ground.target.converge(OPEN)
    leaver = talk(ground, Way("tcp", "in", False), PEER4)
    stays = talk(ground, Way("tcp", "in", True), PEER6)

    if becomes == "nobody":
        seen = ground.target.apply_membership({}, [PEER4])
    else:
        seen = ground.target.apply_membership({2: [PEER4]})

    assert seen.policy_generation == 2
    assert is_as_read(ground, ground.target)
    assert not passes(leaver.server, leaver.client, within_s=BRIEFLY_S)
    assert not passes(leaver.client, leaver.server, within_s=BRIEFLY_S)
    assert stays.works()


def test_what_lasts_does_not_last_for_a_leaver(ground: Ground) -> None:
    """A kept connection ends with its address's class, the others go on."""
    both = intent(("in", 1, "tcp/80", "allow"), ("in", 2, "tcp/80", "allow"))
    ground.target.converge(both)
    leaver = talk(ground, Way("tcp", "in", False), PEER4)
    stays = talk(ground, Way("tcp", "in", False), OTHER4)
    ground.target.converge(intent(("in", 1, "tcp/82", "allow"), ("in", 2, "tcp/82", "allow")), live="keep")

    ground.target.apply_membership({}, [PEER4])

    assert is_as_read(ground, ground.target)
    assert not passes(leaver.client, leaver.server, within_s=BRIEFLY_S)
    assert stays.works()


def test_nothing_to_change_sends_nothing(ground: Ground) -> None:
    """What is so already is no transaction."""
    before = ground.target.converge(OPEN)

    assert ground.target.apply_membership({1: [PEER4]}, [A("10.99.0.1")]).generation == before.generation


def test_random_changes_are_foretold_to_the_bit(ground: Ground) -> None:
    """Through 60 changes of v4 and v6 addresses, at both ends of the tables, the reading agrees each time."""
    rng = random.Random(4)
    pool = [V4_BASE + n for n in (0x0A000001, 0x0A000100, 0x0A0000FF, 0xFEFFFFFF, 0x0A040001)]
    pool += [A(x) for x in ("fd00::100", "fd00::", "fd00:0:0:1::", "2001:db8::ff00", "fd00::1")]
    ground.target.converge(OPEN)

    for _ in range(60):
        some = rng.sample(pool, rng.randint(1, 4))
        added = {1: some[:1], 2: some[1:2]}
        ground.target.apply_membership(added, some[2:])
        assert is_as_read(ground, ground.target)


def test_after_somebody_elses_hand_it_is_a_whole_convergence(ground: Ground) -> None:
    """A foreign write between two changes is noticed and repaired, never built upon."""
    ground.target.converge(OPEN)
    ground.nft("insert rule inet ringfence input accept\n")

    seen = ground.target.apply_membership({1: [A("10.1.0.3")]})

    assert seen.state == "realised"
    assert is_as_read(ground, ground.target)


def test_on_trial_it_binds_both_generations(ground: Ground) -> None:
    """A change of membership while a policy is on trial leaves it on trial."""
    ground.target.converge(OLD)
    ground.target.converge(NEW, trial_s=600)

    seen = ground.target.apply_membership({}, [OTHER4])

    assert seen.on_trial
    assert NftablesTarget(ground.host).observe().state == "realised"


def test_a_class_the_policy_does_not_know_is_refused(ground: Ground) -> None:
    """Without cells of its own an address would fall to no class: that is not what was asked."""
    ground.target.converge(OPEN)

    with pytest.raises(TargetError) as error:
        ground.target.apply_membership({9: [PEER4]})

    assert error.value.code == "class-unknown"


def alone(*members: int) -> Intent:
    """A host that is a class of its own, and whoever else is of it, as an agent assembles it from pieces."""
    cells = tuple(c for part in OPEN.parts for c in part.cells if c.peer == 1)
    body = Body((ClassPlan(1, "app=one", ("one",)),), (Part("in", cells),))
    station = Station("uuid", "host", Mode.both("enforce"), tuple(sorted(OWN)))
    return assemble(station, body, {"one": (*OWN, *members)}, ())


def test_the_first_and_the_last_member_are_one_element_each(ground: Ground) -> None:
    """A class that only the host itself is in has its cells: whoever joins it, or leaves it empty, moves an element."""
    ground.target.converge(alone())

    ground.target.apply_membership({1: [PEER4]})

    assert is_as_read(ground, ground.target)
    assert NftablesTarget(ground.host).verify(alone(PEER4)).state == "realised"
    live = talk(ground, Way("tcp", "in", False), PEER4)
    assert live.works()

    ground.target.apply_membership({}, [PEER4])

    assert is_as_read(ground, ground.target)
    assert NftablesTarget(ground.host).verify(alone()).state == "realised"
    assert not passes(live.client, live.server, within_s=BRIEFLY_S)
