"""Confirmed commit: a policy on trial decides while its time runs, and no program is needed for it to end."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator

import msgspec
import pytest
from nft_ground import Connection, Ground, passes, until
from nft_two_classes import HOST4, HOST6, OTHER4, PEER4, PEER6, PEERS, A, intent

from ringfence.core.errors import TargetError
from ringfence.core.intent.model import Intent, Passage, PeerClass
from ringfence.core.net.address import parse_cidr
from ringfence.core.net.service import parse_service
from ringfence.targets.nftables import NftablesTarget
from ringfence.targets.nftables.evaluate import Machine, decide_realised
from ringfence.targets.nftables.generations import split

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="namespaces and nftables need root on Linux"
    ),
    pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed"),
]
FAMILIES = [(HOST4, PEER4), (HOST6, PEER6)]
BRIEFLY_S = 0.3
LONG_S, SHORT_S = 600.0, 1.0


OLD = intent(("in", 1, "tcp/80", "allow"), ("in", 2, "tcp/80", "allow"))
NEW = intent(("in", 1, "tcp/81", "allow"), ("in", 2, "tcp/80", "allow"))


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground() as ground:
        yield ground


def connect(ground: Ground, port: int = 80, host: int = HOST4, peer: int = PEER4) -> Connection:
    return ground.connection(server=ground.host, client=ground.peer, client_address=peer, address=host, port=port)


def reaches(ground: Ground, port: int, peer: int = PEER4) -> bool:
    """Whether the realised rules, read back, let a new connection in."""
    layout = NftablesTarget(ground.host).observe().layout
    assert layout is not None
    point = parse_service(f"tcp/{port}").ranges[0][0]
    return decide_realised(Machine(layout), "in", remote=peer, local=HOST4, point=point).passes


def on_trial(ground: Ground, seconds: float = LONG_S) -> None:
    ground.target.converge(OLD)
    ground.target.converge(NEW, trial_s=seconds)


def test_a_policy_on_trial_decides_and_says_so(ground: Ground) -> None:
    """While the trial runs its policy judges, and both the target and a new one know from the kernel alone."""
    on_trial(ground)

    for target in (ground.target, NftablesTarget(ground.host)):
        seen = target.observe()
        assert (seen.on_trial, seen.is_reverted, seen.state) == (True, False, "realised")
        assert 0 < seen.trial_left_s <= LONG_S
        assert target.verify(NEW).state == "realised"
        assert target.verify(OLD).state == "pending"
    assert connect(ground, 81).works()
    assert (reaches(ground, 80), reaches(ground, 81)) == (False, True)


@pytest.mark.parametrize(("host", "peer"), FAMILIES, ids=["v4", "v6"])
def test_a_trial_ends_by_itself(ground: Ground, host: int, peer: int) -> None:
    """When its time is over the confirmed policy decides: no program did anything, and connections are judged again."""
    on_trial(ground, SHORT_S)
    tried = connect(ground, 81, host, peer)
    assert tried.works()

    assert until(lambda: NftablesTarget(ground.host).observe().is_reverted)

    assert not passes(tried.client, tried.server, within_s=BRIEFLY_S)
    assert not passes(tried.server, tried.client, within_s=BRIEFLY_S)
    assert connect(ground, 80, host, peer).works()
    seen = ground.target.observe()
    assert (seen.on_trial, seen.state, seen.digest) == (False, "realised", OLD.digest)
    assert ground.target.verify(OLD).state == "realised"


def test_a_connection_of_the_confirmed_policy_survives_a_trial_it_slept_through(ground: Ground) -> None:
    """Reverting gives back what was there: a connection that sent nothing meanwhile goes on."""
    ground.target.converge(OLD)
    live = connect(ground)
    assert live.works()
    ground.target.converge(NEW, trial_s=LONG_S)

    ground.target.revert()

    assert live.works()


def test_a_confirmed_policy_stays(ground: Ground) -> None:
    """Confirming is for good, leaves one generation in the table, and cuts nothing the trial allowed."""
    on_trial(ground)
    live = connect(ground, 81)
    assert live.works()

    confirmed = ground.target.confirm()

    assert (confirmed.on_trial, confirmed.is_reverted, confirmed.trial) == (False, False, None)
    assert ground.target.verify(NEW).state == "realised"
    assert live.works()
    assert ground.target.plan(NEW, ground.target.verify(NEW)).is_empty


def test_a_trial_that_is_over_cannot_be_confirmed_or_extended(ground: Ground) -> None:
    """The kernel itself refuses: a late confirmation changes nothing."""
    on_trial(ground, SHORT_S)
    seen = ground.target.observe()
    assert until(lambda: ground.target.observe().is_reverted)

    for late in (ground.target.confirm, lambda: ground.target.extend(LONG_S)):
        with pytest.raises(TargetError) as error:
            late()
        assert error.value.code == "trial-over"
    assert seen.on_trial
    assert not reaches(ground, 81)


def test_a_trial_is_extended(ground: Ground) -> None:
    """More time, counted from now, without another judgement."""
    on_trial(ground, 30.0)
    before = ground.target.observe()

    after = ground.target.extend(LONG_S)

    assert after.trial_left_s > 30.0 > before.trial_left_s
    assert after.policy_generation == before.policy_generation
    assert after.state == "realised"


def test_reverting_is_at_once(ground: Ground) -> None:
    """The confirmed policy decides; what the trial let in is judged by it; a second time does nothing."""
    on_trial(ground)
    tried = connect(ground, 81)
    assert tried.works()

    seen = ground.target.revert()

    assert (seen.on_trial, seen.is_reverted, seen.state) == (False, True, "realised")
    assert not passes(tried.client, tried.server, within_s=BRIEFLY_S)
    assert ground.target.revert().generation == seen.generation
    assert ground.target.converge(OLD).trial is None
    assert not passes(tried.client, tried.server, within_s=BRIEFLY_S)


def test_the_first_policy_on_trial_falls_back_to_no_policy(ground: Ground) -> None:
    """On a host without rules a trial that ends lets everything pass again, as before."""
    ground.target.converge(NEW, trial_s=LONG_S)
    assert not reaches(ground, 80)

    ground.target.revert()

    assert connect(ground, 80).works()


def test_another_policy_replaces_the_trial_and_never_the_confirmed_one(ground: Ground) -> None:
    """A second trial falls back on what the first would have fallen back on."""
    on_trial(ground)
    third = intent(("in", 1, "tcp/82", "allow"))

    seen = ground.target.converge(third, trial_s=LONG_S)
    assert seen.on_trial
    assert (reaches(ground, 80), reaches(ground, 81), reaches(ground, 82)) == (False, False, True)

    assert ground.target.revert().digest == OLD.digest
    assert (reaches(ground, 80), reaches(ground, 81), reaches(ground, 82)) == (True, False, False)


def moved(of: Intent, first: tuple[int, ...], second: tuple[int, ...]) -> Intent:
    peers = tuple(msgspec.structs.replace(p, addresses=a) for p, a in zip(PEERS, (first, second), strict=True))
    return msgspec.structs.replace(of, peers=peers)


@pytest.mark.parametrize("has_fallback", [False, True], ids=["told", "given"])
def test_membership_moves_in_both_generations_at_once(ground: Ground, has_fallback: bool) -> None:
    """A newcomer and a leaver bind the trial and the policy it may revert to."""
    on_trial(ground)
    live = connect(ground, 80, peer=OTHER4)
    newcomer = A("10.1.0.3")
    fallback = moved(OLD, (PEER4, PEER6), (newcomer,)) if has_fallback else None

    seen = ground.target.converge(moved(NEW, (PEER4, PEER6), (newcomer,)), fallback=fallback)

    assert seen.on_trial
    assert (reaches(ground, 80, newcomer), reaches(ground, 80, OTHER4)) == (True, False)
    assert not passes(live.client, live.server, within_s=BRIEFLY_S)
    ground.target.revert()
    assert (reaches(ground, 80, newcomer), reaches(ground, 80, OTHER4)) == (True, False)
    assert not passes(live.client, live.server, within_s=BRIEFLY_S)


def test_what_the_confirmed_policy_cannot_know_is_withheld(ground: Ground) -> None:
    """An address of a class only the trial knows is forbidden everything by what the trial reverts to."""
    ground.target.converge(intent(("in", 1, "tcp/80", "allow"), ("in", 0, "tcp/80", "allow")))
    third = PeerClass(3, "app=three", (OTHER4,))
    cell = ("in", 1, "tcp/81", "allow")
    ground.target.converge(intent(cell, ("in", 2, "tcp/81", "allow")), trial_s=LONG_S, policy="two")

    ground.target.converge(intent(cell, ("in", 3, "tcp/81", "allow"), peers=(PEERS[0], third)), policy="two")

    assert reaches(ground, 81, OTHER4)
    ground.target.revert()
    assert not reaches(ground, 80, OTHER4)
    assert reaches(ground, 80, A("10.1.0.9"))


@pytest.mark.parametrize("which", ["host", "peer"])
def test_a_quarantine_binds_both_generations(ground: Ground, which: str) -> None:
    """Isolated while a policy is on trial, isolated after it reverted; the exception passes in both."""
    on_trial(ground)
    passages = (Passage("in", parse_cidr("10.1.0.2/32"), parse_service("tcp/80")),)
    isolated = {"is_quarantined": True} if which == "host" else {"isolated": (PEER4, OTHER4)}

    seen = ground.target.converge(msgspec.structs.replace(NEW, quarantine_passages=passages, **isolated))

    assert seen.on_trial
    for _ in range(2):
        assert not reaches(ground, 81)
        assert not reaches(ground, 80)
        assert reaches(ground, 80, OTHER4)
        ground.target.revert()


def test_a_permanent_apply_ends_the_trial(ground: Ground) -> None:
    """Another policy for good leaves nothing of either generation before it."""
    on_trial(ground)
    third = intent(("in", 1, "tcp/82", "allow"))

    seen = ground.target.converge(third)

    assert (seen.on_trial, seen.trial, seen.is_reverted) == (False, None, False)
    assert ground.target.plan(third, ground.target.verify(third)).is_empty


HANDS = {
    "more time": "delete element inet ringfence trial { ipv4, ipv6 }\n"
    "add element inet ringfence trial { ipv4 timeout 3h, ipv6 timeout 3h }",
    "no end": "delete element inet ringfence trial { ipv4, ipv6 }\nadd element inet ringfence trial { ipv4, ipv6 }",
    "an early end": "flush set inet ringfence trial",
    "one family's end": "delete element inet ringfence trial { ipv6 }",
    "a rule of the trial": "insert rule inet ringfence trial_input accept",
    "a rule of the confirmed policy": "insert rule inet ringfence judge_in accept",
    "an address of the trial": "add element inet ringfence peer4 { 10.66.6.6 : 0:1 }",
    "a kept generation": "add element inet ringfence lasting { 0x01000000 }",
}


@pytest.mark.parametrize("hand", HANDS)
def test_a_hand_in_a_trial_is_drift_and_is_repaired(ground: Ground, hand: str) -> None:
    """Neither generation, nor the time, nor what lasts can be changed unseen; applying for good puts it right."""
    on_trial(ground)
    ground.nft(HANDS[hand] + "\n")

    assert ground.target.observe().state == "drifted"
    assert ground.target.verify(NEW).state == "drifted"
    ground.target.converge(NEW, trial_s=LONG_S, fallback=OLD)
    seen = ground.target.observe()
    assert (seen.state, seen.on_trial) == ("realised", True)
    assert (reaches(ground, 80), reaches(ground, 81)) == (False, True)
    ground.target.revert()
    assert (reaches(ground, 80), reaches(ground, 81)) == (True, False)


def test_a_trial_on_drifted_ground_is_refused_without_a_fallback(ground: Ground) -> None:
    """What somebody else made of the confirmed policy is nothing to fall back on."""
    ground.target.converge(OLD)
    ground.nft("insert rule inet ringfence input accept\n")

    with pytest.raises(TargetError) as error:
        ground.target.converge(NEW, trial_s=LONG_S)

    assert error.value.code == "no-confirmed-policy"


def test_what_is_read_back_is_both_policies(ground: Ground) -> None:
    """The table with a trial splits into the two tables it was made of, cell by cell."""
    old = intent(("in", 1, "tcp/8000-8100", "allow"), ("in", 2, "any", "forbid"), ("out", 1, "udp", "allow"))
    new = intent(("in", 1, "tcp/8000-8100", "deny"), ("in", 2, "icmp", "allow"), ("out", 1, "udp", "allow"))
    ground.target.converge(old)
    seen = ground.target.converge(new, trial_s=LONG_S)

    assert seen.layout is not None
    assert seen.confirmed is not None
    assert (seen.confirmed.digest, seen.digest) == (old.digest, new.digest)
    assert split(seen.layout).trial is not None
