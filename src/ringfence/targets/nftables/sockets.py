"""The host's TCP connections as its own sockets tell them, for those that conntrack has never seen (sock_diag(7)).

The kernel does not keep who began a connection. The host did, if nobody listens on the local port and the kernel hands
such ports out to clients (`ip_local_port_range`, ip(7)); in any other case it is taken for a connection to the host.
INVARIANT: no socket is touched but by `destroy`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ringfence.core.errors import TargetError
from ringfence.core.net.address import V4_BASE
from ringfence.targets.nftables.netlink import in_namespace
from ringfence.targets.nftables.wire import attribute_map

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 4, 20, 21
_REQUEST_DUMP, _REQUEST_ACK, _ERROR, _DONE = 0x301, 0x5, 2, 3
_LISTEN = 10
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""Of the namespace of whoever reads it; for IPv6 too."""
_LASTING = frozenset((1, 8))
"""ESTABLISHED and CLOSE_WAIT."""
_ENDING = frozenset((4, 5, 9, 11))
"""FIN_WAIT1, FIN_WAIT2, LAST_ACK and CLOSING (tcp_states.h)."""
_HEADER = struct.Struct("=IHHII")
_REQUEST_ID = struct.Struct("=BBBBI")
_REQUEST = struct.Struct("=BBBBI48x")
_SOCKET = struct.Struct("!BBxxHH16s16s")
_FIXED_BYTES, _CGROUP_ID = 72, 21
"""Of `struct inet_diag_msg`, after which attributes come (inet_diag.h)."""
_TIMEOUT_S = 60


class Connected(NamedTuple):
    """One TCP connection; addresses on the 128-bit line."""

    client: tuple[int, int]
    """The address and port of whoever began it."""
    server: tuple[int, int]
    is_ending: bool
    """One side has closed."""


class Socket(NamedTuple):
    """One TCP socket of the host."""

    state: int
    local: tuple[int, int]
    remote: tuple[int, int]
    family: int
    id: bytes
    """`struct inet_diag_sockid`: with its cookie, this socket and no later one."""
    cgroup: int = 0
    """The kernel id of its control group (INET_DIAG_CGROUP_ID); 0: not told."""


def connections(netns: str | None) -> tuple[Connected, ...]:
    """Every TCP connection of the namespace's own sockets. Raises TargetError `sockets-unreadable`."""
    return tuple(connected for _, connected in listed(netns))


def listed(netns: str | None) -> tuple[tuple[Socket, Connected], ...]:
    """The same, with their sockets."""
    try:
        sockets, handed_out = in_namespace(netns, _read)
    except OSError as error:
        raise TargetError(
            "sockets-unreadable",
            f"connections that are older than the rules could not be listed: {error.strerror}",
            help="load the kernel module tcp_diag",
        ) from error
    ports_of_clients = frozenset(handed_out) - {s.local[1] for s in sockets if s.state == _LISTEN}
    return tuple((s, _connected(s, ports_of_clients)) for s in sockets if s.state != _LISTEN)


def destroy(netns: str | None, sockets: tuple[Socket, ...]) -> int:
    """End sockets (SOCK_DESTROY): their programs get ECONNABORTED. Returns how many there still were.

    Raises OSError EOPNOTSUPP where the kernel cannot.
    """
    return in_namespace(netns, lambda: _destroy(sockets)) if sockets else 0


def can_destroy() -> bool:
    """Ask the kernel, in the caller's network namespace, about a socket that is not there.

    Where SOCK_DESTROY is built in it looks for the socket; where it is not, it knows no such request.
    """
    nobody = Socket(0, (0, 0), (0, 0), socket.AF_INET, bytes(48))
    try:
        _destroy((nobody,))
    except OSError:
        return False
    return True


def _destroy(sockets: tuple[Socket, ...]) -> int:
    count = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as opened:
        opened.settimeout(_TIMEOUT_S)
        for found in sockets:
            body = _REQUEST_ID.pack(found.family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + found.id
            opened.sendto(_HEADER.pack(16 + len(body), _SOCK_DESTROY, _REQUEST_ACK, 1, 0) + body, (0, 0))
            number = -struct.unpack_from("=i", opened.recv(1 << 16), 16)[0]
            if number not in (0, errno.ENOENT):
                raise OSError(number, os.strerror(number))
            count += not number
    return count


def _read() -> tuple[list[Socket], range]:
    """The sockets, and the local ports that clients are given, of the namespace this runs in."""
    first, last = map(int, _PORT_RANGE.read_text().split())
    return [s for family in (socket.AF_INET, socket.AF_INET6) for s in _dump(family)], range(first, last + 1)


def _connected(found: Socket, ports_of_clients: frozenset[int]) -> Connected:
    ends = (found.local, found.remote) if found.local[1] in ports_of_clients else (found.remote, found.local)
    return Connected(*ends, found.state in _ENDING)


def _dump(family: int) -> Iterator[Socket]:
    states = sum(1 << state for state in (_LISTEN, *_LASTING, *_ENDING))
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, states)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as opened:
        opened.settimeout(_TIMEOUT_S)
        opened.sendto(_HEADER.pack(16 + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + body, (0, 0))
        while True:
            datagram, at = opened.recv(1 << 18), 0
            while at < len(datagram):
                length, kind = struct.unpack_from("=IH", datagram, at)
                if kind in (_ERROR, _DONE):
                    _check(datagram[at + 16 : at + length])
                    return
                yield _socket(datagram[at + 16 : at + length])
                at += (length + 3) & ~3


def _check(body: bytes) -> None:
    number = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
    if number:
        raise OSError(number, "the kernel does not list its sockets")


def _socket(body: bytes) -> Socket:
    """`struct inet_diag_msg` (inet_diag.h)."""
    family, state, source_port, destination_port, source, destination = _SOCKET.unpack_from(body)
    ends = (_address(family, source), source_port), (_address(family, destination), destination_port)
    cgroup = attribute_map(body[_FIXED_BYTES:]).get(_CGROUP_ID, b"")
    return Socket(state, *ends, family, body[4:52], int.from_bytes(cgroup, sys.byteorder))


def _address(family: int, raw: bytes) -> int:
    """An IPv4-mapped address of an IPv6 socket is IPv4 on this line already."""
    return V4_BASE + int.from_bytes(raw[:4], "big") if family == socket.AF_INET else int.from_bytes(raw, "big")
