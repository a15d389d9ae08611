"""The intent of a host says at its own end what the oracle says, and depends on what it should and on nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from random import Random
from typing import NamedTuple

import pytest
from strategies import BARE, HELD, NOW, POINTS, UNITS, random_world
from worlds import host, replace, rule, world_of

from ringfence.core.decide import decide
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.peers import matches_name
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Direction, Lease, Workload
from ringfence.core.intent.compile import IntentCompiler
from ringfence.core.intent.model import UNKNOWN_CLASS, Intent, Part
from ringfence.core.net.address import is_v4, parse_address, parse_cidr
from ringfence.core.net.intervals import IntervalSet, union
from ringfence.core.net.service import parse_service
from ringfence.core.policy.model import Cidr, Everywhere, Fqdn, Peer, Rule
from ringfence.core.world import Endpoint, EndVerdict, Flow, Quarantine, QuarantineException, World

SEEDS = range(11000, 11060)
OTHER = "nobody-names-this.service"


class Packet(NamedTuple):
    """What one end sees of a connection."""

    direction: Direction
    own: int
    remote: int
    point: int
    unit: str | None


class Answer(NamedTuple):
    passes: bool
    step: str
    rule: str | None


# ---- the intent, read as its docstring says --------------------------------------------------------------------------


def read(intent: Intent, packet: Packet) -> Answer:
    """Failsafe, quarantine, then the cell of the remote's class in the part of the local address and unit."""
    if any(p.direction == packet.direction and _covers(p, packet) for p in intent.failsafe):
        return Answer(passes=True, step="essential", rule=None)
    if intent.is_quarantined or packet.remote in intent.isolated:
        passages = (p for p in intent.quarantine_passages if p.direction == packet.direction)
        return Answer(any(_covers(p, packet) for p in passages), "quarantine", None)
    part, peer = part_of(intent, packet), class_of(intent, packet.remote)
    hits = [cell for cell in part.cells if cell.peer == peer and packet.point in cell.services]
    assert len(hits) <= 1, "cells of one class overlap"
    if not hits:
        return Answer(passes=False, step="default", rule=None)
    return Answer(hits[0].action == "allow", hits[0].action, hits[0].rule)


def _covers(passage: object, packet: Packet) -> bool:
    is_here = not passage.local or packet.own in passage.local  # type: ignore[attr-defined]
    return is_here and packet.remote in passage.remote and packet.point in passage.services  # type: ignore[attr-defined]


def class_of(intent: Intent, remote: int) -> int:
    exact = [peer.id for peer in intent.peers if remote in peer.addresses]
    ranged = [peer.id for peer in intent.peers if any(lo <= remote <= hi for lo, hi in peer.ranges)]
    assert len(exact) <= 1
    assert len(ranged) <= 1
    return (exact or ranged or [UNKNOWN_CLASS])[0]


def part_of(intent: Intent, packet: Packet) -> Part:
    here = [
        part
        for part in intent.parts
        if part.direction == packet.direction and (not part.local or packet.own in part.local)
    ]
    named = [part for part in here if part.unit is not None and part.unit == packet.unit]
    (found,) = named or [part for part in here if part.unit is None]
    return found


# ---- the oracle at one end -------------------------------------------------------------------------------------------


def holders_of(world: World, me: Workload, remote: int) -> list[Workload]:
    networks = {lease.network for lease in me.live_addresses(world.at)} or {"main"}
    found = (w for network in sorted(networks) for w in world.inventory.holders(remote, world.at, network))
    return list({w.uuid: w for w in found}.values())


def said(world: World, me: Workload, packet: Packet) -> list[EndVerdict]:
    """What this host's own end says, for each holder the remote address stands for."""
    mine, unit = Endpoint(me, packet.own), packet.unit or OTHER
    others = [Endpoint(w, packet.remote) for w in holders_of(world, me, packet.remote)]
    out = []
    for other in others or [Endpoint(address=packet.remote, network="nowhere")]:
        inward = Flow(other, mine, packet.point, 1024, to_process=unit)
        outward = Flow(mine, other, packet.point, 1024, from_process=unit)
        verdict = decide(world, inward if packet.direction == "in" else outward)
        end = "destination" if packet.direction == "in" else "source"
        out += [one for one in verdict.ends if one.end == end]
    return out


