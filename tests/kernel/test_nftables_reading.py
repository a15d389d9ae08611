"""A proof after a change reads what the change wrote, and everything where anybody else wrote."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator

import msgspec
import pytest
from nft_ground import Ground
from test_nftables_lasting import intent
from test_nftables_membership import is_as_read

from ringfence.core.errors import TargetError
from ringfence.core.intent.model import Intent, PeerClass
from ringfence.core.net.address import parse_address
from ringfence.targets.nftables import NftablesTarget
from ringfence.targets.nftables.plan import Plan
from ringfence.targets.nftables.reading import FEW, MANY
from ringfence.targets.nftables.realised import Realised

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="namespaces and nftables need root on Linux"
    ),
    pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed"),
]
FIRST = parse_address("10.32.0.1")


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground() as ground:
        yield ground


def large(count: int = MANY + 100, first: int = FIRST) -> Intent:
    peers = (PeerClass(1, "app=one", tuple(range(first, first + count))),)
    return intent(("in", 1, "tcp/80", "allow"), peers=peers)


class Meddled(NftablesTarget):
    """A target that somebody writes past, between its change and the proof."""

    def __init__(self, ground: Ground, text: str) -> None:
        super().__init__(ground.host)
        self._ground, self._text = ground, text

    def _rest(self, plan: Plan, found: Realised) -> None:
        super()._rest(plan, found)
        if found.layout is not None:
            self._ground.nft(self._text)


@pytest.mark.parametrize(
    "text",
    [
        "add element inet ringfence peer4 { 192.168.9.9 : 0:1 }",
        "delete element inet ringfence peer4 { 10.32.0.7 }",
        "insert rule inet ringfence remember accept",
        "delete element inet ringfence peer4 { 10.32.0.7 }; add element inet ringfence peer4 { 10.32.0.7 : 0:9 }",
    ],
    ids=["added", "missing", "rule", "other class"],
)
def test_a_large_table_is_repaired_to_the_bit(ground: Ground, text: str) -> None:
    """What a foreign hand did to a large map is put right, and the short proof says what a whole reading says."""
    ground.target.converge(large())
    ground.nft(text)
    assert ground.target.observe().state == "drifted"

    assert ground.target.converge(large()).state == "realised"

    assert is_as_read(ground, ground.target)
    assert NftablesTarget(ground.host).verify(large()).state == "realised"


@pytest.mark.parametrize("moved", [1, FEW + 1])
def test_a_change_of_few_or_many_is_read_back(ground: Ground, moved: int) -> None:
    """Few elements are read one by one, more of them with their whole map: either way it is what is there."""
    ground.target.converge(large())
    grown = large(first=FIRST + moved)

    assert ground.target.converge(grown).state == "realised"

    assert is_as_read(ground, ground.target)
    assert NftablesTarget(ground.host).verify(grown).state == "realised"


@pytest.mark.parametrize(
    "text",
    ["add element inet ringfence peer4 { 192.168.9.9 : 0:1 }", "delete element inet ringfence peer4 { 10.32.0.7 }"],
)
def test_who_writes_before_the_proof_is_found_out(ground: Ground, text: str) -> None:
    """Somebody who changes a large map right after us is not taken for us, though we left that map alone."""
    target = Meddled(ground, text)
    target.converge(large())

    with pytest.raises(TargetError) as error:
        target.converge(msgspec.structs.replace(large(), isolated=(FIRST,)))

    assert error.value.code == "not-realised"
