"""A fleet in a lab: one real controller, and a real agent in every host's namespace, each a process of its own.

    with Fleet.up(world, folder=folder) as fleet:
        fleet.join("web-1", labels={"app": "shop", "role": "web"}, mode="enforce")
        fleet.publish({"shop.yaml": text})
        fleet.settle()                          # what every host read back is what is meant
        fleet.kill_controller(); fleet.partition("web-1"); fleet.reboot("web-1"); fleet.kill_bus()

The controller has a network of its own behind the lab's router, so whatever cuts it off happens where networks are cut:
in the router, never in a host's rules.

INVARIANT: every process is the keeper's child and dies with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec

from ringfence.agent import main as agent_main
from ringfence.agent.config import Config
from ringfence.agent.held.disk import Disk
from ringfence.controller.desired.inputs import Manner
from ringfence.core.errors import RingfenceError
from ringfence.core.identity.workload import Mode, ModeName
from ringfence.lab import fleet_controller as asked
from ringfence.lab import namespaces, probing, stepped
from ringfence.lab.channel import Channel, Done
from ringfence.lab.fleet_controller import AuditChecked, FleetLook
from ringfence.lab.lab import Lab, Program
from ringfence.lab.probing import Aim, Outcome
from ringfence.lab.world import Host, Network, World
from ringfence.ports.state import WrittenException

Answer = TypeVar("Answer")
CONTROLLER: Final = "controller"
ADDRESS: Final = "10.254.254.2"
_NETWORK: Final = Network("management", ("10.254.254.0/24",))
_ANSWER_S = 60.0
_SETTLE_S = 60.0
_POLL_S = 0.05
_LAB_LOG_GROUP = 4242
"""The agents listen to the group that rules log to; the lab's own telemetry must not."""


def with_controller(world: World) -> World:
    """The same world with a place for the controller, which is no workload of it."""
    host = Host(CONTROLLER, _NETWORK.name, (ADDRESS,), kind="outside")
    return msgspec.structs.replace(world, networks=(*world.networks, _NETWORK), hosts=(*world.hosts, host))