def passes(one: EndVerdict) -> bool:
    return one.reason in ("allow", "essential") or (one.reason == "quarantine" and one.verdict == "allowed")


def realistic(seed: int) -> tuple[Random, World]:
    """A random world whose processes are in their host's mode, as an enforcement point demands."""
    rng = Random(seed)
    world = random_world(rng)
    by_name = world.inventory.by_name
    workloads = (replace(w, mode=by_name[w.host].mode) if w.host else w for w in world.inventory.workloads)
    inventory = Inventory(workloads, ignore=world.inventory.ignore)
    processes = {w.uuid for w in inventory.workloads if w.kind == "process"}
    return rng, replace(
        world, inventory=inventory, quarantines=tuple(q for q in world.quarantines if q.workload not in processes)
    )


def hosts_of(world: World) -> list[Workload]:
    hosts = [w for w in world.inventory.workloads if w.is_controlled and w.kind != "process"]
    return [w for w in hosts if w.live_addresses(world.at)]


def packets(rng: Random, intent: Intent, count: int) -> Iterator[Packet]:
    remotes = [address for address in (*HELD, *BARE) if address not in intent.own]
    for _ in range(count):
        own = rng.choice(intent.own)
        remote = rng.choice([address for address in remotes if is_v4(address) == is_v4(own)])
        yield Packet(rng.choice(("in", "out")), own, remote, rng.choice(POINTS), rng.choice((None, *UNITS)))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_host_passes_what_the_oracle_passes_at_its_end(seed: int) -> None:
    """Never wider, for any host, remote, service and unit; and as wide, unless the intent says what it refuses."""
    rng, world = realistic(seed)
    compiler = IntentCompiler(Engine.compile(world))
    for me in hosts_of(world):
        intent = compiler.compile(me)
        for packet in packets(rng, intent, 40):
            wanted, got = said(world, me, packet), read(intent, packet)
            if any(one.reason == "essential" for one in wanted) and got.step != "essential":
                continue  # a constant of every target, in no intent
            expected = all(passes(one) for one in wanted)
            assert expected or not got.passes, (me.name, packet, wanted, got)
            if not is_isolated_elsewhere(world, me, packet) and not is_half_isolated(world, me, packet, got):
                assert got.passes == expected, (me.name, packet, wanted, got)
                if len(wanted) == 1 and got.step not in ("essential", "quarantine"):
                    assert (got.step, got.rule) == (wanted[0].reason, wanted[0].rule)


def is_isolated_elsewhere(world: World, me: Workload, packet: Packet) -> bool:
    """Nobody holds the address here, but an isolated workload does in another network: closed, to be safe."""
    isolated = [world.inventory.by_uuid[q.workload] for q in world.quarantines]
    held = {lease.address for w in isolated for lease in w.live_addresses(world.at)}
    return packet.remote in held and not holders_of(world, me, packet.remote)


def is_half_isolated(world: World, me: Workload, packet: Packet, got: Answer) -> bool:
    """Some of the address's holders are isolated, others are judged by policy: no passage says both."""
    isolated = {q.workload for q in world.quarantines if q.until is None or world.at < q.until}
    holders = {w.uuid for w in holders_of(world, me, packet.remote)}
    return got.step == "quarantine" and me.uuid not in isolated and bool(holders - isolated)


def test_the_law_above_is_asked_of_everything() -> None:
    """Allows, denies, forbids, defaults, quarantine both ways, conflicts, several networks and units all occur."""
    steps, conflicts, networks, units = set(), 0, 0, 0
    for seed in SEEDS:
        rng, world = realistic(seed)
        compiler = IntentCompiler(Engine.compile(world))
        for me in hosts_of(world):
            intent = compiler.compile(me)
            networks += len({lease.network for lease in me.live_addresses(world.at)}) > 1
            units += any(part.unit for part in intent.parts)
            for packet in packets(rng, intent, 40):
                got = read(intent, packet)
                steps.add((got.step, got.passes))
                conflicts += len(holders_of(world, me, packet.remote)) > 1
    assert steps == {
        ("essential", True), ("quarantine", True), ("quarantine", False), ("allow", True), ("deny", False),
        ("forbid", False), ("default", False),
    }  # fmt: skip
    assert min(conflicts, networks, units) > 10


