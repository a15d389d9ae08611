"""Whatever is killed, cut off, frozen, rebooted, tampered with, lost, repeated or overtaken, whatever clocks say and
whoever takes over an address: nothing passes that no host was told to let pass, what is always allowed always passes,
and in the end everything is as meant.

One seed by default; `RINGFENCE_CHAOS_SEEDS=1-20` runs those, `RINGFENCE_CHAOS_STEPS` makes them longer.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from chaos_model import Estate, Model, Try
from fleet_ground import last_words

from ringfence.controller.desired.inputs import Manner
from ringfence.core.errors import RingfenceError
from ringfence.lab.description import parse_world
from ringfence.lab.fleet import CONTROLLER, Fleet, Prober
from ringfence.lab.fleet_controller import FleetLook
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
FLOATING, SHARERS = "10.9.0.50", ("web", "guest")
"""An address that changes hands, and between whom."""
OFFSETS_S = (0.0, -400.0, 400.0, -3 * 86400.0, 3 * 86400.0)
"""How far a host's clock may be stepped: beyond what clocks may differ, and beyond the end of rules."""
PATIENCE_S = 60.0
FOREIGN = "not of ours"
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
        if action == "allow" and rng.random() < 0.3:
            lines.append(f"    until: {(datetime.now(UTC) + timedelta(days=2)).date()}")
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
        for name in SHOP:
            fleet.step_clock(name, 0.0)
        uuids = {name: fleet.join(name) for name in (*SHOP, *ANCHORS)}
        tries = [
            Try(source, destination, transport, port)
            for source in SHOP for destination in SHOP if source != destination
            for transport, port in (("tcp", 5432), ("tcp", 80), ("udp", 123))
        ]  # fmt: skip
        tries += [Try(one, to, "tcp", port, True) for one in SHARERS for to in ("api", "db") for port in (5432, 80)]
        self.model = Model(tries, {name: world[name].addresses[0] for name in uuids}, uuids, FLOATING)
        self.model.begin(self.estate)
        fleet.publish(self.estate.policies, manner=Manner(live="cut"))
        self.frozen: set[str] = set()
        self.dead: set[str] = set()
        self.down: set[str] = set()
        self.cut: set[str] = set()
        self.tampered: set[str] = set()
        self.holder = ""
        """Who has the floating address."""
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
        self._publish("")

    def canary(self) -> None:
        """Some hosts first; until it is known to be everybody's, a host may have this version or those before."""
        self._publish(f"role={self.rng.choice(sorted(self.estate.labels[name]['role'] for name in SHOP))}")

    def _publish(self, canary: str) -> None:
        files = {**self.estate.policies, "shop.yaml": random_policy(self.rng)}
        if files == self.estate.policies:
            return
        self.version += 1
        also = (*self.estate.also, self.estate.policies) if canary else ()
        changed = self.estate._replace(policies=files, also=also)
        self._change(changed, lambda: self.fleet.publish(files, manner=Manner(live="cut"), canary=canary))

    def spread(self) -> None:
        """No host is left with a version that only some were to have first."""
        if self.estate.also:
            self._publish("")

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
        """A host that comes up may be without its agent for a while: the guard alone put in force what is."""
        if self.down:
            name = self.rng.choice(sorted(self.down))
            self.down.discard(name)
            with_agent = self.rng.random() < 0.5
            self.fleet.boot(name, with_agent=with_agent)
            self.dead |= set() if with_agent else {name}
            return
        name = self.rng.choice(SHOP)
        if name not in self.dead:
            self.fleet.crash(name)
            self.frozen.discard(name)
            self.down.add(name)

    def clock(self) -> None:
        self.fleet.step_clock(self.rng.choice(SHOP), self.rng.choice(OFFSETS_S))

    def tamper(self) -> None:
        """Somebody with root opens a host; where an agent owns the rules, nobody can."""
        name = self.rng.choice(SHOP)
        if name in self.down | self.tampered:
            return
        chain = self.rng.choice(("input", "output"))
        self.model.opened(name)
        try:
            argv = ("nft", "insert", "rule", "inet", "ringfence", chain, "accept", "comment", f'"{FOREIGN}"')
            self.fleet.lab.command(name, *argv)
            self.tampered.add(name)
        except RingfenceError:
            self.model.closed(name)

    def move(self) -> None:
        """The floating address goes to the other one, be the one that had it up or not."""
        before, after = self.holder, SHARERS[self.holder == SHARERS[0]]
        if after in self.down:
            return
        known = self.estate.holders
        possible = {frozenset[str](), frozenset({after}), frozenset({before, after} - {""}), *known}
        self.estate = self.estate._replace(holders=tuple(possible))
        self.model.begin(self.estate)
        if before:
            self.fleet.readdress(before, [one for one in self.fleet.addresses(before) if one != FLOATING])
        self.fleet.readdress(after, [*self.fleet.addresses(after), FLOATING])
        self.holder = after

    # ---- one step after the other -----------------------------------------------------------------------------------

    def step(self) -> None:
        breaks = (self.agent, self.agent, self.freeze, self.controller, self.bus, self.network, self.power, self.power,
                  self.clock, self.tamper, self.tamper, self.move)  # fmt: skip
        does = (self.relabel, self.relabel, self.relabel, self.publish, self.publish, self.canary, self.quarantine,
                self.quarantine)  # fmt: skip
        action = self.rng.choice((*does, *does, *breaks) if self.is_asking_possible else (*breaks, self.mend))
        self.log.append(f"{time.monotonic():.3f} epoch {self.model.epoch}: {action.__name__}")
        action()
        self.log[-1] += (
            f" -> {self.model.epoch}; down {self.down}, dead {self.dead}, frozen {self.frozen}, cut {self.cut}"
        )
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
        for name in tuple(self.tampered):
            if name in self.down or FOREIGN not in self._rules(name):
                self.tampered.discard(name)
                self.model.closed(name)
        if not self.is_asking_possible:
            return
        looked = self.fleet.look()
        for host in looked.hosts:
            if host.is_settled and host.name in self.model.hosts:
                self.model.settled(host.name, self.model.epoch)
        self._narrow(looked)

    def _rules(self, name: str) -> str:
        return self.fleet.lab.command(name, "nft", "list", "ruleset").stdout

    def _narrow(self, looked: FleetLook) -> None:
        """What is known by now: that a version is everybody's, and whose the floating address is not any more."""
        also, holders = self.estate.also, self.estate.holders
        if looked.rollout.version == self.version and looked.rollout.stage == "done":
            also = ()
        held = frozenset(host.name for host in looked.hosts if FLOATING in host.addresses)
        if held == {self.holder}:
            holders = (held,)
        elif len(held) > 1:  # two hold it, and it can only become nobody's or the newer one's
            holders = (frozenset(), held, frozenset({self.holder}))
        if (also, set(holders)) != (self.estate.also, set(self.estate.holders)):
            self.estate = self.estate._replace(also=also, holders=holders)
            self.model.begin(self.estate)

    def passes(self, one: Try) -> bool:
        """Whether a path is open in the end. What a quarantine binds it does not let go of, wherever the floating
        address goes: what passes from it then is not known here."""
        if not one.is_floating:
            return self.model.lets(one)
        return self.model.lets(one) and one.source == self.holder and not self.estate.quarantined

    def words(self) -> str:
        """How every agent says that it is, for a test that failed."""
        said = []
        for name in self.fleet.agents:
            with contextlib.suppress(RingfenceError):
                said.append(self.fleet.status(name))
        return "\n".join(said)

    def repair(self) -> None:
        """Nothing is broken any more."""
        for name in SHOP:
            self.fleet.step_clock(name, 0.0)
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
        self.spread()


