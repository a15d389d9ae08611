"""Violations: the rule by name, new kinds at once, and every attempt in exactly one count."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.agent.observe.violations import Attempt, Violations, as_begun, judged, rule_of, step_of
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.model import Cell, Intent, Part, PeerClass
from ringfence.core.net.address import parse_address, parse_cidr
from ringfence.core.net.service import TCP, parse_service, point
from ringfence.flows.conntrack.nflog import BlockedAttempt

OWN = parse_address("10.0.0.1")
CELLS = (
    Cell(1, parse_service("tcp/23"), "deny", "guard/telnet"), Cell(1, parse_service("tcp/445"), "forbid", "guard/smb"),
    Cell(2, parse_service("tcp/23"), "deny", "guard/net"), Cell(0, parse_service("tcp/23"), "deny", "guard/anyone"),
)  # fmt: skip
INTENT = Intent(
    "w", "host", Mode(), (OWN,),
    (PeerClass(1, "db", (parse_address("10.2.0.5"),)), PeerClass(2, "net", ranges=parse_cidr("10.2.0.0/16").ranges)),
    (Part("in", CELLS),),
)  # fmt: skip


def logged(prefix: str, source: str = "10.2.0.5", port: int = 23, source_port: int = 4000) -> BlockedAttempt:
    return BlockedAttempt("", "in", prefix, TCP, source, "10.0.0.1", source_port, port, None, 60, 1e9)


@pytest.mark.parametrize(
    ("source", "port", "step", "rule"),
    [
        ("10.2.0.5", 23, "deny", "guard/telnet"), ("10.2.0.5", 445, "forbid", "guard/smb"),
        ("10.2.9.9", 23, "deny", "guard/net"), ("203.0.113.9", 23, "deny", "guard/anyone"),
        ("10.2.0.5", 445, "deny", ""), ("10.2.0.5", 99, "default", ""), ("10.2.0.5", 23, "quarantine", ""),
    ],
)  # fmt: skip
def test_the_rule_is_the_cell_of_that_remote_on_that_service(source: str, port: int, step: str, rule: str) -> None:
    """Exact address before range before nobody; a step the intent does not have there names no rule."""
    assert rule_of(INTENT, "in", OWN, parse_address(source), point(TCP, port), step) == rule


def test_what_is_not_ours_is_no_attempt() -> None:
    """Only packets with our own prefix count."""
    assert judged(logged("somebody else's"), INTENT) is None
    assert judged(logged("ringfence in deny maybe "), INTENT) is None
    attempt = judged(logged("ringfence in deny would "), INTENT)
    assert attempt is not None
    assert (attempt.kind.verdict, attempt.kind.step, attempt.kind.rule) == ("would-block", "deny", "guard/telnet")


@pytest.mark.parametrize(
    ("protocol", "answer", "asked"),
    [(TCP, (23, 4000, None), (4000, 23)), (1, (0, 0, 0), (0, 8)), (58, (0, 0, 129), (0, 128))],
    ids=["tcp", "ping", "ping6"],
)
def test_an_answer_is_told_as_the_connection_it_belongs_to(
    protocol: int, answer: tuple[int, int, int | None], asked: tuple[int, int]
) -> None:
    """A connection that lost its permission: whichever side sends next, the alert names who began it, the service it
    was on, and the rule."""
    source_port, port, kind = answer
    packet = BlockedAttempt("", "out", "ringfence in deny blocked ", protocol, "10.0.0.1", "10.2.0.5", source_port,
                            port, kind, 60, 1e9)  # fmt: skip
    found = judged(packet, INTENT)
    assert found is not None
    said = found.kind
    assert (said.direction, said.source, said.destination) == ("in", parse_address("10.2.0.5"), OWN)
    assert (found.source_port, said.point) == (asked[0], point(protocol, asked[1]))
    assert said.rule == ("guard/telnet" if protocol == TCP else "")
    began = msgspec.structs.replace(packet, direction="in", source="10.2.0.5", destination="10.0.0.1",
                                    source_port=asked[0], destination_port=asked[1] if kind is None else 0,
                                    icmp_type=None if kind is None else asked[1])  # fmt: skip
    assert judged(began, INTENT) == found


def attempt(port: int) -> Attempt:
    found = judged(logged("ringfence in default blocked ", port=port), INTENT)
    assert found is not None
    return found


def test_a_new_kind_is_told_at_once_and_its_repeats_later() -> None:
    """The first attempt now, the other nine as one count when the interval is over."""
    violations = Violations(repeat_s=10)
    assert violations.note(attempt(1))
    assert [count for _, count in violations.due(0.0)] == [1]
    assert [violations.note(attempt(1)) for _ in range(9)] == [False] * 9
    assert violations.due(9.9) == []
    assert [count for _, count in violations.due(10.0)] == [9]


@given(st.integers(0, 1 << 32), st.integers(1, 20), st.integers(1, 300))
def test_every_attempt_is_in_one_count(seed: int, most: int, attempts: int) -> None:
    """Described plus suppressed is what was logged, whatever the cap and the order; the cap holds in each interval."""
    chance = random.Random(seed)
    violations = Violations(repeat_s=10, most=most)
    now, counted, described = 0.0, 0, {}
    for _ in range(attempts):
        violations.note(attempt(chance.randrange(1, 40)))
        now += chance.random() * 3
        for _, count in violations.due(now):
            counted += count
            described[violations._until] = described.get(violations._until, 0) + 1
    counted += sum(count for _, count in violations.due(now, is_last=True))
    assert counted + violations.suppressed == attempts == violations.logged
    assert all(number <= most for number in described.values())


ORDERS = Cell(1, parse_service("tcp/5432"), "allow", "shop/orders")


@pytest.mark.parametrize(
    ("port", "verdict", "told"),
    [
        (5432, "would", None), (23, "would", ("would-block", "deny", "guard/telnet")),
        (445, "would", ("would-block", "forbid", "guard/smb")), (99, "would", ("would-block", "default", "")),
        (5432, "blocked", ("blocked", "default", "")),
    ],
)  # fmt: skip
def test_an_answer_in_mid_stream_is_judged_as_the_connection_it_answers(
    port: int, verdict: str, told: tuple[str, str, str] | None
) -> None:
    """Allowed the way it began, it is nothing that would be blocked; else that way is told, with its own step and rule.
    What was blocked was blocked, whatever is allowed."""
    intent = msgspec.structs.replace(INTENT, parts=(Part("in", (*CELLS, ORDERS)), Part("out", ())))
    packet = BlockedAttempt("", "out", f"ringfence out default {verdict} ", TCP, "10.0.0.1", "10.2.0.5", port, 56290,
                            None, 60, 1e9, is_beginning=False)  # fmt: skip
    found = judged(packet, intent)
    assert found is not None
    assert found.is_doubtful
    asked = as_begun(found, intent)
    if told is None:
        assert asked is None
        return
    assert asked is not None
    kind = asked.kind
    assert (kind.direction, kind.source, kind.destination) == ("in", parse_address("10.2.0.5"), OWN)
    assert (asked.source_port, kind.point) == (56290, point(TCP, port))
    assert (kind.verdict, kind.step, kind.rule) == told


def test_only_mid_stream_is_doubtful() -> None:
    """A beginning is one; and of an answer told at the other hook conntrack knew who began it."""
    began = logged("ringfence in deny would ")
    answered = msgspec.structs.replace(began, prefix="ringfence out deny would ", is_beginning=False)
    for packet in (began, answered):
        found = judged(packet, INTENT)
        assert found is not None
        assert not found.is_doubtful


def test_the_step_of_a_part_for_one_process_is_not_everybodys() -> None:
    """What is allowed to one program is not taken for allowed."""
    alone = msgspec.structs.replace(INTENT, parts=(Part("in", (ORDERS,), unit="pg.service"), Part("in", CELLS)))
    peer = parse_address("10.2.0.5")
    assert step_of(alone, "in", OWN, peer, point(TCP, 5432)) == "default"
    assert step_of(alone, "in", OWN, peer, point(TCP, 445)) == "forbid"
    assert step_of(alone, "out", OWN, peer, point(TCP, 445)) == "default"


def test_what_is_allowed_after_all_stays_counted() -> None:
    """As logged, and as allowed: the packets that the log's limit passed over are told apart from it."""
    violations = Violations()
    violations.pass_over()
    violations.note(attempt(1))
    assert (violations.logged, violations.allowed, violations.suppressed) == (2, 1, 0)
