"""Oracle = real packets: every probe of every case file that packets can ask, sent and seen to arrive or not.

Each controlled end is judged on its own: its host enforces in one namespace, and whoever it talks to is bare.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import msgspec
import pytest
from conformance.case_hearings import REFUSED_WHOLE, Heard, case_hearings
from conformance.ground import Connection, Ground, Program, control_groups
from conformance.hearings import EPHEMERAL, Hearing
from conformance.random_hearings import questions
from conformance.realised import Estate, accepted, is_accepted, is_half_isolated, on_paper, ruling

from ringfence.core.identity.workload import Mode
from ringfence.core.intent.model import Intent
from ringfence.core.net.address import GLOBAL_UNICAST, PRIVATE
from ringfence.core.net.service import ICMP, ICMPV6, PORTED, PROTOCOLS, TCP, UDP
from ringfence.core.world import World
from ringfence.targets.nftables import NftablesTarget
from ringfence.targets.nftables.areas import units_of
from ringfence.targets.nftables.cgroups import hierarchy

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make network namespaces"),
]
UNSENT = {
    "services/a protocol alone means all its ports [1]": "no program listens on port 0",
    "ipv6/internet is global unicast less workloads [4]": "no kernel takes in what comes from a multicast address",
}
"""Probes that are packets on paper only, and why."""
WORLDS, QUESTIONS, FIRST_SEED = 40, 10, 20_000
SPOKEN = (ICMP, TCP, UDP, 47, ICMPV6, PROTOCOLS["sctp"])
UNICAST = GLOBAL_UNICAST | PRIVATE
_numbers = itertools.count()


class Field:
    """The ground, the enforcing host's target, and control groups for its programs."""

    def __init__(self, ground: Ground, groups: Path) -> None:
        self.ground = ground
        self._groups = groups
        self._target = NftablesTarget(ground.host, cgroup_root=groups.parent)
        self._ports = itertools.count(20_000)
        self._realised = ""

    def passes(self, intent: Intent, hearing: Hearing) -> bool:
        """Whether the first packet of this hearing passes its host, and what follows with it."""
        self._realise(intent)
        self.ground.forget()
        detail = hearing.point & 0xFFFF
        port = next(self._ports) if hearing.source_port == EPHEMERAL else hearing.source_port
        tried = Connection(hearing.source, hearing.destination, hearing.point >> 16, (port, detail))
        program = self._program(intent, hearing.unit)
        if hearing.is_inside:
            return self.ground.inside(tried)
        if hearing.direction == "out":
            return self.ground.leaves(tried, program)
        return self.ground.arrives(tried, program)

    def _realise(self, intent: Intent) -> None:
        if self._realised == intent.digest:
            return
        for unit in units_of(intent):
            self._group_of(unit).mkdir(parents=True, exist_ok=True)
        parts = tuple(
            msgspec.structs.replace(part, unit=str(self._group_of(part.unit).relative_to(self._groups.parent)))
            if part.unit
            else part
            for part in intent.parts
        )
        found = self._target.converge(msgspec.structs.replace(accepted(intent), parts=parts))
        assert found.state == "realised", found.differences
        self._realised = intent.digest

    def _group_of(self, unit: str) -> Path:
        return self._groups / unit.strip("/")

    def _program(self, intent: Intent, unit: str | None) -> Program | None:
        """Somebody in the unit's control group, where a rule tells it apart."""
        return Program(self._group_of(unit)) if unit and unit in units_of(intent) else None


@pytest.fixture
def field() -> Iterator[Field]:
    with open_field() as opened:
        yield opened


@contextmanager
def open_field() -> Iterator[Field]:
    """A ground of its own, removed at the end. Skips where there is no cgroup v2."""
    prefix, root = f"rfc{os.getpid()}x{next(_numbers)}", hierarchy()
    if root is None:
        pytest.skip("processes are told apart by cgroup v2, which is not mounted")
    with ExitStack() as stack:
        groups = stack.enter_context(control_groups(root, prefix))
        yield Field(stack.enter_context(Ground(prefix)), groups)


