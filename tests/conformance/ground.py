"""Two namespaces and a wire between them: a host that enforces, and a peer that is everybody else.

Either side owns every address there is (a local default route for what comes in), so any case's addresses can be
played without being configured. Both ends have one link address and no ARP: nothing but the packets asked for moves.

INVARIANT: packets of one direction stay in order, because one processor sends and receives them all. So what has not
come before the barrier, a packet that always passes, will not come.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from conformance import frames
from conformance.frames import ACK, SYN, Seen

from ringfence.core.net.address import LOOPBACK, format_address, is_v4, parse_address
from ringfence.core.net.service import ICMP, ICMPV6, PORTED, TCP, UDP
from ringfence.flows.conntrack import netlink
from ringfence.targets.nftables.netlink import in_namespace

PATIENCE_S = 60
"""Only a broken build waits so long."""
LINK = bytes.fromhex("020000000001")
DEVICE = "v"
TABLE = 100
_INDEX = 100
"""Of the wire's end in either namespace."""
_HERE, _THERE = parse_address("198.18.0.1"), parse_address("198.18.0.2")
_CLIENT, _SERVER = 68, 67
"""DHCP passes every mode and every quarantine, so it is the barrier."""
_IP_TRANSPARENT, _IPV6_TRANSPARENT, _SO_RCVBUFFORCE = 19, 75, 33
_REFUSED = (errno.EPERM, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EACCES)
"""What a program is told whose connection its own host blocks."""
_ECHO_REPLIES = {(ICMP, 8): 0, (ICMPV6, 128): 129}
_FORGET = 1 << 8 | 2
"""ctnetlink's delete; without a tuple, of all (linux/netfilter/nfnetlink_conntrack.h)."""
_OUTGOING = 4
_ETHERNET = {True: b"\x08\x00", False: b"\x86\xdd"}
_SETTINGS = {
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/v/rp_filter": "0",
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv6/icmp/ratelimit": "0",
    "net/netfilter/nf_conntrack_checksum": "0",
}


class Connection(NamedTuple):
    """One new connection to try: what a hearing is about."""

    source: int
    destination: int
    protocol: int
    ports: tuple[int, int]
    """Source and destination; for ICMP (a number, the type)."""


