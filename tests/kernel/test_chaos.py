"""Whatever is killed, cut off, frozen, rebooted, lost, repeated or overtaken: nothing passes that no host was
told to let pass, what is always allowed always passes, and in the end everything is as meant.

One seed by default; `RINGFENCE_CHAOS_SEEDS=1-20` runs those, `RINGFENCE_CHAOS_STEPS` makes them longer.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from chaos_model import Estate, Model, Try
from fleet_ground import last_words

from ringfence.controller.desired import Manner
from ringfence.core.errors import RingfenceError
from ringfence.lab.description import parse_world
from ringfence.lab.fleet import CONTROLLER, Fleet, Prober
from ringfence.lab.probing import Aim, Outcome

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root on Linux"),
]
WORLD = """\
lab: chaos
networks:
  one: [10.9.0.0/24]
  two: [10.9.1.0/24]
services:
  store: {port: tcp/5432, speaks: greeting}
  web: {port: tcp/80, speaks: greeting}
  time: {port: udp/123, speaks: echo}
hosts:
  - {name: web, addresses: [10.9.0.2], labels: {app: shop, role: web}, services: [store, web, time]}
  - {name: guest, addresses: [10.9.0.3], labels: {app: shop, role: guest}, services: [store, web, time]}
  - {name: api, addresses: [10.9.1.2], labels: {app: shop, role: api}, services: [store, web, time]}
  - {name: db, addresses: [10.9.1.3], labels: {app: shop, role: db}, services: [store, web, time]}
  - {name: caller, addresses: [10.9.0.8], labels: {app: anchor, role: caller}}
  - {name: called, addresses: [10.9.1.8], labels: {app: anchor, role: called}, services: [store, time]}
"""
SHOP = ("web", "guest", "api", "db")
ANCHORS = ("caller", "called")
ROLES = ("web", "guest", "api", "db")
SERVICES = ("tcp/5432", "tcp/80", "udp/123")
ANCHORED = """\
policy: anchored
scope: app=anchor
segments: {caller: role=caller, called: role=called}
rules:
  - allow: {from: caller, to: called, service: tcp/5432}
  - allow: {from: caller, to: called, service: udp/123}
