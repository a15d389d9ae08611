"""Controller and agents as arithmetic: whatever happens to world and messages, each host ends at its intent."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from random import Random

import msgspec
import pytest
from strategies import (
    HELD,
    NETWORKS,
    NOW,
    random_failsafe,
    random_host,
    random_labels,
    random_mode,
    random_policy,
    random_quarantine,
    random_world,
)

from ringfence.agent.held.held import Held
from ringfence.controller.desired.desired import Desired, News
from ringfence.controller.desired.inputs import Inputs, Manner, Version
from ringfence.controller.desired.isolating import Isolating
from ringfence.core.engine.engine import Engine
from ringfence.core.errors import InputError
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload
from ringfence.core.intent.compile import IntentCompiler
from ringfence.core.intent.model import Intent
from ringfence.core.world import Quarantine, World
from ringfence.wire.messages import Change, Down, Fetch, Pieces

SEEDS = range(41000, 41040)
KINDS = (
    "come",
    "go",
    "relabel",
    "relabel",
    "many",
    "move",
    "grow",
    "contest",
    "contest",
    "settle",
    "mode",
    "policy",
    "later",
    "canary",
)
replace = msgspec.structs.replace


def random_inputs(rng: Random) -> Inputs:
    world = random_world(rng)
    inventory = Inventory(world.inventory.workloads, ignore=world.inventory.ignore)
    version = Version(1, world.policies, Manner(), world.failsafe, world.names, inventory.ignore)
    return Inputs(inventory, version, NOW)


class Fleet:
    """A controller and its agents, with a bus between them that may lose, repeat and reorder."""

    def __init__(self, rng: Random, inputs: Inputs) -> None:
        self.rng = rng
        self.desired = Desired(inputs)
        self.isolating = Isolating()
        self.quarantines: tuple[Quarantine, ...] = ()
        self._isolate()
        self.agents: dict[str, Held] = {}
        self._late: list[tuple[str, Down]] = []

    def change(self, step: int) -> None:
        if self.rng.random() < 0.2:
            inventory = self.desired.inputs.inventory
            self.quarantines = () if self.rng.random() < 0.3 else (random_quarantine(self.rng, inventory),)
            news = News(0)
        else:
            news = random_news(self.rng, self.desired, step)
        for uuid, message in (*self._isolate(), *addressed(news)):
            self._send(uuid, message)

    def _isolate(self) -> list[tuple[str, Down]]:
        """Quarantines are told to everybody, whoever they are for."""
        inputs = self.desired.inputs
        everywhere = [frozenset(one.networks) for one in self.desired.assignments.values()]
        news = self.isolating.follow(self.quarantines, inputs.inventory, inputs.at, everywhere)
        return [(uuid, isolations) for isolations in news for uuid in self.desired.assignments]

    def expected(self, uuid: str) -> str:
        isolations = self.isolating.of(frozenset(self.desired.assignments[uuid].networks))
        return self.desired.expected_state(uuid, isolations.revision if isolations else 0)

    def answer(self, uuid: str, fetch: Fetch) -> Pieces:
        pieces = self.desired.answer(uuid, fetch, most_addresses=2)
        if not fetch.isolations or uuid not in self.desired.assignments:
            return pieces
        return replace(pieces, isolations=self.isolating.of(frozenset(self.desired.assignments[uuid].networks)))

    def _send(self, uuid: str, message: Down) -> None:
        fate = self.rng.random()
        if fate < 0.2:
            return
        self._late.append((uuid, message))
        if fate > 0.8:
            self._late.append((uuid, message))
        if fate > 0.5:
            self.rng.shuffle(self._late)
        for _ in range(min(len(self._late), self.rng.randint(0, 3))):
            self._deliver(*self._late.pop(0))

    def _deliver(self, uuid: str, message: Down) -> None:
        held = self.agents.setdefault(uuid, Held(uuid))
        held.take(message)
        assert_in_one_group(held)
        held.intent(NOW)  # can always be made
        if self.rng.random() < 0.1:
            self.agents[uuid] = Held.restore(uuid, held.snapshot())
        if self.rng.random() < 0.3:
            self.fetch(self.agents[uuid])

    def fetch(self, held: Held) -> None:
        """One question and its answer, cut short at random as a big one would be."""
        wants = held.wants
        if wants is None:
            if held.workload in self.desired.assignments and held.state != self.expected(held.workload):
                held.take(self.answer(held.workload, held.everything))
            return
        if self.rng.random() < 0.5:  # ask for less than all
            wants = replace(wants, bodies=wants.bodies[:1], groups=wants.groups[:2])
        held.take(self.answer(held.workload, wants))
        assert_in_one_group(held)

    def settle(self) -> None:
        """The bus is quiet again: every agent asks until it has what the controller expects."""
        while self._late:
            self._deliver(*self._late.pop(0))
        for uuid in self.desired.assignments:
            held = self.agents.setdefault(uuid, Held(uuid))
            for _ in range(200):
                if held.state == self.expected(uuid) and held.wants is None:
                    break
                self.fetch(held)
            assert held.state == self.expected(uuid)
        named = [{a.station.body, *(x.body for x in a.schedule)} for a in self.desired.assignments.values()]
        assert self.desired._bodies.keys() == set[str]().union(*named)  # each that is named, and no other


def addressed(news: News) -> Iterable[tuple[str, Down]]:
    """Every message with whom it is for, in the order it is sent."""
    for hosts, message in news.messages:
        for uuid in hosts:
            yield uuid, message


def assert_in_one_group(held: Held) -> None:
    for body in held._bodies.values():
        every = [a for key in body.groups & held.groups.keys() for a in held.groups[key].addresses]
        assert len(every) == len(set(every))


def random_news(rng: Random, desired: Desired, step: int) -> News:
    inputs, inventory = desired.inputs, desired.inputs.inventory
    hosts = [w for w in inventory.workloads if w.kind != "process"]
    one = rng.choice(hosts)
    address = Lease(rng.choice(HELD), rng.choice(NETWORKS))
    kind = rng.choice(KINDS)
    if kind == "come":
        return desired.put_workload(random_host(rng, f"new{step}"))
    if kind == "go" and len(hosts) > 2 and not inventory.processes_of(one.name):
        return desired.remove_workload(one.uuid)
    if kind == "policy":
        return desired.follow(replace(inputs, base=_version(rng, desired, step + 2, "p"), next=None))
    if kind == "later":
        return desired.follow(replace(inputs, at=inputs.at + timedelta(minutes=rng.choice((1, 90, 2000)))))
    if kind == "canary":
        ahead = frozenset(w.uuid for w in hosts if rng.random() < 0.5)
        version = inputs.next or _version(rng, desired, step + 2, "p", "q")
        return desired.follow(replace(inputs, next=version, ahead=ahead))
    if kind in ("contest", "settle"):
        return desired.put_workload(_claiming(rng, kind, one, hosts))
    if kind == "many":
        some = [replace(w, labels=random_labels(rng)) for w in rng.sample(hosts, rng.randint(1, len(hosts)))]
        return desired.put_workloads([*some, random_host(rng, f"many{step}")])
    changes = {
        "relabel": {"labels": random_labels(rng)},
        "move": {"addresses": (address,)},
        "grow": {"addresses": (*one.addresses, address)},
    }
    return desired.put_workload(replace(one, **changes.get(kind, {"mode": random_mode(rng)})))


def _claiming(rng: Random, kind: str, one: Workload, hosts: list[Workload]) -> Workload:
    """A host that claims what another has, too; or one of two that lets go of it."""
    others = {(lease.network, lease.address) for host in hosts if host is not one for lease in host.addresses}
    if kind == "contest":
        network, address = rng.choice(sorted(others) or [("main", HELD[0])])
        return replace(one, addresses=(*one.addresses, Lease(address, network)))
    shared = [lease for lease in one.addresses if (lease.network, lease.address) in others]
    left = tuple(lease for lease in one.addresses if lease not in shared[:1])
    return replace(one, addresses=left or one.addresses)


def _version(rng: Random, desired: Desired, number: int, *policies: str) -> Version:
    """Another version, with settings of its own."""
    failsafe = (random_failsafe(rng),) if rng.random() < 0.5 else ()
    said = tuple(random_policy(rng, name) for name in policies)
    return Version(number, said, Manner(), failsafe, desired.inputs.base.names)


def compiled(inputs: Inputs, quarantines: tuple[Quarantine, ...], me: Workload) -> Intent:
    """The intent of one host, from nothing but the inputs."""
    version = inputs.next if inputs.next is not None and me.uuid in inputs.ahead else inputs.base
    inventory = Inventory(inputs.inventory.workloads, ignore=version.ignore)
    world = World(inventory, version.policies, (), version.failsafe, version.names, inputs.at)
    intent = IntentCompiler(Engine.compile(world)).compile(me)
    isolated = IntentCompiler(Engine.compile(replace(world, policies=(), quarantines=quarantines))).compile(me)
    return replace(
        intent,
        is_quarantined=isolated.is_quarantined,
        isolated=isolated.isolated,
        quarantine_passages=isolated.quarantine_passages,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_every_agent_ends_at_the_intent_of_the_world_as_it_is(seed: int) -> None:
    """Whatever changed, and whatever was lost, repeated, reordered or restarted on the way (laws 2 and 6)."""
    rng = Random(seed)
    fleet = Fleet(rng, random_inputs(rng))
    for step in range(15):
        fleet.change(step)
    fleet.settle()
    inputs = fleet.desired.inputs
    for me in fleet.desired.hosts:
        intent = fleet.agents[me.uuid].intent(inputs.at)
        assert intent is not None
        assert intent.digest == compiled(inputs, fleet.quarantines, me).digest


@pytest.mark.parametrize("seed", SEEDS)
def test_a_restarted_controller_says_nothing_new(seed: int) -> None:
    """What is as it was keeps its revision: agents that were up to date still are."""
    rng = Random(seed)
    fleet = Fleet(rng, random_inputs(rng))
    for step in range(6):
        fleet.change(step)
    again = Desired(fleet.desired.inputs, fleet.desired.remember())
    assert again.revision > fleet.desired.revision
    for uuid, assignment in fleet.desired.assignments.items():
        if assignment.schedule:  # foretells from the time it was compiled
            continue
        assert again.expected_state(uuid, 0) == fleet.desired.expected_state(uuid, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_revisions_only_grow(seed: int) -> None:
    """No revision of a piece is used twice for different content, whatever happens between."""
    rng = Random(seed)
    desired = Desired(random_inputs(rng))
    seen: dict[tuple[str, int], str] = {}
    for step in range(10):
        random_news(rng, desired, step)
        if rng.random() < 0.3:
            desired = Desired(desired.inputs, desired.remember())
        for name, mark in desired.remember().groups.items():
            assert seen.setdefault((name, mark.revision), mark.digest) == mark.digest


@pytest.mark.parametrize("seed", SEEDS)
def test_an_address_that_two_hold_is_never_one_of_them_alone(seed: int) -> None:
    """Told by single changes, from one holder to both and back, another host never has the address as something that
    would pass what one of those who hold it then would not."""
    rng = Random(seed)
    desired = Desired(random_inputs(rng))
    for step in range(12):
        random_news(rng, desired, step)
        inventory, at = desired.inputs.inventory, desired.inputs.at
        for compiled_ in desired._compiled:
            for membership in compiled_.compiler._memberships.values():
                for address, holders in membership.holders.items():
                    known = {w.uuid for network in membership.networks for w in inventory.holders(address, at, network)}
                    assert {w.uuid for w in holders} == known
                    classes = {compiled_.compiler.engine.class_of(inventory.by_uuid[uuid], address) for uuid in known}
                    assert set(membership._kinds[address].seen.classes) == classes


def test_failsafe_is_everybodys_news() -> None:
    """What passes outright is part of every host's assignment."""
    rng = Random(1)
    desired = Desired(random_inputs(rng))
    failsafe = (random_failsafe(rng),)
    version = replace(desired.inputs.base, failsafe=failsafe)
    news = desired.follow(replace(desired.inputs, base=version))
    assert set(news.assignments) == {w.uuid for w in desired.hosts}


