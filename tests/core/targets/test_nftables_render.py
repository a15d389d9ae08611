"""The rules an intent renders to, run on paper: they decide as the intent does."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest
from nft_intents import OWN, REMOTE, Probe, judge, probes, random_intent

from ringfence.core.identity.workload import MODES, Mode
from ringfence.core.intent.model import Cell, Intent, Part, Passage, PeerClass
from ringfence.core.net.address import parse_address, parse_cidr
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.net.service import ANY, ICMP, ICMPV6, TCP, parse_service, point
from ringfence.targets.nftables.areas import CgroupRef
from ringfence.targets.nftables.evaluate import Machine, Outcome, Packet, State, decide_realised
from ringfence.targets.nftables.expressions import Verdict
from ringfence.targets.nftables.layout import Elements, digest_of
from ringfence.targets.nftables.marks import LAST_GENERATION, mark_of, next_generation, reused_generations
from ringfence.targets.nftables.readback import differences, normal, parse
from ringfence.targets.nftables.render import render
from ringfence.targets.nftables.services import REPLY_TYPES

GROUPS = {
    "web.service": CgroupRef("system.slice/web.service", 2, 4242),
    "job.service": CgroupRef("system.slice/job.service", 2, 4343),
}
ANCESTORS = {None: (1, 5), "web.service": (1, 4242), "job.service": (1, 4343)}


@pytest.mark.parametrize("seed", range(60))
def test_a_new_flow_is_decided_as_the_intent_says(seed: int) -> None:
    """For every mode, class, service, local address and passage the rules give the intent's verdict and step."""
    intent = random_intent(seed)
    machine = Machine(render(intent, 1 + seed % 127))

    for probe in probes(intent, seed, 150):
        found = decide_realised(machine, probe.direction, remote=probe.remote, local=probe.local, point=probe.point)

        assert (found.passes, found.step) == judge(intent, probe), probe


@pytest.mark.parametrize("seed", range(40))
def test_an_answer_is_decided_as_the_flow_it_answers(seed: int) -> None:
    """The first answer of a connection judged under an older policy gets the verdict of the connection's beginning."""
    intent = random_intent(seed)
    machine = Machine(render(intent, 5))

    for probe in probes(intent, seed, 150):
        protocol, detail = probe.point >> 16, probe.point & 0xFFFF
        if protocol in REPLY_TYPES and detail not in REPLY_TYPES[protocol]:
            continue
        found = decide_realised(
            machine, probe.direction, remote=probe.remote, local=probe.local, point=probe.point, is_reply=True
        )

        assert (found.passes, found.step) == judge(intent, probe), probe


@pytest.mark.parametrize("service", ["icmp/redirect", "icmp/echo", "tcp/22", "any"])
@pytest.mark.parametrize("direction", ["in", "out"])
def test_whatever_a_rule_goes_to_is_there(direction: str, service: str) -> None:
    """Every chain that a rule or a map leads to is defined, also for a failsafe that only one hook can express."""
    passage = Passage(direction, parse_cidr("10.0.0.0/8"), parse_service(service))  # type: ignore[arg-type]
    layout = render(msgspec.structs.replace(random_intent(3), failsafe=(passage,)), 1)
    expressions = [e for chain in layout.chains.values() for rule in chain.rules for e in rule.expressions]
    targets = {e.chain for e in expressions if isinstance(e, Verdict) and e.chain}
    held = {i.value for e in layout.elements.values() if isinstance(e, tuple) for i in e if isinstance(i.value, str)}

    assert targets | held <= layout.chains.keys()


@pytest.mark.parametrize("seed", range(20))
def test_a_process_is_judged_by_its_own_part(seed: int) -> None:
    """A socket of a named unit meets that unit's part, any other socket the part without a unit."""
    intent = random_intent(seed, units=("web.service", "job.service"))
    machine = Machine(render(intent, 1, GROUPS))

    for probe in probes(intent, seed, 60):
        for unit, ancestors in ANCESTORS.items():
            asked = probe._replace(unit=unit)
            found = decide_realised(
                machine, probe.direction, remote=probe.remote, local=probe.local, point=probe.point, cgroups=ancestors
            )

            assert (found.passes, found.step) == judge(intent, asked), asked


