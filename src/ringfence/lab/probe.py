"""A fast scanner: which ports of which addresses can really be reached from where it runs, and who answers there.

Every probe is a real one: a full TCP handshake, a datagram that asks for an answer, an echo request. What comes back
is told apart as `open` (a service answered the handshake, the datagram or the ping), `refused` (the host said no: RST
or port unreachable), `unreachable` (somebody on the way said no) and `filtered` (silence for the whole timeout). For
an open port the identity that the answer carried says which host and service is behind it.

One thread, one epoll, thousands of probes in flight.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from ringfence.lab import talk
from ringfence.lab.channel import answer_requests

Outcome = Literal["open", "refused", "unreachable", "filtered"]
Transport = Literal["tcp", "udp", "icmp"]
_ASK = b"GET / HTTP/1.0\r\n\r\n"
"""Makes every TCP service of a lab answer with its identity."""
_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.ENOPROTOOPT})
_ECHO = struct.Struct("!BBHHH")


class Scan(msgspec.Struct, frozen=True):
    """What to probe: every port on every address, and a ping to each."""

    addresses: tuple[str, ...]
    tcp: tuple[int, ...] = ()
    udp: tuple[int, ...] = ()
    ping: bool = False
    timeout_s: float = 2.5
    """Longer than the first retransmission of a SYN (1 s, RFC 6298 section 2), so that one lost packet hides
    nothing."""
    parallel: int = 16384
    """Probes in flight; bounded by the files a process may open."""


class Sighting(msgspec.Struct, frozen=True, array_like=True):
    """What one probe met."""

    address: str
    transport: Transport
    port: int
    outcome: Outcome
    identity: talk.Identity | None = None


class Sightings(msgspec.Struct, frozen=True):
    """Every probe's sighting, in probing order."""

    sightings: tuple[Sighting, ...]

    @property
    def open(self) -> tuple[Sighting, ...]:
        return tuple(s for s in self.sightings if s.outcome == "open")

    def count(self, outcome: Outcome) -> int:
        return sum(s.outcome == outcome for s in self.sightings)


class Target(msgspec.Struct, frozen=True):
    """One probe to make."""

    address: str
    transport: Transport
    port: int


def serve(sock: socket.socket, argument: bytes) -> None:
    """Answer scan requests until the channel closes."""

    async def answer(body: bytes) -> msgspec.Struct:
        return run(msgspec.msgpack.decode(body, type=Scan))

    asyncio.run(answer_requests(sock, answer))


def run(scan: Scan) -> Sightings:
    """Scan from the namespace this process is in."""
    targets = list(targets_of(scan))
    with select.epoll() as poller:
        found = _Scanner(poller, scan.timeout_s, min(scan.parallel, _files_allowed())).run(targets)
    return Sightings(tuple(found))


def targets_of(scan: Scan) -> Iterator[Target]:
    """Addresses vary fastest, so that a burst spreads over all hosts."""
    yield from (Target(address, "icmp", 0) for address in scan.addresses if scan.ping)
    yield from (Target(address, "tcp", port) for port in scan.tcp for address in scan.addresses)
    yield from (Target(address, "udp", port) for port in scan.udp for address in scan.addresses)


