"""Quarantine at the cost of the change: what is foretold is what a whole reading finds, and it bites at once."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Iterator

import msgspec
import pytest
from nft_ground import Ground, passes
from test_nftables_lasting import OTHER4, PEER4, PEER6, Way, intent, talk
from test_nftables_membership import OPEN, RANGED, is_as_read, members
from test_nftables_trial import NEW, OLD

from ringfence.core.errors import Finding, FindingsError, TargetError
from ringfence.core.intent.model import Intent, Passage
from ringfence.core.net.address import parse_address, parse_cidr
from ringfence.core.net.service import parse_service
from ringfence.targets.nftables import NftablesTarget

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="namespaces and nftables need root on Linux"
    ),
    pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed"),
]
A = parse_address
BRIEFLY_S = 0.3
FORENSICS = (
    Passage("in", parse_cidr("10.1.0.2/32") | parse_cidr("fd00::/64"), parse_service("tcp/81")),
    Passage("out", parse_cidr("10.9.0.0/24"), parse_service("udp/53") | parse_service("icmp/echo")),
)
IN = Way("tcp", "in", False)


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground() as ground:
        yield ground


def isolating(base: Intent, *peers: int, host: bool = False, passages: tuple[Passage, ...] = ()) -> Intent:
    return msgspec.structs.replace(
        base, is_quarantined=host, isolated=tuple(sorted(peers)), quarantine_passages=passages
    )


def test_an_isolated_peer_is_cut_and_others_are_not(ground: Ground) -> None:
    """Elements, the chains that ask for them and a new generation: the peer's connection ends, others go on."""
    ground.target.converge(OPEN)
    gone, stays = talk(ground, IN, PEER4), talk(ground, Way("tcp", "in", True), PEER6)

    seen = ground.target.apply_isolation(isolating(OPEN, PEER4))

    assert (seen.state, seen.policy_generation) == ("realised", 2)
    assert is_as_read(ground, ground.target)
    assert NftablesTarget(ground.host).verify(isolating(OPEN, PEER4)).state == "realised"
    assert not passes(gone.client, gone.server, within_s=BRIEFLY_S)
    assert not passes(gone.server, gone.client, within_s=BRIEFLY_S)
    assert stays.works()


def test_an_isolated_host_talks_to_its_exceptions_only(ground: Ground) -> None:
    """Its own isolation closes all but the exceptions, which are there in the same transaction that closes."""
    both = intent(("in", 1, "tcp/80", "allow"), ("in", 2, "tcp/81", "allow"), peers=RANGED)
    ground.target.converge(both)
    gone = talk(ground, IN, PEER4)

    ground.target.apply_isolation(isolating(both, host=True, passages=FORENSICS))

    assert is_as_read(ground, ground.target)
    assert not passes(gone.client, gone.server, within_s=BRIEFLY_S)
    assert ground.connection(
        server=ground.host, client=ground.peer, client_address=OTHER4, address=A("172.20.0.2"), port=81
    ).works()


def test_release_judges_nobody_again(ground: Ground) -> None:
    """A peer that is released loses nobody anything: the generation stays, and it talks again."""
    ground.target.converge(OPEN)
    ground.target.apply_isolation(isolating(OPEN, PEER4, OTHER4))

    seen = ground.target.apply_isolation(isolating(OPEN, OTHER4))

    assert seen.policy_generation == 2
    assert is_as_read(ground, ground.target)
    assert talk(ground, IN, PEER4).works()


def test_nothing_to_change_sends_nothing(ground: Ground) -> None:
    """What is isolated already is no transaction."""
    ground.target.converge(OPEN)
    before = ground.target.apply_isolation(isolating(OPEN, PEER4))

    assert ground.target.apply_isolation(isolating(OPEN, PEER4)).generation == before.generation


@pytest.mark.parametrize("is_on_trial", [False, True])
def test_random_quarantines_are_foretold_to_the_bit(ground: Ground, is_on_trial: bool) -> None:
    """Through 40 turns of isolations, exceptions and members, the whole reading agrees each time."""
    rng = random.Random(11)
    base = OLD if is_on_trial else OPEN
    ground.target.converge(base)
    if is_on_trial:
        base = NEW
        ground.target.converge(base, trial_s=600)
    pool = [PEER4, PEER6, OTHER4, A("10.77.0.1"), A("2001:db8::1")]

    for _ in range(40):
        wanted = isolating(
            base,
            *rng.sample(pool, rng.randint(0, 3)),
            host=rng.random() < 0.3,
            passages=tuple(rng.sample(FORENSICS, rng.randint(0, 2))),
        )
        seen = ground.target.apply_isolation(wanted)
        assert seen.on_trial == is_on_trial
        assert is_as_read(ground, ground.target)
        assert NftablesTarget(ground.host).verify(wanted).state == "realised"


def test_members_and_quarantines_take_turns(ground: Ground) -> None:
    """A quarantine after a change of membership still knows what it was proven to realise, and the other way round."""
    ground.target.converge(OPEN)
    newcomer = A("10.1.0.3")
    ground.target.apply_membership({1: [newcomer]})
    grown = msgspec.structs.replace(OPEN, peers=members((PEER4, PEER6, newcomer), (OTHER4,)))

    ground.target.apply_isolation(isolating(grown, newcomer))
    ground.target.apply_membership({}, [PEER6])

    assert is_as_read(ground, ground.target)
    shrunk = msgspec.structs.replace(OPEN, peers=members((PEER4, newcomer), (OTHER4,)))
    assert NftablesTarget(ground.host).verify(isolating(shrunk, newcomer)).state == "realised"


def test_on_trial_both_generations_are_bound(ground: Ground) -> None:
    """A quarantine while a policy is on trial outlives its reversal."""
    ground.target.converge(OLD)
    ground.target.converge(NEW, trial_s=600)
    ground.target.apply_isolation(isolating(NEW, OTHER4))

    seen = ground.target.revert()

    assert seen.is_reverted
    assert seen.intent is not None
    assert seen.intent.isolated == (OTHER4,)
    assert NftablesTarget(ground.host).observe().state == "realised"


def test_a_process_that_starts_anew_isolates_too(ground: Ground) -> None:
    """What is in force is found out from the kernel alone."""
    ground.target.converge(OPEN)

    seen = NftablesTarget(ground.host).apply_isolation(isolating(OPEN, PEER4))

    assert seen.state == "realised"
    assert NftablesTarget(ground.host).verify(isolating(OPEN, PEER4)).state == "realised"


def test_after_somebody_elses_hand_it_is_a_whole_convergence(ground: Ground) -> None:
    """A foreign write is noticed and repaired, never built upon."""
    ground.target.converge(OPEN)
    ground.nft("insert rule inet ringfence input accept\n")

    assert ground.target.apply_isolation(isolating(OPEN, PEER4)).state == "realised"
    assert is_as_read(ground, ground.target)


def test_more_than_a_quarantine_is_refused(ground: Ground) -> None:
    """Another policy under cover of an isolation is not applied; one that may not be planned is refused like any."""
    ground.target.converge(OPEN)
    other = intent(("in", 1, "tcp/443", "allow"), peers=RANGED)

    with pytest.raises(TargetError) as error:
        ground.target.apply_isolation(isolating(other, PEER4))
    assert error.value.code == "policy-differs"
    fault = Finding("forbid-unsupported", "a forbid nobody enforces", "error")
    with pytest.raises(FindingsError):
        ground.target.apply_isolation(msgspec.structs.replace(OPEN, isolated=(PEER4,), refusals=(fault,)))

    assert NftablesTarget(ground.host).verify(OPEN).state == "realised"