def test_nothing_changed_is_no_news() -> None:
    """The same inputs again are told to nobody."""
    desired = Desired(random_inputs(Random(2)))
    assert desired.follow(desired.inputs).is_empty


def test_a_name_taken_is_refused() -> None:
    """Two workloads of one name would be told apart by nobody."""
    desired = Desired(random_inputs(Random(3)))
    first = next(iter(desired.hosts))
    with pytest.raises(InputError, match="duplicate-name"):
        desired.put_workload(replace(first, uuid="00000000-0000-0000-0000-000000000000"))


def test_each_host_hears_once_of_a_change() -> None:
    """An address that changes hands is one message: what goes and what comes travel together."""
    rng = Random(4)
    for _ in range(30):
        desired = Desired(random_inputs(rng))
        news = random_news(rng, desired, 1)
        told = [uuid for hosts, _ in news.changes for uuid in hosts]
        assert len(told) == len(set(told))
        assert all(isinstance(change, Change) for _, change in news.changes)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_group_goes_by_says_who_is_in_it(seed: int) -> None:
    """INVARIANT: of all versions, now and after each turn, groups of one name have the same addresses: a host is told
    of each name once."""
    rng = Random(seed)
    fleet = Fleet(rng, random_inputs(rng))
    for step in range(15):
        fleet.change(step)
        contents: dict[object, set[tuple[int, ...]]] = {}
        for compiled in fleet.desired._compiled:
            for group_id, group in compiled.tables:
                contents.setdefault(group_id, set()).add(group.addresses)
        assert [group_id for group_id, found in contents.items() if len(found) > 1] == []


def test_what_arrives_need_not_be_asked_for() -> None:
    """A host that heard everything has all it needs after the next change, another policy or identity included."""
    told = 0
    for seed in range(80):
        rng = Random(seed)
        fleet = Fleet(rng, random_inputs(rng))
        fleet.settle()
        news = random_news(rng, fleet.desired, 1)
        told += len(news.pieces)
        before = {uuid: held.assignment for uuid, held in fleet.agents.items() if held.assignment is not None}
        for uuid, message in addressed(news):
            if uuid in before:
                fleet.agents[uuid].take(message)
        for uuid in before.keys() & fleet.desired.assignments.keys():
            if before[uuid].networks == fleet.desired.assignments[uuid].networks:
                assert fleet.agents[uuid].wants is None
                assert fleet.agents[uuid].state == fleet.expected(uuid)
    assert told > 50
