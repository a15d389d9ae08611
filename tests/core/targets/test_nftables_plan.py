"""The difference of two tables: what has an effect is one transaction, and nothing is visible half made."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest
from nft_intents import REMOTE, random_intent

from ringfence.core.errors import FindingsError
from ringfence.core.identity.workload import Direction, Mode
from ringfence.core.intent.model import Cell, Intent, Part, PeerClass
from ringfence.core.net.address import V4_BASE, parse_address, parse_cidr
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.net.service import ANY, parse_service
from ringfence.ports.target import Observed
from ringfence.targets.nftables import NftablesTarget, Realised
from ringfence.targets.nftables import messages as m
from ringfence.targets.nftables.layout import Hash, Interval, Layout
from ringfence.targets.nftables.netlink import Message
from ringfence.targets.nftables.plan import Difference, Size, difference
from ringfence.targets.nftables.prefixes import FEW, arrange
from ringfence.targets.nftables.readback import parse
from ringfence.targets.nftables.realised import realised
from ringfence.targets.nftables.render import render
from ringfence.targets.nftables.revocation import moves, revokes
from ringfence.targets.nftables.support import check
from ringfence.targets.nftables.wire import as_int, as_text, attribute_map

A = parse_address
ENFORCE = Mode.both("enforce")


def intent(*cells: tuple[int, str, str], peers: tuple[PeerClass, ...] | None = None, mode: Mode = ENFORCE) -> Intent:
    peers = peers or tuple(PeerClass(n, f"class {n}", (REMOTE[n],)) for n in (1, 2, 3))
    built = tuple(Cell(n, parse_service(s), a, f"p/{s}") for n, s, a in cells)  # type: ignore[arg-type]
    return Intent("uuid", "host", mode, (), peers, (Part("in", built),))


def kinds(messages: tuple[Message, ...]) -> set[int]:
    return {message.kind for message in messages}


def named(messages: tuple[Message, ...], kind: int) -> list[str]:
    return [as_text(attribute_map(message.body)[2]) for message in messages if message.kind == kind]


def between(old: Intent, new: Intent) -> Difference:
    return difference(render(new, 1), render(old, 1))


# -- what is sent ----------------------------------------------------------------------------------------------------


def test_equal_tables_differ_in_nothing() -> None:
    """No message is sent for what is there."""
    assert between(random_intent(1), random_intent(1)) == Difference((), (), (), (), Size())


def test_membership_moves_elements_only() -> None:
    """A workload that comes, goes or moves changes no rule, map or chain."""
    first, second, third = intent((1, "tcp/80", "allow")).peers
    moved = (
        msgspec.structs.replace(first, addresses=()),
        msgspec.structs.replace(second, addresses=(REMOTE[1], REMOTE[2])),
        msgspec.structs.replace(third, addresses=(REMOTE[3], A("10.1.9.9"))),
    )
    found = between(intent((1, "tcp/80", "allow")), intent((1, "tcp/80", "allow"), peers=moved))

    assert (found.preparation, found.cleanup) == ((), ())
    assert kinds(found.change) == {m.NEWSETELEM, m.DELSETELEM}


def test_an_old_class_is_removed_before_the_new_one_is_given() -> None:
    """Within the transaction every removal of an element of a map precedes every addition to it."""
    first, second, third = intent((1, "tcp/80", "allow")).peers
    swapped = (
        msgspec.structs.replace(first, addresses=second.addresses),
        msgspec.structs.replace(second, addresses=first.addresses),
        third,
    )
    found = between(intent((1, "tcp/80", "allow")), intent((1, "tcp/80", "allow"), peers=swapped))
    about_peers = [x.kind for x in found.change if as_text(attribute_map(x.body)[2]) == "peer4"]

    assert about_peers == [m.DELSETELEM, m.NEWSETELEM]


def test_new_ranges_are_whole_before_any_rule_uses_them() -> None:
    """An interval set is made in the preparation, used in the change, and its forerunner goes in the cleanup."""
    old, new = intent((1, "tcp/8000-8100", "allow")), intent((1, "tcp/8000-8200", "allow"))
    found = between(old, new)
    prepared, cleared = named(found.preparation, m.NEWSET), named(found.cleanup, m.DELSET)

    assert any(name.startswith("ports_in_tcp_") for name in prepared)
    assert any(name.startswith("ports_in_tcp_") for name in cleared)
    assert not {m.NEWSET, m.DELSET, m.NEWCHAIN, m.DELCHAIN} & kinds(found.change)
    assert m.NEWRULE in kinds(found.change)


@pytest.mark.parametrize("seed", range(25))
def test_no_change_alters_an_interval_set_in_use_or_removes_what_packets_may_still_need(seed: int) -> None:
    """Between any two intents: interval sets are never edited, nothing is deleted in the change, the table never."""
    old, new = render(random_intent(seed), 1), render(random_intent(seed + 1000), 2)
    found = difference(new, old)
    edited = {*named(found.change, m.NEWSETELEM), *named(found.change, m.DELSETELEM)}

    assert not {name for name in edited if (new.sets.get(name) or old.sets[name]).is_interval}
    assert not {m.DELTABLE, m.DELSET, m.DELCHAIN} & kinds(found.change)
    assert not {m.DELTABLE, m.NEWRULE, m.NEWSETELEM} & kinds(found.cleanup)
    assert m.DELRULE not in kinds(found.preparation)
    assert not {"input", "output"} & {as_text(attribute_map(x.body)[3]) for x in found.cleanup if x.kind == m.DELCHAIN}


def test_an_exact_cell_that_becomes_part_of_a_range_goes_last() -> None:
    """Moved without a change of verdict, it stays until no packet can be looking for it; otherwise it goes at once."""
    old = intent((1, "tcp/80", "allow"), (2, "tcp/81", "allow"))
    same = between(old, intent((1, "tcp/1-1000", "allow"), (2, "tcp/81", "allow")))
    other = between(old, intent((1, "tcp/1-1000", "deny"), (2, "tcp/81", "allow")))

    assert "exact_in" not in named(same.change, m.DELSETELEM)
    assert "exact_in" in named(same.cleanup, m.DELSETELEM)
    assert "exact_in" in named(other.change, m.DELSETELEM)
    assert "exact_in" not in named(other.cleanup, m.DELSETELEM)


def test_the_first_table_hooks_in_when_it_is_whole() -> None:
    """Chains are attached to the packet path in the same transaction as, and after, everything they use."""
    found = difference(render(intent((1, "tcp/8000-8100", "allow")), 1), None)
    hooked = [x for x in (*found.preparation, *found.change) if x.kind == m.NEWCHAIN and 4 in attribute_map(x.body)]

    assert len(hooked) == 3
    assert all(x in found.change for x in hooked)
    assert found.preparation[0].kind == m.NEWTABLE


def test_a_bulk_of_elements_is_split_below_the_size_of_an_attribute() -> None:
    """A hundred thousand addresses go out in messages the kernel can read, and none is lost."""
    many = tuple(V4_BASE + n for n in range(100_000))
    layout = render(Intent("u", "h", ENFORCE, (), (PeerClass(1, "many", many),)), 1)
    sent = [x for x in difference(layout, None).change if x.kind == m.NEWSETELEM and x.about == "elements of `peer4`"]
    elements = [attribute_map(x.body)[3] for x in sent]

    assert all(len(content) < 65_532 for content in elements)
    assert sum(len(content) for content in elements) == 100_000 * len(m.element_template(4, 4))


# -- generations -----------------------------------------------------------------------------------------------------


def observed(of: Intent, generation: int = 9, *, is_untouched: bool = True) -> Realised:
    found = realised(render(of, generation), 77, {}, 0.0)
    return msgspec.structs.replace(found, is_untouched=is_untouched)


GAIN = ((1, "tcp/80", "allow"),)


def test_a_pure_gain_keeps_the_generation() -> None:
    """A newcomer that may do more than a stranger could: no live connection is judged again."""
    old = intent(*GAIN)
    grown = (*old.peers[1:], msgspec.structs.replace(old.peers[0], addresses=(REMOTE[1], A("10.1.9.9"))))
    plan = NftablesTarget().plan(intent(*GAIN, peers=grown), observed(old))

    assert plan.generation == 9
    assert plan.based_on == 77


@pytest.mark.parametrize(
    "new",
    [
        intent((1, "tcp/81", "allow")),
        intent(*GAIN, mode=Mode("enforce", "observe")),
        intent(*GAIN, peers=(*intent().peers[1:], PeerClass(1, "class 1"))),
        msgspec.structs.replace(intent(*GAIN), isolated=(REMOTE[5],)),
        msgspec.structs.replace(intent(*GAIN), is_quarantined=True),
    ],
    ids=["cells", "mode", "a leaver", "isolation", "quarantine"],
)
def test_whatever_may_take_something_away_begins_a_generation(new: Intent) -> None:
    """Every live connection is then judged again at its next packet."""
    assert NftablesTarget().plan(new, observed(intent(*GAIN))).generation == 10


def test_a_table_that_was_touched_begins_a_generation() -> None:
    """What passed under foreign rules is judged again, even when the intent is the same."""
    assert NftablesTarget().plan(intent(*GAIN), observed(intent(*GAIN), is_untouched=False)).generation == 10


def test_a_used_up_cycle_forgets_before_it_begins_anew() -> None:
    """Numbers about to be used again are cleared first."""
    target = NftablesTarget()

    assert target.plan(intent((1, "tcp/81", "allow")), observed(intent(*GAIN), 127)).forgets == (range(1, 64),)
    assert target.plan(intent((1, "tcp/81", "allow")), observed(intent(*GAIN), 63)).forgets == (range(64, 128),)
    assert target.plan(intent((1, "tcp/81", "allow")), observed(intent(*GAIN), 20)).forgets == ()


def test_without_a_table_the_first_generation_begins() -> None:
    """Any Observed says that much."""
    assert NftablesTarget().plan(intent(*GAIN), Observed("absent")).generation == 1


@pytest.mark.parametrize("seed", range(30))
def test_what_revokes_nothing_lets_every_flow_pass_that_passed(seed: int) -> None:
    """Judged flow by flow: when no revocation is found between two memberships, none is there."""
    old = msgspec.structs.replace(random_intent(seed), isolated=(), is_quarantined=False)
    peers = random_intent(seed + 500).peers
    renumbered = tuple(msgspec.structs.replace(p, id=q.id) for p, q in zip(peers, old.peers, strict=False))
    left_out = tuple(msgspec.structs.replace(p, addresses=(), ranges=()) for p in old.peers[len(renumbered) :])
    new = msgspec.structs.replace(old, peers=(*renumbered, *left_out))
    if revokes(old, new):
        return
    for remote, part in itertools.product(REMOTE, old.parts):
        before, after = (services_of(x, remote, part) for x in (old, new))
        assert after.covers(before), (remote, part.direction)


def services_of(of: Intent, remote: int, part: Part) -> IntervalSet:
    exact = [p.id for p in of.peers if remote in p.addresses]
    number = [*exact, *(p.id for p in of.peers for lo, hi in p.ranges if lo <= remote <= hi), 0][0]
    mode, passing = of.mode.of(part.direction), IntervalSet()
    for cell in part.cells:
        if cell.peer == number and (cell.action == "allow") == (mode == "enforce"):
            passing = passing | cell.services
    if mode == "observe":
        return ANY
    return passing if mode == "enforce" else ANY - passing


def test_a_move_is_seen_whether_by_address_or_by_range() -> None:
    """Classes before and after, for exact addresses, ranges, and addresses that fall back to a range."""
    block = parse_cidr("10.0.0.0/8").ranges
    old = (PeerClass(1, "a", (A("10.1.1.1"), A("9.9.9.9"))), PeerClass(2, "b", (), block))
    new = (PeerClass(1, "a", ()), PeerClass(2, "b", (), block), PeerClass(3, "c", (A("9.9.9.9"),)))

    assert moves(old, new) == {(1, 2), (1, 3)}
    assert moves(old, (old[0],)) == {(2, 0)}
    assert moves(old, old) == set()


# -- what is refused -------------------------------------------------------------------------------------------------

TWICE = (PeerClass(1, "a", (A("10.1.1.1"),)), PeerClass(2, "b", (A("10.1.1.1"),)))
CROSSING = (
    PeerClass(1, "a", (), parse_cidr("10.0.0.0/8").ranges),
    PeerClass(2, "b", (), parse_cidr("10.1.0.0/16").ranges),
)
HUGE = (PeerClass(0xFFFF0001, "a", (A("10.1.1.1"),)),)
DIRECTION: Direction = "in"
FAULTS = {
    "address-in-two-classes": intent(peers=TWICE),
    "ranges-overlap": intent(peers=CROSSING),
    "class-out-of-range": intent(peers=HUGE),
    "class-unknown": intent((9, "tcp/80", "allow")),
    "class-duplicate": intent(peers=(PeerClass(1, "a"), PeerClass(1, "b"))),
    "cells-overlap": intent((1, "tcp/80", "allow"), (1, "tcp/80", "deny")),
    "parts-overlap": msgspec.structs.replace(intent(), parts=(Part(DIRECTION), Part(DIRECTION))),
}


@pytest.mark.parametrize("code", FAULTS)
def test_an_intent_that_contradicts_itself_is_refused(code: str) -> None:
    """Nothing ambiguous is ever planned; the code says what is wrong."""
    assert code in {finding.code for finding in check(FAULTS[code])}
    with pytest.raises(FindingsError):
        NftablesTarget().plan(FAULTS[code], Observed("absent"))


def test_overlapping_ranges_of_services_are_refused() -> None:
    """Two cells of one class that share a port within wider ranges are found too."""
    assert {f.code for f in check(intent((1, "tcp/1-1000", "allow"), (1, "any", "deny")))} == {"cells-overlap"}


# -- prefixes --------------------------------------------------------------------------------------------------------


def test_few_ranges_stay_ranges() -> None:
    """Below the threshold there is one interval map and no other."""
    few = tuple(Interval(16 * n, 16 * n + 15, 1) for n in range(FEW))

    assert arrange(few, 32) == ({}, few)


def test_many_ranges_are_covered_once_each() -> None:
    """Prefix maps and rest together hold every address of every range exactly once."""
    ranges = tuple(Interval(1000 * n, 1000 * n + n % 300, n % 7 + 1) for n in range(2000))
    arranged = arrange(ranges, 32)
    covered = [(i.lo, i.hi, i.value) for i in arranged.rest]
    for length, elements in arranged.prefixes.items():
        bases = elements.keys.view(">u4").ravel().astype(int)
        classes = np.ascontiguousarray(elements.values).view("=u4").ravel()
        covered += [(b, b + (1 << 32 - length) - 1, int(c)) for b, c in zip(bases, classes, strict=True)]

    assert arranged.prefixes
    assert merged(covered) == [tuple(r) for r in ranges]


def merged(ranges: list[tuple[int, int, int | str | None]]) -> list[tuple[int, int, int | str | None]]:
    out: list[tuple[int, int, int | str | None]] = []
    for lo, hi, value in sorted(ranges, key=lambda r: r[0]):
        if out and out[-1][1] + 1 == lo and out[-1][2] == value:
            out[-1] = (out[-1][0], hi, value)
        else:
            out.append((lo, hi, value))
    return out


def test_an_unreadable_layout_is_never_equal() -> None:
    """A table without our chains is not taken for ours."""
    with pytest.raises(ValueError, match="lacks"):
        parse(Layout(), {})


def test_nested_flags_and_set_ids_are_what_the_kernel_expects() -> None:
    """Every new set of a transaction has a number of its own."""
    found = difference(render(intent((1, "tcp/8000-8100", "allow")), 1), None)
    numbers = [as_int(attribute_map(x.body)[10]) for x in (*found.preparation, *found.change) if x.kind == m.NEWSET]

    assert len(numbers) == len(set(numbers))
    assert all(isinstance(e, Hash | tuple) for e in render(intent(), 1).elements.values())