@pytest.mark.parametrize("seed", range(40))
def test_a_layout_reads_back_as_its_intent(seed: int) -> None:
    """Parsing what was rendered gives the intent again, cell by cell, and no difference."""
    intent = random_intent(seed, units=("web.service",) if seed % 3 == 0 else ())
    layout = render(intent, 3, GROUPS)

    assert normal(parse(layout, GROUPS)) == normal(intent)
    assert differences(intent, layout, GROUPS) == ()


def test_a_mode_changes_rules_and_no_element() -> None:
    """All elements but the table's own description stay the same from observe to enforce."""
    intent = random_intent(3)
    layouts = [render(msgspec.structs.replace(intent, mode=Mode.both(mode)), 1) for mode in ("observe", "enforce")]
    first, second = ({n: _plain(e) for n, e in layout.elements.items() if n != "about"} for layout in layouts)

    assert first == second
    assert digest_of(layouts[0]) != digest_of(layouts[1])


def _plain(elements: Elements) -> object:
    return elements if isinstance(elements, tuple) else (elements.keys.tobytes(), elements.values.tobytes())


def test_a_port_range_is_an_atom_and_a_single_port_is_exact() -> None:
    """Single ports skip the atoms; a range and `any` share as few atoms as their edges allow."""
    cells = (
        Cell(1, parse_service("tcp/80"), "allow", "p/a"),
        Cell(2, parse_service("tcp/8000-8100"), "allow", "p/b"),
        Cell(3, ANY, "allow", "p/c"),
    )
    peers = tuple(PeerClass(n, str(n), (REMOTE[n],)) for n in (1, 2, 3))
    layout = render(Intent("u", "h", Mode.both("enforce"), OWN, peers, (Part("in", cells),)), 1)

    assert len(layout.elements["exact_in"]) == 1
    assert len([name for name in layout.sets if name.startswith("atom_in_")]) == 2


def packet(**changes: object) -> Packet:
    base = Packet("input", REMOTE[0], OWN[0], TCP, (40000, 80))
    return msgspec.structs.replace(base, **changes)


@pytest.fixture
def strict() -> Machine:
    """Inbound tcp/80 and outbound tcp/443 allowed for one peer, all else closed, generation 9."""
    peers = (PeerClass(1, "one", (REMOTE[0],)),)
    parts = (
        Part("in", (Cell(1, parse_service("tcp/80"), "allow", "p/web"),)),
        Part("out", (Cell(1, parse_service("tcp/443"), "allow", "p/out"),)),
    )
    local = next(a for a in OWN if a == parse_address("172.20.0.2"))
    return Machine(render(Intent("u", "h", Mode.both("enforce"), (local,), peers, parts), 9))


V4 = parse_address("172.20.0.2")


def test_a_connection_of_this_generation_passes_at_once(strict: Machine) -> None:
    """An established packet that bears the current generation is not judged, whatever its port."""
    live = packet(destination=V4, ports=(40000, 9999), state="established", mark=mark_of(9))

    assert strict.run(live).ending == "accept"
    assert strict.run(live).counters == ()


def test_a_flow_without_answers_is_judged_once(strict: Machine) -> None:
    """Datagrams that nobody answers stay "new" to conntrack and still pass at once; related flows are judged."""
    silent = packet(destination=V4, protocol=17, ports=(40000, 514), state="new", mark=mark_of(9))

    assert strict.run(silent).counters == ()
    assert strict.run(silent).ending == "accept"
    assert strict.run(msgspec.structs.replace(silent, state="related")).ending == "drop"


def test_a_connection_of_another_generation_is_judged(strict: Machine) -> None:
    """The same packet with an older generation meets the policy."""
    stale = packet(destination=V4, ports=(40000, 9999), state="established", mark=mark_of(8))

    assert strict.run(stale).counters == ("in_default_blocked",)


def test_a_new_connection_is_marked_and_the_marks_of_others_are_kept(strict: Machine) -> None:
    """Only the top byte of the conntrack mark is ours."""
    outcome = strict.run(packet(destination=V4, mark=0x00ABCDEF))

    assert outcome.ending == "accept"
    assert outcome.mark == mark_of(9) | 0x00ABCDEF


def test_a_beginning_never_passes_as_established_on_a_picked_up_connection(strict: Machine) -> None:
    """A SYN on a connection picked up in mid-stream is judged as a new connection in its own direction."""
    picked_up = 0x80000000 | mark_of(9)
    syn = packet(destination=V4, ports=(443, 22), state="established", mark=picked_up)
    data = packet(destination=V4, ports=(443, 22), state="established", mark=picked_up, tcp_flags=0x10)

    assert strict.run(syn).ending == "drop"
    assert strict.run(data).ending == "accept"