@pytest.mark.parametrize("seed", SEEDS)
def test_an_intent_is_well_formed(seed: int) -> None:
    """No address in two classes, no ranges that overlap, no cell of an unlisted class, none overlapping another."""
    _, world = realistic(seed)
    compiler = IntentCompiler(Engine.compile(world))
    for me in hosts_of(world):
        intent = compiler.compile(me)
        exact = [address for peer in intent.peers for address in peer.addresses]
        assert len(exact) == len(set(exact))
        assert not set(exact) & set(intent.own)
        ranges = sorted(r for peer in intent.peers for r in peer.ranges)
        assert all(before[1] < after[0] for before, after in pairwise(ranges))
        ids = [peer.id for peer in intent.peers]
        assert len(ids) == len(set(ids))
        assert all(1 <= number <= 0x7FFFFFFF for number in ids)
        for part in intent.parts:
            assert {cell.peer for cell in part.cells} <= {UNKNOWN_CLASS, *ids}
            for number in {cell.peer for cell in part.cells}:
                spans = sorted(r for cell in part.cells if cell.peer == number for r in cell.services)
                assert all(before[1] < after[0] for before, after in pairwise(spans))


@pytest.mark.parametrize("seed", SEEDS)
def test_an_address_is_listed_only_where_it_matters(seed: int) -> None:
    """Span: every class of exact addresses has another verdict somewhere than an unlisted address would get."""
    _, world = realistic(seed)
    compiler = IntentCompiler(Engine.compile(world))
    for me in hosts_of(world):
        intent = compiler.compile(me)
        for peer in intent.peers:
            for address in peer.addresses:
                fallback = class_of(replace(intent, peers=_without(intent, address)), address)
                assert any(_cells(part, peer.id) != _cells(part, fallback) for part in intent.parts), (me.name, peer)


def _without(intent: Intent, address: int) -> tuple[object, ...]:
    return tuple(replace(p, addresses=tuple(a for a in p.addresses if a != address)) for p in intent.peers)


def _cells(part: Part, number: int) -> set[tuple[object, ...]]:
    return {(cell.services, cell.action, cell.rule) for cell in part.cells if cell.peer == number}


# ---- at addresses nobody listed --------------------------------------------------------------------------------------

COMMON = union(map(parse_cidr, ("169.254.0.0/16", "fe80::/10", "224.0.0.0/4", "ff00::/8", "255.255.255.255/32")))


def at_known_addresses(world: World, me: Workload, direction: Direction) -> World:
    """The world in which an allow of ranges that hold no address of the host names it at common addresses alone."""
    own = {lease.address for lease in me.live_addresses(world.at)}
    side = "destinations" if direction == "in" else "sources"

    def narrowed(a_rule: Rule) -> Rule:
        peers = getattr(a_rule, side)
        ranges = [(peer, ranges_of(world, peer)) for peer in peers]
        is_known = any(found & IntervalSet.of((a, a) for a in own) for _, found in ranges)
        if a_rule.action != "allow" or is_known or any(isinstance(peer, Everywhere) for peer in peers):
            return a_rule
        kept = tuple(Cidr("common", found & COMMON) if found else peer for peer, found in ranges)
        return replace(a_rule, **{side: kept})

    policies = tuple(replace(p, rules=tuple(map(narrowed, p.rules))) for p in world.policies)
    return replace(world, policies=policies)


def ranges_of(world: World, peer: Peer) -> IntervalSet:
    """The addresses a range or a name stands for now."""
    if isinstance(peer, Cidr):
        return peer.addresses
    if not isinstance(peer, Fqdn):
        return IntervalSet()
    said = (a for name, answers in world.names.items() if matches_name(peer.text, name) for a in answers)
    return IntervalSet.of((x, x) for answer in said if answer.is_live(world.at) for x in answer.addresses)


def unlisted_packets(rng: Random, intent: Intent, count: int) -> Iterator[Packet]:
    """To and from addresses of the host that no inventory has."""
    owns = [address for address in (*HELD, *BARE) if address not in intent.own]
    for _ in range(count):
        own, remote = rng.sample(owns, 2)
        if is_v4(own) == is_v4(remote):
            yield Packet(rng.choice(("in", "out")), own, remote, rng.choice(POINTS), rng.choice((None, *UNITS)))


