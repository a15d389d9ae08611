"""A plan in words of rules: what it says opens and closes is what two intents judge differently."""

from __future__ import annotations

import msgspec
import pytest
from nft_intents import OWN, Probe, judge, probes, random_intent

from ringfence.core.identity.workload import Direction, Mode
from ringfence.core.intent.model import Cell, Intent, Part, Passage, PeerClass
from ringfence.core.net.address import parse_address, parse_cidr
from ringfence.core.net.intervals import EMPTY, IntervalSet
from ringfence.core.net.service import parse_service
from ringfence.targets.nftables import NftablesTarget
from ringfence.targets.nftables.areas import CgroupRef
from ringfence.targets.nftables.changes import Changes, changes
from ringfence.targets.nftables.layout import Stranger
from ringfence.targets.nftables.policy_change import Change, Line, Member, ModeChange, change
from ringfence.targets.nftables.readback import parse
from ringfence.targets.nftables.render import render

UNITS = ("one.service",)
SEEDS = range(60)
A = parse_address
WEB = PeerClass(1, "role=web", (A("10.1.0.1"),))
API = PeerClass(2, "role=api", (A("10.1.0.2"),))
GROUPS = {"one.service": CgroupRef("one.service", 1, 7)}


def policy_only(intent: Intent) -> Intent:
    """What cells and mode alone decide."""
    return msgspec.structs.replace(intent, failsafe=(), is_quarantined=False, isolated=(), quarantine_passages=())


def policy(*cells: tuple[Direction, int, str, str], mode: str = "enforce", peers: tuple[PeerClass, ...] = (WEB, API),
           **more: object) -> Intent:  # fmt: skip
    parts = tuple(
        Part(d, tuple(Cell(n, parse_service(s), a, f"p/{a}-{s}") for x, n, s, a in cells if x == d))  # type: ignore[arg-type]
        for d in ("in", "out")
    )
    return Intent("uuid", "host", Mode.both(mode), OWN, peers, parts, **more)  # type: ignore[arg-type]