def _files_allowed() -> int:
    """Raise the soft limit on open files to the hard one; what may be open at once, less what is needed otherwise."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(16, (hard if hard != resource.RLIM_INFINITY else 1 << 20) - 64)


class _Probe:
    """One probe in flight."""

    __slots__ = ("connected", "deadline", "index", "sock", "target")

    def __init__(self, index: int, target: Target, sock: socket.socket, deadline: float) -> None:
        self.index = index
        self.target = target
        self.sock = sock
        self.deadline = deadline
        self.connected = target.transport != "tcp"


class _Scanner:
    def __init__(self, poller: select.epoll, timeout_s: float, parallel: int) -> None:
        self._poller = poller
        self._timeout_s = timeout_s
        self._parallel = parallel
        self._flying: dict[int, _Probe] = {}
        self._order: deque[tuple[float, _Probe]] = deque()
        """Deadlines in order; one that its probe has since settled or extended is skipped."""
        self._found: dict[int, Sighting] = {}

    def run(self, targets: Iterable[Target]) -> list[Sighting]:
        waiting = deque(enumerate(targets))
        while waiting or self._flying:
            while waiting and len(self._flying) < self._parallel:
                self._launch(*waiting.popleft())
                if len(waiting) % 256 == 0:
                    self._collect(0.0)
            self._collect(self._patience())
            self._expire()
        return [self._found[index] for index in sorted(self._found)]

    def _launch(self, index: int, target: Target) -> None:
        sock = _socket(target)
        probe = _Probe(index, target, sock, time.monotonic() + self._timeout_s)
        try:
            sock.connect((target.address, target.port))
            if target.transport != "tcp":
                sock.send(_ECHO.pack(_echo_type(target), 0, 0, 0, 1) if target.transport == "icmp" else talk.PROBE)
        except BlockingIOError:
            pass
        except OSError as error:
            self._settle(probe, _refusal(error.errno or 0))
            return
        self._flying[sock.fileno()] = probe
        self._order.append((probe.deadline, probe))
        self._poller.register(sock, select.EPOLLIN if probe.connected else select.EPOLLOUT)

    def _patience(self) -> float:
        while self._order and self._is_stale(*self._order[0]):
            self._order.popleft()
        return max(0.0, self._order[0][0] - time.monotonic()) if self._order else 0.0

    def _is_stale(self, deadline: float, probe: _Probe) -> bool:
        return probe.index in self._found or probe.deadline != deadline

    def _collect(self, patience_s: float) -> None:
        for fd, _ in self._poller.poll(patience_s, maxevents=4096) if self._flying else ():
            probe = self._flying[fd]
            if probe.connected:
                self._read(probe)
            else:
                self._connected(probe)

    def _connected(self, probe: _Probe) -> None:
        problem = probe.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            self._settle(probe, _refusal(problem))
            return
        probe.connected = True
        probe.deadline = time.monotonic() + self._timeout_s
        self._order.append((probe.deadline, probe))
        try:
            probe.sock.send(_ASK)
        except OSError:
            self._settle(probe, "open")  # it did accept; that it hung up at once does not close the port
            return
        self._poller.modify(probe.sock, select.EPOLLIN)

    def _read(self, probe: _Probe) -> None:
        is_stream = probe.target.transport == "tcp"
        try:
            answer = probe.sock.recv(4096)
        except BlockingIOError:
            return
        except OSError as error:
            self._settle(probe, "open" if is_stream else _refusal(error.errno or 0))
            return
        self._settle(probe, "open", talk.parse_identity(answer))

    def _expire(self) -> None:
        now = time.monotonic()
        while self._order and (self._order[0][0] <= now or self._is_stale(*self._order[0])):
            deadline, probe = self._order.popleft()
            if not self._is_stale(deadline, probe):
                self._settle(probe, "open" if probe.connected and probe.target.transport == "tcp" else "filtered")

    def _settle(self, probe: _Probe, outcome: Outcome, identity: talk.Identity | None = None) -> None:
        target = probe.target
        self._found[probe.index] = Sighting(target.address, target.transport, target.port, outcome, identity)
        self._flying.pop(probe.sock.fileno(), None)
        probe.sock.close()


def _socket(target: Target) -> socket.socket:
    is_v6 = ":" in target.address
    kind = socket.SOCK_STREAM if target.transport == "tcp" else socket.SOCK_DGRAM
    echo = socket.IPPROTO_ICMPV6 if is_v6 else socket.IPPROTO_ICMP
    sock = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, kind, echo if target.transport == "icmp" else 0)
    sock.setblocking(False)
    return sock


def _echo_type(target: Target) -> int:
    return 128 if ":" in target.address else 8


def _refusal(number: int) -> Outcome:
    """An errno of a connect, send or receive as an outcome."""
    if number == errno.ECONNREFUSED:
        return "refused"
    if number in _UNREACHABLE:
        return "unreachable"
    if number == errno.ETIMEDOUT:
        return "filtered"
    raise OSError(number, os.strerror(number))