@pytest.mark.parametrize("seed", SEEDS)
def test_an_unlisted_address_is_judged_as_the_oracle_judges_it(seed: int) -> None:
    """Never wider, no forbid or deny lost; and the same to the rule, but that an allow of ranges opens no address
    unless they hold one that the host is known to have."""
    rng, world = realistic(seed)
    world = replace(world, quarantines=())
    compiler = IntentCompiler(Engine.compile(world))
    for me in hosts_of(world):
        intent = compiler.compile(me)
        worlds = {direction: at_known_addresses(world, me, direction) for direction in ("in", "out")}
        for packet in unlisted_packets(rng, intent, 60):
            wanted, got = said(worlds[packet.direction], me, packet), read(intent, packet)
            if any(one.reason == "essential" for one in wanted) and got.step != "essential":
                continue
            assert all(map(passes, said(world, me, packet))) or not got.passes, (me.name, packet, got)
            assert all(map(passes, wanted)) == got.passes, (me.name, packet, wanted, got)
            if len(wanted) == 1 and got.step != "essential":
                assert (got.step, got.rule) == (wanted[0].reason, wanted[0].rule), (me.name, packet)


def test_the_law_of_unlisted_addresses_is_asked_of_everything() -> None:
    """Allows, denies and forbids by address are met at unlisted addresses, and allows that stay closed there."""
    steps, closed = set(), 0
    for seed in SEEDS:
        rng, world = realistic(seed)
        world = replace(world, quarantines=())
        compiler = IntentCompiler(Engine.compile(world))
        for me in hosts_of(world):
            intent = compiler.compile(me)
            places = {part.local.ranges for part in intent.parts}
            for packet in unlisted_packets(rng, intent, 60):
                got = read(intent, packet)
                steps.add((got.step, len(places) > 1))
                closed += all(map(passes, said(world, me, packet))) and not got.passes
    assert steps >= {(step, True) for step in ("allow", "deny", "forbid", "default")}
    assert closed > 10


def from_web(own: str, service: str) -> Packet:
    """What comes from WEB to an address of the host."""
    (point, _), *_ = parse_service(service).ranges
    return Packet("in", parse_address(own), WEB.addresses[0].address, point, None)


INSIDE = rule("inside", "allow", "role=web", "10.0.0.0/8", "tcp/80")
BARRED = rule("barred", "forbid", "role=web", "198.51.100.0/24")


def test_an_allow_of_a_range_opens_no_other_address_of_the_host() -> None:
    """All listed addresses lie in the range; one that nobody listed does not, and stays closed."""
    intent = intent_of(DB, WEB, rules=(INSIDE,))
    (http, _), *_ = INSIDE.services.ranges
    at = [
        Packet("in", parse_address(own), parse_address("10.0.0.1"), http, None) for own in ("10.1.1.1", "198.51.100.2")
    ]
    assert [read(intent, packet).passes for packet in at] == [True, False]


def test_a_forbid_of_a_range_holds_where_nobody_listed_an_address() -> None:
    """Whatever the host's listed addresses are: one, several that differ in class, or none."""
    both = rule("both", "allow", "role=web", "role=db")
    for me in (DB, host("db-1", "role=db", "10.0.1.1", "192.0.2.1"), host("db-1", "role=db")):
        intent = intent_of(me, WEB, rules=(INSIDE, both, BARRED))
        assert read(intent, from_web("198.51.100.2", "tcp/80")) == Answer(passes=False, step="forbid", rule="p/barred")


def test_ranges_of_others_cut_nothing() -> None:
    """However many ranges an estate allows from and to, a host in none of them has one part a direction."""
    offices = [rule(f"office{i}", "allow", f"172.16.{i}.0/24", "role=db", "tcp/5432") for i in range(50)]
    vips = [rule(f"vip{i}", "allow", "role=web", f"172.17.{i}.0/24", "tcp/443") for i in range(50)]
    intent = intent_of(DB, WEB, rules=(SQL, *offices, *vips))
    assert [(part.direction, part.local) for part in intent.parts] == [("in", IntervalSet()), ("out", IntervalSet())]