@pytest.mark.parametrize("hook", ["input", "output"])
@pytest.mark.parametrize("action", ["allow", "deny", "forbid", None])
def test_mid_stream_tcp_passes_only_if_either_side_may_have_begun_it(hook: str, action: str | None) -> None:
    """Of a connection nobody saw begin, a segment passes if the peer might be its client and the host might be."""
    allowed = Cell(1, parse_service("tcp/443"), "allow", "p/out")
    cells = (Cell(1, parse_service("tcp/8080"), action, "p/in"),) if action else ()  # type: ignore[arg-type]
    peers = (PeerClass(1, "one", (REMOTE[0],)),)
    intent = Intent("u", "h", Mode.both("enforce"), (V4,), peers, (Part("in", cells), Part("out", (allowed,))))
    inwards = Packet("input", REMOTE[0], V4, TCP, (443, 8080), tcp_flags=0x18)
    outwards = Packet("output", V4, REMOTE[0], TCP, (8080, 443), tcp_flags=0x18)

    outcome = Machine(render(intent, 9)).run(inwards if hook == "input" else outwards)

    direction = "in" if hook == "input" else "out"
    if action == "allow":
        assert outcome.ending == "accept"
        assert outcome.mark == 0x80000000 | mark_of(9)
    else:
        assert outcome.ending == ("drop" if hook == "input" else "reject")
        assert outcome.counters == (f"{direction}_invalid",)


def test_a_withdrawn_connection_does_not_revive_from_the_other_side() -> None:
    """Inbound enforced, outbound observed: a server's own segments do not bring a withdrawn connection back."""
    intent = Intent("u", "h", Mode("enforce", "observe"), (V4,), (PeerClass(1, "one", (REMOTE[0],)),), ())
    segment = Packet("output", V4, REMOTE[0], TCP, (80, 40000), tcp_flags=0x18)

    assert Machine(render(intent, 1)).run(segment).ending == "reject"


def test_an_observing_host_drops_no_mid_stream_packet() -> None:
    """With both directions observed everything but quarantine passes."""
    intent = Intent("u", "h", Mode.both("observe"), (V4,), (PeerClass(1, "one", (REMOTE[0],)),), ())
    segment = Packet("output", V4, REMOTE[0], TCP, (80, 40000), tcp_flags=0x18)
    outcome = Machine(render(intent, 1)).run(segment)

    assert outcome.ending == "accept"
    assert outcome.counters == ("out_default_would",)


def test_blocked_leaving_packets_are_rejected_and_arriving_ones_dropped(strict: Machine) -> None:
    """A local program learns at once; a stranger learns nothing."""
    leaving = packet(hook="output", source=V4, destination=REMOTE[0], ports=(40000, 25))
    arriving = packet(destination=V4, ports=(40000, 25))

    assert strict.run(leaving).ending == "reject"
    assert strict.run(arriving).ending == "drop"


def test_a_quarantined_host_drops_in_silence_and_in_observe_too() -> None:
    """Quarantine beats the mode, and is never a reject."""
    intent = Intent("u", "h", Mode.both("observe"), (V4,), (), (), is_quarantined=True)
    machine = Machine(render(intent, 1))

    for probe in (Probe("in", REMOTE[0], V4, point(TCP, 80)), Probe("out", REMOTE[0], V4, point(TCP, 80))):
        found = decide_realised(machine, probe.direction, remote=probe.remote, local=V4, point=probe.point)
        assert (found.passes, found.step) == (False, "quarantine")


def test_an_invalid_packet_is_dropped_in_enforce_only(strict: Machine) -> None:
    """What conntrack cannot place is counted in every mode and dropped where the mode is enforce."""
    stray = packet(destination=V4, state="invalid", tcp_flags=0x10)
    lax = Machine(render(Intent("u", "h", Mode.both("observe"), (V4,)), 1))

    assert strict.run(stray) == msgspec.structs.replace(strict.run(stray), ending="drop", counters=("in_invalid",))
    assert lax.run(stray).ending == "accept"
    assert lax.run(stray).counters == ("in_invalid",)


def test_a_related_error_passes_and_marks_nothing(strict: Machine) -> None:
    """An ICMP error of a tracked flow passes; it must not vouch for the flow it is about."""
    error = packet(destination=V4, protocol=ICMP, icmp_type=4, state="related", mark=mark_of(3))

    assert strict.run(error).ending == "accept"
    assert strict.run(error).mark == mark_of(3)