class Ground:
    """The host `host` and the peer `peer`; everything is gone at the end."""

    def __init__(self, prefix: str) -> None:
        self.host, self.peer = f"{prefix}h", f"{prefix}p"
        self._stack = ExitStack()

    def __enter__(self) -> Ground:
        with ExitStack() as stack:
            stack.callback(_ip, *(f"netns del {name}" for name in (self.host, self.peer)), goes_on=True)
            processors = os.sched_getaffinity(0)
            stack.callback(os.sched_setaffinity, 0, processors)
            os.sched_setaffinity(0, {min(processors)})
            self._build()
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _build(self) -> None:
        _ip(f"netns add {self.host}", f"netns add {self.peer}")
        ends = (f"{DEVICE} index {_INDEX} netns {name}" for name in (self.host, self.peer))
        _ip("link add {} type veth peer {}".format(*ends))
        for name in (self.host, self.peer):
            in_namespace(name, _set)
            _ip(
                "link set lo up",
                f"link set {DEVICE} address {LINK.hex(':')} arp off addrgenmode none up",
                *(
                    f"-{family} {line}"
                    for family in (4, 6)
                    for line in (
                        f"rule add pref 1 iif {DEVICE} lookup {TABLE}",
                        f"route add local default dev lo table {TABLE}",
                        f"route add default dev {DEVICE}",
                    )
                ),
                f"-6 route add local fe80::/10 dev {DEVICE} table {TABLE}",
                namespace=name,
            )

    def _open(self, stack: ExitStack) -> None:
        self._wire = stack.enter_context(in_namespace(self.peer, _wire))
        self._conntrack = stack.enter_context(in_namespace(self.host, netlink.open_socket))
        self._barrier = stack.enter_context(in_namespace(self.host, lambda: bound(_HERE, _CLIENT, UDP)))

    def forget(self) -> None:
        """Let the host's kernel forget every connection, so that what comes next is new."""
        netlink.acknowledged(self._conntrack, netlink.request(_FORGET, netlink.NLM_F_ACK, socket.AF_UNSPEC, 0))

    # -- one connection --

    def arrives(self, tried: Connection, program: Program | None = None) -> bool:
        """Whether a new connection from the peer reaches the host; TCP is established, UDP and echo are answered."""
        if tried.protocol == TCP:
            return self._tcp(tried, client=self.peer, server=self.host, program=program)
        reply = _ECHO_REPLIES.get((tried.protocol, tried.ports[1]))
        with ExitStack() as stack:
            if reply is not None:
                stack.enter_context(self._holding(tried.destination))
            receiver = stack.enter_context(in_namespace(self.host, lambda: _receiver(tried)))
            self._inject(tried)
            seen = self._round()
            if not _is_readable(receiver):
                return False
            if tried.protocol == UDP:
                receiver.sendto(b"ring", receiver.recvfrom(64)[1])
                seen = self._round()
        if tried.protocol == UDP or reply is not None:
            ports = (0, reply) if reply is not None else tried.ports[::-1]
            answer = Seen(tried.destination, tried.source, tried.protocol, ports)
            assert answer in seen, "what was allowed is not answered"
        return True

    def leaves(self, tried: Connection, program: Program | None = None) -> bool:
        """Whether a new connection from the host reaches the wire; TCP is established."""
        if tried.protocol == TCP:
            return self._tcp(tried, client=self.host, server=self.peer, program=program)
        inner = frames.content(tried.source, tried.destination, tried.protocol, tried.ports, tried.ports[0])
        packet = frames.datagram(tried.source, tried.destination, tried.protocol, inner)
        with in_namespace(self.host, lambda: _sender(tried.source)) as sender, suppress(PermissionError):
            sender.sendto(packet, _sockaddr(tried.destination, 0))
        return first_packet(tried) in self._round()

    def inside(self, tried: Connection) -> bool:
        """Whether the host reaches itself."""
        with ExitStack() as stack:
            for address in {tried.source, tried.destination}:
                stack.enter_context(self._holding(address))
            return self._tcp(tried, client=self.host, server=self.host, is_on_wire=False)

    @contextmanager
    def _holding(self, address: int) -> Iterator[None]:
        """Give the host an address outright: its kernel answers echo, and routes to itself, from no other."""
        if address in LOOPBACK:
            yield
            return
        _ip(f"addr add {format_address(address)} dev lo", namespace=self.host)
        try:
            yield
        finally:
            _ip(f"addr del {format_address(address)} dev lo", namespace=self.host)

    def _inject(self, tried: Connection) -> None:
        inner = frames.content(tried.source, tried.destination, tried.protocol, tried.ports, tried.ports[0])
        packet = frames.datagram(tried.source, tried.destination, tried.protocol, inner)
        self._wire.send(LINK + LINK + _ETHERNET[is_v4(tried.source)] + packet)

    def _tcp(
        self, tried: Connection, *, client: str, server: str, program: Program | None = None, is_on_wire: bool = True
    ) -> bool:
        """Connect; passed is what the wire shows before the barrier, and then the connection must be established."""
        with ExitStack() as stack:
            make_server = self._maker(program if server == self.host else None)
            make_client = self._maker(program if client == self.host else None)
            listener = stack.enter_context(make_server(server, tried.destination, tried.ports[1]))
            listener.listen()
            caller = stack.enter_context(make_client(client, tried.source, tried.ports[0]))
            said = caller.connect_ex(_sockaddr(tried.destination, tried.ports[1]))
            assert said in (errno.EINPROGRESS, *_REFUSED), os.strerror(said)
            if said in _REFUSED:
                return False
            if is_on_wire and not self._is_shown(tried, from_host=client == self.host):
                assert not _is_readable(listener), "a connection that the wire does not show"
                return False
            return _is_established(caller)

    def _maker(self, program: Program | None) -> Callable[[str, int, int], socket.socket]:
        def make(namespace: str, address: int, port: int) -> socket.socket:
            if program is not None:
                return program.socket(lambda: in_namespace(namespace, lambda: bound(address, port, TCP)))
            return in_namespace(namespace, lambda: bound(address, port, TCP))

        return make

    def _is_shown(self, tried: Connection, *, from_host: bool) -> bool:
        """The beginning of an outgoing connection, or the answer to an incoming one."""
        if from_host:
            return first_packet(tried) in self._round()
        answer = Seen(tried.destination, tried.source, TCP, tried.ports[::-1], SYN | ACK)
        return answer in self._round()

    def _round(self) -> list[Seen]:
        """A packet to the host and one back; everything that the peer saw come before."""
        inwards = Connection(_THERE, _HERE, UDP, (_SERVER, _CLIENT))
        self._inject(inwards)
        assert _is_readable(self._barrier, PATIENCE_S), "what is essential does not arrive"
        self._barrier.recv(64)
        self._barrier.sendto(b"ring", (format_address(_THERE), _SERVER))
        last = Seen(_HERE, _THERE, UDP, (_CLIENT, _SERVER))
        seen: list[Seen] = []
        while last not in seen:
            assert _is_readable(self._wire, PATIENCE_S), "what is essential does not leave"
            frame, where = self._wire.recvfrom(2048)
            packet = frames.parse(frame[14:]) if where[2] != _OUTGOING else None
            seen += [packet] if packet else []
        return seen