def line_about(lines: tuple[Line, ...], probe: Probe) -> bool:
    return any(
        line.direction == probe.direction
        and line.unit in (None, probe.unit)
        and (not line.local or probe.local in line.local)
        and (not line.services or probe.point in line.services)
        for line in lines
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_passes_differently_is_told(seed: int) -> None:
    """Between two random intents, each flow that begins or ceases to pass is under a line that says so."""
    old, new = (policy_only(random_intent(seed + n, units=UNITS)) for n in (0, 1000))
    told = change(old, new)
    differ = 0
    for probe in (p._replace(unit=unit) for p in probes(new, seed, 60) for unit in (None, *UNITS)):
        before, after = judge(old, probe), judge(new, probe)
        if "essential" not in (before.step, after.step) and before.passes != after.passes:
            differ += 1
            assert line_about(told.opens if after.passes else told.closes, probe), probe
    assert differ or old.mode == new.mode


@pytest.mark.parametrize("seed", SEEDS)
def test_only_what_passes_differently_is_told(seed: int) -> None:
    """With members unchanged, each class and service of a line really judges differently."""
    old = policy_only(random_intent(seed, units=UNITS))
    other = policy_only(random_intent(seed + 1000, units=UNITS))
    cells = tuple(
        msgspec.structs.replace(part, cells=tuple(c for c in part.cells if c.peer in {0, *(p.id for p in old.peers)}))
        for part in other.parts
    )
    new = msgspec.structs.replace(old, mode=other.mode, parts=cells)
    told = change(old, new)
    remotes = {p.text: p.addresses[0] for p in old.peers if p.addresses}
    for line, passes in [*((x, True) for x in told.opens), *((x, False) for x in told.closes)]:
        for lo, _ in line.services:
            for remote in (remotes[text] for text in line.peers if text in remotes):
                local = next((own for own in OWN if not line.local or own in line.local), None)
                probe = Probe(line.direction, remote, local or 0, lo, line.unit)
                if local is not None and judge(new, probe).step != "essential":
                    assert (judge(old, probe).passes, judge(new, probe).passes) == (not passes, passes), line


def test_equal_intents_change_nothing() -> None:
    """No line is told where nothing is different."""
    for seed in SEEDS:
        assert change(random_intent(seed), random_intent(seed)).is_empty


def test_a_hosts_first_firewall_tells_what_stays_and_that_the_rest_closes() -> None:
    """From no firewall: the allows stay, a forbid and everything else close; nothing opens."""
    told = change(None, policy(("in", 1, "tcp/80", "allow"), ("in", 2, "tcp/80", "forbid")))

    http = parse_service("tcp/80")
    assert told.stays == (Line("in", http, ("role=web",), "p/allow-tcp/80"),)
    assert told.opens == ()
    assert set(told.closes) == {
        Line("in", http, ("role=api",), "p/forbid-tcp/80"),
        Line("in", EMPTY, (), None),
        Line("out", EMPTY, (), None),
    }
    assert told.modes == (ModeChange("in", None, "enforce"), ModeChange("out", None, "enforce"))


def test_a_host_that_observes_closes_nothing() -> None:
    """In observe a forbid takes nothing away."""
    told = change(None, policy(("in", 2, "tcp/80", "forbid"), mode="observe"))

    assert (told.stays, told.opens, told.closes) == ((), (), ())


def test_an_address_that_becomes_a_class_opens_what_the_class_may() -> None:
    """A joining workload is told as a member and as what opens to it."""
    rules = (("in", 1, "tcp/80", "allow"),)
    more = PeerClass(1, "role=web", (A("10.1.0.1"), A("10.1.0.9")))
    told = change(policy(*rules, peers=(WEB,)), policy(*rules, peers=(more,)))

    assert told.opens == (Line("in", parse_service("tcp/80"), ("role=web",), "p/allow-tcp/80"),)
    assert told.closes == ()
    assert told.members == (Member("role=web", IntervalSet.single(A("10.1.0.9"))),)


def test_a_permission_that_is_taken_away_names_the_rule_it_was() -> None:
    """The line names the class as it was, no rule now, and the rule before."""
    told = change(policy(("in", 1, "tcp/80", "allow")), policy(peers=()))

    assert told.closes == (Line("in", parse_service("tcp/80"), ("role=web",), None, "p/allow-tcp/80"),)


def test_quarantine_is_told_as_itself() -> None:
    """A quarantined host, its release, and quarantined peers are told; policy beneath a quarantine is not."""
    plain, web = policy(("in", 1, "tcp/80", "allow")), (A("10.1.0.1"),)
    isolated = change(plain, msgspec.structs.replace(plain, is_quarantined=True, isolated=web))
    released = change(msgspec.structs.replace(plain, is_quarantined=True, isolated=web), plain)

    assert (isolated.quarantine, isolated.isolates, isolated.opens, isolated.closes) == ((False, True), web, (), ())
    assert (released.quarantine, released.releases) == ((True, False), web)
    assert [line.rule for line in released.opens] == ["p/allow-tcp/80"]


def test_a_passage_is_told_when_it_begins_and_ends() -> None:
    """A failsafe passage that is written in two pieces is the same passage."""
    ssh, office = parse_service("tcp/22"), parse_cidr("192.0.2.0/24")
    halves = (parse_cidr("192.0.2.0/25"), parse_cidr("192.0.2.128/25"))
    whole = policy(failsafe=(Passage("in", office, ssh),))
    split = policy(failsafe=tuple(Passage("in", half, ssh) for half in halves))

    assert change(policy(), whole).passages == ((Passage("in", office, ssh), True),)
    assert change(whole, policy()).passages == ((Passage("in", office, ssh), False),)
    assert change(whole, split).is_empty


# -- drift -----------------------------------------------------------------------------------------------------------


def seen(asked: Intent, realised: Intent, *, is_untouched: bool, **other: object) -> Changes:
    """What is told of an intent on a host whose table realises another, perhaps with other things in it."""
    layout = msgspec.structs.replace(render(realised, 3, GROUPS), **other)  # type: ignore[arg-type]
    return changes(asked, layout, parse(layout, GROUPS), GROUPS, is_untouched=is_untouched)


def test_an_intents_own_change_is_no_drift() -> None:
    """A table nobody touched has a change of policy, and nothing foreign."""
    told = seen(policy(("in", 1, "tcp/80", "allow")), policy(), is_untouched=True)

    assert not told.is_touched
    assert [line.rule for line in told.policy.opens] == ["p/allow-tcp/80"]
    assert (told.repairs, told.foreign) == (Change(), ())


def test_what_somebody_else_added_is_told_apart_from_the_change_of_intent() -> None:
    """With both, the foreign part is drift and the policy's part is not."""
    strangers = (Stranger("set", "theirs"),)
    told = seen(policy(("in", 1, "tcp/80", "allow")), policy(), is_untouched=False, strangers=strangers)

    assert told.foreign == ("added: stranger theirs",)
    assert [line.rule for line in told.policy.opens] == ["p/allow-tcp/80"]


@pytest.mark.parametrize("seed", range(12))
def test_a_table_is_what_its_own_meaning_would_be_written_as(seed: int) -> None:
    """Nothing is called foreign in a table this target wrote, whatever its intent."""
    realised = random_intent(seed, units=UNITS)

    assert seen(policy(), realised, is_untouched=False).foreign == ()


def test_a_unit_is_shown_by_its_path_on_any_machine() -> None:
    """Rendering looks at no control group: the same text everywhere, with a note that it is looked up when applied."""
    intent = policy(("out", 1, "tcp/443", "allow"))
    unit = "system.slice/rf-nowhere.service"
    more = Cell(2, parse_service("tcp/443"), "allow", "p/unit")
    parts = (*intent.parts, Part("out", (*intent.parts[1].cells, more), unit=unit))
    target = NftablesTarget()
    text = target.render(msgspec.structs.replace(intent, parts=parts))

    assert target.support(msgspec.structs.replace(intent, parts=parts)) == ()
    assert text.startswith(f"# control group `{unit}` is looked up")
    assert f'socket cgroupv2 level 2 "{unit}"' in text