def test_an_allowed_redirect_does_not_mark_the_flow_it_is_about() -> None:
    """Redirects are policy; an allowed one passes without renewing its parent connection."""
    cells = (Cell(0, parse_service("icmp"), "allow", "p/icmp"),)
    machine = Machine(render(Intent("u", "h", Mode.both("enforce"), (V4,), (), (Part("in", cells),)), 9))
    redirect = packet(destination=V4, protocol=ICMP, icmp_type=5, state="related", mark=mark_of(3))

    assert machine.run(redirect).ending == "accept"
    assert machine.run(redirect).mark == mark_of(3)


def test_dhcp_passes_by_both_of_its_ports(strict: Machine) -> None:
    """DHCP is essential with its own source ports only."""
    offer = packet(destination=V4, protocol=17, ports=(67, 68))
    forged = packet(destination=V4, protocol=17, ports=(53, 68))

    assert strict.run(offer).ending == "accept"
    assert strict.run(forged).ending == "drop"


@pytest.fixture
def closed() -> Machine:
    """Everyone is forbidden everything, both ways."""
    cells = (Cell(0, ANY, "forbid", "p/none"),)
    parts = (Part("in", cells), Part("out", cells))
    return Machine(render(Intent("u", "h", Mode.both("enforce"), OWN, (), parts), 1))


def icmpv6(hook: str, source: str, kind: int, hop_limit: int) -> Packet:
    ends = (parse_address(source), parse_address("ff02::1"))
    return packet(hook=hook, source=ends[0], destination=ends[1], protocol=ICMPV6, icmp_type=kind, hop_limit=hop_limit)


@pytest.mark.parametrize("hook", ["input", "output"])
def test_what_ipv6_needs_passes_whatever_the_policy(closed: Machine, hook: str) -> None:
    """Errors, neighbour and router discovery and MLD, as their standards send them, pass where all is forbidden."""
    essential = [
        *(("fd00::1", kind, 64) for kind in (1, 2, 3, 4)),
        *((source, kind, 255) for kind in (133, 134, 135, 136) for source in ("fd00::1", "fe80::1", "::")),
        *((source, kind, 1) for kind in (130, 131, 132, 143) for source in ("fe80::1", "febf::1", "::")),
    ]
    for sent in essential:
        assert closed.run(icmpv6(hook, *sent)).ending == "accept", sent


@pytest.mark.parametrize("hook", ["input", "output"])
def test_what_only_looks_like_discovery_is_judged_by_policy(closed: Machine, hook: str) -> None:
    """Discovery with a hop limit below 255, and MLD from a routed address or with another hop limit than 1, is blocked
    where policy blocks it."""
    forged = [
        *(("fe80::1", kind, hops) for kind in (133, 134, 135, 136) for hops in (0, 1, 64, 254)),
        *(("fd00::1", kind, 1) for kind in (130, 131, 132, 143)),
        *(("fec0::1", kind, 1) for kind in (130, 131, 132, 143)),
        *((source, kind, hops) for kind in (130, 143) for hops in (0, 2, 255) for source in ("fe80::1", "::")),
    ]
    for sent in forged:
        assert closed.run(icmpv6(hook, *sent)).ending in ("drop", "reject"), sent


def test_loopback_passes_even_in_quarantine() -> None:
    """A host talking to itself is essential."""
    machine = Machine(render(Intent("u", "h", Mode.both("enforce"), (V4,), is_quarantined=True), 1))

    assert machine.run(packet(source=V4, destination=V4, device=1)).ending == "accept"


def test_a_class_number_is_never_taken_for_a_code() -> None:
    """A class left over in the register, whatever its number, means the default."""
    peers = tuple(PeerClass(n, str(n), (REMOTE[i],)) for i, n in enumerate((1, 2, 3, 0xFFFEFFFF)))
    cells = tuple(Cell(n, parse_service("tcp/8000-8100"), "forbid", "p/f") for n in (1, 2, 3, 0xFFFEFFFF))
    machine = Machine(render(Intent("u", "h", Mode.both("enforce"), (V4,), peers, (Part("in", cells),)), 1))

    for remote in REMOTE[:4]:
        found = decide_realised(machine, "in", remote=remote, local=V4, point=point(TCP, 9))
        assert (found.passes, found.step) == (False, "default")