"""


def seeds() -> list[int]:
    first, _, last = os.environ.get("RINGFENCE_CHAOS_SEEDS", "1").partition("-")
    return list(range(int(first), int(last or first) + 1))


def random_policy(rng: Random) -> str:
    lines = ["policy: shop", "scope: app=shop", "rules:"]
    chosen = [(a, b, s) for a in ROLES for b in ROLES for s in SERVICES if a != b and rng.random() < 0.3]
    for source, destination, service in chosen or [("web", "db", "tcp/5432")]:
        action = "forbid" if rng.random() < 0.15 else "allow"
        lines.append(f"  - {action}: {{from: role={source}, to: role={destination}, service: {service}}}")
    return "\n".join(lines) + "\n"


class Chaos:
    """A fleet, what is done to it, and what may be so."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet, self.rng = fleet, Random(seed)
        world = fleet.lab.world.by_name
        self.estate = Estate(
            {name: world[name].labels for name in (*SHOP, *ANCHORS)},
            {"anchored.yaml": ANCHORED, "shop.yaml": random_policy(self.rng)},
        )
        uuids = {name: fleet.join(name) for name in (*SHOP, *ANCHORS)}
        tries = [
            Try(source, destination, transport, port)
            for source in SHOP for destination in SHOP if source != destination
            for transport, port in (("tcp", 5432), ("tcp", 80), ("udp", 123))
        ]  # fmt: skip
        self.model = Model(tries, {name: world[name].addresses[0] for name in uuids}, uuids)
        self.model.begin(self.estate)
        fleet.publish(self.estate.policies, manner=Manner(live="cut"))
        self.frozen: set[str] = set()
        self.dead: set[str] = set()
        self.down: set[str] = set()
        self.cut: set[str] = set()
        self.version = 1
        self.log: list[str] = []

    # ---- what people do ---------------------------------------------------------------------------------------------

    @property
    def is_asking_possible(self) -> bool:
        return self.fleet.is_controller_up and CONTROLLER not in self.frozen

    def _change(self, estate: Estate, ask: Callable[[], object]) -> None:
        self.estate = estate
        self.model.begin(estate)
        ask()

    def relabel(self) -> None:
        name, role = self.rng.choice(SHOP), self.rng.choice(ROLES)
        labels = {**self.estate.labels[name], "role": role}
        changed = self.estate._replace(labels={**self.estate.labels, name: labels})
        self._change(changed, lambda: self.fleet.relabel(name, labels))

    def publish(self) -> None:
        files = {**self.estate.policies, "shop.yaml": random_policy(self.rng)}
        if files == self.estate.policies:
            return
        self.version += 1
        manner = Manner(live="cut")
        self._change(self.estate._replace(policies=files), lambda: self.fleet.publish(files, manner=manner))

    def quarantine(self) -> None:
        name = self.rng.choice(SHOP)
        if name in self.estate.quarantined:
            changed = self.estate._replace(quarantined=self.estate.quarantined - {name})
            self._change(changed, lambda: self.fleet.release(name, "chaos"))
        else:
            changed = self.estate._replace(quarantined=self.estate.quarantined | {name})
            self._change(changed, lambda: self.fleet.quarantine(name, "chaos"))

    # ---- what breaks ------------------------------------------------------------------------------------------------

    def agent(self) -> None:
        name = self.rng.choice((*SHOP, *ANCHORS))
        if name in self.down:
            return
        if name in self.dead:
            self.fleet.start_agent(name)
            self.dead.discard(name)
        else:
            self.fleet.kill_agent(name)
            self.dead.add(name)
            self.frozen.discard(name)

    def freeze(self) -> None:
        name = self.rng.choice((*SHOP, *ANCHORS, CONTROLLER))
        if name in self.frozen:
            self.fleet.thaw(name)
            self.frozen.discard(name)
        elif name not in self.dead | self.down and (name != CONTROLLER or self.fleet.is_controller_up):
            self.fleet.freeze(name)
            self.frozen.add(name)

    def controller(self) -> None:
        if self.fleet.is_controller_up:
            self.fleet.kill_controller()
            self.frozen.discard(CONTROLLER)
        else:
            self.fleet.start_controller()

    def bus(self) -> None:
        if self.is_asking_possible:
            self.fleet.kill_bus()

    def network(self) -> None:
        name = self.rng.choice((*SHOP, *ANCHORS))
        self.cut ^= {name}
        self.fleet.heal()
        self.fleet.partition(*self.cut)

    def power(self) -> None:
        if self.down:
            name = self.down.pop()
            self.fleet.boot(name)
            return
        name = self.rng.choice(SHOP)
        if name not in self.dead:
            self.fleet.crash(name)
            self.frozen.discard(name)
            self.down.add(name)

    # ---- one step after the other -----------------------------------------------------------------------------------

    def step(self) -> None:
        breaks = (self.agent, self.agent, self.freeze, self.controller, self.bus, self.network, self.power, self.power)
        does = (self.relabel, self.relabel, self.relabel, self.publish, self.publish, self.quarantine, self.quarantine)
        action = self.rng.choice((*does, *does, *breaks) if self.is_asking_possible else (*breaks, self.mend))
        self.log.append(f"{time.monotonic():.3f} epoch {self.model.epoch}: {action.__name__}")
        action()
        self.rest(self.rng.choice((0.0, 0.1, 0.3, 1.0, 2.0)))

    def mend(self) -> None:
        if CONTROLLER in self.frozen:
            self.fleet.thaw(CONTROLLER)
            self.frozen.discard(CONTROLLER)
        elif not self.fleet.is_controller_up:
            self.fleet.start_controller()

    def rest(self, seconds: float) -> None:
        """Let time pass, and learn how far the hosts are."""
        end = time.monotonic() + seconds
        while True:
            self.look()
            if time.monotonic() >= end:
                return
            time.sleep(min(0.25, max(0.0, end - time.monotonic())))

    def look(self) -> None:
        if not self.is_asking_possible:
            return
        for host in self.fleet.look().hosts:
            if host.is_settled and host.name in self.model.hosts:
                self.model.settled(host.name, self.model.epoch)

    def words(self) -> str:
        """How every agent says that it is, for a test that failed."""
        said = []
        for name in self.fleet.agents:
            with contextlib.suppress(RingfenceError):
                said.append(self.fleet.status(name))
        return "\n".join(said)

    def repair(self) -> None:
        """Nothing is broken any more."""
        self.mend()
        self.mend()
        self.fleet.heal()
        for name in tuple(self.down):
            self.fleet.boot(name)
        self.fleet.thaw(*self.frozen)
        for name in self.dead:
            self.fleet.start_agent(name)
        for broken in (self.down, self.frozen, self.dead, self.cut):
            broken.clear()


