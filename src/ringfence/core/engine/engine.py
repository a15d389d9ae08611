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

import msgspec
import numpy as np

from ringfence.core.engine import decision, judgement
from ringfence.core.engine.bits import Ids, members
from ringfence.core.engine.classes import ClassTable
from ringfence.core.engine.judgement import Judgement
from ringfence.core.engine.partition import Partition
from ringfence.core.engine.peers import PeerTable, joined
from ringfence.core.engine.relation import Relation, Row, scope_peer
from ringfence.core.engine.rules import End, Facts, RuleRef, holds, is_same, number_rules
from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode, Workload
from ringfence.core.labels.selector import Labels
from ringfence.core.net import service
from ringfence.core.net.address import format_ranges, is_v4
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.policy.model import Cidr, Everywhere, Fqdn, Peer, Policy, Workloads
from ringfence.core.world import Endpoint, Flow, Quarantine, Verdict, World

LAST_POINT = service.ANY.ranges[-1][1]
UNNAMED = service.point(255)
"""A service point no rule names on its own (IP protocol 255 is reserved): it lies in the atom of everything else."""
DHCP = IntervalSet.of((service.point(service.UDP, port),) * 2 for port in service.DHCP_PORTS)


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
        self.essential = self.mask_of(service.ESSENTIAL_ICMP)
        """Atoms that always pass, as a bitset: ICMP that networking needs."""
        self.dhcp = self.mask_of(DHCP)
        """Atoms that pass from DHCP's own source ports: other source ports are policy, so proofs keep them."""
        self.classes = ClassTable(self.peers, world.inventory.ignore)
        self._known_classes: dict[tuple[str, int | None], tuple[Workload, int]] = {}
        self._add_present_classes()
        self.relation = self._relation()

    @staticmethod
    def compile(world: World) -> Engine:
        return Engine(world)

    def under(self, mode: Mode) -> Engine:
        """The same index, judging as if every controlled end were in this mode."""
        return self._judging(msgspec.structs.replace(self.world, as_mode=mode))

    def of_policy_alone(self) -> Engine:
        """The same index, judging what proofs are about: every end enforcing, nobody quarantined, no failsafe, names as
        they are answered now.
        """
        enforce = Mode.both("enforce")
        alone = msgspec.structs.replace(self.world, as_mode=enforce, quarantines=(), failsafe=(), names={})
        return self._judging(alone)

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
        for stale in ("quarantined", "bound", "_slots"):
            other.__dict__.pop(stale, None)
        return other

    def _relation(self) -> Relation:
        masks = [self._masks[rule.rule.services] for rule in self.rules]
        return Relation(self.rules, self.classes, masks, len(self.atoms))

    # ---- classes -----------------------------------------------------------------------------------------------

    def class_of(self, workload: Workload | None, address: int | None) -> int:
        """The class of a workload at one of its addresses, or of a bare address."""
        if workload is None:
            return self.classes.of(None, self.peers.of_address(address, is_held=False), is_controlled=False)
        known = self._known_classes.get((workload.uuid, address))
        if known is not None and known[0] is workload:
            return known[1]
        held = self.peers.of_address(address, is_held=True)
        labels = self.world.inventory.labels_of(workload)
        number = self.classes.of(labels, held, is_controlled=workload.is_controlled)
        if workload.kind != "process":  # a process has its host's labels too, and its host may be relabelled
            self._known_classes[workload.uuid, address] = (workload, number)
        return number

    def class_of_name(self, name: str) -> int:
        """The class of a destination known by name only."""
        return self.classes.of(None, self.peers.of_name(name), is_controlled=False)

    def classes_of_names(self) -> dict[int, str]:
        """A class, made if it is new, for each name of the policies that no answer gives an address now."""
        names = (peer.text for peer in self.peers.peers if isinstance(peer, Fqdn) and not self.peers.answers(peer))
        return {self.class_of_name(name): name for name in names}

    def host_of(self, workload: Workload) -> Workload:
        """The host of a process; any other workload itself."""
        if workload.kind != "process":
            return workload
        return self.world.inventory.find(workload.host or "") or workload

    @staticmethod
    def addresses_of(workload: Workload, at: datetime) -> list[int | None]:
        """Its live addresses; where it has none, one that is unknown."""
        live: list[int | None] = [lease.address for lease in workload.addresses if lease.is_live(at)]
        return live or [None]

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
            addresses = self.addresses_of(self.host_of(workload), at)
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
            for address in self.addresses_of(workload, self.world.at):
                family = chosen[address is None or is_v4(address)]
                is_another = all(end.workload is not workload for end in family)
                if len(family) < 2 and is_another and self.class_of(workload, address) == class_:
                    family.append(Endpoint(workload, address))
            if all(len(family) >= 2 for family in chosen.values()):
                break
        return (*chosen[True], *chosen[False])

    def sole_members(self, classes: Ids) -> Ids:
        """Per class the only workload in it, by its number in the inventory; -1 where there are none or several."""
        known = classes < len(self._sole)
        out = np.full(len(classes), -1, dtype=np.intp)
        out[known] = self._sole[classes[known]]
        return out

    @cached_property
    def _sole(self) -> Ids:
        who, where = self._places
        out = np.full(len(self.classes), -1, dtype=np.intp)
        out[where] = who
        out[np.bincount(where, minlength=len(self.classes)) != 1] = -1
        return out

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
        if not ranges or ranges.size > self.world.inventory.lease_count:
            return bool(ranges)
        return any(address not in self._held for lo, hi in ranges for address in range(lo, hi + 1))

    @property
    def _held(self) -> frozenset[int]:
        return self.world.inventory.live_addresses(self.world.at)

    # ---- changes in place: see live.py -------------------------------------------------------------------------

    def find_rule(self, ref: str) -> int | None:
        """The slot of a rule in force."""
        number = self._slots.get(ref)
        return number if number is not None and self.relation.in_force >> number & 1 else None

    @cached_property
    def _slots(self) -> dict[str, int]:
        return {rule.ref: number for number, rule in enumerate(self.rules)}

    def adopt_rule(self, world: World, rule: RuleRef) -> int | None:
        """Put a rule in force for a world that has it; None when its addresses or services need a new index."""
        scope = scope_peer(rule)
        peers = (*rule.rule.sources, *rule.rule.destinations, *([scope] if scope else []))
        unknown = [peer for peer in peers if self.peers.id(peer) is None]
        mask = self._masks.get(rule.rule.services) or self.atoms.mask(rule.rule.services)
        if mask is None or not all(isinstance(peer, Workloads) for peer in unknown):
            return None
        self._learn(unknown)
        number = self._slots.get(rule.ref)
        if number is None or not is_same(self.rules[number], rule):
            number = self._slots[rule.ref] = len(self.rules)
            self.relation.append(rule, mask)
            self.rules = self.relation.rules
        self.relation.put_in_force(number)
        self.world = world
        return number

    def _learn(self, selectors: Iterable[Peer]) -> None:
        """Index selectors that no rule had named before."""
        for peer in selectors:
            if isinstance(peer, Workloads) and self.peers.id(peer) is None:
                self.classes.join(self.peers.add_selector(peer), joined(peer))

    def drop_rule(self, world: World, number: int) -> None:
        """Take a rule out of force for a world that no longer has it."""
        self.relation.take_out_of_force(number)
        self.world = world

    def move(self, before: Workload | None, after: Workload | None, inventory: Inventory) -> None:
        """Follow one workload that came, changed or went."""
        at = self.world.at
        for workload, change in ((before, -1), (after, 1)):
            if workload is not None and workload.kind != "process":
                for address in self.addresses_of(workload, at):
                    self._known_classes.pop((workload.uuid, address), None)
                for number in {self.class_of(workload, address) for address in self.addresses_of(workload, at)}:
                    self.classes.workloads[number] += change
        for stale in ("_places", "_sole"):
            self.__dict__.pop(stale, None)
        self.world = msgspec.structs.replace(self.world, inventory=inventory)

    # ---- decisions ---------------------------------------------------------------------------------------------

    def decide(self, flow: Flow) -> Verdict:
        """The verdict of one new connection with the responsible rule; see `decision.decide`."""
        return decision.decide(self, flow)

    def judge(self, conversations: Conversations, *, as_mode: Mode | None = None) -> Judgement:
        """The verdict, reason and rule of every row; see `judgement.judge`."""
        return judgement.judge(self, conversations, as_mode=as_mode)

    @cached_property
    def bound(self) -> dict[int, tuple[tuple[str, Quarantine], ...]]:
        """Address -> the quarantines that bind it whoever holds it by now, each with the network."""
        out: dict[int, tuple[tuple[str, Quarantine], ...]] = {}
        for quarantine in self.world.quarantines:
            for lease in quarantine.addresses:
                out[lease.address] = (*out.get(lease.address, ()), (lease.network, quarantine))
        return out

    @cached_property
    def quarantined(self) -> dict[str, tuple[Quarantine, ...]]:
        """The quarantines of each workload, by UUID, expired ones included."""
        table: dict[str, tuple[Quarantine, ...]] = {}
        for quarantine in self.world.quarantines:
            table[quarantine.workload] = (*table.get(quarantine.workload, ()), quarantine)
        return table

    def speaking(
        self, end: End, s: int, d: int, facts: Facts, *, peer_enforces: bool, within: int = -1
    ) -> tuple[int, int]:
        """The rules `within` a bitset that speak at an end between two classes, and the conditional allows among
        those asked.

        A scoped rule speaks where either end is in its scope; an allow, at the destination, only if that end is: the
        destination's owner consents.
        """
        source, destination = self.relation.rows(s), self.relation.rows(d)
        if not source[0] & within & destination[1]:
            return 0, 0
        return self.speaking_rows(end, source, destination, facts, peer_enforces=peer_enforces, within=within)

    def speaking_rows(
        self, end: End, source: Row, destination: Row, facts: Facts, *, peer_enforces: bool, within: int = -1
    ) -> tuple[int, int]:
        """The same between ends of these rows, whether or not they are of a class of the table."""
        relation = self.relation
        s_rules, _, s_scope = source
        _, d_rules, d_scope = destination
        either = s_rules & within & d_rules & (s_scope | d_scope)
        allowing = either & relation.allow & (d_scope if end == "destination" else -1)
        asked = allowing & relation.conditional
        for number in members(asked):
            if not holds(self.rules[number].rule.conditions, end, facts, peer_enforces=peer_enforces):
                allowing ^= 1 << number
        return allowing | (either & (relation.forbid | relation.deny)), asked

    def passed_between(self, source: int, destination: int, facts: Facts) -> int:
        """The atoms that pass from one class to another when every controlled end enforces, as a bitset."""
        rows = self.relation.rows(source), self.relation.rows(destination)
        is_controlled = self.classes.is_controlled[source], self.classes.is_controlled[destination]
        return self._passed(rows, is_controlled, facts)

    def passed_between_labels(self, source: Labels, destination: Labels, facts: Facts) -> int:
        """The same between hosts of these labels at unknown addresses, whether or not anybody carries them."""
        anywhere = self.peers.of_address(None, is_held=True)
        rows = [self.relation.row_of(self.peers.of_labels(labels) | anywhere) for labels in (source, destination)]
        return self._passed((rows[0], rows[1]), (True, True), facts)

    def _passed(self, rows: tuple[Row, Row], is_controlled: tuple[bool, bool], facts: Facts) -> int:
        atoms = self.atoms.full & ~self.essential
        ends: tuple[End, End] = ("source", "destination")
        for own, end in enumerate(ends):
            if is_controlled[own]:
                live, _ = self.speaking_rows(end, *rows, facts, peer_enforces=is_controlled[1 - own])
                allowed, forbidden = (self._masks_of(live & b) for b in (self.relation.allow, self.relation.forbid))
                atoms &= allowed & ~forbidden
        return atoms

    def _masks_of(self, rules: int) -> int:
        atoms = 0
        for number in members(rules):
            atoms |= self.relation.masks[number]
        return atoms


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
        yield Cidr(", ".join(format_ranges(failsafe.remote)), failsafe.remote)


def _services_of(world: World, policies: Iterable[Policy]) -> Iterable[IntervalSet]:
    yield service.ANY
    yield from (service.ESSENTIAL_ICMP, DHCP)
    for policy in policies:
        yield from (rule.services for rule in policy.rules)
        yield from (test.services for test in policy.tests)
    yield from (exception.services for quarantine in world.quarantines for exception in quarantine.allow)
    yield from (failsafe.services for failsafe in world.failsafe)