def test_generations_are_cleared_before_they_come_round_again() -> None:
    """Over a whole cycle every number is forgotten, at a time when no connection can rightly bear it."""
    generation, forgotten = 1, []
    for _ in range(LAST_GENERATION):
        following = next_generation(generation)
        cleared = reused_generations(following)
        if cleared is not None:
            assert generation not in cleared
            assert following in cleared
            forgotten += list(cleared)
        generation = following

    assert sorted(forgotten) == list(range(1, LAST_GENERATION + 1))


def test_many_ranges_become_prefix_maps_with_the_same_meaning() -> None:
    """Thousands of ranges of many sizes are looked up by prefix length, and every address keeps its class."""
    base = parse_address("10.0.0.0")
    ranges = [(base + 4096 * n, base + 4096 * n + (1 << n % 11) - 1) for n in range(3000)]
    peers = tuple(PeerClass(n, str(n), (), tuple(ranges[n - 1 :: 5])) for n in range(1, 6))
    cells = tuple(Cell(n, IntervalSet.single(point(TCP, 1000 + n)), "allow", f"p/{n}") for n in range(1, 6))
    intent = Intent("u", "h", Mode.both("enforce"), (V4,), peers, (Part("in", cells),))
    layout = render(intent, 1)
    machine = Machine(layout)

    assert any(name.startswith("prefix4_") for name in layout.sets)
    assert differences(intent, layout, {}) == ()
    for n in range(0, 3000, 17):
        lo, hi = ranges[n]
        for remote, is_inside in ((lo, True), (hi, True), (hi + 1, False), (lo - 1, False)):
            found = decide_realised(machine, "in", remote=remote, local=V4, point=point(TCP, 1001 + n % 5))
            assert found.passes is is_inside, (n, remote - lo)


@pytest.mark.parametrize("family", [0, 1], ids=["v4", "v6"])
@pytest.mark.parametrize("state", ["new", "established", "related", "invalid"])
def test_what_is_passed_on_ends_with_the_quarantine_of_the_host(family: int, state: State) -> None:
    """All of it, whatever conntrack thinks of it and whatever mark it bears; without a quarantine none of it is judged,
    in no mode, and nothing is written to its mark."""
    isolated, other = (parse_address(text) for text in (("10.1.0.1", "10.1.0.2"), ("fd00::1", "fd00::2"))[family])
    passing = packet(hook="forward", source=isolated, destination=other, state=state, mark=9 << 24)
    for mode in MODES:
        intent = Intent("u", "h", Mode.both(mode), OWN)
        free, bound = (
            Machine(render(one, 9)) for one in (intent, msgspec.structs.replace(intent, is_quarantined=True))
        )
        assert free.run(passing) == Outcome("accept", (), 9 << 24)
        assert bound.run(passing) == Outcome("drop", ("in_quarantine",), 9 << 24)


@pytest.mark.parametrize("family", [0, 1], ids=["v4", "v6"])
@pytest.mark.parametrize(
    ("is_from", "is_reply", "translated", "ends"),
    [
        (True, False, "dnat", "drop"),  # it asks for a published port
        (False, True, "dnat", "drop"),  # the container answers it
        (False, False, "snat", "drop"),  # a container asks it
        (True, True, "snat", "drop"),  # it answers the container
        (True, False, "snat", "accept"),  # it asks others from behind this host
        (False, True, "snat", "accept"),  # they answer it
        (True, False, None, "accept"),  # it is routed
        (False, True, None, "accept"),
    ],
)
def test_what_is_passed_on_to_an_isolated_peer_ends_where_this_host_is_its_end(
    family: int, is_from: bool, is_reply: bool, translated: Literal["snat", "dnat"] | None, ends: str
) -> None:
    """A published port, and what goes out under the host's address; never what it routes for the isolated peer."""
    isolated, other = (parse_address(text) for text in (("10.1.0.1", "10.1.0.2"), ("fd00::1", "fd00::2"))[family])
    source, destination = (isolated, other) if is_from else (other, isolated)
    kinds = frozenset((translated,)) if translated else frozenset()
    machine = Machine(render(Intent("u", "h", Mode.both("enforce"), OWN, isolated=(isolated,)), 9))
    passing = packet(hook="forward", source=source, destination=destination, is_reply=is_reply, is_translated=kinds)

    assert machine.run(passing).ending == ends
    assert machine.run(msgspec.structs.replace(passing, source=other, destination=other)).ending == "accept"
