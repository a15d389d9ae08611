"""Compile a world into an index and answer from it: one connection with its reason, or a million at once.

INVARIANT: an engine answers for the world it was compiled from, at that world's time where a flow states none;
the answer equals `core.decide.decide` for every flow. Adding classes (ends nobody listed) never changes an
answer.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from copy import copy
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

import msgspec
import numpy as np

from ringfence.core.engine import judgement
from ringfence.core.engine.bits import Ids, members
from ringfence.core.engine.classes import ClassTable
from ringfence.core.engine.judgement import Judgement
from ringfence.core.engine.partition import Partition
from ringfence.core.engine.peers import PeerTable
from ringfence.core.engine.relation import Relation, scope_peer
from ringfence.core.engine.rules import End, Facts, RuleRef, holds, number_rules, unstated
from ringfence.core.errors import Location
from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode, ModeName, Workload
from ringfence.core.net import service
from ringfence.core.net.address import LOOPBACK, is_v4
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.policy.model import Cidr, Everywhere, Peer, Policy
from ringfence.core.world import VERDICTS, Endpoint, EndVerdict, Flow, Quarantine, Reason, Verdict, VerdictName, World

LAST_POINT = service.ANY.ranges[-1][1]
UNNAMED = service.point(255)
"""A service point no rule names on its own (IP protocol 255 is reserved): it lies in the atom of everything else."""
DHCP = IntervalSet.of((service.point(service.UDP, port),) * 2 for port in service.DHCP_PORTS)


class Party(NamedTuple):
    """One end made concrete: its class as others see it, and as its own enforcement point does."""

    host: Workload | None
    process: Workload | None
    address: int | None
    seen: int
    """The class every other end sees: the host's, or the bare address's."""
    own: int
    """The class its own enforcement point sees: the process's where one is known."""
    unit: str | None

    @property
    def local(self) -> Workload | None:
        return self.process or self.host


