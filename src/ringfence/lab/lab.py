"""A running lab: a world of real hosts, up for as long as a `with` block lasts.

    with Lab.up("shop", flows_dir=folder) as lab:
        lab.run(20)                      # applications talk; the kernel's flow records land in flows_dir
        lab.check_paths()                # one real exchange over every declared path and family
        lab.scan("laptop", ports)        # what can be reached from there, and who answers
        lab.blocked()                    # packets that Ringfence's rules logged

INVARIANT: this process never changes its own namespace and never forks; the keeper process does both. However this
process ends, the keeper destroys the lab.

Enforcement is not done here: a lab offers namespaces, and a target enforces in them.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path as FilePath
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

import msgspec

from ringfence.core.errors import InputError, RingfenceError
from ringfence.core.identity.inventory import Inventory
from ringfence.flows.conntrack.nflog import BlockedAttempt
from ringfence.lab import host, keeper, namespaces, probe, telemetry, vpc_log, zeek_log
from ringfence.lab.channel import Channel, Done, Failed
from ringfence.lab.clients import PathCheck, Tally
from ringfence.lab.description import find_world
from ringfence.lab.probe import Scan, Sightings
from ringfence.lab.syn_scan import LAST_PORT, SynFound, SynScan
from ringfence.lab.telemetry import FlowRecord
from ringfence.lab.world import World
from ringfence.targets.nftables.statements import LOG_GROUP

Answer = TypeVar("Answer")
KEPT = 1_000_000
_BUILD_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 30.0
_FLUSH_EVERY_S = 5.0
_SO_SNDBUFFORCE = 32


class Program(NamedTuple):
    """A program that runs in a lab."""

    pid: int
    channel: Channel


class Lab:
    """One lab that is up. Make it with `Lab.up`.

    `scan`, `syn_scan` and `command` may be called from several threads at once; the rest is for one.
    """

    def __init__(self, world: World, flows_dir: FilePath, nflog_group: int) -> None:
        self.world = world
        self.flows_dir = flows_dir
        """What the managed hosts saw, growing at each flush: `vpc/HOST.log`, and together `zeek/conn.log`."""
        self.inventory: Inventory = world.inventory()
        self.records: deque[FlowRecord] = deque(maxlen=KEPT)
        """The latest flow records."""
        self.record_count = 0
        """How many there were since the lab came up."""
        self.dropped = 0
        """Telemetry messages that the kernel could not deliver; 0 means the records are complete."""
        self.unfinished = 0
        """Connections whose end was among them."""
        self._nflog_group = nflog_group
        self._blocked: deque[BlockedAttempt] = deque(maxlen=KEPT)
        self._hosts: dict[str, Channel] = {}
        self._asking = threading.Lock()
        self._control, inherited = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, keeper.MESSAGE_BYTES)
        with inherited:
            command = [sys.executable, "-m", keeper.__name__, str(inherited.fileno())]
            self._keeper = subprocess.Popen(command, pass_fds=[inherited.fileno()], start_new_session=True)
        self.lab_id = ""

    @classmethod
    def up(cls, world: World | str = "shop", *, flows_dir: FilePath, nflog_group: int = LOG_GROUP) -> Lab:
        """Build the world and start its services; clients stay quiet until `run`.

        A world is a value, the name of one that ships with Ringfence, or the path of a YAML description.
        Sweeps leftovers of dead labs first. Raises RingfenceError: `lab-needs-root`, `lab-tool-missing`,
        `lab-command-failed` and those of a lab process; whatever was built is gone again then.
        """
        namespaces.preflight()
        namespaces.sweep()
        lab = cls(find_world(world) if isinstance(world, str) else world, flows_dir, nflog_group)
        try:
            lab._start()
        except BaseException:
            lab.down()
            raise
        return lab

    def _start(self) -> None:
        built = self._ask_keeper(keeper.Build(self.world))
        assert isinstance(built, keeper.Built)
        self.lab_id = built.lab_id
        listening = telemetry.TelemetryTask(tuple(self._stations()), self._nflog_group)
        self._telemetry = self.start_task("telemetry", listening, None)
        for one in self.world.hosts:
            self._hosts[one.name] = self.start_task("host", host.HostTask(self.world, one.name), one.name)
        for channel in self._hosts.values():
            channel.call(host.Ready(), Done, timeout_s=_ANSWER_TIMEOUT_S)
        self.flush()

    def _stations(self) -> Iterable[telemetry.Station]:
        for one in self.world.managed:
            yield telemetry.Station(one.name, self.namespace(one.name), one.addresses)

    def down(self) -> None:
        """Kill the lab's processes and delete its namespaces; nothing happens the second time."""
        if self._keeper.returncode is not None:
            return
        for channel in self._hosts.values():
            channel.close()
        with contextlib.suppress(OSError):
            self._control.send(msgspec.msgpack.encode(keeper.TakeDown()))
        with self._control:
            try:
                self._keeper.wait(_BUILD_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._keeper.kill()
                self._keeper.wait()
        namespaces.sweep()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    @property
    def keeper_pid(self) -> int:
        """The process that owns this lab; the parent of all of its processes."""
        return self._keeper.pid

    def namespace(self, host_name: str) -> str:
        """The network namespace of a host, as `ip netns` names it. Raises InputError `lab-unknown-host`."""
        if host_name not in self.world.by_name:
            raise InputError("lab-unknown-host", f"there is no host `{host_name}`", help="see the world's description")
        return namespaces.name_of(self.lab_id, host_name)

    def start_clients(self) -> None:
        """Let every client talk until `stop_clients`."""
        self._all_hosts(host.StartClients(), Done)

    def stop_clients(self) -> tuple[Tally, ...]:
        """Silence the clients; what became of each path since they started."""
        stopped = self._all_hosts(host.StopClients(), host.Tallies)
        self.flush()
        return tuple(tally for one in stopped for tally in one.tallies)

    def tallies(self) -> tuple[Tally, ...]:
        """What became of each path since the clients started; they go on."""
        return tuple(tally for one in self._all_hosts(host.CountClients(), host.Tallies) for tally in one.tallies)

    def run(self, seconds: float, *, on_tick: Callable[[float], None] | None = None) -> tuple[Tally, ...]:
        """Let every client talk for a while; what became of each path. `on_tick` is told the seconds gone by."""
        self.start_clients()
        self.wait(seconds, on_tick=on_tick)
        return self.stop_clients()

    def wait(self, seconds: float, *, on_tick: Callable[[float], None] | None = None) -> None:
        """Let time pass while telemetry is fetched now and then."""
        begin = time.monotonic()
        flushed = begin
        while (gone := time.monotonic() - begin) < seconds:
            time.sleep(min(0.2, seconds - gone))
            if time.monotonic() - flushed > _FLUSH_EVERY_S:
                self.flush()
                flushed = time.monotonic()
            if on_tick is not None:
                on_tick(time.monotonic() - begin)

    def check_paths(self) -> tuple[PathCheck, ...]:
        """One fresh exchange over every declared path and family, all at once."""
        checked = self._all_hosts(host.CheckPaths(), host.Checks)
        return tuple(check for one in checked for check in one.checks)

    def scan(
        self,
        from_host: str,
        *,
        tcp: Sequence[int] = (),
        udp: Sequence[int] = (),
        ping: bool = True,
        targets: Sequence[str] | None = None,
        timeout_s: float | None = None,
    ) -> Sightings:
        """Probe ports of hosts (default: every other host) on all their addresses from a host's namespace."""
        asked = Scan(self._addresses(from_host, targets), tuple(tcp), tuple(udp), ping)
        asked = asked if timeout_s is None else msgspec.structs.replace(asked, timeout_s=timeout_s)
        channel = self.start_task("scan", Done(), from_host)
        try:
            rounds = 1 + len(list(probe.targets_of(asked))) // asked.parallel
            return channel.call(asked, Sightings, timeout_s=_ANSWER_TIMEOUT_S + 4 * rounds * asked.timeout_s)
        finally:
            channel.close()

    def syn_scan(self, from_host: str, *, targets: Sequence[str] | None = None, last_port: int = LAST_PORT) -> SynFound:
        """Every TCP port of hosts (default: every other host) by bare SYNs from a host's namespace."""
        addresses = self._addresses(from_host, targets)
        families = [tuple(a for a in addresses if (":" in a) == is_v6) for is_v6 in (False, True)]
        with ThreadPoolExecutor(2) as pool:
            parts = list(
                pool.map(lambda some: self._syn_scan(from_host, SynScan(some, last_port)), filter(None, families))
            )
        found = tuple(sorted(door for part in parts for door in part.open))
        return SynFound(sum(part.sent for part in parts), found, sum(part.refused for part in parts))

    def _syn_scan(self, from_host: str, asked: SynScan) -> SynFound:
        channel = self.start_task("syn-scan", Done(), from_host)
        try:
            return channel.call(asked, SynFound, timeout_s=_ANSWER_TIMEOUT_S + len(asked.addresses) * 30.0)
        finally:
            channel.close()

    def _addresses(self, from_host: str, targets: Sequence[str] | None) -> tuple[str, ...]:
        names = [one.name for one in self.world.hosts if one.name != from_host] if targets is None else targets
        return tuple(address for name in names for address in self.world.by_name[name].addresses)

    def blocked(self) -> tuple[BlockedAttempt, ...]:
        """The packets that rules logged since this was last asked, at most the latest million."""
        self.flush()
        blocked = tuple(self._blocked)
        self._blocked.clear()
        return blocked

    def flush(self) -> tuple[FlowRecord, ...]:
        """Fetch what the kernel saw since the last flush and append it to the flow log files."""
        report = self._telemetry.call(telemetry.Flush(), telemetry.Report, timeout_s=_ANSWER_TIMEOUT_S)
        self.records += report.records
        self.record_count += len(report.records)
        self._blocked += report.blocked
        self.dropped, self.unfinished = report.dropped, report.unfinished
        managed = self.world.managed
        reporting = {address for one in managed for address in one.addresses}
        vpc_log.append(self.flows_dir / "vpc", report.records, report.blocked, [one.name for one in managed])
        zeek_log.append(self.flows_dir / "zeek" / "conn.log", report.records, reporting)
        return report.records

    def command(self, host_name: str, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a program inside a host. Raises RingfenceError `lab-command-failed`."""
        inside = ["nsenter", f"--net={namespaces.MOUNTS / self.namespace(host_name)}", *argv]
        done = subprocess.run(inside, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            message = f"`{' '.join(argv)}` on `{host_name}` failed: {done.stderr.strip() or done.returncode}"
            raise RingfenceError("lab-command-failed", message)
        return done

    def _all_hosts(self, request: msgspec.Struct, answer: type[Answer]) -> list[Answer]:
        """Ask every host at once; a slow one does not make the others wait to begin."""

        def ask(channel: Channel) -> Answer:
            return channel.call(request, answer, timeout_s=_ANSWER_TIMEOUT_S)

        with ThreadPoolExecutor(len(self._hosts)) as pool:
            return list(pool.map(ask, self._hosts.values()))

    def start_task(self, task: str, argument: msgspec.Struct, host_name: str | None) -> Channel:
        """Fork one of `keeper.TASKS` into a host; it ends when its channel closes."""
        ours, theirs = socket.socketpair()
        namespace = self.namespace(host_name) if host_name is not None else None
        with theirs:
            self._ask_keeper(keeper.Spawn(task, msgspec.msgpack.encode(argument), namespace), theirs.fileno())
        return Channel(ours)

    def start_program(self, host_name: str, argv: Sequence[str], *, log: FilePath) -> Program:
        """Run a program in a host's namespace for as long as the lab is up. `{fd}` in its arguments is its end of the
        channel."""
        ours, theirs = socket.socketpair()
        with theirs:
            asked = keeper.Run(tuple(argv), self.namespace(host_name), host_name, str(log))
            spawned = self._ask_keeper(asked, theirs.fileno())
        assert isinstance(spawned, keeper.Spawned)
        return Program(spawned.pid, Channel(ours))

    def send_signal(self, pid: int, number: int) -> None:
        """To a program of this lab; returns after SIGKILL when it is gone. Raises RingfenceError `lab-process-lost`."""
        self._ask_keeper(keeper.Signal(pid, number))

    def _ask_keeper(self, request: msgspec.Struct, *fds: int) -> keeper.Answer:
        self._control.settimeout(_BUILD_TIMEOUT_S)
        try:
            with self._asking:
                socket.send_fds(self._control, [msgspec.msgpack.encode(request)], fds)
                body = self._control.recv(keeper.MESSAGE_BYTES)
        except OSError as error:
            raise RingfenceError("lab-keeper-lost", f"the lab's keeper does not answer: {error}".lower()) from error
        if not body:
            raise RingfenceError("lab-keeper-lost", "the lab's keeper is gone", help="its last words are on stderr")
        answer: keeper.Answer = msgspec.msgpack.decode(body, type=keeper.Answer)
        if isinstance(answer, Failed):
            raise RingfenceError(answer.code, answer.message, help=answer.help)
        return answer