class Program:
    """Somebody whose sockets belong to a control group."""

    def __init__(self, group: Path) -> None:
        self._group = group

    def socket(self, make: Callable[[], socket.socket]) -> socket.socket:
        """A socket that a child made which had joined the group: a socket stays where it was made."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    (self._group / "cgroup.procs").write_text("0")
                    with make() as made:
                        socket.send_fds(theirs, [b"."], [made.fileno()])
                    status = 0
                finally:
                    os._exit(status)
            _, status = os.waitpid(child, 0)
            assert status == 0, "no socket in the control group"
            _, (fd, *_), _, _ = socket.recv_fds(ours, 1, 1)
        passed = socket.socket(fileno=fd)
        passed.setblocking(False)
        return passed


def first_packet(tried: Connection) -> Seen:
    flags = SYN if tried.protocol == TCP else 0
    icmp = (0, tried.ports[1]) if tried.protocol in (ICMP, ICMPV6) else (0, 0)
    ports = tried.ports if tried.protocol in PORTED else icmp
    return Seen(tried.source, tried.destination, tried.protocol, ports, flags)


@contextmanager
def control_groups(root: Path, name: str) -> Iterator[Path]:
    """A control group of our own, removed with all below it."""
    top = root / name
    top.mkdir()
    try:
        yield top
    finally:
        for below, _, _ in os.walk(top, topdown=False):
            os.rmdir(below)


def bound(address: int, port: int, protocol: int) -> socket.socket:
    """A socket on any address of the namespace this thread is in."""
    family = socket.AF_INET if is_v4(address) else socket.AF_INET6
    made = socket.socket(family, socket.SOCK_STREAM if protocol == TCP else socket.SOCK_DGRAM)
    _own_everything(made, address)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if protocol == TCP:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    made.bind(_sockaddr(address, port))
    made.setblocking(False)
    return made


def _own_everything(made: socket.socket, address: int) -> None:
    """Let it be bound to an address that no device has."""
    if is_v4(address):
        made.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
    else:
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)


def _sockaddr(address: int, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    text = format_address(address)
    return (text, port, 0, _INDEX) if text.startswith("fe80:") else (text, port)


def _receiver(tried: Connection) -> socket.socket:
    """A program that waits for it."""
    if tried.protocol == UDP:
        return bound(tried.destination, tried.ports[1], UDP)
    family = socket.AF_INET if is_v4(tried.destination) else socket.AF_INET6
    return socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, tried.protocol)


def _wire() -> socket.socket:
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    wire.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 4 << 20)
    wire.bind((DEVICE, 3))
    return wire


def _sender(source: int) -> socket.socket:
    """What sends whole packets of the program's own making, through the host's rules."""
    family = socket.AF_INET if is_v4(source) else socket.AF_INET6
    sender = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, DEVICE.encode())
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    _own_everything(sender, source)
    sender.bind(_sockaddr(source, 0))
    return sender


def _is_readable(waited: socket.socket, seconds: float = 0) -> bool:
    return bool(select.select([waited], [], [], seconds)[0])


def _is_established(caller: socket.socket) -> bool:
    _, writable, _ = select.select([], [caller], [], PATIENCE_S)
    return bool(writable) and caller.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def _set() -> None:
    for name, value in _SETTINGS.items():
        path = Path("/proc/sys") / name
        if path.exists():
            path.write_text(value)


def _ip(*lines: str, namespace: str | None = None, goes_on: bool = False) -> None:
    options = [*(["-n", namespace] if namespace else []), *(["-force"] if goes_on else [])]
    for line in lines:
        command = ["ip", *options, *line.split()]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert goes_on or done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