class Probes:
    """Every path tried all the time, and what became of it."""

    def __init__(self, chaos: Chaos) -> None:
        self.tried: dict[Try, list[Outcome]] = {one: [] for one in chaos.model.tries}
        self.anchored: list[Outcome] = []
        address = {name: chaos.fleet.addresses(name)[0] for name in (*SHOP, *ANCHORS)}
        self._probers: list[tuple[Prober, tuple[Try, ...]]] = []
        for source in SHOP:
            tries = tuple(one for one in chaos.model.tries if one.source == source)
            aims = [Aim(one.transport, address[one.destination], one.port, 0.12) for one in tries]  # type: ignore[arg-type]
            self._probers.append((chaos.fleet.probe(source, aims), tries))
        kinds = (("tcp", 5432), ("held-tcp", 5432), ("udp", 123), ("held-udp", 123))
        always = [Aim(kind, address["called"], port, 0.03, 5.0) for kind, port in kinds]  # type: ignore[arg-type]
        self._anchor = chaos.fleet.probe("caller", always)

    def take(self) -> None:
        for prober, tries in self._probers:
            for outcome in prober.take():
                self.tried[tries[outcome.aim]].append(outcome)
        self.anchored += self._anchor.take()

    def since(self, moment: float) -> Iterator[tuple[Try, Outcome]]:
        for one, outcomes in self.tried.items():
            for outcome in outcomes:
                if outcome.began >= moment:
                    yield one, outcome


@pytest.mark.parametrize("seed", seeds())
def test_nothing_opens_and_nothing_breaks(seed: int, tmp_path: Path) -> None:
    """Seeded chaos: see the module."""
    steps = int(os.environ.get("RINGFENCE_CHAOS_STEPS", "30"))
    with Fleet.up(parse_world(WORLD), folder=tmp_path, unruly=seed) as fleet:
        chaos = Chaos(fleet, seed)
        fleet.settle()
        chaos.look()
        probes = Probes(chaos)
        began = time.monotonic()
        try:
            for _ in range(steps):
                chaos.step()
                probes.take()
            chaos.repair()
            broken_s = time.monotonic() - began
            looked = fleet.settle()
            chaos.look()
            settled = time.monotonic()
            time.sleep(1.0)
        except BaseException:
            print("\n".join(chaos.log), last_words(tmp_path), chaos.words())
            raise
        probes.take()
        checked = fleet.check_audit()
    tried = list(probes.since(0.0))
    print(f"\n  seed {seed}: {chaos.model.epoch} changes, {len(tried)} probes, {len(probes.anchored)} that must pass, "
          f"{broken_s:.0f} s of chaos, settled {settled - began - broken_s:.1f} s later")  # fmt: skip
    opened = [chaos.model.words(one, o) for one, o in tried if o.passed and not chaos.model.is_legal(one, o)]
    assert opened == [], "\n".join((*opened[:20], *chaos.log))
    assert probes.anchored
    assert [o for o in probes.anchored if not (o.passed and o.is_clean)] == [], "\n".join(chaos.log)
    after = list(probes.since(settled))
    assert {one for one, _ in after} == set(chaos.model.tries)
    assert [one for one, o in after if o.passed != chaos.model.lets(one)] == []
    assert {name: looked.labels[name] for name in SHOP} == {name: chaos.estate.labels[name] for name in SHOP}
    assert set(looked.quarantined) == chaos.estate.quarantined
    assert looked.policy_version == chaos.version
    assert checked.problem == ""
    assert sum(action == "policy.publish" for action, _ in checked.actions) == chaos.version
