"""The keeper: the one process that owns a lab. It builds it, forks its processes into it, and destroys it.

INVARIANT: when the keeper's control socket closes, because it was told or because the lab's user died in whatever
way, the keeper kills its children, deletes the namespaces and releases the lab's lock. It runs in a session of its
own, so an interrupt typed at a terminal does not reach it; SIGTERM means the same as being told. When the keeper
itself is killed, its children die with it, the lock falls free, and the next `sweep` deletes the namespaces.

One thread only: it moves between namespaces and forks. Started as `python -m ringfence.lab.keeper FD`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable

import msgspec

from ringfence.core.errors import RingfenceError
from ringfence.lab import host, namespaces, probe, probing, relay, syn_scan, telemetry
from ringfence.lab.channel import Done, Failed
from ringfence.lab.world import World

MESSAGE_BYTES = 1 << 20
TASKS: dict[str, Callable[[socket.socket, bytes], None]] = {
    "host": host.serve,
    "probing": probing.serve,
    "relay": relay.serve,
    "telemetry": telemetry.serve,
    "scan": probe.serve,
    "syn-scan": syn_scan.serve,
}
"""What a child may be, each given its end of a channel and its argument."""


class Build(msgspec.Struct, frozen=True, tag="build"):
    """Make the namespaces of a world. Comes first, once."""

    world: World


class Built(msgspec.Struct, frozen=True, tag="built"):
    lab_id: str


class Spawn(msgspec.Struct, frozen=True, tag="spawn"):
    """Fork a child into a namespace (the router's world view if none); the message carries its end of a channel."""

    task: str
    argument: bytes
    namespace: str | None = None


class Run(msgspec.Struct, frozen=True, tag="run"):
    """Run a program in a namespace, under a host name of its own; `{fd}` in its arguments is the descriptor that came
    with the message."""

    argv: tuple[str, ...]
    namespace: str
    hostname: str
    log: str
    """The file its output is appended to."""


class Signal(msgspec.Struct, frozen=True, tag="signal"):
    """Send a signal to one of the lab's processes; SIGKILL is answered when the process is gone."""

    pid: int
    number: int


class Spawned(msgspec.Struct, frozen=True, tag="spawned"):
    pid: int


class TakeDown(msgspec.Struct, frozen=True, tag="down"):
    """Destroy everything and exit."""


Request = Build | Spawn | Run | Signal | TakeDown
Answer = Built | Spawned | Done | Failed


def main(fd: int) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    control = socket.socket(fileno=fd)
    claim = namespaces.Claim()
    keeper = _Keeper(control, claim)
    try:
        keeper.serve()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        keeper.destroy()
        claim.release()
    with contextlib.suppress(OSError):
        control.send(msgspec.msgpack.encode(Done()))


class _Keeper:
    def __init__(self, control: socket.socket, claim: namespaces.Claim) -> None:
        self._control = control
        self._claim = claim
        self._children: set[int] = set()

    def serve(self) -> None:
        """Answer until told to take the lab down, or until whoever asked is gone."""
        while True:
            body, fds, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, 1)
            request = msgspec.msgpack.decode(body, type=Request) if body else TakeDown()
            if isinstance(request, TakeDown):
                return
            self._control.send(msgspec.msgpack.encode(self._answer(request, fds)))

    def _answer(self, request: Build | Spawn | Run | Signal, fds: list[int]) -> Answer:
        try:
            if isinstance(request, Build):
                namespaces.build(request.world, self._claim.lab_id)
                return Built(self._claim.lab_id)
            if isinstance(request, Signal):
                return self._send_signal(request)
            return Spawned(self._spawn(request, fds))
        except RingfenceError as error:
            return Failed(error.code, error.message, error.as_finding().help)
        except OSError as error:
            return Failed("lab-build-failed", str(error).lower())

    def _spawn(self, request: Spawn | Run, fds: list[int]) -> int:
        self._reap()
        keeper = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._be(request, fds, keeper)
        for fd in fds:
            os.close(fd)
        self._children.add(pid)
        return pid

    def _send_signal(self, request: Signal) -> Answer:
        """Only to a child that was not waited for: its number is nobody else's."""
        self._reap()
        if request.pid not in self._children:
            return Failed("lab-process-lost", f"process {request.pid} is gone")
        os.kill(request.pid, request.number)
        if request.number == signal.SIGKILL:
            os.waitpid(request.pid, 0)
            self._children.discard(request.pid)
        return Done()

    def _be(self, request: Spawn | Run, fds: list[int], keeper: int) -> None:
        """The child's whole life; never returns."""
        status = 1
        try:
            namespaces.die_with_parent(keeper)
            os.close(self._claim.fd)
            self._control.close()
            if request.namespace is not None:
                namespaces.enter(request.namespace)
            if isinstance(request, Run):
                _become(request, fds)
            else:
                TASKS[request.task](socket.socket(fileno=fds[0]), request.argument)
            status = 0
        except BaseException as error:  # nothing may escape into the keeper's own code
            name = request.argv[0] if isinstance(request, Run) else request.task
            print(f"lab process {name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)

    def _reap(self) -> None:
        for pid in tuple(self._children):
            if os.waitpid(pid, os.WNOHANG)[0]:
                self._children.discard(pid)

    def destroy(self) -> None:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        for pid in self._children:
            os.waitpid(pid, 0)
        self._children.clear()
        namespaces.destroy(self._claim.lab_id)


def _become(request: Run, fds: list[int]) -> None:
    """Replace this process by a program; the kernel still kills it with the keeper (prctl(2): kept across execve)."""
    namespaces.enter_hostname(request.hostname)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    log = os.open(request.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for fd in fds:
        os.set_inheritable(fd, True)
    argv = [argument.format(fd=fds[0]) if fds else argument for argument in request.argv]
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main(int(sys.argv[1]))