class Fleet:
    """A fleet that is up. Make it with `Fleet.up`. For one thread."""

    def __init__(self, lab: Lab, folder: Path, config: Config, unruly: int | None) -> None:
        self.lab, self.folder = lab, folder
        self._unruly = unruly
        self._config = config
        self.policy: dict[str, str] = {}
        """The files of the newest version."""
        self._controller: Program | None = None
        self._agents: dict[str, Program] = {}
        self._frozen: set[int] = set()
        self._partitioned: set[str] = set()
        self._moved: dict[str, tuple[str, ...]] = {}
        self._down: set[str] = set()
        self._sources: dict[str, Path] = {}

    @classmethod
    def up(
        cls, world: World | str = "shop", *, folder: Path, config: Config | None = None, unruly: int | None = None
    ) -> Fleet:
        """The lab and its controller; hosts join one by one. `config`: of the agents, but for where they keep what;
        `unruly`: the seed of a bus that loses, repeats and reorders what hosts are told.

        Raises as `Lab.up`.
        """
        from ringfence.lab.description import find_world

        found = find_world(world) if isinstance(world, str) else world
        lab = Lab.up(with_controller(found), flows_dir=folder / "flows", nflog_group=_LAB_LOG_GROUP)
        fleet = cls(lab, folder, config or Config(heartbeat_s=asked.HEARTBEAT_S, flows_s=5.0), unruly)
        try:
            fleet.start_controller()
        except BaseException:
            lab.down()
            raise
        return fleet

    def down(self) -> None:
        self.lab.down()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    # ---- the controller ---------------------------------------------------------------------------------------------

    def start_controller(self) -> None:
        """Return once it answers."""
        seed = () if self._unruly is None else (str(self._unruly),)
        argv = (
            *self._python(CONTROLLER),
            "-m",
            asked.__name__,
            "{fd}",
            str(self.folder / "controller"),
            ADDRESS,
            *seed,
        )
        self._controller = self.lab.start_program(CONTROLLER, argv, log=self.folder / "controller.log")
        self.look(proves=False)

    def kill_controller(self) -> None:
        """As `kill -9`; its bus dies with it. What it acknowledged is on its disk."""
        program = self._running_controller()
        self._controller = None
        self.lab.send_signal(program.pid, signal.SIGKILL)
        program.channel.close()

    def stop_controller(self) -> None:
        """As a service is stopped: its channel closes, it finishes what it began."""
        program = self._running_controller()
        self._controller = None
        program.channel.close()
        _wait(lambda: _is_gone(program.pid), "the controller does not stop")

    def kill_bus(self) -> None:
        """The server process alone; the controller starts another."""
        pid = self.look(proves=False).bus_pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    @property
    def is_controller_up(self) -> bool:
        return self._controller is not None

    def freeze(self, *names: str) -> None:
        """Stop processes without ending them: agents by their host, or the controller."""
        for pid in map(self._pid, names):
            self.lab.send_signal(pid, signal.SIGSTOP)
            self._frozen.add(pid)

    def thaw(self, *names: str) -> None:
        for pid in map(self._pid, names):
            self.lab.send_signal(pid, signal.SIGCONT)
            self._frozen.discard(pid)

    def _pid(self, name: str) -> int:
        return (self._running_controller() if name == CONTROLLER else self._agents[name]).pid

    def _running_controller(self) -> Program:
        if self._controller is None:
            raise RingfenceError("lab-process-lost", "the controller is not running", help="start it")
        return self._controller

    # ---- what people ask --------------------------------------------------------------------------------------------

    def ask(self, request: msgspec.Struct, answer: type[Answer]) -> Answer:
        """Anything of `fleet_controller`. Raises RingfenceError: the controller's own, or `lab-process-lost`."""
        return self._running_controller().channel.call(request, answer, timeout_s=_ANSWER_S)

    def look(self, *, proves: bool = True) -> FleetLook:
        return self.ask(asked.Look(proves), FleetLook)

    def relabel(self, host: str, labels: Mapping[str, str]) -> None:
        self.ask(asked.Relabel(host, dict(labels)), Done)

    def set_mode(self, host: str, mode: ModeName) -> None:
        self.ask(asked.SetMode(host, Mode.both(mode)), Done)

    def retire(self, host: str, why: str) -> None:
        self.ask(asked.Retire(host, why), Done)

    def publish(self, files: Mapping[str, str], *, manner: Manner | None = None, canary: str = "") -> int:
        """The number of the new version."""
        request = asked.Publish(dict(files), manner or Manner(), canary)
        version = self.ask(request, asked.Published).version
        self.policy = dict(files)
        return version

    def quarantine(
        self, host: str, why: str, *, allow: tuple[WrittenException, ...] = (), seconds: float | None = None
    ) -> None:
        self.ask(asked.Quarantine(host, why, allow, seconds), Done)

    def release(self, host: str, why: str) -> None:
        self.ask(asked.Release(host, why), Done)

    def check_audit(self) -> AuditChecked:
        return self.ask(asked.CheckAudit(), AuditChecked)

    def settle(self, *, within_s: float = _SETTLE_S) -> FleetLook:
        """Wait until what every host with an agent read back is what is meant, compiled anew. Raises RingfenceError
        `lab-not-settled`."""
        deadline = time.monotonic() + within_s
        while True:
            looked = self.look()
            behind = [one for one in looked.hosts if one.name in self._agents and not one.is_settled]
            if not behind:
                return looked
            if time.monotonic() > deadline:
                raise RingfenceError("lab-not-settled", f"`{behind[0].name}` is not as meant: {behind[0]}")
            time.sleep(_POLL_S)

    # ---- hosts ------------------------------------------------------------------------------------------------------

    def join(self, name: str, *, labels: Mapping[str, str] | None = None, mode: ModeName = "enforce") -> str:
        """Enrol a host and start its agent; its UUID."""
        labels = self.lab.world.by_name[name].labels if labels is None else labels
        token = self.ask(asked.Invite(f"{name}-{time.monotonic_ns()}", dict(labels), Mode.both(mode)), asked.Told).text
        return self.enrol(name, token)

    def enrol(self, name: str, token: str) -> str:
        """Let a host join by a token, under its own name, and start its agent; its UUID."""
        self.state_of(name).mkdir(parents=True, mode=0o700)
        argv = self._agent(name, "enrol", "--token", token)
        named = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name)
        self.lab.command(name, *named, *argv)
        self.start_agent(name)
        return Disk(self.state_of(name)).load_trust().workload

    def state_of(self, name: str) -> Path:
        """The state directory of a host's agent."""
        return self.folder / "agents" / name

    def start_agent(self, name: str) -> None:
        """The service of a host."""
        program = self.lab.start_program(name, self._agent(name, "run"), log=self._log(name))
        program.channel.close()
        self._agents[name] = program

    def _agent(self, name: str, *words: str) -> tuple[str, ...]:
        path = self.folder / "agents" / f"{name}.toml"
        config = {key: getattr(self._config, key) for key in ("heartbeat_s", "audit_s", "watch_s", "flows_s")}
        path.write_text("".join(f"{key} = {value}\n" for key, value in config.items()))
        command, *rest = words
        state = ("--dir", str(self.state_of(name)), "--config", str(path))
        return (*self._program(name), command, *state, *rest)

    def _program(self, name: str) -> tuple[str, ...]:
        clock = self._clock(name)
        own = (stepped.__name__, str(clock)) if clock.exists() else (agent_main.__name__,)
        return (*self._python(name), "-m", *own)

    def run_from(self, name: str, source: Path | None) -> None:
        """Another version: the folder of Python source that a host's agent, or the controller, runs from at its next
        start; None: this one."""
        if source is None:
            self._sources.pop(name, None)
        else:
            self._sources[name] = source

    def runs_from(self, name: str) -> Path | None:
        return self._sources.get(name)

    def _python(self, name: str) -> tuple[str, ...]:
        source = self._sources.get(name)
        return (sys.executable,) if source is None else ("/usr/bin/env", f"PYTHONPATH={source}", sys.executable)

    def _clock(self, name: str) -> Path:
        return self.folder / "agents" / f"{name}.clock"

    def step_clock(self, name: str, seconds: float) -> None:
        """The host's wall clock is so far off from now on. Its agent must have been started since the first step."""
        place = self._clock(name)
        place.parent.mkdir(exist_ok=True)
        fresh = place.with_suffix(".next")
        fresh.write_text(str(seconds))
        fresh.replace(place)

    def _log(self, name: str) -> Path:
        return self.folder / "agents" / f"{name}.log"

    def command(self, name: str, *words: str) -> str:
        """`ringfence-agent WORDS` inside a host; what it printed. Raises RingfenceError `lab-command-failed`."""
        return self.lab.command(name, *self._agent(name, *words)).stdout

    def status(self, name: str) -> str:
        """What `ringfence-agent status` says there, be it good or not."""
        state = ("--dir", str(self.state_of(name)), "--json")
        argv = (*self._program(name), "status", *state)
        return self.lab.command(name, "sh", "-c", '"$@" || true', "status", *argv).stdout

    def kill_agent(self, name: str) -> None:
        """As `kill -9`."""
        program = self._agents.pop(name)
        self._frozen.discard(program.pid)
        with contextlib.suppress(RingfenceError):  # it ended by itself
            self.lab.send_signal(program.pid, signal.SIGKILL)

    def stop_agent(self, name: str) -> None:
        """As a service is stopped."""
        program = self._agents.pop(name)
        self.lab.send_signal(program.pid, signal.SIGTERM)
        _wait(lambda: _is_gone(program.pid), f"the agent of `{name}` does not stop")

    @property
    def agents(self) -> Mapping[str, int]:
        """The process of each host's agent."""
        return {name: program.pid for name, program in self._agents.items()}

    def reboot(self, name: str) -> None:
        """Power off and on: memory of the kernel and the agent is lost; the guard runs before the network is up."""
        self.crash(name)
        self.boot(name)

    def crash(self, name: str) -> None:
        """The power fails."""
        self._down.add(name)
        self.lab.command(name, "ip", "link", "set", "eth0", "down")
        if name in self._agents:
            self.kill_agent(name)
        self.lab.command(name, "nft", "flush", "ruleset")
        with contextlib.suppress(RingfenceError):  # a table with an owner is gone with its agent, or is freed by this
            self.lab.command(name, "nft", "delete", "table", "inet", "ringfence")
        self.lab.command(name, "conntrack", "-F")

    def boot(self, name: str, *, with_agent: bool = True) -> None:
        """The guard, then the network, then the agent."""
        namespaces.track(self.lab.namespace(name))
        self.command(name, "boot")
        self._down.discard(name)
        self._network_up(name)
        if with_agent:
            self.start_agent(name)

    def _network_up(self, name: str) -> None:
        """What the host's own boot would do: a link that went down lost its routes and IPv6 addresses."""
        host = self.lab.world.by_name[name]
        network = next(one for one in self.lab.world.networks if one.name == host.network)
        self.lab.command(name, "ip", "link", "set", "eth0", "up")
        for address in self.addresses(name):
            gateway = next(g for g in network.gateways() if (":" in address) == (g.version == 6))
            self.lab.command(name, "ip", "addr", "replace", f"{address}/{gateway.network.prefixlen}", "dev", "eth0")
            self.lab.command(name, "ip", "route", "replace", "default", "via", str(gateway.ip))

    # ---- networks ---------------------------------------------------------------------------------------------------

    def addresses(self, name: str) -> tuple[str, ...]:
        """Those a host has now."""
        return self._moved.get(name, self.lab.world.by_name[name].addresses)

    def readdress(self, name: str, addresses: Sequence[str]) -> None:
        """A host has these addresses from now on; one that is down, when it comes up."""
        for address in set(self.addresses(name)) - set(addresses):
            self.lab.command(name, "ip", "addr", "del", f"{address}/{24 if '.' in address else 64}", "dev", "eth0")
        self._moved[name] = tuple(addresses)
        if name not in self._down:
            self._network_up(name)
            self._announce()

    def _announce(self) -> None:
        """What a host that takes an address over tells everybody (RFC 5227 section 2.3)."""
        namespaces.forget_neighbours(namespaces.name_of(self.lab.lab_id, namespaces.ROUTER))

    def partition(self, *names: str) -> None:
        """Nothing passes between these hosts and the controller, silently."""
        self._cut(self._partitioned | set(names))

    def heal(self, *names: str) -> None:
        """These hosts reach the controller again; all of them, where none is named."""
        self._cut(self._partitioned - set(names or self._partitioned))

    def _cut(self, names: set[str]) -> None:
        self._partitioned = set(names)
        addresses = sorted(a for name in names for a in self.addresses(name) if "." in a)
        some = f"{{ {', '.join(addresses)} }}" if addresses else ""
        rules = [f"ip saddr {some} ip daddr {ADDRESS} drop", f"ip daddr {some} ip saddr {ADDRESS} drop"] if some else []
        chain = ("chain cut {", "type filter hook forward priority 0", *rules, "}")
        text = "\n".join(("table inet cut {", "}", "flush table inet cut", "table inet cut {", *chain, "}", ""))
        namespaces.load_rules(namespaces.name_of(self.lab.lab_id, namespaces.ROUTER), text)

    # ---- probes -----------------------------------------------------------------------------------------------------

    def probe(self, host: str, aims: Sequence[Aim]) -> Prober:
        """Try these from a host, over and over, until closed."""
        return Prober(self.lab.start_task("probing", probing.ProbingTask(tuple(aims)), host), tuple(aims))


class Prober:
    """Probes that go on."""

    def __init__(self, channel: Channel, aims: tuple[Aim, ...]) -> None:
        self._channel, self.aims = channel, aims

    def take(self) -> tuple[Outcome, ...]:
        """What became of the attempts that ended since this was last asked."""
        return self._channel.call(probing.Take(), probing.Outcomes, timeout_s=_ANSWER_S).outcomes

    def close(self) -> None:
        self._channel.close()


def _is_gone(pid: int) -> bool:
    """Whether a process ended, be it waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def _wait(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _ANSWER_S
    while not holds():
        if time.monotonic() > deadline:
            raise RingfenceError("lab-process-slow", otherwise)
        time.sleep(_POLL_S)