def test_a_group_is_a_place_of_every_host() -> None:
    """What is allowed to a multicast group passes at every host, though no inventory lists the group."""
    intent = intent_of(DB, WEB, rules=(SQL, rule("mdns", "allow", "role=web", "224.0.0.251/32", "udp/5353")))
    (mdns, _), *_ = parse_service("udp/5353").ranges
    at = [
        Packet("in", parse_address(own), parse_address("10.0.0.1"), mdns, None) for own in ("224.0.0.251", "10.0.1.1")
    ]
    assert [read(intent, packet).passes for packet in at] == [True, False]


# ---- what an intent depends on ---------------------------------------------------------------------------------------


def shuffled(rng: Random, world: World) -> World:
    """The same inputs, all written in another order."""
    workloads = rng.sample(world.inventory.workloads, len(world.inventory.workloads))
    workloads = [replace(w, addresses=tuple(rng.sample(w.addresses, len(w.addresses)))) for w in workloads]
    policies = [replace(p, rules=tuple(rng.sample(p.rules, len(p.rules)))) for p in world.policies]
    return replace(
        world,
        inventory=Inventory(workloads, ignore=world.inventory.ignore),
        policies=tuple(rng.sample(policies, len(policies))),
        quarantines=tuple(rng.sample(world.quarantines, len(world.quarantines))),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_order_changes_no_digest(seed: int) -> None:
    """Whatever order workloads, addresses, policies and rules are written in, the intent is the same to the bit."""
    rng, world = realistic(seed)
    other = shuffled(rng, world)
    compilers = [IntentCompiler(Engine.compile(one)) for one in (world, other)]
    for me in hosts_of(world):
        again = other.inventory.by_uuid[me.uuid]
        assert compilers[0].compile(me).digest == compilers[1].compile(again).digest


@pytest.mark.parametrize("seed", SEEDS)
def test_one_compiler_for_all_hosts_or_one_for_each_is_the_same(seed: int) -> None:
    """What a compiler remembers between hosts changes nothing."""
    _, world = realistic(seed)
    engine = Engine.compile(world)
    shared = IntentCompiler(engine)
    for me in hosts_of(world):
        assert shared.compile(me) == IntentCompiler(Engine.compile(world)).compile(me)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_changes_before_its_time(seed: int) -> None:
    """Until `valid_until` the same intent is compiled at any time."""
    rng, world = realistic(seed)
    compiler = IntentCompiler(Engine.compile(world))
    for me in hosts_of(world):
        intent = compiler.compile(me)
        until = intent.valid_until or NOW + timedelta(days=30)
        assert until > NOW
        later = NOW + (until - NOW) * rng.random()
        assert IntentCompiler(Engine.compile(replace(world, at=later))).compile(me).digest == intent.digest


WEB = host("web-1", "role=web", "10.0.0.1")
DB = host("db-1", "role=db", "10.0.1.1")
SQL = rule("sql", "allow", "role=web", "role=db", "tcp/5432")
NET = rule("net", "allow", "10.9.0.0/16", "role=db", "tcp/5432")


def intent_of(me: Workload, *others: Workload, rules: tuple[object, ...] = (SQL, NET)) -> Intent:
    world = world_of([me, *others], *rules)  # type: ignore[arg-type]
    return IntentCompiler(Engine.compile(world)).compile(me)


def test_a_second_member_of_a_class_changes_membership_only() -> None:
    """The digest changes, the policy digest does not, and the class keeps its number."""
    one = intent_of(DB, WEB)
    two = intent_of(DB, WEB, host("web-2", "role=web", "10.0.0.2"))
    assert one.digest != two.digest
    assert one.policy_digest == two.policy_digest
    assert [p.id for p in one.peers] == [p.id for p in two.peers]


def test_numbers_stay_when_others_come_and_go() -> None:
    """A class is numbered by what it is: more classes, rules or policies move no number."""
    plain = {p.text: p.id for p in intent_of(DB, WEB).peers}
    more = (rule("a", "allow", "role=api", "role=db", "tcp/1"), SQL, NET, rule("z", "deny", "10.8.0.0/16", "role=db"))
    api = host("api-1", "role=api", "10.0.0.3")
    fuller = {p.text: p.id for p in intent_of(DB, WEB, api, rules=more).peers}
    assert plain.items() < fuller.items()


def test_a_workload_no_rule_about_the_host_names_changes_nothing() -> None:
    """Unrelated workloads leave the intent as it is, to the bit."""
    assert intent_of(DB, WEB).digest == intent_of(DB, WEB, host("mail", "role=mail", "10.0.0.7")).digest


def test_an_address_inside_a_named_range_is_its_holder() -> None:
    """A workload inside an allowed CIDR is in it; one that a forbid names besides is a class of its own."""
    inside = host("inside", "role=app", "10.9.0.5")
    assert all(parse_address("10.9.0.5") not in p.addresses for p in intent_of(DB, inside).peers)
    barred = intent_of(DB, inside, rules=(SQL, NET, rule("no", "forbid", "role=app", "role=db")))
    (own,) = [p for p in barred.peers if parse_address("10.9.0.5") in p.addresses]
    (cell,) = [c for part in barred.parts for c in part.cells if c.peer == own.id and part.direction == "in"]
    assert (cell.action, cell.rule) == ("forbid", "p/no")


def test_a_host_in_two_networks_sees_the_holders_of_both() -> None:
    """An address held in either network is its holder's; held in neither, nobody's."""
    both = replace(DB, addresses=(Lease(parse_address("10.0.1.1")), Lease(parse_address("10.0.1.1"), "vpc-b")))
    there = replace(WEB, addresses=(Lease(parse_address("10.0.0.1"), "vpc-b"),))
    elsewhere = replace(WEB, addresses=(Lease(parse_address("10.0.0.1"), "vpc-c"),))
    assert [p.addresses for p in intent_of(both, there).peers if p.addresses] == [(parse_address("10.0.0.1"),)]
    assert [p.addresses for p in intent_of(both, elsewhere).peers if p.addresses] == []


def test_quarantine_isolates_and_is_no_part_of_the_policy_digest() -> None:
    """A quarantined peer is listed as isolated; the policy digest, which is about rules, stays."""
    world = world_of([DB, WEB], SQL, NET)
    isolated = replace(world, quarantines=(Quarantine(WEB.uuid),))
    before, after = (IntentCompiler(Engine.compile(one)).compile(DB) for one in (world, isolated))
    assert after.isolated == (parse_address("10.0.0.1"),)
    assert before.digest != after.digest
    assert before.policy_digest == after.policy_digest


DESK = host("desk", "role=desk", "10.0.0.9")
FROM_DESK = rule("desk", "allow", "role=desk", "role=a")
TWINS = (host("a", "role=a", "10.0.0.1"), host("b", "role=b", "10.0.0.1"))


def excepting(me: Workload, *services: str) -> Quarantine:
    """Isolated, but for desks that come in by these services."""
    points = union(map(parse_service, services))
    return Quarantine(me.uuid, (QuarantineException(FROM_DESK.sources, points, "in"),))


@pytest.mark.parametrize(
    ("quarantines", "passing"),
    [
        ((excepting(TWINS[0], "tcp/22", "tcp/80"), excepting(TWINS[1], "tcp/22", "tcp/443")), ["tcp/22"]),
        ((excepting(TWINS[0], "tcp/22"), excepting(TWINS[0], "tcp/80"), excepting(TWINS[1], "tcp/22", "tcp/80")),
         ["tcp/22", "tcp/80"]),
        ((excepting(TWINS[0], "tcp/22"), Quarantine(TWINS[1].uuid)), []),
        ((excepting(TWINS[0], "tcp/22"),), []),
    ],
    ids=["what both except", "several quarantines of one", "one excepts nothing", "one is not isolated"],
)  # fmt: skip
def test_an_address_of_two_passes_what_both_holders_except(
    quarantines: tuple[Quarantine, ...], passing: list[str]
) -> None:
    """At a peer's end: several quarantines of one workload add up, those of several holders of an address intersect."""
    world = replace(world_of([DESK, *TWINS], SQL), quarantines=quarantines)
    intent = IntentCompiler(Engine.compile(world)).compile(DESK)
    asked = {word: parse_service(word).ranges[0][0] for word in ("tcp/22", "tcp/80", "tcp/443")}
    ends = (DESK.addresses[0].address, TWINS[0].addresses[0].address)
    at = {word: Packet("out", *ends, point, None) for word, point in asked.items()}
    assert [word for word, packet in at.items() if read(intent, packet).passes] == passing
    for packet in at.values():
        is_wider = read(intent, packet).passes and not all(map(passes, said(world, DESK, packet)))
        assert not is_wider