def played(field: Field, heard: Iterable[Heard]) -> Iterator[tuple[Heard, list[tuple[Hearing, bool]]]]:
    """Each probe with what came of its packets at every controlled end."""
    estate: Estate | None = None
    asked: World | None = None
    for question in heard:
        if estate is None or question.world != asked:
            estate, asked = Estate(question.world, on_paper), question.world
        yield question, [(hearing, field.passes(estate.intent(hearing.host), hearing)) for hearing in question.hearings]


def wrongs(question: Heard, passed: list[tuple[Hearing, bool]]) -> Iterator[str]:
    for hearing, passes in passed:
        if passes != (hearing.verdict != "blocked"):
            yield f"{question.about}: {hearing.end} {hearing.host.name}: passes: {passes}"
    if all(passes for _, passes in passed) != (question.probe.want != "blocked"):
        yield f"{question.about}: together not {question.probe.want}"


def test_every_case_holds_for_packets(field: Field) -> None:
    """At every controlled end a new connection passes exactly if the case wants it, and together if every end lets it.

    TCP that passes is established, UDP and echo are answered; what is blocked is not on the wire, or not delivered.
    """
    heard, _ = case_hearings()
    assert {question.about for question in heard} >= UNSENT.keys()
    left_out = UNSENT | REFUSED_WHOLE
    for about, why in left_out.items():
        print(f"{about}: {why}")
    results = list(played(field, [question for question in heard if question.about not in left_out]))
    assert [text for question, passed in results for text in wrongs(question, passed)] == []
    assert sum(len(passed) for _, passed in results) >= 660


def is_sendable(hearing: Hearing) -> bool:
    """Between two unicast addresses, of a protocol that a program can speak."""
    protocol, detail = hearing.point >> 16, hearing.point & 0xFFFF
    if hearing.is_inside or protocol not in SPOKEN or (protocol in PORTED and not detail):
        return False
    if hearing.unit is not None and protocol != TCP:
        return False
    return hearing.local in UNICAST and hearing.remote in UNICAST


def test_generated_worlds_hold_for_packets(field: Field) -> None:
    """The packets of 150 decisions and more about generated worlds pass exactly where the oracle lets them."""
    unheard: Counter[str] = Counter()
    sent = 0
    for seed in range(FIRST_SEED, FIRST_SEED + WORLDS):
        estates: dict[datetime, Estate] = {}
        for question in questions(seed, QUESTIONS, unheard):
            estate = estates.setdefault(question.world.at, Estate(question.world, on_paper))
            for hearing in filter(is_sendable, question.hearings):
                intent = estate.intent(hearing.host)
                if not is_accepted(intent) or is_half_isolated(hearing, ruling(on_paper(intent), hearing)):
                    continue
                passes = field.passes(intent, hearing)
                assert passes == (hearing.verdict != "blocked"), f"seed {seed}: {question.flow}"
                sent += 1
    print(f"{sent} connections")
    assert sent >= 150


def test_a_packet_that_should_not_pass_is_seen_to_pass(field: Field) -> None:
    """The ground can tell: what a case wants blocked arrives where the host observes, by every protocol."""
    chosen: dict[tuple[str, int, bool], tuple[Heard, Hearing]] = {}
    for question in case_hearings()[0]:
        for hearing in question.hearings:
            if hearing.verdict == "blocked" and hearing.wanted[0].reason == "default" and question.about not in UNSENT:
                key = (hearing.direction, hearing.point >> 16, hearing.unit is not None)
                chosen.setdefault(key, (question, hearing))
    assert len(chosen) >= 8
    for question, hearing in chosen.values():
        intent = Estate(question.world, on_paper).intent(hearing.host)
        assert not field.passes(intent, hearing), question.about
        assert field.passes(msgspec.structs.replace(intent, mode=Mode()), hearing), question.about