class Probes:
    """Every path tried all the time, and what became of it."""

    def __init__(self, chaos: Chaos) -> None:
        self.tried: dict[Try, list[Outcome]] = {one: [] for one in chaos.model.tries}
        self.anchored: list[Outcome] = []
        address = {name: chaos.fleet.addresses(name)[0] for name in (*SHOP, *ANCHORS)}
        self._probers: list[tuple[Prober, tuple[Try, ...]]] = []
        for source in SHOP:
            tries = tuple(one for one in chaos.model.tries if one.source == source)
            aims = [
                Aim(one.transport, address[one.destination], one.port, 0.12, source=FLOATING * one.is_floating)  # type: ignore[arg-type]
                for one in tries
            ]
            self._probers.append((chaos.fleet.probe(source, aims), tries))
        kinds = (("tcp", 5432), ("held-tcp", 5432), ("udp", 123), ("held-udp", 123))
        always = [Aim(kind, address["called"], port, 0.03, 5.0) for kind, port in kinds]  # type: ignore[arg-type]
        self._anchor = chaos.fleet.probe("caller", always)

    def take(self) -> None:
        for prober, tries in self._probers:
            for outcome in prober.take():
                self.tried[tries[outcome.aim]].append(outcome)
        self.anchored += self._anchor.take()

    def settled(self, moment: float, passes: Callable[[Try], bool]) -> dict[Try, bool]:
        """What passed since then, path by path, once there is an answer of each: a probe of a path that is open may be
        lost where a busy machine has its end wait, and is tried again; one of a path that is closed passes never."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            time.sleep(1.0)
            self.take()
            found: dict[Try, bool] = {}
            for one, outcome in self.since(moment):
                found[one] = outcome.passed or found.get(one, False)
            is_answered = all(one in found and (found[one] or not passes(one)) for one in self.tried)
            if is_answered or time.monotonic() > deadline:
                return found

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
            fleet.settle()
            chaos.look()
            looked = fleet.settle()
            chaos.look()
            after = probes.settled(time.monotonic(), chaos.passes)
        except BaseException:
            print("\n".join(chaos.log), last_words(tmp_path), chaos.words())
            raise
        checked = fleet.check_audit()
    tried = list(probes.since(0.0))
    print(f"\n  seed {seed}: {chaos.model.epoch} changes, {len(tried)} probes, {len(probes.anchored)} that must pass, "
          f"{broken_s:.0f} s of chaos, settled {time.monotonic() - began - broken_s:.1f} s later")  # fmt: skip
    opened = [chaos.model.words(one, o) for one, o in tried if o.passed and not chaos.model.is_legal(one, o)]
    assert opened == [], "\n".join((*opened[:20], *chaos.log))
    assert probes.anchored
    assert [o for o in probes.anchored if not (o.passed and o.is_clean)] == [], "\n".join(chaos.log)
    assert set(after) == set(chaos.model.tries)
    judged = [one for one in after if not one.is_floating or not chaos.estate.quarantined]
    wrong = [one for one in judged if after[one] != chaos.passes(one)]
    assert wrong == [], "\n".join(chaos.log)
    assert chaos.tampered == set()
    assert {name: looked.labels[name] for name in SHOP} == {name: chaos.estate.labels[name] for name in SHOP}
    assert set(looked.quarantined) == chaos.estate.quarantined
    assert looked.policy_version == chaos.version
    assert checked.problem == ""
    assert sum(action == "policy.publish" for action, _ in checked.actions) == chaos.version