class Engine:
    """The index of one world. Build it with `Engine.compile`."""

    def __init__(self, world: World, *, refine_by: Sequence[Policy] = (), services: Sequence[IntervalSet] = ()) -> None:
        """`refine_by`: more policies whose peers and services cut classes and atoms, so that two engines share both;
        `services`: more service sets that must be unions of atoms, because a question asks about them."""
        self.world = world
        self.rules = number_rules(world.policies)
        policies = (*world.policies, *refine_by)
        self.peers = PeerTable(_peers_of(world, policies), world.names, world.at)
        sets = list(dict.fromkeys((*_services_of(world, policies), *services)))
        self.atoms = Partition(sets, LAST_POINT)
        self._masks = dict(zip(sets, self.atoms.masks(len(sets)), strict=True))
        self.essential = self.mask_of(service.ESSENTIAL_ICMP | DHCP)
        """Atoms that always pass, as a bitset: ICMP that networking needs, and DHCP."""
        self.classes = ClassTable(self.peers, world.inventory.ignore)
        self._add_present_classes()
        self.relation = self._relation()

    @staticmethod
    def compile(world: World) -> Engine:
        return Engine(world)

    def under(self, mode: Mode) -> Engine:
        """The same index, judging as if every controlled end were in this mode."""
        return self._judging(msgspec.structs.replace(self.world, as_mode=mode))

    def of_policy_alone(self) -> Engine:
        """The same index, judging what proofs are about: every end enforcing, nobody quarantined, no failsafe."""
        enforce = Mode.both("enforce")
        return self._judging(msgspec.structs.replace(self.world, as_mode=enforce, quarantines=(), failsafe=()))

    def with_policies(self, policies: Sequence[Policy]) -> Engine:
        """Other policies over the same classes and atoms; this engine must have been refined by them. For now only."""
        other = self._judging(msgspec.structs.replace(self.world, policies=tuple(policies)))
        other.rules = number_rules(policies)
        other.relation = other._relation()
        return other

    def _judging(self, world: World) -> Engine:
        """For a world of the same inventory and time. Whatever is not replaced is shared, so it is for now only."""
        other = copy(self)
        other.world = world
        for stale in ("_quarantined", "_slots", "_where"):
            other.__dict__.pop(stale, None)
        return other

    def _relation(self) -> Relation:
        masks = [self._masks[rule.rule.services] for rule in self.rules]
        return Relation(self.rules, self.classes, masks, len(self.atoms))

    # ---- classes -----------------------------------------------------------------------------------------------

    def class_of(self, workload: Workload | None, address: int | None) -> int:
        """The class of a workload at one of its addresses, or of a bare address."""
        labels = None if workload is None else self.world.inventory.labels_of(workload)
        held = self.peers.of_address(address, is_held=workload is not None)
        return self.classes.of(labels, held, is_controlled=workload is not None and workload.is_controlled)

    def mask_of(self, points: IntervalSet) -> int:
        """The atoms of a service set the engine was cut by. Raises KeyError for one that cuts an atom."""
        mask = self._masks.get(points)
        if mask is None:
            mask = self.atoms.mask(points)
            if mask is None:
                raise KeyError("the service set cuts an atom")
            self._masks[points] = mask
        return mask

    def say_services(self, atoms: int) -> tuple[str, ...]:
        """Atoms in the language's words; those that hold what no rule names are said as `any but ...`."""
        missing = self.atoms.full & ~(atoms | self.essential)
        if not missing:
            return ("any",)
        if atoms >> self.atoms.atom(UNNAMED) & 1:
            return (f"any but {', '.join(service.format_services(self.atoms.points(missing)))}",)
        return tuple(service.format_services(self.atoms.points(atoms)))

    def _add_present_classes(self) -> None:
        """Workloads at their live addresses, then what nobody holds, atom by atom."""
        _, class_ = self._places
        self.classes.workloads[:] = np.bincount(class_, minlength=len(self.classes)).tolist()
        for address_peers, ranges in self.peers.address_atoms():
            number = self.classes.of(None, address_peers, is_controlled=False)
            self.classes.ranges[number] |= ranges

    @cached_property
    def _places(self) -> tuple[Ids, Ids]:
        """(workload, class) for every workload and each class it is in at a live address.

        A process is where its host is, and left out: who counts and is shown is the host.
        """
        at, inventory = self.world.at, self.world.inventory
        of_address, of_key = self.peers.of_address, self.classes.of_key
        who, where = array("q"), array("q")
        for number, (workload, identity) in enumerate(zip(inventory.workloads, inventory.identities, strict=True)):
            controlled = workload.is_controlled
            addresses = _addresses(self._host_of(workload), at)
            classes = {of_key((identity, of_address(a, is_held=True), controlled)) for a in addresses}
            if workload.kind != "process":
                who.extend([number] * len(classes))
                where.extend(classes)
        return np.array(who, dtype=np.intp), np.array(where, dtype=np.intp)

    def members_of(self, class_: int) -> tuple[Endpoint, ...]:
        """Some of a class of workloads: two at IPv4 addresses and two at IPv6 addresses, where there are so many."""
        who, where = self._places
        chosen: dict[bool, list[Endpoint]] = {True: [], False: []}
        for number in who[where == class_].tolist():
            workload = self.world.inventory.workloads[number]
            for address in _addresses(workload, self.world.at):
                family = chosen[address is None or is_v4(address)]
                is_another = all(end.workload is not workload for end in family)
                if len(family) < 2 and is_another and self.class_of(workload, address) == class_:
                    family.append(Endpoint(workload, address))
            if all(len(family) >= 2 for family in chosen.values()):
                break
        return (*chosen[True], *chosen[False])

    def bare_addresses(self, class_: int) -> tuple[int, ...]:
        """The first address of each range of a class that nobody holds."""
        firsts = (
            next((a for a in range(lo, hi + 1) if a not in self._held), None) for lo, hi in self.classes.ranges[class_]
        )
        return tuple(address for address in firsts if address is not None)

    def is_present(self, class_: int) -> bool:
        """Whether somebody is in the class now: a live workload, or an address that nobody holds."""
        if self.classes.workloads[class_]:
            return True
        ranges = self.classes.ranges[class_]
        if ranges.size > self.world.inventory.lease_count:
            return True
        return bool(ranges - IntervalSet.of((address, address) for address in self._held if address in ranges))

    @property
    def _held(self) -> frozenset[int]:
        return self.world.inventory.live_addresses(self.world.at)

    def _host_of(self, workload: Workload) -> Workload:
        if workload.kind != "process":
            return workload
        return self.world.inventory.find(workload.host or "") or workload

    def judge(self, conversations: Conversations, *, as_mode: Mode | None = None) -> Judgement:
        """The verdict, reason and rule of every row; see `judgement.judge`."""
        return judgement.judge(self, conversations, as_mode=as_mode)

    # ---- changes in place: see live.py -------------------------------------------------------------------------

    def find_rule(self, ref: str) -> int | None:
        """The slot of a rule in force."""
        number = self._slots.get(ref)
        return number if number is not None and self.relation.in_force >> number & 1 else None

    @cached_property
    def _slots(self) -> dict[str, int]:
        return {rule.ref: number for number, rule in enumerate(self.rules)}

    def adopt_rule(self, world: World, rule: RuleRef) -> int | None:
        """Put a rule in force for a world that has it; None when its peers or services need a new index."""
        scope = scope_peer(rule)
        peers = (*rule.rule.sources, *rule.rule.destinations, *([scope] if scope else []))
        mask = self.atoms.mask(rule.rule.services)
        if mask is None or any(self.peers.id(peer) is None for peer in peers):
            return None
        number = self._slots.get(rule.ref)
        if number is None or self.rules[number].rule != rule.rule:
            number = len(self.rules)
            self.relation.append(rule, mask)
        self._set_rule(number, rule)
        self.relation.put_in_force(number)
        self.world = world
        return number

    def drop_rule(self, world: World, number: int) -> None:
        """Take a rule out of force for a world that no longer has it."""
        self.relation.take_out_of_force(number)
        self.world = world

    def _set_rule(self, number: int, rule: RuleRef) -> None:
        self.rules = (*self.rules[:number], rule, *self.rules[number + 1 :])
        self._slots[rule.ref] = number
        self._where[rule.ref] = rule.rule.where

    def move(self, before: Workload | None, after: Workload | None, inventory: Inventory) -> None:
        """Follow one workload that came, changed or went."""
        at = self.world.at
        for workload, change in ((before, -1), (after, 1)):
            if workload is not None and workload.kind != "process":
                for number in {self.class_of(workload, address) for address in _addresses(workload, at)}:
                    self.classes.workloads[number] += change
        self.__dict__.pop("_places", None)
        self.world = msgspec.structs.replace(self.world, inventory=inventory)

    # ---- one decision ------------------------------------------------------------------------------------------

    def decide(self, flow: Flow) -> Verdict:
        """The verdict of one new connection with the responsible rule: the worst over what its ends may stand for."""
        if flow.at not in (None, self.world.at) and self.world.names:
            return Engine(msgspec.structs.replace(self.world, at=flow.at)).decide(flow)
        at = flow.at or self.world.at
        sources = self._parties(flow.source, at, flow.from_process, None)
        destinations = self._parties(flow.destination, at, flow.to_process, flow.point)
        pairs = [(s, d) for s in sources for d in destinations]
        alike = [
            (s, d) for s, d in pairs if s.address is None or d.address is None or is_v4(s.address) == is_v4(d.address)
        ]
        return max((self._overall(flow, at, s, d) for s, d in alike or pairs), key=lambda v: VERDICTS.index(v.verdict))

    def _parties(self, end: Endpoint, at: datetime, unit: str | None, point: int | None) -> list[Party]:
        inventory = self.world.inventory
        if end.workload is not None:
            process = end.workload if end.workload.kind == "process" else None
            host = self._host_of(end.workload)
            addresses = [end.address] if end.address is not None else _addresses(host, at)
            return [self._party(host, process, address, unit, point) for address in addresses]
        holders = inventory.holders(end.address, at, end.network) if end.address is not None else ()
        if holders:
            return [self._party(holder, None, end.address, unit, point) for holder in holders]
        of_end = self.peers.of_name(end.name) if end.name else self.peers.of_address(end.address, is_held=False)
        number = self.classes.of(None, of_end, is_controlled=False)
        return [Party(None, None, end.address, number, number, unit)]

    def _party(
        self, host: Workload, process: Workload | None, address: int | None, unit: str | None, point: int | None
    ) -> Party:
        for candidate in () if process else self.world.inventory.processes_of(host.name):
            owns = point is not None and unit is None and point in candidate.services
            if owns or (unit is not None and candidate.unit == unit):
                process = candidate
        seen = self.class_of(host, address)
        own = self.class_of(process, address) if process else seen
        return Party(host, process, address, seen, own, unit or (process.unit if process else None))

    def _overall(self, flow: Flow, at: datetime, source: Party, destination: Party) -> Verdict:
        facts = Facts(at, flow.mutual_tls, source.unit, destination.unit)
        ends: tuple[End, ...] = ("destination", "source")
        verdicts = [
            self._end(end, flow, facts, source, destination)
            for end in ends
            if (local := (source if end == "source" else destination).local) is not None and local.is_controlled
        ]
        if not verdicts:
            return Verdict("allowed", "uncontrolled")
        worst = max(verdicts, key=lambda v: VERDICTS.index(v.verdict))
        where = self._where[worst.rule] if worst.rule is not None else None
        return Verdict(worst.verdict, worst.reason, worst.rule, where, tuple(reversed(verdicts)), worst.unless)

    @cached_property
    def _where(self) -> dict[str, Location]:
        return {rule.ref: rule.rule.where for rule in self.rules}

    def _end(self, end: End, flow: Flow, facts: Facts, source: Party, destination: Party) -> EndVerdict:
        me = source if end == "source" else destination
        assert me.local is not None
        mode = self._mode(me.local, end)
        reason, rule, unless, passes = self._step(end, flow, facts, source, destination)
        ref = None if rule is None else self.rules[rule].ref
        return EndVerdict(end, me.local.name, mode, verdict_of(reason, mode, passes=passes), reason, ref, unless)

    def _mode(self, workload: Workload, end: End) -> ModeName:
        return (self.world.as_mode or workload.mode).of("out" if end == "source" else "in")

    def _step(
        self, end: End, flow: Flow, facts: Facts, source: Party, destination: Party
    ) -> tuple[Reason, int | None, tuple[str, ...], bool]:
        """Essential, quarantine, forbid, allow, deny, default: the first that speaks."""
        if self._is_essential(end, flow, source, destination):
            return "essential", None, (), True
        excepted = self._quarantine_answers(end, flow, facts.at, source, destination)
        if excepted:
            return "quarantine", None, (), all(excepted)
        s = source.own if end == "source" else source.seen
        d = destination.own if end == "destination" else destination.seen
        believed = self._believes(end, destination if end == "source" else source)
        return self._rule_step(end, s, d, self.atoms.atom(flow.point), facts, peer_enforces=believed)

    def _believes(self, end: End, other: Party) -> bool:
        local = other.local
        other_end: End = "destination" if end == "source" else "source"
        return local is not None and local.is_controlled and self._mode(local, other_end) == "enforce"

    def _rule_step(
        self, end: End, s: int, d: int, atom: int, facts: Facts, *, peer_enforces: bool
    ) -> tuple[Reason, int | None, tuple[str, ...], bool]:
        relation = self.relation
        live, asked = self.speaking(end, s, d, facts, peer_enforces=peer_enforces, within=relation.services[atom])
        if forbidding := live & relation.forbid:
            return "forbid", relation.first(forbidding), (), False
        if allowing := live & relation.allow:
            return "allow", relation.first(allowing), (), True
        conditions = (self.rules[number].rule.conditions for number in members(asked))
        unless = tuple(sorted({x for c in conditions for x in unstated(c, end, facts, peer_enforces=peer_enforces)}))
        if denying := live & relation.deny:
            return "deny", relation.first(denying), unless, False
        return "default", None, unless, False

    def speaking(
        self, end: End, s: int, d: int, facts: Facts, *, peer_enforces: bool, within: int = -1
    ) -> tuple[int, int]:
        """The rules `within` a bitset that speak at an end between two classes, and the conditional allows among
        those asked.

        A scoped rule speaks where either end is in its scope; an allow, at the destination, only if that end is: the
        destination's owner consents.
        """
        relation = self.relation
        s_rules, _, s_scope = relation.rows(s)
        _, d_rules, d_scope = relation.rows(d)
        either = s_rules & d_rules & (s_scope | d_scope) & within
        allowing = either & relation.allow & (d_scope if end == "destination" else -1)
        asked = allowing & relation.conditional
        for number in members(asked):
            if not holds(self.rules[number].rule.conditions, end, facts, peer_enforces=peer_enforces):
                allowing ^= 1 << number
        return allowing | (either & (relation.forbid | relation.deny)), asked

    def passed_between(self, source: int, destination: int, facts: Facts) -> int:
        """The atoms that pass from one class to another when every controlled end enforces, as a bitset."""
        atoms = self.atoms.full & ~self.essential
        ends: tuple[tuple[End, int, int], ...] = (("source", source, destination), ("destination", destination, source))
        for end, own, other in ends:
            if self.classes.is_controlled[own]:
                believed = self.classes.is_controlled[other]
                live, _ = self.speaking(end, source, destination, facts, peer_enforces=believed)
                allowed, forbidden = (self._masks_of(live & b) for b in (self.relation.allow, self.relation.forbid))
                atoms &= allowed & ~forbidden
        return atoms

    def _masks_of(self, rules: int) -> int:
        atoms = 0
        for number in members(rules):
            atoms |= self.relation.masks[number]
        return atoms

    def _is_essential(self, end: End, flow: Flow, source: Party, destination: Party) -> bool:
        if source.host is not None and destination.host is not None and source.host.uuid == destination.host.uuid:
            return True
        if any(p.address is not None and p.address in LOOPBACK for p in (source, destination)):
            return True
        if flow.point in service.ESSENTIAL_ICMP:
            return True
        if flow.point in DHCP and flow.source_port in (None, *service.DHCP_PORTS[flow.point & 0xFFFF]):
            return True
        direction, remote = ("out", destination.address) if end == "source" else ("in", source.address)
        passages = (f for f in self.world.failsafe if f.direction == direction and flow.point in f.services)
        return remote is not None and any(remote in f.remote for f in passages)

    def _quarantine_answers(self, end: End, flow: Flow, at: datetime, source: Party, destination: Party) -> list[bool]:
        """For each quarantined end, whether its exceptions pass the connection; a process binds its own end only."""
        if not self._quarantined:
            return []
        out = []
        for party, other, direction in ((source, destination, "out"), (destination, source, "in")):
            is_own = (end == "source") == (direction == "out")
            bound = {w.uuid for w in (party.host, party.process if is_own else None) if w is not None}
            live = [q for uuid in bound for q in self._quarantined.get(uuid, ()) if _is_live(q, at)]
            if live:
                exceptions = [x for q in live for x in q.allow if x.direction == direction and flow.point in x.services]
                out.append(any(self._is_in(other, peer) for x in exceptions for peer in x.peers))
        return out

    def _is_in(self, party: Party, peer: Peer) -> bool:
        number = self.peers.id(peer)
        return number is not None and bool(self.classes.membership[party.seen] >> number & 1)

    @cached_property
    def _quarantined(self) -> dict[str, tuple[Quarantine, ...]]:
        table: dict[str, tuple[Quarantine, ...]] = {}
        for quarantine in self.world.quarantines:
            table[quarantine.workload] = (*table.get(quarantine.workload, ()), quarantine)
        return table


def verdict_of(reason: Reason, mode: ModeName, *, passes: bool) -> VerdictName:
    """What a step means in a mode: quarantine always bites, forbid and deny from `selective` on, the default in
    `enforce`.
    """
    if passes:
        return "allowed"
    if reason == "quarantine" or mode == "enforce" or (mode == "selective" and reason in ("forbid", "deny")):
        return "blocked"
    return "would-block"


def _is_live(quarantine: Quarantine, at: datetime) -> bool:
    return quarantine.until is None or at < quarantine.until


def _addresses(workload: Workload, at: datetime) -> list[int | None]:
    live: list[int | None] = [lease.address for lease in workload.live_addresses(at)]
    return live or [None]


def _peers_of(world: World, policies: Iterable[Policy]) -> Iterable[Peer]:
    yield Everywhere("anyone")
    for rule in number_rules(tuple(policies)):
        scope = scope_peer(rule)
        if scope is not None:
            yield scope
        yield from rule.rule.sources
        yield from rule.rule.destinations
    for policy in policies:
        for test in policy.tests:
            yield from (*test.sources, *test.destinations)
    for quarantine in world.quarantines:
        for exception in quarantine.allow:
            yield from exception.peers
    for failsafe in world.failsafe:
        yield Cidr("failsafe", failsafe.remote)


def _services_of(world: World, policies: Iterable[Policy]) -> Iterable[IntervalSet]:
    yield service.ANY
    yield from (service.ESSENTIAL_ICMP, DHCP)
    for policy in policies:
        yield from (rule.services for rule in policy.rules)
        yield from (test.services for test in policy.tests)
    yield from (exception.services for quarantine in world.quarantines for exception in quarantine.allow)
    yield from (failsafe.services for failsafe in world.failsafe)
